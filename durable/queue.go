package durable

import "sync"

// queue does one piece of work at a time, in the order in which they were asked
// for. A request joins one that waits or is being worked on, where one answer does
// for both. The queue knows nothing of the work.
type queue[R, A any] struct {
	joins func(waiting, next R) bool
	// work does what a request asks for, and runs without the lock. done is called
	// once all who waited have the answer: joined of them, while others still wait.
	work func(R) (answer A, done func(joined, waiting int))

	mu      sync.Mutex
	calls   []*call[R, A] // the first one is being worked on
	waiting int           // requests without an answer
}

// call is one piece of work and those who wait for its answer.
type call[R, A any] struct {
	request R
	replies []func(A)
}

// add queues a request. reply is called once, later.
func (q *queue[R, A]) add(request R, reply func(A)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting++
	for _, c := range q.calls {
		if q.joins(c.request, request) {
			c.replies = append(c.replies, reply)
			return
		}
	}
	q.calls = append(q.calls, &call[R, A]{request, []func(A){reply}})
	if len(q.calls) == 1 {
		go q.run()
	}
}

// run works until the queue is empty.
func (q *queue[R, A]) run() {
	for more := true; more; {
		q.mu.Lock()
		c := q.calls[0]
		q.mu.Unlock()

		answer, done := q.work(c.request)

		q.mu.Lock()
		q.calls = q.calls[1:]
		q.waiting -= len(c.replies)
		waiting := q.waiting
		more = len(q.calls) > 0
		q.mu.Unlock()

		for _, reply := range c.replies {
			reply(answer)
		}
		done(len(c.replies), waiting)
	}
}

// length is how many requests have no answer yet.
func (q *queue[R, A]) length() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting
}

// current is the request that is being worked on, if one is.
func (q *queue[R, A]) current() (request R, busy bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.calls) == 0 {
		return request, false
	}
	return q.calls[0].request, true
}
