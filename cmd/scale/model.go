package main

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"time"

	"latchkey/internal/percentile"
)

// params are what a run of the model is given. A wall that is 0 is not there.
type params struct {
	// What is asked: by so many connections without a pause, or else at random at a
	// mean rate.
	connections int
	rate        float64 // requests a second
	users       int     // who ask in turns, or at random
	kinds       []kind

	openRouter      time.Duration // until a call is answered, at least
	spread          time.Duration // what it takes longer, on average
	openRouterLimit float64       // calls a second that are carried out; the others are refused
	d1              time.Duration // until a call is answered, beside the time that it keeps the writer
	d1Busy          time.Duration // for which a call keeps a database's one writer
	databases       int           // that share the users; at least 1
	d1Interval      time.Duration // between two writes of a user
	isolates        int           // each of them one thread; at least 1
	idle            time.Duration // after which an object leaves memory

	requests int           // the run is over once so many are answered; 0: after the span
	span     time.Duration // of the run
	seed     uint64
}

// kind is a kind of request.
type kind struct {
	name   string
	part   float64       // of all requests
	cpu    time.Duration // of the isolate's thread
	lookup bool          // D1 is asked before OpenRouter is
	calls  int           // of OpenRouter, one after the other
	write  bool          // D1 is written after the answer
}

// result is what a run of the model saw.
type result struct {
	rate     float64 // answers a second
	p50, p99 time.Duration
	calls    float64       // calls to OpenRouter a second
	refused  float64       // of them, the part that was refused
	lag      time.Duration // from a change to D1 having it, at the 99th percentile; of changes that it has, or the age of the oldest that waits
	writer   float64       // part of the time in which the busiest database's writer is busy
	thread   float64       // part of the time in which the busiest isolate's thread is busy
	objects  int           // in the memory of the fullest isolate, at most
}

// event is something that happens at a time of the model.
type event struct {
	at  time.Duration
	seq int // of those at the same time, the first planned comes first
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	last := old[len(old)-1]
	*e = old[:len(old)-1]
	return last
}

// server does one thing at a time, in the order they came.
type server struct{ free, busy time.Duration }

// user is one user's object.
type user struct {
	isolate *isolate
	asked   time.Duration // last
	active  int           // requests and writes under way
	inside  bool          // it is in memory
	written time.Duration // D1, last; below 0: never
	since   time.Duration // the first change that no write has; below 0: there is none
	sent    time.Duration // the first change of the write under way; below 0: there is none
	number  int
}

type isolate struct {
	thread        server
	objects, most int
}

// model is a run.
type model struct {
	params
	now      time.Duration
	planned  events
	seq      int
	random   *rand.Rand
	people   map[int]*user
	isolated []*isolate
	writers  []*server
	tokens   float64 // calls that OpenRouter carries out now
	filled   time.Duration
	turn     int // of the users

	took           []time.Duration
	calls, refused int
	lags           []time.Duration
}

// run runs the model.
func run(p params) result {
	m := &model{params: p, random: rand.New(rand.NewPCG(p.seed, p.seed)), people: map[int]*user{}, tokens: p.openRouterLimit / 10}
	for range max(1, p.isolates) {
		m.isolated = append(m.isolated, &isolate{})
	}
	for range max(1, p.databases) {
		m.writers = append(m.writers, &server{})
	}
	if p.connections == 0 {
		m.after(m.pause(), m.arrive)
	}
	for range p.connections {
		m.after(0, m.ask)
	}
	for len(m.planned) > 0 && m.planned[0].at <= p.span && (p.requests == 0 || len(m.took) < p.requests) {
		next := heap.Pop(&m.planned).(event)
		m.now = next.at
		next.do()
	}
	return m.seen()
}

func (m *model) seen() result {
	seconds := m.now.Seconds()
	r := result{rate: float64(len(m.took)) / seconds, calls: float64(m.calls) / seconds}
	slices.Sort(m.took)
	r.p50, r.p99 = percentile.Of(m.took, 50), percentile.Of(m.took, 99)
	if m.calls > 0 {
		r.refused = float64(m.refused) / float64(m.calls)
	}
	for _, u := range m.people { // what is still to come lags already
		if u.sent >= 0 {
			m.lags = append(m.lags, m.now-u.sent)
		}
	}
	slices.Sort(m.lags)
	r.lag = percentile.Of(m.lags, 99)
	for _, w := range m.writers {
		r.writer = max(r.writer, w.busy.Seconds()/seconds)
	}
	for _, i := range m.isolated {
		r.thread = max(r.thread, i.thread.busy.Seconds()/seconds)
		r.objects = max(r.objects, i.most)
	}
	return r
}

