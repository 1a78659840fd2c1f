//! From decisions and scans to the bodies of state messages.

use std::collections::{BTreeMap, BTreeSet};

use patchtide_model::{LineId, UpdateId, catalogue::LeafRef, state::StateError};
use patchtide_planner::client::{Decision, Detected};
use patchtide_protocol::{
    check::clean,
    state::{DetectedUpdate, DetectionReport, StateBody},
};

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

/// What a scan has to say: one report for each line it covered.
pub fn detections(
    detected: &BTreeMap<UpdateId, Detected>,
    covered: &BTreeMap<LineId, u64>,
) -> BTreeMap<String, StateBody> {
    covered
        .iter()
        .map(|(line, version)| {
            let of_line = || detected.iter().filter(|(id, _)| id.line == *line);
            let states = of_line()
                .map(|(id, found)| DetectedUpdate {
                    source: id.source.clone(),
                    version: id.version.clone(),
                    state: found.state,
                    leaves: found.leaves.iter().cloned().collect(),
                })
                .collect();
            let needs: BTreeSet<LeafRef> =
                of_line().flat_map(|(_, found)| found.needs.iter().cloned()).collect();
            let report = DetectionReport {
                line: line.clone(),
                catalogue_version: *version,
                part: 0,
                last: true,
                states,
                needs: needs.into_iter().collect(),
            };
            (format!("detection/{line}"), StateBody::Detection(report))
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
        line: whole.line.clone(),
        catalogue_version: whole.catalogue_version,
    };
    let mut parts = vec![empty(0)];
    let mut bytes = 0;
    let mut room = |parts: &mut Vec<DetectionReport>, size: usize| {
        let full = parts.last().is_some_and(|p| p.states.len().max(p.needs.len()) >= PART_ITEMS);
        if full || bytes + size > PART_BYTES {
            let number = u16::try_from(parts.len()).unwrap_or(u16::MAX);
            parts.push(empty(number));
            bytes = 0;
        }
        bytes += size;
    };
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
