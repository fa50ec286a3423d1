# flowcordon. Two commands do everything: make demo, make test.
SHELL   := /bin/bash
PATH    := $(CURDIR)/.cache/go/bin:$(CURDIR)/.cache/bin:$(PATH)
export PATH
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -X main.version=$(VERSION)
FUZZTIME ?= 60s
RACE    ?= -race

.PHONY: help demo demo-build test build lint unit scenarios e2e captures totals fuzz demo-once bench deps clean
help:
	@echo "make demo          the whole system with simulated routers; dashboard on 127.0.0.1:8080"
	@echo "make demo ONCE=1   the same, headless: exit 0 once both attackers are cut and verified"
	@echo "make test          every test, with what it needs installed"
	@echo "make build         bin/flowcordon, bin/flowgen and bin/flowbench"
	@echo "make bench         beside other collectors on this machine, into docs/performance.md (BENCH=short: minutes, not hours)"

# Only what the demo runs, and a word before minutes of silence.
demo-build:
	@.ci/install build
	@test -x bin/flowcordon || echo "building flowcordon; the first time this takes a minute or two"
	@CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/flowcordon ./cmd/flowgen

demo: demo-build
	@bin/flowgen demo --flowcordon bin/flowcordon $(if $(ONCE),--once)

build:
	@.ci/install build
	@CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

# Lanes in order of what fails soonest. The long runs, about totals and crashes,
# go without race detection; each wants the whole machine.
test: deps build lint unit scenarios e2e totals fuzz demo-once
	@echo "make test: all lanes passed"

deps:
	@.ci/install test

lint:
	golangci-lint run ./...

# All scenarios are the lane scenarios'; here some go with the race detector.
unit:
	FLOWCORDON_SCENARIO_ONLY='a0*' FLOWCORDON_SCENARIO_BUDGET=5000 gotestsum --format pkgname-and-test-fails -- $(RACE) -timeout 20m $$(go list ./... | grep -v /e2e$$)

# The detector's scenarios: each at every sampling rate, by sFlow and NetFlow v9,
# with SEEDS seeds; without race detection, which is ten times slower. A table
# goes to .cache/scenarios.md. SEEDS=20 is the acceptance test (40 minutes of two
# CPUs), DEEP=1500000 makes benign tenants at 1:1 live longer, ONLY='a*' picks,
# DAY=1 is a day of 100,000 ordinary tenants at the level of counts instead.
scenarios:
	@mkdir -p .cache
ifdef DAY
	FLOWCORDON_DAY=1 go test -count=1 -v -timeout 60m -run '^TestDay$$' ./detect
else
	FLOWCORDON_SCENARIO_TABLE=$(CURDIR)/.cache/scenarios.md $(if $(SEEDS),FLOWCORDON_SCENARIO_SEEDS=$(SEEDS)) $(if $(DEEP),FLOWCORDON_SCENARIO_DEEP=$(DEEP)) \
	$(if $(BUDGET),FLOWCORDON_SCENARIO_BUDGET=$(BUDGET)) $(if $(ONLY),FLOWCORDON_SCENARIO_ONLY='$(ONLY)') \
	gotestsum --format pkgname-and-test-fails -- -count=1 -timeout 180m -run '^TestScenarios$$' ./detect
	@tail -n 1 .cache/scenarios.md
endif

# Nothing simulated: a QEMU guest scans, softflowd exports, libvirt cuts.
e2e:
	gotestsum --format testname -- -count=1 -timeout 30m ./e2e

# Real captures as each tenant in them, through softflowd, pmacctd and Open
# vSwitch at 1:1 and 1:10; not a part of make test, because the captures are not
# in this repository (../shared/corpora). Writes its table into docs/detectors.md.
# 40 minutes.
captures:
	@.ci/install captures
	FLOWCORDON_CAPTURES=1 FLOWCORDON_CAPTURES_DOC=$(CURDIR)/docs/detectors.md go test -v -count=1 -timeout 90m -run '^TestCaptures$$' ./detect

# Known totals over UDP, and kill -9 of flowcordon and of the engine.
totals:
	FLOWCORDON_LONG=1 gotestsum --format testname -- -count=1 -timeout 40m -run '^TestLong(KnownTotals|KillNine)$$' ./cmd/flowcordon

# The decoders for FUZZTIME each, every other parser for a sixth of it.
fuzz:
	@.ci/fuzz $(FUZZTIME)

demo-once: demo-build
	bin/flowgen demo --flowcordon bin/flowcordon --once

# Go benchmarks, flowcordon beside its peers, how its cost grows. It wants the
# whole machine: root for equal buffers, two CPUs, nothing else running. Nothing
# here fails because a machine is slow. BENCH=short is to see that all of it works.
bench: build
	@.ci/install bench
	@mkdir -p .cache/bench
	FLOWCORDON_PEERS=1 go test -count=1 ./cmd/flowbench/collectors
ifeq ($(BENCH),short)
	go test -run '^$$' -bench . -benchmem -benchtime 100ms ./collector/... ./flow/...
	bin/flowbench compare --short --json .cache/bench/compare-short.json
	bin/flowbench scale --short --points=false --backlog 1000000 --json .cache/bench/scale-short.json
	bin/flowbench desk --short --json .cache/bench/desk-short.json
	bin/flowbench history --short --json .cache/bench/history-short.json
	FLOWCORDON_LONG=1 FLOWCORDON_COST_RECORDS=100000 go test -v -count=1 -timeout 10m -run '^TestLongCost$$' ./cmd/flowcordon
else
	set -o pipefail; go test -run '^$$' -bench . -benchmem ./... | tee .cache/bench/go.txt
	bin/flowbench compare --docs docs/performance.md --json .cache/bench/compare.json
	bin/flowbench scale --docs docs/performance.md --json .cache/bench/scale.json
	bin/flowbench desk --json .cache/bench/desk.json
	bin/flowbench history --json .cache/bench/history.json
	set -o pipefail; FLOWCORDON_LONG=1 go test -v -count=1 -timeout 30m -run '^TestLongCost$$' ./cmd/flowcordon | tee .cache/bench/cost.txt
endif

clean:
	rm -rf bin .cache/tmp
