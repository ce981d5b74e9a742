package main

import (
	"cmp"
	"fmt"

	"latchkey/internal/devvars"
	"latchkey/internal/seal"
)

// The names of the secret for OpenRouter's key API: what it is called now, and
// what it was called before.
const (
	managementName   = "OPENROUTER_MANAGEMENT_KEY"
	provisioningName = "OPENROUTER_PROVISIONING_API_KEY"
)

// secret returns a secret from the environment, or else from the secrets file.
func (a *app) secret(name string) (seal.Secret, error) {
	value, err := a.lookup(name)
	if err == nil && value == "" {
		err = a.notSet(name)
	}
	return seal.NewSecret(value), err
}

// managementKey returns the secret for OpenRouter's key API under either name.
func (a *app) managementKey() (seal.Secret, error) {
	key, err := a.lookup(managementName)
	if err != nil {
		return seal.Secret{}, err
	}
	before, err := a.lookup(provisioningName)
	switch {
	case err != nil:
	case key != "" && before != "" && key != before:
		err = exit{exitUsage, fmt.Errorf("%s and %s are different keys: they are two names of one, set one of them", managementName, provisioningName)}
	case key == "" && before == "":
		err = a.notSet(managementName + " (or " + provisioningName + ", its name before)")
	}
	return seal.NewSecret(cmp.Or(key, before)), err
}

func (a *app) notSet(name string) error {
	if a.secretsFile == "" {
		return exit{exitUsage, fmt.Errorf("%s is not set: put it into the environment, or into a file for --secrets", name)}
	}
	return exit{exitUsage, fmt.Errorf("%s is set neither in the environment nor in %s", name, a.secretsFile)}
}

// lookup returns what a name stands for in the environment, or else in the
// secrets file; "" where it is not set.
func (a *app) lookup(name string) (string, error) {
	if value := a.getenv(name); value != "" || a.secretsFile == "" {
		return value, nil
	}
	set, err := devvars.Read(a.secretsFile)
	if err != nil {
		return "", exit{exitUsage, fmt.Errorf("--secrets (or LATCHKEY_SECRETS): %w", err)}
	}
	return set[name], nil
}
