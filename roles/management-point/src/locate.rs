//! Which distribution points a client should use, in which order (R-DP-04).

use std::{net::IpAddr, sync::Arc};

use axum::{Json, extract::State};
use patchtide_endpoint::{AuthenticatedClient, Refusal};
use patchtide_model::{
    ClientId, Digest,
    object::{DistributionPoint, Way},
};
use patchtide_protocol::location::{DistributionPointLocation, Locality, Locations};

use crate::{ManagementPoint, error::refusal};

/// The site's distribution points.
async fn points(point: &ManagementPoint) -> Result<Vec<DistributionPoint>, Refusal> {
    let rows = point.store.objects("DistributionPoint").await;
    let rows = rows.map_err(|error| refusal("distribution points", &error))?;
    Ok(rows
        .into_iter()
        .filter_map(|row| match serde_json::from_str(&row.json) {
            Ok(point) => Some(point),
            Err(error) => {
                tracing::error!(name = row.name, %error, "a stored distribution point cannot be read");
                None
            }
        })
        .collect())
}

/// `GET /v1/locations`.
pub(crate) async fn locations(
    State(point): State<Arc<ManagementPoint>>,
    client: AuthenticatedClient,
) -> Result<Json<Locations>, Refusal> {
    point.standings.check(&client).await?;
    let points = point.points.get(points(&point)).await?;
    Ok(Json(Locations {
        software_update_points: point.config.software_update_points.clone(),
        distribution_points: order(&points, client.id, client.address.ip()),
    }))
}

/// The distribution points for a client at `address`: inside a fast boundary first, then slow, then those outside of
/// whose boundaries the client is, unless protected. Ties by a hash of client and name, so that clients spread; several
/// URLs of one point stand together.
pub fn order(
    points: &[DistributionPoint],
    client: ClientId,
    address: IpAddr,
) -> Vec<DistributionPointLocation> {
    let mut found: Vec<(Locality, Digest, &DistributionPoint)> = points
        .iter()
        .filter_map(|point| {
            let locality = match point.way(address)? {
                Way::Fast => Locality::Fast,
                Way::Slow => Locality::Slow,
                Way::Outside => Locality::Fallback,
            };
            let tie = Digest::of(format!("{client}/{}", point.name).as_bytes());
            Some((locality, tie, point))
        })
        .collect();
    found.sort_by_key(|(locality, tie, _)| (*locality, *tie));
    found
        .into_iter()
        .flat_map(|(locality, _, point)| {
            point.endpoints.iter().map(move |url| DistributionPointLocation {
                name: point.name.to_string(),
                url: url.clone(),
                locality,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use patchtide_model::object::Boundary;
    use uuid::Uuid;

    use super::*;
    use Locality::{Fallback, Fast, Slow};

    fn point(name: &str, boundaries: &[(&str, bool)], protected: bool) -> DistributionPoint {
        DistributionPoint {
            name: name.parse().unwrap(),
            endpoints: vec![format!("https://{name}:1"), format!("https://{name}:2")],
            boundaries: boundaries
                .iter()
                .map(|(cidr, fast)| Boundary { cidr: cidr.parse().unwrap(), fast: *fast })
                .collect(),
            protected,
        }
    }

    fn names(points: &[DistributionPoint], client: u128, address: &str) -> Vec<(String, Locality)> {
        let found = order(points, ClientId(Uuid::from_u128(client)), address.parse().unwrap());
        found.into_iter().map(|p| (p.name, p.locality)).collect()
    }

    #[test]
    fn fast_before_slow_before_fallback_and_protected_only_inside() {
        let points = [
            point("far", &[], false),
            point("vault", &[("10.9.0.0/16", true)], true),
            point("slow", &[("10.0.0.0/8", false)], false),
            point("near", &[("10.0.0.0/8", false), ("10.1.0.0/16", true)], true),
            point("six", &[("2001:db8::/32", true)], true),
        ];
        let twice = |list: &[(&str, Locality)]| -> Vec<(String, Locality)> {
            list.iter().flat_map(|(n, l)| [((*n).to_owned(), *l), ((*n).to_owned(), *l)]).collect()
        };
        assert_eq!(
            names(&points, 1, "10.1.2.3"),
            twice(&[("near", Fast), ("slow", Slow), ("far", Fallback)])
        );
        assert_eq!(names(&points, 1, "::ffff:10.1.2.3"), names(&points, 1, "10.1.2.3"));
        let other = names(&points, 1, "10.2.0.1");
        assert!(other[..4].iter().all(|(_, l)| *l == Slow) && other[4].0 == "far");
        let outside = names(&points, 1, "192.0.2.1");
        assert!(outside.iter().all(|(n, l)| *l == Fallback && (n == "far" || n == "slow")));
        assert_eq!(names(&points, 1, "2001:db8::1")[0], ("six".to_owned(), Fast));
    }

    #[test]
    fn equal_points_are_spread_over_clients() {
        let points = [point("a", &[], false), point("b", &[], false), point("c", &[], false)];
        let mut first = std::collections::BTreeMap::new();
        for client in 0..3000 {
            *first.entry(names(&points, client, "192.0.2.1")[0].0.clone()).or_insert(0) += 1;
        }
        assert!(first.values().all(|n| (800..1200).contains(n)), "{first:?}");
    }
}
