// Package openroutertest is a stand-in for OpenRouter's key management API.
//
// It serves what a client of that API can see: the keys with their limits and
// usage, guardrails, activity and credits under /api/v1, an inference endpoint that spends
// and enforces the limits, and, under /_control/, the means to inject faults
// and to look behind the API from another process.
//
// It promises:
//
//   - Money is kept in integer nano-credits and answered as the shortest JSON
//     number with exactly that value, so nothing drifts.
//   - It keeps no time of its own: Options.Now decides what has expired, which
//     limit window is open and which usage has become visible. Only a slow
//     fault, and a stream with pauses, wait on a timer.
//   - With Options.Now and Options.Rand given, the same calls in the same order
//     get the same answers.
//   - It starts no goroutines, and every method is safe for concurrent use.
//
// Use it through a socket (httptest.NewServer(s)) or, where sockets are in the
// way, as an http.RoundTripper: http.Client{Transport: s}.
//
// # API
//
// All but the last two are for the management key, which is Options.ProvisioningKey.
// These two are for the keys that were made with it, and for pages of any origin.
//
//	POST   /api/v1/keys                              {"name","limit",…}: makes a key
//	GET    /api/v1/keys                              ?offset, include_disabled, workspace_id: a page of them
//	GET    /api/v1/keys/{hash}                       reads one; PATCH changes it, DELETE deletes it
//	GET    /api/v1/guardrails                        a page of them; POST makes one
//	GET    /api/v1/guardrails/{id}                   reads one; PATCH changes it, DELETE deletes it
//	POST   /api/v1/guardrails/{id}/assignments/keys  puts keys under one; GET lists them
//	GET    /api/v1/activity                          ?date, api_key_hash: what was spent, by day, model and key
//	GET    /api/v1/credits                           what the account has, and has spent
//	GET    /api/v1/key                               the calling key: its limit, and what is left of it
//	POST   /api/v1/chat/completions                  {"model","messages","stream",…}: spends credits
//
// # Completions
//
// POST /api/v1/chat/completions charges the key and answers "ok". With "stream": true it
// sends server-sent events as OpenRouter does, and charges for as much as was sent. A
// client names, beside OpenRouter's own fields:
//
//	cost           credits that a whole completion costs; 0.01
//	provider_name  shown in the activity; OpenAI
//	chunks         of a stream; 4
//	pause_ms       between two chunks of a stream; 0
//
// It refuses a key that is deleted, disabled or expired with 401, and one that is used up
// with 403, in OpenRouter's words.
//
// # Faults
//
// A call fails in one of these ways ([Fault], [Server.Fail]):
//
//	status  a JSON error: a 404 by mistake, a 429, an outage
//	html    a page of HTML
//	drop    no answer: the connection is closed
//	cut     half an answer
//	hang    no answer as long as the client waits
//	slow    the right answer, late
//	alter   the right answer with other values: another name, a wild number
//	replay  the answer to an earlier call of the same operation
//	stale   a reading of a replica that lags
//	huge    the right answer with very much padding
//
// # Control surface
//
// It asks for no credentials. Bodies are JSON objects; an unknown field, like
// any other mistake, is a 400 that says what is wrong. Without anything to show,
// the answer is 204.
//
//	POST   /_control/faults       {"op","kind","applied","status","retry_after","delay_ms","patch","nulls","bytes","times"}
//	DELETE /_control/faults
//	GET    /_control/calls        {"calls":{op:count},"log":[Call…]}
//	DELETE /_control/calls
//	GET    /_control/keys         {"keys":[Key…]}, without the secrets
//	PATCH  /_control/keys/{hash}  {"disabled","limit"}
//	POST   /_control/spend        {"key" or "hash","credits","partial","model","provider_name"}
//	PUT    /_control/lag          {"ms"}
//	PUT    /_control/names        {"form": "given" or "normal"}
package openroutertest
