package durable_test

import (
	"slices"
	"time"

	"latchkey/internal/openroutertest"
)

// This file is how outward calls end.

// lateCall is a call whose client gave up before it is applied.
type lateCall struct {
	due   time.Time
	what  string
	apply func()
}

// fault is how an outward call ends.
type fault string

const (
	well        fault = "well"
	crashBefore fault = "crash before"
	crashAfter  fault = "crash after"
	answerLost  fault = "applied, answer lost" // or timed out and applied
	notSent     fault = "not applied, no answer"
	tooLate     fault = "no answer, applied later"
	refused400  fault = "400"
	refused401  fault = "401"
	refused403  fault = "403"
	status404   fault = "404"
	status429   fault = "429, not applied"
	applied429  fault = "applied, 429"
	status500   fault = "500, not applied"
	applied500  fault = "applied, 500"
	html        fault = "HTML, not applied"
	appliedHTML fault = "applied, HTML"
	cutShort    fault = "applied, cut short"
	gone        fault = "the key was withdrawn before"
)

// fail has every call of a method end in one way, and all others well.
func (w *simulation) fail(method string, f fault) {
	w.decide = func(c *call) fault {
		if c.method == method {
			return f
		}
		return well
	}
}

// faults that an outward call may meet.
var (
	crashes     = []fault{crashBefore, crashAfter}
	callFaults  = []fault{crashBefore, crashAfter, answerLost, notSent, tooLate, refused400, refused401, refused403, status404, status429, applied429, status500, applied500, html, appliedHTML, cutShort, gone}
	d1Faults    = []fault{crashBefore, crashAfter, answerLost, notSent, tooLate}
	standInFail = map[fault]openroutertest.Fault{
		refused400:  {Kind: openroutertest.KindStatus, Status: 400},
		refused401:  {Kind: openroutertest.KindStatus, Status: 401},
		refused403:  {Kind: openroutertest.KindStatus, Status: 403},
		status429:   {Kind: openroutertest.KindStatus, Status: 429, RetryAfter: "7"},
		applied429:  {Kind: openroutertest.KindStatus, Status: 429, Applied: true},
		status500:   {Kind: openroutertest.KindStatus, Status: 500},
		applied500:  {Kind: openroutertest.KindStatus, Status: 500, Applied: true},
		html:        {Kind: openroutertest.KindHTML},
		appliedHTML: {Kind: openroutertest.KindHTML, Status: 200, Applied: true},
		cutShort:    {Kind: openroutertest.KindCut, Applied: true},
	}
)

func faultsOf(method string) []fault {
	switch method {
	case "D1":
		return d1Faults
	case "DELETE", "PATCH": // whose 429 is taken for proof that they had no effect
		return slices.DeleteFunc(slices.Clone(callFaults), func(f fault) bool { return f == applied429 })
	}
	return callFaults
}