// after plans what happens in a while.
func (m *model) after(pause time.Duration, do func()) {
	m.seq++
	heap.Push(&m.planned, event{m.now + pause, m.seq, do})
}

// serve has a server do something that takes so long, and then goes on.
func (m *model) serve(s *server, takes time.Duration, then func()) {
	s.free = max(s.free, m.now) + takes
	s.busy += max(0, min(s.free, m.span)-(s.free-takes)) // as far as the run goes
	m.after(s.free-m.now, then)
}

// pause is the time to the next request of a mean rate.
func (m *model) pause() time.Duration {
	return time.Duration(m.random.ExpFloat64() / m.rate * float64(time.Second))
}

// arrive is a request that comes whether or not the ones before are answered.
func (m *model) arrive() {
	m.after(m.pause(), m.arrive)
	m.request(m.user(m.random.IntN(m.users)), func() {})
}

// ask is a connection's next request.
func (m *model) ask() {
	if m.turn++; m.requests > 0 && m.turn > m.requests {
		return
	}
	m.request(m.user(m.turn%m.users), m.ask)
}

func (m *model) user(number int) *user {
	u := m.people[number]
	if u == nil {
		u = &user{number: number, isolate: m.isolated[number%len(m.isolated)], written: -1, since: -1, sent: -1}
		m.people[number] = u
	}
	return u
}

// enter and leave keep count of what an object does; it stays in memory for a while
// after the last of it.
func (m *model) enter(u *user) {
	u.active++
	if !u.inside {
		u.inside = true
		u.isolate.objects++
		u.isolate.most = max(u.isolate.most, u.isolate.objects)
	}
}

func (m *model) leave(u *user) {
	u.active--
	u.asked = m.now
	m.after(m.idle, func() {
		if u.active == 0 && u.inside && m.now-u.asked >= m.idle {
			u.inside = false
			u.isolate.objects--
		}
	})
}

func (m *model) pick() kind {
	at := m.random.Float64()
	for _, k := range m.kinds {
		if at -= k.part; at < 0 {
			return k
		}
	}
	return m.kinds[len(m.kinds)-1]
}

// request is a request of a user: half of its work, the calls one after the other,
// and the other half.
func (m *model) request(u *user, answered func()) {
	k, began := m.pick(), m.now
	m.enter(u)
	done := func() {
		m.serve(&u.isolate.thread, k.cpu/2, func() {
			m.took = append(m.took, m.now-began)
			if k.write {
				m.changed(u)
			}
			m.leave(u)
			answered()
		})
	}
	m.serve(&u.isolate.thread, k.cpu/2, func() {
		if k.lookup {
			m.askD1(u, func() { m.askOpenRouter(k.calls, done) })
			return
		}
		m.askOpenRouter(k.calls, done)
	})
}

// askOpenRouter sends calls one after the other. What follows on one that is refused
// is not sent: the user gets the key that there is, or an error.
func (m *model) askOpenRouter(calls int, then func()) {
	if calls == 0 {
		then()
		return
	}
	m.after(m.openRouter+time.Duration(m.random.ExpFloat64()*float64(m.spread)), func() {
		m.calls++
		if !m.allowed() {
			m.refused++
			then()
			return
		}
		m.askOpenRouter(calls-1, then)
	})
}

// allowed is a bucket of tokens that a tenth of a second fills.
func (m *model) allowed() bool {
	if m.openRouterLimit == 0 {
		return true
	}
	m.tokens = min(m.openRouterLimit/10, m.tokens+m.openRouterLimit*(m.now-m.filled).Seconds())
	m.filled = m.now
	if m.tokens < 1 {
		return false
	}
	m.tokens--
	return true
}

func (m *model) askD1(u *user, then func()) {
	m.after(m.d1, func() { m.serve(m.writers[u.number%len(m.writers)], m.d1Busy, then) })
}

// changed has D1 written: at once, or once the interval since the last write is
// over. All changes until then are one write.
func (m *model) changed(u *user) {
	if u.since >= 0 {
		return
	}
	u.since = m.now
	if u.sent < 0 {
		m.after(m.due(u), func() { m.write(u) })
	}
}

// due is how long the next write of a user has to wait.
func (m *model) due(u *user) time.Duration {
	if u.written < 0 {
		return 0
	}
	return max(0, u.written+m.d1Interval-m.now)
}

func (m *model) write(u *user) {
	m.enter(u)
	u.sent, u.since = u.since, -1
	m.askD1(u, func() {
		m.lags = append(m.lags, m.now-u.sent)
		u.sent, u.written = -1, m.now
		m.leave(u)
		if u.since >= 0 {
			m.after(m.due(u), func() { m.write(u) })
		}
	})
}
