package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"latchkey/internal/account"
	"latchkey/internal/openrouter"
	"latchkey/internal/seal"
)

func (a *app) keysCommand() *cobra.Command {
	keys := &cobra.Command{
		Use:   "keys",
		Short: "List and manage the keys of the OpenRouter account",
		Long: `List and manage the keys of the OpenRouter account, with the management key, which
OpenRouter called provisioning key before.

The keys that a running latchkey hands out are among them, with names that begin
with KEY_NAME_PREFIX ("latchkey:"). Leave those to it, and use "latchkey users" to change them.`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	keys.AddCommand(a.keysListCommand(), a.keysShowCommand(), a.keysCreateCommand(),
		a.keysChangeCommand(keyChange{verb: "disable", done: "disabled", short: "Disable keys: they stay, and nothing can be spent on them"}),
		a.keysChangeCommand(keyChange{verb: "enable", done: "enabled", short: "Enable keys that are disabled"}),
		a.keysChangeCommand(keyChange{verb: "delete", done: "deleted", short: "Delete keys for good"}))
	return keys
}

func (a *app) keysListCommand() *cobra.Command {
	var all bool
	var name string
	list := &cobra.Command{
		Use:   "list",
		Short: "List the keys, newest first",
		Long: `List the keys of the account, newest first: every page of them.

Tables show the first 8 digits of a hash; --json and --csv have all of it.`,
		Example: `  latchkey keys list --all --name class
  latchkey keys list --json | jq -r '.[] | select(.limit == null) | .hash'`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			account, err := a.account(cmd.Context())
			if err != nil {
				return err
			}
			found, rows := []openrouter.KeyRecord{}, [][]string{}
			err = account.EachRecord(all, func(key openrouter.KeyRecord) error {
				if strings.Contains(strings.ToLower(key.Name), strings.ToLower(name)) {
					found, rows = append(found, key), append(rows, a.keyRow(key))
				}
				return nil
			})
			if err != nil {
				return accountError(err)
			}
			return a.show(found, keyHeader, rows)
		},
	}
	list.Flags().BoolVar(&all, "all", false, "disabled and expired keys too")
	list.Flags().StringVar(&name, "name", "", "only keys with this in their `name`, in upper or lower case")
	return list
}

func (a *app) keysShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show HASH",
		Short: "Show one key",
		Long:  "Show one key. HASH is its hash, or as many of its first digits as tell it from all others.",
		Args:  usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			account, err := a.account(cmd.Context())
			if err != nil {
				return err
			}
			found, err := findKeys(account, args)
			if err != nil {
				return err
			}
			key := found[0]
			if a.asJSON || a.asCSV {
				return a.show(key, keyHeader, [][]string{a.keyRow(key)})
			}
			return a.show(key, nil, [][]string{
				{"name", key.Name}, {"label", key.Label}, {"hash", key.Hash},
				{"limit", limitText(key.Limit)}, {"usage", key.Usage.String()},
				{"  today", key.UsageDaily.String()}, {"  this week", key.UsageWeekly.String()}, {"  this month", key.UsageMonthly.String()},
				{"remaining", amountText(key.Remaining, "-")}, {"reset", cmp.Or(key.LimitReset, "never")},
				{"disabled", yesNo(key.Disabled)},
				{"created", timeText(key.CreatedAt)}, {"updated", timeText(key.UpdatedAt)}, {"expires", timeText(key.ExpiresAt)},
			})
		},
	}
}

