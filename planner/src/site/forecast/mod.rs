//! What a change of objects would do, before anything is applied: two inputs of the policy compiler, compared by what the
//! clients would get and do.
//!
//! It runs the compiler on both and never has an opinion of its own about who gets what. Windows, times and fits are
//! reckoned with the client's arithmetic. What it cannot know, it does not guess: a client that never said what it lacks
//! is counted as such, and a need that nobody can foresee (a library that some process keeps open) is told apart from one
//! that is certain.

mod after;
mod classes;
mod content;
mod fields;
mod offers;
mod openings;
mod outlook;
mod pairs;
mod sample;
mod standing;
#[cfg(test)]
mod tests;
mod work;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use patchtide_model::{ClientId, Digest, ObjectName, SiteName, UpdateId, deployment::Deployment};
use serde::{Deserialize, Serialize};

pub use self::{
    after::{Tables, known_leaves},
    fields::{SettingChange, length},
    outlook::{Nearest, Outlook, Restarts, Unreachable, When, WindowUse},
    sample::Sample,
    standing::{Standing, standing},
};
use self::{classes::Side, pairs::Pairs};
use super::{Changes, Compiler, Note, SiteInput, SitePlan};
use crate::snapshot::ClientReport;

/// Examples that are named beside a count.
pub const NAMED: usize = 10;
/// Groups of one table; what is beyond is told as a number of clients.
pub const GROUPS: usize = 50;

/// What a change would do. Everything in it is in a fixed order: equal inputs, equal bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Forecast {
    /// The site.
    pub site: SiteName,
    /// The instant from which it looks ahead.
    pub at: Timestamp,
    /// All clients together.
    pub clients: Clients,
    /// Deployments that are added, removed or changed, or whose clients or times are.
    pub deployments: Vec<DeploymentForecast>,
    /// Clients whose maintenance windows change, by what changes.
    pub windows: Vec<WindowsForecast>,
    /// Clients that other client settings reach.
    pub client_settings: Vec<SettingsForecast>,
    /// Collections with other members.
    pub collections: Vec<CollectionForecast>,
    /// Clients that would get no policy any more, by reason.
    pub withheld: Vec<Withheld>,
    /// What each distribution point would newly hold, or no longer need.
    pub distribution_points: Vec<PointForecast>,
    /// What an admin should know that was not so before.
    pub notes: Vec<Note>,
    /// What was wrong and no longer is.
    pub resolved_notes: Vec<Note>,
}

/// All clients together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Clients {
    /// Active ones.
    pub active: u64,
    /// Those that get another policy than they have.
    pub other_policy: u64,
    /// Those whose policy was withheld and would go out again.
    pub released: u64,
    /// Bytes that clients newly have to download, as far as they said what they lack.
    pub download_bytes: u64,
    /// Clients for which a restart becomes certain.
    pub restarts: u64,
    /// Clients for which a restart becomes possible: it depends on what runs on the machine then.
    pub possible_restarts: u64,
}

/// What becomes of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It is new.
    Added,
    /// It says something else.
    Changed,
    /// It is gone.
    Removed,
    /// It says the same and means something else, because of other objects.
    Affected,
}

/// A deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentForecast {
    /// Name.
    pub name: ObjectName,
    /// What becomes of it.
    pub change: Change,
    /// Clients that it newly reaches.
    pub clients_gained: Sample<String>,
    /// Clients that it no longer reaches.
    pub clients_lost: Sample<String>,
    /// Updates that come in.
    pub updates_added: Sample<UpdateId>,
    /// Updates that go out.
    pub updates_removed: Sample<UpdateId>,
    /// Settings and other values, with what they were; for one that is added all of them.
    pub settings: Vec<SettingChange>,
    /// How it looks now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Outlook>,
    /// How it would look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Outlook>,
}

/// What becomes of the freedom of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Freedom {
    /// They lose their last window: from now on anything is installed and restarted at any time.
    Unbound,
    /// No window of theirs ever opens again.
    Shut,
    /// Windows bind them that were free.
    Bound,
    /// Windows open again that never did.
    Opened,
    /// Other openings.
    Other,
}

