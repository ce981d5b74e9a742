package durable_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/durable"
	"latchkey/internal/account"
	"latchkey/internal/adminapi"
	"latchkey/internal/answer"
	"latchkey/internal/auth"
)

// tab is a client's end of a socket.
type tab struct {
	id, note string
	events   []string
	version  int64
	key      string
	closed   string // code and reason; empty: it is open
}

// sockets are those of an instance. They are there while no object is in memory, and end
// with one that crashes.
type sockets struct {
	*simulation
	incarnation *incarnation
}

func (s sockets) List() ([]answer.Socket, error) {
	var list []answer.Socket
	if s.unlisted {
		return nil, errors.New("not now")
	}
	for _, t := range s.incarnation.instance.tabs {
		if t.closed == "" && !s.incarnation.dead {
			list = append(list, answer.Socket{ID: t.id, Note: t.note})
		}
	}
	return list, nil
}

func (s sockets) Send(id, message, note string) {
	for _, t := range s.incarnation.instance.tabs {
		if t.id == id && t.closed == "" && !s.incarnation.dead {
			t.note = note
			s.receive(s.incarnation.instance.user, t, message)
		}
	}
}

func (s sockets) Close(id string, code int, reason string) {
	for _, t := range s.incarnation.instance.tabs {
		if t.id == id && t.closed == "" && !s.incarnation.dead {
			if reason == "expired_token" && len(s.waiting) == 0 {
				s.checkTab(s.incarnation.instance.user, t)
			}
			t.closed = fmt.Sprint(code, " ", reason)
			s.note("a tab of %s is closed: %s", s.incarnation.instance.user, t.closed)
		}
	}
}

// connected opens a tab's socket.
func (w *simulation) connected(user string, opened *answer.Socket) {
	t := &tab{id: opened.ID, note: opened.Note}
	w.instance(user).tabs = append(w.instance(user).tabs, t)
	w.receive(user, t, opened.Message)
}

// receive checks a message: it is the user's, no older than the one before, and a key in
// it is stored and works.
func (w *simulation) receive(user string, t *tab, message string) {
	var got struct {
		Event   string
		Version int64
		reply
	}
	if err := json.Unmarshal([]byte(message), &got); err != nil {
		w.violated("a tab of %s got no JSON: %s", user, message)
		return
	}
	w.note("a tab of %s is told %s, version %d, %.8s", user, got.Event, got.Version, got.Hash)
	stored := w.state(user).Record
	switch {
	case got.Version <= t.version:
		w.violated("a tab of %s is told version %d after %d", user, got.Version, t.version)
	case stored == nil || stored.Seq < got.Version:
		w.violated("a tab of %s is told version %d, which is not stored", user, got.Version)
	case !slices.Contains([]durable.Outcome{durable.Provisioned, durable.Kept, durable.Rotated, durable.Renewed, durable.Unmetered}, durable.Outcome(got.Outcome)):
		w.violated("a tab of %s is told the outcome %q", user, got.Outcome)
	case got.Key != "" && got.Hash != stored.Hash:
		w.violated("a tab of %s is told a key that is not stored", user)
	case (got.Event == "key") != (got.Key != "" && got.Key != t.key) && got.Event != "suspended":
		w.violated("a tab of %s is told %s with the key %.16s after %.16s", user, got.Event, got.Key, t.key)
	}
	if got.Key != "" {
		w.checkAnswer(user, got.reply)
	}
	t.version, t.key = got.Version, got.Key
	t.events = append(t.events, got.Event)
}

// checkTab is what holds of a tab when nothing is going on: it was told all there is to
// know.
func (w *simulation) checkTab(user string, t *tab) {
	switch st := w.state(user); {
	case t.closed != "" || st.Record == nil:
	case st.Record.Erased:
		w.violated("a tab of %s is open after the erasure", user)
	case st.Record.Suspended:
		w.violated("a tab of %s is open while it is suspended", user)
	case t.version != st.Record.Seq && st.Pending == nil:
		w.violated("a tab of %s was told version %d of %d", user, t.version, st.Record.Seq)
	}
}