func (a *app) keysCreateCommand() *cobra.Command {
	var limits keyLimits
	var unlimited bool
	create := &cobra.Command{
		Use:   "create NAME (--limit CREDITS | --unlimited)",
		Short: "Create a key and print it, this once",
		Long: `Create a key and print it. Nobody can show it a second time.

The key alone goes to the standard output, what it may do to the standard error.`,
		Example: `  latchkey keys create demo --limit 5 --reset monthly
  latchkey keys create ci --limit 0.5 --expires 2027-01-31 > ci.key`,
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := limits.key(a.now())
			switch {
			case err != nil:
				return exit{exitUsage, err}
			case strings.TrimSpace(args[0]) == "":
				return exit{exitUsage, errors.New("a key needs a name")}
			case (key.Limit != nil) == unlimited:
				return exit{exitUsage, errors.New("give a --limit in credits, or --unlimited for a key that may spend all there is")}
			}
			key.Name = args[0]
			account, err := a.account(cmd.Context())
			if err != nil {
				return err
			}
			// Dying between this call and the print leaves a key that nobody
			// has. It has no other mark than its name, which need not be unique:
			// that it is not wanted only its owner can tell.
			secret, hash, err := account.Create(key)
			if e := (*openrouter.Error)(nil); errors.As(err, &e) && e.Uncertain {
				return accountError(fmt.Errorf("%w; a key %q may have been created all the same, which nobody can use: look for it with `latchkey keys list --name`, and delete it", err, key.Name))
			}
			if err != nil {
				return accountError(err)
			}
			return a.printNewKey(key, secret, hash)
		},
	}
	limits.register(create)
	create.Flags().BoolVar(&unlimited, "unlimited", false, "no limit: the key may spend all there is")
	return create
}

// printNewKey is one of the few places where a key leaves the program.
func (a *app) printNewKey(key openrouter.NewKey, secret seal.Secret, hash string) error {
	limit := ""
	if key.Limit != nil {
		limit = key.Limit.String()
	}
	expires := ""
	if !key.ExpiresAt.IsZero() {
		expires = key.ExpiresAt.Format(time.RFC3339)
	}
	if a.asJSON || a.asCSV {
		return a.show(struct {
			Name       string           `json:"name"`
			Hash       string           `json:"hash"`
			Limit      *account.Credits `json:"limit"`
			LimitReset string           `json:"limit_reset,omitempty"`
			ExpiresAt  time.Time        `json:"expires_at,omitzero"`
			Key        string           `json:"key"`
		}{key.Name, hash, key.Limit, key.LimitReset, key.ExpiresAt, secret.Reveal()},
			[]string{"name", "hash", "limit", "reset", "expires", "key"},
			[][]string{{key.Name, hash, limit, key.LimitReset, expires, secret.Reveal()}})
	}
	a.say("Created %q, hash %s: limit %s, reset %s, expires %s. The key is not shown again:",
		key.Name, short(hash), cmp.Or(limit, "none"), cmp.Or(key.LimitReset, "never"), cmp.Or(expires, "never"))
	return a.print(secret.Reveal(), false)
}

// keyChange is one of disable, enable and delete.
type keyChange struct{ verb, done, short string }

