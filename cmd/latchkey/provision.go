package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"latchkey/internal/openrouter"
)

const (
	// maxParallel keeps a class from being taken for an attack.
	maxParallel = 8
	// classTries is how often a call is made before a class is given up for now.
	classTries = 10
	// classPatience is longer than any Retry-After that a client reports: a
	// class has time.
	classPatience = 2 * time.Hour
)

func (a *app) provisionCommand() *cobra.Command {
	var limits keyLimits
	options := classOptions{}
	var revoke string
	var yes bool
	provision := &cobra.Command{
		Use:   "provision FILE.csv --limit CREDITS",
		Short: "Create a key for everyone in a CSV file, as for a class",
		Long: `Create a key for everyone in a CSV file, as for a class: one file for each
person, and a manifest of all.

The first line of FILE.csv names its columns: name, email and id, or some of them.
The first that is there of id, email and name tells people apart. Other columns
are ignored.

The keys are in the folder --out, in files named after the people, and so is
manifest.jsonl, the journal of it all, which has no keys in it. Nobody else can
read them: the folder has mode 0700, the files 0600.

This can be interrupted at any time, in any way. Run the same command again and it
goes on: whoever has a key keeps it, and a key that was made but did not reach its
file is deleted. More people can be added to FILE.csv; --limit, --reset and
--expires stay what they were. A file may be moved to where it is needed: the
manifest remembers whose key was made.

--revoke MANIFEST deletes all keys of a class; that can be interrupted as well. It
reads each key before, and touches none whose name is not of that class, whatever
hash the manifest has: such a key is named and counted as failed.`,
		Example: `  latchkey provision class.csv --limit 2 --reset weekly --expires 2027-02-01 --out keys/
  latchkey provision class.csv --limit 2 --out keys/ --dry-run
  latchkey provision --revoke keys/manifest.jsonl`,
		Args: usage(func(cmd *cobra.Command, args []string) error {
			if revoke != "" {
				return cobra.NoArgs(cmd, args)
			}
			return cobra.ExactArgs(1)(cmd, args)
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			if options.parallel < 1 || options.parallel > maxParallel {
				return exit{exitUsage, fmt.Errorf("--parallel %d is not from 1 to %d", options.parallel, maxParallel)}
			}
			if options.settle < 0 {
				return exit{exitUsage, fmt.Errorf("--settle %v is negative", options.settle)}
			}
			if revoke != "" {
				return a.revokeClass(cmd, revoke, options, yes)
			}
			key, err := limits.key(a.now())
			if err == nil && key.Limit == nil {
				err = errors.New("give a --limit in credits")
			}
			if err != nil {
				return exit{exitUsage, err}
			}
			return a.provisionClass(cmd.Context(), args[0], key, options)
		},
	}
	limits.register(provision)
	flags := provision.Flags()
	flags.StringVar(&options.out, "out", "keys", "`folder` for the keys and the manifest")
	flags.IntVar(&options.parallel, "parallel", 4, fmt.Sprintf("`number` of keys that are asked for at a time, at most %d", maxParallel))
	flags.DurationVar(&options.settle, "settle", 30*time.Second, "how long a request that was not answered may still take effect at OpenRouter")
	flags.BoolVar(&options.dryRun, "dry-run", false, "say what would be done, and do nothing")
	flags.StringVar(&revoke, "revoke", "", "delete all keys of the class with this `manifest`")
	flags.BoolVar(&yes, "yes", false, "with --revoke: do not ask")
	return provision
}

type classOptions struct {
	out      string
	parallel int
	settle   time.Duration
	dryRun   bool
}

// class makes or deletes the keys of a class. All it knows is in the manifest
// and in the files beside it; this is what it needs while it runs.
type class struct {
	manifest *manifest
	account  openrouter.Admin
	patience *patience
	options  classOptions
	key      openrouter.NewKey // of everybody, but for the name
	now      func() time.Time
	progress *progress

	mu      sync.Mutex           // guards all below
	open    map[string]time.Time // when an attempt that was not answered could have been sent last
	made    int                  // keys, by this run
	orphans int                  // keys that nobody had, deleted by this run
	refused map[string]error     // attempts, by the name of their key, whose hash is another key's
}

func (a *app) newClass(ctx context.Context, m *manifest, options classOptions, total int) (*class, error) {
	c := &class{manifest: m, options: options, now: a.now, progress: a.newProgress(total), open: map[string]time.Time{}, refused: map[string]error{}}
	c.patience = &patience{ctx: ctx, tries: classTries, longest: classPatience, notice: c.progress.say}
	// An interruption ends waiting, and what was not begun. A call that is under
	// way is waited for: it may be making a key.
	account, err := a.accountWith(context.WithoutCancel(ctx), c.patience)
	if err != nil {
		return nil, err
	}
	c.account = account
	// The run before may have sent these until just now.
	for _, attempt := range m.in(keyAsked) {
		c.open[attempt.KeyName] = time.Now()
	}
	return c, nil
}

// classResult is what became of one person's key.
type classResult struct {
	Person string `json:"person"`
	State  string `json:"state"`
	Hash   string `json:"hash,omitempty"`
	File   string `json:"file"`
}

func (a *app) showClass(results []classResult) error {
	rows := make([][]string, len(results))
	for i, r := range results {
		rows[i] = []string{r.Person, r.State, a.hashCell(r.Hash), r.File}
	}
	return a.show(results, []string{"person", "state", "hash", "file"}, rows)
}

func (a *app) provisionClass(ctx context.Context, path string, key openrouter.NewKey, options classOptions) error {
	file, err := os.Open(path)
	if err != nil {
		return exit{exitUsage, err}
	}
	people, identity, err := readPeople(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return exit{exitUsage, errors.Join(fmt.Errorf("%s: nothing was done:", path), err)}
	}

	var m *manifest
	if options.dryRun {
		m, err = peekManifest(options.out)
	} else {
		m, err = openFolder(options.out)
	}
	if err != nil {
		return err
	}
	defer m.close()
	if err := m.suits(people, identity, key); err != nil {
		return exit{exitUsage, err}
	}
	had := map[string]bool{}
	for _, p := range people {
		if attempt, ok := m.of(p.ID); ok && attempt.State == keyLive {
			had[p.ID] = true
			if err := m.checkFile(attempt); err != nil {
				a.notice(fmt.Sprintf("%v; %s has a key, and gets no other", err, p.ID))
			}
		}
	}
	if options.dryRun {
		results := make([]classResult, len(people))
		for i, p := range people {
			results[i] = classResult{Person: p.ID, State: "would make", File: filepath.Join(options.out, p.File)}
			if attempt, _ := m.of(p.ID); had[p.ID] {
				results[i].State, results[i].Hash, results[i].File = "has", attempt.Hash, filepath.Join(options.out, attempt.File)
			}
		}
		if open := len(m.in(keyAsked)); open > 0 {
			a.notice(fmt.Sprintf("%d attempts were not answered: their keys, if they were made, would be deleted, or kept where they are in their files", open))
		}
		return a.showClass(results)
	}

	c, err := a.newClass(ctx, m, options, len(people))
	if err != nil {
		return err
	}
	c.key = key
	if m.class.Class == "" {
		// Dying before this leaves a manifest without a class, to be begun again.
		err := m.add(manifestLine{At: a.now().UTC(), State: classBegun, Class: randomID(4), Identity: identity,
			Limit: key.Limit, Reset: key.LimitReset, ExpiresAt: key.ExpiresAt})
		if err != nil {
			return err
		}
	}
	defer c.stopGently(ctx)()
	c.progress.add(len(had))
	err = c.provide(ctx, people)
	c.progress.end()

	results, missing := make([]classResult, len(people)), 0
	for i, p := range people {
		attempt, _ := m.of(p.ID)
		results[i] = classResult{Person: p.ID, State: "made", Hash: attempt.Hash, File: filepath.Join(options.out, p.File)}
		switch {
		case attempt.State != keyLive:
			missing++
			results[i].State, results[i].Hash = "missing", ""
		case had[p.ID]:
			results[i].State, results[i].File = "had", filepath.Join(options.out, attempt.File)
		}
	}
	sum := fmt.Sprintf("%d of %d people have a key: %d made now, %d before", len(people)-missing, len(people), len(people)-missing-len(had), len(had))
	if c.orphans > 0 {
		sum += fmt.Sprintf("; deleted %d that had reached nobody", c.orphans)
	}
	a.notice(sum)
	if err != nil {
		err = errors.Join(accountError(err), errors.New("The class is not done: run the same command again to go on"))
	}
	return errors.Join(a.showClass(results), err)
}

// peekManifest reads a manifest that may not be there, and does not touch it.
func peekManifest(folder string) (*manifest, error) {
	path := filepath.Join(folder, manifestName)
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		m, _, err := readManifest(path, strings.NewReader(""))
		return m, err
	}
	if err != nil {
		return nil, err
	}
	m, _, err := readManifest(path, bufio.NewReader(file))
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	m.file = file
	return m, nil
}

