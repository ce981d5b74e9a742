package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
)

// usage is what Cloudflare bills of a load, counted while it ran. Rows of an
// object's storage are those that meter.mjs sees; those of D1 are D1's own count.
type usage struct {
	Answers       int     `json:"answers"` // requests to the Worker, each of which got one
	Objects       int     `json:"objects"` // requests to objects, alarms included
	Seconds       float64 `json:"seconds"` // of objects that handle a request or wait for D1
	ObjectRead    int     `json:"object_read"`
	ObjectWritten int     `json:"object_written"`
	D1Calls       int     `json:"d1_calls"`
	D1Read        int     `json:"d1_read"`
	D1Written     int     `json:"d1_written"`
	Lines         int     `json:"lines"` // of the log
	Bytes         int     `json:"bytes"` // of these lines, without what the runtime adds
}

// span is when an object had something to do, in milliseconds.
type span struct{ from, to int64 }

// metered returns what a log tells from an offset on, for so many answers.
func metered(path string, offset int64, answers int) (usage, error) {
	u := usage{Answers: answers}
	log, err := os.Open(path)
	if err != nil {
		return u, err
	}
	defer log.Close()
	if _, err := log.Seek(offset, io.SeekStart); err != nil {
		return u, err
	}
	active := map[string][]span{} // by user
	lines := json.NewDecoder(log)
	for {
		var line struct{ Level, Message string }
		if err := lines.Decode(&line); err == io.EOF {
			break
		} else if err != nil {
			return u, fmt.Errorf("the log %s: %w", path, err)
		}
		var event struct {
			Meter         string
			User          string
			From, To      int64
			Read, Written int
		}
		if json.Unmarshal([]byte(line.Message), &event) != nil {
			continue // workerd's own
		}
		switch event.Meter {
		case "":
			u.Lines++
			u.Bytes += len(line.Message)
		case "object":
			u.Objects++
			active[event.User] = append(active[event.User], span{event.From, event.To})
		case "storage":
			u.ObjectRead += event.Read
			u.ObjectWritten += event.Written
		case "d1":
			u.D1Calls++
			u.D1Read += event.Read
			u.D1Written += event.Written
			active[event.User] = append(active[event.User], span{event.From, event.To})
		default:
			return u, fmt.Errorf("the log %s: an unknown meter %q", path, event.Meter)
		}
	}
	for _, spans := range active {
		u.Seconds += float64(union(spans)) / 1000
	}
	return u, nil
}

// union is how long at least one of the spans lasts.
func union(spans []span) (total int64) {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var until int64
	for i, s := range spans {
		if i == 0 || s.from > until {
			until = s.from
		}
		if s.to > until {
			total += s.to - until
			until = s.to
		}
	}
	return total
}

// add adds what another load used.
func (u *usage) add(v usage) {
	u.Answers += v.Answers
	u.Objects += v.Objects
	u.Seconds += v.Seconds
	u.ObjectRead += v.ObjectRead
	u.ObjectWritten += v.ObjectWritten
	u.D1Calls += v.D1Calls
	u.D1Read += v.D1Read
	u.D1Written += v.D1Written
	u.Lines += v.Lines
	u.Bytes += v.Bytes
}

// per1000 is a count for each thousand answers.
func (u usage) per1000(count float64) float64 { return count * 1000 / float64(u.Answers) }