func (a *app) keysChangeCommand(change keyChange) *cobra.Command {
	var yes bool
	var path string // of the manifest
	cmd := &cobra.Command{
		Use:   change.verb + " HASH…",
		Short: change.short,
		Long: change.short + `.

HASH is the hash of a key, or as many of its first digits as tell it from all
others. All are looked up before the first is touched.`,
		Args: usage(func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("manifest") && len(args) == 0 {
				return errors.New("--manifest needs the hashes of the keys to delete; `latchkey provision --revoke` deletes all keys of a class")
			}
			return cobra.MinimumNArgs(1)(cmd, args)
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			account, err := a.account(cmd.Context())
			if err != nil {
				return err
			}
			owns := func(keyName string) bool { return true }
			// An empty FILE is a slip, and must not let every key pass.
			if cmd.Flags().Changed("manifest") {
				m, err := openManifest(path)
				if err != nil {
					return err
				}
				defer m.close()
				owns = m.owns
			}
			asked, err := findKeys(account, args)
			if err != nil {
				return err
			}
			var found, others []openrouter.KeyRecord
			for _, key := range asked {
				if owns(key.Name) {
					found = append(found, key)
				} else {
					others = append(others, key)
				}
			}
			if change.verb == "delete" && !yes && len(found) > 0 {
				names := make([]string, len(found))
				for i, key := range found {
					names[i] = fmt.Sprintf("%s (%s)", key.Name, short(key.Hash))
				}
				if err := a.confirm(cmd, "Delete for good?", names...); err != nil {
					return err
				}
			}
			type result struct {
				Name  string `json:"name"`
				Hash  string `json:"hash"`
				State string `json:"state"`
			}
			results, rows := []result{}, [][]string{}
			add := func(key openrouter.KeyRecord, state string) {
				results = append(results, result{key.Name, key.Hash, state})
				rows = append(rows, []string{key.Name, a.hashCell(key.Hash), state})
			}
			for _, key := range found {
				// Dying in between leaves the rest as they are; the command can
				// be given again, but for keys that are deleted already.
				switch change.verb {
				case "delete":
					err = account.Delete(key.Hash)
				default:
					_, err = account.SetDisabled(key.Hash, change.verb == "disable")
				}
				if err != nil {
					err = fmt.Errorf("%s (%s): %w", key.Name, short(key.Hash), err)
					break
				}
				add(key, change.done)
			}
			var refused []error
			for _, key := range others {
				add(key, "refused")
				refused = append(refused, fmt.Errorf("the key %s is named %q: it is not of the class in %s, and is left alone", short(key.Hash), key.Name, path))
			}
			if len(refused) > 0 {
				refused = append(refused, fmt.Errorf("refused: %d of %d keys", len(refused), len(asked)))
			}
			return errors.Join(accountError(err), errors.Join(refused...), a.show(results, []string{"name", "hash", "state"}, rows))
		},
	}
	if change.verb == "delete" {
		cmd.Long += `

With --manifest, it deletes only keys whose name is of the class with that
manifest, as provision gives them. A key with another name is left alone, named
and counted as refused, and the exit code is 1.`
		cmd.Example = `  latchkey keys delete --manifest keys/manifest.jsonl 25db4e39`
		cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
		cmd.Flags().StringVar(&path, "manifest", "", "only keys of the class with this manifest, a `file`")
	}
	return cmd
}

// keyLimits are the flags that say what a new key may do.
type keyLimits struct{ limit, reset, expires string }

func (l *keyLimits) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&l.limit, "limit", "", "what may be spent on a key, in `credits` (US dollars)")
	cmd.Flags().StringVar(&l.reset, "reset", "", "count the limit anew: daily, weekly or monthly, at midnight UTC")
	cmd.Flags().StringVar(&l.expires, "expires", "", "`time` from which a key is refused: 2027-01-31 (0:00 UTC) or 2027-01-31T18:00:00+01:00")
	_ = cmd.RegisterFlagCompletionFunc("reset", cobra.FixedCompletions([]string{openrouter.Daily, openrouter.Weekly, openrouter.Monthly}, cobra.ShellCompDirectiveNoFileComp))
}

// key is what the flags ask for. Without --limit, Limit is nil: it is for the
// caller to say what that means.
func (l *keyLimits) key(now time.Time) (openrouter.NewKey, error) {
	key := openrouter.NewKey{LimitReset: l.reset}
	if l.limit != "" {
		limit, err := account.ParseCredits(l.limit)
		if err != nil {
			return key, fmt.Errorf("--limit: %w", err)
		}
		if limit <= 0 {
			return key, fmt.Errorf("--limit %s: nothing could be spent", l.limit)
		}
		key.Limit = &limit
	}
	switch l.reset {
	case "", openrouter.Daily, openrouter.Weekly, openrouter.Monthly:
	default:
		return key, fmt.Errorf("--reset %q is not daily, weekly or monthly", l.reset)
	}
	if l.expires != "" {
		at, err := time.Parse(time.RFC3339, l.expires)
		if err != nil {
			at, err = time.Parse(time.DateOnly, l.expires)
		}
		if err != nil {
			return key, fmt.Errorf("--expires %q is not a time like 2027-01-31 or 2027-01-31T18:00:00Z", l.expires)
		}
		if !at.After(now) {
			return key, fmt.Errorf("--expires %s is past", l.expires)
		}
		key.ExpiresAt = at.UTC().Truncate(time.Second) // all that OpenRouter takes
	}
	return key, nil
}

