package oplog

// Event is the kind of a line.
type Event string

// The events. Those of JavaScript are written by internal/edge/log.mjs alone.
const (
	Request    Event = "request"    // the Worker or an object: a request that was answered before any object worked on it
	Key        Event = "key"        // a user's object: what a user asked for: me, refresh, ledger
	Admin      Event = "admin"      // a user's object or the admin service: what an operator or the daily trigger asked for
	State      Event = "state"      // a user's object: what it holds, since an operator asked
	Background Event = "background" // a user's object: one try at a background task; JavaScript: an alarm that failed
	Issuer     Event = "issuer"     // the Worker or an object: a read of the issuer's keys
	Settings   Event = "settings"   // the Worker, once an isolate: settings that are missing, bad or misspelt
	Panic      Event = "panic"      // a mistake in the program, and where; JavaScript: the program ended over one
	Memory     Event = "memory"     // JavaScript: how much memory there is, and what is kept in it
	Exception  Event = "exception"  // JavaScript, `make tail` alone: the runtime's own word of a failure
)

// Op is what was done. Of a request to a user's object it is a durable.Action; of a
// panic, what had called the program, or nothing.
type Op string

// The ops of everything else.
const (
	OpD1        Op = "d1"        // background: row and ledger are written to D1
	OpDelete    Op = "delete"    // background: a key is deleted
	OpDisable   Op = "disable"   // background: a key is disabled, to be settled
	OpSettle    Op = "settle"    // background: a disabled key is read a last time, and charged
	OpOrphan    Op = "orphan"    // background: the key of a lost answer is looked for, and deleted
	OpAnnounce  Op = "announce"  // background: the sockets could not be told of a change
	OpUnknown   Op = "unknown"   // background: work that a later version left is kept, and left alone
	OpAlarm     Op = "alarm"     // background: an alarm that could not be taken up
	OpKeys      Op = "keys"      // issuer
	OpList      Op = "list"      // admin service: a page of users
	OpReconcile Op = "reconcile" // admin service: keys that nobody owns
	OpReseal    Op = "reseal"    // admin service: keys sealed with the previous encryption key; a user's object: its own
)

// Outcome is what came of it. Of a request that was answered it is an outcome of the
// client API, or a problem's code.
type Outcome string

// The outcomes of everything else.
const (
	Done          Outcome = "done"
	Again         Outcome = "again"         // it failed, and is tried again
	Failed        Outcome = "failed"        // it failed, and is not
	Damaged       Outcome = "damaged"       // what is stored makes no sense
	Misconfigured Outcome = "misconfigured" // a setting is missing or bad
	Misspelt      Outcome = "misspelt"      // a variable is no setting, but close to one
	Suspicious    Outcome = "suspicious"    // so many orphans that none was deleted
)
