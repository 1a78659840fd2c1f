//! The policy compiler: wakes on any change of the site database, asks the planner for one policy per client, signs
//! and stores those that are new.
//!
//! Policy is compiled only from a whole picture: every window and collection that the API server knows must have been
//! taken into the database in its newest generation, or be marked as blocking. Otherwise a deployment that is applied
//! together with its window could reach clients before the window does.

mod whole;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use patchtide_model::{
    ClientId, ObjectName, UpdateId,
    catalogue::{Leaf, LeafRef},
    client::Client,
    object::SiteObjects,
    policy::{LinePolicy, LineRelease, POLICY_VERSION, Policy},
};
use patchtide_planner::{
    check,
    site::{self, SiteInput, SitePlan, Verdict},
};
use patchtide_signer::SignerError;
use patchtide_store::{StoreError, clients::StoredPolicy};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    context::Context,
    error::chain,
    kinds::{
        deployment_package::{PACKAGE_CONTENT, plan::Content},
        site::enrolment::add_token_members,
        software_update_point::{active, memory},
    },
};

/// Changes that come within this time are one.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// The compiler runs this often although nothing woke it.
const RESYNC: Duration = Duration::from_mins(1);
/// Longest time between a change and the next run.
const LONGEST_REST: Duration = Duration::from_secs(30);
/// Pause after a failure.
const RETRY: Duration = Duration::from_secs(2);
/// An object that is not in the database for longer than this is named in the log.
const PATIENCE: Duration = Duration::from_secs(20);
/// Policies signed before they are stored: bounds memory, not the result.
const BATCH: usize = 500;

/// What the last compilation found; deployments and collections show it in their status.
#[derive(Debug, Clone, Default)]
pub struct Compiled {
    /// Who is in which collection and whom each deployment reaches.
    pub plan: Option<SitePlan>,
    /// The clients it was compiled for, by id.
    pub clients: Vec<Client>,
    /// Deployments in it: name to uid and generation.
    pub deployments: BTreeMap<ObjectName, (String, i64)>,
}

impl Compiled {
    /// A client.
    pub fn client(&self, id: ClientId) -> Option<&Client> {
        let at = self.clients.binary_search_by_key(&id, |client| client.id).ok()?;
        self.clients.get(at)
    }

    /// What people call a client.
    pub fn name_of(&self, id: ClientId) -> String {
        self.client(id).map_or_else(|| id.to_string(), |client| client.name.clone())
    }

    /// Whether this generation of a deployment is in the policies that went out.
    pub fn has(&self, name: &str, uid: &str, generation: i64) -> bool {
        self.deployments.iter().any(|(n, (u, g))| n.as_str() == name && u == uid && *g == generation)
    }
}

/// Why policies could not be compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The site database did not answer.
    #[error("the site database could not {what}")]
    Store {
        /// Operation.
        what: &'static str,
        /// Cause.
        #[source]
        source: StoreError,
    },
    /// A policy could not be signed.
    #[error("the policy of client {client} could not be signed")]
    Sign {
        /// Whose.
        client: ClientId,
        /// Cause.
        #[source]
        source: SignerError,
    },
    /// The plan does not keep what the objects demand: a defect.
    #[error(
        "no policy goes out: the compiled plan breaks {count} rules of the plan checker; clients keep what they have; report this with the objects concerned"
    )]
    Unsound {
        /// Broken rules.
        count: usize,
        /// The first of them.
        #[source]
        first: check::Violation,
    },
    /// The API server did not answer.
    #[error("the API server could not list {kind}: check the controller's rights")]
    List {
        /// What was listed.
        kind: &'static str,
        /// Cause.
        #[source]
        source: Box<kube::Error>,
    },
}

