package main

import (
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/internal/class"
	"latchkey/internal/httpsonly"
	"latchkey/internal/openrouter"
	"latchkey/internal/openroutertest"
	"latchkey/internal/seal"
)

func TestKeysGolden(t *testing.T) {
	f := newAccount(t, nil)
	hashes := f.someKeys()
	for name, args := range map[string][]string{
		"keys-list":         {"list"},
		"keys-list-all":     {"list", "--all"},
		"keys-list-named":   {"list", "--name", "class"},
		"keys-list-nothing": {"list", "--name", "nobody"},
		"keys-list-sorted":  {"list", "--all", "--sort", "-limit"},
		"keys-show":         {"show", hashes[0][:8]},
		"keys-show-full":    {"show", hashes[2]},
		"keys-show-evil":    {"show", hashes[3]},
	} {
		for form, flag := range map[string][]string{"": nil, "-json": {"--json"}, "-csv": {"--csv"}} {
			golden(t, name+form, f.run(0, slices.Concat([]string{"keys"}, args, flag)...).out)
		}
	}
}

func TestKeysChangeGolden(t *testing.T) {
	for form, flag := range map[string][]string{"": nil, "-json": {"--json"}, "-csv": {"--csv"}} {
		f := newAccount(t, nil)
		hashes := f.someKeys()
		golden(t, "keys-disable"+form, f.run(0, append(flag, "keys", "disable", "--yes", hashes[0], hashes[1][:6])...).out)
		golden(t, "keys-enable"+form, f.run(0, append(flag, "keys", "enable", "--yes", hashes[0])...).out)
		golden(t, "keys-delete"+form, f.run(0, append(flag, "keys", "delete", "--yes", hashes[1], hashes[1][:6], hashes[3])...).out)
		keys := f.Keys()
		if keys[0].Disabled || !keys[1].Deleted || keys[2].Deleted || !keys[3].Deleted {
			t.Errorf("the keys are %+v", keys)
		}
		p := f.runWithKeys(0, append(flag, "keys", "create", "demo", "--limit", "5", "--reset", "monthly", "--expires", "2027-01-31T18:00:00+01:00")...)
		made := f.Keys()[4]
		golden(t, "keys-create"+form, strings.ReplaceAll(p.String(), made.Secret, "KEY"))
		if !strings.Contains(p.out, made.Secret) || made.LimitReset != "monthly" || made.Limit.Credits() != 5 || !made.ExpiresAt.Equal(time.Date(2027, 1, 31, 17, 0, 0, 0, time.UTC)) {
			t.Errorf("created %+v", made)
		}
	}
}

func TestDeleteByAManifestTouchesOnlyKeysOfItsClass(t *testing.T) {
	for name, c := range map[string]struct {
		hashes  []int // of the keys below, each cut to 10 digits
		args    []string
		code    int
		said    []string
		deleted []int
	}{
		"one person's":                  {[]int{1}, []string{"--manifest", "MANIFEST"}, exitOK, nil, []int{1}},
		"two people's, one twice":       {[]int{1, 0, 1}, []string{"--manifest", "MANIFEST"}, exitOK, nil, []int{0, 1}},
		"a user's":                      {[]int{2}, []string{"--manifest", "MANIFEST"}, exitFailed, []string{`is named "latchkey:u_42:op"`, "refused: 1 of 1 keys"}, nil},
		"another class's":               {[]int{3}, []string{"--manifest", "MANIFEST"}, exitFailed, []string{`is named "latchkey-class:`, "refused: 1 of 1 keys"}, nil},
		"a user's between two people's": {[]int{0, 2, 1}, []string{"--manifest", "MANIFEST"}, exitFailed, []string{`is named "latchkey:u_42:op"`, "refused: 1 of 3 keys"}, []int{0, 1}},
		"a name with that of one in it": {[]int{4, 1}, []string{"--manifest", "MANIFEST"}, exitFailed, []string{"refused: 1 of 2 keys"}, []int{1}},
		"no hash":                       {nil, []string{"--manifest", "MANIFEST"}, exitUsage, []string{"provision --revoke"}, nil},
		"no such manifest":              {[]int{1}, []string{"--manifest", "MANIFEST.old"}, exitNotFound, []string{"no such file"}, nil},
		"a manifest without a name":     {[]int{1}, []string{"--manifest", ""}, exitNotFound, []string{"no such file"}, nil},
		"an empty manifest":             {[]int{1}, []string{"--manifest", "MANIFEST.empty"}, exitFailed, []string{"refused: 1 of 1 keys"}, nil},
		"a hash that is gone":           {[]int{1}, []string{"--manifest", "MANIFEST", strings.Repeat("0", 64)}, exitNotFound, []string{"there is no key"}, nil},
		"without a manifest":            {[]int{2}, nil, exitOK, nil, []int{2}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newAccount(t, nil)
			var out string
			for _, n := range []int{1, 2} { // the last one is the manifest's
				var file string
				file, out = aClass(t, n)
				f.run(0, "provision", file, "--limit", "2", "--out", out, "--parallel", "1")
			}
			f.runWithKeys(0, "keys", "create", "latchkey:u_42:op", "--limit", "1")
			f.runWithKeys(0, "keys", "create", "x "+f.Keys()[1].Name, "--limit", "1")
			made := f.Keys()
			keys := []openroutertest.Key{made[1], made[2], made[3], made[0], made[4]}
			manifest := filepath.Join(out, class.ManifestName)
			if err := os.WriteFile(manifest+".empty", nil, 0o600); err != nil {
				t.Fatal(err)
			}
			args := []string{"keys", "delete", "--yes"}
			for _, arg := range c.args {
				args = append(args, strings.Replace(arg, "MANIFEST", manifest, 1))
			}
			for _, i := range c.hashes {
				args = append(args, keys[i].Hash[:10])
			}
			p := f.run(c.code, args...)
			for _, said := range c.said {
				if !strings.Contains(p.stderr, said) {
					t.Errorf("%q is not said: %v", said, p)
				}
			}
			live := f.Live()
			for i, key := range keys {
				is := slices.ContainsFunc(live, func(l openroutertest.Key) bool { return l.Hash == key.Hash })
				if is == slices.Contains(c.deleted, i) {
					t.Errorf("key %d, %s: live is %v", i, key.Name, is)
				}
			}
			if calls := f.Calls()[openroutertest.OpDelete]; calls != len(c.deleted) {
				t.Errorf("%d deletions were sent, want %d", calls, len(c.deleted))
			}
		})
	}
}

