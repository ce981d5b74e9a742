package main

import (
	"errors"
	"net/http"

	"latchkey/internal/adminapi/adminclient"
	"latchkey/internal/class"
	"latchkey/internal/openrouter"
)

// The exit codes, for scripts.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitRefused     = 4 // the token or key was refused
	exitUnavailable = 5 // later it may work
)

// exit is an error with an exit code of its own.
type exit struct {
	code int
	error
}

func (e exit) Unwrap() error { return e.error }

// exitCode maps whatever can go wrong to an exit code.
func exitCode(err error) int {
	var e exit
	var refusal *adminclient.Refusal
	var unreached *adminclient.Unreached
	var openRouter *openrouter.Error
	var unsuitable *class.Unsuitable
	var unknown *class.Unknown
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &e):
		return e.code
	case errors.As(err, &refusal):
		return statusCode(refusal.Status, refusal.Unavailable())
	case errors.As(err, &openRouter):
		if openRouter.Kind == openrouter.Gone {
			return exitNotFound
		}
		return statusCode(openRouter.Status, openRouter.Kind == openrouter.Unavailable)
	case errors.As(err, &unreached), errors.Is(err, class.ErrInUse):
		return exitUnavailable
	case errors.As(err, &unsuitable):
		return exitUsage
	case errors.As(err, &unknown):
		return exitNotFound
	}
	return exitFailed
}

func statusCode(status int, unavailable bool) int {
	switch {
	case unavailable:
		return exitUnavailable
	case status == http.StatusNotFound:
		return exitNotFound
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return exitRefused
	}
	return exitFailed
}

// hint says what to look at after an error; "": nothing in particular.
func hint(err error) string {
	var e *openrouter.Error
	if errors.As(err, &e) && exitCode(err) == exitRefused {
		return "Is " + managementName + " a management key of this account?"
	}
	return ""
}
