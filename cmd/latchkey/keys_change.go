package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"latchkey/internal/openrouter"
	"latchkey/internal/oplog"
)

// keyChange is one of disable, enable and delete.
type keyChange struct {
	verb, done, short string
	do                func(account openrouter.Admin, hash string) error
}

// keyChanged is what became of one key.
type keyChanged struct {
	Name  string `json:"name"`
	Hash  string `json:"hash"`
	State string `json:"state"`
}

func disableKey(account openrouter.Admin, hash string) error {
	_, err := account.SetDisabled(hash, true)
	return err
}

func enableKey(account openrouter.Admin, hash string) error {
	_, err := account.SetDisabled(hash, false)
	return err
}

func deleteKey(account openrouter.Admin, hash string) error { return account.Delete(hash) }

func (a *app) keysChangeCommand(change keyChange) *cobra.Command {
	var confirmation confirmation
	var path string // of the manifest
	command := &cobra.Command{
		Use:   change.verb + " HASH…",
		Short: change.short,
		Long: change.short + `.

HASH is the hash of a key, or as many of its first digits as tell it from all
others. All are looked up before the first is touched. On a terminal it names them
and asks; elsewhere it wants --yes.`,
		Args: usage(func(command *cobra.Command, args []string) error {
			if command.Flags().Changed("manifest") && len(args) == 0 {
				return errors.New("--manifest needs the hashes of the keys to delete; `latchkey provision --revoke` deletes all keys of a class")
			}
			return cobra.MinimumNArgs(1)(command, args)
		}),
		RunE: func(command *cobra.Command, args []string) error {
			account, err := a.account(command.Context())
			if err != nil {
				return err
			}
			owns := func(keyName string) bool { return true }
			// An empty FILE is a slip, and must not let every key pass.
			if command.Flags().Changed("manifest") {
				class, err := openManifest(path)
				if err != nil {
					return err
				}
				defer class.Close()
				owns = class.Owns
			}
			asked, err := findKeys(account, args)
			if err != nil {
				return err
			}
			var found, others []openrouter.KeyRecord
			var names []string
			for _, key := range asked {
				if !owns(key.Name) {
					others = append(others, key)
					continue
				}
				found = append(found, key)
				names = append(names, fmt.Sprintf("%s (%s)", key.Name, oplog.ShortHash(key.Hash)))
			}
			if len(found) > 0 {
				question := fmt.Sprintf("%s%s these keys?", strings.ToUpper(change.verb[:1]), change.verb[1:])
				if err := a.confirm(command, confirmation, question, names...); err != nil {
					return err
				}
			}
			results, failed := []keyChanged{}, []error{}
			for _, key := range found {
				// Dying in between leaves the rest as they are; the command can
				// be given again, but for keys that are deleted already.
				if err := change.do(account, key.Hash); err != nil {
					failed = append(failed, fmt.Errorf("%s (%s): %w", key.Name, oplog.ShortHash(key.Hash), err))
					break
				}
				results = append(results, keyChanged{key.Name, key.Hash, change.done})
			}
			for _, key := range others {
				results = append(results, keyChanged{key.Name, key.Hash, "refused"})
				failed = append(failed, fmt.Errorf("the key %s is named %q: it is not of the class in %s, and is left alone", oplog.ShortHash(key.Hash), key.Name, path))
			}
			if len(others) > 0 {
				failed = append(failed, fmt.Errorf("refused: %d of %d keys", len(others), len(asked)))
			}
			return errors.Join(errors.Join(failed...), a.showKeysChanged(results))
		},
	}
	confirmation.register(command)
	if change.verb == "delete" {
		command.Long += `

With --manifest, it deletes only keys whose name is of the class with that
manifest, as provision gives them. A key with another name is left alone, named
and counted as refused, and the exit code is 1.`
		command.Example = `  latchkey keys delete --manifest keys/manifest.jsonl 25db4e39`
		command.Flags().StringVar(&path, "manifest", "", "only keys of the class with this manifest, a `file`")
	}
	return command
}

func (a *app) showKeysChanged(results []keyChanged) error {
	rows := make([][]string, len(results))
	for i, r := range results {
		rows[i] = []string{r.Name, a.hashCell(r.Hash), r.State}
	}
	return a.show(results, []string{"name", "hash", "state"}, rows)
}

// hashPrefix is a hash, or the first digits of one: fewer digits are a slip.
var hashPrefix = regexp.MustCompile(`^[0-9a-f]{4,64}$`)

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
			return nil, err
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
			return nil, err
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
