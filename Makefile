# make help lists the targets.

GO      ?= go
TOOL    := $(GO) tool -modfile=tools/go.mod
FUZZTIME ?= 20s
COUNT   ?= 6
E2E     := ./test/...

.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

.PHONY: build
build: ## bin/usher, one static binary
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/usher ./cmd/usher

.PHONY: demo
demo: build ## usher with three backends of its own: needs nothing installed
	bin/usher demo $(DEMOFLAGS)

.PHONY: deps
deps: ## install what the tests need from Debian's packages
	test/install-deps.sh

.PHONY: test
test: deps ## all tests, with the race detector, against real nginx and Dovecot
	$(GO) vet ./...
	$(GO) test -race -timeout 8m ./...

.PHONY: race
race: ## the tests that need no servers, with the race detector
	$(GO) test -race $$($(GO) list ./... | grep -v /test)

.PHONY: e2e
e2e: deps ## the tests with real servers alone
	$(GO) test -race -count=1 $(E2E)

.PHONY: test-dovecot24
test-dovecot24: ## the tests with real servers that need Dovecot alone, with Dovecot 2.4 in a chroot (root)
	test/dovecot24.sh

.PHONY: lint
lint: ## gofmt, go vet, golangci-lint
	@out=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$out" || { echo "gofmt would change: $$out"; exit 1; }
	$(GO) vet ./...
	$(TOOL) golangci-lint run

.PHONY: generate
generate: ## docs/lua-api.md and scripts/types, of the tables in luabridge/modules; docs/openapi.json, of control's
	$(GO) test ./luabridge/reference -run '^TestGenerated$$' -count 1 -update
	$(GO) test ./control -run '^TestGenerated_OpenAPI$$' -count 1 -update

.PHONY: bench
bench: ## benchmarks; compare two runs with: make benchstat OLD=a.txt NEW=b.txt
	$(GO) test -run '^$$' -bench . -benchmem -count $(COUNT) $$($(GO) list ./... | grep -v /test)

.PHONY: bench-lua
bench-lua: ## what a policy costs, and each function, and how long others wait for a bad client
	$(GO) test -run '^$$' -bench . -benchmem -benchtime 0.3s -count 3 ./luabridge | awk -f test/bench-lua.awk

.PHONY: bench-dovecot
bench-dovecot: deps ## logins a second, interposed, beside Dovecot's own director before the same auth server
	$(GO) test -run '^$$' -bench Interposed -benchtime 5s -count 3 ./test

.PHONY: sim
sim: ## docs/balance.md: a million users on 100 hosts, how even the load is and who moves when hosts change
	$(GO) run ./internal/sim -o docs/balance.md

.PHONY: benchstat
benchstat:
	$(TOOL) benchstat $(OLD) $(NEW)

.PHONY: fuzz
fuzz: ## every fuzz test for FUZZTIME (20s)
	@for p in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$p | grep ^Fuzz); do \
			echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p || exit 1; \
		done; \
	done

.PHONY: cover
cover: deps ## coverage.html
	$(GO) test -coverpkg ./... -coverprofile coverage.out ./...
	$(GO) tool cover -html coverage.out -o coverage.html
