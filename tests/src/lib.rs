//! The ground Patchtide is tested on: real parts, started and stopped by the tests themselves.
//!
//! - [`control_plane`]: kube-apiserver, etcd and kube-controller-manager, built from Go modules and kept in a cache
//! - [`host`]: client machines: a Debian root with its own process 1, network address and restarts
//! - [`archive`]: the Debian archive that this machine's apt is configured for
//! - [`postgres`], [`git`], [`alertmanager`]: a private PostgreSQL server, real Git repositories, a private Alertmanager
//! - [`prometheus`], [`monitoring`]: a private Prometheus, and what the rules and dashboards ask of it
//! - [`process`], [`ports`], [`wait`], [`paths`], [`progress`]: what the others stand on
//! - [`bench`]: the measurements, and the peers of the archive sync
//! - [`demo`]: the path from a Git commit to a patched machine, run by `make demo` and by the end-to-end test
//!
//! Nothing here skips: a part that cannot be had is an error that says what is missing. Whatever is started is ended
//! when its value is dropped, and also when the test process is killed (parent-death signals and PID namespaces).

pub mod alertmanager;
pub mod archive;
pub mod bench;
pub mod clock;
pub mod control_plane;
pub mod demo;
pub mod git;
pub mod host;
pub mod monitoring;
pub mod paths;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod progress;
pub mod prometheus;
pub mod wait;
