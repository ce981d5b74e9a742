//go:build e2e

package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// One data point is written for each operation where the binding is there; that
// nothing happens where it is not, all other tests show.
func TestMetrics(t *testing.T) {
	w := start(t, with{script: "internal/e2e/testdata/metered.mjs"})
	u := newUser(t, w)
	u.provisioned()
	u.expect(u.get(), "kept", 10, 1)
	points := func() map[string][]float64 {
		found := map[string][]float64{}
		for text := range strings.Lines(w.log.String()) {
			var line struct {
				Point struct {
					Indexes []string
					Blobs   []string
					Doubles []float64
				}
			}
			if json.Unmarshal([]byte(text), &line) == nil && len(line.Point.Blobs) == 5 && line.Point.Indexes[0] == u.id {
				found[strings.Join(line.Point.Blobs[:3], " ")] = line.Point.Doubles
			}
		}
		return found
	}
	eventually(t, 10*time.Second, "the data points", func() (string, bool) {
		seen := points()
		text, _ := json.Marshal(seen)
		for _, want := range []string{"key me provisioned", "key me kept", "background d1 done"} {
			if len(seen[want]) != 10 {
				return string(text), false
			}
		}
		return string(text), seen["key me kept"][1] == 200 && seen["key me kept"][2] == 10 && seen["key me kept"][6] == -1
	})
}
