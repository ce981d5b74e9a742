package admin

import (
	"cmp"
	"fmt"

	"latchkey/internal/adminapi"
	"latchkey/internal/problem"
)

// resealPlace is how far a walk through the users has come, and how many failed.
type resealPlace struct {
	After  []byte
	Failed int
}

// Reseal has the objects of some users seal their keys anew, whose rows show a key
// that is sealed with a previous encryption key. It may be cut off and repeated at
// any point.
//
// D1 lags behind the objects, so a row may be as it was long after its object was
// asked. Hence a walk goes by user id, asks for each one once, and counts only what
// is ahead of it, and what failed: it ends, whatever D1 shows and whoever fails.
func (s Service) Reseal(options adminapi.ResealOptions) (adminapi.ResealReport, error) {
	limit := cmp.Or(options.Limit, adminapi.DefaultPage)
	if limit < 1 || limit > adminapi.MaxPage {
		return adminapi.ResealReport{}, problem.New(problem.InvalidRequest, fmt.Sprintf("limit is a whole number from 1 to %d.", adminapi.MaxPage))
	}
	var place resealPlace
	if options.Cursor != "" {
		if err := decodeCursor(options.Cursor, &place); err != nil {
			return adminapi.ResealReport{}, err
		}
	}
	ids, last, more, err := s.Table.Stale(s.Sealer.StalePrefixes(), place.After, limit)
	if err != nil {
		return adminapi.ResealReport{}, err
	}
	report := adminapi.ResealReport{Failed: []string{}}
	for _, id := range ids {
		if err := s.SealAnew(id); err != nil {
			report.Failed = append(report.Failed, id)
			continue
		}
		report.Resealed++
	}
	place.After, place.Failed = last, place.Failed+len(report.Failed)
	report.Remaining = more + place.Failed
	if more > 0 {
		report.NextCursor = encodeCursor(place)
	}
	return report, nil
}
