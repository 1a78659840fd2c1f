//! Which deployments there are, what they have, and what none has.

use std::collections::{BTreeMap, BTreeSet};

use patchtide_model::{Digest, UpdateId, catalogue::Update, search::Criteria, state::UpdateEnforcement};
use patchtide_store::reports::{ReportDeployment, Scope};

use super::{
    ReportError,
    compliance::{bulletins, of},
    ground::{Ground, about, error_cells, vendor},
    table::{Cell, Table, percent},
};

type Result<T, E = ReportError> = std::result::Result<T, E>;

/// Updates that a search finds at most.
const FOUND: usize = 20_000;

/// Deployments, as five reports list them.
fn list(mut table: Table, deployments: impl IntoIterator<Item = ReportDeployment>) -> Table {
    for deployment in deployments {
        let values = [("deployment".to_owned(), deployment.name.clone())].into();
        let cells = vec![
            deployment.name.into(),
            deployment.uid.into(),
            deployment.collection.map(|collection| collection.name).into(),
            deployment.available.into(),
            deployment.deadline.into(),
            deployment.modified.into(),
        ];
        table.drill(cells, values);
    }
    table
}

/// Management 1: those that have all updates of the list.
pub(super) async fn of_a_list(ground: &Ground<'_>) -> Result<Table> {
    let of = ground.list().await?;
    let wanted = ground.site.list_updates(of.number).await?;
    let mut found = Vec::new();
    for deployment in ground.site.report_deployments().await? {
        if !wanted.is_empty() && ground.site.deployed_updates(deployment.number).await?.is_superset(&wanted) {
            found.push(deployment);
        }
    }
    Ok(list(Table::default().with("Update list", of.name).with("Updates", wanted.len()), found))
}

/// Management 4.
pub(super) async fn of_a_collection(ground: &Ground<'_>) -> Result<Table> {
    let among = ground.among().await?;
    let all = ground.site.report_deployments().await?;
    let found = all.into_iter().filter(|deployment| deployment.collection == among.collection);
    Ok(list(Table::default().with("Collection", among.name), found))
}

/// Management 5.
pub(super) async fn of_a_client(ground: &Ground<'_>) -> Result<Table> {
    let client = ground.client().await?;
    let reaching = ground.site.deployments_reaching(client.number).await?;
    let all = ground.site.report_deployments().await?;
    let found = all.into_iter().filter(|deployment| reaching.contains(&deployment.number));
    Ok(list(Table::default().with("Client", client.name), found))
}

/// Management 6.
pub(super) async fn of_an_update(ground: &Ground<'_>) -> Result<Table> {
    let id = ground.update().await?;
    let mut found = Vec::new();
    for deployment in ground.site.report_deployments().await? {
        if ground.site.deployed_updates(deployment.number).await?.contains(&id) {
            found.push(deployment);
        }
    }
    Ok(list(Table::default().with("Update", id.to_string()), found))
}

/// Management 2.
pub(super) async fn not_deployed(ground: &Ground<'_>) -> Result<Table> {
    let among = ground.among().await?;
    let mut deployed = BTreeSet::new();
    for deployment in ground.site.report_deployments().await? {
        if deployment.collection == among.collection {
            deployed.extend(ground.site.deployed_updates(deployment.number).await?);
        }
    }
    let criteria = Criteria {
        lines: ground.text("vendor").map(|vendor| format!("{vendor}/*")).into_iter().collect(),
        expired: Some(false),
        required_by_at_least: Some(1),
        ..Criteria::default()
    };
    let class = ground.text("classification");
    let found: BTreeMap<UpdateId, Update> = ground
        .site
        .search(&criteria, FOUND)
        .await?
        .into_iter()
        .map(|(update, _)| (update.id.clone(), update))
        .filter(|(id, update)| {
            !deployed.contains(id)
                && class
                    .is_none_or(|wanted| wanted.eq_ignore_ascii_case(&format!("{:?}", update.classification)))
        })
        .collect();
    let tally = ground.site.tally(&found.keys().cloned().collect(), among.scope).await?;
    let clients = tally.clients.len() as u64;
    let mut rows: Vec<(&Update, u64)> = found
        .iter()
        .filter_map(|(id, update)| Some((update, tally.updates.get(id)?.detection.required)))
        .filter(|(_, required)| *required > 0)
        .collect();
    // The newest first, then what most clients miss.
    rows.sort_by(|(a, n), (b, m)| b.posted.cmp(&a.posted).then(m.cmp(n)).then(a.id.cmp(&b.id)));
    let mut table = Table::default().with("Collection", among.name.as_str()).with("Clients", clients);
    for (update, required) in rows {
        let cells = vec![
            update.id.source.as_str().into(),
            bulletins(update).into(),
            update.title.as_str().into(),
            required.into(),
            percent(required, clients),
            update.posted.into(),
            update.id.to_string().into(),
        ];
        let mut values = super::Values::from([("update".to_owned(), update.id.to_string())]);
        values.insert("collection".to_owned(), among.name.clone());
        table.drill(cells, values);
    }
    Ok(table)
}

