//! Updates with the number of clients in each state, and the clients of one.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp, ToSpan as _, civil::Date, tz::TimeZone};
use patchtide_model::{
    UpdateId,
    catalogue::Update,
    search::{Criteria, DetectionCounts},
    state::{Detection, Scan},
};
use patchtide_store::reports::{ReportClient, UpdateTally};

use super::{
    ReportError,
    compliance::{bulletins, of},
    ground::{Among, Ground, about, vendor},
    table::{Cell, Table, percent},
};

type Result<T, E = ReportError> = std::result::Result<T, E>;

/// Updates that a search finds at most.
const FOUND: usize = 20_000;

const STATES: &[(Detection, u32, &str, &str)] = &[
    (Detection::Required, 2, Detection::Required.name(), "required"),
    (Detection::Installed, 3, Detection::Installed.name(), "installed"),
    (Detection::NotRequired, 1, Detection::NotRequired.name(), "not-required"),
    (Detection::Unknown, 0, Detection::Unknown.name(), "unknown"),
];

const fn total(counts: &DetectionCounts) -> u64 {
    counts.installed + counts.required + counts.not_required + counts.unknown
}

/// Counts and shares, as four reports tell them.
fn counts(counts: &DetectionCounts) -> [Cell; 8] {
    let all = total(counts);
    [
        counts.installed.into(),
        counts.required.into(),
        counts.not_required.into(),
        counts.unknown.into(),
        all.into(),
        percent(counts.installed + counts.not_required, all),
        percent(counts.required, all),
        percent(counts.unknown, all),
    ]
}

/// Updates with their counts among the clients that are asked for.
struct Counted {
    table: Table,
    among: Among,
    rows: Vec<(Update, UpdateTally)>,
}

async fn count(ground: &Ground<'_>, updates: Vec<Update>, table: Table) -> Result<Counted> {
    let among = ground.among().await?;
    let ids: BTreeSet<UpdateId> = updates.iter().map(|update| update.id.clone()).collect();
    let tally = ground.site.tally(&ids, among.scope).await?;
    let table = table.with("Collection", among.name.as_str()).with("Clients", tally.clients.len());
    let tally_of = |update: Update| tally.updates.get(&update.id).map(|tally| (update, *tally));
    Ok(Counted { table, among, rows: updates.into_iter().filter_map(tally_of).collect() })
}

/// What leads on to the states of an update in the same collection.
fn on(ground: &Ground<'_>, update: &UpdateId) -> super::Values {
    let mut values = super::Values::from([("update".to_owned(), update.to_string())]);
    if let Some(collection) = ground.text("collection") {
        values.insert("collection".to_owned(), collection.to_owned());
    }
    values
}

fn head(update: &Update) -> [Cell; 4] {
    [
        vendor(&update.id).into(),
        update.id.source.as_str().into(),
        bulletins(update).into(),
        update.title.as_str().into(),
    ]
}

/// Compliance 2.
pub(super) async fn matching(ground: &Ground<'_>) -> Result<Table> {
    let words = ground.text("filter").unwrap_or_default();
    let current = if ground.text("all") == Some("true") { None } else { Some(false) };
    let base = Criteria { superseded: current, expired: current, ..Criteria::default() };
    let by_title = Criteria { title: Some(words.trim_matches('*').to_owned()), ..base.clone() };
    let by_bulletin = Criteria { bulletins: [words.to_owned()].into(), ..base };
    let mut found = BTreeMap::new();
    for criteria in [by_title, by_bulletin] {
        for (update, _) in ground.site.search(&criteria, FOUND).await? {
            found.insert(update.id.clone(), update);
        }
    }
    let Counted { mut table, rows, .. } =
        count(ground, found.into_values().collect(), Table::default().with("Filter", words)).await?;
    for (update, tally) in rows {
        let cells = head(&update).into_iter().chain(counts(&tally.detection));
        let cells = cells.chain([update.id.to_string().into()]).collect();
        table.drill(cells, on(ground, &update.id));
    }
    Ok(table)
}

