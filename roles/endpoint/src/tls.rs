//! TLS 1.3 with the site CA as the only root for clients, and a server certificate that can be replaced while serving.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::CertifiedKey,
    version::TLS13,
};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not PEM, or nothing in it.
    #[error("the {what} is not PEM: give the file that the site's signer issued")]
    Pem {
        /// What was read.
        what: &'static str,
        /// Cause.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// Certificate and key do not fit, or the key cannot be used.
    #[error("the server certificate cannot be used with its key: give both of one issue")]
    Key(#[source] rustls::Error),
    /// The CA certificate is not usable as a root.
    #[error("the site CA's certificate cannot be used as a root for clients")]
    Root(#[source] rustls::Error),
    /// The verifier refuses the roots.
    #[error("clients cannot be verified against the site CA")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
    /// The library refuses the configuration.
    #[error("TLS 1.3 is not available in this build")]
    Version(#[source] rustls::Error),
}

/// A server certificate that can be replaced while connections are served; new handshakes get the new one.
#[derive(Debug)]
pub struct CertificateSlot(ArcSwap<CertifiedKey>);

impl CertificateSlot {
    /// Starts with a chain (PEM, leaf first) and its key (PEM).
    pub fn new(chain_pem: &str, key_pem: &str) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self(ArcSwap::from_pointee(certified(chain_pem, key_pem)?))))
    }

    /// Replaces it; on error the old one stays.
    pub fn replace(&self, chain_pem: &str, key_pem: &str) -> Result<(), TlsError> {
        self.0.store(Arc::new(certified(chain_pem, key_pem)?));
        Ok(())
    }
}

impl ResolvesServerCert for CertificateSlot {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

fn certified(chain_pem: &str, key_pem: &str) -> Result<CertifiedKey, TlsError> {
    let chain = certificates("server certificate", chain_pem)?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
        .map_err(|source| TlsError::Pem { what: "server key", source })?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(TlsError::Key)
}

fn certificates(what: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| TlsError::Pem { what, source })?;
    if found.is_empty() {
        return Err(TlsError::Pem { what, source: rustls::pki_types::pem::Error::NoItemsFound });
    }
    Ok(found)
}

fn provider() -> CryptoProvider {
    aws_lc_rs::default_provider()
}

/// The configuration of a listener. Certificates of any other CA end the handshake; whether none at all is accepted
/// says `certificate_required` (a management point also talks to machines that are about to enrol).
pub fn server_config(
    slot: Arc<CertificateSlot>,
    client_ca_pem: &str,
    certificate_required: bool,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(provider());
    let mut roots = RootCertStore::empty();
    for root in certificates("site CA", client_ca_pem)? {
        roots.add(root).map_err(TlsError::Root)?;
    }
    let mut verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if !certificate_required {
        verifier = verifier.allow_unauthenticated();
    }
    let verifier = verifier.build().map_err(TlsError::Verifier)?;
    let mut config = verified_by(slot, verifier)?;
    // Tickets instead of a session cache: clients come back hourly, and there may be 100,000 of them. A resumed
    // session keeps the certificate's bytes; its validity is checked again with every request.
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(TlsError::Version)?;
    Ok(Arc::new(config))
}

/// The configuration of a listener whose clients are verified by somebody else, with every connection: none is resumed.
pub fn server_config_with(
    slot: Arc<CertificateSlot>,
    verifier: Arc<dyn ClientCertVerifier>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = verified_by(slot, verifier)?;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn verified_by(
    slot: Arc<CertificateSlot>,
    verifier: Arc<dyn ClientCertVerifier>,
) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Version)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(slot);
    // No HTTP/2: a client has one question at a time, and resets, continuations, settings and windows to be flooded with
    // are worth more to an attacker than multiplexing is to an agent (reliability.md 4 #87).
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.max_early_data_size = 0;
    Ok(config)
}
