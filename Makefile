# Everything a person types; each target does its own set-up on a fresh Debian 12.
BUILD ?= build
OPTIONS ?=

.PHONY: build up down status test test-postgres test-drivers test-oidc test-versions check fuzz bench bench-data bench-edge deps clean help

help:  ## what can be made
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:[^#]*## /\t/' | expand -t 16

deps:  ## install the packages that are missing (root)
	@tools/deps run

build: deps ## compile everything into build/
	@tools/build $(BUILD) $(OPTIONS)

up: build ## start everything on loopback: make up ARGS="--edge-port 8080"
	@$(BUILD)/bin/bulkhead up $(ARGS)

down:  ## stop it; the state stays
	@$(BUILD)/bin/bulkhead down $(ARGS)

status:  ## what runs, and how it is
	@$(BUILD)/bin/bulkhead status $(ARGS)

test:  ## unit, SQL and system tests
	@tools/deps test
	@tools/test $(ARGS)

test-postgres:  ## PostgreSQL's own tests, with the extension preloaded and without
	@tools/deps test
	@tools/build build/test -Dfailpoints=true
	@tools/test-postgres build/test

test-drivers:  ## real drivers of six languages through PgBouncer, writes doc/guide/drivers.md
	@tools/deps test
	@tools/test-drivers --write $(ARGS)

test-oidc:  ## tokens of real OpenID providers, while their keys rotate
	@tools/deps test
	@tools/test-oidc $(ARGS)

test-versions:  ## the extension on PostgreSQL 16 to 18, the edge on nginx 1.24 to 1.30, in systems of their own (root): make test-versions ARGS=17
	@tools/test-versions $(ARGS)

check:  ## sanitizers, static analysis, format and include rules
	@tools/deps test
	@tools/check

fuzz:  ## every parser of outside bytes, a short while each
	@tools/deps test
	@tools/fuzz $(ARGS)

bench:  ## measure against the baselines, writes bench/RESULTS.md
	@tools/deps bench
	@bench/run $(ARGS)

bench-data:  ## the part of it about PostgreSQL
	@tools/deps test
	@bench/run data

bench-edge:  ## the edge against nginx, HAProxy and Lua, at most 12 minutes: BENCH_ROUNDS=7 make bench-edge
	@tools/deps bench
	@bench/run edge

clean:  ## remove what was built (never the state)
	@rm -rf build