// suits tells whether these keys can be made under this manifest.
func (m *manifest) suits(people []person, identity string, key openrouter.NewKey) error {
	if m.revoked {
		return fmt.Errorf("the class in %s was revoked: give another folder", m.folder())
	}
	var problems []error
	if begun := m.class; begun.Class != "" {
		if *begun.Limit != *key.Limit || begun.Reset != key.LimitReset || !begun.ExpiresAt.Equal(key.ExpiresAt) {
			expires := "never"
			if !begun.ExpiresAt.IsZero() {
				expires = begun.ExpiresAt.Format(time.RFC3339)
			}
			reset := begun.Reset
			if reset == "" {
				reset = "never"
			}
			problems = append(problems, fmt.Errorf("the class in %s has the limit %v, reset %s, expires %s: keep to that, or give another folder", m.folder(), begun.Limit, reset, expires))
		}
		if begun.Identity != identity {
			problems = append(problems, fmt.Errorf("the people in %s are told apart by %s, and now would be by %s: some could get a second key", m.folder(), begun.Identity, identity))
		}
	}
	emails := map[string]string{} // -> person
	for _, attempt := range m.attempts {
		if attempt.Email != "" {
			emails[strings.ToLower(attempt.Email)] = attempt.Person
		}
	}
	for _, p := range people {
		if before, ok := emails[strings.ToLower(p.Email)]; ok && before != p.ID {
			problems = append(problems, fmt.Errorf("line %d: %q was called %q before, and could get a second key", p.line, p.Email, before))
		}
		if attempt, ok := m.of(p.ID); ok && (attempt.State == keyLive || attempt.State == keyAsked) {
			continue
		}
		if _, err := os.Lstat(filepath.Join(m.folder(), p.File)); err == nil {
			problems = append(problems, fmt.Errorf("line %d: the file %s is there already, and is not of this class", p.line, filepath.Join(m.folder(), p.File)))
		}
	}
	if len(problems) > 0 {
		return told(problems)
	}
	return nil
}