// tab opens a socket, whose token is good for a time, and lets that end.
func (w *simulation) tab(user string, lifetime time.Duration) *tab {
	w.open(user, lifetime)
	w.finish()
	tabs := w.instance(user).tabs
	if len(tabs) == 0 {
		w.violated("%s got no socket", user)
		return &tab{}
	}
	return tabs[len(tabs)-1]
}

func (w *simulation) open(user string, lifetime time.Duration) *reply {
	who := auth.Identity{ID: user, Name: "Name of " + user, Email: user + "@example.org", Expires: w.clock().Add(lifetime)}
	return w.request(user, durable.Request{Action: durable.Connect, Who: who})
}

// inTabs runs a test in a simulation of its own.
func inTabs(t *testing.T, f func(t *testing.T, w *simulation)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newSimulation(1)
		f(t, w)
		w.drain()
		w.checkRest()
		w.report(t, "")
	})
}

func (t *tab) told(test *testing.T, events ...string) {
	test.Helper()
	if !slices.Equal(t.events, events) {
		test.Errorf("the tab was told %q, not %q", t.events, events)
	}
}

func TestATabIsToldOfEveryChange(t *testing.T) {
	inTabs(t, func(t *testing.T, w *simulation) {
		first := w.tab(ada, time.Hour)
		first.told(t, "key")
		w.server.ResetCalls()
		second := w.tab(ada, time.Hour)
		second.told(t, "key")
		if calls := w.server.Calls(); len(calls) != 0 {
			t.Errorf("OpenRouter was asked %v for the second", calls)
		}
		w.spend(ada, 0.1)
		w.one(durable.Me)
		first.told(t, "key", "quota")
		w.one(durable.Me) // nothing has changed
		first.told(t, "key", "quota")
		w.one(durable.Refresh)
		w.drain()
		first.told(t, "key", "quota", "key")
		second.told(t, "key", "quota", "key")
	})
}

func TestATabOutlivesTheObject(t *testing.T) {
	inTabs(t, func(t *testing.T, w *simulation) {
		tab := w.tab(ada, time.Hour)
		w.instance(ada).active = nil // it goes out of memory
		w.one(durable.Me)
		tab.told(t, "key") // it knows all of this
		w.instance(ada).active = nil
		w.one(durable.Refresh)
		tab.told(t, "key", "key")
	})
}

// The refresh has charged and given the key up, and the DELETE fails: nobody is told of a
// key that is about to end.
func TestATabIsToldNothingOfWhatIsUnderWay(t *testing.T) {
	inTabs(t, func(t *testing.T, w *simulation) {
		tab := w.tab(ada, time.Hour)
		w.spend(ada, 0.2)
		w.fail("DELETE", notSent)
		w.one(durable.Refresh)
		tab.told(t, "key")
		w.decide = nil
		w.one(durable.Me)
		tab.told(t, "key", "key")
	})
}

func TestATabLosesAKeyThatAnOperatorDisabled(t *testing.T) {
	inTabs(t, func(t *testing.T, w *simulation) {
		tab := w.tab(ada, time.Hour)
		w.server.SetDisabled(w.state(ada).Record.Hash, true)
		if got := w.one(durable.Me); got.Code != "key_disabled" {
			t.Errorf("got %d %s", got.Status, got.Code)
		}
		if tab.told(t, "key", "quota"); tab.key != "" {
			t.Error("the tab still has the key")
		}
		w.server.SetDisabled(w.state(ada).Record.Hash, false)
		w.one(durable.Me)
		if tab.told(t, "key", "quota", "key"); tab.key == "" {
			t.Error("the tab did not get the key back")
		}
	})
}

func TestATabIsClosedWhenItsTokenExpires(t *testing.T) {
	inTabs(t, func(t *testing.T, w *simulation) {
		w.one(durable.Me)
		w.drain()
		writes := w.instance(ada).writes
		short, long := w.tab(ada, time.Minute), w.tab(ada, time.Hour)
		if got := w.instance(ada).writes; got > writes+1 {
			t.Errorf("%d writes for two sockets", got-writes)
		}
		w.instance(ada).active = nil
		w.now = w.now.Add(time.Minute)
		h := w.firstAlarm()
		if h == nil || h.alarm.After(w.now.Add(30*time.Second)) {
			t.Fatal("no alarm rings when the token expires")
		}
		w.now = h.alarm
		w.ring(h)
		if short.closed != "4401 expired_token" || long.closed != "" {
			t.Errorf("the one that expired is %q, the other one %q", short.closed, long.closed)
		}
		if h = w.firstAlarm(); h == nil || h.alarm.After(w.now.Add(time.Hour)) {
			t.Error("no alarm rings when the other one expires")
		}
		w.drain()
		if long.closed != "4401 expired_token" {
			t.Errorf("the other one is %q", long.closed)
		}
	})
}