/// What concerns a deployment as a whole.
pub(super) fn header(deployment: &ReportDeployment) -> Table {
    let collection = deployment.collection.as_ref().map(|collection| collection.name.as_str());
    Table::default()
        .with("Deployment", deployment.name.as_str())
        .with("Collection", collection)
        .with("Available", deployment.available)
        .with("Deadline", deployment.deadline)
}

/// The updates of a deployment.
async fn of_deployment(
    ground: &Ground<'_>,
    deployment: &ReportDeployment,
) -> Result<BTreeMap<UpdateId, Update>> {
    let ids: Vec<UpdateId> = ground.site.deployed_updates(deployment.number).await?.into_iter().collect();
    Ok(ground.site.updates(&ids).await?)
}

/// Management 3.
pub(super) async fn updates(ground: &Ground<'_>) -> Result<Table> {
    let deployment = ground.deployment().await?;
    let updates = of_deployment(ground, &deployment).await?;
    let scope = Scope::Deployment(deployment.number);
    let tally = ground.site.tally(&updates.keys().cloned().collect(), scope).await?;
    let mut table = header(&deployment).with("Clients", tally.clients.len());
    for (id, update) in updates {
        let Some(tally) = tally.updates.get(&id) else { continue };
        let counts = tally.detection;
        let cells = vec![
            bulletins(&update).into(),
            id.source.as_str().into(),
            update.title.as_str().into(),
            counts.installed.into(),
            counts.required.into(),
            counts.not_required.into(),
            counts.unknown.into(),
            tally.failed().into(),
            tally.pending().into(),
            id.to_string().into(),
        ];
        table.drill(cells, ground.on([("update", id.to_string())]));
    }
    Ok(table)
}

/// Management 7: what somebody requires and some file of which is on no distribution point.
pub(super) async fn without_content(ground: &Ground<'_>) -> Result<Table> {
    let deployment = ground.deployment().await?;
    let updates = of_deployment(ground, &deployment).await?;
    let scope = Scope::Deployment(deployment.number);
    let ids: BTreeSet<UpdateId> = updates.keys().cloned().collect();
    let tally = ground.site.tally(&ids, scope).await?;
    let leaves = ground.site.required_leaves(&ids).await?;
    let mut files: BTreeMap<&UpdateId, Vec<Digest>> = BTreeMap::new();
    for (id, update) in &updates {
        let Some(required) = leaves.get(id) else { continue };
        let wanted = update.leaves.iter().filter(|leaf| required.contains(&leaf.reference()));
        files.insert(id, wanted.map(|leaf| leaf.file.sha256).collect());
    }
    let all: Vec<Digest> = files.values().flatten().copied().collect();
    let there = ground.site.dps_with(&all).await?;
    let clients = tally.clients.len() as u64;
    let mut table = header(&deployment).with("Clients", clients);
    for (id, files) in files {
        let missing = files.iter().filter(|file| there.get(file).is_none_or(BTreeSet::is_empty)).count();
        let required = tally.updates.get(id).map_or(0, |tally| tally.detection.required);
        let Some(update) = updates.get(id).filter(|_| missing > 0 && required > 0) else { continue };
        let cells = vec![
            id.source.as_str().into(),
            bulletins(update).into(),
            update.title.as_str().into(),
            required.into(),
            percent(required, clients),
            missing.into(),
            id.to_string().into(),
        ];
        table.drill(cells, ground.on([("update", id.to_string())]));
    }
    Ok(table)
}

/// Management 8.
pub(super) async fn clients_without_content(ground: &Ground<'_>) -> Result<Table> {
    let deployment = ground.deployment().await?;
    let id = ground.update().await?;
    let waits =
        |state| matches!(state, UpdateEnforcement::WaitingForContent | UpdateEnforcement::DownloadFailed);
    let states = ground.site.states_of(&id, Scope::Deployment(deployment.number)).await?;
    let states: BTreeMap<i64, _> = states
        .into_iter()
        .filter(|state| {
            state.detection == patchtide_model::state::Detection::Required && waits(state.enforcement)
        })
        .map(|state| (state.client, state))
        .collect();
    let numbers: Vec<i64> = states.keys().copied().collect();
    let since = ground.site.required_since(&id, &numbers).await?;
    let mut table = header(&deployment).with("Update", id.to_string()).with("Vendor", vendor(&id));
    for client in ground.site.clients_named(&numbers).await? {
        let Some(state) = states.get(&client.number) else { continue };
        let mut cells: Vec<Cell> = vec![
            client.name.as_str().into(),
            state.enforcement.name().into(),
            since.get(&client.number).copied().into(),
        ];
        cells.extend(error_cells(state.error.as_ref()));
        cells.extend(about(&client));
        table.drill(cells, of(&client));
    }
    Ok(table)
}
