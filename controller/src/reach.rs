//! Whether distribution points take connections, seen from here: a metric, and nothing depends on it. Clients may well see
//! it otherwise, for they stand elsewhere.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use kube::ResourceExt as _;
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::context::Context;

/// Pause between two rounds.
const PAUSE: Duration = Duration::from_mins(1);
/// A point that takes longer is not reached.
const PATIENCE: Duration = Duration::from_secs(5);
/// Points that are asked at a time.
const AT_ONCE: usize = 16;

/// Runs until the task is dropped.
pub(crate) async fn run(ctx: Arc<Context>) {
    let mut points = ctx.caches.distribution_points.version();
    loop {
        points.mark_unchanged();
        let asked: Vec<(String, Vec<String>)> = ctx
            .caches
            .distribution_points
            .all()
            .iter()
            .filter(|point| !point.spec.suspend)
            .map(|point| (point.name_any(), point.spec.endpoints.clone()))
            .collect();
        let asking: Vec<_> =
            asked.into_iter().map(|(name, endpoints)| async move { (name, any(&endpoints).await) }).collect();
        let found: Vec<(String, bool)> = stream::iter(asking).buffered(AT_ONCE).collect().await;
        ctx.metrics.reachable(&ctx.namespace, &found);
        tokio::select! {
            () = sleep(PAUSE) => {}
            changed = points.changed() => if changed.is_err() { return },
        }
    }
}

/// Whether one of the addresses takes a connection.
async fn any(endpoints: &[String]) -> bool {
    for endpoint in endpoints {
        let Some((host, port)) = address(endpoint) else { continue };
        if matches!(timeout(PATIENCE, TcpStream::connect((host.as_str(), port))).await, Ok(Ok(_))) {
            return true;
        }
    }
    false
}

fn address(endpoint: &str) -> Option<(String, u16)> {
    let url = endpoint.parse::<http::Uri>().ok()?;
    let port = url.port_u16().unwrap_or(if url.scheme_str() == Some("http") { 80 } else { 443 });
    Some((url.host()?.trim_matches(['[', ']']).to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_names_host_and_port() {
        let of = |endpoint| address(endpoint).map(|(host, port)| format!("{host} {port}"));
        assert_eq!(of("https://dp.example:8444/content").as_deref(), Some("dp.example 8444"));
        assert_eq!(of("https://[2001:db8::1]").as_deref(), Some("2001:db8::1 443"));
        assert_eq!(of("/only/a/path"), None);
    }

    #[tokio::test]
    async fn a_point_is_reached_when_one_of_its_addresses_takes_a_connection() {
        let open = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = |listener: &tokio::net::TcpListener| format!("https://{}", listener.local_addr().unwrap());
        let (open_url, closed_url) = (url(&open), url(&closed));
        drop(closed);
        assert!(!any(std::slice::from_ref(&closed_url)).await);
        assert!(any(&[closed_url, open_url]).await);
    }
}
