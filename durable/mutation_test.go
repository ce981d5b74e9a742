package durable_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var mutations = flag.Bool("mutations", false, "run the simulation against each mutation, instead of once")

// edit replaces a text that occurs once in a file.
type edit struct{ file, old, new string }

// mutants are mistakes that somebody could make here. Each must be seen by the
// simulation; one that is not means that a check does not bite.
var mutants = []struct {
	name  string
	edits []edit
}{
	{"the queue removed", []edit{{"object.go", "o.enqueue(r, reply)",
		"go func() { result, _ := o.fly(&flight{Request: r}); reply(result); o.tend() }()"}}},
	{"answers not shared", []edit{{"object.go", "if f.Want == r.Want && r.Want.Shared() {", "if false {"}}},
	{"DELETE sent before it is written down", []edit{
		{"flow.go", "	// The charge is final with this write.", "	if !keep && !spent && !key.Disabled {\n		if err := t.keys.Delete(record.Hash); err != nil {\n			return \"\", err\n		}\n	}\n	// The charge is final with this write."},
		{"flow.go", "if failed := end(pending.Delete); failed != nil {", "if failed := error(nil); end != nil && failed != nil {"}}},
	{"POST sent before it is written down", []edit{{"flow.go", "		st.Pending = &Pending{Create: op, Since: t.Now(), Due: t.soon()}\n", ""}}},
	{"the seq guard dropped", []edit{{"../internal/users/users.go", "\nWHERE excluded.seq > users.seq", ""}}},
	{"the seq guard of an erasure dropped", []edit{{"../internal/users/users.go", " AND seq < ?", ""}}},
	{"an erased row thought to stay away", []edit{{"background.go", "again := st.Record.Erased &&", "again := false && st.Record.Erased &&"}}},
	{"the numbers of the ledger begun anew", []edit{{"flow.go", "before.UserName, before.Email, before.Seq\n", "before.UserName, before.Email, 0\n"}}},
	{"a suspended user handed a key", []edit{{"flow.go", "case record.Suspended:", "case false:"}}},
	{"a suspended user's key left alive", []edit{{"operator.go", "if hash != \"\" && st.Pending == nil {", "if false {"}}},
	{"an adjustment left out of the ledger", []edit{{"operator.go", "Credits: moved - r.RemainingLimit,", "Credits: 0 * (moved - r.RemainingLimit),"}}},
	{"404 on DELETE taken for an error", []edit{{"../internal/openrouter/openrouter.go", "	if IsGone(err) {\n		return nil\n	}\n", ""}}},
	{"404 on GET taken for an outage", []edit{{"../internal/openrouter/openrouter.go", "e.Kind = Gone", "e.Kind = Unavailable"}}},
	{"a POST repeated blindly", []edit{{"flow.go", "	if failed != nil {\n		// Never repeated", "	if failed != nil {\n		key, hash, failed = t.keys.Create(keyName(t.user, op), limit)\n	}\n	if failed != nil {\n		// Never repeated"}}},
	{"a refund for a raised limit", []edit{{"../internal/quota/quota.go", "return max(before-after, 0)", "return before - after"}}},
	{"the alarm not set again", []edit{{"background.go", "err := o.update(func(*State) *account.Entry { return nil })", "err := error(nil)"}}},
	{"the alarm thought to be set", []edit{{"object.go", "		next.Alarm = next.Alarm.Add(time.Millisecond)\n", ""}}},
	{"an unconfirmed DELETE taken for done", []edit{{"flow.go", "if failed := end(pending.Delete); failed != nil {", "if failed := end(pending.Delete); false && failed != nil {"}}},
	{"D1 thought to be right before it answered", []edit{{"background.go", "if err := save(*st.Record, entries); err != nil {", "if err := save(*st.Record, entries); false && err != nil {"}}},
	{"D1 brought up with the row alone", []edit{{"background.go", "save(*st.Record, entries)", "save(*st.Record, nil)"}}},
	{"an orphan given up at once", []edit{{"background.go", "if len(hashes) == 0 && !final {", "if len(hashes) == 0 && !final && false {"}}},
	{"an orphan looked for among younger keys alone", []edit{{"state.go", "orphanMargin = time.Hour", "orphanMargin = -time.Hour"}}},
	{"an orphan thought to be as young as its chore", []edit{{"flow.go", "since := st.Pending.Since //", "since := t.Now() //"}}},
	{"an orphan of a dead object forgotten", []edit{{"flow.go", "		st.Chores = append(st.Chores, Chore{Orphan: st.Pending.Create, Since: since, Due: t.soon()})\n", "		_ = since\n"}}},
	{"an orphan of a lost answer forgotten", []edit{{"flow.go", "				st.Chores = append(st.Chores, Chore{Orphan: op, Since: t.Now(), Due: t.soon()})\n", ""}}},
	{"the old key forgotten in a renewal", []edit{{"flow.go", "		st.Chores = append(st.Chores, Chore{Delete: st.Record.Hash, Since: t.Now(), Due: t.soon()})\n", ""}}},
	{"a failed chore crossed off", []edit{{"background.go", "	if failed != nil {\n		line.Outcome", "	if failed != nil && write == nil {\n		line.Outcome"}}},
	{"usage charged at every reading", []edit{{"flow.go", "			st.Record.UsageLimit = key.Left\n", ""}}},
	{"usage of a disabled key not charged", []edit{{"flow.go", "		return st.charge(key, record.UsageLimit)", "		if key.Disabled {\n			return nil\n		}\n		return st.charge(key, record.UsageLimit)"}}},
	{"a charge left out of the ledger", []edit{{"state.go", "	if spent == 0 {", "	if st.Pending != nil || spent == 0 {"}}},
	{"a disabled key handed out", []edit{{"flow.go", "	case key.Disabled:\n		return \"\", problem", "	case key.Disabled && spent:\n		return \"\", problem"}}},
	{"a key kept at the threshold", []edit{{"../internal/quota/quota.go", "left > p.RotateBelow", "left >= p.RotateBelow"}}},
	{"usage that shows up late not charged", []edit{{"background.go", "return st.charge(key, c.Left)", "return st.charge(key, key.Left)"}}},
	{"a settled key left behind", []edit{{"background.go", "		st.Chores[i] = Chore{Delete: c.Settle, Since: c.Since, Due: o.soon()}\n", "		st.Chores = slices.Delete(st.Chores, i, i+1)\n"}}},
	{"a key to settle carried into the next quota", []edit{{"flow.go", "		if c.Settle != \"\" {", "		if false {\n			_ = c"}}},
	{"a key settled at once", []edit{{"state.go", " || c.Tries == 0 && c.Settle == \"\"", " || c.Tries == 0"}}},
	{"a key stored unsealed", []edit{{"flow.go", "t.Settings.Sealer.Seal(t.user, key), hash, limit", "key.Reveal(), hash, limit"}}},
	{"D1 not asked for an unknown user", []edit{{"flow.go", "if !t.empty() {", "if true {"}}},
}