func TestDeleteByAManifestGolden(t *testing.T) {
	for form, flag := range map[string][]string{"": nil, "-json": {"--json"}, "-csv": {"--csv"}} {
		f := newAccount(t, nil)
		file, out := aClass(t, 2)
		f.run(0, "provision", file, "--limit", "2", "--out", out, "--parallel", "1")
		f.runWithKeys(0, "keys", "create", "latchkey:u_42:op", "--limit", "1")
		keys := f.Keys()
		args := []string{"keys", "delete", "--yes", "--manifest", filepath.Join(out, class.ManifestName)}
		p := f.run(exitFailed, slices.Concat(args, []string{keys[2].Hash[:8], keys[1].Hash[:8]}, flag)...)
		// Their names are new in every run.
		text := strings.NewReplacer(keys[1].Name, "NAME", filepath.Dir(out), "DIR").Replace(p.String())
		golden(t, "keys-delete-manifest"+form, text)
	}
}

func TestKeysListReadsEveryPage(t *testing.T) {
	f := newAccount(t, nil)
	for range 230 {
		f.runWithKeys(0, "keys", "create", "k", "--limit", "1")
	}
	p := f.run(0, "keys", "list", "--csv")
	if lines := strings.Count(p.out, "\n"); lines != 231 {
		t.Errorf("%d lines", lines)
	}
}

