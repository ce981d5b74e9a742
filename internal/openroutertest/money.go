package openroutertest

import (
	"errors"
	"math"
)

// Nano is an amount of money in nano-credits: 1e-9 credits, or 1e-9 US dollars.
type Nano int64

const nanosPerCredit = 1e9

// maxCredits bounds the amounts accepted, well inside what a Nano can hold.
const maxCredits = 1e9

// Credits returns the double nearest to the amount in credits. Up to nine
// million credits its shortest decimal form is the exact amount.
func (n Nano) Credits() float64 { return float64(n) / nanosPerCredit }

// MarshalJSON encodes the amount in credits.
func (n Nano) MarshalJSON() ([]byte, error) { return mustMarshal(n.Credits()), nil }

// nanos rounds credits to the nearest nano-credit. It refuses what is no amount
// of money to set as a limit or to spend: NaN, negative or beyond maxCredits.
func nanos(credits float64) (Nano, error) {
	if !(credits >= 0 && credits <= maxCredits) {
		return 0, errors.New("must be a number of credits from 0 to 1000000000")
	}
	return Nano(math.Round(credits * nanosPerCredit)), nil
}
