package page

import (
	"strings"
	"testing"

	"latchkey/internal/answer"
)

func policyOf(t *testing.T, a answer.Answer) string {
	t.Helper()
	for _, h := range a.Header {
		if h[0] == "Content-Security-Policy" {
			return h[1]
		}
	}
	t.Fatal("there is no policy")
	return ""
}

func TestThePageIsOneDocument(t *testing.T) {
	body := Answer(nil).Body
	for _, want := range []string{"<style>" + style + "</style>", `<script type="module">` + script + "</script>", originsPlace} {
		if strings.Count(body, want) != 1 {
			t.Errorf("%.40q… is not there once", want)
		}
	}
	for _, place := range []string{stylePlace, scriptPlace} {
		if strings.Contains(body, place) {
			t.Errorf("%q is still there", place)
		}
	}
	// Either would end the element that it stands in.
	if strings.Contains(style, "</style") || strings.Contains(script, "</script") {
		t.Error("the style or the script ends itself")
	}
}

func TestThePolicyAllowsNothingElse(t *testing.T) {
	policy := policyOf(t, Answer(nil))
	for _, want := range []string{"default-src 'none'", "script-src " + hashOf(script), "style-src " + hashOf(style)} {
		if !strings.Contains(policy, want+"; ") {
			t.Errorf("%q is not in %q", want, policy)
		}
	}
	if strings.Contains(policy, "unsafe") {
		t.Errorf("the policy is %q", policy)
	}
}

func TestOnlyListedOriginsMayFrameThePage(t *testing.T) {
	for _, test := range []struct {
		origins           []string
		ancestors, inPage string
	}{
		{nil, "; frame-ancestors 'none'", `data-allowed-origins=""`},
		{
			[]string{"https://app.example.org", "http://localhost:5173"},
			"; frame-ancestors https://app.example.org http://localhost:5173",
			`data-allowed-origins="https://app.example.org http://localhost:5173"`,
		},
		{[]string{`https://a"><script>`}, `; frame-ancestors https://a"><script>`, `data-allowed-origins="https://a&#34;&gt;&lt;script&gt;"`},
	} {
		a := Answer(test.origins)
		if policy := policyOf(t, a); !strings.HasSuffix(policy, test.ancestors) {
			t.Errorf("%q: the policy is %q", test.origins, policy)
		}
		if !strings.Contains(a.Body, test.inPage) {
			t.Errorf("%q: the page does not hold %s", test.origins, test.inPage)
		}
	}
}
