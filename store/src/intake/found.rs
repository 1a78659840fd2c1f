//! A report before the writer sees it: what it names is looked up, on the task that brought it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use patchtide_model::{LineId, catalogue::LeafRef, state::Detection};

use super::{
    DetectedUpdate, DetectionReport, IntakeBody, IntakeMessage, IntakeReport,
    counts::{INSTALLED, REQUIRED},
    names::{NOWHERE, Names, Shared, set_key},
    numbered::Lacking,
};

/// What a scan found in a line, by places of the catalogue.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) line: LineId,
    pub(crate) catalogue_version: u64,
    pub(crate) part: u16,
    pub(crate) last: bool,
    /// The catalogue in which it was looked up.
    pub(crate) names: Option<Arc<Names>>,
    pub(crate) states: Vec<State>,
    /// What that catalogue does not have.
    pub(crate) unknown: Vec<DetectedUpdate>,
    /// Leaf set of what is newly depended on.
    pub(crate) needs: i64,
    /// The collection of leaf sets in which their ids were looked up: in a later one they may be gone.
    pub(crate) set_epoch: i64,
    /// Leaf sets that had no id yet.
    pub(crate) new_sets: Vec<Vec<LeafRef>>,
}

/// The state of an update.
#[derive(Debug, Clone, Copy)]
pub(crate) struct State {
    pub(crate) place: u32,
    /// [`REQUIRED`] or [`INSTALLED`].
    pub(crate) bits: u8,
    /// Leaf set: 0 none, above an id, below the place in [`Found::new_sets`], from -1 down.
    pub(crate) set: i64,
}

impl Found {
    /// Puts the ids of the new leaf sets in.
    pub(crate) fn settle(&mut self, mut id: impl FnMut(&[LeafRef]) -> i64) {
        if self.new_sets.is_empty() {
            return;
        }
        let ids: Vec<i64> = self.new_sets.drain(..).map(|set| id(&set)).collect();
        let settled = |set: i64| match usize::try_from(-1 - set) {
            Ok(place) => ids.get(place).copied().unwrap_or(0),
            Err(_) => set,
        };
        for state in &mut self.states {
            state.set = settled(state.set);
        }
        self.needs = settled(self.needs);
    }
}

/// Brings a report into the form that the rest expects: messages by number, each once; leaf sets sorted.
pub(crate) fn prepare<S: Ord>(report: &mut IntakeReport<DetectionReport<S>>) {
    report.messages.sort_by_key(|message| message.seq);
    report.messages.dedup_by_key(|message| message.seq);
    for message in &mut report.messages {
        if let IntakeBody::Detection(detection) = &mut message.body {
            normalise(&mut detection.needs);
            for state in &mut detection.states {
                normalise(&mut state.leaves);
            }
        }
    }
}

/// Sorts a leaf set.
fn normalise<S: Ord>(leaves: &mut Vec<LeafRef<S>>) {
    if leaves.len() > 1 {
        leaves.sort_unstable();
        leaves.dedup();
    }
}

