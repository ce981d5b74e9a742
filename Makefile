# `make help` lists what there is. Fresh machines need Go, Node with npm, make
# and curl; everything else is installed here, into node_modules.

SHELL := /bin/bash
.SHELLFLAGS := -eo pipefail -c
.DEFAULT_GOAL := help

# One thing at a time, whatever -j says: the tests measure time, and two builds
# would write the same files.
.NOTPARALLEL:

# wrangler calls `make build`, which is a make of its own.
unexport MAKEFLAGS MFLAGS

# node_modules holds wrangler, and the Node that wrangler wants.
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)
export WRANGLER_SEND_METRICS := false

GO_DIRS := $(wildcard clients/go cmd docs durable internal worker)
SCRIPTS := .ci/run cmd/bench/workerd.sh tools/audit.sh worker/deploy.sh
WASM_SOURCES := go.mod go.sum $(wildcard worker/page/page.*) $(shell find cmd/worker worker durable internal -name '*.go' -not -name '*_test.go')

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | awk -F '\t' '{printf "  make %-14s %s\n", $$1, $$2}'

.PHONY: setup
setup: node_modules/.package-lock.json ## install wrangler and the Node it wants

# Without install scripts, which may fetch what the lock does not name.
node_modules/.package-lock.json: package.json package-lock.json .npmrc
	npm ci --ignore-scripts --no-fund --no-audit --loglevel=error
	@touch $@

# tools/go.mod is a module of its own, so that nothing of these linters is in the
# module that the Worker is built from; tools/go.sum pins them by checksum.
STATICCHECK := build/tools/staticcheck
$(STATICCHECK): tools/go.mod tools/go.sum
	go build -C tools -o ../build/tools/ tool
	@touch $@

.PHONY: build
build: build/latchkey.wasm ## build the Worker

build/latchkey.wasm: $(WASM_SOURCES)
	@mkdir -p build
	cp "$$(go env GOROOT)/lib/wasm/wasm_exec.js" build/wasm_exec.js
	GOOS=js GOARCH=wasm go build -trimpath -ldflags='-s -w' -o $@ ./cmd/worker

# The program is built and then takes the shell's place, so that a signal that
# is meant for it reaches it.
.PHONY: run
run: setup build ## run everything here, and show how to try it (PORT=8787 STANDIN_PORT=8788)
	@go build -o build/localdev ./cmd/localdev
	@exec build/localdev

# The simulation runs beside all the rest, on what processor time that leaves: the
# end-to-end tests wait more than they work. `set -m` gives it a process group of its
# own, which ends with the shell.
.PHONY: test
test: setup ## run every check and test there is
	@mkdir -p build && set -m && echo 'make simulation, in the background, into build/simulation.log'; \
		nice -n 19 $(MAKE) --no-print-directory simulation >build/simulation.log 2>&1 & \
		simulation=$$!; trap 'kill -- -$$simulation 2>/dev/null || true' EXIT; \
		$(MAKE) --no-print-directory lint audit unit dry-run e2e; \
		passed=0; wait $$simulation || passed=$$?; \
		cat build/simulation.log; exit $$passed

# A Go timer would fire in the I/O context of whichever user's request set it,
# and wake other users' code there: see internal/edge/edge.mjs.
TIMERS := time\.(Sleep|After|AfterFunc|Tick|NewTicker|NewTimer)|context\.With(Timeout|Deadline)(Cause)?

# staticcheck does not know of go:wasmexport, and takes what it exports for unused.
.PHONY: lint
lint: setup $(STATICCHECK) ## check formatting, sources, locks, and what the Worker's code may not use
	@echo 'gofmt' && out="$$(gofmt -l $(GO_DIRS))" && \
		if [ -n "$$out" ]; then echo "not formatted:" $$out; exit 1; fi
	go mod tidy -diff
	cd tools && go mod tidy -diff
	go vet -tags e2e,clients ./...
	GOOS=js GOARCH=wasm go vet ./cmd/worker ./internal/edge
	$(STATICCHECK) -tags e2e,clients ./...
	GOOS=js GOARCH=wasm $(STATICCHECK) -checks inherit,-U1000 ./cmd/worker ./internal/edge
	biome lint --error-on-warnings --diagnostic-level=warn
	node tools/lockfile.mjs
	@if command -v shellcheck >/dev/null; then echo shellcheck; shellcheck $(SCRIPTS); \
		else echo 'SKIPPED: shellcheck, which is not installed.'; fi
	@echo 'syscall/js in internal/edge alone' && \
		if grep -rn --include='*.go' '"syscall/js"' $(GO_DIRS) | grep -v '^internal/edge/'; then exit 1; fi
	@echo 'no Go timers in what is linked into the Worker' && \
		files="$$(GOOS=js GOARCH=wasm go list -deps -f '{{with .Module}}{{if .Main}}{{range $$.GoFiles}}{{$$.Dir}}/{{.}}{{"\n"}}{{end}}{{end}}{{end}}' ./cmd/worker)" && \
		test -n "$$files" && if grep -nE '\b($(TIMERS))\b' $$files; then exit 1; fi

