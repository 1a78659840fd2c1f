# The front door. What a target does lives in xtask/; `cargo xtask help` says more.

help: linker ; @cargo xtask help
demo: linker ; @cargo xtask demo
test: linker ; @cargo xtask test
lint: linker ; @cargo xtask lint
bench: linker ; @cargo xtask bench
crds: linker ; @cargo xtask crds
clean: linker ; @cargo xtask clean

# Rust cannot link even xtask without a C compiler, so this one package cannot wait for xtask to install it.
linker:
	@command -v cc >/dev/null || \
		{ echo "==> Debian package to install: build-essential (C compiler and linker)"; \
		  apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends build-essential; } || \
		{ echo "error: cannot install build-essential; run: sudo apt-get install build-essential" >&2; exit 1; }

.PHONY: help demo test lint bench crds clean linker