func TestExitCodesOfTheAccountCommands(t *testing.T) {
	f := newAccount(t, nil)
	hashes := f.someKeys()
	for _, c := range []struct {
		args []string
		code int
	}{
		{[]string{"keys", "show", "00000000"}, exitNotFound},
		{[]string{"keys", "show", strings.Repeat("0", 64)}, exitNotFound},
		{[]string{"keys", "disable", "--yes", hashes[0], strings.Repeat("0", 64)}, exitNotFound},
		{[]string{"keys", "show", "xyz"}, exitUsage},
		{[]string{"keys", "show", ""}, exitUsage},
		{[]string{"keys", "show", "abc"}, exitUsage},
		{[]string{"keys", "show", f.Keys()[0].Secret}, exitUsage},
		{[]string{"keys", "show"}, exitUsage},
		{[]string{"keys", "bogus"}, exitUsage},
		// Nobody is there to be asked.
		{[]string{"keys", "delete", hashes[0]}, exitUsage},
		{[]string{"keys", "disable", hashes[0]}, exitUsage},
		{[]string{"keys", "enable", hashes[0]}, exitUsage},
		{[]string{"keys", "delete", "--yes"}, exitUsage},
		{[]string{"keys", "disable", "--manifest", "m", hashes[0]}, exitUsage},
		{[]string{"keys", "create", "x"}, exitUsage},
		{[]string{"keys", "create", "x", "--limit", "1", "--unlimited"}, exitUsage},
		{[]string{"keys", "create", " ", "--limit", "1"}, exitUsage},
		{[]string{"keys", "create", "x", "--limit", "0"}, exitUsage},
		{[]string{"keys", "create", "x", "--limit", "-1"}, exitUsage},
		{[]string{"keys", "create", "x", "--limit", "many"}, exitUsage},
		{[]string{"keys", "create", "x", "--limit", "1", "--reset", "hourly"}, exitUsage},
		{[]string{"keys", "create", "x", "--limit", "1", "--expires", "tomorrow"}, exitUsage},
		{[]string{"keys", "create", "x", "--limit", "1", "--expires", "2026-11-22"}, exitUsage},
		{[]string{"activity", "--by", "moon"}, exitUsage},
		{[]string{"activity", "--date", "2026-11-22"}, exitUsage},
		{[]string{"activity", "--date", "20.11."}, exitUsage},
		{[]string{"credits", "extra"}, exitUsage},
		{[]string{"credits", "--openrouter", "ftp://x"}, exitUsage},
		{[]string{"credits", "--openrouter", "http://openrouter.example/api/v1"}, exitUsage},
		{[]string{"provision"}, exitUsage},
		{[]string{"provision", "no-such-file.csv", "--limit", "1"}, exitUsage},
		{[]string{"provision", "--revoke", "no-such-manifest", "--yes"}, exitNotFound},
	} {
		f.run(c.code, c.args...)
	}
	if len(f.Live()) != 3 || len(f.Keys()) != 4 {
		t.Errorf("something was changed")
	}

	f.env["OPENROUTER_PROVISIONING_API_KEY"] = "sk-or-v1-wrong"
	for _, args := range [][]string{{"keys", "list"}, {"keys", "create", "x", "--limit", "1"}, {"activity"}, {"credits"}, {"keys", "show", hashes[0]}} {
		f.run(exitRefused, args...)
	}
	delete(f.env, "OPENROUTER_PROVISIONING_API_KEY")
	f.run(exitUsage, "keys", "list")
}

