//! The connection to the API server.

use anyhow::Context as _;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::args;

/// A client from `--kubeconfig`, else from the pod's service account; nothing ambient is ever used.
pub(crate) async fn client(arguments: &args::Kubernetes) -> anyhow::Result<Client> {
    let config = match &arguments.kubeconfig {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path)
                .with_context(|| format!("cannot read the kubeconfig {}", path.display()))?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .with_context(|| format!("cannot use the kubeconfig {}", path.display()))?
        }
        None => Config::incluster()
            .context("no cluster: give --kubeconfig, or run in a pod with a service account")?,
    };
    Client::try_from(config).context("cannot set up the connection to the API server")
}