/// Clients whose windows change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WindowsForecast {
    /// What it means.
    pub freedom: Freedom,
    /// Their windows now.
    pub before: Vec<ObjectName>,
    /// Their windows then.
    pub after: Vec<ObjectName>,
    /// Time in which something may be installed, of the next 28 days, now.
    pub open_before: SignedDuration,
    /// The same, then.
    pub open_after: SignedDuration,
    /// Clients.
    pub clients: Sample<String>,
}

/// Clients that other client settings reach, or whose settings say something else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SettingsForecast {
    /// Name of the settings now.
    pub before: String,
    /// Name of the settings then.
    pub after: String,
    /// Values that differ.
    pub values: Vec<SettingChange>,
    /// Clients.
    pub clients: Sample<String>,
}

/// A collection with other members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectionForecast {
    /// Name.
    pub name: ObjectName,
    /// Members now.
    pub before: u64,
    /// Members then.
    pub after: u64,
    /// Members that come.
    pub gained: Sample<String>,
    /// Members that go.
    pub lost: Sample<String>,
}

/// Clients that get no policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Withheld {
    /// Object, what is wrong, remedy.
    pub reason: String,
    /// Clients; they keep the policy they have.
    pub clients: Sample<String>,
}

/// A distribution point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PointForecast {
    /// Name.
    pub name: ObjectName,
    /// Files that are to come and are not there.
    pub new_files: u64,
    /// Their bytes.
    pub new_bytes: u64,
    /// Files that nothing asks for any more.
    pub freed_files: u64,
    /// Their bytes.
    pub freed_bytes: u64,
}

/// Compares what `before` means with what `after` would mean, from `at` on. Both are to know the same clients, catalogue
/// and content ([`Tables::input`]). `reports` says what clients lack; one without an entry never said so.
pub fn forecast(
    before: &SiteInput,
    after: &SiteInput,
    reports: &BTreeMap<ClientId, ClientReport>,
    at: Timestamp,
) -> Forecast {
    // From one to the other, so that what is the same is shared and need not be compared.
    let mut compiler = Compiler::new(before.clone());
    let old = compiler.plan().clone();
    compiler.apply(Changes::between(before, after.clone()));
    let new = compiler.into_plan();
    let old = Side::new(before, &before.clients, &old, reports, at);
    let new = Side::new(after, &after.clients, &new, reports, at);
    let (old_work, new_work) = (old.work(), new.work());
    let pairs = Pairs::new(&old, &new);
    let (windows, client_settings) = (pairs.windows(), pairs.client_settings());
    let mut clients = pairs.clients(reports);
    (clients.restarts, clients.possible_restarts) = pairs.restarts(&old_work, &new_work);
    let names: BTreeSet<&ObjectName> =
        before.objects.deployments.keys().chain(after.objects.deployments.keys()).collect();
    let deployments = names
        .into_iter()
        .filter_map(|name| {
            let sides = [(&old, &old_work), (&new, &new_work)].map(|(side, work)| {
                let deployment = side.input.objects.deployments.get(name)?;
                Some((deployment, outlook::outlook(side, work, deployment, at)))
            });
            deployment_forecast(name, sides, &old, &new)
        })
        .collect();
    let new_notes = |from: &SitePlan, to: &SitePlan| -> Vec<Note> {
        let known: BTreeSet<&Note> = from.notes.iter().collect();
        let mut notes: Vec<Note> = to.notes.iter().filter(|note| !known.contains(note)).cloned().collect();
        notes.sort();
        notes.dedup();
        notes
    };
    Forecast {
        site: after.site.clone(),
        at,
        clients,
        deployments,
        windows,
        client_settings,
        collections: collections(&old, &new),
        withheld: pairs.withheld(),
        distribution_points: content::points(before, after),
        notes: new_notes(old.plan, new.plan),
        resolved_notes: new_notes(new.plan, old.plan),
    }
}

