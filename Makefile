# flowcordon. Two commands do everything: make demo, make test.
SHELL   := /bin/bash
PATH    := $(CURDIR)/.cache/go/bin:$(CURDIR)/.cache/bin:$(PATH)
export PATH
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -X main.version=$(VERSION)
FUZZTIME ?= 60s
RACE    ?= -race

.PHONY: help demo test build lint unit totals chaos fuzz demo-once bench deps clean
help:
	@echo "make demo          the whole system with simulated routers; dashboard on 127.0.0.1:8080"
	@echo "make demo ONCE=1   the same, headless: exit 0 once both attackers are cut and verified"
	@echo "make test          every test, with what it needs installed"
	@echo "make build         bin/flowcordon and bin/flowgen"
	@echo "make bench         benchmarks"

demo: build
	@bin/flowgen demo --flowcordon bin/flowcordon $(if $(ONCE),--once)

build:
	@.ci/install build
	@CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

# Lanes in order of what fails soonest. Everything with race detection but the
# long runs, which are about totals and crashes.
test: deps build lint unit totals fuzz demo-once
	@echo "make test: all lanes passed"

deps:
	@.ci/install test

lint:
	golangci-lint run ./...

unit:
	gotestsum --format pkgname-and-test-fails -- $(RACE) -timeout 20m ./...

# Known totals, kill -9 and fuzzing want the whole machine: one after the other.
totals:
	FLOWCORDON_LONG=1 gotestsum --format testname -- -count=1 -timeout 30m -run 'TestLong' ./cmd/flowcordon

fuzz:
	@set -e; for t in $$(grep -rhoE 'func Fuzz[A-Za-z0-9]+' --include='*_test.go' collector/decode | sed 's/func //' | sort); do \
	  echo "fuzz $$t for $(FUZZTIME)"; go test ./collector/decode -run '^$$' -fuzz "^$$t$$" -fuzztime $(FUZZTIME) -parallel 2 | tail -n 2; \
	  [ $${PIPESTATUS[0]} = 0 ] || exit 1; done

demo-once: build
	bin/flowgen demo --flowcordon bin/flowcordon --once

bench:
	go test -run '^$$' -bench . -benchmem ./...

clean:
	rm -rf bin .cache/tmp
