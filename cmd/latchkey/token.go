package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"latchkey/internal/auth"
	"latchkey/internal/problem"
	"latchkey/internal/seal"
)

func (a *app) tokenCommand() *cobra.Command {
	var who auth.Identity
	var life time.Duration
	var issuer, audience string
	command := &cobra.Command{
		Use:                   "token --user ID [--name N] [--email E] [--for 1h] [--issuer I] [--audience A]",
		DisableFlagsInUseLine: true, // Use has them
		Short:                 "Sign a token, for trying things out",
		Long: `Sign a token for a user with JWT_SECRET_CLOUD (HS256), as an application's server
would, and print it. It is good for all that the user may do until it expires:
handle it as a password. --issuer and --audience have to be what JWT_ISSUER and
JWT_AUDIENCE are set to, where they are.`,
		Example: `  latchkey --secrets .dev.vars token --user u_42 --name Ada --email ada@example.org
  TOKEN=$(latchkey --secrets .dev.vars token --user u_42 --for 10m)
  curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:8787/api/users/me`,
		Args: none, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			if who.ID == "" {
				return exit{exitUsage, errors.New("whose token? give --user")}
			}
			if life < time.Second {
				return exit{exitUsage, errors.New("--for is at least 1s")}
			}
			secret, err := a.secret("JWT_SECRET_CLOUD")
			if err != nil {
				return err
			}
			if len(secret.Reveal()) < auth.MinSecretBytes {
				return exit{exitUsage, fmt.Errorf("JWT_SECRET_CLOUD has less than %d bytes: no latchkey accepts that", auth.MinSecretBytes)}
			}
			now := a.now()
			token, err := signToken(secret, who, issuer, audience, now, now.Add(life))
			if err != nil {
				return err
			}
			a.warnOfMode()
			return a.showToken(token, who.ID, now.Add(life))
		},
	}
	flags := command.Flags()
	flags.StringVar(&who.ID, "user", "", "user id (claim uid)")
	flags.StringVar(&who.Name, "name", "", "name (claim username)")
	flags.StringVar(&who.Email, "email", "", "email address (claim email)")
	flags.DurationVar(&life, "for", time.Hour, "how long it is good")
	flags.StringVar(&issuer, "issuer", "", "issuer (claim iss)")
	flags.StringVar(&audience, "audience", "", "audience (claim aud)")
	return command
}

// signToken signs a token that a latchkey with this secret accepts.
func signToken(secret seal.Secret, who auth.Identity, issuer, audience string, now, expires time.Time) (string, error) {
	token, err := auth.Sign(secret, who, issuer, audience, now, expires)
	if err != nil {
		return "", err
	}
	// What the Worker would refuse, an id that is too long say, is told here.
	verifier := auth.New([]seal.Secret{secret}, issuer, audience, func() time.Time { return now })
	if _, err := verifier.Verify("Bearer " + token); err != nil {
		return "", exit{exitUsage, errors.New(problem.From(err).Detail)}
	}
	return token, nil
}

// showToken prints just the token, unless more is asked for.
func (a *app) showToken(token, user string, expires time.Time) error {
	if !a.asJSON && !a.asCSV {
		return a.print(token, false)
	}
	until := expires.UTC().Format(time.RFC3339)
	data := struct {
		Token   string `json:"token"`
		UserID  string `json:"user_id"`
		Expires string `json:"expires_at"`
	}{token, user, until}
	return a.show(data, []string{"token", "user_id", "expires_at"}, [][]string{{token, user, until}})
}
