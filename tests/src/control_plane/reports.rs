//! Registering a reporting point that runs on this machine.

use std::fs;

use anyhow::{Context, Result};

use super::ControlPlane;
use crate::paths;

/// The object through which the API server finds it.
const APISERVICE: &str = "apiservice/v1alpha1.reports.patchtide.dev";

impl ControlPlane {
    /// Applies `manifests/reports` for a server on port `port` of this machine, and waits until the API server reaches it.
    /// Loopback addresses cannot be endpoints of a Service, so it is one that stands for a name.
    pub fn register_reports(&self, port: u16) -> Result<()> {
        let folder = paths::workspace().join("manifests/reports");
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        self.apply(&read("rbac.yaml")?)?;
        let service = read("service.yaml")?;
        let (head, _) = service.split_once("spec:").context("service.yaml has no spec")?;
        self.apply(&format!("{head}spec: {{type: ExternalName, externalName: localhost}}\n"))?;
        self.apply(&read("apiservice.yaml")?.replace("port: 443", &format!("port: {port}")))?;
        self.kubectl(&["wait", "--for=condition=Available", "--timeout=60s", APISERVICE]).map(drop)
    }
}