# The vulnerabilities that are looked for: a pinned list, so that a run depends on
# the change alone. Every week CI takes the latest one.
VULNDB := v0.0.0-20261105234957-e22db6528018
.PHONY: audit
audit: setup $(STATICCHECK) ## look for known vulnerabilities in what is used (VULNDB=latest)
	tools/audit.sh $(VULNDB)

# The race detector wants a C compiler, and nothing else here does. `make lint` has
# vetted all of it.
.PHONY: unit
unit: setup ## run the native tests, under the race detector where there is a C compiler
	@if go build -race runtime/cgo 2>/dev/null; then race=-race; \
		else race=; echo 'No working C compiler: the tests run WITHOUT the race detector.'; fi; \
		echo "go test $$race -vet=off -short ./..."; go test $$race -vet=off -short ./...

# Without the race detector, which would take ten times as long. Most of it is to build
# mutants and to make garbage: GOGC=400 has that collected more seldom.
.PHONY: simulation
simulation: ## prove that nothing is lost: faults enumerated, at random, and mutations that must be caught
	cd durable && GOGC=400 go test -count=1 -timeout 30m -schedules=10000 -mutations .

# Their seeds and what was found before are tried by `make unit`.
.PHONY: fuzz
FUZZ := 10s
fuzz: ## try every fuzzer for FUZZ=10s
	@for package in $$(go list ./...); do \
		for name in $$(go test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			echo "$$package $$name"; go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZ) -fuzzminimizetime 20x $$package; \
		done; \
	done

clients/js/node_modules/.package-lock.json: clients/js/package.json clients/js/package-lock.json
	cd clients/js && npm ci --ignore-scripts --no-fund --no-audit --loglevel=error
	@touch $@

# Their tests on workerd take what `npm test` has built.
.PHONY: clients
clients: setup build clients/js/node_modules/.package-lock.json ## test the clients for app developers, on workerd too
	cd clients/js && npm test
	go test -count=1 ./clients/go/...
	cd internal/e2e && go test -tags e2e,clients -count=1 -run '^TestClients' .

.PHONY: no-failed-call
no-failed-call: setup build clients/js/node_modules/.package-lock.json ## count calls that fail while keys rotate, with an overlap and without
	cd clients/js && npm run build
	cd internal/e2e && go test -tags e2e,clients -count=1 -v -timeout 30m -run 'TestClientsNoCallFails|TestWithoutAnOverlap' . -users 50 -for 2m

.PHONY: soak
FOR := 10m
soak: setup build ## go on proving it at random, natively and on workerd, for FOR=10m each, and a class of 300
	cd durable && go test -count=1 -timeout 0 -run TestRandomSchedules -soak=$(FOR) .
	cd internal/e2e && go test -tags e2e -count=1 -timeout 0 -run TestKilledAgainAndAgain -soak=$(FOR) .
	cd cmd/latchkey && go test -count=1 -run TestAClassKilledAtRandom -people=300 .

.PHONY: dry-run
dry-run: setup build ## bundle the Worker as `make run` and a deployment would, without one
	rm -rf build/local build/deploy
	wrangler deploy --dry-run --env= --outdir build/local
	wrangler deploy --dry-run --env production --outdir build/deploy

.PHONY: e2e
e2e: setup build ## walk the whole contract on workerd
	cd internal/e2e && go test -tags e2e -count=1 -timeout 30m

# Beside latchkey runs a program as one usually writes them on syumai/workers,
# whose generator empties the folder that it writes to. What was measured is in
# build/bench/rows.json; `go run ./cmd/bench -compare` says what moved.
.PHONY: bench
bench: setup dry-run ## measure latchkey beside other ways to do its job (BENCH="-rounds 1 -loads steady")
	go run github.com/syumai/workers/cmd/workers-assets-gen -mode=go -o build/bench/serve
	GOOS=js GOARCH=wasm go build -trimpath -ldflags='-s -w' -o build/bench/serve/app.wasm ./cmd/bench/serve
	go build -o build/bench/bench ./cmd/bench
	@exec build/bench/bench $(BENCH)

.PHONY: idle
SOCKETS := 10000
idle: setup dry-run ## measure what SOCKETS=10000 idle sockets take
	go build -o build/idle ./cmd/idle
	@exec build/idle -sockets $(SOCKETS)

# A section [env.…] of wrangler.toml.
ENV := production

.PHONY: deploy
deploy: setup build ## deploy to Cloudflare: see docs/deploying.md (ENV=production)
	@exec worker/deploy.sh $(ENV)

.PHONY: tail
tail: setup ## follow the log of the deployed Worker (USER=u_42 ERRORS=1 ENV=production)
	@case "$$(wrangler whoami --json 2>&1)" in *'"loggedIn":false'*) \
		echo 'tail: not logged in at Cloudflare: run `npx wrangler login`, or set CLOUDFLARE_API_TOKEN' >&2; exit 1 ;; esac
	@wrangler tail --env $(ENV) --format json | USER_ID='$(if $(filter command line,$(origin USER)),$(USER))' ERRORS='$(ERRORS)' node worker/tail.mjs

.PHONY: clean
clean: ## remove what was built and installed; .dev.vars and .wrangler stay
	rm -rf build node_modules
