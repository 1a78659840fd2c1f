//! What fails, how often, and on whom (R-RPT-12 to -14, R-RPT-21, R-RPT-22).

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use patchtide_model::state::StateError;
use patchtide_planner::site::status::Standing;
use patchtide_store::reports::{DeploymentReport, ReportClient, ReportDeployment};

use super::{
    ReportError,
    compliance::of,
    ground::{Ground, about, error_cells},
    management::header,
    scan, states,
    table::{Cell, Table, percent},
};

type Result<T, E = ReportError> = std::result::Result<T, E>;

/// Errors by code and symbol: how often, and the words of one of them.
#[derive(Default)]
struct Counts<'a>(BTreeMap<(u32, &'a str), (u64, &'a StateError)>);

impl<'a> Counts<'a> {
    fn of(errors: impl Iterator<Item = &'a StateError>) -> Self {
        let mut counts = Self::default();
        for error in errors {
            counts.0.entry((error.code, &error.symbol)).or_insert((0, error)).0 += 1;
        }
        counts
    }

    /// The most frequent first.
    fn ranked(self) -> Vec<(u64, &'a StateError)> {
        let mut all: Vec<_> = self.0.into_values().collect();
        all.sort_by(|(n, a), (m, b)| m.cmp(n).then_with(|| (a.code, &a.symbol).cmp(&(b.code, &b.symbol))));
        all
    }
}

fn code(error: &StateError) -> String {
    format!("{:#010X}", error.code)
}

fn counted(ground: &Ground<'_>, mut table: Table, counts: Counts<'_>, clients: u64) -> Table {
    for (count, error) in counts.ranked() {
        let [number, symbol, message] = error_cells(Some(error));
        let values = ground.on([("code", code(error)), ("symbol", error.symbol.clone())]);
        table.drill(vec![number, symbol, count.into(), percent(count, clients), message], values);
    }
    table
}

/// Whether an error is the one that is asked for.
fn wanted(ground: &Ground<'_>) -> Result<impl Fn(&StateError) -> bool> {
    let text = ground.text("code").unwrap_or_default();
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    let number = parsed.map_err(|_| ReportError::Value {
        parameter: "code",
        value: text.to_owned(),
        expected: "an error code such as 0x87D00664".to_owned(),
    })?;
    let symbol = ground.text("symbol").map(str::to_owned);
    Ok(move |error: &StateError| {
        error.code == number && symbol.as_ref().is_none_or(|symbol| *symbol == error.symbol)
    })
}

/// Troubleshooting 1.
pub(super) async fn of_scans(ground: &Ground<'_>) -> Result<Table> {
    let among = ground.among().await?;
    let clients = ground.site.clients_of(among.scope).await?;
    let table = Table::default().with("Collection", among.name).with("Clients", clients.len());
    let counts = Counts::of(clients.iter().filter_map(|client| client.scan_error.as_ref()));
    Ok(counted(ground, table, counts, clients.len() as u64))
}

/// Troubleshooting 3.
pub(super) async fn clients_of_scans(ground: &Ground<'_>) -> Result<Table> {
    let is_wanted = wanted(ground)?;
    let among = ground.among().await?;
    let mut table = Table::default().with("Collection", among.name);
    for client in ground.site.clients_of(among.scope).await? {
        if client.scan_error.as_ref().is_some_and(&is_wanted) {
            table.drill(scan::row(&client), of(&client));
        }
    }
    Ok(table)
}

/// What fails of a deployment now: an error of a state that was left behind is none.
async fn failing(
    ground: &Ground<'_>,
    deployment: &ReportDeployment,
) -> Result<Vec<(DeploymentReport, StateError)>> {
    let told = states::told(ground, deployment).await?;
    let failing = told.into_iter().filter(|(_, standing)| matches!(standing, Standing::In(_)));
    Ok(failing.filter_map(|(mut report, _)| report.error.take().map(|error| (report, error))).collect())
}

/// Troubleshooting 2.
pub(super) async fn of_a_deployment(ground: &Ground<'_>) -> Result<Table> {
    let deployment = ground.deployment().await?;
    let failing = failing(ground, &deployment).await?;
    let clients = ground.site.deployment_reports(deployment.number).await?.len();
    let table = header(&deployment).with("Clients", clients);
    Ok(counted(ground, table, Counts::of(failing.iter().map(|(_, error)| error)), clients as u64))
}

/// Troubleshooting 4.
pub(super) async fn clients_of_a_deployment(ground: &Ground<'_>) -> Result<Table> {
    let is_wanted = wanted(ground)?;
    let deployment = ground.deployment().await?;
    let states = failing(ground, &deployment)
        .await?
        .into_iter()
        .filter(|(_, error)| is_wanted(error))
        .map(|(report, error)| {
            let state = report.enforcement.map_or("", |state| state.name());
            (report.client, (state, report.changed_at, Some(error)))
        })
        .collect();
    states::rows(ground, header(&deployment), &states, &deployment).await
}

/// One thing that fails on a client.
struct Problem {
    of: String,
    error: StateError,
    since: Option<Timestamp>,
}

/// All that fails, by client.
async fn problems(ground: &Ground<'_>, clients: &[ReportClient]) -> Result<BTreeMap<i64, Vec<Problem>>> {
    let among: HashSet<i64> = clients.iter().map(|client| client.number).collect();
    let mut all: BTreeMap<i64, Vec<Problem>> = BTreeMap::new();
    for client in clients {
        if let Some(error) = &client.scan_error {
            let problem = Problem { of: "scan".to_owned(), error: error.clone(), since: client.reported_at };
            all.entry(client.number).or_default().push(problem);
        }
    }
    for deployment in ground.site.report_deployments().await? {
        for (report, error) in failing(ground, &deployment).await? {
            if among.contains(&report.client) {
                let of = format!("deployment {}", deployment.name);
                let problem = Problem { of, error, since: report.changed_at };
                all.entry(report.client).or_default().push(problem);
            }
        }
    }
    Ok(all)
}

/// Troubleshooting 5.
pub(super) async fn ranked(ground: &Ground<'_>) -> Result<Table> {
    let among = ground.among().await?;
    let clients = ground.site.clients_of(among.scope).await?;
    let problems = problems(ground, &clients).await?;
    let mut counts: BTreeMap<(&str, u32, &str), (u64, &StateError)> = BTreeMap::new();
    for problem in problems.values().flatten() {
        let key = (problem.of.as_str(), problem.error.code, problem.error.symbol.as_str());
        counts.entry(key).or_insert((0, &problem.error)).0 += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by(|(a, (n, _)), (b, (m, _))| m.cmp(n).then(a.cmp(b)));
    let mut table = Table::default().with("Collection", among.name).with("Clients", clients.len());
    for ((of, ..), (count, error)) in counts {
        let [number, symbol, message] = error_cells(Some(error));
        table.row(vec![
            of.into(),
            number,
            symbol,
            count.into(),
            percent(count, clients.len() as u64),
            message,
        ]);
    }
    Ok(table)
}

/// Troubleshooting 6.
pub(super) async fn of_clients(ground: &Ground<'_>) -> Result<Table> {
    let among = ground.among().await?;
    let clients = ground.site.clients_of(among.scope).await?;
    let problems = problems(ground, &clients).await?;
    let mut table = Table::default().with("Collection", among.name).with("Clients that fail", problems.len());
    let mut ranked: Vec<(&ReportClient, &Vec<Problem>)> =
        clients.iter().filter_map(|client| Some((client, problems.get(&client.number)?))).collect();
    ranked.sort_by_key(|(_, problems)| std::cmp::Reverse(problems.len()));
    for (client, problems) in ranked {
        for problem in problems {
            let [number, symbol, message] = error_cells(Some(&problem.error));
            let [.., id] = about(client);
            let cells: Vec<Cell> = vec![
                client.name.as_str().into(),
                problems.len().into(),
                problem.of.as_str().into(),
                number,
                symbol,
                problem.since.into(),
                message,
                id,
            ];
            table.drill(cells, of(client));
        }
    }
    Ok(table)
}
