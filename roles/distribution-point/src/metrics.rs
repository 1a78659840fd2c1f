use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::{Registry, Unit},
};

/// Metrics of a distribution point.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    pub(crate) files: Gauge,
    pub(crate) bytes: Gauge,
    pub(crate) missing: Gauge,
    pub(crate) imported: Counter,
    pub(crate) removed: Counter,
}

impl Metrics {
    /// Registers them; the registry gives the prefix `patchtide`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("distribution_point_files", "Files in the library", metrics.files.clone());
        registry.register_with_unit(
            "distribution_point_library",
            "Size of the library",
            Unit::Bytes,
            metrics.bytes.clone(),
        );
        registry.register(
            "distribution_point_missing",
            "Wanted files that are not here yet",
            metrics.missing.clone(),
        );
        registry.register(
            "distribution_point_imported",
            "Files taken over from the site's library",
            metrics.imported.clone(),
        );
        registry.register(
            "distribution_point_removed",
            "Files removed because nothing wants them any more",
            metrics.removed.clone(),
        );
        metrics
    }
}
