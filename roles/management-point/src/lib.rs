//! The management point: enrolment, policy, locations, and state messages on their way into the site database.
//!
//! Architecture Invariant: it holds no key but that of its TLS certificate. What it hands out is signed elsewhere, what
//! it takes in is attributed to the certificate that brought it, and it acknowledges only what is durable.

mod convert;
mod enrol;
mod error;
mod fresh;
mod intake;
mod limits;
mod locate;
mod metrics;
mod policy;
mod rate;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    routing::{MethodRouter, get, post},
};
use patchtide_endpoint::{Clock, Refusal, standing::Standings, unknown_path, wrong_method};
use patchtide_protocol::path;
use patchtide_store::SiteStore;
use tokio::task::JoinHandle;

pub use locate::order;
pub use metrics::Metrics;
pub use rate::Rate;

/// Path prefixes for the listener's metrics.
pub const ROUTES: &[&str] = &[
    path::STATE_MESSAGES,
    path::POLICY_PARTS,
    path::POLICY,
    path::LOCATIONS,
    path::ENROLMENTS,
    path::RENEWALS,
    path::SITE,
];

/// What a management point is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Base URLs of the software update points, as clients reach them.
    pub software_update_points: Vec<String>,
    /// Reports of one client.
    pub reports: Rate,
    /// Enrolment requests from one address.
    pub enrolments: Rate,
}

impl Default for Config {
    fn default() -> Self {
        use patchtide_protocol::limits::{REPORT_BURST, REPORT_PERIOD};
        Self {
            software_update_points: Vec::new(),
            reports: Rate { burst: REPORT_BURST, period: REPORT_PERIOD },
            enrolments: Rate { burst: 30, period: Duration::from_secs(1) },
        }
    }
}

/// A management point of one site.
pub struct ManagementPoint {
    store: SiteStore,
    clock: Clock,
    config: Config,
    standings: Standings,
    policies: policy::Index,
    points: fresh::Fresh<Vec<patchtide_model::object::DistributionPoint>>,
    reports: rate::Limiter<patchtide_model::ClientId>,
    enrolments: rate::Limiter<std::net::IpAddr>,
    requests: rate::Limiter<patchtide_model::ClientId>,
    limits: fresh::Fresh<Option<patchtide_model::site::SiteLimits>>,
    metrics: Metrics,
}

impl ManagementPoint {
    /// Starts it. The task keeps the index of policies; abort it when the role stops.
    pub fn start(
        store: SiteStore,
        config: Config,
        clock: Clock,
        metrics: Metrics,
    ) -> (Arc<Self>, JoinHandle<()>) {
        let asked = store.clone();
        let lookup = move |id| {
            let store = asked.clone();
            async move { store.client(id).await.map(|client| client.map(|client| client.state)) }
        };
        let (policies, task) = policy::Index::start(store.clone());
        let point = Self {
            reports: rate::Limiter::new(config.reports),
            enrolments: rate::Limiter::new(config.enrolments),
            requests: rate::Limiter::new(config.reports),
            limits: fresh::Fresh::default(),
            standings: Standings::new(lookup, Duration::from_secs(1)),
            points: fresh::Fresh::default(),
            store,
            clock,
            config,
            policies,
            metrics,
        };
        (Arc::new(point), task)
    }

    /// Its interface, for a [`patchtide_endpoint::Listener`].
    pub fn router(self: &Arc<Self>) -> Router {
        let only = |route: MethodRouter<Arc<Self>>| route.fallback(wrong_method);
        Router::new()
            .route(path::SITE, only(get(enrol::site)))
            .route(path::ENROLMENTS, only(post(enrol::request)))
            .route(&format!("{}/{{id}}", path::ENROLMENTS), only(get(enrol::answer)))
            .route(path::RENEWALS, only(post(enrol::renew)))
            .route(path::POLICY, only(get(policy::policy)))
            .route(&format!("{}/{{digest}}", path::POLICY_PARTS), only(get(policy::part)))
            .route(path::LOCATIONS, only(get(locate::locations)))
            .route(path::STATE_MESSAGES, only(post(intake::report)))
            .fallback(unknown_path)
            .layer(axum::middleware::from_fn_with_state(Arc::clone(self), limits::requests))
            .with_state(Arc::clone(self))
    }

    /// Notes the contact. That it fails must not keep a client from its policy.
    async fn touch(&self, client: &patchtide_endpoint::AuthenticatedClient) {
        let address = client.address.ip().to_canonical();
        if let Err(error) = self.store.touch_client(client.id, address, (self.clock)()).await {
            tracing::debug!(client = %client.id, %error, "the contact was not noted");
        }
    }
}

/// Reads JSON strictly; the place of an error is in the refusal.
fn parse_json<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8], code: &'static str) -> Result<T, Refusal> {
    serde_json::from_slice(bytes).map_err(|error| {
        Refusal::new(
            http::StatusCode::BAD_REQUEST,
            code,
            format!("the body is not what is expected here: {error}"),
            "send exactly the fields that docs/protocol.md names; check the agent's version",
        )
    })
}
