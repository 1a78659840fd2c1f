//! Which distribution point is asked first.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use patchtide_planner::client::Locality;
use patchtide_protocol::location;

use super::DownloadError;

/// Points at which a distribution point comes after all others.
const WORST: u32 = 1_000;

/// What each distribution point did lately, by base URL. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    scores: Arc<Mutex<BTreeMap<String, u32>>>,
}

impl Sources {
    /// The distribution points in the order of `bases`, those that failed lately behind the others.
    pub fn order(&self, bases: &[String]) -> Vec<String> {
        let scores = self.scores.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ordered = bases.to_vec();
        ordered.sort_by_key(|base| scores.get(base).copied().unwrap_or_default());
        ordered
    }

    /// It gave a good file: half of what it did wrong is forgotten.
    pub fn good(&self, base: &str) {
        let mut scores = self.scores.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(score) = scores.get_mut(base) {
            *score /= 2;
        }
    }

    /// It failed. Wrong bytes weigh most.
    pub fn bad(&self, base: &str, error: &DownloadError) {
        let points = match error {
            DownloadError::Hash { .. } | DownloadError::Length { .. } => 100,
            DownloadError::NotOffered(_) => 0,
            _ => 10,
        };
        let mut scores = self.scores.lock().unwrap_or_else(PoisonError::into_inner);
        let score = scores.entry(base.to_owned()).or_default();
        *score = score.saturating_add(points).min(WORST);
    }

    /// What went wrong with each so far, for `status`.
    pub fn scores(&self) -> BTreeMap<String, u32> {
        self.scores.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Time passed (an hour): a fault does not count for ever.
    pub fn forgive(&self) {
        let mut scores = self.scores.lock().unwrap_or_else(PoisonError::into_inner);
        scores.retain(|_, score| {
            *score /= 2;
            *score > 0
        });
    }
}

/// The planner's word for how a distribution point is reached.
pub const fn locality(locality: location::Locality) -> Locality {
    match locality {
        location::Locality::Fast => Locality::Fast,
        location::Locality::Slow => Locality::Slow,
        location::Locality::Fallback => Locality::Fallback,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_lied_comes_last_until_it_is_forgiven() {
        let sources = Sources::default();
        let bases = ["https://a".to_owned(), "https://b".to_owned()];
        sources.bad("https://a", &DownloadError::Hash { url: String::new(), path: String::new() });
        assert_eq!(sources.order(&bases), ["https://b", "https://a"]);
        (0..7).for_each(|_| sources.forgive());
        assert_eq!(sources.order(&bases), bases);
    }
}