fn store(what: &'static str) -> impl FnOnce(StoreError) -> CompileError {
    move |source| CompileError::Store { what, source }
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Run {
    /// Everything that clients should know is signed and stored; so many policies were new.
    Done {
        /// New policies.
        signed: usize,
        /// Clients for which none may go out.
        withheld: usize,
    },
    /// An object is not in the database yet: its reconcile wakes the compiler again.
    Behind {
        /// `Kind/name` of one such object.
        object: String,
    },
}

/// Runs until the task is dropped.
pub async fn run(ctx: Arc<Context>) {
    let mut changes = ctx.store.changes();
    let mut windows = ctx.caches.maintenance_windows.version();
    let mut collections = ctx.caches.collections.version();
    let mut points = ctx.caches.software_update_points.version();
    let mut behind = None;
    loop {
        changes.mark_unchanged();
        let started = Instant::now();
        let pause = match compile(&ctx).await {
            Ok(Run::Done { signed, withheld }) => {
                behind = None;
                ctx.metrics.compiled(started.elapsed(), signed, withheld);
                if signed > 0 {
                    tracing::info!(signed, withheld, ms = started.elapsed().as_millis(), "policies signed");
                }
                RESYNC
            }
            Ok(Run::Behind { object }) => {
                let since = *behind.get_or_insert(started);
                if started.duration_since(since) > PATIENCE {
                    tracing::warn!(
                        object,
                        "no policy goes out: this object is not in force yet; see its status and the log"
                    );
                }
                RETRY
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "policies not compiled; tried again");
                RETRY
            }
        };
        // State messages of a large fleet wake it all the time: it takes at most a sixth of one core.
        let rest = DEBOUNCE.max(started.elapsed() * 5).min(LONGEST_REST);
        let wake = async {
            tokio::select! {
                _ = changes.changed() => {}
                _ = windows.changed() => {}
                _ = collections.changed() => {}
                _ = points.changed() => {}
            }
            sleep(rest).await;
        };
        let _ = timeout(pause.max(rest), wake).await;
    }
}

/// Compiles, signs and stores once.
pub async fn compile(ctx: &Context) -> Result<Run, CompileError> {
    let (objects, behind) = whole::objects(ctx).await?;
    if let Some(object) = behind {
        return Ok(Run::Behind { object });
    }
    let input = load(ctx, objects).await?;
    let plan = site::compile(&input);
    // Fails closed: what cannot be proved is a defect, and no policy goes out that may ignore a restriction.
    let violations = check::check(&input, &plan);
    if let Some(first) = violations.first() {
        let (count, first) = (violations.len(), first.clone());
        return Err(CompileError::Unsound { count, first });
    }
    let known = ctx.store.policy_digests().await.map_err(store("read policy numbers"))?;
    let epoch = ctx.store.epoch().await.map_err(store("read the epoch"))?;
    let new = changed(&plan, &known, epoch);
    let withheld =
        plan.policies.values().filter(|verdict| matches!(verdict, Verdict::Withheld { .. })).count();
    if !new.is_empty()
        && let Some(object) = whole::unseen(ctx).await?
    {
        return Ok(Run::Behind { object });
    }
    let now = ctx.clock.now();
    let mut signed = 0;
    for batch in new.chunks(BATCH) {
        let rows = batch.iter().map(|next| sign(ctx, next, epoch, now)).collect::<Result<Vec<_>, _>>()?;
        ctx.store.put_policies(rows).await.map_err(store("store policies"))?;
        signed += batch.len();
    }
    publish(ctx, input, plan);
    Ok(Run::Done { signed, withheld })
}

/// A policy to be signed.
struct Next<'a> {
    client: ClientId,
    number: u64,
    body: &'a Arc<patchtide_model::policy::PolicyBody>,
    digest: patchtide_model::Digest,
}

