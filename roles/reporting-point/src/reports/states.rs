//! How far deployments are: states with counts, down to the clients (R-ENFD-13).

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use patchtide_model::{
    UpdateId,
    state::{Compliance, DeploymentEnforcement, Detection, Evaluation, StateError, UpdateEnforcement},
};
use patchtide_planner::site::status::{Standing, standing};
use patchtide_store::reports::{ClientState, DeploymentReport, ReportDeployment, Scope};

use super::{
    ReportError, Values,
    compliance::bulletins,
    ground::{Ground, about, error_cells},
    management::header,
    table::{Cell, Table, percent},
};

type Result<T, E = ReportError> = std::result::Result<T, E>;

/// What a report about a deployment counts clients by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Enforcement(Standing),
    Evaluation(Option<Evaluation>),
}

const NEVER: &str = "Never reported";

impl Told {
    const fn name(self) -> &'static str {
        match self {
            Self::Enforcement(Standing::NeverReported) => NEVER,
            Self::Enforcement(Standing::Compliant) => Compliance::Compliant.name(),
            Self::Enforcement(Standing::In(state)) => state.name(),
            Self::Evaluation(None) => "Never evaluated",
            Self::Evaluation(Some(state)) => state.name(),
        }
    }

    /// Topic times 10,000 plus state, as the field names them; 0 for what has none.
    const fn number(self) -> u32 {
        match self {
            Self::Enforcement(Standing::NeverReported) | Self::Evaluation(None) => 0,
            Self::Enforcement(Standing::Compliant) => 3_000_001,
            Self::Enforcement(Standing::In(state)) => 3_010_000 + state as u32,
            Self::Evaluation(Some(state)) => 3_020_000 + state as u32,
        }
    }

    fn all() -> Vec<Self> {
        let standings = [Standing::Compliant, Standing::NeverReported].into_iter();
        let standings = standings.chain(DeploymentEnforcement::ALL.iter().map(|state| Standing::In(*state)));
        let evaluations = std::iter::once(None).chain(Evaluation::ALL.iter().copied().map(Some));
        standings.map(Self::Enforcement).chain(evaluations.map(Self::Evaluation)).collect()
    }
}

/// What each client said of a deployment, and where it stands by that and by its scan: as the deployment's status has it.
pub(super) async fn told(
    ground: &Ground<'_>,
    deployment: &ReportDeployment,
) -> Result<Vec<(DeploymentReport, Standing)>> {
    let updates = ground.site.deployed_updates(deployment.number).await?;
    let tally = ground.site.tally(&updates, Scope::Deployment(deployment.number)).await?;
    let requiring: HashSet<i64> = tally
        .clients
        .iter()
        .filter(|client| client.detection.required > 0)
        .map(|client| client.client)
        .collect();
    let reports = ground.site.deployment_reports(deployment.number).await?;
    let stands = |report: DeploymentReport| {
        let found = standing(report.enforcement, report.compliance, requiring.contains(&report.client));
        (report, found)
    };
    Ok(reports.into_iter().map(stands).collect())
}

