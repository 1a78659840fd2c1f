use patchtide_endpoint::metrics::Names;
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
    pub(crate) damaged: Counter,
    pub(crate) checked: Counter,
    pub(crate) check_left: Gauge,
    pub(crate) check_completed: Gauge,
}

impl Metrics {
    /// Registers them; the registry gives the prefix `patchtide`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let _ = Names(registry)
            .name("distribution_point_files", "Files in the library", &metrics.files)
            .unit("distribution_point_library", Unit::Bytes, "Size of the library", &metrics.bytes)
            .name("distribution_point_missing", "Wanted files that are not here yet", &metrics.missing)
            .name(
                "distribution_point_imported",
                "Files taken over from the site's library",
                &metrics.imported,
            )
            .name(
                "distribution_point_removed",
                "Files removed because nothing wants them any more",
                &metrics.removed,
            )
            .name(
                "distribution_point_damaged",
                "Files that were not what they should be, and are taken anew",
                &metrics.damaged,
            )
            .unit(
                "distribution_point_checked",
                Unit::Bytes,
                "Bytes read to compare files with their digests",
                &metrics.checked,
            )
            .name(
                "distribution_point_check_left",
                "Files that the check under way has still to read",
                &metrics.check_left,
            )
            .unit(
                "distribution_point_check_completed_timestamp",
                Unit::Seconds,
                "When all files were last read, in Unix time",
                &metrics.check_completed,
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
            "patchtide_distribution_point_files 0",
            "patchtide_distribution_point_library_bytes 0",
            "patchtide_distribution_point_missing 0",
            "patchtide_distribution_point_imported_total 0",
            "patchtide_distribution_point_removed_total 0",
            "patchtide_distribution_point_damaged_total 0",
            "patchtide_distribution_point_checked_bytes_total 0",
            "patchtide_distribution_point_check_left 0",
            "patchtide_distribution_point_check_completed_timestamp_seconds 0",
        ] {
            assert!(text.contains(name), "{name} is not in {text}");
        }
    }
}
