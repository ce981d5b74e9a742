package durable

import (
	"reflect"
	"testing"

	"latchkey/internal/account"
	"latchkey/internal/adminapi"
)

// TestEveryFieldOfAViewIsFilled: each field of what the admin API shows is
// filled by something that is stored.
func TestEveryFieldOfAViewIsFilled(t *testing.T) {
	full := fullState()
	full.Pending.Final = false
	record := account.Record{
		UserID: "a", UserName: "b", Email: "c", Key: "d", Hash: "e", TotalLimit: 1, RemainingLimit: 2, UsageLimit: 3, Suspended: true, Seq: 9, CreatedAt: at, UpdatedAt: at,
	}
	full.Record = &record
	pending := []Pending{
		*full.Pending, {Kind: PendingCreate, Op: "c", Since: at, Tries: 1, Due: at},
		{Kind: PendingAssign, New: &NewKey{Key: "sealed", Hash: "h"}, Since: at, Tries: 1, Due: at},
	}
	var views []any
	for _, p := range pending {
		views = append(views, viewPending(p))
	}
	for _, task := range full.Tasks {
		views = append(views, viewTask(task))
	}
	for _, c := range []struct {
		views   []any
		missing map[string]bool // what no state has
	}{
		{views, nil},
		{[]any{adminapi.Record{User: adminapi.UserOf(record), Key: "label"}}, nil},
		{[]any{adminapi.UserOf(record)}, map[string]bool{"Damaged": true}},
		{[]any{viewD1(&full)}, nil},
		{[]any{(&operation{}).view(&State{Record: &account.Record{}, Pending: full.Pending, D1: full.D1, Alarm: at})}, map[string]bool{"Damaged": true, "Record": true}},
	} {
		filled := map[string]bool{}
		for _, view := range c.views {
			for field, value := range reflect.ValueOf(view).Fields() {
				filled[field.Name] = filled[field.Name] || !value.IsZero()
			}
		}
		for name := range filled {
			if !filled[name] && !c.missing[name] {
				t.Errorf("%T shows no %s", c.views[0], name)
			}
		}
	}
	if task := viewPending(Pending{Kind: PendingDelete, Hash: "h", Op: "o"}); task.Delete != "h" || task.Create != "o" {
		t.Errorf("a deletion that the next key follows on is shown as %+v", task)
	}
	if task := viewPending(pending[2]); task.Assign != "h" {
		t.Errorf("a key to be assigned is shown as %q, want its hash", task.Assign)
	}
	if left := viewTask(full.Tasks[2]); left.Settle != "f" || !left.Live || *left.Left != 3 || *left.Limit != 8 {
		t.Errorf("a key to be disabled is shown as %+v", left)
	}
	for _, unknown := range []adminapi.Task{viewTask(Task{Kind: UnknownTask, Tries: 1}), viewPending(Pending{Kind: PendingUnknown, Tries: 1})} {
		if unknown != (adminapi.Task{Tries: 1}) {
			t.Errorf("work of a later version is shown as %+v", unknown)
		}
	}
}
