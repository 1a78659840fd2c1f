//! How the last scans went.

use std::collections::BTreeMap;

use patchtide_model::state::Scan;
use patchtide_store::reports::ReportClient;

use super::{
    ReportError,
    compliance::of,
    ground::{Ground, about, error_cells},
    table::{Cell, Table, percent},
};

type Result<T, E = ReportError> = std::result::Result<T, E>;

/// Scan 1 and 2.
pub(super) async fn states(ground: &Ground<'_>) -> Result<Table> {
    let among = ground.among().await?;
    let clients = ground.site.clients_of(among.scope).await?;
    let mut table = Table::default().with("Collection", among.name).with("Clients", clients.len());
    let mut counts: BTreeMap<Scan, u64> = BTreeMap::new();
    for client in &clients {
        *counts.entry(client.scan).or_default() += 1;
    }
    let mut counts: Vec<(Scan, u64)> = counts.into_iter().collect();
    counts.sort_by(|(a, n), (b, m)| m.cmp(n).then(a.cmp(b)));
    for (state, count) in counts {
        let cells = vec![state.name().into(), count.into(), percent(count, clients.len() as u64)];
        table.drill(cells, ground.on([("state", state.name().to_owned())]));
    }
    Ok(table)
}

/// Scan 3 and 4.
pub(super) async fn clients(ground: &Ground<'_>) -> Result<Table> {
    let choices: Vec<(Scan, u32, &str, &str)> =
        Scan::ALL.iter().map(|state| (*state, u32::from(state.id()), state.name(), state.name())).collect();
    let wanted = ground.state(&choices)?;
    let among = ground.among().await?;
    let mut table = Table::default().with("Collection", among.name).with("State", wanted.name());
    for client in ground.site.clients_of(among.scope).await?.iter().filter(|client| client.scan == wanted) {
        table.drill(row(client), of(client));
    }
    Ok(table)
}

/// A client and its last scan.
pub(super) fn row(client: &ReportClient) -> Vec<Cell> {
    let mut cells: Vec<Cell> =
        vec![client.name.as_str().into(), client.scan.name().into(), client.scanned_at.into()];
    cells.extend(error_cells(client.scan_error.as_ref()));
    cells.extend(about(client));
    cells
}
