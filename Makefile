# Everything a developer or CI runs. Targets that need packages install them (as root on Debian) or say
# exactly which ones are missing.

CARGO ?= cargo
SEEDS ?= 1000
SECONDS ?= 60

.PHONY: help demo run test lint bench bench-decks churn compare loops sim fuzz packages

help: ## Show this help
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: ## Build, carry real calls for half a minute, show what happened
	@tools/packages.sh build
	@$(CARGO) build --release --quiet -p engine -p sbcctl -p bench
	@bench/demo.sh

run: ## Build and leave a node up on the loopback example
	@tools/packages.sh build
	@$(CARGO) build --release --quiet -p engine -p sbcctl
	@exec target/release/sbcd --config config/examples/loopback.toml

test: ## Every test, with real peers; installs them or says which are missing
	@tools/packages.sh build peers
	@$(CARGO) build --workspace --all-targets
	@$(CARGO) test --workspace --no-fail-fast

lint: ## Formatting, clippy, dependencies
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny check licenses bans sources; else echo "cargo-deny is not installed: cargo install cargo-deny"; fi

bench: bench-decks ## Micro benchmarks, and decks
	@$(CARGO) bench -p sbc -p media -p routing-trie

bench-decks: ## Decks of 50 vendors, 10 million rows: import, merge, decisions, swaps; 10^7 numbers against a naive scan; SQLite beside (Python, phonenumbers)
	@$(CARGO) build --release --quiet -p bench
	@python3 bench/decks/world.py target/decks
	@target/release/sbcdecks target/decks --prove 10000000
	@python3 bench/decks/sqlite.py target/decks

churn: ## A hundred thousand connections that come and go: none is left, nor a descriptor
	@TANDEM_CHURN=100000 $(CARGO) test -p engine --test tcp churned_connections -- --nocapture

compare: ## Ourselves and the peers on the same load, in the same minute (root)
	@tools/packages.sh build peers
	@$(CARGO) build --release --quiet -p engine -p bench
	@bench/compare/run.sh

loops: ## Loops and sockets that could relay media, on the same work in the same minutes (root; a workspace of its own)
	@$(CARGO) build --release --quiet --manifest-path bench/compare/loops/Cargo.toml --target-dir target/loops
	@target/loops/release/loops $(CALLS)

sim: ## The whole-node simulator on SEEDS seeds
	@$(CARGO) run --release --quiet -p sim -- --seeds $(SEEDS)

fuzz: ## Grow the fuzz corpora for SECONDS seconds per target
	@fuzz/fuzz.sh $(SECONDS)
