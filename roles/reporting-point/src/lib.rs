//! The reporting point: an aggregated API server, `reports.patchtide.dev`, through which kubectl reads what is too large or
//! too many for custom resources. So far `snapshots/current`, the site at one moment.
//!
//! Architecture Invariant: it never writes to the site database, and believes what a request says of its user only from
//! the front proxy of the cluster; every request but those for health is authorised by the kube-apiserver.

mod access;
mod answer;
mod discovery;
mod front_proxy;
mod path;
mod register;
pub mod snapshot;
mod user;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use http::{Method, StatusCode, Uri, request::Parts};
use kube::Client;
use patchtide_endpoint::{Clock, Limits, Peer};
use patchtide_model::SiteName;
use patchtide_store::Store;
use rustls::server::danger::ClientCertVerifier;
use tokio::{sync::Semaphore, task::JoinHandle};

pub use register::Registration;

use crate::{
    access::Access,
    answer::Answer,
    discovery::SNAPSHOTS,
    front_proxy::FrontProxy,
    path::Wanted,
    snapshot::{Asked, Reading, SnapshotError},
    user::User,
};

/// The API group.
pub const GROUP: &str = "reports.patchtide.dev";
/// Its version.
pub const VERSION: &str = "v1alpha1";

/// Path prefixes for the listener's metrics.
pub const ROUTES: &[&str] = &["/apis/reports.patchtide.dev/v1alpha1/namespaces/", "/apis", "/openapi"];

/// Snapshots written at once.
const SNAPSHOTS_AT_ONCE: usize = 2;
/// Requests answered at once.
const REQUESTS: usize = 256;

/// An aggregated API server over a site database. Serves every site that is in it.
pub struct ReportingPoint {
    database: Store,
    proxy: Arc<FrontProxy>,
    access: Access,
    clock: Clock,
    requests: Semaphore,
    snapshots: Arc<Semaphore>,
}

impl ReportingPoint {
    /// Starts to learn from the cluster whom to believe; the task ends when its handle is aborted. Until then, and while
    /// the service account lacks the right, nobody is believed.
    pub fn start(database: Store, client: &Client, clock: Clock) -> (Arc<Self>, JoinHandle<()>) {
        let proxy = FrontProxy::unknown();
        let following = tokio::spawn(Arc::clone(&proxy).follow(client.clone()));
        let point = Self {
            database,
            proxy,
            access: Access::new(client.clone()),
            clock,
            requests: Semaphore::new(REQUESTS),
            snapshots: Arc::new(Semaphore::new(SNAPSHOTS_AT_ONCE)),
        };
        (Arc::new(point), following)
    }

    /// Who may connect with a certificate, for [`patchtide_endpoint::tls::server_config_with`].
    pub fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.proxy) as Arc<dyn ClientCertVerifier>
    }

    /// Limits of its listener: all requests come from the few replicas of the kube-apiserver, one connection each.
    pub fn limits() -> Limits {
        Limits { connections: 1_024, per_source: 512, ..Limits::default() }
    }

    /// Its interface, for a [`patchtide_endpoint::Listener`].
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new().fallback(handle).with_state(Arc::clone(self))
    }

    async fn answer(&self, request: &Parts) -> Result<Response, Answer> {
        let Ok(_place) = self.requests.try_acquire() else {
            return Err(Answer::busy("too many requests are answered at this moment"));
        };
        let peer = request.extensions.get::<Peer>();
        let proxy = peer.and_then(|peer| self.proxy.recognise(&peer.certificates));
        let user = proxy.and_then(|proxy| User::of(&proxy.headers, &request.headers));
        let user = user.ok_or_else(Answer::unauthorized)?;
        let wanted = Wanted::read(request.uri.path());
        let watch = parameter(&request.uri, "watch").is_some_and(|value| flag(&value));
        let verb = wanted.verb(&request.method, watch);
        self.access.check(&user, verb, &wanted).await?;
        match &wanted {
            Wanted::Path(path) if reads(&request.method) => discovery::answer(path, &request.headers),
            Wanted::Resource {
                namespace: Some(namespace),
                resource,
                name: Some(name),
                subresource: None,
            } if resource == SNAPSHOTS => {
                if verb != "get" {
                    return Err(Answer::method(&wanted));
                }
                if name != "current" {
                    return Err(Answer::nothing(&wanted, "the one there is is called \"current\""));
                }
                self.snapshot(&wanted, namespace, request).await
            }
            Wanted::Resource { resource, subresource: None, .. } if resource == SNAPSHOTS => {
                Err(Answer::method(&wanted))
            }
            Wanted::Path(_) => Err(Answer::method(&wanted)),
            Wanted::Resource { .. } => Err(Answer::not_found(&wanted)),
        }
    }

    async fn snapshot(&self, wanted: &Wanted, namespace: &str, request: &Parts) -> Result<Response, Answer> {
        let headers = &request.headers;
        if headers.get(http::header::ACCEPT).and_then(|accept| accept.to_str().ok()).is_some_and(refuses_json)
        {
            return Err(Answer::not_acceptable("snapshots are application/json"));
        }
        let asked = Asked {
            client: parameter(&request.uri, "client").filter(|client| !client.is_empty()),
            catalogue: parameter(&request.uri, "catalogue").is_some_and(|value| flag(&value)),
        };
        let Ok(site) = SiteName::new(namespace) else { return Err(Answer::not_found(wanted)) };
        let Ok(place) = Arc::clone(&self.snapshots).try_acquire_owned() else {
            return Err(Answer::busy("other snapshots are written at this moment"));
        };
        match Reading::start(&self.database.site(&site), &asked, (self.clock)()).await {
            Ok(reading) => Ok(snapshot::stream(reading, headers, place)),
            Err(error @ (SnapshotError::NoSite | SnapshotError::NoClient(_))) => {
                Err(Answer::nothing(wanted, &error.to_string()))
            }
            Err(error @ SnapshotError::Ambiguous { .. }) => Err(Answer::bad(error.to_string())),
            Err(error) => {
                tracing::warn!(%site, error = %front_proxy::chain_of(&error), "no snapshot");
                Err(Answer::unavailable("the site database does not answer"))
            }
        }
    }

    fn health(&self, path: &str) -> Option<Response> {
        let good = match path {
            "/livez" | "/healthz" => true,
            "/readyz" => self.proxy.is_known(),
            _ => return None,
        };
        Some(if good {
            "ok".into_response()
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "the front proxy of the cluster is not known yet")
                .into_response()
        })
    }
}

async fn handle(State(point): State<Arc<ReportingPoint>>, request: Request) -> Response {
    if let Some(health) = point.health(request.uri().path()) {
        return health;
    }
    // Nothing here has a use for a body.
    let (parts, _) = request.into_parts();
    point.answer(&parts).await.unwrap_or_else(Answer::into_response)
}

fn reads(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Whether nothing that `accept` names can be JSON, or it wants it in another shape only.
fn refuses_json(accept: &str) -> bool {
    !accept.split(',').any(|form| {
        let mut parts = form.split(';').map(str::trim);
        matches!(parts.next(), Some("application/json" | "application/*" | "*/*"))
            && !parts.any(|part| part.starts_with("as="))
    })
}

fn parameter(uri: &Uri, name: &str) -> Option<String> {
    let pairs = url::form_urlencoded::parse(uri.query()?.as_bytes());
    pairs.into_iter().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn flag(value: &str) -> bool {
    matches!(value, "1" | "t" | "true" | "True" | "TRUE")
}