/// Looks up what a prepared report names.
///
/// A detection by numbers that mean nothing here is left out as if it had not been sent; the second value says so. Leaves
/// that are to be read first are the error.
pub(crate) fn find<S: AsRef<str>>(
    report: &IntakeReport<DetectionReport<S>>,
    shared: &Shared,
) -> Result<(IntakeReport<Found>, bool), BTreeMap<i64, u64>> {
    let (mut by_name, mut lacking) = (false, BTreeMap::new());
    let messages = report
        .messages
        .iter()
        .map(|message| {
            let body = match &message.body {
                IntakeBody::Detection(detection) => match detected(detection, shared) {
                    Ok(found) => IntakeBody::Detection(found),
                    Err(Lacking::Catalogue) => {
                        by_name = true;
                        IntakeBody::Heartbeat
                    }
                    Err(Lacking::Leaves(more)) => {
                        lacking.extend(more);
                        IntakeBody::Heartbeat
                    }
                },
                IntakeBody::Facts(facts) => IntakeBody::Facts(facts.clone()),
                IntakeBody::Scan { state, error } => IntakeBody::Scan { state: *state, error: error.clone() },
                IntakeBody::Update { update, state, error } => {
                    IntakeBody::Update { update: update.clone(), state: *state, error: error.clone() }
                }
                IntakeBody::Enforcement { deployment, state, until, error } => IntakeBody::Enforcement {
                    deployment: deployment.clone(),
                    state: *state,
                    until: *until,
                    error: error.clone(),
                },
                IntakeBody::Evaluation { deployment, state } => {
                    IntakeBody::Evaluation { deployment: deployment.clone(), state: *state }
                }
                IntakeBody::Compliance { deployment, state } => {
                    IntakeBody::Compliance { deployment: deployment.clone(), state: *state }
                }
                IntakeBody::Heartbeat => IntakeBody::Heartbeat,
            };
            IntakeMessage { seq: message.seq, at: message.at, body }
        })
        .collect();
    if !lacking.is_empty() {
        return Err(lacking);
    }
    let report = IntakeReport {
        client: report.client,
        incarnation: report.incarnation,
        boot: report.boot,
        sent_at: report.sent_at,
        received_at: report.received_at,
        policy: report.policy,
        messages,
    };
    Ok((report, by_name))
}

fn detected<S: AsRef<str>>(report: &DetectionReport<S>, shared: &Shared) -> Result<Found, Lacking> {
    let names = shared.line(report.line.as_str());
    let set_epoch = shared.sets().epoch;
    let mut found = Found {
        line: report.line.clone(),
        catalogue_version: report.catalogue_version,
        part: report.part,
        last: report.last,
        names: None,
        states: Vec::with_capacity(report.states.len()),
        unknown: Vec::new(),
        needs: 0,
        set_epoch,
        new_sets: Vec::new(),
    };
    if let Some(numbered) = &report.numbered {
        found.add_numbered(numbered, shared, names.as_deref())?;
    }
    let (sets, mut key) = (shared.sets(), Vec::new());
    for state in &report.states {
        let Some(bits) = bits_of(state.state) else { continue };
        let (source, version) = (state.source.as_ref(), state.version.as_ref());
        let place = names.as_ref().map_or(NOWHERE, |names| names.place(source, version));
        if place == NOWHERE {
            found.unknown.push(DetectedUpdate {
                source: source.to_owned(),
                version: version.to_owned(),
                state: state.state,
                leaves: state.leaves.iter().map(LeafRef::owned).collect(),
            });
            continue;
        }
        let set = if bits == REQUIRED {
            set_of(&state.leaves, &sets.ids, &mut key, &mut found.new_sets)
        } else {
            0
        };
        found.states.push(State { place, bits, set });
    }
    found.needs = set_of(&report.needs, &sets.ids, &mut key, &mut found.new_sets);
    found.names = names;
    Ok(found)
}

/// The bits of a state that is kept; *not required* is what has none.
pub(super) const fn bits_of(state: Detection) -> Option<u8> {
    match state {
        Detection::Required => Some(REQUIRED),
        Detection::Installed => Some(INSTALLED),
        Detection::Unknown | Detection::NotRequired => None,
    }
}

pub(super) fn set_of<S: AsRef<str>>(
    leaves: &[LeafRef<S>],
    sets: &HashMap<Vec<u8>, i64>,
    key: &mut Vec<u8>,
    new: &mut Vec<Vec<LeafRef>>,
) -> i64 {
    if leaves.is_empty() {
        return 0;
    }
    set_key(leaves, key);
    sets.get(key.as_slice()).copied().unwrap_or_else(|| {
        new.push(leaves.iter().map(LeafRef::owned).collect());
        -crate::sql::len(new.len())
    })
}