var keyHeader = []string{"name", "label", "hash", "limit", "usage", "remaining", "reset", "disabled", "created"}

// keyRow is a key under keyHeader: for people, or with --csv for programs, where
// what there is not is empty.
func (a *app) keyRow(key openrouter.KeyRecord) []string {
	if a.asCSV {
		return []string{key.Name, key.Label, key.Hash, amountText(key.Limit, ""), key.Usage.String(), amountText(key.Remaining, ""),
			key.LimitReset, strconv.FormatBool(key.Disabled), key.CreatedAt.UTC().Format(time.RFC3339)}
	}
	return []string{key.Name, key.Label, short(key.Hash), limitText(key.Limit), key.Usage.String(), amountText(key.Remaining, "-"),
		cmp.Or(key.LimitReset, "-"), yesNo(key.Disabled), timeText(key.CreatedAt)}
}

func amountText(amount *openrouter.Amount, none string) string {
	if amount == nil {
		return none
	}
	return amount.String()
}

func limitText(limit *openrouter.Amount) string { return amountText(limit, "unlimited") }

func timeText(at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return at.UTC().Format("2006-01-02 15:04")
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

// hashCell is a hash in a row: for people, or whole with --csv.
func (a *app) hashCell(hash string) string {
	if a.asCSV {
		return hash
	}
	return short(hash)
}

// usage makes the failure of an argument check wrong usage.
func usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return exit{exitUsage, fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())}
		}
		return nil
	}
}

var (
	hashPrefix = regexp.MustCompile(`^[0-9a-f]{4,64}$`) // fewer digits are a slip, rather than a hash
	wholeHash  = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// findKeys finds the keys with these hashes, or with hashes that begin so. It
// finds all of them or fails.
func findKeys(account openrouter.Admin, prefixes []string) ([]openrouter.KeyRecord, error) {
	found := make([]openrouter.KeyRecord, len(prefixes))
	walk := false
	for i, prefix := range prefixes {
		prefix = strings.ToLower(prefix)
		prefixes[i] = prefix
		switch {
		case strings.HasPrefix(prefix, "sk-"):
			// Not repeated: it would show the key once more.
			return nil, exit{exitUsage, errors.New("that is a key, not the hash of one; by now it may stand in your shell's history")}
		case !hashPrefix.MatchString(prefix):
			return nil, exit{exitUsage, fmt.Errorf("%q is no hash: give 4 or more of its hex digits", prefix)}
		case len(prefix) < 64:
			walk = true
			continue
		}
		key, err := account.Record(prefix)
		if openrouter.IsGone(err) {
			return nil, exit{exitNotFound, fmt.Errorf("there is no key with the hash %s", prefix)}
		}
		if err != nil {
			return nil, accountError(err)
		}
		found[i] = key
	}
	if walk {
		err := account.EachRecord(true, func(key openrouter.KeyRecord) error {
			for i, prefix := range prefixes {
				if len(prefix) == 64 || !strings.HasPrefix(key.Hash, prefix) {
					continue
				}
				if other := found[i]; other.Hash != "" {
					return exit{exitUsage, fmt.Errorf("%s could be %s or %s: give more digits", prefix, other.Hash, key.Hash)}
				}
				found[i] = key
			}
			return nil
		})
		if err != nil {
			return nil, accountError(err)
		}
	}
	var unique []openrouter.KeyRecord
	seen := map[string]bool{}
	for i, key := range found {
		if key.Hash == "" {
			return nil, exit{exitNotFound, fmt.Errorf("there is no key whose hash begins with %s", prefixes[i])}
		}
		if !seen[key.Hash] {
			seen[key.Hash], unique = true, append(unique, key)
		}
	}
	return unique, nil
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
	p := &patience{ctx: ctx, tries: accountTries, longest: accountPatience, notice: a.notice}
	return a.accountWith(ctx, p)
}

func (a *app) accountWith(ctx context.Context, p *patience) (openrouter.Admin, error) {
	base, err := url.Parse(a.openrouterURL)
	if err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http" {
		return openrouter.Admin{}, exit{exitUsage, fmt.Errorf("%q is no URL of an API", a.openrouterURL)}
	}
	if base.Scheme == "http" && !onThisMachine(base.Hostname()) {
		return openrouter.Admin{}, exit{exitUsage, fmt.Errorf("%s is not https, and would show the management key to everyone on the way", a.openrouterURL)}
	}
	key, err := a.managementKey()
	if err != nil {
		return openrouter.Admin{}, err
	}
	return openrouter.Admin{
		Client: openrouter.Client{
			BaseURL: strings.TrimRight(a.openrouterURL, "/"), ProvisioningKey: key, Now: a.now,
			Transport: accountTransport{ctx, &http.Client{
				Timeout: accountCallLimit,
				// A redirect would carry the key elsewhere.
				CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			}},
			MaxBodyBytes: accountBodyLimit,
		},
		Wait: p.wait,
	}, nil
}

