//! Figures of the process itself and of the disks under its folders.

use std::{fmt, path::PathBuf, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge, info::Info},
    registry::{Registry, Unit},
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Folder {
    folder: &'static str,
}

/// Looks when it is asked.
#[derive(Debug)]
struct Figures {
    folders: [(&'static str, PathBuf); 2],
}

/// Registers them; the registry gives the prefix `patchtide`.
pub(super) fn register(registry: &mut Registry, data: PathBuf, library: PathBuf) {
    registry.register("build", "Which build this is", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
    let folders = [("data", data), ("library", library)];
    registry.register_collector(Box::new(Arc::new(Figures { folders })));
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let disks: Vec<_> = self
            .folders
            .iter()
            .filter_map(|(folder, path)| Some((*folder, rustix::fs::statvfs(path).ok()?)))
            .collect();
        let bytes = Some(&Unit::Bytes);
        let help = "Bytes that are free on the disk of a folder, for whoever is not root";
        let mut free = encoder.encode_descriptor("disk_free", help, bytes, MetricType::Gauge)?;
        for (folder, disk) in &disks {
            let size = disk.f_bavail.saturating_mul(disk.f_frsize);
            ConstGauge::new(size).encode(free.encode_family(&Folder { folder })?)?;
        }
        let help = "Size of the disk of a folder";
        let mut sizes = encoder.encode_descriptor("disk_size", help, bytes, MetricType::Gauge)?;
        for (folder, disk) in &disks {
            let size = disk.f_blocks.saturating_mul(disk.f_frsize);
            ConstGauge::new(size).encode(sizes.encode_family(&Folder { folder })?)?;
        }
        if let Some(resident) = resident() {
            let help = "Memory of this process that is in use";
            let unit = Some(&Unit::Bytes);
            let one = encoder.encode_descriptor("process_resident_memory", help, unit, MetricType::Gauge)?;
            ConstGauge::new(resident).encode(one)?;
        }
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            let help = "Files and connections that this process has open";
            let one = encoder.encode_descriptor("process_open_files", help, None, MetricType::Gauge)?;
            ConstGauge::new(open.count() as u64).encode(one)?;
        }
        let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        #[expect(clippy::cast_precision_loss, reason = "seconds of processor time")]
        let seconds = spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9;
        let help = "Processor time that this process took";
        let unit = Some(&Unit::Seconds);
        let one = encoder.encode_descriptor("process_cpu", help, unit, MetricType::Counter)?;
        ConstCounter::new(seconds).encode(one)
    }
}

/// Resident memory in bytes.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_tells_of_itself_and_of_its_disks() {
        let folder = tempfile::tempdir().unwrap();
        let mut registry = Registry::with_prefix("patchtide");
        register(&mut registry, folder.path().to_owned(), "/nowhere".into());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let value = |name: &str| -> f64 {
            let line = text
                .lines()
                .find(|line| line.starts_with(name))
                .unwrap_or_else(|| panic!("{name} is not in {text}"));
            line.rsplit(' ').next().unwrap().parse().unwrap()
        };
        assert!(value("patchtide_disk_free_bytes{folder=\"data\"}") > 0.0);
        assert!(value("patchtide_disk_size_bytes{folder=\"data\"}") > 0.0);
        assert!(value("patchtide_process_resident_memory_bytes ") > 1e6);
        assert!(value("patchtide_process_open_files ") >= 3.0);
        assert!(value("patchtide_process_cpu_seconds_total ") >= 0.0);
        assert!(!text.contains("folder=\"library\""), "a folder that is not there has no disk");
    }
}
