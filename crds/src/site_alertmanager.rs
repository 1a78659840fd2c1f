//! Where a site silences and raises alerts.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::reference::SecretRef;

/// The Alertmanager of the monitoring system (API version 2). Deployments use it that ask for it in
/// `settings.alerts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertmanagerSpec {
    /// URLs of the Alertmanagers, 1 to 4, with a path where they have one, for example
    /// `http://alertmanager.monitoring.svc:9093`. Of a cluster name every member, and no load balancer: alerts go to all of
    /// them, silences to the first that answers, which tells the others.
    #[schemars(length(min = 1, max = 4), inner(length(min = 8, max = 512)))]
    #[x_kube(validation = Rule::new("self.all(u, u.matches('^https?://[^ ?#@]+$'))").message("write each URL as http://host:port or https://host:port, without user name, query and fragment; credentials go into secretRef"))]
    pub urls: Vec<String>,
    /// Secret with `bearerToken`, or `username` and `password`; and `ca.crt` for a private certificate authority (the
    /// system's authorities do not count then). Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// Label by which alerts name the machine that they are about. A silence matches the client's name in it, with or
    /// without a port. Default `instance`.
    #[serde(default = "instance")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-zA-Z_][a-zA-Z0-9_]*$"))]
    pub client_label: String,
    /// Fact of the client that holds what this label says, for example `label/monitoring` for the file
    /// `/etc/patchtide/labels.d/monitoring`. A client without this fact is not silenced. Default: the client's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[A-Za-z0-9][A-Za-z0-9._/-]*$"))]
    pub client_fact: Option<String>,
}

fn instance() -> String {
    "instance".to_owned()
}
