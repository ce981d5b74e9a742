package openroutertest_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/internal/openroutertest"
)

func TestFaultsShowToTheClientWhetherAppliedOrNot(t *testing.T) {
	for name, test := range map[string]struct {
		fault openroutertest.Fault
		leave bool // the client leaves once the call has come as far as it will
		check func(t *testing.T, a answer, err error)
	}{
		"status": {
			fault: openroutertest.Fault{Kind: openroutertest.KindStatus, Status: 503},
			check: func(t *testing.T, a answer, err error) {
				if err != nil || a.status != 503 {
					t.Fatalf("status %d, error %v", a.status, err)
				}
				a.want("503", "error", "code")
			},
		},
		"status by default": {
			fault: openroutertest.Fault{Kind: openroutertest.KindStatus},
			check: func(t *testing.T, a answer, err error) {
				if err != nil || a.status != 500 {
					t.Fatalf("status %d, error %v", a.status, err)
				}
			},
		},
		"html": {
			fault: openroutertest.Fault{Kind: openroutertest.KindHTML},
			check: func(t *testing.T, a answer, err error) {
				if err != nil || a.status != 502 || !strings.Contains(a.body, "<html>") {
					t.Fatalf("status %d, error %v: %s", a.status, err, a.body)
				}
			},
		},
		"html with a success": {
			fault: openroutertest.Fault{Kind: openroutertest.KindHTML, Status: 200},
			check: func(t *testing.T, a answer, err error) {
				if err != nil || a.status != 200 || !strings.Contains(a.body, "<html>") {
					t.Fatalf("status %d, error %v: %s", a.status, err, a.body)
				}
			},
		},
		"drop": {
			fault: openroutertest.Fault{Kind: openroutertest.KindDrop},
			check: func(t *testing.T, a answer, err error) {
				if !errors.Is(err, io.EOF) {
					t.Fatalf("status %d, error %v", a.status, err)
				}
			},
		},
		"cut": {
			fault: openroutertest.Fault{Kind: openroutertest.KindCut},
			check: func(t *testing.T, a answer, err error) {
				if !errors.Is(err, io.ErrUnexpectedEOF) || a.status != 201 || a.body == "" {
					t.Fatalf("status %d, error %v, body %q", a.status, err, a.body)
				}
			},
		},
		"hang": {
			fault: openroutertest.Fault{Kind: openroutertest.KindHang},
			leave: true,
			check: func(t *testing.T, a answer, err error) {
				if !errors.Is(err, context.Canceled) {
					t.Fatalf("status %d, error %v", a.status, err)
				}
			},
		},
		"slow beyond patience": {
			fault: openroutertest.Fault{Kind: openroutertest.KindSlow, Delay: time.Hour},
			leave: true,
			check: func(t *testing.T, a answer, err error) {
				if !errors.Is(err, context.Canceled) {
					t.Fatalf("status %d, error %v", a.status, err)
				}
			},
		},
	} {
		for _, applied := range []bool{false, true} {
			t.Run(name+map[bool]string{false: " before", true: " after"}[applied], func(t *testing.T) {
				t.Parallel()
				f := start(t)
				fault := test.fault
				fault.Applied = applied
				f.Fail(openroutertest.OpCreate, fault, 1)
				ctx, leave := context.WithCancel(t.Context())
				defer leave()
				if test.leave {
					go func() {
						for len(f.CallLog()) == 0 || applied && len(f.Keys()) == 0 {
							time.Sleep(time.Millisecond)
						}
						leave()
					}()
				}
				a, err := f.do(f.request("POST", "keys", provisioningKey, `{"name":"a"}`).WithContext(ctx))
				test.check(t, a, err)

				keys := f.Keys()
				if applied != (len(keys) == 1) {
					t.Errorf("%d keys exist", len(keys))
				}
				if log := f.CallLog(); len(log) != 1 || log[0].Fault != fault.Kind || log[0].Name != "a" || log[0].Status != a.status {
					t.Errorf("log %+v", log)
				}
				f.create(`{"name":"b"}`) // struck once only
			})
		}
	}
}

