//! Silences and alerts in the monitoring system (R-DEPL-15, R-DEPL-16): a loop beside the others. What should stand comes
//! from the planner, what stands from the Alertmanager itself; nothing of it is kept here. Whatever fails is told in
//! conditions and holds nothing up: clients install whether or not anybody was told.

mod endpoint;
mod error;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::ResourceExt;
use patchtide_crds::site::AlertmanagerSpec;
use patchtide_model::deployment::{Deployment, DeploymentSettings};
use patchtide_planner::site::alerts::{self, AlertInput, Naming, Seen, Wanted, Watched};
use tokio::time::{Instant, sleep_until, timeout};

use self::{endpoint::Endpoint, error::AlertError};
use crate::{
    compile::Compiled,
    context::Context,
    error::chain,
    kinds::{UPDATE_DEPLOYMENT, site},
    pace::Pace,
    reported::reported,
};

/// What stands is looked at this often while something should stand, so that what is lost there comes back.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// And this often while nothing should.
const ASK_IDLE: Duration = Duration::from_mins(5);
/// Pause after a failure.
const RETRY: Duration = Duration::from_secs(15);
/// A round that takes longer is broken off.
const LONGEST_ROUND: Duration = Duration::from_mins(2);
/// Requests of one round to one Alertmanager; the next round goes on.
const PER_ROUND: usize = 200;
/// Pause before it.
const NEXT_ROUND: Duration = Duration::from_secs(2);
/// Requests at a time.
const AT_ONCE: usize = 4;

/// How telling the monitoring system goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Alerting {
    /// No Alertmanager is named, or nothing was told yet.
    #[default]
    Unknown,
    /// It takes what it is told.
    Delivered(String),
    /// It does not, and why.
    Failed(String),
}

/// Whether a deployment asks for silences or alerts.
pub const fn is_asked_for(settings: &DeploymentSettings) -> bool {
    settings.disable_alerts || settings.alert_on_failure
}

/// Runs until the task is dropped.
pub async fn run(ctx: Arc<Context>) {
    let mut changes = ctx.store.changes();
    let mut compiled = ctx.compiled_version.subscribe();
    let mut sites = ctx.caches.sites.version();
    let mut secrets = ctx.caches.secrets.subscribe();
    let mut settled: Option<Settled> = None;
    let mut pace = Pace::new(Instant::now());
    pace.wake(Instant::now());
    let mut next = Instant::now() + ASK_IDLE;
    loop {
        if pace.begins(Instant::now()) {
            let round = timeout(LONGEST_ROUND, round(&ctx, &mut settled)).await;
            let ended = round.unwrap_or(Err(AlertError::Slow));
            pace.ends(Instant::now());
            match ended {
                Ok(End { say, again }) => {
                    if matches!(say, Some(Alerting::Delivered(_))) {
                        ctx.metrics.alerted(Some(ctx.clock.now()));
                    }
                    next = Instant::now() + again;
                    tell(&ctx, say);
                }
                Err(error) => {
                    settled = None;
                    ctx.metrics.alerted(None);
                    next = Instant::now() + RETRY;
                    tell(&ctx, Some(Alerting::Failed(chain(&error))));
                }
            }
        }
        let wake = pace.due().map_or(next, |due| due.min(next));
        tokio::select! {
            woken = async { tokio::select! {
                one = changes.changed() => one,
                one = compiled.changed() => one,
                one = sites.changed() => one,
                one = secrets.changed() => one,
            }}, if pace.due().is_none() => {
                if woken.is_err() {
                    return;
                }
                pace.wake(Instant::now());
            }
            () = sleep_until(wake) => if pace.due().is_none() {
                pace.wake(Instant::now());
            },
        }
    }
}

fn tell(ctx: &Context, say: Option<Alerting>) {
    let Some(say) = say else { return };
    let is_new = ctx.alerting.send_if_modified(|known| {
        if *known == say {
            return false;
        }
        match &say {
            Alerting::Unknown => {}
            Alerting::Delivered(text) => tracing::info!(text, "alerting"),
            Alerting::Failed(error) => tracing::warn!(error, "alerting"),
        }
        *known = say;
        true
    });
    if is_new {
        ctx.alerting_version.send_modify(|version| *version += 1);
    }
}

/// How a round ended.
struct End {
    /// What to say of it; none: what was said stands.
    say: Option<Alerting>,
    /// Look again after this time, although nothing changed.
    again: Duration,
}

/// What was wanted when nothing was left to tell, and of whom.
struct Settled {
    wanted: Wanted,
    spec: AlertmanagerSpec,
    secrets: u64,
    at: Instant,
}

