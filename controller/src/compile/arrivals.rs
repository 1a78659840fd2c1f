//! What clients are told about files on distribution points. A large package takes hours to get everywhere, and each
//! file that arrives must not be another policy for everybody.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use patchtide_model::{Digest, ObjectName};
use tokio::time::Instant;

/// Which distribution points have each file.
pub(super) type Holders = BTreeMap<Digest, BTreeSet<ObjectName>>;

/// While files are on their way clients are told this often what has arrived.
const PERIOD: Duration = Duration::from_mins(1);

/// What was told last.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    told: Holders,
    at: Option<Instant>,
}

impl Arrivals {
    /// What policies say of `there`, what is on the points now. Arrivals are told when nothing is on its way any more and
    /// otherwise from time to time; what has gone is told at once.
    pub(super) fn tell(&mut self, there: Holders, on_its_way: bool, now: Instant) -> Holders {
        if !on_its_way || self.at.is_none_or(|at| now.duration_since(at) >= PERIOD) {
            self.told = there;
            self.at = Some(now);
        } else {
            let told = &self.told;
            let still = |file: &Digest, points: BTreeSet<ObjectName>| {
                let known = told.get(file);
                points.into_iter().filter(|point| known.is_some_and(|known| known.contains(point))).collect()
            };
            self.told = there.into_iter().map(|(file, points)| (file, still(&file, points))).collect();
        }
        self.told.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_told_together_and_losses_at_once() {
        let start = Instant::now();
        let later = |seconds| start + Duration::from_secs(seconds);
        let file = |name: &str| Digest::of(name.as_bytes());
        let holders = |present: &[&str]| -> Holders {
            let point = ObjectName::new("dp").unwrap();
            let of = |name: &&str| present.contains(name).then(|| point.clone()).into_iter().collect();
            ["a", "b", "c"].iter().map(|name| (file(name), of(name))).collect()
        };
        let mut arrivals = Arrivals::default();
        assert_eq!(arrivals.tell(holders(&["a"]), true, start), holders(&["a"]));
        assert_eq!(arrivals.tell(holders(&["a", "b"]), true, later(5)), holders(&["a"]));
        assert_eq!(arrivals.tell(holders(&["b"]), true, later(6)), holders(&[]));
        assert_eq!(arrivals.tell(holders(&["b"]), true, later(60)), holders(&["b"]));
        // The last one: there is nothing more to wait for.
        assert_eq!(arrivals.tell(holders(&["b", "c"]), true, later(61)), holders(&["b"]));
        assert_eq!(arrivals.tell(holders(&["a", "b", "c"]), false, later(62)), holders(&["a", "b", "c"]));
    }
}
