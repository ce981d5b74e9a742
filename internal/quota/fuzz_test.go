package quota

import (
	"encoding/binary"
	"math"
	"testing"
	"time"

	"latchkey/internal/account"
)

// FuzzReadings: whatever a key's meter tells, reading after reading and in whatever
// order, no charge is below 0, and all charges together are the most that it ever
// told of usage. So no credit is charged twice, and none is given back.
func FuzzReadings(f *testing.F) {
	f.Add([]byte{})
	for _, seed := range [][]int64{
		{1e9, 1e9, 1e9, 4e8}, {1e9, 4e8, 1e9, 9e8, 1e9, 4e8}, {1e9, -5e8, 2e9, 5e8}, {0, 0, 1e13, -1e13}, {1e9, 1e9, 1, math.MinInt64},
	} {
		var encoded []byte
		for _, n := range seed {
			encoded = binary.BigEndian.AppendUint64(encoded, uint64(n))
		}
		f.Add(encoded)
	}
	f.Fuzz(func(t *testing.T, readings []byte) {
		meter := Meter{Left: account.Credit}
		if len(readings)%2 == 0 {
			meter.Limit = new(account.Credit)
		}
		var charged, most account.Credits
		for ; len(readings) >= 16; readings = readings[16:] {
			limit := bounded(readings)
			left := min(bounded(readings[8:]), limit)
			if meter.Limit == nil && limit != account.Credit {
				limit, left = account.Credit, min(left, account.Credit) // nobody has changed it
			}
			var charge account.Credits
			meter, charge = meter.Read(Meter{&limit, left})
			if charge < 0 {
				t.Fatalf("charged %d", charge)
			}
			charged, most = charged+charge, max(most, limit-left)
			if charged != most || *meter.Limit != limit || meter.Left != limit-most {
				t.Fatalf("%d charged, and %d used; %d left of %d", charged, most, meter.Left, limit)
			}
		}
	})
}

// bounded is a number as OpenRouter's client lets it through: from 0, or below, to
// ten thousand credits.
func bounded(encoded []byte) account.Credits {
	return account.Credits(int64(binary.BigEndian.Uint64(encoded)) % int64(10_000*account.Credit+1))
}

// FuzzPolicy: whatever an operator sets and whatever is left, a new key holds no more
// than was granted for one, under HardCap no more than there is, and a key that may
// cost more than there is does not stay.
func FuzzPolicy(f *testing.F) {
	f.Add(int64(1e9), int64(5e8), int64(1e8), int64(3e8), int64(3e8), int64(0), int64(0))
	f.Add(int64(math.MaxInt64), int64(math.MinInt64), int64(-1), int64(0), int64(math.MinInt64), int64(math.MaxInt64), int64(math.MinInt64))
	f.Fuzz(func(t *testing.T, keyLimit, rotateBelow, renewAt, left, available, renewAfter, elapsed int64) {
		for _, capped := range []bool{false, true} {
			p := Policy{
				KeyLimit: max(account.Credits(keyLimit), 0), RotateBelow: account.Credits(rotateBelow), RenewAt: account.Credits(renewAt),
				RenewAfter: max(time.Duration(renewAfter), 0), HardCap: capped,
			}
			room := account.Credits(available)
			limit := p.NewKeyLimit(room)
			if limit < 0 || limit > p.KeyLimit || capped && limit > max(room, 0) {
				t.Errorf("%+v: a key of %d where %d are available", p, limit, room)
			}
			if capped && p.Keeps(account.Credits(left), room) && account.Credits(left) > room {
				t.Errorf("%+v: a key of %d stays where %d are available", p, left, room)
			}
			if capped && p.Allows(room) && p.Spent(room) {
				t.Errorf("%+v: another key may be had where %d are available", p, room)
			}
			began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			if wait := p.RenewIn(began, began.Add(time.Duration(elapsed))); wait > p.RenewAfter {
				t.Errorf("it waits %v of %v", wait, p.RenewAfter)
			}
		}
	})
}
