# The commands of this repository. Bare `make` lists them.

ADAPTERS := adapters/prometheus adapters/otel adapters/gocron adapters/cron adapters/asynq
MODULES := . cmd/leasehold examples $(ADAPTERS) docs/kubernetes integration bench
# The adapters' tests wait for ticks of a second most of the time, so three modules run at once.
# One goroutine runs the core, which is a function: the race detector would find nothing there, and
# take ten times as long.
CORE := ./supervisor/internal/core
APART := $(filter-out $(ADAPTERS) docs/kubernetes,$(MODULES))
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

# The race detector needs a C compiler. RACE=1 insists on it, RACE=0 leaves it out. Without either
# make test leaves it out, and the long runs have it if there is a C compiler.
RACE ?=
race := $(if $(filter 1,$(RACE)),-race)
long_race := $(if $(filter 1,$(or $(RACE),$(shell go env CGO_ENABLED))),-race)
# LONG=1 has make test run the tests on real servers that take more than six seconds each as well.
LONG ?=
short := $(if $(filter 1,$(LONG)),,-short)
# How many tests of other processes and of real servers run at once. They wait nearly all the time.
SCENES ?= 4
# FIGURES=1 has make test show what the tests on real servers have measured.
FIGURES ?=
shown := sed -E '/no test files/d; /^=== /d; /^ +--- (PASS|SKIP)/d'
FUZZTIME ?= 10s
SEEDS ?= 100000
FROM ?= 1
NEMESIS ?= 5m
BOUNDS ?= all

.PHONY: help
help:
	@awk -F ': *## *' '/^[a-z-]+:.*##/ { printf "make %-12s %s\n", $$1, $$2 }' Makefile

.PHONY: modules
modules:
	@echo $(MODULES)

.PHONY: demo
demo: ## shows leases at work, on nodes in memory: nothing else is needed
	@cd examples && go run ./demo

.PHONY: test
test: ## runs the tests, and says what it leaves out: in four minutes; LONG=1 adds the long tests on real servers, RACE=1 the race detector
	@echo 'left out: the race detector$(if $(race), for the core: one goroutine runs it,; make test RACE=1 has it)'
	@$(if $(short),echo 'left out: the tests on real servers that take more than six seconds each; make test LONG=1 has them')
	@cd integration && go run ./offers
	@export LEASEHOLD_RUNS=$${LEASEHOLD_RUNS:-1}; rc=0; began=$$SECONDS; \
		echo "each fault on a real server comes $$LEASEHOLD_RUNS times here, and 20 times in make integration"; \
		for m in $(APART) adapters; do \
			case $$m in \
				.) what='the library: core, nodes in memory, simulation' ;; \
				cmd/leasehold) what='the command' ;; \
				examples) what='the examples, and the programs in the documents' ;; \
				integration) what='real servers that are killed, stopped, restarted and cut off' ;; \
				bench) what='the benchmarks, not what they measure' ;; \
				adapters) what='metrics, schedulers, and the manifests for Kubernetes' ;; \
			esac; \
			echo; echo "-- $$m: $$what"; from=$$SECONDS; \
			case $$m in \
				.) core=0; go test $(CORE) || core=1; go test $(race) $$(go list ./... | grep -v '/internal/core$$') && (exit $$core) ;; \
				integration) cd $$m && go test $(race) -timeout 14m -parallel $(SCENES) $(short) $(if $(FIGURES),-v) ./... ;; \
				adapters) printf '%s\n' $(ADAPTERS) docs/kubernetes | xargs -P 3 -I{} sh -c 'cd {} && go test $(race) ./...' ;; \
				*) cd $$m && go test $(race) -parallel $(SCENES) ./... ;; \
			esac | $(shown) || rc=1; \
			echo "-- $$m: $$((SECONDS - from)) s"; \
		done; echo; echo "all tests: $$((SECONDS - began)) s"; exit $$rc

.PHONY: integration
integration: ## runs the tests on real Redis servers: processes and containers
	@cd integration && go run ./offers && go test $(long_race) -v -count=1 -timeout 120m ./... | $(shown)

.PHONY: nemesis
nemesis: ## runs random faults on real servers for NEMESIS (5m); SEED=n repeats a run
	@cd integration && go test $(long_race) -v -count=1 -timeout 0 -parallel 1 -run '^TestNemesis(OfChanges)?$$' . -nemesis.for=$(NEMESIS) -nemesis.seed=$(or $(SEED),0)

.PHONY: sim
sim: ## plays SEEDS (100000) histories of rivals on failing nodes, from seed FROM (1); SEED=n replays one
	@GOGC=400 go test ./supervisor/internal/core -run 'TestSimulation$$' -v -timeout 60m $(if $(SEED),-sim.seed=$(SEED),-sim.seeds=$(SEEDS) -sim.from=$(FROM))

.PHONY: explore
explore: ## searches all that can happen within small bounds, in three to six minutes; BOUNDS=name,... some of them
	@GOGC=60 go test ./supervisor/internal/core -run 'TestExplore$$' -v -timeout 0 -explore '$(BOUNDS)' | $(shown)

.PHONY: mutants
mutants: ## plants bugs, one by one, and shows which test catches each
	@go run ./supervisor/internal/mutants

.PHONY: check
check: ## checks formatting, vet, staticcheck, go.mod, the workflows and the house rules
	@bash .ci/check

.PHONY: bench
bench: ## measures leasehold and its peers on real servers, in fifteen minutes; ONLY=regexp a part, LONG=n times as long, NOTE=text beside it
	@cd bench && go run . $(if $(ONLY),-only '$(ONLY)') $(if $(LONG),-long $(LONG)) $(if $(NOTE),-note '$(NOTE)') $(if $(OUT),-out '$(abspath $(OUT))')

.PHONY: bench-pages
bench-pages: ## puts the runs of RUNS=results.json of each into docs/; by default those that are there
	@cd bench && go run . -out ../docs/performance -pages ../docs/performance.md $(abspath $(or $(RUNS),docs/performance/results.json))

.PHONY: bench-quick
bench-quick: ## the same in less than two minutes, with fewer peers
	@cd bench && go run . -quick $(if $(ONLY),-only '$(ONLY)') $(if $(OUT),-out '$(abspath $(OUT))')

.PHONY: fuzz
fuzz: ## runs every fuzz test for FUZZTIME (10s)
	@for p in $$(go list ./...); do \
		for f in $$(go test -list '^Fuzz' $$p | sed -n '/^Fuzz/p'); do \
			echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$p; \
		done; \
	done
