package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"latchkey/internal/adminapi/adminclient"
	"latchkey/internal/backoff"
	"latchkey/internal/httpsonly"
	"latchkey/internal/openrouter"
	"latchkey/internal/settings"
)

// admin returns a client of the latchkey that the flags name.
func (a *app) admin() (*adminclient.Client, error) {
	proxy, err := a.proxy()
	if err != nil {
		return nil, err
	}
	token, err := a.secret("ADMIN_TOKEN")
	if err != nil {
		return nil, err
	}
	client, err := adminclient.New(a.adminURL, token, proxy)
	if err != nil {
		return nil, exit{exitUsage, err}
	}
	return client, nil
}

const (
	// accountCallLimit is how long one call of OpenRouter may take, its body
	// included.
	accountCallLimit = 30 * time.Second
	// accountBodyLimit has room for the activity of an account that uses every
	// endpoint there is, every day.
	accountBodyLimit = 64 << 20
	// accountTries is how often a call is made before it is given up.
	accountTries = 5
	// accountPatience is how long a person waits for a command to go on. A
	// longer Retry-After is for them to decide about.
	accountPatience = time.Minute
)

// account returns a client of the OpenRouter account whose calls end with ctx.
func (a *app) account(ctx context.Context) (openrouter.Admin, error) {
	return a.accountWith(ctx, &backoff.Backoff{Ctx: ctx, Tries: accountTries, Longest: accountPatience, Say: a.notice})
}

func (a *app) accountWith(ctx context.Context, b *backoff.Backoff) (openrouter.Admin, error) {
	base, err := httpsonly.Parse(a.openrouterURL, "management key")
	if err != nil {
		return openrouter.Admin{}, exit{exitUsage, err}
	}
	proxy, err := a.proxy()
	if err != nil {
		return openrouter.Admin{}, err
	}
	key, err := a.managementKey()
	if err != nil {
		return openrouter.Admin{}, err
	}
	if settings.IsExample(key.Reveal()) && !httpsonly.Local(base) {
		return openrouter.Admin{}, exit{exitUsage, fmt.Errorf("%s is an example, which everybody knows: set one of your own, or for the stand-in give --openrouter http://127.0.0.1:8788/api/v1", managementName)}
	}
	client := httpsonly.Client(proxy)
	client.Timeout = accountCallLimit
	return openrouter.Admin{
		Client: openrouter.Client{
			BaseURL: strings.TrimRight(base.String(), "/"), ProvisioningKey: key, Now: a.now,
			Transport: accountTransport{ctx, client}, MaxBodyBytes: accountBodyLimit,
		},
		Wait: b.Wait,
	}, nil
}

// accountTransport lets every call end with a context.
type accountTransport struct {
	ctx    context.Context
	client *http.Client
}

// RoundTrip implements http.RoundTripper. An http.Client never repeats a POST
// of which anything was sent.
func (t accountTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.client.Do(r.WithContext(t.ctx))
	// Its URL may hold a key's hash, which looks like a key: all of the error would be withheld.
	if inner, ok := errors.AsType[*url.Error](err); ok {
		err = inner.Err
	}
	return response, err
}

// proxy returns the proxy that was asked for, or nil.
func (a *app) proxy() (*url.URL, error) {
	if a.proxyURL == "" {
		return nil, nil
	}
	proxy, err := url.Parse(a.proxyURL)
	if err != nil || proxy.Host == "" {
		return nil, exit{exitUsage, fmt.Errorf("--proxy is no URL of a proxy, as http://proxy.example:3128")}
	}
	return proxy, nil
}
