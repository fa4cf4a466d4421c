# What is built and downloaded goes to build/, which git ignores; everything can be run again at once.
# "make deps" installs missing Debian packages. Machines, namespaces and the Debian image need root: without it, sudo is used.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
BUILD := build
SETUP := qemu-tests/setup
GO := go
# Shipped programs are static and do not say where they were built.
GOBUILD := CGO_ENABLED=0 $(GO) build -trimpath
# Debian gives users no /usr/sbin, and sudo a path of its own, in which a Go from elsewhere is missing.
export PATH := $(PATH):/usr/sbin:/sbin
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo 'sudo -E env PATH=$(PATH)')
# go test runs the test programs through sudo when the user is not root; it builds them as the user.
TESTEXEC := $(if $(SUDO),-exec '$(SUDO)')
GOSRC := $(shell find cmds uinit imagefmt mkinitramfs internal qemu-tests -name '*.go' -not -path '*/lint/*' 2>/dev/null) go.mod go.sum
FUZZTIME ?= 10s


.PHONY: help bench-tracker bench-sim bench-sim-validate build deps deps-demo kernels image initramfs demo test test-cuts test-unit test-vm bench bench-swarm lint fuzz clean
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  make \1\t/' | expand -t 20

build: $(BUILD)/bin/.stamp ## the programs, in build/bin
$(BUILD)/bin/.stamp: $(GOSRC)
	@mkdir -p $(BUILD)/bin
	$(GOBUILD) -o $(BUILD)/bin/ ./cmds/... ./mkinitramfs
	@$(GO) build -o $(BUILD)/bin/ ./qemu-tests/demo ./qemu-tests/bench
	@touch $@

deps: ## install the Debian packages that are missing (apt-get)
	@$(SETUP)/deps.sh test
deps-demo:
	@$(SETUP)/deps.sh demo

kernels: $(BUILD)/kernel/.stamp ## download Debian's kernels and unpack them (they are not installed)
$(BUILD)/kernel/.stamp: $(SETUP)/kernels.sh $(SETUP)/deps.sh
	@$(SETUP)/deps.sh demo
	@$(SETUP)/kernels.sh $(BUILD)/kernel
	@touch $@

initramfs: $(BUILD)/initramfs.cpio.zst ## the initramfs of the nodes
$(BUILD)/initramfs.cpio.zst: $(BUILD)/bin/.stamp $(BUILD)/kernel/.stamp
	$(BUILD)/bin/mkinitramfs --kernel $(BUILD)/kernel/generic/vmlinuz --modules $(BUILD)/kernel/generic/modules -o $@

image: $(BUILD)/debian/debian.stamp ## the Debian disk that tests and demo deploy
$(BUILD)/debian/debian.stamp: $(SETUP)/debian.sh $(SETUP)/customize.sh $(SETUP)/loaders.sh $(SETUP)/report.sh
	@$(SETUP)/deps.sh demo
	@$(SUDO) $(SETUP)/debian.sh $(BUILD)/debian
	@$(SUDO) touch $@

demo: deps-demo build initramfs image ## image a Debian disk and deploy it onto two virtual machines
	@$(SUDO) $(BUILD)/bin/demo

bench-swarm: build image $(BUILD)/bench-swarm/images/.stamp ## the swarm at line rate, in network namespaces, against its aims (SCENARIOS=all, an hour)
	@$(SETUP)/deps.sh compare
	$(GOBUILD) -o $(BUILD)/bin/ ./qemu-tests/benchswarm
	@$(SUDO) $(BUILD)/bin/benchswarm --image $(BUILD)/bench-swarm/images/verbatim,$(BUILD)/bench-swarm/images/packed --scenarios $(or $(SCENARIOS),all)
$(BUILD)/bench-swarm/images/.stamp: $(BUILD)/bin/.stamp $(BUILD)/debian/debian.stamp qemu-tests/benchswarm/image.sh
	@mkdir -p $(@D)
	@rm -f $(@D)/*.json $(@D)/*.payload $(@D)/*.torrent
	@$(SUDO) qemu-tests/benchswarm/image.sh $(BUILD)/debian/debian.raw $(@D)/debian.raw
	@for l in verbatim packed; do $(BUILD)/bin/swarmboot image create --layout $$l $(@D)/debian.raw $(@D)/$$l; done
	@touch $@

bench: deps-demo build initramfs image ## measure sizes and speeds
	@$(SUDO) $(BUILD)/bin/bench

bench-tracker: ## 20,000 nodes announcing to the tracker over HTTP
	$(GO) test -run '^$$' -bench 'Load$$' -benchtime 1x ./internal/tracker

bench-sim: ## the tracker's topology with 100 to 20,000 simulated nodes, 10 GB each (SIM=--json)
	$(GO) run ./qemu-tests/simswarm --table --image 10000 --piece 1024 $(SIM)

bench-sim-validate: build $(BUILD)/bench-swarm/images/.stamp ## the simulator against 8 and 16 nodes in network namespaces, five minutes
	$(GOBUILD) -o $(BUILD)/bin/ ./qemu-tests/benchswarm
	@rm -f $(BUILD)/bench-swarm/measured.jsonl
	@for run in "8 100" "8 50" "16 50"; do set -- $$run; $(SUDO) $(BUILD)/bin/benchswarm --image $(BUILD)/bench-swarm/images/verbatim --nodes $$1 --rate $$2 --json >> $(BUILD)/bench-swarm/measured.jsonl || exit 1; done
	$(GO) run ./qemu-tests/simswarm --validate $(BUILD)/bench-swarm/measured.jsonl

test-unit: deps ## the quick tests
	$(GO) vet ./...
	$(GO) test -short ./...

test: deps build initramfs image lint ## everything: unit, integration and machine tests, lint
	$(GO) test -timeout 20m $(TESTEXEC) ./mkinitramfs $$($(GO) list ./... | grep -v /qemu-tests)
	$(GO) test -timeout 30m -p 2 $(TESTEXEC) ./qemu-tests/reboot ./qemu-tests/scenario ./qemu-tests/...

test-vm: deps build initramfs image ## the tests with virtual machines only
	$(GO) test -count=1 -v -timeout 30m -p 2 $(TESTEXEC) ./qemu-tests/reboot ./qemu-tests/scenario ./qemu-tests/...

test-cuts: deps build initramfs image ## 27 power cuts of machines while they are deployed, about ten minutes (CUTS=30 SEED=2)
	CUTS=$${CUTS:-9} $(GO) test -count=1 -v -timeout 60m $(TESTEXEC) ./qemu-tests/cuts

lint: $(BUILD)/lint/golangci-lint ## golangci-lint and gofmt
	$(BUILD)/lint/golangci-lint run --allow-parallel-runners ./...
$(BUILD)/lint/golangci-lint: qemu-tests/lint/go.mod qemu-tests/lint/go.sum
	cd qemu-tests/lint && CGO_ENABLED=0 $(GO) build -trimpath -o $(CURDIR)/$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

fuzz: ## every fuzz target for FUZZTIME
	@$(GO) test -list '^Fuzz' ./... | awk '/^Fuzz/ {f[n++]=$$1} /^ok/ {for (i=0;i<n;i++) print $$2, f[i]; n=0}' | \
	while read -r pkg target; do echo "fuzz $$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) "$$pkg"; done

clean: ## remove build/
	$(SUDO) rm -rf $(BUILD)