/// Which updates some deployment to the collection has.
async fn deployed(ground: &Ground<'_>, among: &Among) -> Result<BTreeSet<UpdateId>> {
    let mut all = BTreeSet::new();
    for deployment in ground.site.report_deployments().await? {
        if among.collection.is_none() || deployment.collection == among.collection {
            all.extend(ground.site.deployed_updates(deployment.number).await?);
        }
    }
    Ok(all)
}

/// Compliance 3 (R-CMPL-10).
pub(super) async fn of_a_list(ground: &Ground<'_>) -> Result<Table> {
    let list = ground.list().await?;
    let ids: Vec<UpdateId> = ground.site.list_updates(list.number).await?.into_iter().collect();
    let updates = ground.site.updates(&ids).await?.into_values().collect();
    let Counted { mut table, among, rows } =
        count(ground, updates, Table::default().with("Update list", list.name)).await?;
    let deployed = deployed(ground, &among).await?;
    for (update, tally) in rows {
        let cells = head(&update).into_iter().chain(counts(&tally.detection));
        let cells = cells.chain([deployed.contains(&update.id).into(), update.id.to_string().into()]);
        table.drill(cells.collect(), on(ground, &update.id));
    }
    Ok(table)
}

/// The first instant of the month or the year that is asked for, and the first one after it.
fn published(ground: &Ground<'_>) -> Result<Option<(Timestamp, Timestamp)>> {
    let wrong = |parameter: &'static str, expected: &str| ReportError::Value {
        parameter,
        value: ground.text(parameter).unwrap_or_default().to_owned(),
        expected: expected.to_owned(),
    };
    let month: Option<i8> = ground.number("month")?;
    let Some(year) = ground.number::<i16>("year")? else {
        return if month.is_some() { Err(ground.missing("year")) } else { Ok(None) };
    };
    let first = Date::new(year, month.unwrap_or(1), 1).map_err(|_| wrong("month", "a month of a year"))?;
    let after = first.checked_add(if month.is_some() { 1.month() } else { 1.year() });
    let instant = |date: Date| date.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp());
    let range = after.and_then(|after| Ok((instant(first)?, instant(after)?)));
    range.map(Some).map_err(|_| wrong("year", "a year that the calendar has"))
}

/// Compliance 4.
pub(super) async fn by_month(ground: &Ground<'_>) -> Result<Table> {
    let range = published(ground)?;
    let criteria = Criteria {
        lines: ground.text("vendor").map(|vendor| format!("{vendor}/*")).into_iter().collect(),
        products: ground.text("product").map(str::to_owned).into_iter().collect(),
        posted_after: range.map(|(from, _)| from),
        posted_before: range.map(|(_, to)| to),
        superseded: Some(false),
        ..Criteria::default()
    };
    let class = |update: &Update| format!("{:?}", update.classification);
    let found = ground.site.search(&criteria, FOUND).await?.into_iter().map(|(update, _)| update);
    let found = found.filter(|update| {
        ground.text("classification").is_none_or(|wanted| wanted.eq_ignore_ascii_case(&class(update)))
    });
    let Counted { mut table, among, rows } = count(ground, found.collect(), Table::default()).await?;
    let deployed = deployed(ground, &among).await?;
    for (update, tally) in rows {
        let cells = head(&update).into_iter().chain([class(&update).into(), update.posted.into()]);
        let cells = cells.chain(counts(&tally.detection));
        let cells = cells.chain([deployed.contains(&update.id).into(), update.id.to_string().into()]);
        table.drill(cells.collect(), on(ground, &update.id));
    }
    Ok(table)
}

