package main

import (
	"math"
	"os"
	"path/filepath"
	"testing"
)

func TestUnion(t *testing.T) {
	for _, c := range []struct {
		name  string
		spans []span
		want  int64
	}{
		{"none", nil, 0},
		{"one", []span{{10, 30}}, 20},
		{"apart", []span{{50, 60}, {10, 30}}, 30},
		{"overlapping", []span{{10, 30}, {20, 50}}, 40},
		{"one within another", []span{{10, 50}, {20, 30}, {40, 60}}, 50},
		{"touching", []span{{10, 20}, {20, 30}}, 20},
	} {
		if got := union(c.spans); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestWhatIsBilledIsReadFromTheLog(t *testing.T) {
	before := `{"level":"log","message":"{\"evt\":\"key\"}"}` + "\n"
	log := before + `{"level":"warn","message":"workerd's own"}
{"level":"log","message":"{\"meter\":\"storage\",\"read\":1,\"written\":0}"}
{"level":"log","message":"{\"meter\":\"storage\",\"read\":0,\"written\":1}"}
{"level":"log","message":"{\"meter\":\"object\",\"user\":\"a\",\"from\":1000,\"to\":1200}"}
{"level":"log","message":"{\"meter\":\"object\",\"user\":\"b\",\"from\":1000,\"to\":1100}"}
{"level":"log","message":"{\"meter\":\"d1\",\"user\":\"a\",\"from\":1150,\"to\":1300,\"read\":2,\"written\":3}"}
{"level":"log","message":"{\"evt\":\"key\",\"outcome\":\"kept\"}"}
`
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	want := usage{
		Answers: 2, Objects: 2, Seconds: 0.4, ObjectRead: 1, ObjectWritten: 1, D1Calls: 1, D1Read: 2, D1Written: 3,
		Lines: 1, Bytes: len(`{"evt":"key","outcome":"kept"}`),
	}
	if got, err := metered(path, int64(len(before)), 2); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if err := os.WriteFile(path, []byte(`{"message":"{\"meter\":\"other\"}"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := metered(path, 0, 2); err == nil {
		t.Error("an unknown meter was read")
	}
}

func TestMonthlyCost(t *testing.T) {
	answer := usage{Answers: 1000, Objects: 1000, Seconds: 250, ObjectWritten: 4000, D1Written: 3000, Lines: 1000}
	for _, c := range []struct {
		name      string
		answers   float64
		mix       []share
		sampling  float64
		sum, logs float64
	}{
		{"what is included", 1e6, []share{{1, answer}}, 1, 5, 0},
		// 0.30 × 90 + 0.15 × 99 + 12.50 × (3.2 − 0.4) + 1 × 350 + 1 × 250; log: 0.25 × (484 − 50) + 0.10 × (484 × 7/30 − 12)
		{"a hundred million", 1e8, []share{{1, answer}}, 1, 5 + 27 + 14.85 + 35 + 350 + 250 + 118.593, 118.593},
		{"the same in two parts", 1e8, []share{{0.25, answer}, {0.75, answer}}, 1, 5 + 27 + 14.85 + 35 + 350 + 250 + 118.593, 118.593},
		{"a hundredth of the log", 1e8, []share{{1, answer}}, 0.01, 5 + 27 + 14.85 + 35 + 350 + 250, 0},
	} {
		sum, logs := monthly(c.answers, c.mix, c.sampling)
		if math.Abs(sum-c.sum) > 0.01 || math.Abs(logs-c.logs) > 0.01 {
			t.Errorf("%s: %.3f, of which %.3f for the log, want %.3f and %.3f", c.name, sum, logs, c.sum, c.logs)
		}
	}
}

// What is counted for each kind of answer is added up as a mix.
func TestBilledKindsAreAllAnswers(t *testing.T) {
	all := 0.0
	for _, c := range billedCases() {
		all += c.part
	}
	if math.Abs(all-1) > 1e-9 {
		t.Errorf("the parts add up to %v", all)
	}
}
