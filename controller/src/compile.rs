//! The policy compiler: wakes on any change of the site database, asks the planner for one policy per client, signs
//! and stores those that are new.
//!
//! Policy is compiled only from a whole picture: every window and collection that the API server knows must have been
//! taken into the database in its newest generation, or be marked as blocking. Otherwise a deployment that is applied
//! together with its window could reach clients before the window does.

mod arrivals;
mod input;
mod sign;
mod whole;

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use patchtide_model::{ClientId, ObjectName, client::Client};
use patchtide_planner::{
    check,
    site::{
        self, SiteInput, SitePlan, Verdict,
        forecast::{Standing, standing},
    },
};
use patchtide_signer::SignerError;
use patchtide_store::StoreError;
use tokio::time::{Instant, sleep, timeout};

use self::arrivals::Arrivals;
use crate::{context::Context, error::chain, pace};

/// Changes that come within this time are one.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// The compiler runs this often although nothing woke it.
const RESYNC: Duration = Duration::from_mins(1);
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
    /// What it was compiled from, its clients apart.
    input: Option<Arc<SiteInput>>,
    /// How its deployments look, once somebody asks.
    standing: Arc<OnceLock<BTreeMap<ObjectName, Standing>>>,
}

impl Compiled {
    /// A client.
    pub fn client(&self, id: ClientId) -> Option<&Client> {
        let at = self.clients.binary_search_by_key(&id, |client| client.id).ok()?;
        self.clients.get(at)
    }

    /// How a deployment looks. The first to ask reckons for all of them.
    pub fn standing(&self, name: &ObjectName) -> Option<&Standing> {
        let (plan, input) = (self.plan.as_ref()?, self.input.as_ref()?);
        self.standing.get_or_init(|| standing(input, &self.clients, plan)).get(name)
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
    let mut arrivals = Arrivals::default();
    loop {
        changes.mark_unchanged();
        let started = Instant::now();
        let pause = match compile(&ctx, &mut arrivals).await {
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
        let rest = pace::rest(started.elapsed()).max(DEBOUNCE);
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
async fn compile(ctx: &Context, arrivals: &mut Arrivals) -> Result<Run, CompileError> {
    let (objects, behind) = whole::objects(ctx).await?;
    if let Some(object) = behind {
        return Ok(Run::Behind { object });
    }
    let input = input::load(ctx, objects, arrivals).await?;
    let plan = site::compile(&input);
    // Fails closed: what cannot be proved is a defect, and no policy goes out that may ignore a restriction.
    let violations = check::check(&input, &plan);
    if let Some(first) = violations.first() {
        let (count, first) = (violations.len(), first.clone());
        return Err(CompileError::Unsound { count, first });
    }
    let known = ctx.store.policy_digests().await.map_err(store("read policy numbers"))?;
    let epoch = ctx.store.epoch().await.map_err(store("read the epoch"))?;
    let new = sign::changed(&plan, &known, epoch);
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
        let rows =
            batch.iter().map(|next| sign::sign(ctx, next, epoch, now)).collect::<Result<Vec<_>, _>>()?;
        ctx.store.put_policies(rows).await.map_err(store("store policies"))?;
        signed += batch.len();
    }
    publish(ctx, input, plan);
    Ok(Run::Done { signed, withheld })
}

fn publish(ctx: &Context, mut input: SiteInput, plan: SitePlan) {
    let deployments = input
        .objects
        .deployments
        .iter()
        .map(|(name, deployment)| (name.clone(), (deployment.uid.clone(), deployment.generation)))
        .collect();
    let mut clients = std::mem::take(&mut input.clients);
    clients.sort_by_key(|client| client.id);
    let before = ctx.compiled.borrow().clone();
    let known = before.input.as_ref().is_some_and(|known| {
        known.objects == input.objects
            && known.holders == input.holders
            && known.required_leaves == input.required_leaves
    });
    let facts =
        before.clients.iter().map(|client| &client.facts).eq(clients.iter().map(|client| &client.facts));
    let stands = known && facts && before.plan.as_ref() == Some(&plan);
    let standing = if stands { Arc::clone(&before.standing) } else { Arc::default() };
    let next = Compiled { plan: Some(plan), clients, deployments, input: Some(Arc::new(input)), standing };
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
