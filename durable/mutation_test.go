package durable_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
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
	{"the queue removed", []edit{{"object.go", "o.queue.add(r, reply)",
		"go func() { result, done := o.work(r); reply(result); done(1, 0) }()"}}},
	{"answers not shared", []edit{{"queue.go", "if q.joins(c.request, request) {", "if false {"}}},
	{"DELETE sent before it is written down", []edit{
		{"flow.go", "	// The charge is final with this write.", "	if ahead := before.clone(); f.rules().decide(ahead, key, false, true) == deleteFirst || key.Left <= f.settings.Policy.RotateBelow {\n		if err := f.keys.Delete(key.Hash); err != nil {\n			return \"\", err\n		}\n	}\n	// The charge is final with this write."},
		{"replace.go", "if failed := end(pending.Hash); failed != nil {", "if failed := error(nil); end != nil && failed != nil {"}}},
	{"POST sent before it is written down", []edit{{"create.go", "	st.Pending = &Pending{Kind: PendingCreate, Op: id, Since: f.now(), Due: f.firstRetryAt()}\n", ""}}},
	{"the POST after a DELETE sent before it is written down", []edit{{"task.go", "s.Delete, s.Create = p.Hash, p.Op", "s.Delete = p.Hash"}}},
	{"the POST after a DELETE repeated", []edit{{"operation.go", "p.Op == \"\" || op.ahead", "p.Kind != PendingCreate || op.ahead"}}},
	{"a POST after a DELETE that failed thought to be sent", []edit{{"replace.go", "			st.Pending.Op = \"\" // the POST was not sent\n", ""}}},
	{"a deleted key kept once its POST was answered", []edit{{"create.go", "			ordered.also(st)\n			return f.accept(made)(st)\n", "			return f.accept(made)(st)\n"}}},
	{"a deleted key kept once its POST failed", []edit{{"create.go", "			ordered.also(st)\n			// Only the documented", "			// Only the documented"}}},
	{"a deleted key kept until the next one is assigned", []edit{{"create.go", "		ordered.also(st)\n		st.Pending = &Pending{Kind: PendingAssign,", "		st.Pending = &Pending{Kind: PendingAssign,"}}},
	{"a new key's limit reckoned as if the old one were settled", []edit{{"replace.go", "		f.ended(after)\n", "		after.dropKey()\n"}}},
	{"a deleted key handed out that storage has", []edit{{"replace.go", "st.Pending.Kind == PendingDelete && st.Pending.Op == \"\"\n", "st.Pending.Kind == PendingDelete\n"}}},
	{"the seq guard dropped", []edit{{"../internal/users/users.go", "\nWHERE excluded.seq >= users.seq", ""}}},
	{"the seq guard of an erasure dropped", []edit{{"../internal/users/users.go", " AND seq < ?", ""}}},
	{"an erased row thought to stay away", []edit{{"d1.go", "again := st.Record.Erased &&", "again := false && st.Record.Erased &&"}}},
	{"the numbers of the ledger begun anew", []edit{{"create.go", "before.UserName, before.Email, before.Seq\n", "before.UserName, before.Email, 0\n"}}},
	{"a suspended user handed a key", []edit{{"flow.go", "record != nil && record.Suspended {", "record != nil && false {"}}},
	{"a suspended user's key left alive", []edit{{"operator.go", "		case hash == \"\":\n", "		case true:\n"}}},
	{"an adjustment left out of the ledger", []edit{{"operator.go", "Credits: before.RemainingLimit - st.Record.RemainingLimit,", "Credits: 0,"}}},
	{"404 on DELETE taken for an error", []edit{{"../internal/openrouter/openrouter.go", "	if IsGone(err) {\n		return nil\n	}\n", ""}}},
	{"404 on GET taken for an outage", []edit{{"../internal/openrouter/call.go", "e.Kind = Gone", "e.Kind = Unavailable"}}},
	{"a POST repeated blindly", []edit{{"create.go", "	if failed != nil {\n		// Never repeated", "	if failed != nil {\n		key, hash, failed = f.keys.Create(openrouter.NewKey{Name: openrouter.KeyName(f.settings.KeyNamePrefix, f.user, id), Limit: &made.Limit})\n	}\n	if failed != nil {\n		// Never repeated"}}},
	{"a refund for older news", []edit{{"../internal/quota/quota.go", "min(left, reading.Left)", "reading.Left"}}},
	{"a changed limit taken for usage", []edit{{"../internal/quota/quota.go", "raised = *reading.Limit - *m.Limit", "raised = 0"}}},
	{"the alarm not set again", []edit{{"object.go", "err := o.store.reschedule()", "err := error(nil)"}}},
	{"the alarm thought to be set", []edit{{"schedule.go", "		p.alarm = p.alarm.Add(time.Millisecond)\n", ""}}},
	{"an unconfirmed DELETE taken for done", []edit{{"replace.go", "if failed := end(pending.Hash); failed != nil {", "if failed := end(pending.Hash); false && failed != nil {"}}},
	{"D1 thought to be right before it answered", []edit{{"d1.go", "if err := save(*st.Record, entries); err != nil {", "if err := save(*st.Record, entries); false && err != nil {"}}},
	{"D1 brought up with the row alone", []edit{{"d1.go", "save(*st.Record, entries)", "save(*st.Record, nil)"}}},
	{"an orphan given up at once", []edit{{"orphans.go", "began.Sub(task.Since) >= orphanGrace", "began.Sub(task.Since) >= 0"}}},
	{"an orphan looked for among younger keys alone", []edit{{"orphans.go", "orphanMargin = time.Hour", "orphanMargin = -time.Hour"}}},
	{"an orphan thought to be as young as its task", []edit{{"operation.go", "st.Tasks.queueOrphan(lost, sent, op.firstRetryAt())", "st.Tasks.queueOrphan(lost, op.now(), op.firstRetryAt())"}}},
	{"an orphan of a dead object forgotten", []edit{{"operation.go", "		st.Tasks.queueOrphan(lost, sent, op.firstRetryAt())\n", "		_, _ = lost, sent\n"}}},
	{"an orphan of a lost answer forgotten", []edit{{"create.go", "				st.Tasks.queueOrphan(id, f.now(), st.Tasks.searchAt(f.now(), f.firstRetryAt()))\n", ""}}},
	{"the old key forgotten in a renewal", []edit{{"state.go", "		st.Tasks.queueDelete(st.Record.Hash, now, now)\n", ""}}},
	{"a failed task crossed off", []edit{{"background.go", "	if err != nil {\n		return nil, err\n	}\n	return write, nil\n", "	return write, err\n"}}},
	{"usage charged at every reading", []edit{{"state.go", "	st.KeyLimit, st.Record.UsageLimit = meter.Limit, meter.Left\n", "	st.KeyLimit = meter.Limit\n"}}},
	{"usage of a disabled key not charged", []edit{{"flow.go", "		entry := st.take(key)\n", "		var entry *account.Entry\n		if st.Disabled = key.Disabled; !key.Disabled {\n			entry = st.take(key)\n		}\n"}}},
	{"a charge left out of the ledger", []edit{{"state.go", "	return &account.Entry{Kind: account.Charge, Credits: spent, Hash: hash}\n", "	return nil\n"}}},
	{"a disabled key handed out", []edit{{"rules.go", "	case key.Disabled && !st.Ending:", "	case key.Disabled && spent:"}}},
	{"a key kept at the threshold", []edit{{"../internal/quota/quota.go", "		return left > p.RotateBelow\n	case", "		return left >= p.RotateBelow\n	case"}}},
	{"usage that shows up late not charged", []edit{{"settle.go", "meter, spent := quota.Meter{Limit: task.Limit, Left: task.Left}", "meter, spent := quota.Meter{Limit: key.Limit, Left: key.Left}"}}},
	{"a settled key left behind", []edit{{"settle.go", "		st.Tasks[i] = next\n", "		st.Tasks = slices.Delete(st.Tasks, i, i+1)\n"}}},
	{"a key to settle carried into the next quota", []edit{{"tasklist.go", "		if task.settles() {\n			l[i]", "		if false {\n			l[i]"}}},
	{"a key settled at once", []edit{{"background.go", "!task.Due.After(now) {", "(!task.Due.After(now) || task.Kind == SettleKey) {"}}},
	{"a key stored unsealed", []edit{{"create.go", "made.Key, made.Hash = f.settings.Sealer.Seal(f.user, key), hash", "made.Key, made.Hash = key.Reveal(), hash"}}},
	{"a user taken for new whom D1 knows", []edit{{"import.go", "			st.Unseen = true\n", ""}}},
	{"a first key made for a user whom D1 knows", []edit{{"import.go", "		op.takeBack(st)\n		if st.Record", "		if st.Record"}}},
	{"a first key left ordered where D1 gave no answer", []edit{{"import.go", "{ op.takeBack(st); return nil }", "{ return nil }"}}},
	{"D1 not asked for an unknown user", []edit{{"import.go", "if !op.store.mayBeInD1() {", "if true {"}}},
	{"what is not settled yet not reserved", []edit{{"tasklist.go", "			most += max(task.Left, 0)\n", "			most += 0\n"}}},
	{"the key that is given up not reserved", []edit{{"rules.go", "	reserve := max(left, 0)\n", "	reserve := 0 * left\n"}}},
	{"a key kept that holds more than remains", []edit{{"../internal/quota/quota.go", "return left > p.RotateBelow && left < available", "return left > p.RotateBelow"}, {"rules.go", "case st.Disabled, r.expired(st), !uncapped && r.holdsTooMuch(st):", "case st.Disabled, r.expired(st):"}}},
	{"a key left that holds more than an operator left", []edit{{"operator.go", "	return o.capKey()\n", "	return nil\n"}}},
	{"the room for another key not asked for before", []edit{{"rules.go", "return !st.Tasks.full() && policy.Allows(room)", "return policy.Allows(room)"}}},
	{"a spent quota rotated once more under HARD_CAP", []edit{{"rules.go", "case spent || policy.HardCap && policy.Spent(st.Record.RemainingLimit):", "case spent:"}}},
	{"a key handed out that is not under the guardrail", []edit{{"create.go", "	return f.orPresent(errors.Join(failed, err))\n}\n\n// accept", "	_ = err\n	return outcomes[made.Kind], f.store.apply(f.accept(made))\n}\n\n// accept"}}},
	{"a key that cannot come under the guardrail left alive", []edit{{"state.go", "		st.Tasks.queueDelete(p.New.Hash, now, now)\n", ""}}},
	{"the old key forgotten in an overlap", []edit{{"create.go", "			st.queueSettle(DisableKey, now, now.Add(f.settings.RotationOverlap))\n", ""}}},
	{"the old key let work on after a refresh", []edit{{"create.go", "			st.Tasks.endOverlaps(now)\n", ""}}},
	{"a suspended user's overlapping key let work on", []edit{{"operator.go", "		st.Tasks.endOverlaps(o.now())\n", ""}}},
	{"a key that a reading called gone believed to be", []edit{{"replace.go", "	st.Tasks.queueDelete(st.Record.Hash, f.now(), f.firstRetryAt())\n", ""}}},
	{"a key kept that runs out", []edit{{"rules.go", "case r.runsOut(st), ", "case "}}},
	{"a key used that is past its end", []edit{{"rules.go", "case st.Disabled, r.expired(st), ", "case st.Disabled, "}}},
	{"an unconfirmed DELETE taken for one without effect", []edit{{"replace.go", "!refused || failure.Uncertain ||", "!refused || failure.Uncertain && false ||"}}},
	{"the hash of a row believed", []edit{{"import.go", "record.Key, record.Hash = op.importKey(record.Key)", "record.Key, _ = op.importKey(record.Key)"}}},
	{"the answer to another POST believed", []edit{{"../internal/openrouter/openrouter.go", "case data.Name != asked.Name:", "case false:"}}},
	{"a reading believed that cannot be", []edit{{"../internal/openrouter/reading.go", "case limit != nil && r.Left > *limit:", "case false:"}, {"../internal/openrouter/reading.go", "case r.Left > MaxReading, r.Left < -MaxReading:", "case false:"}}},
	{"a clock that was set back not followed", []edit{{"store.go", "back > clockTolerance {", "back > 1000*time.Hour {"}}},
	{"a key replaced by one that holds no more", []edit{{"rules.go", "|| policy.NewKeyLimit(room) > left", "|| true"}}},
	{"a quota with little left withheld for ever", []edit{{"rules.go", "case anyKey && !settling && !st.Tasks.full():", "case anyKey && !settling && st.Tasks.full():"}}},
	{"a disabling believed that is not confirmed", []edit{{"../internal/openrouter/openrouter.go", "(got.Data.Hash != hash || !got.Data.Disabled)", "false"}, {"settle.go", "if !key.Disabled { // it worked", "if false { // it worked"}}},
	{"the hash of a lost key believed", []edit{{"orphans.go", "(!ours || named != op)", "(!ours || named == \"\")"}}},
	{"a key that ran out before it was handed out", []edit{{"flow.go", "if rules.assignable(st, p.New) {", "if true {"}}},
	{"one walk an orphan", []edit{{"orphans.go", "slices.ContainsFunc(missing, task.same)", "len(missing) > 0 && slices.ContainsFunc(missing[:1], task.same)"}}},
	{"a suspended user's socket left open", []edit{{"sockets.go", "			a.runtime.Sockets.Close(each.id, closeForbidden, \"suspended\")\n", ""}}},
	{"a key told that is about to end", []edit{{"sockets.go", " || st.Pending != nil && !st.Record.Suspended {", " {"}}},
	{"a key told that an operator disabled", []edit{{"sockets.go", "rules.condition(st, false) == unusable {", "rules.expired(st) {"}}},
	{"a socket left open past its token", []edit{{"sockets.go", "		if !each.Expires.After(now) {\n", "		if false {\n"}}},
	{"no alarm for the end of a token", []edit{{"schedule.go", "	if !expiry.IsZero() {\n", "	if false {\n"}}},
}

