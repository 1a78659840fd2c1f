//! The plan: the objects as they are and as they would be, each resolved and compiled, and compared.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use patchtide_intent::{
    resolve::{Ground, Resources, Told, resolve},
    yaml::verdict::Finding,
};
use patchtide_model::{
    ClientId, Digest, ObjectName, SiteName, UpdateId, catalogue::Update, object::SiteObjects,
    search::DetectionCounts,
};
use patchtide_planner::{
    site::forecast::{Forecast, Tables, forecast},
    snapshot::Snapshot,
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Prune,
    merge::{Merged, ObjectChange, merge},
    origins,
    source::Wish,
};

/// What it comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    /// Nothing changes.
    Nothing,
    /// Something changes.
    Changes,
    /// Something could not come into force.
    Error,
}

/// The plan.
#[derive(Debug)]
pub(super) struct Plan {
    pub site: SiteName,
    pub at: Timestamp,
    /// When what it is based on was read.
    pub base_taken_at: Timestamp,
    pub outcome: Outcome,
    /// Of files and documents.
    pub findings: Vec<Finding>,
    pub objects: Vec<ObjectChange>,
    /// Of objects that could not come into force as they are written.
    pub problems: Vec<PlanProblem>,
    pub warnings: Vec<String>,
    /// None when files are in error: what they would do is not known.
    pub forecast: Option<Forecast>,
    pub hash: Digest,
}

/// Something that is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PlanProblem {
    pub kind: &'static str,
    pub name: String,
    pub reason: &'static str,
    pub message: String,
    /// Something else must come first; otherwise only a change of the object itself helps.
    pub waits: bool,
    /// The change brings it; otherwise it is so already.
    pub new: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
}

/// Plans what is wished against `base`, looking ahead from `now`.
pub(super) fn plan(
    base: &Snapshot,
    wish: Wish,
    prune: Option<Prune>,
    now: Timestamp,
) -> anyhow::Result<Plan> {
    let nothing_known = base.resources.is_empty();
    if nothing_known && prune != Some(Prune::All) && base.input.objects != SiteObjects::default() {
        bail!(
            "the snapshot holds no custom resources, so nobody knows what stays as it is: take one with `kubectl patchtide snapshot`, or give all objects of the site and --prune=all"
        );
    }
    if prune.is_some() && !wish.whole {
        bail!("a range of commits says already what goes: leave --prune out");
    }
    let namespace = base.input.site.as_str();
    if wish.findings.iter().any(Finding::is_failure) {
        return Ok(broken(base, wish.findings, now));
    }
    let merged = merge(&base.resources, &wish, prune, namespace);
    let ground = Owned::new(base)?;
    let (old_resources, mut old_told) = Resources::read(&base.resources);
    let (new_resources, mut new_told) = Resources::read(&merged.resources);
    let mut old = resolve(&old_resources, &ground.at(base, now));
    let mut new = resolve(&new_resources, &ground.at(base, now));
    old_told.append(&mut old.problems);
    new_told.append(&mut new.problems);
    if nothing_known {
        old.objects.clone_from(&base.input.objects);
    } else {
        enrolled(&base.input.objects, &mut old.objects, &mut new.objects);
    }
    let tables = Tables::new(base, [&old.objects, &new.objects]);
    let (before, after) = (tables.input(old.objects), tables.input(new.objects.clone()));
    let mut forecast = forecast(&before, &after, &base.reports, now);
    for deployment in &mut forecast.deployments {
        origins::fill(deployment, &merged.resources, &new_resources, &new);
    }
    Ok(finish(base, wish.findings, merged, problems(&old_told, new_told, &wish.objects), forecast, now))
}

fn finish(
    base: &Snapshot,
    findings: Vec<Finding>,
    merged: Merged,
    problems: Vec<PlanProblem>,
    forecast: Forecast,
    now: Timestamp,
) -> Plan {
    let stalled = problems.iter().any(|problem| problem.new && !problem.waits);
    let outcome = if stalled {
        Outcome::Error
    } else if merged.changes.is_empty() && forecast.is_empty() {
        Outcome::Nothing
    } else {
        Outcome::Changes
    };
    let content = (&merged.changes, &problems, &merged.warnings, forecast.hash());
    let hash = Digest::of(&serde_json::to_vec(&content).unwrap_or_default());
    Plan {
        site: base.input.site.clone(),
        at: now,
        base_taken_at: base.taken_at,
        outcome,
        findings,
        objects: merged.changes,
        problems,
        warnings: merged.warnings,
        forecast: Some(forecast),
        hash,
    }
}

