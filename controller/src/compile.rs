//! The policy compiler: wakes on any change of the site database, asks the planner for one policy per client, signs
//! and stores those that are new.
//!
//! Policy is compiled only from a whole picture: every window and collection that the API server knows must have been
//! taken into the database in its newest generation, or be marked as blocking. Otherwise a deployment that is applied
//! together with its window could reach clients before the window does.

mod arrivals;
mod input;
mod keep;
mod sign;
mod whole;

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use patchtide_model::{ClientId, ObjectName, client::Client, shared::Shared};
use patchtide_planner::{
    check,
    site::{
        SiteInput, SitePlan,
        forecast::{Standing, standing},
    },
};
use patchtide_protocol::policy::PartError;
use patchtide_signer::SignerError;
use patchtide_store::StoreError;
use tokio::time::{Instant, sleep, timeout};

pub use self::keep::{Ground, News, Policies};
use crate::{context::Context, error::chain, pace};

/// Changes that come within this time are one.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// The compiler runs this often although nothing woke it.
const RESYNC: Duration = Duration::from_mins(1);
/// Pause after a failure.
const RETRY: Duration = Duration::from_secs(2);
/// An object that is not in the database for longer than this is named in the log.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the last compilation found; deployments and collections show it in their status.
#[derive(Debug, Clone, Default)]
pub struct Compiled {
    /// Who is in which collection and whom each deployment reaches.
    pub plan: Option<Arc<SitePlan>>,
    /// The clients it was compiled for, by id. When they were last heard of is as of some earlier time: ask the database.
    pub clients: Arc<[Shared<Client>]>,
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
        self.clients.get(at).map(|client| &**client)
    }

    /// What `policies` compiled last, for those who look at it without a cluster.
    pub fn of(policies: &Policies) -> Self {
        let Some((input, plan)) = policies.last() else { return Self::default() };
        let mut clients = input.clients.clone();
        clients.sort_by_key(|client| client.id);
        let input = Some(Arc::new(without_clients(input)));
        Self { plan: Some(Arc::new(plan.clone())), clients: clients.into(), input, ..Self::default() }
    }

    /// What it was compiled from, its clients apart.
    pub fn input(&self) -> Option<&SiteInput> {
        self.input.as_deref()
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
    /// What a policy says cannot be written.
    #[error("the policy of client {client} could not be written")]
    Part {
        /// Whose.
        client: ClientId,
        /// Cause.
        #[source]
        source: PartError,
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
    /// The kept plan is not what a compilation of everything gives: a defect.
    #[error(
        "no policy goes out: the kept plan is not that of a full compilation, which follows; report this"
    )]
    Strayed,
    /// Another process stored policies meanwhile.
    #[error(
        "another process stores policies too; everything is compiled anew by the one that holds the lease"
    )]
    Overtaken,
    /// The compilation did not end by itself.
    #[error("the compilation was ended")]
    Ended {
        /// Cause.
        #[source]
        source: tokio::task::JoinError,
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
    let mut policies = Policies::default();
    loop {
        changes.mark_unchanged();
        let started = Instant::now();
        let pause = match compile(&ctx, &mut policies).await {
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
                ctx.metrics.not_compiled();
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

/// Compiles, proves, signs and stores what changed since the last run.
async fn compile(ctx: &Context, policies: &mut Policies) -> Result<Run, CompileError> {
    let (objects, behind) = whole::objects(ctx).await?;
    if let Some(object) = behind {
        return Ok(Run::Behind { object });
    }
    let ground = Ground { site: &ctx.site, store: &ctx.store, signer: &ctx.signer };
    let offered = input::offered_lines(ctx).await?;
    policies.compile(ground, objects, offered, Instant::now()).await?;
    if policies.is_open()
        && let Some(object) = whole::unseen(ctx).await?
    {
        return Ok(Run::Behind { object });
    }
    let signed = policies.issue(ground, ctx.clock.now()).await?;
    publish(ctx, policies);
    Ok(Run::Done { signed, withheld: policies.withheld() })
}

/// Tells those who show it what the compiler found, as far as it is news.
fn publish(ctx: &Context, policies: &mut Policies) {
    let news = policies.take_news();
    let Some((input, plan)) = policies.last().filter(|_| news.any()) else { return };
    let before = ctx.compiled.borrow().clone();
    let clients = if news.clients {
        let mut clients = input.clients.clone();
        clients.sort_by_key(|client| client.id);
        clients.into()
    } else {
        Arc::clone(&before.clients)
    };
    let kept = before.input.as_ref().filter(|_| !news.input);
    let input = kept.map_or_else(|| Arc::new(without_clients(input)), Arc::clone);
    let plan = before.plan.as_ref().filter(|_| !news.plan).map_or_else(|| Arc::new(plan.clone()), Arc::clone);
    let deployments = input.objects.deployments.iter();
    let deployments = deployments
        .map(|(name, deployment)| (name.clone(), (deployment.uid.clone(), deployment.generation)))
        .collect();
    let standing = Arc::default();
    let next = Compiled { plan: Some(plan), clients, deployments, input: Some(input), standing };
    let other_plan = if news.all { before.plan != next.plan } else { news.plan };
    let other = other_plan || before.deployments != next.deployments;
    ctx.compiled.send_replace(Arc::new(next));
    if other {
        ctx.compiled_version.send_modify(|version| *version += 1);
    }
}

fn without_clients(input: &SiteInput) -> SiteInput {
    SiteInput {
        site: input.site.clone(),
        objects: input.objects.clone(),
        clients: Vec::new(),
        lines: input.lines.clone(),
        updates: input.updates.clone(),
        required_leaves: input.required_leaves.clone(),
        dependencies: input.dependencies.clone(),
        holders: input.holders.clone(),
    }
}
