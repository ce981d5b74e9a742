package openroutertest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// routeControl mounts the control surface, which asks for no credentials: serve
// it on loopback only. It is never struck by faults, nor logged as calls.
func (s *Server) routeControl() {
	for pattern, h := range map[string]func(*http.Request) (any, error){
		"POST /_control/faults":       s.controlFail,
		"DELETE /_control/faults":     s.controlClearFaults,
		"GET /_control/calls":         s.controlCalls,
		"DELETE /_control/calls":      s.controlResetCalls,
		"GET /_control/keys":          s.controlKeys,
		"PATCH /_control/keys/{hash}": s.controlUpdateKey,
		"POST /_control/spend":        s.controlSpend,
		"PUT /_control/lag":           s.controlLag,
		"PUT /_control/names":         s.controlNames,
	} {
		s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			v, err := h(r)
			switch {
			case err != nil:
				e := asAPIError(err)
				jsonReply(e.Code, e.answer()).write(w)
			case v == nil:
				w.WriteHeader(http.StatusNoContent)
			default:
				jsonReply(http.StatusOK, v).write(w)
			}
		})
	}
}

// controlFail queues a fault. times: 0 or absent means until cleared.
func (s *Server) controlFail(r *http.Request) (any, error) {
	var body struct {
		Op         Op              `json:"op"`
		Kind       Kind            `json:"kind"`
		Applied    bool            `json:"applied"`
		Status     int             `json:"status"`
		RetryAfter string          `json:"retry_after"`
		DelayMS    int64           `json:"delay_ms"`
		Patch      json.RawMessage `json:"patch"`
		Nulls      []string        `json:"nulls"`
		Bytes      int64           `json:"bytes"`
		Times      int             `json:"times"`
	}
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	fault := Fault{
		Kind:       body.Kind,
		Applied:    body.Applied,
		Status:     body.Status,
		RetryAfter: body.RetryAfter,
		Delay:      time.Duration(body.DelayMS) * time.Millisecond,
		Patch:      body.Patch,
		Nulls:      body.Nulls,
		Bytes:      body.Bytes,
	}
	if err := fault.check(body.Op); err != nil {
		return nil, refuse(http.StatusBadRequest, err.Error())
	}
	s.Fail(body.Op, fault, body.Times)
	return nil, nil
}

func (s *Server) controlClearFaults(*http.Request) (any, error) {
	s.ClearFaults()
	return nil, nil
}

func (s *Server) controlCalls(*http.Request) (any, error) {
	log := s.CallLog()
	return map[string]any{"calls": counted(log), "log": log}, nil
}

func (s *Server) controlResetCalls(*http.Request) (any, error) {
	s.ResetCalls()
	return nil, nil
}

// controlKeys shows every key ever created, without the secrets.
func (s *Server) controlKeys(*http.Request) (any, error) {
	return map[string]any{"keys": s.Keys()}, nil
}

// controlUpdateKey does what an operator would do in the dashboard: disable a
// key, set its limit or, with null, lift it.
func (s *Server) controlUpdateKey(r *http.Request) (any, error) {
	var body struct {
		Disabled *bool             `json:"disabled"`
		Limit    optional[float64] `json:"limit"`
	}
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	if body.Disabled == nil && !body.Limit.present {
		return nil, refuse(http.StatusBadRequest, "give disabled, limit or both")
	}
	hash := r.PathValue("hash")
	if body.Limit.present {
		if err := s.SetLimit(hash, body.Limit.value); err != nil {
			return nil, controlError(err)
		}
	}
	if body.Disabled != nil {
		if err := s.SetDisabled(hash, *body.Disabled); err != nil {
			return nil, controlError(err)
		}
	}
	return nil, nil
}

// controlSpend charges a key, named by its secret or its hash; partial as in
// SpendUpTo.
func (s *Server) controlSpend(r *http.Request) (any, error) {
	var body struct {
		Key      string   `json:"key"`
		Hash     string   `json:"hash"`
		Credits  *float64 `json:"credits"`
		Partial  bool     `json:"partial"`
		Model    string   `json:"model"`
		Provider string   `json:"provider_name"`
	}
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	if (body.Key == "") == (body.Hash == "") {
		return nil, refuse(http.StatusBadRequest, "give either key or hash")
	}
	if body.Credits == nil {
		return nil, refuse(http.StatusBadRequest, "credits is required")
	}
	hash := body.Hash
	if body.Key != "" {
		hash = hashOf(body.Key)
	}
	e := expense{credits: *body.Credits, partial: body.Partial, model: body.Model, provider: body.Provider}
	if _, err := s.spend(hash, e); err != nil {
		return nil, controlError(err)
	}
	return nil, nil
}

// controlLag sets the usage lag.
func (s *Server) controlLag(r *http.Request) (any, error) {
	var body struct {
		MS *int64 `json:"ms"`
	}
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	if body.MS == nil || *body.MS < 0 {
		return nil, refuse(http.StatusBadRequest, "ms must be a whole number from 0")
	}
	s.SetUsageLag(time.Duration(*body.MS) * time.Millisecond)
	return nil, nil
}

// controlNames sets the form of names.
func (s *Server) controlNames(r *http.Request) (any, error) {
	var body struct {
		Form NameForm `json:"form"`
	}
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	if !body.Form.known() {
		return nil, refuse(http.StatusBadRequest, "form must be given or normal")
	}
	s.SetNameForm(body.Form)
	return nil, nil
}

// controlError gives an error of the direct methods its status. An unknown key
// is a 404 here, where the caller is not the key.
func controlError(err error) error {
	if errors.Is(err, ErrKeyNotFound) {
		return refuse(http.StatusNotFound, "key not found")
	}
	return refuse(spendStatus(err), err.Error())
}

// decode reads a body that must be one JSON object without unknown fields.
func decode(r *http.Request, into any) error {
	d := json.NewDecoder(io.LimitReader(r.Body, maxBody))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return refuse(http.StatusBadRequest, fmt.Sprintf("bad body: %v", err))
	}
	if _, err := d.Token(); err != io.EOF {
		return refuse(http.StatusBadRequest, "bad body: more than one JSON value")
	}
	return nil
}
