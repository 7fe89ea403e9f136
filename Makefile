# Owns the commands a person types; each sets up by itself what it needs, and costs seconds once that is there.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)
export CARGO_TERM_COLOR ?= auto
target := $(or $(CARGO_TARGET_DIR),target)
release := $(target)/release
# Cargo features of the built program: FEATURES=formats has all that docs/formats.md describes, `avro,parquet` some of it.
FEATURES ?=
features = $(if $(FEATURES),--features $(FEATURES))
# Where `make install` puts things, and a root to put before that while packing.
PREFIX ?= /usr/local
DESTDIR ?=

.PHONY: help demo build test test-long test-certificate chaos soak test-large bench bench-gpu bench-flow bench-scale hostile fuzz model-card install uninstall deb \
	kafka-up kafka-down fmt lint doc \
	metrics-page settings-page page-check deploy-check clean setup-build setup-test

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: build ## build, then show tamis judging a stream, without a broker of your own
	$(release)/tamis demo

build: setup-build ## set up what compiling takes, then build target/release/tamis with its ONNX Runtime beside it (FEATURES=formats)
	cargo build --release --locked $(features)
	cmp -s var/ort/libonnxruntime.so $(release)/libonnxruntime.so || install -m 755 var/ort/libonnxruntime.so $(release)/

test: setup-test ## set up everything, a real Kafka broker included, then run all tests
	cargo test --locked --features formats

test-long: setup-test ## run the tests on the broker in their long forms: every assignor, and memory with the defaults
	TAMIS_LONG=1 cargo test --locked --features formats --test it -- --nocapture groups topics memory outage

chaos: build setup-test ## faults on genuine brokers until SEED, MINUTES, KILLS are through (FAULTS=worker,…, BROKERS=3, GUARANTEE=…); docs/reliability.md
	@tools/setup/system.sh chaos
	var/venv/bin/python tools/chaos/chaos.py --tamis "$(or $(TAMIS),$(release)/tamis)" --csv docs/reliability.csv \
		--seed "$(or $(SEED),$(shell date +%s))" --minutes "$(or $(MINUTES),2)" --kills "$(or $(KILLS),0)" \
		$(if $(FAULTS),--faults $(FAULTS)) $(if $(BROKERS),--brokers $(BROKERS)) $(if $(GUARANTEE),--guarantee $(GUARANTEE)) $(MORE)

test-certificate: setup-test ## the promise of stop = "certified", on populations built to deceive it, each in 100,000 orders; minutes
	CARGO_PROFILE_DEV_OPT_LEVEL=3 TAMIS_LONG=1 cargo test --locked --lib scorer::certificate -- --nocapture

soak: build setup-test ## full speed with rebalances for MINUTES (60): memory, handles, threads, cache and latency, judged and drawn in var/soak
	var/venv/bin/python tools/chaos/soak.py --tamis "$(or $(TAMIS),$(release)/tamis)" --minutes "$(or $(MINUTES),60)" $(if $(RATE),--rate $(RATE))

test-large: build ## models of 2.4 GB and of 250,000 pieces within their memory (PYTHON=one with tools/fixtures/requirements.txt)
	$(or $(PYTHON),python3) tools/bench/make_model.py var/wide --vocab 250002 --hidden 64 --layers 2
	$(or $(PYTHON),python3) tools/bench/memory.py var/wide --tamis $(release)/tamis --words 100 450 10000
	$(or $(PYTHON),python3) tools/bench/make_model.py var/large --vocab 270000 --hidden 2048 --layers 1 --heads 16 --external
	$(or $(PYTHON),python3) tools/bench/memory.py var/large --tamis $(release)/tamis --words 60 --window 128

bench: build ## tokens and targets a second against ONNX Runtime alone and minicons; half an hour (QUICK=1: minutes; PYTHON=your own)
	cargo build --release --locked --examples
	tools/bench/run.sh "$(release)"

bench-gpu: build ## one device against PyTorch and its own matrix products (DEVICE=cuda:0, LIBRARY=folder, PYTHON=one with torch, QUICK=1, MORE=options); docs/gpu.md
	$(or $(PYTHON),python3) tools/bench/gpu/gpu.py --tamis "$(or $(TAMIS),$(release)/tamis)" --device "$(or $(DEVICE),cuda:0)" \
		$(if $(LIBRARY),--library "$(LIBRARY)") $(if $(QUICK),--quick) $(MORE)

