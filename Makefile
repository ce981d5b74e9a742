# `make help` lists what there is. Fresh machines need Go, Node with npm, make
# and curl; everything else is installed here, into node_modules.

SHELL := /bin/bash
.SHELLFLAGS := -eo pipefail -c
.DEFAULT_GOAL := help

# node_modules holds wrangler, and the Node that wrangler wants.
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)
export WRANGLER_SEND_METRICS := false

WASM_SOURCES := go.mod go.sum $(shell find worker durable internal -name '*.go' -not -name '*_test.go')

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | awk -F '\t' '{printf "  make %-10s %s\n", $$1, $$2}'

.PHONY: setup
setup: node_modules/.package-lock.json ## install wrangler and the Node it wants

node_modules/.package-lock.json: package.json package-lock.json .npmrc
	npm ci --no-fund --no-audit --loglevel=error
	@touch $@

.PHONY: build
build: build/latchkey.wasm ## build the Worker

build/latchkey.wasm: $(WASM_SOURCES)
	@mkdir -p build
	cp "$$(go env GOROOT)/lib/wasm/wasm_exec.js" build/wasm_exec.js
	GOOS=js GOARCH=wasm go build -trimpath -ldflags='-s -w' -o $@ ./worker