/// The policies whose body is not the one the client has.
fn changed<'a>(
    plan: &'a SitePlan,
    known: &BTreeMap<ClientId, (u64, u64, patchtide_model::Digest)>,
    epoch: u64,
) -> Vec<Next<'a>> {
    // Clients share bodies; each is hashed once.
    let mut digests: BTreeMap<*const patchtide_model::policy::PolicyBody, patchtide_model::Digest> =
        BTreeMap::new();
    let mut new = Vec::new();
    for (client, verdict) in &plan.policies {
        let Verdict::Policy(body) = verdict else {
            continue;
        };
        let digest = *digests.entry(Arc::as_ptr(body)).or_insert_with(|| site::body_digest(body));
        let number = match known.get(client) {
            Some((of, _, old)) if *of == epoch && *old == digest => continue,
            Some((of, number, _)) if *of == epoch => number + 1,
            _ => 1,
        };
        new.push(Next { client: *client, number, body, digest });
    }
    new
}

fn sign(ctx: &Context, next: &Next<'_>, epoch: u64, now: Timestamp) -> Result<StoredPolicy, CompileError> {
    let policy = Policy {
        version: POLICY_VERSION,
        site: ctx.site.clone(),
        client: next.client,
        epoch,
        number: next.number,
        issued_at: now,
        body: next.body.as_ref().clone(),
    };
    let envelope = ctx
        .signer
        .sign_policy(&policy)
        .map_err(|source| CompileError::Sign { client: next.client, source })?;
    Ok(StoredPolicy {
        client: next.client,
        epoch,
        number: next.number,
        body_digest: next.digest,
        envelope,
        issued_at: now,
    })
}

/// Everything the planner needs beside the objects, from the site database.
async fn load(ctx: &Context, mut objects: SiteObjects) -> Result<SiteInput, CompileError> {
    add_token_members(ctx, &mut objects).await.map_err(store("load members by token"))?;
    let clients = ctx.store.clients().await.map_err(store("load clients"))?;
    let lines = ctx.store.lines().await.map_err(store("load lines"))?;
    let mut offered = offered_lines(ctx).await?;
    let lines = lines
        .into_iter()
        .filter_map(|line| {
            let release = offered.remove(line.line.as_str())?;
            let catalogue = line.catalogue?;
            Some(LinePolicy {
                release,
                line: line.line,
                catalogue_version: catalogue.version,
                digest: catalogue.digest,
                size: catalogue.size,
            })
        })
        .collect();
    let ids: BTreeSet<UpdateId> =
        objects.deployments.values().flat_map(|deployment| deployment.updates.iter().cloned()).collect();
    let list: Vec<UpdateId> = ids.iter().cloned().collect();
    let updates = ctx.store.updates(&list).await.map_err(store("load updates"))?;
    let mut required_leaves = ctx.store.required_leaves(&ids).await.map_err(store("load required leaves"))?;
    let packages = packages(ctx).await?;
    // What a package holds stays approved with its update when nobody requires it any more: it heals what falls below
    // it again, and the end of an installation is no reason for another policy.
    for update in updates.values() {
        let held = update
            .leaves
            .iter()
            .filter(|leaf| packages.iter().any(|content| content.files.contains_key(&leaf.file.sha256)));
        for leaf in held {
            required_leaves.entry(update.id.clone()).or_default().insert(leaf.reference());
        }
    }
    let dependencies = if ids.is_empty() { Vec::new() } else { dependencies(ctx, &packages).await? };
    Ok(SiteInput { site: ctx.site.clone(), objects, clients, lines, updates, required_leaves, dependencies })
}

/// What the packages hold.
async fn packages(ctx: &Context) -> Result<Vec<Content>, CompileError> {
    let rows = ctx.store.objects(PACKAGE_CONTENT).await.map_err(store("load packages"))?;
    Ok(rows.iter().filter_map(|row| serde_json::from_str(&row.json).ok()).collect())
}

