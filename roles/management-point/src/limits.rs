//! The limits that the Site sets (`Site.spec.limits`), beside those of the protocol, which nobody can lift.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::StatusCode;
use patchtide_endpoint::{AuthenticatedClient, Peer, Refusal};
use patchtide_model::site::SiteLimits;

use crate::{ManagementPoint, Rate, error::refusal};

/// What the Site sets; none: no controller has written any yet.
pub(crate) async fn of_site(point: &ManagementPoint) -> Result<Arc<Option<SiteLimits>>, Refusal> {
    let read = async { point.store.site_limits().await.map_err(|error| refusal("limits", &error)) };
    point.limits.get(read).await
}

/// At most `count` in any minute: half of them at once, the others one by one.
pub(crate) fn per_minute(count: u32) -> Rate {
    let count = count.max(1);
    Rate { burst: (count / 2).max(1), period: Duration::from_mins(2) / count }
}

/// Every request of a client counts, whatever it is for.
pub(crate) async fn requests(
    State(point): State<Arc<ManagementPoint>>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let client = request.extensions().get::<Peer>().and_then(|peer| AuthenticatedClient::of(peer).ok());
    if let Some(client) = client
        && let Some(limits) = of_site(&point).await?.as_ref()
    {
        let rate = per_minute(limits.requests_per_minute);
        point.requests.take_at(rate, client.id, Instant::now()).map_err(|wait| {
            Refusal::new(
                StatusCode::TOO_MANY_REQUESTS,
                "RATE",
                format!(
                    "this client asks more often than Site.spec.limits.requestsPerMinute allows, {}",
                    limits.requests_per_minute
                ),
                "ask again later; when it stays, look for two agents with one identity",
            )
            .retry_after(wait.as_secs() + 1)
        })?;
    }
    Ok(next.run(request).await)
}

/// Whether a report of `messages` in `bytes` keeps to the limits. One message alone cannot be made smaller: it only has
/// to keep to the protocol's.
pub(crate) fn report(limits: &SiteLimits, messages: usize, bytes: usize) -> Result<(), Refusal> {
    let too_large = |name: &str, limit: u64| {
        Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "BODY-SIZE",
            format!("the report is larger than Site.spec.limits.{name} allows, {limit}"),
            "put fewer messages into one report",
        )
    };
    if messages > 1 && bytes as u64 > limits.report_size {
        return Err(too_large("reportSize", limits.report_size));
    }
    if messages as u64 > u64::from(limits.messages_per_report.max(1)) {
        return Err(too_large("messagesPerReport", limits.messages_per_report.into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_never_holds_more_than_the_limit() {
        for count in [1, 2, 3, 60, 600] {
            let rate = per_minute(count);
            let more = Duration::from_mins(1).as_nanos() / rate.period.as_nanos();
            assert!(u128::from(rate.burst) + more <= u128::from(count.max(2)), "{count}: {rate:?}");
        }
    }
}