// checkFile tells whether a live key is in its file.
func (m *manifest) checkFile(attempt manifestLine) error {
	hash, err := keyFileHash(m.folder(), attempt.File)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s is gone", filepath.Join(m.folder(), attempt.File))
	case err != nil:
		return err
	case hash != attempt.Hash:
		return fmt.Errorf("%s holds another key", filepath.Join(m.folder(), attempt.File))
	}
	return nil
}

var errInterrupted = errors.New("interrupted")

// provide makes keys until everybody has one, and no attempt is left of which it
// is not known what became of it.
func (c *class) provide(ctx context.Context, people []person) error {
	for failures := 0; ; {
		// No call is under way here, so what is not known of an attempt can be
		// found out, and a new one be made.
		if err := c.lookForOrphans(false); err != nil {
			return c.unlessInterrupted(ctx, err)
		}
		var waiting []person
		for _, p := range people {
			if attempt, _ := c.manifest.of(p.ID); attempt.State != keyLive {
				waiting = append(waiting, p)
			}
		}
		made := c.made
		err := parallel(ctx, c.options.parallel, waiting, c.makeKey)
		if err == nil {
			break
		}
		if c.made > made {
			failures = 0
		}
		failures++
		var e *openrouter.Error
		if !errors.As(err, &e) || e.Kind != openrouter.Unavailable || c.patience.wait(e, failures) != nil {
			return c.unlessInterrupted(ctx, err)
		}
	}
	return c.settle(ctx)
}

