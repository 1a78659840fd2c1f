//! What each client lacks of each deployment, and what that asks of it: time, bytes, a restart.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use patchtide_model::{
    LineId,
    catalogue::LeafRef,
    policy::{PolicyBody, UpdatePolicy},
    state::Detection,
};

use super::{
    classes::{Class, Side},
    offers::{Alike, Names, Offer, Offers, rule},
    outlook::Restarts,
};
use crate::snapshot::{ClientReport, UpdateReport};

/// Whether a client lacks something of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lack {
    Something,
    /// It scanned, and it does not.
    Nothing,
    /// It has not said so.
    Unknown,
}

/// Whether a restart follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Restart {
    #[default]
    No,
    /// It would, but the machine must not be restarted.
    Suppressed,
    /// It depends on what runs on the machine then.
    Possible,
    /// A rule says so, or a kernel is among it.
    Certain,
}

/// What one deployment asks of the clients of one class.
#[derive(Default)]
pub(super) struct Duty {
    /// Positions of clients, by what they lack and the longest that one update of it needs.
    pub groups: BTreeMap<(Lack, SignedDuration), Vec<usize>>,
    pub restarts: Restarts,
    pub bytes: u64,
    /// The worst restart that one of its updates can lead to.
    pub ceiling: Restart,
}

/// What all deployments ask of all clients.
pub(super) struct Work {
    /// By class, then by position in the body's deployments.
    pub duties: Vec<Vec<Duty>>,
    /// The worst restart of each client.
    pub restarts: Vec<Restart>,
}

impl Work {
    pub(super) fn new(side: &Side<'_>) -> Self {
        let mut work = Self {
            duties: side.classes.iter().map(|_| Vec::new()).collect(),
            restarts: vec![Restart::No; side.clients.len()],
        };
        // Classes that differ in their windows or their zone alone are offered the same.
        let mut alike: BTreeMap<Alike, Vec<usize>> = BTreeMap::new();
        for (index, class) in side.classes.iter().enumerate() {
            alike.entry(Alike::of(class)).or_default().push(index);
        }
        let mut names = Names::new(side);
        for classes in alike.into_values() {
            let Some(first) = classes.first().and_then(|index| side.classes.get(*index)) else { continue };
            let offers = Offers::new(first, &mut names);
            for index in classes {
                let (Some(class), Some(duties)) = (side.classes.get(index), work.duties.get_mut(index))
                else {
                    continue;
                };
                *duties = of_class(side, class, &offers, &names, &mut work.restarts);
            }
        }
        work
    }
}

/// What a client has to do for one deployment.
#[derive(Clone, Copy, Default)]
struct Mine {
    lacks: bool,
    needs: SignedDuration,
    restart: Restart,
    bytes: u64,
}

fn of_class(
    side: &Side<'_>,
    class: &Class<'_>,
    offers: &Offers<'_>,
    names: &Names<'_>,
    restarts: &mut [Restart],
) -> Vec<Duty> {
    let body = class.body.as_ref();
    let mut duties: Vec<Duty> =
        offers.terms.iter().map(|terms| Duty { ceiling: terms.ceiling, ..Duty::default() }).collect();
    let mut mine = vec![Mine::default(); duties.len()];
    // Most lack nothing of most deployments: those go into their groups at the end, at once.
    let mut idle: Vec<[Vec<usize>; 2]> = duties.iter().map(|_| [Vec::new(), Vec::new()]).collect();
    for position in &class.clients {
        let report = side.clients.get(*position).and_then(|client| side.reports.get(&client.id));
        mine.fill(Mine::default());
        for (id, found) in report.iter().flat_map(|report| &report.updates) {
            if found.detection != Detection::Required {
                continue;
            }
            let Some(offer) = names.number(id).and_then(|number| offers.get(number)) else { continue };
            let (restart, bytes) = (restart(offer, found), bytes(offer.policy, found));
            for at in &offer.deployments {
                let (Some(mine), Some(terms)) = (mine.get_mut(*at), offers.terms.get(*at)) else { continue };
                mine.lacks = true;
                mine.needs = mine.needs.max(offer.needs);
                if terms.acts {
                    mine.restart = mine.restart.max(restart);
                    mine.bytes += bytes;
                }
            }
        }
        let current =
            report.is_some_and(|report| body.lines.iter().all(|line| covers(report, body, &line.line)));
        for (((mine, duty), terms), [nothing, unknown]) in
            mine.iter().zip(&mut duties).zip(&offers.terms).zip(&mut idle)
        {
            match report {
                _ if mine.lacks => {
                    duty.groups.entry((Lack::Something, mine.needs)).or_default().push(*position);
                }
                Some(report) if current || terms.lines.iter().all(|line| covers(report, body, line)) => {
                    nothing.push(*position);
                }
                _ => unknown.push(*position),
            }
            duty.bytes += mine.bytes;
            duty.restarts.count(mine.restart);
        }
        if let Some(worst) = restarts.get_mut(*position) {
            *worst = mine.iter().map(|mine| mine.restart).max().unwrap_or_default();
        }
    }
    for ((duty, terms), [nothing, unknown]) in duties.iter_mut().zip(&offers.terms).zip(idle) {
        for (lack, clients) in [(Lack::Nothing, nothing), (Lack::Unknown, unknown)] {
            if !clients.is_empty() {
                duty.groups.insert((lack, terms.longest), clients);
            }
        }
    }
    duties
}

/// Whether the client scanned against the line as it is now: what it does not name is then not required.
fn covers(report: &ClientReport, body: &PolicyBody, line: &LineId) -> bool {
    let Some(scanned) = report.covered.get(line) else { return false };
    body.lines
        .iter()
        .find(|known| known.line == *line)
        .is_some_and(|known| known.catalogue_version <= *scanned)
}

fn restart(offer: &Offer<'_>, found: &UpdateReport) -> Restart {
    let kernel = || found.leaves.iter().any(|leaf| leaf.package.starts_with("linux-image-"));
    match rule(offer) {
        Restart::Possible if kernel() => Restart::Certain,
        known => known,
    }
}

/// Bytes of the leaves that the client named.
pub(super) fn bytes(update: &UpdatePolicy, found: &UpdateReport) -> u64 {
    let named = |leaf: &LeafRef| {
        update.leaves.iter().find(|offered| {
            offered.package == leaf.package
                && offered.architecture == leaf.architecture
                && offered.version == leaf.version
        })
    };
    found.leaves.iter().filter_map(named).map(|leaf| leaf.file.size).sum()
}
