//! The reporting point: an aggregated API server, `reports.patchtide.dev`, through which kubectl reads what is too large or
//! too many for custom resources: what [`resource::RESOURCES`] lists.
//!
//! Architecture Invariant: it never writes to the site database, and believes what a request says of its user only from
//! the front proxy of the cluster; every request but those for health is authorised by the kube-apiserver.

mod access;
mod answer;
mod compress;
mod discovery;
mod front_proxy;
mod objects;
mod openapi;
mod path;
mod register;
pub mod reports;
mod resource;
pub mod snapshot;
mod stream;
mod user;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use http::{Method, StatusCode, request::Parts};
use kube::Client;
use patchtide_endpoint::{Clock, Draining, Limits, Peer};
use patchtide_store::Store;
use rustls::server::danger::ClientCertVerifier;
use tokio::{sync::Semaphore, task::JoinHandle};

pub use register::Registration;

use crate::{
    access::Access, answer::Answer, front_proxy::FrontProxy, objects::Trackers, path::Wanted,
    resource::Asked, user::User,
};

/// The API group.
pub const GROUP: &str = "reports.patchtide.dev";
/// Its version.
pub const VERSION: &str = "v1alpha1";

/// Path prefixes for the listener's metrics.
pub const ROUTES: &[&str] = &["/apis/reports.patchtide.dev/v1alpha1/namespaces/", "/apis", "/openapi"];

/// Snapshots written at once.
const SNAPSHOTS_AT_ONCE: usize = 2;
/// Lists written at once.
const LISTS_AT_ONCE: usize = 32;
/// Watches that go on at once.
const WATCHES: usize = 256;
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
    lists: Arc<Semaphore>,
    watches: Arc<Semaphore>,
    trackers: Arc<Trackers>,
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
            lists: Arc::new(Semaphore::new(LISTS_AT_ONCE)),
            watches: Arc::new(Semaphore::new(WATCHES)),
            trackers: Arc::default(),
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

    async fn answer(self: &Arc<Self>, request: &Parts) -> Result<Response, Answer> {
        let Ok(_place) = self.requests.try_acquire() else {
            return Err(Answer::busy("too many requests are answered at this moment"));
        };
        let peer = request.extensions.get::<Peer>();
        let proxy = peer.and_then(|peer| self.proxy.recognise(&peer.certificates));
        let user = proxy.and_then(|proxy| User::of(&proxy.headers, &request.headers));
        let user = user.ok_or_else(Answer::unauthorized)?;
        let wanted = Wanted::read(request.uri.path());
        let verb = wanted.verb(&request.method, resource::flag(&request.uri, "watch"));
        self.access.check(&user, verb, &wanted).await?;
        let (namespace, plural, name, subresource) = match &wanted {
            Wanted::Path(path) if reads(&request.method) => return discovery::answer(path, &request.headers),
            Wanted::Path(_) => return Err(Answer::method(&wanted)),
            Wanted::Resource { namespace, resource, name, subresource } => {
                (namespace.as_deref(), resource, name.as_deref(), subresource)
            }
        };
        let resource = resource::find(plural).filter(|_| subresource.is_none());
        let resource = resource.ok_or_else(|| Answer::not_found(&wanted))?;
        if !resource.about().has(verb) {
            return Err(Answer::method(&wanted));
        }
        let asked = Asked {
            user: &user,
            verb,
            wanted: &wanted,
            namespace,
            name,
            headers: &request.headers,
            uri: &request.uri,
            draining: request.extensions.get::<Draining>().map(|draining| &draining.0),
        };
        resource.answer(self, asked).await
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