// makeKey makes a key for a person who has none, and puts it into its file.
func (c *class) makeKey(p person) error {
	if err := c.patience.hold(); err != nil {
		return err
	}
	// Two names can be one file, where the system does not tell them apart.
	if _, err := os.Lstat(filepath.Join(c.manifest.folder(), p.File)); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is a file already where the key of %s was to be put: %s (%v)", p.ID, p.File, err)
	}
	line := manifestLine{Person: p.ID, Name: p.Name, Email: p.Email, File: p.File,
		KeyName: c.manifest.prefix() + strings.TrimSuffix(p.File, ".key") + ":" + randomID(8)}
	// Dying after this: the next run looks for a key with this name.
	if err := c.become(line, keyAsked); err != nil {
		return err
	}
	key := c.key
	key.Name = line.KeyName
	// Dying after this: there may be a key that nobody has. The next run finds
	// it by its name, deletes it, and makes another.
	secret, hash, err := c.account.Create(key)
	if err != nil {
		if e := (*openrouter.Error)(nil); errors.As(err, &e) && !e.Uncertain {
			return errors.Join(err, c.become(line, keyAbsent))
		}
		c.mu.Lock()
		c.open[line.KeyName] = time.Now()
		c.mu.Unlock()
		return err
	}
	// Dying after this: the next run finds the key in its file.
	if err := writeKeyFile(c.manifest.folder(), p.File, secret); err != nil {
		err = fmt.Errorf("a key cannot be kept, and was given back: %w", err)
		if gone := c.account.Delete(hash); gone != nil {
			return errors.Join(err, gone) // the next run finds it by its name
		}
		return errors.Join(err, c.become(line, keyDeleted))
	}
	line.Hash = hash
	if err := c.become(line, keyLive); err != nil {
		return err
	}
	c.mu.Lock()
	c.made++
	c.mu.Unlock()
	c.progress.add(1)
	return nil
}

// become writes what became of an attempt.
func (c *class) become(line manifestLine, state manifestState) error {
	line.At, line.State = c.now().UTC(), state
	return c.manifest.add(line)
}

// adopt takes keys that are in their file, and not yet so in the manifest, for
// live. While the last attempt for a person is open, nothing but its key can be
// in the file: the file was not there before it.
func (c *class) adopt() error {
	if err := removeTemporary(c.manifest.folder()); err != nil {
		return err
	}
	for _, attempt := range c.manifest.in(keyAsked) {
		if last, _ := c.manifest.of(attempt.Person); last.KeyName != attempt.KeyName {
			continue
		}
		hash, err := keyFileHash(c.manifest.folder(), attempt.File)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		attempt.Hash = hash
		if err := c.become(attempt, keyLive); err != nil {
			return err
		}
		c.progress.add(1)
	}
	return nil
}

