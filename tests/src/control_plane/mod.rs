//! A real Kubernetes control plane on loopback: etcd, kube-apiserver and a lean kube-controller-manager.

mod build;
mod certificates;
mod reports;
mod start;

pub use build::{Programs, programs};
pub use start::ControlPlane;

/// The Kubernetes version of `tests/tools/kubernetes/go.mod`.
pub const KUBERNETES_VERSION: &str = "v1.36.3";
