package account

import (
	"encoding/json"
	"math"
	"math/big"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-faster/jx"
)

// FuzzCreditsOf: an amount is refused, or the nearest nano-credit there is.
func FuzzCreditsOf(f *testing.F) {
	for _, seed := range []float64{0, math.Copysign(0, -1), 0.1, 1e-9, 5e-10, -0.5, 1e308, math.NaN(), math.Inf(1), math.Inf(-1), 4_000_000, 4_000_000.000000001, math.SmallestNonzeroFloat64} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, amount float64) {
		credits, err := CreditsOf(amount)
		inRange := math.Abs(amount) <= MaxCredits.Float64() // also false for NaN
		if err != nil {
			if inRange || credits != 0 {
				t.Errorf("%v is refused, with %d: %v", amount, credits, err)
			}
			return
		}
		if max(credits, -credits) > MaxCredits || math.Abs(credits.Float64()-amount) > 0.5000001e-9+math.Abs(amount)*1e-15 {
			t.Errorf("%v is %d", amount, credits)
		}
	})
}

// FuzzCreditsInJSON: a number is refused, or read as the nano-credit that is nearest
// to what it says: in exact arithmetic where it is a plain decimal.
func FuzzCreditsInJSON(f *testing.F) {
	for _, seed := range []string{"0", "-0", "9.4", "1e308", "-1e308", "1e-400", "0.30000000000000004", "9223372036.854775807", "-9223372036.854775808", "9223372036.854775808", "1E+1", "NaN", `"1"`, "null", "00", "1.", ".1", "-"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var credits, byToken Credits
		err := json.Unmarshal([]byte(text), &credits)
		if d := jx.DecodeStr(text); d.Next() == jx.Number && json.Valid([]byte(text)) {
			if err2 := byToken.Decode(d); (err == nil) != (err2 == nil) || byToken != credits {
				t.Errorf("%s is %d, %v; and by tokens %d, %v", text, credits, err, byToken, err2)
			}
		}
		if err != nil || text == "null" {
			return
		}
		said, ok := new(big.Float).SetPrec(256).SetString(strings.TrimSpace(text))
		if !ok {
			if credits != 0 { // math/big knows no 0 with an exponent that large
				t.Errorf("%s is read as %s", text, credits)
			}
			return
		}
		// A double tells amounts of this size apart to within a nano-credit.
		off := said.Sub(said, big.NewFloat(0).SetPrec(256).SetRat(big.NewRat(int64(credits), int64(Credit))))
		if off.Abs(off).Cmp(big.NewFloat(1.001e-9)) > 0 {
			t.Errorf("%s is read as %s", text, credits)
		}
	})
}

// FuzzRecord: what is read of a record is written so that the same is read again. What is
// no Unicode, which JavaScript cannot store, is written as U+FFFD.
func FuzzRecord(f *testing.F) {
	f.Add(`{"user_id":"u","user_name":"\ud83d\udd11","email":"","key":"v1.a.b","hash":"0f","total_limit":10,"remaining_limit":-0.5,"usage_limit":1e-9,"seq":7,"created_at":"2026-11-24T01:02:03.004Z","updated_at":"2026-11-24T01:02:03+01:00"}`)
	f.Add(`{"seq":-9223372036854775808,"suspended":true,"erased":false,"later":{"a":[1,{}]}}`)
	f.Add(`{"total_limit":9223372036.854775807,"user_id":"a","user_id":"b"}`)
	f.Add(`null`)
	f.Add(`{"user_id":null}`)
	f.Fuzz(func(t *testing.T, text string) {
		var r, again Record
		if r.Decode(jx.DecodeStr(text)) != nil {
			return
		}
		var e jx.Encoder
		r.Encode(&e)
		if !json.Valid(e.Bytes()) {
			t.Fatalf("%q is written as %s", text, e.String())
		}
		if err := again.Decode(jx.DecodeBytes(e.Bytes())); err != nil {
			t.Fatalf("%s: %v", e.String(), err)
		}
		var e2 jx.Encoder
		if again.Encode(&e2); e2.String() != e.String() && utf8.ValidString(text) {
			t.Errorf("%s is read as %s", e.String(), e2.String())
		}
	})
}
