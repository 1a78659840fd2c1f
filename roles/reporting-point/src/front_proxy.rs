//! Whom the requests come from: the kube-apiserver, which has authenticated a person and says who it is. That counts only
//! from a connection with a client certificate of the cluster's front proxy.

use std::{collections::BTreeSet, fmt, sync::Arc};

use arc_swap::ArcSwapOption;
use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt as _, watcher},
};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, UnixTime, pem::PemObject as _},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

/// Where the kube-apiserver says whom extension servers may believe.
const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";

/// What the `ConfigMap` says.
#[derive(Debug)]
pub(crate) struct Proxy {
    verifier: Arc<dyn ClientCertVerifier>,
    /// Names that its certificate may have; empty: any.
    names: BTreeSet<String>,
    pub(crate) headers: Names,
}

/// Names of the headers in which it says for whom it asks.
#[derive(Debug)]
pub(crate) struct Names {
    /// Headers with the name of the user, the first that is there counts.
    pub(crate) user: Vec<String>,
    /// Headers with the user's identity.
    pub(crate) uid: Vec<String>,
    /// Headers with groups.
    pub(crate) group: Vec<String>,
    /// Beginnings of headers with anything else.
    pub(crate) extra: Vec<String>,
}

/// Why the `ConfigMap` cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    #[error("it has no {0}: give the kube-apiserver the --requestheader-* flags")]
    Missing(&'static str),
    #[error("its {key} is not a JSON list of texts")]
    List {
        key: &'static str,
        #[source]
        source: serde_json::Error,
    },
    #[error("its CA certificates cannot be read")]
    Pem(#[source] rustls::pki_types::pem::Error),
    #[error("its CA certificates cannot be used")]
    Roots(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Proxy {
    fn read(map: &ConfigMap) -> Result<Self, ProxyError> {
        let text = |key: &'static str| map.data.as_ref().and_then(|data| data.get(key));
        let list = |key: &'static str| -> Result<Vec<String>, ProxyError> {
            let read = |text: &String| serde_json::from_str(text);
            text(key).map_or(Ok(Vec::new()), read).map_err(|source| ProxyError::List { key, source })
        };
        let authorities = text("requestheader-client-ca-file")
            .ok_or(ProxyError::Missing("requestheader-client-ca-file"))?;
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
            roots.add(root.map_err(ProxyError::Pem)?).map_err(|error| ProxyError::Roots(error.into()))?;
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| ProxyError::Roots(error.into()))?;
        let user = list("requestheader-username-headers")?;
        if user.is_empty() {
            return Err(ProxyError::Missing("requestheader-username-headers"));
        }
        Ok(Self {
            verifier,
            names: list("requestheader-allowed-names")?.into_iter().collect(),
            headers: Names {
                user,
                uid: list("requestheader-uid-headers")?,
                group: list("requestheader-group-headers")?,
                extra: list("requestheader-extra-headers-prefix")?,
            },
        })
    }

    fn is(&self, chain: &[CertificateDer<'static>]) -> bool {
        let Some((own, others)) = chain.split_first() else { return false };
        self.verifier.verify_client_cert(own, others, UnixTime::now()).is_ok()
            && (self.names.is_empty() || common_name(own).is_some_and(|name| self.names.contains(&name)))
    }
}

fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = certificate.subject().iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}

/// The front proxy as it is known at present; nobody, until the `ConfigMap` was read.
pub(crate) struct FrontProxy {
    known: ArcSwapOption<Proxy>,
    provider: CryptoProvider,
}

impl fmt::Debug for FrontProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrontProxy").field("known", &self.known.load().is_some()).finish_non_exhaustive()
    }
}

impl FrontProxy {
    pub(crate) fn unknown() -> Arc<Self> {
        Arc::new(Self { known: ArcSwapOption::empty(), provider: aws_lc_rs::default_provider() })
    }

    /// Whether the `ConfigMap` was read.
    pub(crate) fn is_known(&self) -> bool {
        self.known.load().is_some()
    }

