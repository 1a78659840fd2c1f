//! Objects and clients -> one policy body per client.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::SignedDuration;
use patchtide_model::{
    ClientId, Digest, ObjectName, UpdateId,
    catalogue::{Installer, Leaf, LeafRef, Update},
    client::ClientState,
    deployment::Deployment,
    object::ClientSettings,
    policy::{DeploymentPolicy, LinePolicy, PolicyBody, UpdatePolicy},
    window::Window,
};

use super::{
    Note, SiteInput, SitePlan, Verdict,
    awaited::Reach,
    membership::{check_collections, membership, targeted, undetermined},
};

/// Compiles the policy of every active client. A client whose restrictions are not understood gets no new policy:
/// its verdict is [`Verdict::Withheld`], and what it has stays in force.
pub fn compile(input: &SiteInput) -> SitePlan {
    let objects = &input.objects;
    let problems = check_collections(&objects.collections);
    let undetermined = undetermined(&objects.collections, &problems);
    let membership = membership(&objects.collections, &input.clients);
    let unknown = |name: &ObjectName| undetermined.contains(name) || !objects.collections.contains_key(name);
    let mut notes: BTreeSet<Note> = problems
        .iter()
        .flat_map(|problem| {
            problem
                .collections()
                .iter()
                .map(|name| Note { object: format!("Collection/{name}"), message: problem.to_string() })
        })
        .collect();

    let mut targets = BTreeMap::new();
    for (name, deployment) in &objects.deployments {
        if unknown(&deployment.collection) {
            notes.insert(Note {
                object: format!("UpdateDeployment/{name}"),
                message: format!(
                    "its collection {} does not exist or its members cannot be told: it reaches nobody until that is put right",
                    deployment.collection
                ),
            });
        }
        targets.insert(name.clone(), targeted(deployment, &objects.collections, &membership));
    }
    let offers = offers(input, &mut notes);
    let withheld = Withholding::new(input, &unknown, &mut notes);
    let settings = settings_by_rank(input, &unknown, &mut notes);

    let reach = Reach::new(input, &offers);
    let mut policies = BTreeMap::new();
    let mut shared: BTreeMap<Key<'_>, Arc<PolicyBody>> = BTreeMap::new();
    for client in input.clients.iter().filter(|client| client.state == ClientState::Active) {
        let is_member =
            |collection: &ObjectName| membership.get(collection).is_some_and(|set| set.contains(&client.id));
        if let Some(reason) = withheld.reason(is_member) {
            policies.insert(client.id, Verdict::Withheld { reason });
            continue;
        }
        let key = Key {
            deployments: targets
                .iter()
                .filter(|(_, reached)| reached.contains(&client.id))
                .map(|(name, _)| name)
                .collect(),
            windows: objects
                .windows
                .iter()
                .filter(|(_, window)| is_member(&window.collection))
                .map(|(name, _)| name)
                .collect(),
            settings: settings
                .iter()
                .find(|settings| settings.collection.as_ref().is_none_or(is_member))
                .map_or("", |settings| settings.name.as_str()),
            points: reach.points(client),
        };
        let body = shared
            .entry(key)
            .or_insert_with_key(|key| Arc::new(body(input, &offers, &settings, &reach, key)));
        policies.insert(client.id, Verdict::Policy(Arc::clone(body)));
    }
    SitePlan { membership, targets, policies, notes: notes.into_iter().collect() }
}

/// The digest that says whether a body is a new policy: over its JSON.
pub fn body_digest(body: &PolicyBody) -> Digest {
    Digest::of(&serde_json::to_vec(body).unwrap_or_default())
}

/// What tells clients with different policies apart.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key<'a> {
    deployments: Vec<&'a ObjectName>,
    windows: Vec<&'a ObjectName>,
    settings: &'a str,
    points: BTreeSet<&'a ObjectName>,
}

