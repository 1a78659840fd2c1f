# The front door. What a target does lives in xtask/; `cargo xtask help` says more.

help: ; @cargo xtask help
demo: ; @cargo xtask demo
test: ; @cargo xtask test
lint: ; @cargo xtask lint
bench: ; @cargo xtask bench
crds: ; @cargo xtask crds
clean: ; @cargo xtask clean

.PHONY: help demo test lint bench crds clean