func TestFaultsStrikeEveryOperation(t *testing.T) {
	f := start(t)
	hash, secret := f.create(`{"name":"a"}`)
	guardrail := f.AddGuardrail("g")
	for op, call := range map[openroutertest.Op][4]string{
		openroutertest.OpCreate:   {provisioningKey, "POST", "keys", `{"name":"b"}`},
		openroutertest.OpList:     {provisioningKey, "GET", "keys", ""},
		openroutertest.OpGet:      {provisioningKey, "GET", "keys/" + hash, ""},
		openroutertest.OpUpdate:   {provisioningKey, "PATCH", "keys/" + hash, `{"disabled":true}`},
		openroutertest.OpDelete:   {provisioningKey, "DELETE", "keys/" + hash, ""},
		openroutertest.OpKey:      {secret, "GET", "key", ""},
		openroutertest.OpActivity: {provisioningKey, "GET", "activity", ""},
		openroutertest.OpCredits:  {provisioningKey, "GET", "credits", ""},
		openroutertest.OpChat:     {secret, "POST", "chat/completions", `{}`},

		openroutertest.OpAssign:     {provisioningKey, "POST", "guardrails/" + guardrail + "/assignments/keys", `{"key_hashes":["` + hash + `"]}`},
		openroutertest.OpGuardrails: {provisioningKey, "DELETE", "guardrails/" + guardrail, ""},
	} {
		f.ResetCalls()
		f.Fail(op, openroutertest.Fault{Kind: openroutertest.KindStatus, Status: 429}, 1)
		f.callAs(call[0], call[1], call[2], call[3], 429)
		if calls := f.Calls(); calls[op] != 1 || len(calls) != 1 {
			t.Errorf("%s: calls %v", op, calls)
		}
	}
	if keys := f.Keys(); len(keys) != 1 || keys[0].Disabled || keys[0].Deleted || keys[0].Usage != 0 || keys[0].GuardrailID != "" {
		t.Errorf("a fault had an effect: %+v", keys)
	}
	f.call("GET", "guardrails/"+guardrail, "", http.StatusOK)
}

func TestAppliedFaultsTakeEffectOnDeleteAndUpdate(t *testing.T) {
	for _, kind := range []openroutertest.Kind{openroutertest.KindStatus, openroutertest.KindDrop, openroutertest.KindCut} {
		for _, applied := range []bool{false, true} {
			f := start(t)
			hash, _ := f.create(`{"name":"a","limit":1}`)
			f.Fail(openroutertest.OpUpdate, openroutertest.Fault{Kind: kind, Applied: applied}, 1)
			f.Fail(openroutertest.OpDelete, openroutertest.Fault{Kind: kind, Applied: applied}, 1)
			// How the calls fail is tested above; here their effect counts.
			_, _ = f.send("PATCH", "keys/"+hash, provisioningKey, `{"limit":null}`)
			_, _ = f.send("DELETE", "keys/"+hash, provisioningKey, "")
			if unlimited := f.Keys()[0].Limit == nil; unlimited != applied || f.Deleted(hash) != applied {
				t.Errorf("%s, applied %v: unlimited %v, deleted %v", kind, applied, unlimited, f.Deleted(hash))
			}
		}
	}
}

