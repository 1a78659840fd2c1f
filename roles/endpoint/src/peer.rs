use std::{net::SocketAddr, sync::Arc};

use axum::extract::FromRequestParts;
use http::{StatusCode, request::Parts};
use patchtide_protocol::identity::{ClientId, ClientIdentity};
use rustls_pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;

use crate::Refusal;

/// Who is calling; an extension of every request.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The address at the other end of the connection.
    pub address: SocketAddr,
    /// Whom its certificate names.
    pub identity: Result<Arc<ClientIdentity>, Unidentified>,
    /// The certificates it showed, its own first; none without one. They were good when the connection began.
    pub certificates: Arc<[CertificateDer<'static>]>,
}

/// Why a connection names no client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unidentified {
    /// No client certificate was given.
    NoCertificate,
    /// A certificate of the site CA that names no client, for example a server's.
    NoClient(String),
    /// It names a client of another site.
    OtherSite,
    /// Its validity ended.
    Expired,
}

/// The role is stopping: long polls answer at once. An extension of every request.
#[derive(Debug, Clone)]
pub struct Draining(pub CancellationToken);

/// Extractor: the client that the certificate names, or a refusal.
#[derive(Debug, Clone)]
pub struct AuthenticatedClient {
    /// The client.
    pub id: ClientId,
    /// Where it calls from.
    pub address: SocketAddr,
}

impl AuthenticatedClient {
    /// The client of a peer, or why it is none.
    pub fn of(peer: &Peer) -> Result<Self, Refusal> {
        match &peer.identity {
            Ok(identity) => Ok(Self { id: identity.client, address: peer.address }),
            Err(Unidentified::NoCertificate) => Err(Refusal::new(
                StatusCode::UNAUTHORIZED,
                "TLS-NO-CERTIFICATE",
                "this needs the certificate of an enrolled client",
                "enrol first: POST /v1/enrolments on a management point",
            )),
            Err(Unidentified::NoClient(detail)) => Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "TLS-IDENTITY",
                detail,
                "use the certificate that enrolment gave to this client",
            )),
            Err(Unidentified::OtherSite) => Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "TLS-OTHER-SITE",
                "the certificate names a client of another site",
                "use this site's enrolment bundle and enrol again",
            )),
            Err(Unidentified::Expired) => Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "TLS-EXPIRED",
                "the client certificate's validity ended",
                "enrol again with the same key; the client keeps its identity",
            )
            .closing()),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for AuthenticatedClient {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let peer = parts.extensions.get::<Peer>().ok_or_else(|| {
            // Only a router that is not served by a `Listener` gets here: refuse rather than guess.
            Refusal::unavailable("the connection's peer is not known")
        })?;
        Self::of(peer)
    }
}
