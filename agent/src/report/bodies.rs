//! From decisions and scans to the bodies of state messages.

use std::collections::BTreeSet;

use patchtide_model::{UpdateId, catalogue::LeafRef, state::StateError};
use patchtide_planner::client::{Decision, Detected, Said};
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
    error.cloned().map(|mut error| {
        error.message = clean(&error.message);
        error
    })
}

/// A transition, by key.
pub fn of_said(said: &Said) -> (String, StateBody) {
    match said.clone() {
        Said::Update { update, state, error } => {
            let error = cleaned(error.as_ref());
            (format!("update/{update}"), StateBody::Update { update, state, error })
        }
        Said::Enforcement { deployment, state, until, error } => {
            let error = cleaned(error.as_ref());
            (format!("enforcement/{deployment}"), StateBody::Enforcement { deployment, state, until, error })
        }
        Said::Evaluation { deployment, state } => {
            (format!("evaluation/{deployment}"), StateBody::Evaluation { deployment, state })
        }
        Said::Compliance { deployment, state } => {
            (format!("compliance/{deployment}"), StateBody::Compliance { deployment, state })
        }
    }
}

/// The key of what a body says, as far as it is a state of its own.
pub(super) fn key(body: &StateBody) -> Option<String> {
    Some(match body {
        StateBody::Facts { .. } => "facts".to_owned(),
        StateBody::Scan { .. } => "scan".to_owned(),
        StateBody::Update { update, .. } => format!("update/{update}"),
        StateBody::Enforcement { deployment, .. } => format!("enforcement/{deployment}"),
        StateBody::Evaluation { deployment, .. } => format!("evaluation/{deployment}"),
        StateBody::Compliance { deployment, .. } => format!("compliance/{deployment}"),
        StateBody::Detection(_) | StateBody::Heartbeat {} => return None,
    })
}

/// What is told again when only its error, or until when it waits, changed.
pub fn of_decision(decision: &Decision) -> Vec<(String, StateBody)> {
    let updates = decision.updates.iter().filter_map(|(id, verdict)| {
        let (update, error) = (id.clone(), verdict.error.clone());
        Some(of_said(&Said::Update { update, state: verdict.state?, error }))
    });
    let deployments = decision.deployments.iter().filter_map(|(uid, verdict)| {
        let (state, until, error) = (verdict.enforcement?, verdict.until, verdict.error.clone());
        Some(of_said(&Said::Enforcement { deployment: uid.clone(), state, until, error }))
    });
    updates.chain(deployments).collect()
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