impl Forecast {
    /// Whether nothing changes for anybody.
    pub fn is_empty(&self) -> bool {
        let Self {
            site: _,
            at: _,
            clients,
            deployments,
            windows,
            client_settings,
            collections,
            withheld,
            distribution_points,
            notes,
            resolved_notes,
        } = self;
        *clients == Clients { active: clients.active, ..Clients::default() }
            && deployments.is_empty()
            && windows.is_empty()
            && client_settings.is_empty()
            && collections.is_empty()
            && withheld.is_empty()
            && distribution_points.is_empty()
            && notes.is_empty()
            && resolved_notes.is_empty()
    }

    /// SHA-256 over its JSON without the instant: two forecasts that say the same have the same.
    pub fn hash(&self) -> Digest {
        let content = Self { at: Timestamp::UNIX_EPOCH, ..self.clone() };
        Digest::of(&serde_json::to_vec(&content).unwrap_or_default())
    }

    /// Clients that can never meet a deadline then, over all deployments of the forecast.
    pub fn unreachable(&self) -> u64 {
        self.deployments.iter().filter_map(|deployment| deployment.after.as_ref()).map(Outlook::missing).sum()
    }
}

fn deployment_forecast(
    name: &ObjectName,
    [old, new]: [Option<(&Deployment, Outlook)>; 2],
    old_side: &Side<'_>,
    new_side: &Side<'_>,
) -> Option<DeploymentForecast> {
    let reached =
        |side: &Side<'_>, is: bool| side.plan.targets.get(name).filter(|_| is).cloned().unwrap_or_default();
    let (was, will) = (reached(old_side, old.is_some()), reached(new_side, new.is_some()));
    let updates = |side: &Option<(&Deployment, Outlook)>| -> BTreeSet<UpdateId> {
        side.iter().flat_map(|(deployment, _)| deployment.updates.iter().cloned()).collect()
    };
    let (had, has) = (updates(&old), updates(&new));
    let settings = fields::deployment(old.as_ref().map(|(d, _)| *d), new.as_ref().map(|(d, _)| *d));
    let (before, after) = (old.map(|(_, outlook)| outlook), new.map(|(_, outlook)| outlook));
    let change = match (&before, &after) {
        (None, None) => return None,
        (None, Some(_)) => Change::Added,
        (Some(_), None) => Change::Removed,
        _ if had != has || !settings.is_empty() => Change::Changed,
        _ if was != will || before != after => Change::Affected,
        _ => return None,
    };
    Some(DeploymentForecast {
        name: name.clone(),
        change,
        clients_gained: Sample::of(will.difference(&was).map(|id| new_side.name_of(*id))),
        clients_lost: Sample::of(was.difference(&will).map(|id| old_side.name_of(*id))),
        updates_added: Sample::of(has.difference(&had).cloned()),
        updates_removed: Sample::of(had.difference(&has).cloned()),
        settings: if change == Change::Removed { Vec::new() } else { settings },
        before,
        after,
    })
}

fn collections(old: &Side<'_>, new: &Side<'_>) -> Vec<CollectionForecast> {
    let nobody = patchtide_model::shared::Shared::default();
    let names: BTreeSet<&ObjectName> = old.plan.membership.keys().chain(new.plan.membership.keys()).collect();
    let count = |members: &BTreeSet<ClientId>| u64::try_from(members.len()).unwrap_or(u64::MAX);
    names
        .into_iter()
        .filter_map(|name| {
            let was = old.plan.membership.get(name).unwrap_or(&nobody);
            let will = new.plan.membership.get(name).unwrap_or(&nobody);
            (was != will).then(|| CollectionForecast {
                name: name.clone(),
                before: count(was),
                after: count(will),
                gained: Sample::of(will.difference(was).map(|id| new.name_of(*id))),
                lost: Sample::of(was.difference(will).map(|id| old.name_of(*id))),
            })
        })
        .collect()
}
