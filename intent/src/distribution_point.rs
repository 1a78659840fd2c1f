//! A distribution point in domain form. Pure.

use ipnet::IpNet;
use patchtide_crds::{DistributionPointSpec, conditions::reason, distribution_point::BoundarySpeed};
use patchtide_model::object::{Boundary, DistributionPoint};

use crate::problem::{Problem, object_name};

/// Whether nothing may be sent to it for the time being: out of service, or with limits that cannot be kept yet.
pub const fn is_held(spec: &DistributionPointSpec) -> bool {
    spec.suspend || spec.bandwidth.is_some()
}

/// The domain form of `spec`.
pub fn validate(name: &str, spec: &DistributionPointSpec) -> Result<DistributionPoint, Problem> {
    if spec.bandwidth.is_some() {
        return Err(Problem::stalled(
            reason::RESTRICTION_NOT_BUILT,
            "bandwidth is not built yet: nothing more is sent to this distribution point, because that would pass over its limits; take bandwidth out to send without limit",
        ));
    }
    let boundaries = spec
        .boundaries
        .iter()
        .map(|boundary| {
            let cidr: IpNet = boundary.cidr.parse().map_err(|_| {
                Problem::stalled(
                    reason::INVALID_SPEC,
                    format!("boundaries: {} is no network: write for example 10.1.0.0/16", boundary.cidr),
                )
            })?;
            Ok(Boundary { cidr, fast: boundary.speed == BoundarySpeed::Fast })
        })
        .collect::<Result<Vec<_>, Problem>>()?;
    let point = DistributionPoint {
        name: object_name(name)?,
        endpoints: spec.endpoints.iter().map(|url| url.trim_end_matches('/').to_owned()).collect(),
        boundaries,
        protected: spec.protected,
    };
    Ok(point)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_addresses_are_read() {
        let yaml = "endpoints: ['https://dp1.example:8444/']\nboundaries: [{cidr: 10.1.0.0/16}, {cidr: '2001:db8::/32', speed: Slow}]\n";
        let point = validate("dp1", &serde_saphyr::from_str(yaml).unwrap()).unwrap();
        assert_eq!(point.endpoints, ["https://dp1.example:8444"]);
        assert_eq!(point.boundaries.iter().map(|b| b.fast).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn limits_that_cannot_be_kept_hold_the_point() {
        let spec = |more: &str| {
            serde_saphyr::from_str(&format!("endpoints: ['https://dp1.example:8444']\n{more}\n")).unwrap()
        };
        let limited = spec("bandwidth: {schedule: [{from: '08:00', until: '18:00', limit: '0'}]}");
        assert!(is_held(&limited));
        let failure = validate("dp1", &limited).unwrap_err();
        assert_eq!(failure.reason, reason::RESTRICTION_NOT_BUILT);
        assert!(failure.message.starts_with("bandwidth is not built yet"), "{failure}");
        assert!(is_held(&spec("suspend: true")) && !is_held(&spec("protected: false")));
    }
}
