package durable_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"latchkey/internal/account"
	"latchkey/internal/openroutertest"
	"latchkey/internal/users"
)

// This file is where the calls of an object leave: its storage, OpenRouter and D1.

// storage is a instance's storage as one active object sees it.
type storage struct {
	*simulation
	incarnation *incarnation
}

func (s storage) Load() (string, error) {
	if s.incarnation.dead {
		return "", errDead
	}
	h := s.incarnation.instance
	if h.loads++; h.loads%2 == 0 {
		return sinceVersionOne.ReplaceAllString(h.state, ""), nil
	}
	return h.state, nil
}

// sinceVersionOne is what version 1 did not store. So every second incarnation finds
// a state as that version left it.
var sinceVersionOne = regexp.MustCompile(`,"written":"[^"]*"`)

func (s storage) Write(state string, entry *account.Entry, alarm *time.Time) error {
	h := s.incarnation.instance
	if s.incarnation.dead || h.readOnly {
		return errDead
	}
	s.note("  %s writes %s", h.user, state)
	if strings.Contains(state, "sk-or-") {
		s.violated("%s has an unsealed key in storage", h.user)
	}
	h.state = state
	h.writes++
	if entry != nil {
		s.note("  %s books %s %s", h.user, entry.Kind, entry.Credits)
		if n := len(h.ledger); n > 0 && h.ledger[n-1].Seq >= entry.Seq {
			s.violated("the ledger of %s goes from %d to %d", h.user, h.ledger[n-1].Seq, entry.Seq)
		}
		h.ledger = append(h.ledger, *entry)
	}
	if alarm != nil {
		h.alarm = *alarm
		h.alarms++
	}
	return nil
}

func (s storage) Entries(seq int64, limit int) ([]account.Entry, error) {
	if s.incarnation.dead {
		return nil, errDead
	}
	return s.incarnation.instance.ledger.Entries(seq, limit), nil
}

func (s storage) Latest(before int64, limit int) ([]account.Entry, error) {
	if s.incarnation.dead {
		return nil, errDead
	}
	return s.incarnation.instance.ledger.Latest(before, limit), nil
}

// port is where the calls of one active object leave: to OpenRouter and to D1.
type port struct {
	*simulation
	incarnation *incarnation
}

// stop waits for the fault of a call.
func (p port) stop(method, path string) fault {
	if p.incarnation.dead {
		return crashBefore
	}
	c := &call{incarnation: p.incarnation, method: method, path: path, fault: make(chan fault)}
	p.mu.Lock()
	c.index = p.calls
	p.calls++
	p.waiting = append(p.waiting, c)
	p.mu.Unlock()
	return <-c.fault
}

var errNoAnswer = errors.New("no answer")

// RoundTrip implements http.RoundTripper.
func (p port) RoundTrip(request *http.Request) (*http.Response, error) {
	method := request.Method
	switch {
	case strings.HasSuffix(request.URL.Path, "/assignments/keys"):
		method = "ASSIGN"
	case strings.HasSuffix(request.URL.Path, "/keys") && method == http.MethodGet:
		method = "LIST"
	}
	f := p.stop(method, request.URL.Path)
	hash := request.URL.Path[strings.LastIndex(request.URL.Path, "/")+1:]
	switch f {
	case crashBefore:
		return nil, errDead
	case notSent:
		return nil, errNoAnswer
	case tooLate:
		sent := copyOf(request)
		p.late = append(p.late, lateCall{p.now.Add(lateBy), method, func() {
			if response, err := p.server.RoundTrip(sent); err == nil {
				response.Body.Close()
			}
		}})
		return nil, errNoAnswer
	case status404:
		if method == "POST" || method == "LIST" || method == "ASSIGN" { // about a key it would be a lie; gone makes it true
			return respond(404, `{"error":{"code":404,"message":"Not found"}}`), nil
		}
	case gone:
		if method != "POST" && method != "LIST" && method != "ASSIGN" {
			p.withdraw(hash)
		}
	}
	if fault, ok := standInFail[f]; ok {
		p.server.Fail(operation[method], fault, 1)
	}
	if p.answer != nil {
		if response := p.answer(method, request); response != nil {
			return response, nil
		}
	}
	response, err := p.server.RoundTrip(request)
	if p.slow != nil {
		p.slow(method)
	}
	switch {
	case f == crashAfter:
		return nil, errDead
	case f == answerLost:
		return nil, errNoAnswer
	case err == nil && f == well && method == "GET" && response.StatusCode == http.StatusOK:
		body, _ := io.ReadAll(response.Body)
		response.Body = io.NopCloser(bytes.NewReader(body))
		var told struct {
			Data struct {
				Usage account.Credits  `json:"usage"`
				Limit *account.Credits `json:"limit"`
			} `json:"data"`
		}
		if json.Unmarshal(body, &told) == nil && told.Data.Limit != nil {
			p.read[hash] = told.Data.Usage
		}
	}
	return response, err
}

