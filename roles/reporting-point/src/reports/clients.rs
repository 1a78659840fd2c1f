//! The machines themselves (R-RPT-23).

use std::collections::BTreeMap;

use super::{
    ReportError,
    compliance::of,
    ground::{Ground, about, fact, system},
    table::{Cell, Table, percent},
};

type Result<T, E = ReportError> = std::result::Result<T, E>;

/// What stands for a value that a client did not tell.
const UNTOLD: &str = "not reported";

fn word(cell: Cell) -> String {
    match cell {
        Cell::Text(text) => text,
        _ => UNTOLD.to_owned(),
    }
}

/// Clients 1.
pub(super) async fn versions(ground: &Ground<'_>) -> Result<Table> {
    let among = ground.among().await?;
    let clients = ground.site.clients_of(among.scope).await?;
    let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
    for client in &clients {
        let key = (word(fact(&client.facts, "agent.version")), word(system(client)));
        *counts.entry(key).or_default() += 1;
    }
    let mut table = Table::default().with("Collection", among.name).with("Clients", clients.len());
    for ((version, system), count) in counts {
        let cells = vec![
            version.as_str().into(),
            system.as_str().into(),
            count.into(),
            percent(count, clients.len() as u64),
        ];
        table.drill(cells, ground.on([("version", version), ("system", system)]));
    }
    Ok(table)
}

/// Clients 2.
pub(super) async fn of_a_version(ground: &Ground<'_>) -> Result<Table> {
    let among = ground.among().await?;
    let version = ground.text("version").unwrap_or_default();
    let mut table = Table::default().with("Collection", among.name).with("Version", version);
    for client in ground.site.clients_of(among.scope).await? {
        let (found, on) = (word(fact(&client.facts, "agent.version")), word(system(&client)));
        if found != version || ground.text("system").is_some_and(|wanted| wanted != on) {
            continue;
        }
        let [contact, address, agent, system, id] = about(&client);
        let cells =
            vec![client.name.as_str().into(), agent, system, contact, client.scanned_at.into(), address, id];
        table.drill(cells, of(&client));
    }
    Ok(table)
}