/// The updates that may be offered: known and not expired, with the leaves that somebody needs.
fn offers<'a>(input: &'a SiteInput, notes: &mut BTreeSet<Note>) -> BTreeMap<&'a UpdateId, UpdatePolicy> {
    let mut offers = BTreeMap::new();
    for (name, deployment) in &input.objects.deployments {
        let mut tell = |message: String| {
            notes.insert(Note { object: format!("UpdateDeployment/{name}"), message });
        };
        for id in &deployment.updates {
            match input.updates.get(id) {
                None => tell(format!("{id} is not in the catalogue: it is not offered to clients")),
                Some(update) if update.expired => {
                    tell(format!(
                        "{id} is expired: it is not offered to clients any more; take it out, or deploy {}",
                        update
                            .superseded_by
                            .as_ref()
                            .map_or_else(|| "another".to_owned(), ToString::to_string)
                    ));
                }
                Some(update) => {
                    offers.entry(id).or_insert_with(|| offer(update, input.required_leaves.get(id)));
                }
            }
        }
    }
    offers
}

fn offer(update: &Update, required: Option<&BTreeSet<LeafRef>>) -> UpdatePolicy {
    let needed = |leaf: &Leaf| required.is_some_and(|required| required.contains(&leaf.reference()));
    let mut leaves: Vec<_> = update.leaves.iter().filter(|leaf| needed(leaf)).cloned().collect();
    leaves.sort();
    leaves.dedup();
    UpdatePolicy {
        title: update.title.clone(),
        leaves,
        maximum_run_time: update.maximum_run_time,
        exclusive: update.exclusive,
        restart: update.restart,
        // What there are catalogues for so far are archives of apt.
        installer: Installer::Apt,
        superseded_by: update.superseded_by.clone(),
    }
}

/// Who gets no new policy.
struct Withholding<'a> {
    everyone: Option<String>,
    members: Vec<(&'a ObjectName, String)>,
}

impl<'a> Withholding<'a> {
    fn new(input: &'a SiteInput, unknown: &impl Fn(&ObjectName) -> bool, notes: &mut BTreeSet<Note>) -> Self {
        let mut everyone = Vec::new();
        let mut members = Vec::new();
        for (object, blocked) in &input.objects.blocked {
            let reason = format!("{object}: {}", blocked.reason);
            notes.insert(Note {
                object: object.clone(),
                message: format!("no new policy for the clients concerned: {}", blocked.reason),
            });
            if blocked.collections.is_empty() || blocked.collections.iter().any(unknown) {
                everyone.push(reason);
            } else {
                members.extend(blocked.collections.iter().map(|name| (name, reason.clone())));
            }
        }
        for (name, window) in &input.objects.windows {
            let object = format!("MaintenanceWindow/{name}");
            let mut block = |reason: String| {
                notes.insert(Note {
                    object: object.clone(),
                    message: format!("no new policy for the clients concerned: {reason}"),
                });
                format!("{object}: {reason}")
            };
            if unknown(&window.collection) {
                everyone.push(block(format!(
                    "nobody can tell whom it restricts, because collection {} does not exist or its members cannot be told: put the collection right or delete the window",
                    window.collection
                )));
            } else if let Err(error) = window.validate() {
                members.push((&window.collection, block(error.to_string())));
            }
        }
        Self { everyone: everyone.into_iter().next(), members }
    }

    fn reason(&self, is_member: impl Fn(&ObjectName) -> bool) -> Option<String> {
        self.everyone.clone().or_else(|| {
            self.members.iter().find(|(name, _)| is_member(name)).map(|(_, reason)| reason.clone())
        })
    }
}

/// Client settings, the one that wins first: higher priority, then name.
fn settings_by_rank<'a>(
    input: &'a SiteInput,
    unknown: &impl Fn(&ObjectName) -> bool,
    notes: &mut BTreeSet<Note>,
) -> Vec<&'a ClientSettings> {
    let mut settings: Vec<&ClientSettings> = Vec::new();
    for (name, candidate) in &input.objects.client_settings {
        if candidate.collection.as_ref().is_some_and(unknown) {
            notes.insert(Note {
                object: format!("ClientSettings/{name}"),
                message:
                    "its collection does not exist or its members cannot be told: it applies to nobody until that is put right"
                        .to_owned(),
            });
        } else {
            settings.push(candidate);
        }
    }
    settings.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.name.cmp(&b.name)));
    settings
}