async fn round(ctx: &Context, settled: &mut Option<Settled>) -> Result<End, AlertError> {
    let site = site::in_force(ctx);
    let Some((site, spec)) = site.as_ref().and_then(|site| Some((site, site.spec.alertmanager.as_ref()?)))
    else {
        *settled = None;
        return Ok(End { say: Some(Alerting::Unknown), again: ASK_IDLE });
    };
    let compiled = ctx.compiled.borrow().clone();
    // Nothing is concluded from an absence: before the first compilation nobody knows whom a deployment reaches.
    if compiled.plan.is_none() {
        return Ok(End { say: None, again: RETRY });
    }
    let secrets = *ctx.caches.secrets.borrow();
    let wanted = wanted(ctx, &site.uid().unwrap_or_default(), spec, Arc::clone(&compiled)).await?;
    ctx.metrics.alerts_wanted(wanted.silences.len(), wanted.alerts.len(), wanted.beyond);
    let again = if wanted.silences.is_empty() && wanted.alerts.is_empty() { ASK_IDLE } else { ASK_AGAIN };
    if settled.as_ref().is_some_and(|known| {
        known.at.elapsed() < again
            && known.secrets == secrets
            && known.spec == *spec
            && known.wanted.is_same_but_for_time(&wanted)
    }) {
        return Ok(End { say: None, again });
    }
    let endpoints = endpoint::endpoints(ctx, spec).await?;
    let (mut silenced, mut left, mut failed) = (false, Left::default(), None);
    for endpoint in &endpoints {
        match bring(ctx, endpoint, &wanted, !silenced).await {
            Ok(more) => {
                silenced = true;
                left = Left { told: left.told | more.told, lasting: left.lasting | more.lasting };
            }
            Err(error) => {
                failed.get_or_insert(error);
            }
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    let say = Some(Alerting::Delivered(words(&wanted, spec, &compiled)));
    *settled = (!left.told && !left.lasting).then(|| Settled {
        wanted,
        spec: spec.clone(),
        secrets,
        at: Instant::now(),
    });
    Ok(End { say, again: if left.told { NEXT_ROUND } else { again } })
}

/// What a round leaves to the next.
#[derive(Debug, Clone, Copy, Default)]
struct Left {
    /// There was more to tell than one round may.
    told: bool,
    /// An alert lasts whose client is at it again: any change may be its end.
    lasting: bool,
}

/// Brings one Alertmanager to what should stand.
async fn bring(
    ctx: &Context,
    endpoint: &Endpoint,
    wanted: &Wanted,
    silences: bool,
) -> Result<Left, AlertError> {
    let alerts = endpoint.alerts(ctx.site.as_str()).await?;
    let seen = Seen { silences: if silences { endpoint.silences().await? } else { Vec::new() }, alerts };
    let none = Wanted { silences: BTreeMap::new(), ..wanted.clone() };
    let told = alerts::tell(if silences { wanted } else { &none }, &seen, ctx.clock.now());
    let now = ctx.clock.now();
    // Collected first: a closure that a stream keeps across an await is not `Send` for every lifetime.
    let requests: Vec<_> = told.iter().take(PER_ROUND).map(|tell| endpoint.tell(tell, now)).collect();
    stream::iter(requests).buffer_unordered(AT_ONCE).try_for_each(|()| std::future::ready(Ok(()))).await?;
    let lasting = alerts::standing(&seen, &wanted.owner).iter().any(|key| !wanted.alerts.contains_key(key));
    Ok(Left { told: told.len() > PER_ROUND, lasting })
}

/// What should stand, by what clients reported.
async fn wanted(
    ctx: &Context,
    owner: &str,
    spec: &AlertmanagerSpec,
    compiled: Arc<Compiled>,
) -> Result<Wanted, AlertError> {
    let rows = ctx.store.objects(UPDATE_DEPLOYMENT).await?;
    let deployments: Vec<Deployment> = rows
        .iter()
        .filter_map(|row| serde_json::from_str::<Deployment>(&row.json).ok())
        .filter(|deployment| is_asked_for(&deployment.settings))
        .collect();
    let nobody = BTreeSet::new();
    let mut states = Vec::with_capacity(deployments.len());
    for deployment in &deployments {
        let clients = ctx.store.deployment_clients_at_it(&deployment.uid).await?;
        states.push(reported(clients));
    }
    let watched: Vec<Watched<'_>> = deployments
        .iter()
        .zip(&states)
        .map(|(deployment, (states, heard))| Watched {
            deployment,
            targeted: compiled
                .plan
                .as_ref()
                .and_then(|plan| plan.targets.get(&deployment.name))
                .map_or(&nobody, |targeted| targeted),
            states,
            heard,
        })
        .collect();
    let naming = Naming { label: spec.client_label.clone(), fact: spec.client_fact.clone() };
    Ok(alerts::wanted(&AlertInput {
        site: &ctx.site,
        owner,
        naming: &naming,
        clients: &compiled.clients,
        deployments: &watched,
        now: ctx.clock.now(),
    }))
}

fn words(wanted: &Wanted, spec: &AlertmanagerSpec, compiled: &Compiled) -> String {
    let mut said = vec![match spec.urls.as_slice() {
        [one] => format!("{one} takes silences and alerts"),
        all => format!("{} Alertmanagers take silences and alerts", all.len()),
    }];
    if let Some(first) = wanted.unnamed.first() {
        said.push(format!(
            "{} clients that install are not silenced, because they have no fact {}, first {}: put its file into /etc/patchtide/labels.d, or leave clientFact out",
            wanted.unnamed.len(),
            spec.client_fact.as_deref().unwrap_or("name"),
            compiled.name_of(*first)
        ));
    }
    if wanted.beyond > 0 {
        let most = alerts::MOST_SILENCES;
        said.push(format!(
            "{} silences or alerts are beyond the {most} that may stand at a time",
            wanted.beyond
        ));
    }
    said.join("; ")
}