// accountTransport lets every call end with a context, and after a time.
type accountTransport struct {
	ctx    context.Context
	client *http.Client
}

// RoundTrip implements http.RoundTripper. An http.Client never repeats a POST
// of which anything was sent.
func (t accountTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	return t.client.Do(r.WithContext(t.ctx))
}

// patience decides whether and when a call is repeated. The workers of one
// command share one: where one of them is told to wait, all do.
type patience struct {
	ctx     context.Context // its end ends every wait
	tries   int
	longest time.Duration // that a wait may take
	notice  func(string)

	mu    sync.Mutex
	until time.Time // nothing is to be sent before
}

const (
	firstPause  = 500 * time.Millisecond
	longestWait = 30 * time.Second // where OpenRouter does not say how long
)

var errNoPatience = errors.New("not repeated")

// wait implements openrouter.Admin.Wait: it waits for as long as OpenRouter
// asks, or ever longer where it does not ask.
func (p *patience) wait(e *openrouter.Error, tries int) error {
	pause := e.RetryAfter
	if pause == 0 {
		pause = min(firstPause<<min(tries-1, 10), longestWait)
	}
	if tries >= p.tries || pause > p.longest || p.ctx.Err() != nil {
		return errNoPatience
	}
	p.mu.Lock()
	// Of those who wait already, only one has to tell.
	if until := time.Now().Add(pause); until.After(p.until) {
		if time.Until(p.until) <= 0 && pause >= 2*time.Second {
			p.notice(fmt.Sprintf("%v; trying again in %v", e, pause))
		}
		p.until = until
	}
	p.mu.Unlock()
	return p.hold()
}

// hold waits until calls may be sent again.
func (p *patience) hold() error {
	for {
		p.mu.Lock()
		left := time.Until(p.until)
		p.mu.Unlock()
		if left <= 0 {
			return p.ctx.Err()
		}
		if err := sleep(p.ctx, left); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// accountError gives an error of OpenRouter its exit code.
func accountError(err error) error {
	var e *openrouter.Error
	var with exit
	if err == nil || errors.As(err, &with) || !errors.As(err, &e) {
		return err
	}
	switch {
	case e.Kind == openrouter.Gone:
		return exit{exitNotFound, err}
	case e.Kind == openrouter.Unavailable:
		return exit{exitUnavailable, err}
	case e.Status == http.StatusUnauthorized, e.Status == http.StatusForbidden:
		return exit{exitRefused, fmt.Errorf("%w (is %s a management key of this account?)", err, managementName)}
	}
	return err
}
