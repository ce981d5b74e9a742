package main

import (
	"fmt"
	"strings"
	"sync"
)

// progress is a bar on a terminal that can draw one, and nothing elsewhere.
type progress struct {
	app   *app
	bar   bool
	total int

	mu   sync.Mutex // guards done, and the terminal
	done int
}

func (a *app) newProgress(total int) *progress {
	return &progress{app: a, bar: isTerminal(a.err) && !a.dumb() && total > 0, total: total}
}

const clearLine = "\r\x1b[K"

// add counts n more as done.
func (p *progress) add(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	p.draw()
}

// say prints a line, above the bar where there is one.
func (p *progress) say(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar {
		fmt.Fprint(p.app.err, clearLine)
	}
	p.app.notice(text)
	p.draw()
}

// end removes the bar.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar {
		fmt.Fprint(p.app.err, clearLine)
		p.bar = false
	}
}

func (p *progress) draw() {
	if p.bar {
		fmt.Fprint(p.app.err, clearLine+barOf(p.done, p.total))
	}
}

// barOf draws how much is done.
func barOf(done, total int) string {
	const width = 40
	filled := width * min(done, total) / total
	return fmt.Sprintf("[%s%s] %d/%d", strings.Repeat("#", filled), strings.Repeat("-", width-filled), done, total)
}