/// The values of client settings, as provenance names them.
const SETTINGS: &[&str] = &[
    "policy_polling",
    "scan_cycle",
    "scan_ttl",
    "reevaluation_cycle",
    "state_message_cycle",
    "restart_countdown",
    "restart_turnaround",
    "other_updaters",
    "enabled",
    "grace_period",
    "install_due_within",
    "no_deadline_spread",
    "people",
];

fn body(
    input: &SiteInput,
    offers: &BTreeMap<&UpdateId, UpdatePolicy>,
    ranked: &[&ClientSettings],
    reach: &Reach<'_>,
    key: &Key<'_>,
) -> PolicyBody {
    let objects = &input.objects;
    let chosen = ranked.iter().find(|settings| settings.name == key.settings);
    let settings = chosen.map_or_else(ClientSettings::default, |settings| (*settings).clone());
    let mut provenance: BTreeMap<String, String> = SETTINGS
        .iter()
        .map(|value| (format!("settings.{value}"), format!("ClientSettings/{}", settings.name)))
        .collect();

    let windows: Vec<Window> =
        key.windows.iter().filter_map(|name| objects.windows.get(*name)).cloned().collect();
    for window in &windows {
        provenance.insert(
            format!("windows.{}", window.name),
            format!("MaintenanceWindow/{} of Collection/{}", window.name, window.collection),
        );
    }
    // Switched off: nothing to scan against, nothing deployed. Windows stay, they only restrict.
    let reaching = key.deployments.iter().filter(|_| settings.enabled);
    let mut deployments: Vec<DeploymentPolicy> = reaching
        .filter_map(|name| objects.deployments.get(*name))
        .map(|deployment| deployment_policy(deployment, offers, &settings))
        .collect();
    deployments.sort_by(|a, b| a.uid.cmp(&b.uid));
    for deployment in &deployments {
        provenance.insert(
            format!("deployments.{}", deployment.uid),
            format!("UpdateDeployment/{}", deployment.name),
        );
    }
    let updates: BTreeMap<UpdateId, UpdatePolicy> = deployments
        .iter()
        .flat_map(|deployment| &deployment.updates)
        .filter_map(|id| Some((id.clone(), offers.get(id)?.clone())))
        .collect();
    let mut dependencies = if updates.is_empty() { Vec::new() } else { input.dependencies.clone() };
    dependencies.sort();
    dependencies.dedup();
    let mut lines: Vec<LinePolicy> = if settings.enabled { input.lines.clone() } else { Vec::new() };
    lines.sort_by(|a, b| a.line.cmp(&b.line));
    let leaves = updates.values().flat_map(|update| &update.leaves).chain(&dependencies);
    let awaited = reach.awaited(&key.points, leaves);
    PolicyBody { settings, lines, windows, deployments, updates, dependencies, awaited, provenance }
}

fn deployment_policy(
    deployment: &Deployment,
    offers: &BTreeMap<&UpdateId, UpdatePolicy>,
    client: &ClientSettings,
) -> DeploymentPolicy {
    let mut settings = deployment.settings.clone();
    if client.no_deadline_spread {
        settings.deadline_spread = SignedDuration::ZERO;
    }
    DeploymentPolicy {
        name: deployment.name.to_string(),
        uid: deployment.uid.clone(),
        generation: deployment.generation,
        suspend: deployment.suspend,
        settings,
        anchor: deployment.anchor,
        updates: deployment.updates.iter().filter(|id| offers.contains_key(id)).cloned().collect(),
    }
}

/// Clients that a plan withholds policy from, with the reasons.
impl SitePlan {
    /// Clients that get no new policy, and why.
    pub fn withheld(&self) -> impl Iterator<Item = (ClientId, &str)> {
        self.policies.iter().filter_map(|(client, verdict)| match verdict {
            Verdict::Withheld { reason } => Some((*client, reason.as_str())),
            Verdict::Policy(_) => None,
        })
    }
}
