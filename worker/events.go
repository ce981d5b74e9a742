package worker

import (
	"net/http"
	"strings"

	"latchkey/durable"
	"latchkey/internal/answer"
	"latchkey/internal/edge"
	"latchkey/internal/problem"
)

const eventsPath = "/api/users/me/events"

// bearerProtocol is what a browser offers together with the token: it can send no
// header of its own. The token is none that a server may select.
const bearerProtocol = "bearer"

// offered returns the token among the protocols that a client offers, and whether it
// offers one that way at all.
func offered(r edge.Request) (token string, bearer bool) {
	if !r.WebSocket {
		return "", false
	}
	for protocol := range strings.SplitSeq(r.Protocols, ",") {
		switch protocol = strings.TrimSpace(protocol); {
		case protocol == bearerProtocol && !bearer:
			bearer = true
		case token == "":
			token = protocol
		}
	}
	return token, bearer
}

// events opens a socket to the user's object.
func events(f *Front, r edge.Request, _ string) (answer.Answer, *target, error) {
	if f.bad != nil {
		return answer.Answer{}, nil, f.bad
	}
	if !r.WebSocket {
		p := problem.New(problem.UpgradeRequired, "This path answers to WebSockets alone.")
		p.Header = [][2]string{{"Upgrade", "websocket"}}
		return answer.Answer{}, nil, p
	}
	if r.Origin != "" && r.Origin != r.Site && !f.listed(r.Origin) {
		return answer.Answer{}, nil, problem.New(problem.OriginNotAllowed, "Pages of this origin may not open a socket.")
	}
	authorization := r.Authorization
	if token, bearer := offered(r); bearer {
		authorization = "Bearer " + token
	}
	who, err := f.verifier.Verify(authorization)
	if err != nil {
		return answer.Answer{}, nil, err
	}
	return answer.Answer{}, toUser(who.ID, durable.Request{Action: durable.Connect, Who: who}), nil
}

// overSocket turns an answer into one that a browser can see. It never learns why an
// upgrade was refused, so the socket is opened, and closed at once. A page of another
// origin is to learn nothing.
func overSocket(a answer.Answer, r edge.Request) answer.Answer {
	_, bearer := offered(r)
	if r.Path != eventsPath || r.Method != http.MethodGet || !bearer || a.Code == problem.OriginNotAllowed {
		return a
	}
	if a.Code != "" {
		a = answer.Answer{Status: 101, Socket: &answer.Socket{Code: durable.CloseBase + a.Status, Reason: a.Code}}
	}
	return a.With("Sec-WebSocket-Protocol", bearerProtocol)
}