model-card: build ## measure the model by tamis: its report and plots (EVAL=folder of evaluation sets; CHECK=1 compares, QUICK=1 tries)
	@tools/card/run.sh "$(release)"

bench-flow: build ## documents/s from Kafka to Kafka against a bare copy loop, Kafka Streams and Python; latency (FLOW='--parts none --rounds 3': options)
	@tools/kafka/broker.sh fetch
	@tools/setup/python.sh
	cargo build --release --locked --example copy
	var/venv/bin/python tools/bench/flow/flow.py --tamis $(release)/tamis --copy $(release)/examples/copy $(FLOW)

bench-scale: build ## one to four workers in a group, their devices stood in for: throughput, pauses of rebalances, skew (SCALE='--workers 1,2': options)
	@tools/kafka/broker.sh fetch
	@tools/setup/python.sh
	var/venv/bin/python tools/bench/flow/scale.py --tamis $(release)/tamis $(SCALE)

hostile: build ## a hostile stream through a live worker, and bombs for the file source (RECORDS=20000, SEED=1)
	@tools/kafka/broker.sh fetch
	@tools/setup/python.sh
	var/venv/bin/python tools/hostile/stream.py --tamis $(release)/tamis --records $(or $(RECORDS),20000) --seed $(or $(SEED),1)

fuzz: setup-build ## one fuzz target for so long: TARGET=decode SECONDS=600 (the rest: ls fuzz/targets); its line goes to docs/fuzzing.csv; docs/fuzzing.md
	@fuzz/run.sh "$(TARGET)" "$(or $(SECONDS),600)"

install: build ## install the program, its model, pipelines, completions and manual (PREFIX=/usr/local, DESTDIR=)
	@tools/package/install.sh "$(release)" "$(PREFIX)" "$(DESTDIR)"

uninstall: ## remove what `make install` put there, with the same PREFIX and DESTDIR
	@tools/package/uninstall.sh "$(PREFIX)" "$(DESTDIR)"

deb: build ## pack a Debian package into target/debian, where dpkg's tools are installed
	@tools/package/deb.sh "$(release)" "$(target)/debian"

kafka-up: ## start a Kafka broker on this machine and print its address (PORT=9092 for a port of your choice)
	@tools/setup/system.sh broker
	@tools/kafka/broker.sh up $(if $(PORT),--port $(PORT))

kafka-down: ## stop that broker and delete its data
	@tools/kafka/broker.sh down

fmt: ## format the Rust code
	cargo fmt
	cargo fmt --manifest-path fuzz/Cargo.toml

lint: setup-build ## formatting, clippy, documentation; licences and shell scripts where their tools are installed
	cargo fmt --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo clippy --all-targets --locked -- -D warnings
	cargo clippy --all-targets --locked --features formats -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps --locked --features formats
	tools/security/deny.sh
	@if command -v shellcheck >/dev/null; then set -x; shellcheck tools/*/*.sh tools/*/*/*.sh fuzz/*.sh deploy/*.sh deploy/*/*.sh .ci/run; \
	else echo '*** NOT CHECKED: shell scripts. Install the tool: tools/setup/system.sh lint' >&2; fi

doc: setup-build ## build the code's documentation into target/doc
	cargo doc --no-deps --locked

metrics-page: setup-build ## write docs/metrics.md anew from the table of series
	TAMIS_WRITE_PAGES=1 cargo test --quiet --locked --features formats --test tidy the_page_of_metrics

settings-page: setup-build ## write docs/configuration.md anew from the settings' types
	TAMIS_WRITE_PAGES=1 cargo test --quiet --locked --test tidy the_page_of_settings

page-check: setup-test ## look at the live page of a running worker in a real Chromium; screenshots in var/page/shots
	cargo build --locked --features formats
	tools/page/check.sh $(target)/debug/tamis

deploy-check: setup-test ## check deploy/ by the tools that will read it: systemd, promtool, Prometheus, helm, kubectl-validate
	@tools/setup/deploy.sh
	cargo build --locked --features formats
	deploy/check.sh

clean: kafka-down ## delete what was built and what the set-up put into var/
	cargo clean
	rm -rf var/ort var/venv var/kafka var/deploy var/page var/wide var/large var/bench var/bench-* var/soak

setup-build:
	@tools/setup/system.sh build
	@tools/setup/rust.sh
	@tools/setup/onnxruntime.sh

setup-test: setup-build
	@tools/setup/system.sh broker
	@tools/setup/python.sh
	@tools/kafka/broker.sh fetch