func TestCutAnnouncesMoreThanItSends(t *testing.T) {
	f := start(t)
	f.Fail(openroutertest.OpCreate, openroutertest.Fault{Kind: openroutertest.KindCut, Applied: true}, 1)
	request, err := http.NewRequest("POST", f.url+"/api/v1/keys", strings.NewReader(`{"name":"a"}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+provisioningKey)
	response, err := f.http.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	sent, err := io.ReadAll(response.Body)
	if !errors.Is(err, io.ErrUnexpectedEOF) || int64(len(sent)) >= response.ContentLength || len(sent) == 0 {
		t.Errorf("sent %d of %d bytes, error %v", len(sent), response.ContentLength, err)
	}
}

func TestRetryAfterIsSentAsGiven(t *testing.T) {
	for _, status := range []int{429, 503} {
		for _, retryAfter := range []string{"", "7", "Wed, 12 Aug 2026 12:00:30 GMT", "soon"} {
			f := start(t)
			f.Fail(openroutertest.OpGet, openroutertest.Fault{Kind: openroutertest.KindStatus, Status: status, RetryAfter: retryAfter}, 1)
			a := f.call("GET", "keys/any", "", status)
			if values := a.header.Values("Retry-After"); strings.Join(values, ",") != retryAfter || retryAfter == "" && len(values) != 0 {
				t.Errorf("%d: Retry-After %q, want %q", status, values, retryAfter)
			}
		}
	}
}

func TestFaultsQueueAndLastAsLongAsAsked(t *testing.T) {
	f := start(t)
	fail := func(status, times int) {
		f.Fail(openroutertest.OpList, openroutertest.Fault{Kind: openroutertest.KindStatus, Status: status}, times)
	}
	fail(500, 2)
	fail(502, 1)
	fail(503, 0)
	fail(504, 1) // never reached
	for _, status := range []int{500, 500, 502, 503, 503, 503} {
		f.call("GET", "keys", "", status)
	}
	f.ClearFaults()
	f.call("GET", "keys", "", 200)
}

func TestSlowAnswersRightButLate(t *testing.T) {
	for _, applied := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := openroutertest.New(openroutertest.Options{ProvisioningKey: provisioningKey})
			s.Fail(openroutertest.OpCreate, openroutertest.Fault{Kind: openroutertest.KindSlow, Delay: time.Minute, Applied: applied}, 1)
			started := time.Now()
			var status int
			go func() {
				request, _ := http.NewRequest("POST", "http://standin/api/v1/keys", strings.NewReader(`{"name":"a"}`))
				request.Header.Set("Authorization", "Bearer "+provisioningKey)
				response, err := s.RoundTrip(request)
				if err != nil {
					t.Error(err)
					return
				}
				status = response.StatusCode
			}()
			synctest.Wait()
			if exists := len(s.Keys()) == 1; exists != applied {
				t.Errorf("applied %v: before the delay the key exists: %v", applied, exists)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			if status != http.StatusCreated || len(s.Keys()) != 1 {
				t.Errorf("applied %v: status %d after %v, %d keys", applied, status, time.Since(started), len(s.Keys()))
			}
		})
	}
}

func TestCloseEndsCallsThatWait(t *testing.T) {
	for _, fault := range []openroutertest.Fault{
		{Kind: openroutertest.KindHang},
		{Kind: openroutertest.KindSlow, Delay: time.Hour},
	} {
		f := start(t)
		f.Fail(openroutertest.OpList, fault, 1)
		f.Close()
		f.Close() // harmless
		if _, err := f.send("GET", "keys", provisioningKey, ""); !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", fault.Kind, err)
		}
	}
}

func TestImpossibleFaultsPanic(t *testing.T) {
	ok := openroutertest.Fault{Kind: openroutertest.KindDrop}
	for _, test := range []struct {
		op    openroutertest.Op
		fault openroutertest.Fault
	}{
		{"craete", ok},
		{openroutertest.OpCreate, openroutertest.Fault{}},
		{openroutertest.OpCreate, openroutertest.Fault{Kind: "explode"}},
		{openroutertest.OpCreate, openroutertest.Fault{Kind: openroutertest.KindStatus, Status: 200}},
		{openroutertest.OpCreate, openroutertest.Fault{Kind: openroutertest.KindHTML, Status: 600}},
		{openroutertest.OpCreate, openroutertest.Fault{Kind: openroutertest.KindSlow, Delay: -1}},
		{openroutertest.OpCreate, openroutertest.Fault{Kind: openroutertest.KindAlter}},
		{openroutertest.OpCreate, openroutertest.Fault{Kind: openroutertest.KindAlter, Patch: json.RawMessage(`{`)}},
		{openroutertest.OpCreate, openroutertest.Fault{Kind: openroutertest.KindAlter, Nulls: []string{""}}},
		{openroutertest.OpGet, openroutertest.Fault{Kind: openroutertest.KindStale}},
		{openroutertest.OpKey, openroutertest.Fault{Kind: openroutertest.KindStale, Delay: time.Second}},
		{openroutertest.OpGet, openroutertest.Fault{Kind: openroutertest.KindHuge}},
		{openroutertest.OpGet, openroutertest.Fault{Kind: openroutertest.KindHuge, Bytes: openroutertest.MaxBytes + 1}},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s %+v was accepted", test.op, test.fault)
				}
			}()
			openroutertest.New(openroutertest.Options{}).Fail(test.op, test.fault, 1)
		}()
	}
}

// In process, without a socket, faults look the same.
func TestRoundTripShowsFaultsAsASocketDoes(t *testing.T) {
	for _, test := range []struct {
		fault openroutertest.Fault
		want  error
	}{
		{openroutertest.Fault{Kind: openroutertest.KindDrop, Applied: true}, io.EOF},
		{openroutertest.Fault{Kind: openroutertest.KindCut, Applied: true}, io.ErrUnexpectedEOF},
		{openroutertest.Fault{Kind: openroutertest.KindHang, Applied: true}, context.DeadlineExceeded},
		{openroutertest.Fault{Kind: openroutertest.KindSlow, Applied: true, Delay: time.Hour}, context.DeadlineExceeded},
		{openroutertest.Fault{Kind: openroutertest.KindStatus, Applied: true}, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := openroutertest.New(openroutertest.Options{ProvisioningKey: provisioningKey})
			s.Fail(openroutertest.OpCreate, test.fault, 1)
			f := &fixture{T: t, Server: s, url: "http://standin", http: &http.Client{Transport: s, Timeout: time.Minute}}
			a, err := f.send("POST", "keys", provisioningKey, `{"name":"a"}`)
			if !errors.Is(err, test.want) {
				t.Errorf("%s: status %d, error %v", test.fault.Kind, a.status, err)
			}
			if len(s.Keys()) != 1 {
				t.Errorf("%s: had no effect", test.fault.Kind)
			}
			f.call("GET", "keys", "", http.StatusOK)
		})
	}
}

func TestRoundTripDoesNotSendWhatIsCancelled(t *testing.T) {
	s := openroutertest.New(openroutertest.Options{ProvisioningKey: provisioningKey})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	request, err := http.NewRequestWithContext(ctx, "GET", "http://standin/api/v1/keys", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.RoundTrip(request); !errors.Is(err, context.Canceled) || len(s.CallLog()) != 0 {
		t.Errorf("error %v, calls %v", err, s.Calls())
	}
}
