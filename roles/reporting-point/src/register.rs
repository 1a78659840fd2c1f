//! The `APIService` through which the kube-apiserver finds this server: the CA of its certificate is kept in there.

use std::time::Duration;

use k8s_openapi::{ByteString, kube_aggregator::pkg::apis::apiregistration::v1::APIService};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::{GROUP, VERSION};

/// The object is looked at this often: it may come later than this server, or be applied anew without the CA.
const LOOK: Duration = Duration::from_secs(5);
const MANAGER: &str = "patchtide-reports";

/// What the cluster is told about this server.
#[derive(Debug, Clone)]
pub struct Registration {
    /// Namespace of the Service that leads here. An object that names another one is left alone.
    pub namespace: String,
    /// Name of that Service.
    pub service: String,
    /// The CA of the server's certificate, PEM.
    pub ca_pem: String,
}

impl Registration {
    /// The name that the kube-apiserver expects in the server's certificate.
    pub fn server_name(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }

    /// Keeps the CA in the `APIService`. Runs until the task is dropped.
    pub async fn keep(self, client: Client) {
        let services: Api<APIService> = Api::all(client);
        let name = format!("{VERSION}.{GROUP}");
        let mut told = None;
        loop {
            let problem = self.look(&services, &name).await.err().map(|error| error.to_string());
            if problem != told {
                if let Some(error) = &problem {
                    tracing::warn!(error, "APIService {name} cannot be kept: see manifests/reports");
                }
                told = problem;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn look(&self, services: &Api<APIService>, name: &str) -> Result<(), kube::Error> {
        let Some(found) = services.get_opt(name).await? else { return Ok(()) };
        let Some(spec) = &found.spec else { return Ok(()) };
        let leads_here = spec.service.as_ref().is_some_and(|service| {
            service.namespace.as_deref() == Some(&self.namespace)
                && service.name.as_deref() == Some(&self.service)
        });
        let ca = ByteString(self.ca_pem.clone().into_bytes());
        if !leads_here || spec.ca_bundle.as_ref() == Some(&ca) {
            return Ok(());
        }
        let patch = json!({
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": name},
            "spec": {"caBundle": ca},
        });
        services.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(patch)).await?;
        tracing::info!("APIService {name} has the CA of this server");
        Ok(())
    }
}
