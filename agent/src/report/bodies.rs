//! From decisions and scans to the bodies of state messages.

use std::collections::{BTreeMap, BTreeSet};

use patchtide_model::{UpdateId, catalogue::LeafRef, state::StateError};
use patchtide_planner::client::{Decision, Detected};
use patchtide_protocol::{
    check::clean,
    state::{DetectedUpdate, DetectionReport, Numbered, StateBody},
};

use crate::scan::Found;

/// Beginning of the keys of what scans found; the line follows.
pub(super) const DETECTION: &str = "detection/";
/// JSON bytes of one detection part.
const PART_BYTES: usize = 96 * 1024;
/// States, or needs, of one part.
const PART_ITEMS: usize = 500;

fn cleaned(error: Option<&StateError>) -> Option<StateError> {
    error.map(|error| StateError { message: clean(&error.message), ..error.clone() })
}

/// What a decision has to say, by key.
pub fn of_decision(decision: &Decision) -> BTreeMap<String, StateBody> {
    let mut states = BTreeMap::new();
    for (id, verdict) in &decision.updates {
        if let Some(state) = verdict.state {
            let error = cleaned(verdict.error.as_ref());
            states.insert(format!("update/{id}"), StateBody::Update { update: id.clone(), state, error });
        }
    }
    for (uid, verdict) in &decision.deployments {
        let deployment = || uid.clone();
        states.insert(
            format!("evaluation/{uid}"),
            StateBody::Evaluation { deployment: deployment(), state: verdict.evaluation },
        );
        if let Some(state) = verdict.compliance {
            let body = StateBody::Compliance { deployment: deployment(), state };
            states.insert(format!("compliance/{uid}"), body);
        }
        if let Some(state) = verdict.enforcement {
            let (until, error) = (verdict.until, cleaned(verdict.error.as_ref()));
            states.insert(
                format!("enforcement/{uid}"),
                StateBody::Enforcement { deployment: deployment(), state, until, error },
            );
        }
    }
    states
}

/// What a scan found in a line.
#[derive(Debug)]
pub struct Detection {
    /// Key of the state.
    pub key: String,
    /// By name: what is kept and compared.
    pub named: StateBody,
    /// As it is sent: by number, but for what the catalogue does not number.
    pub sent: StateBody,
}

/// What a scan has to say: one report for each line it covered.
pub fn detections(found: &Found) -> Vec<Detection> {
    found
        .covered
        .iter()
        .map(|(line, version)| {
            let of_line = || found.detected.iter().filter(|(id, _)| id.line == *line);
            let named = |(id, found): (&UpdateId, &Detected)| DetectedUpdate {
                source: id.source.clone(),
                version: id.version.clone(),
                state: found.state,
                leaves: found.leaves.iter().cloned().collect(),
            };
            let needs: BTreeSet<LeafRef> =
                of_line().flat_map(|(_, found)| found.needs.iter().cloned()).collect();
            let report = |states, numbered| {
                StateBody::Detection(DetectionReport {
                    line: line.clone(),
                    catalogue_version: *version,
                    part: 0,
                    last: true,
                    states,
                    needs: needs.iter().cloned().collect(),
                    numbered,
                })
            };
            let mut states: Vec<_> =
                of_line().filter_map(|(id, _)| found.numbered.get(id).cloned()).collect();
            states.sort_unstable_by_key(|state| state.number);
            let numbered = found
                .catalogues
                .get(line)
                .filter(|_| !states.is_empty())
                .map(|catalogue| Numbered { catalogue: *catalogue, states });
            let unnumbered =
                |(id, _): &(&UpdateId, &Detected)| numbered.is_none() || !found.numbered.contains_key(*id);
            let rest = of_line().filter(unnumbered).map(named).collect();
            Detection {
                key: format!("{DETECTION}{line}"),
                named: report(of_line().map(named).collect(), None),
                sent: report(rest, numbered),
            }
        })
        .collect()
}

/// A body as it travels: a detection in as many parts as it takes.
pub(super) fn parts(body: &StateBody) -> Vec<StateBody> {
    let StateBody::Detection(whole) = body else { return vec![body.clone()] };
    let empty = |part| DetectionReport {
        part,
        last: false,
        states: Vec::new(),
        needs: Vec::new(),
        numbered: whole
            .numbered
            .as_ref()
            .map(|numbered| Numbered { catalogue: numbered.catalogue, states: Vec::new() }),
        line: whole.line.clone(),
        catalogue_version: whole.catalogue_version,
    };
    let mut parts = vec![empty(0)];
    let mut bytes = 0;
    let mut room = |parts: &mut Vec<DetectionReport>, size: usize| {
        let items = |part: &DetectionReport| {
            let numbered = part.numbered.as_ref().map_or(0, |numbered| numbered.states.len());
            part.states.len().max(part.needs.len()).max(numbered)
        };
        let full = parts.last().is_some_and(|part| items(part) >= PART_ITEMS);
        if full || bytes + size > PART_BYTES {
            let number = u16::try_from(parts.len()).unwrap_or(u16::MAX);
            parts.push(empty(number));
            bytes = 0;
        }
        bytes += size;
    };
    for state in whole.numbered.iter().flat_map(|numbered| &numbered.states) {
        room(&mut parts, state.leaves.len() * 6 + 50);
        if let Some(numbered) = parts.last_mut().and_then(|part| part.numbered.as_mut()) {
            numbered.states.push(state.clone());
        }
    }
    for state in &whole.states {
        let leaves: usize = state.leaves.iter().map(size_of_leaf).sum();
        room(&mut parts, state.source.len() + state.version.len() + leaves + 60);
        if let Some(part) = parts.last_mut() {
            part.states.push(state.clone());
        }
    }
    for leaf in &whole.needs {
        room(&mut parts, size_of_leaf(leaf));
        if let Some(part) = parts.last_mut() {
            part.needs.push(leaf.clone());
        }
    }
    if let Some(part) = parts.last_mut() {
        part.last = true;
    }
    parts.into_iter().map(StateBody::Detection).collect()
}

fn size_of_leaf(leaf: &LeafRef) -> usize {
    leaf.package.len() + leaf.architecture.len() + leaf.version.len() + 50
}
