package account

import (
	"encoding/json"
	"math"
	"testing"
)

func TestParseCreditsIsExactToTheNano(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Credits
	}{
		{"0", 0}, {"-0", 0}, {"1", Credit}, {"0.1", 100_000_000}, {"9.4", 9_400_000_000},
		{"0.30000000000000004", 300_000_000}, {"0.5000000004", 500_000_000}, {"0.5000000006", 500_000_001},
		{"1e-9", 1}, {"1E+1", 10 * Credit}, {"-0.25", -250_000_000}, {"0.123456789123", 123_456_789},
		{"4000000", MaxCredits},
	} {
		got, err := ParseCredits(c.in)
		if err != nil || got != c.want {
			t.Errorf("ParseCredits(%q) = %d, %v; want %d", c.in, got, err, c.want)
		}
	}
}

func TestParseCreditsRefusesWhatIsNoAmount(t *testing.T) {
	for _, in := range []string{"", "null", "abc", "1,5", `"1"`, "NaN", "Inf", "-Inf", "1e308", "1e999", "4000001"} {
		if got, err := ParseCredits(in); err == nil {
			t.Errorf("ParseCredits(%q) = %d, want an error", in, got)
		}
	}
}

func TestTenTenthsAreOne(t *testing.T) {
	tenth, _ := ParseCredits("0.1")
	fifth, _ := ParseCredits("0.2")
	if sum := tenth + fifth; sum.String() != "0.3" {
		t.Errorf("0.1 + 0.2 = %s", sum)
	}
}

func TestCreditsAreExactDecimalsInJSON(t *testing.T) {
	for c, want := range map[Credits]string{
		0: "0", 1: "0.000000001", -1: "-0.000000001", 10 * Credit: "10", 9_400_000_000: "9.4",
		-500_000_000: "-0.5", math.MaxInt64: "9223372036.854775807", math.MinInt64: "-9223372036.854775808",
	} {
		got, err := json.Marshal(c)
		if err != nil || string(got) != want {
			t.Errorf("Marshal(%d) = %s, %v; want %s", c, got, err, want)
		}
	}
}

func FuzzCreditsSurviveJSONAndREAL(f *testing.F) {
	for _, seed := range []int64{0, 1, -1, 300_000_000, int64(MaxCredits), -int64(MaxCredits), math.MaxInt64, math.MinInt64} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, nano int64) {
		var back Credits
		if c := Credits(nano); json.Unmarshal([]byte(c.String()), &back) != nil || back != c {
			t.Errorf("%d through JSON is %d", c, back)
		}
		c := Credits(nano % int64(MaxCredits+1))
		if back, err := CreditsOf(c.Float64()); err != nil || back != c {
			t.Errorf("%d through REAL is %d, %v", c, back, err)
		}
	})
}

func TestANumberOfCreditsInJSONIsReadWhateverItsForm(t *testing.T) {
	for in, want := range map[string]Credits{
		"0": 0, "-0": 0, "10": 10 * Credit, "0.1": Credit / 10, "1e1": 10 * Credit, "1.5E-9": 2, "0.30000000000000004": 3 * Credit / 10,
		"5000000": 5_000_000 * Credit, "-9223372036.854775808": math.MinInt64, "9223372036.854775807": math.MaxInt64,
	} {
		var got Credits
		if err := json.Unmarshal([]byte(in), &got); err != nil || got != want {
			t.Errorf("%s is read as %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"9223372036.854775808", "-9223372036.854775809", "99999999999999999999999", "1e308", `"1"`, "true", "{}"} {
		var got Credits
		if err := json.Unmarshal([]byte(in), &got); err == nil {
			t.Errorf("%s is read as %d", in, got)
		}
	}
}
