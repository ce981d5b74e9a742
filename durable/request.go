package durable

import (
	"latchkey/internal/account"
	"latchkey/internal/adminapi"
	"latchkey/internal/auth"
	"latchkey/internal/oplog"
)

// Action is what a request asks for.
type Action string

// What can be asked for: by the user, by an operator, and by the object itself.
const (
	Me        Action = "me"         // a working key
	Refresh   Action = "refresh"    // a new key
	Connect   Action = "connect"    // a socket that tells of every change
	OwnLedger Action = "own_ledger" // a page of the user's own ledger
	Inspect   Action = "inspect"    // what the object holds
	Ledger    Action = "ledger"     // a page of its ledger
	Owns      Action = "owns"       // whether a key is known here
	Adjust    Action = "adjust"     // limits, suspension
	Erase     Action = "erase"      // everything but the ledger
	Sync      Action = "sync"       // row and ledger written to D1 anew, which has lost them
	Reseal    Action = "reseal"     // keys sealed with the previous key sealed anew
	repair    Action = "repair"     // the end of a call that was cut off
)

// reads tells whether an action changes nothing, and need not wait for what does.
func (a Action) reads() bool {
	return a == Inspect || a == Ledger || a == OwnLedger || a == Owns
}

// byUser tells whether it is the user who asks, who may ask too often.
func (a Action) byUser() bool { return a.wantsKey() || a == OwnLedger }

// wantsKey tells whether a user without a key gets one by it.
func (a Action) wantsKey() bool { return a == Me || a == Refresh || a == Connect }

// Shared tells whether one answer does for all who want it at once.
func (a Action) Shared() bool { return a == Me || a == Refresh || a == repair }

// event is the kind of log line that tells of an action.
func (a Action) event() oplog.Event {
	if a.byUser() || a == repair {
		return oplog.Key
	}
	return oplog.Admin
}

// Request is what is asked of an object. What an action has no use for is empty.
type Request struct {
	Action     Action
	Who        auth.Identity       // me, refresh, connect
	Adjustment adminapi.Adjustment // adjust
	Hash       string              // owns
	Before     int64               // ledger, own_ledger: entries with a smaller seq; 0: from the newest
	Limit      int                 // ledger, own_ledger: at most so many
}

// Outcome says what became of the user's key.
type Outcome string

// The outcomes that a client is told, and that of what an operator or the alarm asked for.
const (
	Provisioned Outcome = "provisioned"
	Kept        Outcome = "kept"
	Rotated     Outcome = "rotated"
	Renewed     Outcome = "renewed"
	Unmetered   Outcome = "unmetered"
	done        Outcome = "done"
)

// outcomes names what a creation amounts to.
var outcomes = map[account.Kind]Outcome{account.Provision: Provisioned, account.Rotate: Rotated, account.Renew: Renewed}