func TestBothNamesOfTheManagementKeyAreAccepted(t *testing.T) {
	f := newAccount(t, nil)
	file := filepath.Join(t.TempDir(), "secrets")
	for _, c := range []struct {
		management, provisioning, inFile string
		code                             int
		said                             string
	}{
		{provisioningKey, "", "", exitOK, ""},
		{"", provisioningKey, "", exitOK, ""},
		{provisioningKey, provisioningKey, "", exitOK, ""},
		{"", "", "OPENROUTER_MANAGEMENT_KEY=" + provisioningKey, exitOK, ""},
		{"", "", "OPENROUTER_PROVISIONING_API_KEY='" + provisioningKey + "'", exitOK, ""},
		{"", "", "OPENROUTER_PROVISIONING_API_KEY=\nOPENROUTER_MANAGEMENT_KEY=" + provisioningKey, exitOK, ""},
		{provisioningKey, "", "OPENROUTER_PROVISIONING_API_KEY=" + provisioningKey, exitOK, ""},
		{provisioningKey, "sk-or-v1-another", "", exitUsage, "are different keys"},
		{provisioningKey, "", "OPENROUTER_PROVISIONING_API_KEY=sk-or-v1-another", exitUsage, "are different keys"},
		{"", "", "", exitUsage, "OPENROUTER_MANAGEMENT_KEY (or OPENROUTER_PROVISIONING_API_KEY, its name before) is not set"},
		{"", "", "OPENROUTER_MANAGEMENT_KEY=", exitUsage, "is set neither in the environment nor in"},
		{"", "", strings.Repeat("x", 1<<21), exitUsage, "bytes"},
		{"", "", "export OPENROUTER_MANAGEMENT_KEY=`" + provisioningKey + "` # of the class", exitOK, ""},
	} {
		f.env["OPENROUTER_MANAGEMENT_KEY"], f.env["OPENROUTER_PROVISIONING_API_KEY"] = c.management, c.provisioning
		args := []string{"credits"}
		if c.inFile != "" {
			if err := os.WriteFile(file, []byte(c.inFile+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			args = append(args, "--secrets", file)
		}
		if p := f.run(c.code, args...); !strings.Contains(p.stderr, c.said) || strings.Contains(p.String(), "another") {
			t.Errorf("%+v: %v", c, p)
		}
	}
}

// A shell makes the file that a key is sent to, and mostly lets others read it.
func TestAFileThatOthersCanReadIsWarnedOf(t *testing.T) {
	f := newAccount(t, nil)
	for mode, warned := range map[os.FileMode]bool{0o600: false, 0o400: false, 0o644: true, 0o640: true, 0o602: true} {
		file, err := os.Create(filepath.Join(t.TempDir(), "key"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if err := file.Chmod(mode); err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{"keys create demo --limit 1", "token --user u_42"} {
			var stderr strings.Builder
			env := withBoth(newFixture(t), f)
			a := newApp(file, &stderr, func(name string) string { return env[name] })
			root := a.root()
			root.SetArgs(strings.Fields(line))
			if code := a.fail(root.Execute()); code != exitOK || strings.Contains(stderr.String(), "others can read") != warned {
				t.Errorf("%s, %04o: exit code %d: %s", line, mode, code, &stderr)
			}
		}
	}
}

func TestAnAmbiguousHashIsRefused(t *testing.T) {
	same := strings.Repeat("ab", 30)
	f := newAccount(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"data":[{"hash":"` + same + `0000"},{"hash":"` + same + `1111"}]}`))
		})
	})
	if p := f.run(exitUsage, "keys", "delete", "--yes", same[:8]); !strings.Contains(p.stderr, same+"0000 or "+same+"1111") {
		t.Error(p)
	}
	f.run(0, "keys", "show", same+"00")
}

func TestCallsAreRepeatedWhereThatDoesNoHarm(t *testing.T) {
	f := newAccount(t, nil)
	hashes := f.someKeys()
	f.ResetCalls()
	dropped := openroutertest.Fault{Kind: openroutertest.KindDrop, Applied: true}
	busy := openroutertest.Fault{Kind: openroutertest.KindStatus, Status: http.StatusTooManyRequests, RetryAfter: "1"}
	f.Fail(openroutertest.OpList, busy, 1)
	f.run(0, "keys", "list")
	f.Fail(openroutertest.OpDelete, dropped, 1)
	f.run(0, "keys", "delete", "--yes", hashes[0])
	f.Fail(openroutertest.OpCreate, busy, 1)
	f.runWithKeys(0, "keys", "create", "once", "--limit", "1")

	// A create is not repeated: the key may be there.
	f.Fail(openroutertest.OpCreate, dropped, 1)
	p := f.run(exitUnavailable, "keys", "create", "lost", "--limit", "1")
	if !strings.Contains(p.stderr, `a key "lost" may have been created`) {
		t.Error(p)
	}
	counts := map[string]int{}
	for _, key := range f.Keys() {
		counts[key.Name]++
	}
	if counts["once"] != 1 || counts["lost"] != 1 || f.Calls()[openroutertest.OpCreate] != 3 {
		t.Errorf("%v", f.Keys())
	}

	// A long Retry-After is for a person to decide about.
	busy.RetryAfter = "300"
	f.Fail(openroutertest.OpCredits, busy, 1)
	f.run(exitUnavailable, "credits")
}

func TestActivityAndCreditsGolden(t *testing.T) {
	f := newAccount(t, nil)
	f.runWithKeys(0, "keys", "create", "k", "--unlimited")
	key := f.Keys()[0]
	// Some weeks of use of three endpoints of two models.
	random := rand.New(rand.NewPCG(1, 2))
	for day := -31; day <= 0; day++ {
		f.at(testTime.AddDate(0, 0, day))
		for _, e := range []struct {
			model, provider string
			cost            float64
			chance          int
		}{{"anthropic/claude-sonnet-4.5", "Anthropic", 0.25, 8}, {"anthropic/claude-sonnet-4.5", "Amazon Bedrock", 0.26, 3}, {"openai/gpt-4o-mini", "OpenAI", 0.0005, 10}, {"free/model", "Free", 0, 2}} {
			for range random.IntN(4) {
				if random.IntN(10) < e.chance {
					f.spend(key.Hash, e.cost, e.model, e.provider)
				}
			}
		}
	}
	f.at(testTime)
	for name, args := range map[string][]string{
		"activity":          {"activity"},
		"activity-model":    {"activity", "--by", "model"},
		"activity-provider": {"activity", "--by", "provider"},
		"activity-day":      {"activity", "--by", "day"},
		"activity-date":     {"activity", "--date", "2026-11-20"},
		"activity-empty":    {"activity", "--date", "2026-10-23", "--by", "model"},
		"credits":           {"credits"},
	} {
		for form, flag := range map[string][]string{"": nil, "-json": {"--json"}, "-csv": {"--csv"}} {
			golden(t, name+form, f.run(0, append(args, flag...)...).out)
		}
	}
}

// The hash of a key in a URL looks like a part of a key: the URL is left out, so that
// the reason can be told.
func TestWhyOpenRouterCannotBeReachedIsTold(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	hash := strings.Repeat("0123456789abcdef", 4)
	admin := openrouter.Admin{Client: openrouter.Client{
		BaseURL: nobody, ProvisioningKey: seal.NewSecret(provisioningKey), Transport: accountTransport{t.Context(), httpsonly.Client(nil)},
	}}
	_, read := admin.Record(hash)
	_, activity := admin.KeyActivity(hash)
	for _, err := range []error{read, activity} {
		if err == nil || !strings.Contains(err.Error(), "connection refused") || strings.Contains(err.Error(), hash) {
			t.Errorf("%v", err)
		}
	}
}
