# Everything a person types. Each target does its own set-up: on Debian as root it installs what is missing and says so,
# elsewhere it prints the exact command.

PROFILE   := ci
BINARIES  := target/$(PROFILE)
STACK     := $(BINARIES)/stack
CARGO     := cargo
DRILL     ?=
ARGUMENTS ?=
BENCH     ?= lb dns

.PHONY: up down test drill bench soak build images clean

# Builds, starts the whole topology, and ends with the addresses after a real end-to-end request. Without a Docker
# engine it says so and starts the native topology instead.
up: build
	@deploy/setup/host run
	@if docker info >/dev/null 2>&1; then deploy/setup/images local $(BINARIES); fi
	@$(STACK) up

# Stops and removes everything that `make up` started.
down: build
	@$(STACK) down

# All tests: format, lints, unit and integration tests, the stack end to end (native and Docker), short drills, 15 s of
# fuzzing for each target.
test:
	@tests/run

# make drill               the list
# make drill DRILL=NAME    one drill, native, with its report
drill: build
	@deploy/setup/host run
	@if [ -n "$(DRILL)" ]; then $(STACK) drill run $(DRILL); else $(STACK) drill list; fi

# make bench                                                          every case of lb and dns beside their peers, about 40 minutes
# make bench BENCH=dns ARGUMENTS="--case a-4 --rounds 3 --json"        some of it
bench:
	@deploy/setup/host bench
	@for name in $(BENCH); do $(CARGO) build --quiet --locked --profile dist -p $$name || exit; done
	@$(CARGO) build --quiet --locked --profile $(PROFILE) --config profile.ci.package.tests.opt-level=3 --workspace --bins
	@for name in $(BENCH); do STACK_BIN_DIR=$(CURDIR)/target/dist $(STACK) bench $$name $(ARGUMENTS) || exit; done

# make soak                                    dns beside NSD under load while all changes, an hour each
# make soak ARGUMENTS="--seconds 300 --json"    a shorter one
soak:
	@deploy/setup/host bench
	@$(CARGO) build --quiet --locked --profile dist -p dns
	@$(CARGO) build --quiet --locked --profile $(PROFILE) --workspace --bins
	@STACK_BIN_DIR=$(CURDIR)/target/dist $(STACK) soak dns $(ARGUMENTS)

build:
	@deploy/setup/host build
	@$(CARGO) build --quiet --locked --profile $(PROFILE) --workspace --bins

images: build
	@deploy/setup/host run
	@deploy/setup/images local $(BINARIES)

# Removes build output. Data of a running stack belongs to `make down`.
clean:
	@$(CARGO) clean
