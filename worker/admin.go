package worker

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"latchkey/durable"
	"latchkey/internal/account"
	"latchkey/internal/admin"
	"latchkey/internal/adminapi"
	"latchkey/internal/answer"
	"latchkey/internal/auth"
	"latchkey/internal/edge"
	"latchkey/internal/problem"
)

// This file is the admin API, docs/api.md: what concerns one user goes to the
// user's object, the rest to the admin service. An error names the field or the
// parameter that it is about.

// operator handles a request of an operator.
func operator(ask func(id string, r edge.Request) (*target, error)) handler {
	return func(f *Front, r edge.Request, id string) (answer.Answer, *target, error) {
		if f.bad != nil {
			return answer.Answer{}, nil, f.bad
		}
		if err := auth.Operator(r.Authorization, f.settings.AdminToken); err != nil {
			return answer.Answer{}, nil, err
		}
		to, err := ask(id, r)
		return answer.Answer{}, to, err
	}
}

func listUsers(_ string, r edge.Request) (*target, error) {
	query, err := parseQuery(r.Query)
	if err != nil {
		return nil, err
	}
	limit, err := number(query, "limit", adminapi.DefaultPage, adminapi.MaxPage)
	if err != nil {
		return nil, err
	}
	q := admin.Query{Limit: int(limit), Cursor: query.Get("cursor"), Text: query.Get("q")}
	return toAdmin(adminRequest{Action: adminList, Query: q}), nil
}

func reconcileKeys(_ string, r edge.Request) (*target, error) {
	var dryRun *bool // to leave it out is not to ask for a deletion
	var what adminapi.ReconcileOptions
	err := decode(r.Body,
		field{"dry_run", boolean, &dryRun},
		field{"force", boolean, &what.Force})
	if err != nil {
		return nil, err
	}
	if dryRun == nil {
		return nil, invalid("dry_run is " + boolean + ".")
	}
	what.DryRun = *dryRun
	return toAdmin(adminRequest{Action: adminReconcile, Reconcile: what}), nil
}

func resealKeys(_ string, r edge.Request) (*target, error) {
	var what adminapi.ResealOptions
	err := decode(cmp.Or(r.Body, "{}"), // all of it may be left out
		field{"limit", "a whole number from 1 to " + strconv.Itoa(adminapi.MaxPage), &what.Limit},
		field{"cursor", "a next_cursor that was given out here", &what.Cursor})
	if err != nil {
		return nil, err
	}
	return toAdmin(adminRequest{Action: adminReseal, Reseal: what}), nil
}

func userLedger(id string, r edge.Request) (*target, error) {
	page, err := ledgerPage(durable.Ledger, r.Query)
	if err != nil {
		return nil, err
	}
	return toUser(id, page), nil
}

func syncUser(id string, _ edge.Request) (*target, error) {
	return toUser(id, durable.Request{Action: durable.Sync}), nil
}

func inspectUser(id string, _ edge.Request) (*target, error) {
	return toUser(id, durable.Request{Action: durable.Inspect}), nil
}

func eraseUser(id string, _ edge.Request) (*target, error) {
	return toUser(id, durable.Request{Action: durable.Erase}), nil
}

func adjustUser(id string, r edge.Request) (*target, error) {
	var total, remaining *float64
	var change adminapi.Adjustment
	err := decode(r.Body,
		field{"total_limit", limits, &total},
		field{"remaining_limit", limits, &remaining},
		field{"suspended", boolean, &change.Suspended})
	if err != nil {
		return nil, err
	}
	if change.TotalLimit, err = limit("total_limit", total); err != nil {
		return nil, err
	}
	if change.RemainingLimit, err = limit("remaining_limit", remaining); err != nil {
		return nil, err
	}
	if change == (adminapi.Adjustment{}) {
		return nil, invalid("Nothing to change: give total_limit, remaining_limit or suspended.")
	}
	return toUser(id, durable.Request{Action: durable.Adjust, Adjustment: change}), nil
}

// limit returns a limit that was given, or nil. What is stored is within what
// [account.CreditsOf] reads, and no operator gives a debt.
func limit(name string, given *float64) (*account.Credits, error) {
	if given == nil {
		return nil, nil
	}
	credits, err := account.CreditsOf(*given)
	if err != nil || *given < 0 {
		return nil, invalid(name + " is " + limits + ".")
	}
	return &credits, nil
}

// ledgerPage asks for a page of a ledger. Its cursor is the seq of the last entry
// that was given out.
func ledgerPage(action durable.Action, encoded string) (durable.Request, error) {
	query, err := parseQuery(encoded)
	if err != nil {
		return durable.Request{}, err
	}
	limit, err := number(query, "limit", adminapi.DefaultPage, adminapi.MaxPage)
	if err != nil {
		return durable.Request{}, err
	}
	var before int64
	if cursor := query.Get("cursor"); cursor != "" {
		if before, err = strconv.ParseInt(cursor, 10, 64); err != nil || before < 1 {
			return durable.Request{}, invalid("cursor is a next_cursor that was given out here.")
		}
	}
	return durable.Request{Action: action, Before: before, Limit: int(limit)}, nil
}

func invalid(detail string) error { return problem.New(problem.InvalidRequest, detail) }

func parseQuery(encoded string) (url.Values, error) {
	query, err := url.ParseQuery(encoded)
	if err != nil {
		return nil, invalid("The query cannot be read.")
	}
	return query, nil
}

// number reads a whole number from 1 on of a query.
func number(query url.Values, name string, standard, most int64) (int64, error) {
	if !query.Has(name) {
		return standard, nil
	}
	n, err := strconv.ParseInt(query.Get(name), 10, 64)
	if err != nil || n < 1 || n > most {
		return 0, invalid(name + " is a whole number from 1 to " + strconv.FormatInt(most, 10) + ".")
	}
	return n, nil
}

// What a field of a body may hold.
const boolean = "true or false"

var limits = "a number of credits from 0 to " + account.MaxCredits.String()

// field is a field that a body may have.
type field struct {
	name   string
	wanted string // what it holds
	into   any    // where that goes
}

// decode reads a JSON object. A field that is not known is refused: a typing
// error must not pass for a change.
func decode(body string, fields ...field) error {
	var given map[string]json.RawMessage
	if err := json.Unmarshal([]byte(body), &given); err != nil || given == nil {
		p := problem.New(problem.InvalidRequest, "The body has to be one JSON object.")
		p.Cause = err
		return p
	}
	var names []string
	for _, f := range fields {
		names = append(names, f.name)
		if value, ok := given[f.name]; ok {
			if err := json.Unmarshal(value, f.into); err != nil || bytes.Equal(value, []byte("null")) {
				return invalid(f.name + " is " + f.wanted + ".")
			}
			delete(given, f.name)
		}
	}
	if len(given) > 0 {
		unknown := slices.Min(slices.Collect(maps.Keys(given)))
		return invalid(strconv.Quote(unknown) + " is none of the fields here, which are " + strings.Join(names, ", ") + ".")
	}
	return nil
}
