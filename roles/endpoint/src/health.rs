//! `/livez`, `/readyz` and `/metrics`, plain HTTP, on a listener of their own that is not for clients.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io,
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
};

use axum::{Router, extract::State, response::IntoResponse, routing::get};
use http::{StatusCode, header};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What must be so before a process is ready; each condition has a name and, while it is not met, a reason.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<RwLock<BTreeMap<&'static str, Option<String>>>>);

impl Health {
    /// The condition holds.
    pub fn good(&self, name: &'static str) {
        self.set(name, None);
    }

    /// The condition does not hold, and why.
    pub fn bad(&self, name: &'static str, reason: impl Into<String>) {
        self.set(name, Some(reason.into()));
    }

    fn set(&self, name: &'static str, reason: Option<String>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(name, reason);
    }

    /// Whether all conditions hold, and a line for each.
    pub fn report(&self) -> (bool, String) {
        let conditions = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for (name, reason) in conditions.iter() {
            let _ = match reason {
                None => writeln!(text, "[+] {name} ok"),
                Some(reason) => writeln!(text, "[-] {name}: {reason}"),
            };
        }
        (conditions.values().all(Option::is_none), text)
    }
}

/// Serves health and metrics until `stop`. Gives the bound address at once, through `bound`.
pub async fn serve(
    address: SocketAddr,
    health: Health,
    registry: Arc<Registry>,
    stop: CancellationToken,
    bound: impl FnOnce(SocketAddr),
) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    bound(listener.local_addr()?);
    let router = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state((health, registry));
    axum::serve(listener, router).with_graceful_shutdown(async move { stop.cancelled().await }).await
}

type Shared = (Health, Arc<Registry>);

async fn ready(State((health, _)): State<Shared>) -> impl IntoResponse {
    let (good, text) = health.report();
    (if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text)
}

async fn metrics(State((_, registry)): State<Shared>) -> impl IntoResponse {
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => (
            StatusCode::OK,
            [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")],
            text,
        )
            .into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be written\n").into_response(),
    }
}