func TestTheOldestOfTooManyTabsIsClosed(t *testing.T) {
	inTabs(t, func(t *testing.T, w *simulation) {
		oldest := w.tab(ada, time.Hour)
		for range 49 {
			w.now = w.now.Add(time.Millisecond)
			w.tab(ada, time.Hour)
		}
		if oldest.closed != "" {
			t.Errorf("the oldest of 50 is %q", oldest.closed)
		}
		w.now = w.now.Add(time.Millisecond)
		if latest := w.tab(ada, time.Hour); oldest.closed != "4429 too_many_sockets" || latest.closed != "" {
			t.Errorf("the oldest of 51 is %q, the latest %q", oldest.closed, latest.closed)
		}
	})
}

func TestTabsOfASuspendedOrErasedUser(t *testing.T) {
	inTabs(t, func(t *testing.T, w *simulation) {
		tab := w.tab(ada, time.Hour)
		w.fail("DELETE", notSent) // the suspension does not wait for OpenRouter
		w.patch(adminapi.Adjustment{Suspended: new(true)})
		tab.told(t, "key", "suspended")
		if tab.closed != "4403 suspended" {
			t.Errorf("the tab is %q", tab.closed)
		}
		w.decide = nil
		if got := w.open(ada, time.Hour); got.Code != "suspended" {
			t.Errorf("a suspended user got %d %s", got.Status, got.Code)
		}
		w.drain()
		w.patch(adminapi.Adjustment{Suspended: new(false)})
		tab = w.tab(ada, time.Hour)
		w.request(ada, durable.Request{Action: durable.Erase})
		w.finish()
		if tab.told(t, "key"); tab.closed != "4404 erased" {
			t.Errorf("the tab is %q", tab.closed)
		}
	})
}

func TestATabIsToldOfAGrantAndOfTheEndOfTheQuota(t *testing.T) {
	inTabs(t, func(t *testing.T, w *simulation) {
		w.settings.Policy.RenewAfter = time.Hour
		tab := w.tab(ada, 2*time.Hour)
		amount := account.Credits(3) * account.Credit
		w.patch(adminapi.Adjustment{RemainingLimit: &amount})
		tab.told(t, "key", "quota")
		none := account.Credits(0)
		w.patch(adminapi.Adjustment{RemainingLimit: &none})
		if got := w.one(durable.Me); got.Code != "quota_exhausted" {
			t.Errorf("got %d %s", got.Status, got.Code)
		}
		w.drain()
		if tab.told(t, "key", "quota", "quota", "quota"); tab.key != "" {
			t.Error("it still has a key")
		}
		w.settings.Policy.RenewAfter = 0
	})
}

// The runtime does not list the sockets once: they are told with what is done next.
func TestTabsThatCannotBeListedAreToldLater(t *testing.T) {
	inTabs(t, func(t *testing.T, w *simulation) {
		tab := w.tab(ada, time.Hour)
		w.unlisted = true
		w.one(durable.Refresh)
		tab.told(t, "key")
		w.unlisted = false
		w.one(durable.Me)
		tab.told(t, "key", "key")
	})
}

// Nothing can be told of a user whose state makes no sense, and no token expires there.
func TestATabOfADamagedUserIsClosedByTheAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSimulation(1)
		tab := w.tab(ada, time.Hour)
		h := w.instance(ada)
		w.crash(ada)
		tab.closed = "" // it was opened anew
		h.state = `{"record":1}`
		w.now = h.alarm
		w.ring(h)
		synctest.Wait()
		if tab.closed != "4500 internal" {
			t.Errorf("the tab is %q", tab.closed)
		}
	})
}