    /// The front proxy, if this is the chain of its certificate. Asked with every request: a connection may be older than
    /// the CA that is in force.
    pub(crate) fn recognise(&self, chain: &[CertificateDer<'static>]) -> Option<Arc<Proxy>> {
        self.known.load_full().filter(|proxy| proxy.is(chain))
    }

    /// Follows the `ConfigMap` until the task is dropped.
    pub(crate) async fn follow(self: Arc<Self>, client: Client) {
        let maps: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
        loop {
            let mut maps = Box::pin(watcher::watch_object(maps.clone(), NAME).default_backoff());
            loop {
                match maps.try_next().await {
                    Ok(Some(map)) => self.learn(map.as_ref()),
                    Ok(None) => break,
                    Err(error) => tracing::warn!(
                        %error,
                        "ConfigMap {NAMESPACE}/{NAME} cannot be read: give this service account the role \
                         extension-apiserver-authentication-reader (manifests/reports)"
                    ),
                }
            }
        }
    }

    fn learn(&self, map: Option<&ConfigMap>) {
        match map.map(Proxy::read) {
            Some(Ok(proxy)) => {
                tracing::info!(names = ?proxy.names, "the front proxy of the cluster is known");
                self.known.store(Some(Arc::new(proxy)));
            }
            Some(Err(error)) => {
                tracing::warn!(error = %chain_of(&error), "ConfigMap {NAMESPACE}/{NAME} cannot be used: nobody is believed");
                self.known.store(None);
            }
            None => {
                tracing::warn!("there is no ConfigMap {NAMESPACE}/{NAME}: nobody is believed");
                self.known.store(None);
            }
        }
    }
}

pub(crate) fn chain_of(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// Connections without a certificate are let in (for health); one with a certificate of anybody else is not.
impl ClientCertVerifier for FrontProxy {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // They change while this serves; proxies send their certificate without.
        &[]
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match &*self.known.load() {
            Some(proxy) => proxy.verifier.verify_client_cert(own, others, now),
            None => Err(rustls::CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
        KeyUsagePurpose,
    };

    use super::*;

    type Authority = CertifiedIssuer<'static, KeyPair>;

    fn authority(name: &str) -> Authority {
        let mut request = CertificateParams::default();
        request.distinguished_name.push(DnType::CommonName, name);
        request.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        request.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        CertifiedIssuer::self_signed(request, KeyPair::generate().unwrap()).unwrap()
    }

    fn certificate(
        by: &Authority,
        name: &str,
        usage: ExtendedKeyUsagePurpose,
    ) -> Vec<CertificateDer<'static>> {
        let mut request = CertificateParams::new(Vec::new()).unwrap();
        request.distinguished_name.push(DnType::CommonName, name);
        request.extended_key_usages = vec![usage];
        vec![request.signed_by(&KeyPair::generate().unwrap(), by).unwrap().der().clone()]
    }

    fn map(authority: &Authority, names: &str) -> ConfigMap {
        let data = [
            ("requestheader-client-ca-file", authority.pem()),
            ("requestheader-allowed-names", names.to_owned()),
            ("requestheader-username-headers", r#"["X-Remote-User"]"#.to_owned()),
        ];
        let data = data.into_iter().map(|(key, value)| (key.to_owned(), value));
        ConfigMap { data: Some(data.collect::<BTreeMap<_, _>>()), ..ConfigMap::default() }
    }

    #[test]
    fn only_the_named_certificate_of_the_ca_in_force_is_believed() {
        let (old, new) = (authority("old"), authority("new"));
        let client = ExtendedKeyUsagePurpose::ClientAuth;
        let chain = certificate(&old, "front-proxy", client.clone());
        let proxy = FrontProxy::unknown();
        assert!(proxy.recognise(&chain).is_none(), "before anything is known");
        proxy.learn(Some(&map(&old, r#"["front-proxy"]"#)));
        assert!(proxy.is_known() && proxy.recognise(&chain).is_some());
        assert!(proxy.recognise(&[]).is_none());
        assert!(proxy.recognise(&certificate(&old, "kubelet", client.clone())).is_none());
        assert!(proxy.recognise(&certificate(&new, "front-proxy", client.clone())).is_none());
        let server = certificate(&old, "front-proxy", ExtendedKeyUsagePurpose::ServerAuth);
        assert!(proxy.recognise(&server).is_none(), "not made for clients");
        proxy.learn(Some(&map(&old, "[]")));
        assert!(proxy.recognise(&certificate(&old, "any", client.clone())).is_some(), "no name is asked for");

        // The CA is replaced: a connection of before is believed no longer.
        proxy.learn(Some(&map(&new, r#"["front-proxy"]"#)));
        assert!(proxy.recognise(&chain).is_none());
        assert!(proxy.recognise(&certificate(&new, "front-proxy", client)).is_some());
    }

    #[test]
    fn what_cannot_be_read_leaves_nobody_to_believe() {
        let authority = authority("ca");
        let proxy = FrontProxy::unknown();
        let known = map(&authority, "[]");
        let mut missing = known.clone();
        missing.data.as_mut().unwrap().remove("requestheader-client-ca-file");
        let mut empty = known.clone();
        empty.data.as_mut().unwrap().insert("requestheader-client-ca-file".to_owned(), String::new());
        let mut nobody = known.clone();
        nobody.data.as_mut().unwrap().remove("requestheader-username-headers");
        for bad in [Some(&missing), Some(&empty), Some(&nobody), Some(&map(&authority, "front-proxy")), None]
        {
            proxy.learn(Some(&known));
            assert!(proxy.is_known());
            proxy.learn(bad);
            assert!(!proxy.is_known());
        }
    }
}
