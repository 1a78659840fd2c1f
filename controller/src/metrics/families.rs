//! Metrics that are made when they are asked for: names with their texts, and values under labels.

use std::{collections::BTreeMap, fmt};

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, gauge::ConstGauge},
    registry::Unit,
};

/// A metric: its name without unit, the unit, and what it says.
pub(super) type Family = (&'static str, Option<Unit>, &'static str);

type Labels = Vec<(&'static str, String)>;

/// Values by the name of their metric.
#[derive(Debug, Default)]
pub(super) struct Values(BTreeMap<&'static str, Vec<(Labels, f64)>>);

impl Values {
    /// Adds a value.
    pub(super) fn put(&mut self, name: &'static str, labels: &[(&'static str, &str)], value: f64) {
        let labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.0.entry(name).or_default().push((labels, value));
    }

    /// Adds a value that may be unknown.
    pub(super) fn maybe(&mut self, name: &'static str, labels: &[(&'static str, &str)], value: Option<f64>) {
        if let Some(value) = value {
            self.put(name, labels, value);
        }
    }

    /// Writes every family, also those without a value: what there is can be seen from any scrape.
    pub(super) fn encode(
        &self,
        families: &[Family],
        encoder: &mut DescriptorEncoder<'_>,
    ) -> Result<(), fmt::Error> {
        for (name, unit, help) in families {
            let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
            for (labels, value) in self.0.get(name).into_iter().flatten() {
                ConstGauge::new(*value).encode(family.encode_family(labels)?)?;
            }
        }
        Ok(())
    }

    /// The names in use.
    #[cfg(test)]
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.keys().copied()
    }
}