// lookForOrphans looks for keys that attempts of this class made and nobody
// has, and deletes them. It is only called while no attempt is under way here.
// At last, when none can take effect any more, an attempt whose key is not found
// counts as without effect.
func (c *class) lookForOrphans(last bool) error {
	if err := c.adopt(); err != nil {
		return err
	}
	if !last && len(c.manifest.in(keyAsked)) == 0 {
		return nil
	}
	seen, orphans := map[string]bool{}, []openrouter.KeyRecord{}
	err := c.account.EachRecord(true, func(key openrouter.KeyRecord) error {
		attempt, ours := c.manifest.named(key.Name)
		switch {
		case !ours:
		case attempt.State == keyLive && attempt.Hash == key.Hash:
			seen[key.Hash] = true
		default:
			orphans = append(orphans, key) // deleted later: the pages would shift
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, key := range orphans {
		// Dying in between leaves the attempt open. It is looked for again, and
		// not found.
		if err := c.account.Delete(key.Hash); err != nil {
			return err
		}
		c.orphans++
		if attempt, _ := c.manifest.named(key.Name); attempt.State == keyAsked {
			if err := c.become(attempt, keyDeleted); err != nil {
				return err
			}
		}
	}
	if !last {
		return nil
	}
	for _, attempt := range c.manifest.in(keyAsked) {
		if err := c.become(attempt, keyAbsent); err != nil {
			return err
		}
	}
	for _, attempt := range c.manifest.in(keyLive) {
		if seen[attempt.Hash] {
			continue
		}
		// The list can miss a key that was made just now.
		_, err := c.account.Record(attempt.Hash)
		if openrouter.IsGone(err) {
			c.progress.say(fmt.Sprintf("the key of %s (%s) is gone from OpenRouter; another can be made with `latchkey keys create`", attempt.Person, short(attempt.Hash)))
		} else if err != nil {
			return err
		}
	}
	return nil
}

// settle waits until no attempt that was not answered can take effect any more,
// and then looks at all keys once more. Dying in between leaves the attempts
// open for the next run.
func (c *class) settle(ctx context.Context) error {
	var until time.Time
	open := c.manifest.in(keyAsked)
	for _, attempt := range open {
		if at := c.open[attempt.KeyName].Add(c.options.settle); at.After(until) {
			until = at
		}
	}
	if left := time.Until(until); left > 0 {
		c.progress.say(fmt.Sprintf("%d attempts were not answered; looking for their keys once more in %v", len(open), left.Round(time.Second)))
		if err := sleep(ctx, left); err != nil {
			return errInterrupted
		}
	}
	return c.unlessInterrupted(ctx, c.lookForOrphans(true))
}

func (c *class) unlessInterrupted(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return errInterrupted
	}
	return err
}

// stopGently lets the first Ctrl-C finish the calls that are under way, and the
// second end the program, which does no harm either. It returns what ends that.
func (c *class) stopGently(ctx context.Context) func() bool {
	return context.AfterFunc(ctx, func() {
		signal.Reset(os.Interrupt, syscall.SIGTERM)
		c.progress.say("stopping once the calls under way are answered; interrupt again to stop at once")
	})
}

// parallel calls f for each item, n at a time. With the first failure, or the
// end of ctx, it begins no more; it returns that once all that were begun ended.
func parallel[T any](ctx context.Context, n int, items []T, f func(T) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	todo := make(chan T)
	var workers sync.WaitGroup
	for range n {
		workers.Go(func() {
			for item := range todo {
				if ctx.Err() != nil {
					continue
				}
				if err := f(item); err != nil {
					stop(err)
				}
			}
		})
	}
	for _, item := range items {
		todo <- item
	}
	close(todo)
	workers.Wait()
	return context.Cause(ctx)
}

// revokeClass deletes all keys of a class.
func (a *app) revokeClass(cmd *cobra.Command, path string, options classOptions, yes bool) error {
	ctx := cmd.Context()
	m, err := openManifest(path)
	if err != nil {
		return err
	}
	defer m.close()
	live, open := m.in(keyLive), m.in(keyAsked)
	if options.dryRun {
		return a.showClass(m.results(live, "would delete"))
	}
	if !yes {
		if err := a.confirm(cmd, fmt.Sprintf("Delete the %d keys of the class in %s for good?", len(live)+len(open), m.folder())); err != nil {
			return err
		}
	}
	c, err := a.newClass(ctx, m, options, len(live)+len(open))
	if err != nil {
		return err
	}
	defer c.stopGently(ctx)()
	err = c.revoke(ctx)
	c.progress.end()
	if err != nil {
		err = errors.Join(accountError(err), errors.New("Not all keys are deleted: run the same command again to go on"))
	}
	var refused []error
	results := m.results(m.in(keyRevoked), "deleted")
	for _, attempt := range m.in(keyLive) {
		state := "still there"
		if why := c.refused[attempt.KeyName]; why != nil {
			state, refused = "refused", append(refused, why)
		}
		results = append(results, m.results([]manifestLine{attempt}, state)...)
	}
	if len(refused) > 0 {
		refused = append(refused, fmt.Errorf("refused: %d of the keys in %s", len(refused), path))
	}
	return errors.Join(a.showClass(results), err, errors.Join(refused...))
}

func (m *manifest) results(attempts []manifestLine, state string) []classResult {
	results := make([]classResult, len(attempts))
	for i, attempt := range attempts {
		results[i] = classResult{attempt.Person, state, attempt.Hash, filepath.Join(m.folder(), attempt.File)}
	}
	return results
}

// revoke deletes the keys of a class, those of open attempts too.
func (c *class) revoke(ctx context.Context) error {
	// Dying after this: no run makes keys any more.
	if !c.manifest.revoked && c.manifest.class.Class != "" {
		if err := c.manifest.add(manifestLine{At: c.now().UTC(), State: classRevoked}); err != nil {
			return err
		}
	}
	if err := c.adopt(); err != nil {
		return err
	}
	err := parallel(ctx, c.options.parallel, c.manifest.in(keyLive), func(attempt manifestLine) error {
		if err := c.patience.hold(); err != nil {
			return err
		}
		key, err := c.account.Record(attempt.Hash)
		switch {
		case openrouter.IsGone(err): // as good as deleted
		case err != nil:
			return err
		case key.Name != attempt.KeyName || !c.manifest.owns(key.Name):
			c.mu.Lock()
			defer c.mu.Unlock()
			c.refused[attempt.KeyName] = fmt.Errorf("%s: the key %s is named %q, not %q: it is not this person's, and is left alone", attempt.Person, short(key.Hash), key.Name, attempt.KeyName)
			return nil
		default:
			// Dying after this: the next run is told that it is gone.
			if err := c.account.Delete(attempt.Hash); err != nil {
				return err
			}
		}
		c.progress.add(1)
		return c.become(attempt, keyRevoked)
	})
	if err != nil {
		return c.unlessInterrupted(ctx, err)
	}
	return c.settle(ctx)
}

// progress is a bar on a terminal, and nothing elsewhere.
type progress struct {
	app   *app
	bar   bool
	total int

	mu   sync.Mutex // guards done, and the terminal
	done int
}

func (a *app) newProgress(total int) *progress {
	return &progress{app: a, bar: isTerminal(a.err) && total > 0, total: total}
}

const clearLine = "\r\x1b[K"

// add counts n more as done.
func (p *progress) add(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	p.draw()
}

// say prints a line, above the bar where there is one.
func (p *progress) say(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar {
		fmt.Fprint(p.app.err, clearLine)
	}
	p.app.notice(text)
	p.draw()
}

// end removes the bar.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar {
		fmt.Fprint(p.app.err, clearLine)
		p.bar = false
	}
}

func (p *progress) draw() {
	if p.bar {
		fmt.Fprint(p.app.err, clearLine+barOf(p.done, p.total))
	}
}

// barOf draws how much is done.
func barOf(done, total int) string {
	const width = 40
	filled := width * min(done, total) / total
	return fmt.Sprintf("[%s%s] %d/%d", strings.Repeat("#", filled), strings.Repeat("-", width-filled), done, total)
}