// TestEveryMutationFindsItsPlace, so that whoever moves the code learns it at once.
func TestEveryMutationFindsItsPlace(t *testing.T) {
	for _, m := range mutants {
		for _, e := range m.edits {
			source, err := os.ReadFile(e.file)
			if n := strings.Count(string(source), e.old); err != nil || n != 1 {
				t.Errorf("%s: %s has %q %d times, not once: %v", m.name, e.file, e.old, n, err)
			}
		}
	}
}

// TestEveryMutationIsCaught runs the simulation against each mutant.
func TestEveryMutationIsCaught(t *testing.T) {
	if !*mutations {
		t.Skip("run with -mutations")
	}
	if out, err := runMutant(t, nil); err != nil {
		t.Fatalf("without a mutation: %v\n%s", err, out)
	}
	var caught atomic.Int32
	t.Run("all", func(t *testing.T) { // ends when all of them have
		for _, m := range mutants {
			t.Run(m.name, func(t *testing.T) {
				t.Parallel()
				if _, err := runMutant(t, m.edits); err == nil {
					t.Fatal("the simulation passes")
				}
				caught.Add(1)
			})
		}
	})
	fmt.Printf("simulation: %d of %d mutations caught\n", caught.Load(), len(mutants))
}

// runMutant runs the simulation with the edits laid over the sources. A mutant
// that does not compile fails the test; one that makes the simulation panic is
// caught like one that fails it.
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
	program := filepath.Join(dir, "mutant.test")
	if out, err := exec.Command("go", "test", "-c", "-ldflags=-w", "-o", program, "-overlay", filepath.Join(dir, "overlay.json"), ".").CombinedOutput(); err != nil {
		t.Fatalf("it does not compile: %v\n%s", err, out)
	}
	// The enumeration takes the longest, and is needed for few. Without a mutation
	// TestExhaustive does it.
	out, err := exec.Command(program, "-test.failfast", "-test.run", "^Test(EachScenario|RandomSchedules|A|Many|Ten|Tabs)", "-seed", "1", "-schedules", "500").CombinedOutput()
	if err != nil || len(edits) == 0 {
		return out, err
	}
	return exec.Command(program, "-test.failfast", "-test.run", "^Test(Exhaustive|TheBounds)").CombinedOutput()
}