/// Counts by a state, the most frequent first, each leading on with `values` and the state's name.
fn counted<T: Copy + Ord>(
    mut table: Table,
    states: impl Iterator<Item = T>,
    name: impl Fn(T) -> &'static str,
    values: impl Fn(&'static str) -> Values,
) -> Table {
    let mut counts: BTreeMap<T, u64> = BTreeMap::new();
    for state in states {
        *counts.entry(state).or_default() += 1;
    }
    let all: u64 = counts.values().sum();
    let mut counts: Vec<(T, u64)> = counts.into_iter().collect();
    counts.sort_by(|(a, n), (b, m)| m.cmp(n).then(a.cmp(b)));
    for (state, count) in counts {
        table.drill(vec![name(state).into(), count.into(), percent(count, all)], values(name(state)));
    }
    table
}

/// States 1.
pub(super) async fn enforcement(ground: &Ground<'_>) -> Result<Table> {
    let deployment = ground.deployment().await?;
    let told = told(ground, &deployment).await?;
    let table = header(&deployment).with("Clients", told.len());
    let states = told.into_iter().map(|(_, standing)| Told::Enforcement(standing));
    Ok(counted(table, states, Told::name, |state| ground.on([("state", state.to_owned())])))
}

/// States 2.
pub(super) async fn evaluation(ground: &Ground<'_>) -> Result<Table> {
    let deployment = ground.deployment().await?;
    let reports = ground.site.deployment_reports(deployment.number).await?;
    let table = header(&deployment).with("Clients", reports.len());
    let states = reports.into_iter().map(|report| Told::Evaluation(report.evaluation));
    Ok(counted(table, states, Told::name, |state| ground.on([("state", state.to_owned())])))
}

/// States 4.
pub(super) async fn clients(ground: &Ground<'_>) -> Result<Table> {
    let all = Told::all();
    let choices: Vec<(Told, u32, &str, &str)> =
        all.iter().map(|state| (*state, state.number(), state.name(), state.name())).collect();
    let wanted = ground.state(&choices)?;
    let deployment = ground.deployment().await?;
    let told = told(ground, &deployment).await?.into_iter().filter(|(report, standing)| match wanted {
        Told::Enforcement(wanted) => *standing == wanted,
        Told::Evaluation(wanted) => report.evaluation == wanted,
    });
    let states =
        told.map(|(report, _)| (report.client, (wanted.name(), report.changed_at, report.error))).collect();
    rows(ground, header(&deployment).with("State", wanted.name()), &states, &deployment).await
}

/// Clients with their state, since when, and its error.
pub(super) async fn rows(
    ground: &Ground<'_>,
    mut table: Table,
    states: &BTreeMap<i64, (&'static str, Option<Timestamp>, Option<StateError>)>,
    deployment: &ReportDeployment,
) -> Result<Table> {
    let numbers: Vec<i64> = states.keys().copied().collect();
    for client in ground.site.clients_named(&numbers).await? {
        let Some((state, since, error)) = states.get(&client.number) else { continue };
        let mut cells: Vec<Cell> = vec![client.name.as_str().into(), (*state).into(), (*since).into()];
        cells.extend(error_cells(error.as_ref()));
        cells.extend(about(&client));
        let values = [
            ("deployment".to_owned(), deployment.name.clone()),
            ("client".to_owned(), client.id.to_string()),
        ];
        table.drill(cells, values.into());
    }
    Ok(table)
}

/// A client's state of an update: of enforcement while it is required, otherwise of detection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Combined {
    Enforcement(UpdateEnforcement),
    Detection(Detection),
}

impl Combined {
    const fn of(state: &ClientState) -> Self {
        match state.detection {
            Detection::Required => Self::Enforcement(state.enforcement),
            other => Self::Detection(other),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Enforcement(state) => state.name(),
            Self::Detection(state) => state.name(),
        }
    }

    const fn number(self) -> u32 {
        match self {
            Self::Enforcement(state) => 4_020_000 + state as u32,
            Self::Detection(state) => 5_000_000 + state as u32,
        }
    }
}

/// The deployment and the update that are asked for; the one must have the other.
async fn of_both(ground: &Ground<'_>) -> Result<(ReportDeployment, UpdateId, Vec<ClientState>)> {
    let deployment = ground.deployment().await?;
    let id = ground.update().await?;
    if !ground.site.deployed_updates(deployment.number).await?.contains(&id) {
        return Err(ReportError::Nothing {
            parameter: "update",
            kind: "such update in the deployment:",
            name: id.to_string(),
            known: format!("report management-3 with deployment={} for those it has", deployment.name),
        });
    }
    let states = ground.site.states_of(&id, Scope::Deployment(deployment.number)).await?;
    Ok((deployment, id, states))
}

/// States 5.
pub(super) async fn of_an_update(ground: &Ground<'_>) -> Result<Table> {
    let (deployment, id, states) = of_both(ground).await?;
    let table = header(&deployment).with("Update", id.to_string()).with("Clients", states.len());
    let found = states.iter().map(Combined::of);
    Ok(counted(table, found, Combined::name, |state| ground.on([("state", state.to_owned())])))
}

/// States 6.
pub(super) async fn clients_of_an_update(ground: &Ground<'_>) -> Result<Table> {
    let enforcement = UpdateEnforcement::ALL.iter().map(|state| Combined::Enforcement(*state));
    let all: Vec<Combined> =
        enforcement.chain(Detection::ALL.iter().map(|state| Combined::Detection(*state))).collect();
    let choices: Vec<(Combined, u32, &str, &str)> =
        all.iter().map(|state| (*state, state.number(), state.name(), state.name())).collect();
    let wanted = ground.state(&choices)?;
    let (deployment, id, states) = of_both(ground).await?;
    let states: Vec<ClientState> = states.into_iter().filter(|state| Combined::of(state) == wanted).collect();
    let shown: Vec<i64> = states.iter().take(ground.rows()).map(|state| state.client).collect();
    let since = ground.site.required_since(&id, &shown).await?;
    let states = states
        .into_iter()
        .map(|state| (state.client, (wanted.name(), since.get(&state.client).copied(), state.error)))
        .collect();
    let table = header(&deployment).with("Update", id.to_string()).with("State", wanted.name());
    rows(ground, table, &states, &deployment).await
}

/// States 3.
pub(super) async fn of_a_client(ground: &Ground<'_>) -> Result<Table> {
    let deployment = ground.deployment().await?;
    let client = ground.client().await?;
    let ids: Vec<UpdateId> = ground.site.deployed_updates(deployment.number).await?.into_iter().collect();
    let updates = ground.site.updates(&ids).await?;
    let states = ground.site.client_states(client.id).await?;
    let states: BTreeMap<&UpdateId, _> = states.iter().map(|state| (&state.update, state)).collect();
    let mut table = header(&deployment)
        .with("Client", client.name.as_str())
        .with("Address", client.address.clone())
        .with("Last contact", client.last_contact);
    for (id, update) in &updates {
        let state = states.get(id);
        let name = match state {
            Some(state) if state.detection == Detection::Required => state.enforcement.name(),
            Some(state) if state.detection == Detection::Installed => state.detection.name(),
            _ => match ground.site.client_update(client.id, id).await? {
                Some(found) => found.detection.name(),
                None => Detection::Unknown.name(),
            },
        };
        let mut cells: Vec<Cell> = vec![
            id.source.as_str().into(),
            bulletins(update).into(),
            update.title.as_str().into(),
            name.into(),
            state.and_then(|state| state.since).into(),
        ];
        cells.extend(error_cells(state.and_then(|state| state.error.as_ref())));
        cells.push(id.to_string().into());
        table.row(cells);
    }
    Ok(table)
}
