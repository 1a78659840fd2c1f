use patchtide_endpoint::metrics::Names;
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::{Registry, Unit},
};

/// Metrics of a software update point.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    pub(crate) catalogues: Gauge,
    pub(crate) bytes: Gauge,
    pub(crate) unreadable: Counter,
}

impl Metrics {
    /// Registers them; the registry gives the prefix `patchtide`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let _ = Names(registry)
            .name("software_update_point_catalogues", "Catalogues kept in memory", &metrics.catalogues)
            .unit("software_update_point_kept", Unit::Bytes, "Their size", &metrics.bytes)
            .name(
                "software_update_point_unreadable",
                "Times that a published catalogue was damaged, or could not be read",
                &metrics.unreadable,
            );
        metrics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_documentation() {
        let mut registry = Registry::with_prefix("patchtide");
        let _metrics = Metrics::register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for name in [
            "patchtide_software_update_point_catalogues 0",
            "patchtide_software_update_point_kept_bytes 0",
            "patchtide_software_update_point_unreadable_total 0",
        ] {
            assert!(text.contains(name), "{name} is not in {text}");
        }
    }
}
