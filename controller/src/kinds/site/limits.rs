//! What the Site allows, in domain form: the roles keep to it.

use patchtide_crds::{ByteSize, conditions::reason, site};
use patchtide_model::site::SiteLimits;
use patchtide_protocol::limits::STATE_BYTES;

use crate::error::Failure;

/// Checks the limits of a spec.
pub fn limits(spec: &site::SiteLimits) -> Result<SiteLimits, Failure> {
    let bytes = |field: &str, size: &ByteSize| {
        size.bytes()
            .map_err(|error| Failure::stalled(reason::INVALID_SPEC, format!("limits.{field}: {error}")))
    };
    let report_size = bytes("reportSize", &spec.report_size)?;
    if report_size > STATE_BYTES as u64 {
        return Err(Failure::stalled(
            reason::INVALID_SPEC,
            format!(
                "limits.reportSize: {} is more than the 512Ki that the protocol allows: lower it, or leave it out",
                spec.report_size
            ),
        ));
    }
    Ok(SiteLimits {
        clients: spec.clients,
        pending_clients: spec.pending_clients,
        enrolments_per_minute: spec.enrolments_per_minute,
        requests_per_minute: spec.requests_per_minute,
        report_size,
        messages_per_report: spec.messages_per_report,
        content_store: spec.content_store.as_ref().map(|size| bytes("contentStore", size)).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_protocol_forbids_is_no_limit() {
        let of = |yaml: &str| limits(&serde_saphyr::from_str(yaml).unwrap());
        let usual = of("{}").unwrap();
        assert_eq!((usual.report_size, usual.messages_per_report), (STATE_BYTES as u64, 1_000));
        assert_eq!(of("{contentStore: 2Ki}").unwrap().content_store, Some(2_048));
        let failure = of("{reportSize: 1Mi}").unwrap_err();
        assert!(failure.message.starts_with("limits.reportSize: 1Mi is more"), "{failure}");
    }
}
