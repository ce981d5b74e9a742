// Package percentile has one meaning of a percentile for the programs that measure and
// the model that is compared with them.
package percentile

import (
	"math"
	"time"
)

// Of returns the smallest of the sorted values that p percent of them do not exceed, 0
// where there is none. p is above 0, up to 100.
func Of(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[int(math.Ceil(p/100*float64(len(sorted))))-1]
}