/// Lines of the sources of software update points in force, with who their release says it is: a line whose source is
/// gone, or only a spare one's, is kept but not scanned.
async fn offered_lines(ctx: &Context) -> Result<BTreeMap<String, Option<LineRelease>>, CompileError> {
    let points = ctx.caches.software_update_points.all();
    let mut offered = BTreeMap::new();
    for source in active::offered_sources(&points) {
        let releases = memory::releases(ctx, &source.name).await.map_err(store("load releases"))?;
        offered.extend(active::lines(source).map(|(suite, line)| (line, releases.get(suite).cloned())));
    }
    Ok(offered)
}

/// Packages that updates newly depend on, as clients named them, where the catalogue knows them.
async fn dependencies(ctx: &Context, packages: &[Content]) -> Result<Vec<Leaf>, CompileError> {
    let mut needed = ctx.store.needed_leaves().await.map_err(store("load new dependencies"))?;
    needed.extend(packages.iter().flat_map(|content| content.dependencies.iter().cloned()));
    let needed: Vec<LeafRef> = needed.into_iter().collect();
    let found = ctx.store.find_leaves(&needed).await.map_err(store("find new dependencies"))?;
    let leaves: BTreeSet<Leaf> = found.into_values().map(|(_, leaf)| leaf).collect();
    Ok(leaves.into_iter().collect())
}

fn publish(ctx: &Context, input: SiteInput, plan: SitePlan) {
    let deployments = input
        .objects
        .deployments
        .iter()
        .map(|(name, deployment)| (name.clone(), (deployment.uid.clone(), deployment.generation)))
        .collect();
    let mut clients = input.clients;
    clients.sort_by_key(|client| client.id);
    let next = Compiled { plan: Some(plan), clients, deployments };
    let old = ctx.compiled.send_replace(Arc::new(next));
    let new = ctx.compiled.borrow().clone();
    // Last contacts move all the time and are no news.
    let same = old.plan == new.plan
        && old.deployments == new.deployments
        && old.clients.iter().map(|client| client.id).eq(new.clients.iter().map(|client| client.id));
    if !same {
        ctx.compiled_version.send_modify(|version| *version += 1);
    }
}

#[cfg(test)]
mod tests {
    use patchtide_model::{Digest, object::ClientSettings, policy::PolicyBody};
    use uuid::Uuid;

    use super::*;

    fn plan(clients: u128) -> SitePlan {
        let body = Arc::new(PolicyBody {
            settings: ClientSettings::default(),
            lines: vec![],
            windows: vec![],
            deployments: vec![],
            updates: BTreeMap::new(),
            dependencies: vec![],
            provenance: BTreeMap::new(),
        });
        let verdicts =
            (1..=clients).map(|n| (ClientId(Uuid::from_u128(n)), Verdict::Policy(Arc::clone(&body))));
        let mut policies: BTreeMap<_, _> = verdicts.collect();
        let held = Verdict::Withheld { reason: "MaintenanceWindow/mars".to_owned() };
        policies.insert(ClientId(Uuid::from_u128(99)), held);
        SitePlan { membership: BTreeMap::new(), targets: BTreeMap::new(), policies, notes: vec![] }
    }

    #[test]
    fn only_another_body_gets_a_number_and_numbers_only_rise() {
        let plan = plan(3);
        let id = |n| ClientId(Uuid::from_u128(n));
        let first = changed(&plan, &BTreeMap::new(), 1);
        assert_eq!(
            first.iter().map(|next| next.number).collect::<Vec<_>>(),
            [1, 1, 1],
            "the held one gets none"
        );
        let same = first[0].digest;
        let known = BTreeMap::from([
            (id(1), (1, 7, same)),
            (id(2), (1, 7, Digest::of(b"another body"))),
            (id(3), (1, 7, same)),
        ]);
        let next: Vec<_> = changed(&plan, &known, 1).iter().map(|next| (next.client, next.number)).collect();
        assert_eq!(next, [(id(2), 8)]);
        // A restored site has another epoch: everybody is told again, from the beginning.
        let next: Vec<_> = changed(&plan, &known, 2).iter().map(|next| next.number).collect();
        assert_eq!(next, [1, 1, 1]);
    }
}
