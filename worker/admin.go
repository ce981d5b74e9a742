package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"latchkey/durable"
	"latchkey/internal/account"
	"latchkey/internal/admin"
	"latchkey/internal/adminapi"
	"latchkey/internal/answer"
	"latchkey/internal/auth"
	"latchkey/internal/problem"
)

// This file is the admin API, docs/operations.md: what concerns one user goes to the
// user's object, the rest to the admin service.

// adminName is the name of the one object that is nobody's. No user id is so
// long.
var adminName = strings.Repeat("admin ", auth.MaxIDBytes/len("admin ")+1)

// adminRequest is what is asked of the admin service: one of these.
type adminRequest struct {
	List      *admin.Query
	Reconcile *adminapi.ReconcileOptions
}

const adminUsers = "/api/admin/users"

// findAdmin returns what answers to a path of the admin API, which is not there
// at all without a token.
func (f *front) findAdmin(path string) (route, bool) {
	if f.settings.AdminToken.Reveal() == "" {
		return route{}, false
	}
	switch path {
	case adminUsers:
		return route{path, []string{"GET"}, operator((*front).list)}, true
	case "/api/admin/reconcile":
		return route{path, []string{"POST"}, operator((*front).reconcile)}, true
	}
	rest, ok := strings.CutPrefix(path, adminUsers+"/")
	encoded, tail, _ := strings.Cut(rest, "/")
	id, err := url.PathUnescape(encoded)
	if !ok || err != nil || id == "" || len(id) > auth.MaxIDBytes || !utf8.ValidString(id) {
		return route{}, false
	}
	if id == "." || id == ".." {
		return route{}, false // no user has it: a client may take it out of the path, and name another resource
	}
	switch {
	case tail == "" && !strings.HasSuffix(rest, "/"):
		return route{adminUsers + "/{id}", []string{"GET", "PATCH", "DELETE"}, operator(one(id))}, true
	case tail == "sync":
		return route{adminUsers + "/{id}/sync", []string{"POST"}, operator(func(*front, request) (*forward, error) {
			return toUser(id, durable.Request{Action: durable.Sync}), nil
		})}, true
	case tail == "ledger":
		return route{adminUsers + "/{id}/ledger", []string{"GET"}, operator(ledger(id))}, true
	}
	return route{}, false
}

// handler answers a request of an operator or says where to forward it.
type handler func(*front, request) (*forward, error)

// operator lets only operators through.
func operator(next handler) func(*front, request) (answer.Answer, *forward, error) {
	return func(f *front, r request) (answer.Answer, *forward, error) {
		if f.bad != nil {
			return answer.Answer{}, nil, f.bad
		}
		if err := auth.Operator(r.authorization, f.settings.AdminToken); err != nil {
			return answer.Answer{}, nil, err
		}
		onward, err := next(f, r)
		return answer.Answer{}, onward, err
	}
}

// defaultLedgerPage is how much of a ledger is sent where a client does not say.
const defaultLedgerPage = 100

func (f *front) list(r request) (*forward, error) {
	query, err := url.ParseQuery(r.query)
	if err != nil {
		return nil, invalid("The query cannot be read.")
	}
	limit, err := number(query, "limit", adminapi.DefaultPage, 1, adminapi.MaxPage)
	if err != nil {
		return nil, err
	}
	q := admin.Query{Limit: int(limit), Cursor: query.Get("cursor"), Text: query.Get("q")}
	return toAdmin("list", adminRequest{List: &q}), nil
}

func (f *front) reconcile(r request) (*forward, error) {
	var what adminapi.ReconcileOptions
	if err := decode(r.body, &what); err != nil {
		return nil, err
	}
	return toAdmin("reconcile", adminRequest{Reconcile: &what}), nil
}

func ledger(id string) handler {
	return func(_ *front, r request) (*forward, error) {
		query, err := url.ParseQuery(r.query)
		if err != nil {
			return nil, invalid("The query cannot be read.")
		}
		limit, err := number(query, "limit", defaultLedgerPage, 1, durable.MaxLedgerPage)
		if err != nil {
			return nil, err
		}
		after, err := number(query, "after", 0, 0, 1<<53)
		if err != nil {
			return nil, err
		}
		return toUser(id, durable.Request{Action: durable.Ledger, After: after, Limit: int(limit)}), nil
	}
}

func one(id string) handler {
	return func(_ *front, r request) (*forward, error) {
		switch r.method {
		case http.MethodDelete:
			return toUser(id, durable.Request{Action: durable.Erase}), nil
		case http.MethodPatch:
			change, err := adjustment(r.body)
			if err != nil {
				return nil, err
			}
			return toUser(id, durable.Request{Action: durable.Adjust, Adjustment: change}), nil
		}
		return toUser(id, durable.Request{Action: durable.Inspect}), nil
	}
}

// adjustment reads what an operator changes.
func adjustment(body string) (change durable.Adjustment, err error) {
	var given struct {
		TotalLimit     *float64 `json:"total_limit"`
		RemainingLimit *float64 `json:"remaining_limit"`
		Suspended      *bool    `json:"suspended"`
	}
	if err := decode(body, &given); err != nil {
		return durable.Adjustment{}, err
	}
	if change.TotalLimit, err = limit("total_limit", given.TotalLimit); err != nil {
		return durable.Adjustment{}, err
	}
	if change.RemainingLimit, err = limit("remaining_limit", given.RemainingLimit); err != nil {
		return durable.Adjustment{}, err
	}
	if change.Suspended = given.Suspended; change == (durable.Adjustment{}) {
		return durable.Adjustment{}, invalid("Nothing to change: give total_limit, remaining_limit or suspended.")
	}
	return change, nil
}

// limit returns a limit that was given, or nil. What is stored is within what
// [account.CreditsOf] reads, and no operator gives a debt.
func limit(name string, given *float64) (*account.Credits, error) {
	if given == nil {
		return nil, nil
	}
	credits, err := account.CreditsOf(*given)
	if err != nil || *given < 0 {
		return nil, invalid(name + " is a number of credits from 0 to " + account.MaxCredits.String() + ".")
	}
	return &credits, nil
}

func toUser(id string, r durable.Request) *forward {
	return &forward{object: id, op: string(r.Action), request: r}
}

func toAdmin(op string, r adminRequest) *forward {
	return &forward{object: adminName, op: op, admin: &r}
}

func invalid(detail string) error { return problem.New(problem.InvalidRequest, detail) }

// number reads a whole number of a query.
func number(query url.Values, name string, standard, least, most int64) (int64, error) {
	if !query.Has(name) {
		return standard, nil
	}
	n, err := strconv.ParseInt(query.Get(name), 10, 64)
	if err != nil || n < least || n > most {
		return 0, invalid(name + " is a whole number from " + strconv.FormatInt(least, 10) + " to " + strconv.FormatInt(most, 10) + ".")
	}
	return n, nil
}

// decode reads a JSON object. A field that is not known is refused: a typing
// error must not pass for a change.
func decode(body string, into any) error {
	if !strings.HasPrefix(strings.TrimSpace(body), "{") {
		return invalid("The body has to be a JSON object.")
	}
	decoder := json.NewDecoder(strings.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		p := problem.New(problem.InvalidRequest, "The body is not the JSON object that is wanted here.")
		p.Cause = err
		return p
	}
	if _, err := decoder.Token(); err != io.EOF {
		return invalid("There is more in the body than one JSON object.")
	}
	return nil
}
