# SPDX-License-Identifier: Apache-2.0
#
# Everything here needs Go, make and git; what else a target needs it installs or says.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# One set of build flags for build, test, vet and lint alike: the large dependencies are compiled once.
export CGO_ENABLED := 0
export GOFLAGS := -trimpath -buildvcs=false

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
GO ?= go
TOOL := $(GO) tool -modfile=hack/tools/go.mod
LDFLAGS := -s -w -X gitlab.com/dynors/sirrat/internal/version.Version=$(VERSION)
PROGRAMS := sirrat sirrat-agent kubectl-sirrat
CHART := charts/sirrat

# Packages to test, a pattern of tests, and whether to look for data races, which takes a C compiler and twice the time:
# make test PKG=./internal/gate/ RUN=TestSoak RACE=1
PKG ?= ./...
RUN ?=
RACE ?=
TIMEOUT ?= 30m

##@ Daily

.PHONY: help
help: ## Show this help.
	@awk 'BEGIN {FS = ":.*##"; printf "Usage: make \033[36m<target>\033[0m\n"} \
	  /^[a-zA-Z_-]+:.*?##/ {printf "  \033[36m%-12s\033[0m %s\n", $$1, $$2} \
	  /^##@/ {printf "\n\033[1m%s\033[0m\n", substr($$0, 5)}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/sirrat, bin/sirrat-agent and bin/kubectl-sirrat, static.
	@mkdir -p bin
	@echo "build $(addprefix bin/,$(PROGRAMS)) $(VERSION)"
	@$(GO) build -ldflags "$(LDFLAGS)" -o bin/ $(addprefix ./cmd/,$(PROGRAMS))

# Of make image: folder for tar files, and repository to push to (its last part is the program's name).
IMAGE_ARCH ?= amd64,arm64
IMAGE_PUSH ?=

.PHONY: image
image: ## Build images of sirrat and sirrat-agent as bin/*.tar, without an engine; IMAGE_PUSH=registry.example/dynors pushes.
	@for program in sirrat sirrat-agent; do \
	  $(GO) run ./hack/image -program $$program -tag "$(VERSION)" -arch $(IMAGE_ARCH) -ldflags "$(LDFLAGS)" -out bin \
	    $(if $(IMAGE_PUSH),-push $(IMAGE_PUSH)/$$program); done

.PHONY: demo
demo: build ## Play the whole bridge on a real engine and registry, with no input. KEEP=1 leaves it running.
	@$(GO) build -o bin/demo ./hack/demo
	@exec bin/demo

.PHONY: test
test: ## Run all tests; installs and starts a Docker engine if none answers. PKG= and RUN= narrow them, RACE=1 looks for data races.
	@engine=$$(hack/engine.sh ensure $$$$); trap "hack/engine.sh stop $$$$" EXIT; \
	  export DOCKER_HOST="$$engine"; hack/engine.sh registry >/dev/null || true; hack/engine.sh need curl; $(if $(RACE),hack/engine.sh need gcc build-essential;) \
	  $(if $(RACE),CGO_ENABLED=1) $(GO) run ./hack/testcount $(if $(RACE),-race) -timeout $(TIMEOUT) $(if $(RUN),-run '$(RUN)') $(PKG)

.PHONY: test-unit
test-unit: ## Run the tests that need no engine and little time.
	@$(GO) run ./hack/testcount -short -timeout $(TIMEOUT) $(if $(RUN),-run '$(RUN)') $(PKG)

# Packages that read what others send: files of pipelines for FUZZTIME each, the rest for ten seconds.
FUZZED ?= ./internal/reports
FUZZED_BRIEFLY ?= ./internal/attestation ./internal/hooks ./internal/idtoken ./internal/maven ./internal/sbom ./internal/sigstore
FUZZTIME ?= 1m

.PHONY: fuzz
fuzz: ## Fuzz every reader of what others send, pipelines' files for FUZZTIME=1m each.
	@hack/fuzz.sh $(FUZZTIME) $(FUZZED)
	@hack/fuzz.sh 10s $(FUZZED_BRIEFLY)

.PHONY: faults
faults: ## Break everything that an agent depends on, at length, as root: KILLS=300 SEED= RUN=TestFaults/registry.
	@FAULT_LONG=1 FAULT_KILLS=$(or $(KILLS),300) FAULT_SEED=$(SEED) $(GO) test -v -count=1 -timeout 90m \
	  -run '$(or $(RUN),TestFaults)' ./test/faults

.PHONY: bench
bench: ## Run the benchmarks of docs/architecture.md and print their figures; some minutes.
	@engine=$$(hack/engine.sh ensure $$$$); trap "hack/engine.sh stop $$$$" EXIT; \
	  export DOCKER_HOST="$$engine"; \
	  $(GO) test -run '^$$' -bench Start -benchtime 1x ./internal/controlplane; \
	  $(GO) test -run '^$$' -bench 'Results|Reports' -benchtime 2000x ./internal/ingest; \
	  $(GO) test -run '^$$' -bench Read ./internal/reports; \
	  $(GO) test -run '^$$' -bench Peak -benchtime 1x ./internal/reports; \
	  $(GO) test -run '^$$' -bench ApprovalToAgent -benchtime 40x ./controllers; \
	  $(GO) test -run '^$$' -bench 'Deploy$$' -benchtime 8x ./agent; \
	  $(GO) test -run '^$$' -bench 'DeployLarge|Rollback' -benchtime 4x ./agent; \
	  $(GO) test -run '^$$' -bench Noop -benchtime 200x ./agent; \
	  $(GO) test -run '^$$' -bench Footprint -benchtime 1x ./agent; \
	  $(GO) test -run '^$$' -bench Downtime -benchtime 1x -timeout 60m ./agent; \
	  $(GO) test -run '^$$' -bench Append -benchtime 2000x ./internal/journal; \
	  $(GO) test -run '^$$' -bench 'Promote$$' -benchtime 1000x ./internal/registry; \
	  $(GO) test -run '^$$' -bench PromoteElsewhere -benchtime 20x ./internal/registry; \
	  $(GO) test -run '^$$' -bench SoakEnd -benchtime 3x ./test/model; \
	  $(GO) test -run '^$$' -bench Judge -benchtime 1x -timeout 30m ./test/model

##@ Code

.PHONY: generate
generate: ## Regenerate deep copies, CRDs, the chart's copies and the reference of the API.
	@$(TOOL) controller-gen object:headerFile=hack/boilerplate.go.txt \
	  crd:allowDangerousTypes=true paths=./api/... output:crd:dir=config/crd
	@hack/sync-chart.sh
	@$(TOOL) crd-ref-docs --log-level=ERROR --renderer=markdown --config=hack/crd-ref-docs.yaml \
	  --source-path=api --output-path=docs/reference.md

.PHONY: vet
vet: ## Run go vet.
	@$(GO) vet ./...

.PHONY: lint
lint: ## Run golangci-lint.
	@$(TOOL) golangci-lint run --allow-parallel-runners

.PHONY: check
check: ## Fail if generated files are stale, or vet or lint complain.
	@hack/check-generated.sh
	@$(MAKE) vet lint

.PHONY: chart
chart: ## Lint the Helm chart and print what it renders.
	@$(TOOL) helm lint --strict --namespace sirrat-system --kube-version 1.37.0 $(CHART) >&2
	@$(TOOL) helm template sirrat $(CHART) --namespace sirrat-system --include-crds --kube-version 1.37.0

##@ Upkeep

.PHONY: clean
clean: ## Remove what was built, and stop an engine that was started here.
	@hack/engine.sh stop
	@rm -rf bin .tools