/// Files that cannot be read: the controller would leave their objects as they are, a person wants to know first.
fn broken(base: &Snapshot, findings: Vec<Finding>, now: Timestamp) -> Plan {
    let texts: Vec<String> = findings.iter().map(ToString::to_string).collect();
    Plan {
        site: base.input.site.clone(),
        at: now,
        base_taken_at: base.taken_at,
        outcome: Outcome::Error,
        hash: Digest::of(texts.join("\n").as_bytes()),
        findings,
        objects: Vec::new(),
        problems: Vec::new(),
        warnings: Vec::new(),
        forecast: None,
    }
}

fn problems(
    old: &[Told],
    new: Vec<Told>,
    wished: &BTreeMap<(String, String), patchtide_intent::yaml::object::GitObject>,
) -> Vec<PlanProblem> {
    let mut problems: Vec<PlanProblem> = new
        .into_iter()
        .map(|told| PlanProblem {
            new: !old.contains(&told),
            kind: told.kind,
            place: wished
                .get(&(told.kind.to_owned(), told.name.clone()))
                .map(|object| object.place.to_string()),
            name: told.name,
            reason: told.problem.reason,
            message: told.problem.message,
            waits: told.problem.waits,
        })
        .collect();
    problems.sort_by(|a, b| (!a.new, a.waits, a.kind, &a.name).cmp(&(!b.new, b.waits, b.kind, &b.name)));
    problems
}

/// Machines that a token put into collections when they enrolled: they are members in the site database and in no spec.
fn enrolled(in_force: &SiteObjects, old: &mut SiteObjects, new: &mut SiteObjects) {
    for (name, collection) in &in_force.collections {
        let Some(written) = old.collections.get_mut(name) else { continue };
        let by_token: BTreeSet<String> = collection
            .direct_members
            .difference(&written.direct_members)
            .filter(|member| member.parse::<ClientId>().is_ok())
            .cloned()
            .collect();
        written.direct_members.extend(by_token.iter().cloned());
        if let Some(next) = new.collections.get_mut(name) {
            next.direct_members.extend(by_token);
        }
    }
}

/// What resolving stands on, read out of a snapshot.
struct Owned {
    catalogue: Option<BTreeMap<UpdateId, DetectionCounts>>,
    known: BTreeMap<UpdateId, Update>,
    present: BTreeSet<Digest>,
    pinned: BTreeMap<ObjectName, patchtide_intent::update_deployment::pin::Memory>,
    lists: BTreeMap<ObjectName, patchtide_intent::update_list::Members>,
}

impl Owned {
    fn new(base: &Snapshot) -> anyhow::Result<Self> {
        let entries = base.catalogue.iter().flatten();
        let mut known = base.input.updates.clone();
        for entry in entries.clone() {
            known.entry(entry.update.id.clone()).or_insert_with(|| entry.update.clone());
        }
        let held = base.input.holders.iter().flatten().filter(|(_, points)| !points.is_empty());
        Ok(Self {
            catalogue: base
                .catalogue
                .is_some()
                .then(|| entries.map(|entry| (entry.update.id.clone(), entry.counts)).collect()),
            known,
            present: held.map(|(file, _)| *file).collect(),
            pinned: documents(&base.pinned, "what a deployment has pinned")?,
            lists: documents(&base.lists, "what a list holds")?,
        })
    }

    fn at<'a>(&'a self, base: &'a Snapshot, now: Timestamp) -> Ground<'a> {
        Ground {
            now,
            catalogue: self.catalogue.as_ref(),
            known: &self.known,
            present: &self.present,
            before: &base.input.objects,
            pinned: &self.pinned,
            lists: &self.lists,
        }
    }
}

fn documents<T: DeserializeOwned>(
    all: &BTreeMap<ObjectName, serde_json::Value>,
    what: &str,
) -> anyhow::Result<BTreeMap<ObjectName, T>> {
    all.iter()
        .map(|(name, value)| {
            let typed = T::deserialize(value).with_context(|| {
                format!("the snapshot: {what} ({name}) cannot be read: take a new snapshot")
            })?;
            Ok((name.clone(), typed))
        })
        .collect()
}