/// Compliance 6.
pub(super) async fn states(ground: &Ground<'_>) -> Result<Table> {
    let id = ground.update().await?;
    let among = ground.among().await?;
    let tally = ground.site.tally(&[id.clone()].into(), among.scope).await?;
    let found = tally.updates.get(&id).map(|tally| tally.detection).unwrap_or_default();
    let all = total(&found);
    let mut table =
        Table::default().with("Update", id.to_string()).with("Collection", among.name).with("Clients", all);
    for (state, _, name, short) in STATES {
        let count = match state {
            Detection::Required => found.required,
            Detection::Installed => found.installed,
            Detection::NotRequired => found.not_required,
            Detection::Unknown => found.unknown,
        };
        let cells = vec![(*name).into(), count.into(), percent(count, all)];
        table.drill(cells, ground.on([("state", (*short).to_owned())]));
    }
    Ok(table)
}

/// Compliance 8.
pub(super) async fn clients(ground: &Ground<'_>) -> Result<Table> {
    let wanted = ground.state(STATES)?;
    let id = ground.update().await?;
    let among = ground.among().await?;
    let states: BTreeMap<i64, _> = ground
        .site
        .states_of(&id, among.scope)
        .await?
        .into_iter()
        .filter(|state| state.detection == wanted)
        .map(|state| (state.client, state))
        .collect();
    let numbers: Vec<i64> = states.keys().copied().collect();
    let clients = ground.site.clients_named(&numbers).await?;
    let since = if wanted == Detection::Required {
        let shown: Vec<i64> = clients.iter().take(ground.rows()).map(|client| client.number).collect();
        ground.site.required_since(&id, &shown).await?
    } else {
        std::collections::HashMap::new()
    };
    let mut table = Table::default()
        .with("Update", id.to_string())
        .with("Collection", among.name)
        .with("State", wanted.name());
    for client in clients {
        let Some(state) = states.get(&client.number) else { continue };
        let reason =
            (wanted == Detection::Unknown).then(|| client.absence(state.scanned, ground.now).words());
        let enforcement = (wanted == Detection::Required).then(|| state.enforcement.name());
        let [contact, address, agent, system, number] = about(&client);
        let cells = vec![
            client.name.as_str().into(),
            wanted.name().into(),
            since.get(&client.number).copied().into(),
            enforcement.into(),
            reason.into(),
            contact,
            client.scanned_at.into(),
            address,
            agent,
            system,
            number,
        ];
        table.drill(cells, of(&client));
    }
    Ok(table)
}

/// Compliance 9.
pub(super) async fn health(ground: &Ground<'_>) -> Result<Table> {
    let days: i64 = ground.number("days")?.unwrap_or(7);
    let list = ground.list().await?;
    let ids: Vec<UpdateId> = ground.site.list_updates(list.number).await?.into_iter().collect();
    let updates = ground.site.updates(&ids).await?.into_values().collect();
    let Counted { table, among, rows } =
        count(ground, updates, Table::default().with("Update list", list.name)).await?;
    let since = SignedDuration::from_hours(24).checked_mul(i32::try_from(days).unwrap_or(i32::MAX));
    let since = since.and_then(|span| ground.now.checked_sub(span).ok()).unwrap_or(Timestamp::MIN);
    let is_healthy = |client: &ReportClient| {
        client.scan != Scan::Failed && client.scanned_at.is_some_and(|scanned| scanned >= since)
    };
    let healthy =
        ground.site.clients_of(among.scope).await?.iter().filter(|client| is_healthy(client)).count();
    let mut table = table.with("Healthy", format!("scanned in the last {days} days"));
    for (update, tally) in rows {
        let counts = tally.detection;
        let compliant = counts.installed + counts.not_required;
        let cells = vec![
            vendor(&update.id).into(),
            update.product.as_str().into(),
            format!("{:?}", update.classification).into(),
            bulletins(&update).into(),
            update.id.source.as_str().into(),
            format!("{:?}", update.severity).into(),
            update.title.as_str().into(),
            total(&counts).into(),
            healthy.into(),
            compliant.into(),
            counts.required.into(),
            counts.unknown.into(),
            percent(compliant, total(&counts)),
            update.id.to_string().into(),
        ];
        table.drill(cells, on(ground, &update.id));
    }
    Ok(table)
}
