//! What happens to every request before a role sees it.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    body::Body,
    response::{IntoResponse as _, Response},
};
use http::{HeaderName, HeaderValue, Request, StatusCode, header};
use hyper::body::Incoming;
use patchtide_protocol::{OLDEST_VERSION, VERSION, VERSION_HEADER};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::{
    Clock, Draining, Metrics, Peer, Refusal, Unidentified,
    body::{Pace, Paced},
    metrics::{CodeLabel, RequestLabel, RouteLabel},
    refusal::RefusalCode,
};

const VERSION_NAME: HeaderName = HeaderName::from_static(VERSION_HEADER);

/// Whether a request must say which protocol version it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionRule {
    /// On every path but this one.
    RequiredExcept(&'static str),
    /// When it says one, it must be one that is served: plain tools may fetch content too.
    WhenPresent,
}

/// Fallback of a router: the path is none of this role's.
pub async fn unknown_path() -> Refusal {
    Refusal::new(
        StatusCode::NOT_FOUND,
        "PATH-UNKNOWN",
        "there is nothing at this path",
        "see docs/protocol.md for the paths of each role",
    )
}

/// Fallback of a route: the path is known, the method is not.
pub async fn wrong_method() -> Refusal {
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "METHOD",
        "this path does not take that method",
        "see docs/protocol.md for the methods of each path",
    )
}

pub(crate) struct Gate {
    pub(crate) listener: &'static str,
    pub(crate) routes: &'static [&'static str],
    pub(crate) version: VersionRule,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Clock,
    pub(crate) draining: CancellationToken,
    pub(crate) pace: Pace,
    pub(crate) router: Router,
}

impl Gate {
    pub(crate) async fn handle(self: Arc<Self>, peer: Peer, request: Request<Incoming>) -> Response {
        let started = Instant::now();
        let route = self.route(request.uri().path());
        let mut response = match self.admit(peer, request) {
            Ok(request) => {
                let Ok(response) = self.router.clone().oneshot(request).await;
                response
            }
            Err(refusal) => refusal.into_response(),
        };
        response.headers_mut().insert(VERSION_NAME, HeaderValue::from(VERSION));
        let listener = self.listener;
        let status = response.status().as_u16();
        if let Some(RefusalCode(code)) = response.extensions().get().copied() {
            self.metrics.refusals.get_or_create(&CodeLabel { listener, code }).inc();
        }
        self.metrics.requests.get_or_create(&RequestLabel { listener, route, status }).inc();
        self.metrics
            .seconds
            .get_or_create(&RouteLabel { listener, route })
            .observe(started.elapsed().as_secs_f64());
        response
    }

    fn route(&self, path: &str) -> &'static str {
        self.routes.iter().find(|route| path.starts_with(**route)).copied().unwrap_or("other")
    }

    fn admit(&self, mut peer: Peer, request: Request<Incoming>) -> Result<Request<Body>, Refusal> {
        if request.headers().contains_key(header::TRANSFER_ENCODING) {
            // One way to say how long a body is leaves nothing to disagree about with a proxy in front.
            return Err(Refusal::new(
                StatusCode::LENGTH_REQUIRED,
                "HTTP-LENGTH",
                "bodies need a Content-Length here, Transfer-Encoding is not taken",
                "send the body with a Content-Length",
            )
            .closing());
        }
        let uri = request.uri();
        if uri.scheme().is_some() || !uri.path().starts_with('/') {
            return Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                "HTTP-TARGET",
                "the request's target is not a path",
                "this is a server, not a proxy: send the path alone",
            )
            .closing());
        }
        self.check_version(&request)?;
        let expired = peer.identity.as_ref().is_ok_and(|identity| (self.clock)() > identity.not_after);
        if expired {
            peer.identity = Err(Unidentified::Expired);
        }
        let mut request = request.map(|body| Body::new(Paced::new(body, self.pace)));
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(Draining(self.draining.clone()));
        Ok(request)
    }

    fn check_version(&self, request: &Request<Incoming>) -> Result<(), Refusal> {
        let given = match (request.headers().get(&VERSION_NAME), self.version) {
            (None, VersionRule::WhenPresent) => return Ok(()),
            (None, VersionRule::RequiredExcept(path)) if request.uri().path() == path => return Ok(()),
            (given, _) => given,
        };
        let version = given.and_then(|v| v.to_str().ok()).and_then(|text| text.parse::<u32>().ok());
        let (detail, remedy) = match version {
            Some(version) if (OLDEST_VERSION..=VERSION).contains(&version) => return Ok(()),
            Some(version) if version > VERSION => (
                format!("protocol version {version} is newer than this site's {VERSION}"),
                "upgrade the site first, then the agents; or install the agent of the site's release",
            ),
            Some(version) => (
                format!("protocol version {version} is older than the oldest served, {OLDEST_VERSION}"),
                "upgrade the agent to the site's release",
            ),
            None => (
                format!("the header {VERSION_HEADER} is missing or not a number"),
                "say which protocol version the client speaks",
            ),
        };
        Err(Refusal::new(StatusCode::UPGRADE_REQUIRED, "PROTOCOL-VERSION", detail, remedy))
    }
}
