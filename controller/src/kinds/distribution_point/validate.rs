//! A distribution point in domain form. Pure.

use ipnet::IpNet;
use patchtide_crds::{DistributionPointSpec, conditions::reason, distribution_point::BoundarySpeed};
use patchtide_model::object::{Boundary, DistributionPoint};

use crate::{error::Failure, kinds::object_name};

/// The domain form of `spec`, and the fields that are accepted without effect.
pub fn validate(
    name: &str,
    spec: &DistributionPointSpec,
) -> Result<(DistributionPoint, Vec<&'static str>), Failure> {
    let boundaries = spec
        .boundaries
        .iter()
        .map(|boundary| {
            let cidr: IpNet = boundary.cidr.parse().map_err(|_| {
                Failure::stalled(
                    reason::INVALID_SPEC,
                    format!("boundaries: {} is no network: write for example 10.1.0.0/16", boundary.cidr),
                )
            })?;
            Ok(Boundary { cidr, fast: boundary.speed == BoundarySpeed::Fast })
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    let point = DistributionPoint {
        name: object_name(name)?,
        endpoints: spec.endpoints.iter().map(|url| url.trim_end_matches('/').to_owned()).collect(),
        boundaries,
        protected: spec.protected,
    };
    let missing = if spec.bandwidth.is_some() { vec!["bandwidth"] } else { Vec::new() };
    Ok((point, missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_addresses_are_read() {
        let yaml = "endpoints: ['https://dp1.example:8444/']\nboundaries: [{cidr: 10.1.0.0/16}, {cidr: '2001:db8::/32', speed: Slow}]\n";
        let (point, missing) = validate("dp1", &serde_saphyr::from_str(yaml).unwrap()).unwrap();
        assert_eq!(point.endpoints, ["https://dp1.example:8444"]);
        assert_eq!(point.boundaries.iter().map(|b| b.fast).collect::<Vec<_>>(), [true, false]);
        assert!(missing.is_empty());
    }
}
