package account

import (
	"bytes"
	"fmt"
	"math"
	"strconv"

	"github.com/go-faster/jx"
)

// Credits is an exact amount of money in nano-credits: 1 credit is 1 USD at
// OpenRouter, and [Credit] nano-credits. Outside the program an amount is a
// JSON number of credits with up to nine decimals.
type Credits int64

// Credit is one credit.
const Credit Credits = 1_000_000_000

// MaxCredits bounds what an operator may set and what a row of D1 may hold. Up
// to here a float64, which is what OpenRouter and D1 hold, tells two neighbouring
// nano-credits apart.
const MaxCredits = 4_000_000 * Credit

// ParseCredits reads a decimal number of credits, as JSON writes it, and
// rounds it to the nearest nano-credit: OpenRouter's doubles come with more
// decimals than they mean.
func ParseCredits(s string) (Credits, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is no number of credits", s)
	}
	return CreditsOf(f)
}

// CreditsOf rounds a number of credits to the nearest nano-credit. It refuses
// what is no number or beyond [MaxCredits].
func CreditsOf(f float64) (Credits, error) {
	nano := math.Round(f * float64(Credit))
	if !(math.Abs(nano) <= float64(MaxCredits)) { // also false for NaN
		return 0, fmt.Errorf("%v credits are out of range", f)
	}
	return Credits(nano), nil
}

// Float64 is the amount in credits, for a column of type REAL. [CreditsOf]
// gives the same amount back.
func (c Credits) Float64() float64 { return float64(c) / float64(Credit) }

// String is the amount in credits as an exact decimal: 9.4, 0.000000001, -0.5.
func (c Credits) String() string { return string(c.append(nil)) }

func (c Credits) append(b []byte) []byte {
	abs := uint64(c)
	if c < 0 {
		b, abs = append(b, '-'), -abs
	}
	b = strconv.AppendUint(b, abs/uint64(Credit), 10)
	nano := abs % uint64(Credit)
	if nano == 0 {
		return b
	}
	b = append(b, '.')
	for unit := uint64(Credit) / 10; nano > 0; unit /= 10 {
		b = append(b, '0'+byte(nano/unit))
		nano %= unit
	}
	return b
}

// MarshalJSON writes the exact decimal as a JSON number.
func (c Credits) MarshalJSON() ([]byte, error) { return c.append(nil), nil }

// Encode writes what MarshalJSON does.
func (c Credits) Encode(e *jx.Encoder) { e.Raw(c.append(make([]byte, 0, 24))) }

// UnmarshalJSON reads a JSON number of credits. What MarshalJSON wrote is read
// back exactly, beyond [MaxCredits] too: what is stored must stay readable. So
// whoever reads a number from outside checks its bounds.
func (c *Credits) UnmarshalJSON(data []byte) error {
	exact, ok := parseExact(data)
	if !ok {
		var err error
		if exact, err = ParseCredits(string(data)); err != nil {
			return err
		}
	}
	*c = exact
	return nil
}

// parseExact reads a plain decimal with at most nine decimals, and false where
// the text is none or does not fit.
func parseExact(text []byte) (Credits, bool) {
	text, negative := bytes.CutPrefix(text, []byte("-"))
	whole, decimals, point := bytes.Cut(text, []byte("."))
	if len(whole) == 0 || point && len(decimals) == 0 || len(decimals) > 9 {
		return 0, false
	}
	var nano uint64
	for i := range len(whole) + 9 {
		digit := byte('0') // a decimal that is not written
		switch {
		case i < len(whole):
			digit = whole[i]
		case i-len(whole) < len(decimals):
			digit = decimals[i-len(whole)]
		}
		if digit < '0' || digit > '9' || nano > (math.MaxUint64-9)/10 {
			return 0, false
		}
		nano = nano*10 + uint64(digit-'0')
	}
	switch {
	case negative && nano <= -math.MinInt64:
		return Credits(-nano), true
	case !negative && nano <= math.MaxInt64:
		return Credits(nano), true
	}
	return 0, false
}

// Decode reads what UnmarshalJSON does.
func (c *Credits) Decode(d *jx.Decoder) error {
	number, err := d.Raw()
	if err != nil {
		return err
	}
	return c.UnmarshalJSON(number)
}
