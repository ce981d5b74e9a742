package openroutertest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

const (
	defaultCost   = 0.01 // credits
	defaultChunks = 4
	maxChunks     = 1000
	maxPause      = time.Minute // between two chunks
)

// A completion is what an inference call that was admitted answers.
type completion struct {
	k      *key
	charge charge // of all of it
	id     string
	chunks int           // how many a stream of it has
	pause  time.Duration // between two of them
	extra  bool          // Options.ExtraFields
}

// chat answers an inference call with a tiny completion, whole or streamed, and charges
// it. Beside OpenRouter's own fields the body may name the cost in credits, the provider
// and, of a stream, the number of chunks and the milliseconds between two.
func (s *Server) chat(x *exchange) (any, error) {
	token := bearer(x.r)
	if token == "" {
		return nil, refuse(http.StatusUnauthorized, "No auth credentials found")
	}
	k := s.find(hashOf(token))
	if k == nil {
		return nil, refuse(http.StatusUnauthorized, ErrKeyNotFound.Error())
	}
	x.call.Hash = k.Hash
	var body struct {
		Model    string   `json:"model"`
		Stream   bool     `json:"stream"`
		Provider string   `json:"provider_name"`
		Cost     *float64 `json:"cost"`
		Chunks   *int     `json:"chunks"`
		PauseMS  int64    `json:"pause_ms"`
	}
	if err := json.Unmarshal(x.body, &body); err != nil {
		return nil, refuse(http.StatusBadRequest, "Invalid body: "+err.Error())
	}
	if body.Cost == nil {
		body.Cost = new(defaultCost)
	}
	if body.Chunks == nil {
		body.Chunks = new(defaultChunks)
	}
	if *body.Chunks < 1 || *body.Chunks > maxChunks {
		return nil, invalid("chunks", fmt.Sprintf("must be from 1 to %d", maxChunks))
	}
	if body.PauseMS < 0 || body.PauseMS > maxPause.Milliseconds() {
		return nil, invalid("pause_ms", fmt.Sprintf("must be from 0 to %d", maxPause.Milliseconds()))
	}
	c, err := s.admit(k, expense{credits: *body.Cost, model: body.Model, provider: body.Provider})
	if err != nil {
		return nil, refuse(spendStatus(err), err.Error())
	}
	s.chats++
	done := &completion{
		k: k, charge: c, id: fmt.Sprintf("gen-%d-%d", c.at.Unix(), s.chats),
		chunks: *body.Chunks, pause: time.Duration(body.PauseMS) * time.Millisecond, extra: s.o.ExtraFields,
	}
	if body.Stream {
		return done, nil
	}
	s.book(k, c)
	return map[string]any{
		"id":                 done.id,
		"object":             "chat.completion",
		"created":            c.at.Unix(),
		"model":              c.model,
		"provider":           c.provider,
		"system_fingerprint": nil,
		"choices": []any{map[string]any{
			"index":         0,
			"finish_reason": "stop",
			"message":       map[string]any{"role": "assistant", "content": "ok"},
		}},
		"usage": c.usage(),
	}, nil
}

// usage is a charge as completions tell it.
func (c charge) usage() map[string]any {
	return map[string]any{
		"prompt_tokens":     c.promptTokens,
		"completion_tokens": c.completionTokens,
		"total_tokens":      c.promptTokens + c.completionTokens,
		"cost":              c.amount,
	}
}

// part is what the first chunks of a stream come to, each of which is a token.
func (c *completion) part(chunks int) charge {
	part := c.charge
	part.amount = part.amount * Nano(chunks) / Nano(c.chunks)
	part.completionTokens = chunks
	return part
}

// stream sends a completion in chunks, as server-sent events, and charges the key for
// what was sent: all of it before the client is told so, or the part that a client got
// that left early. A key that ends meanwhile, as one that is deleted, ends no stream.
func (s *Server) stream(w http.ResponseWriter, x *exchange, c *completion) {
	sent, booked := 0, false
	book := func() {
		if booked || sent == 0 {
			return
		}
		booked = true
		s.mu.Lock()
		defer s.mu.Unlock()
		part := c.part(sent)
		part.at = s.o.Now().UTC()
		s.book(c.k, part)
	}
	defer book()

	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	w.WriteHeader(http.StatusOK)
	send := func(events ...string) {
		_, err := w.Write([]byte(strings.Join(events, "")))
		// A writer that cannot flush has passed it on already.
		_ = http.NewResponseController(w).Flush()
		if err != nil {
			panic(http.ErrAbortHandler) // the client has left
		}
	}
	send(processing)
	for sent < c.chunks {
		if sent > 0 && c.pause > 0 {
			s.wait(x.r.Context(), c.pause)
		}
		send(c.chunk(sent))
		sent++
	}
	book()
	send(c.ending()...)
}

// inOnePiece is a whole stream, charged. Server.mu is held.
func (s *Server) inOnePiece(c *completion) reply {
	s.book(c.k, c.part(c.chunks))
	events := []string{processing}
	for i := range c.chunks {
		events = append(events, c.chunk(i))
	}
	events = append(events, c.ending()...)
	return reply{status: http.StatusOK, contentType: "text/event-stream", body: []byte(strings.Join(events, ""))}
}

// processing is the comment that OpenRouter sends while there is nothing to send.
const processing = ": OPENROUTER PROCESSING\n\n"

// chunk is the nth chunk with content.
func (c *completion) chunk(n int) string {
	content := "ok"
	if n > 0 {
		content = " ok"
	}
	return c.event(nil, map[string]any{
		"index": 0, "delta": map[string]any{"role": "assistant", "content": content}, "finish_reason": nil, "native_finish_reason": nil,
	})
}

// ending is what follows on the content: why it ends, what it cost, and that this is all.
func (c *completion) ending() []string {
	return []string{
		c.event(nil, map[string]any{
			"index": 0, "delta": map[string]any{"role": "assistant", "content": ""}, "finish_reason": "stop", "native_finish_reason": "stop",
		}),
		c.event(c.part(c.chunks).usage()),
		"data: [DONE]\n\n",
	}
}

// event is a chunk with these choices, and with usage unless that is nil.
func (c *completion) event(usage map[string]any, choices ...any) string {
	chunk := map[string]any{
		"id":       c.id,
		"object":   "chat.completion.chunk",
		"created":  c.charge.at.Unix(),
		"model":    c.charge.model,
		"provider": c.charge.provider,
		"choices":  append([]any{}, choices...), // [] where there are none
	}
	if usage != nil {
		chunk["usage"] = usage
	}
	document := mustMarshal(chunk)
	if c.extra {
		document = withUnknownFields(document)
	}
	return "data: " + string(document) + "\n\n"
}