// withdraw deletes a key at OpenRouter behind our back.
func (w *simulation) withdraw(hash string) {
	w.withdrawn[hash] = true
	request, _ := http.NewRequest(http.MethodDelete, w.settings.OpenRouterURL+"/keys/"+hash, nil)
	request.Header.Set("Authorization", "Bearer "+w.settings.ProvisioningKey.Reveal())
	if response, err := w.server.RoundTrip(request); err == nil {
		response.Body.Close()
	}
}

var operation = map[string]openroutertest.Op{
	"GET": openroutertest.OpGet, "LIST": openroutertest.OpList, "POST": openroutertest.OpCreate, "DELETE": openroutertest.OpDelete, "PATCH": openroutertest.OpUpdate, "ASSIGN": openroutertest.OpAssign,
}

func copyOf(request *http.Request) *http.Request {
	clone := request.Clone(request.Context())
	if request.Body != nil {
		body, _ := io.ReadAll(request.Body)
		clone.Body = io.NopCloser(bytes.NewReader(body))
	}
	return clone
}

func respond(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
}

// Batch implements users.DB.
func (p port) Batch(statements []users.Statement, sent func()) ([]json.RawMessage, error) {
	if sent != nil {
		sent()
	}
	switch f := p.stop("D1", statements[0].SQL[:6]); f {
	case crashBefore:
		return nil, errDead
	case notSent:
		return nil, errNoAnswer
	case well:
		return p.db.batch(statements), nil
	case crashAfter:
		p.db.batch(statements)
		return nil, errDead
	case tooLate:
		p.late = append(p.late, lateCall{p.now.Add(lateBy), "D1", func() { p.db.batch(statements) }})
		return nil, errNoAnswer
	default:
		p.db.batch(statements)
		return nil, errNoAnswer
	}
}

// database is D1, as far as package users uses it. Its own tests run the SQL on
// a real SQLite; this one heeds the clauses that guard against late writes only where
// the SQL has them.
type database struct {
	rows   map[string][]any           // by user
	ledger map[string]map[int64][]any // by user and seq
}

// columns of a row, in the order in which package users writes them.
var columns = func() (names []string) {
	for _, field := range account.RecordFields {
		if !field.ObjectOnly {
			names = append(names, field.Name)
		}
	}
	return names
}()

// Where a row has some of them.
var keyColumn, hashColumn, seqColumn = slices.Index(columns, "key"), slices.Index(columns, "hash"), slices.Index(columns, "seq")

func (d *database) batch(statements []users.Statement) []json.RawMessage {
	results := make([]json.RawMessage, len(statements))
	for i, s := range statements {
		results[i] = json.RawMessage(`[]`)
		switch {
		case strings.HasPrefix(s.SQL, "SELECT"):
			if row, ok := d.rows[s.Args[0].(string)]; ok {
				named := map[string]any{}
				for j, column := range columns {
					named[column] = row[j]
				}
				results[i], _ = json.Marshal([]any{named})
			}
		case strings.HasPrefix(s.SQL, "INSERT INTO users"):
			user, seq := s.Args[0].(string), s.Args[seqColumn].(int64)
			guarded := strings.Contains(s.SQL, "WHERE excluded.seq >= users.seq")
			if old, ok := d.rows[user]; !ok || !guarded || seq >= old[seqColumn].(int64) {
				d.rows[user] = s.Args
			}
		case strings.HasPrefix(s.SQL, "INSERT INTO ledger"):
			for args := s.Args; len(args) > 0; args = args[7:] {
				user, seq := args[0].(string), args[1].(int64)
				if d.ledger[user] == nil {
					d.ledger[user] = map[int64][]any{}
				}
				if d.ledger[user][seq] == nil {
					d.ledger[user][seq] = args[:7]
				}
			}
		case strings.HasPrefix(s.SQL, "DELETE FROM users"):
			user, guarded := s.Args[0].(string), strings.HasSuffix(s.SQL, " AND seq < ?")
			if row, ok := d.rows[user]; ok && (!guarded || row[seqColumn].(int64) < s.Args[1].(int64)) {
				delete(d.rows, user)
			}
		default:
			panic("a statement that the simulation does not know: " + s.SQL)
		}
	}
	return results
}
