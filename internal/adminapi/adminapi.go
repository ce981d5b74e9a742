// Package adminapi is the admin API's JSON: the Worker encodes these types, and
// the command line decodes them, with package adminclient. docs/api.md
// describes the API.
package adminapi

import (
	"time"

	"latchkey/internal/account"
)

// Of a page: how much is on it where a client does not say, and at the most.
const (
	DefaultPage = 50
	MaxPage     = 200
)

// User is a user without the key, as a row of D1 or the user's object has it. Times
// are text: a row of an older table may have them in another form.
type User struct {
	UserID         string          `json:"user_id"`
	UserName       string          `json:"user_name"`
	Email          string          `json:"email"`
	Hash           string          `json:"hash"` // empty while there is no key
	TotalLimit     account.Credits `json:"total_limit"`
	RemainingLimit account.Credits `json:"remaining_limit"`
	UsageLimit     account.Credits `json:"usage_limit"`
	Suspended      bool            `json:"suspended"`
	Seq            int64           `json:"seq"`
	CreatedAt      string          `json:"created_at"`
	UpdatedAt      string          `json:"updated_at"`
	Damaged        string          `json:"damaged,omitempty"` // why nothing but the id can be read
}

// UserOf returns a user's record as operators see it.
func UserOf(r account.Record) User {
	return User{
		UserID: r.UserID, UserName: r.UserName, Email: r.Email, Hash: r.Hash,
		TotalLimit: r.TotalLimit, RemainingLimit: r.RemainingLimit, UsageLimit: r.UsageLimit, Suspended: r.Suspended, Seq: r.Seq,
		CreatedAt: r.CreatedAt.Format(time.RFC3339Nano), UpdatedAt: r.UpdatedAt.Format(time.RFC3339Nano),
	}
}

// UsersPage is a page of GET /api/admin/users, newest change first.
type UsersPage = UsersPageOf[User]

// UsersPageOf is a page of users in whatever form one is wanted in.
type UsersPageOf[U any] struct {
	Users      []U     `json:"users"`
	NextCursor *string `json:"next_cursor"` // nil: there is no more
}

// Record is a user as the user's object holds it.
type Record struct {
	User
	Key string `json:"key"` // sk-or-v1-abc...xyz; empty while there is none, "unreadable" where it does not open
}

// State is most of what a user's object holds. It does not show the ledger, nor what was
// read of the key last: whether it is disabled, its limit, its expiry, and when that was.
type State struct {
	Record     Record     `json:"record"`
	Pending    *Task      `json:"pending"`    // a call that is under way or was cut off
	Background []Task     `json:"background"` // keys to be got rid of; never nil
	D1         D1         `json:"d1"`
	Alarm      *time.Time `json:"alarm"`             // when it rings; nil: it is not set
	Damaged    string     `json:"damaged,omitempty"` // why what is stored makes no sense; the rest is empty then
}

// Task is work on a key that is under way or waits to be tried again. One of the
// first five says what it is; Create stands beside Delete where the next key follows on it.
type Task struct {
	Create string `json:"create,omitempty"` // op, a part of the new key's name
	Assign string `json:"assign,omitempty"` // hash of a new key that nobody gets before the guardrail has it
	Delete string `json:"delete,omitempty"` // hash
	Settle string `json:"settle,omitempty"` // hash of a key to be read and charged once more, then deleted
	Orphan string `json:"orphan,omitempty"` // op of a key that may exist or not

	Live  bool             `json:"live,omitempty"`  // the key to settle still works
	Limit *account.Credits `json:"limit,omitempty"` // of the key to settle; nil: not known
	Left  *account.Credits `json:"left,omitempty"`  // on the key to settle, when it was read last

	Since time.Time `json:"since"`
	Tries int       `json:"tries"` // that failed
	Due   time.Time `json:"due"`
}

// D1 says how far D1 has come with a user's record.
type D1 struct {
	Seq    int64     `json:"seq"` // D1 is known to hold the record up to here
	Behind bool      `json:"behind"`
	Tries  int       `json:"tries"` // that failed
	Due    time.Time `json:"due,omitzero"`
}

// LedgerPage is a page of a user's ledger, newest entry first.
type LedgerPage = LedgerPageOf[account.Entry]

// LedgerPageOf is a page of entries in whatever form one is wanted in.
type LedgerPageOf[E any] struct {
	Entries    []E     `json:"entries"`     // never nil
	NextCursor *string `json:"next_cursor"` // nil: there is no more
}

// Adjustment is what PATCH /api/admin/users/{id} changes; nil leaves a thing as
// it is.
type Adjustment struct {
	TotalLimit     *account.Credits `json:"total_limit,omitempty"` // what remains moves along with it
	RemainingLimit *account.Credits `json:"remaining_limit,omitempty"`
	Suspended      *bool            `json:"suspended,omitempty"`
}

// ReconcileOptions say how far POST /api/admin/reconcile goes. The daily one has
// none of them.
type ReconcileOptions struct {
	DryRun bool `json:"dry_run"` // nothing is deleted
	Force  bool `json:"force"`   // suspiciously many are deleted too
}

// ReconcileReport tells what a reconciliation found and did.
type ReconcileReport struct {
	DryRun     bool     `json:"dry_run"`
	Examined   int      `json:"examined"` // keys at OpenRouter
	Ours       int      `json:"ours"`     // with a name of ours
	Orphans    []Orphan `json:"orphans"`  // never nil
	Deleted    int      `json:"deleted"`
	Failed     int      `json:"failed"`               // whose hash is none, whose owner could not be asked, or that could not be deleted
	Suspicious bool     `json:"suspicious,omitempty"` // so many orphans that without Force none is deleted
}

// Orphan is a key of ours that no record owns.
type Orphan struct {
	Hash      string `json:"hash"`
	Name      string `json:"name"`
	CreatedAt string `json:"created_at"` // RFC 3339
}

// ResealOptions say which part POST /api/admin/reseal does: of the users whose row
// shows a key that is sealed with a previous encryption key, in the order of their
// ids, at most Limit, after Cursor.
type ResealOptions struct {
	Limit  int    `json:"limit,omitempty"`  // 1 to [MaxPage]; 0: [DefaultPage]
	Cursor string `json:"cursor,omitempty"` // empty: from the first
}

// ResealReport tells what became of that part. Whoever follows NextCursor until it is
// nil has asked for every user once. Then Remaining counts those that failed: at 0 the
// previous key is of no use any more; otherwise it is to be begun anew, later.
type ResealReport struct {
	Resealed   int      `json:"resealed"`    // users whose object holds no key any more that is sealed with a previous one
	Failed     []string `json:"failed"`      // ids of users whose object could not do it; never nil
	Remaining  int      `json:"remaining"`   // users still to be asked for, and those that failed since the first part
	NextCursor *string  `json:"next_cursor"` // nil: all have been asked for
}

// Status is the answer to what goes on in the background: "erasing", "syncing".
type Status struct {
	Status string `json:"status"`
}