// TestEveryMutationIsCaught runs the simulation against each mutant.
func TestEveryMutationIsCaught(t *testing.T) {
	if !*mutations {
		t.Skip("run with -mutations")
	}
	if out, err := runMutant(t, nil); err != nil {
		t.Fatalf("without a mutation: %v\n%s", err, out)
	}
	caught := 0
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			out, err := runMutant(t, m.edits)
			switch {
			case err == nil:
				t.Error("the simulation passes")
			case !bytes.Contains(out, []byte("--- FAIL")):
				t.Errorf("the simulation did not run: %v\n%s", err, out)
			default:
				caught++
			}
		})
	}
	fmt.Printf("simulation: %d of %d mutations caught\n", caught, len(mutants))
}

// runMutant runs the simulation with the edits laid over the sources.
func runMutant(t *testing.T, edits []edit) ([]byte, error) {
	t.Helper()
	dir := t.TempDir()
	replace := map[string]string{}
	for _, e := range edits {
		file, err := filepath.Abs(e.file)
		if err != nil {
			t.Fatal(err)
		}
		from := file
		if edited, ok := replace[file]; ok {
			from = edited
		}
		source, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(source), e.old); n != 1 {
			t.Fatalf("%s has %q %d times, not once", e.file, e.old, n)
		}
		replace[file] = filepath.Join(dir, filepath.Base(file))
		if err := os.WriteFile(replace[file], []byte(strings.Replace(string(source), e.old, e.new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	return exec.Command("go", "test", "-overlay", filepath.Join(dir, "overlay.json"), "-failfast",
		"-run", "^(TestEachScenario|TestExhaustive|TestRandomSchedules|TestAnOrphan|TestAnAlarm)", "-seed", "1", "-schedules", "500", ".").CombinedOutput()
}
