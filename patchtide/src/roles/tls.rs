//! Server certificates of the process: issued by the site's signer, or read from files; replaced before they end.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use patchtide_endpoint::{Clock, tls::CertificateSlot};
use patchtide_signer::{ServerName, Signer};
use tokio::sync::watch;
use url::{Host, Url};

use crate::args;

/// Where server certificates come from.
pub(crate) enum Source {
    /// Issued in this process.
    Signer {
        /// By whom.
        signer: Arc<dyn Signer>,
        /// For which names.
        names: Vec<ServerName>,
    },
    /// Files that an operator or a sidecar keeps.
    Files(args::Tls),
}

/// TLS of a process.
pub(crate) struct Tls {
    /// The server certificate, replaced while serving.
    pub(crate) slot: Arc<CertificateSlot>,
    /// The site CA.
    pub(crate) client_ca: String,
    /// The chain that is shown at present.
    pub(crate) chain: watch::Sender<String>,
}

/// How often a certificate is looked after. One that is issued here lives 90 days and is replaced after 60.
const LOOK: Duration = Duration::from_mins(1);

impl Source {
    /// The certificate to start with.
    pub(crate) fn open(&self, clock: &Clock) -> anyhow::Result<Tls> {
        let (chain, key) = self.read(clock)?;
        let slot = CertificateSlot::new(&chain, &key)?;
        let client_ca = match self {
            Self::Signer { signer, .. } => signer.ca_pem().to_owned(),
            Self::Files(files) => read(&files.client_ca)?,
        };
        Ok(Tls { slot, client_ca, chain: watch::Sender::new(chain) })
    }

    fn read(&self, clock: &Clock) -> anyhow::Result<(String, String)> {
        match self {
            Self::Signer { signer, names } => {
                let server = signer
                    .issue_server_certificate(names, clock())
                    .context("no server certificate can be issued")?;
                Ok((server.chain_pem, server.key_pem))
            }
            Self::Files(files) => Ok((read(&files.certificate)?, read(&files.key)?)),
        }
    }

    /// Replaces the certificate when it is due (issued here) or when the files changed. Runs until aborted.
    pub(crate) async fn keep(self, slot: Arc<CertificateSlot>, chain: watch::Sender<String>, clock: Clock) {
        let mut issued = clock();
        let mut known = self.read(&clock).ok().filter(|_| matches!(self, Self::Files(_)));
        loop {
            tokio::time::sleep(LOOK).await;
            if matches!(self, Self::Signer { .. }) {
                let age = clock().duration_since(issued);
                if age < jiff::SignedDuration::from_hours(60 * 24) {
                    continue;
                }
            }
            let replaced = self.read(&clock).and_then(|now| {
                if known.as_ref() != Some(&now) {
                    slot.replace(&now.0, &now.1)?;
                    chain.send_replace(now.0.clone());
                    tracing::info!("server certificate replaced");
                }
                Ok(now)
            });
            match replaced {
                Ok(now) => {
                    issued = clock();
                    known = matches!(self, Self::Files(_)).then_some(now);
                }
                Err(error) => tracing::warn!("the server certificate was not replaced: {error:#}"),
            }
        }
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Names for the server certificate: what is advertised, what is listened on where that is one address, and the local
/// names, so that an operator on the machine can look.
pub(crate) fn names(advertised: &[Url], listeners: &[SocketAddr]) -> Vec<ServerName> {
    let mut names: Vec<ServerName> = advertised
        .iter()
        .filter_map(|url| match url.host()? {
            Host::Domain(name) => Some(ServerName::Dns(name.to_owned())),
            Host::Ipv4(address) => Some(ServerName::Address(address.into())),
            Host::Ipv6(address) => Some(ServerName::Address(address.into())),
        })
        .collect();
    names.extend(
        listeners.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified()).map(ServerName::Address),
    );
    names.extend([ServerName::from("localhost"), ServerName::from("127.0.0.1"), ServerName::from("::1")]);
    names.sort();
    names.dedup();
    names
}
