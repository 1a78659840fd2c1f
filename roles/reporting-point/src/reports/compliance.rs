//! Compliance of clients: with a list, by degree, and of one.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use patchtide_model::{
    UpdateId,
    state::{Compliance, Detection},
};
use patchtide_store::reports::{ClientTally, ReportClient, Scope};

use super::{
    ReportError,
    ground::{Among, Ground, about, error_cells, vendor},
    table::{Cell, Table, percent},
};

type Result<T, E = ReportError> = std::result::Result<T, E>;

const STATES: &[(Compliance, u32, &str, &str)] = &[
    (Compliance::Compliant, 1, Compliance::Compliant.name(), "compliant"),
    (Compliance::NonCompliant, 2, Compliance::NonCompliant.name(), "non-compliant"),
    (Compliance::Unknown, 0, Compliance::Unknown.name(), "unknown"),
];

/// What is missing makes it non-compliant, whatever else is unknown (R-CMPL-11).
const fn standing(tally: &ClientTally) -> Compliance {
    if tally.detection.required > 0 {
        Compliance::NonCompliant
    } else if tally.detection.unknown > 0 {
        Compliance::Unknown
    } else {
        Compliance::Compliant
    }
}

const fn short(state: Compliance) -> &'static str {
    match state {
        Compliance::Compliant => "compliant",
        Compliance::NonCompliant => "non-compliant",
        _ => "unknown",
    }
}

/// The clients that are meant, counted, with what concerns all of them.
async fn counted(ground: &Ground<'_>) -> Result<(Table, Vec<ClientTally>)> {
    let (kind, name, updates) = ground.updates().await?;
    let among = match (kind, ground.text("collection")) {
        // Without a collection, those it is meant for.
        ("Deployment", None) => {
            let deployment = ground.deployment().await?;
            let name = format!("clients that {} reaches", deployment.name);
            Among { scope: Scope::Deployment(deployment.number), name, collection: None }
        }
        _ => ground.among().await?,
    };
    let tally = ground.site.tally(&updates, among.scope).await?;
    let table = Table::default()
        .with(kind, name)
        .with("Updates", updates.len())
        .with("Collection", among.name)
        .with("Clients", tally.clients.len());
    Ok((table, tally.clients))
}

/// Compliance 1.
pub(super) async fn overall(ground: &Ground<'_>) -> Result<Table> {
    let (mut table, clients) = counted(ground).await?;
    for (state, _, name, short) in STATES {
        let count = clients.iter().filter(|client| standing(client) == *state).count();
        let cells = vec![(*name).into(), count.into(), percent(count as u64, clients.len() as u64)];
        table.drill(cells, ground.on([("state", (*short).to_owned())]));
    }
    Ok(table)
}

/// Compliance 10 (R-CMPL-11, R-CMPL-16).
pub(super) async fn degree(ground: &Ground<'_>) -> Result<Table> {
    let (mut table, clients) = counted(ground).await?;
    let mut degrees: BTreeMap<(u8, u64), (Compliance, u64)> = BTreeMap::new();
    for client in &clients {
        let state = standing(client);
        let rank = match state {
            Compliance::Compliant => 0,
            Compliance::NonCompliant => 1,
            _ => 2,
        };
        degrees.entry((rank, client.detection.required)).or_insert((state, 0)).1 += 1;
    }
    for ((_, missing), (state, count)) in degrees {
        let cells =
            vec![state.name().into(), missing.into(), count.into(), percent(count, clients.len() as u64)];
        let more = [("state", short(state).to_owned()), ("missing", missing.to_string())];
        table.drill(cells, ground.on(more));
    }
    Ok(table)
}

/// Compliance 7 (R-CMPL-09).
pub(super) async fn clients(ground: &Ground<'_>) -> Result<Table> {
    let wanted = match ground.text("state") {
        Some(_) => Some(ground.state(STATES)?),
        None => None,
    };
    let missing: Option<u64> = ground.number("missing")?;
    let (mut table, tallies) = counted(ground).await?;
    let shown: BTreeMap<i64, ClientTally> = tallies
        .into_iter()
        .filter(|client| wanted.is_none_or(|state| standing(client) == state))
        .filter(|client| missing.is_none_or(|missing| client.detection.required == missing))
        .map(|client| (client.client, client))
        .collect();
    let numbers: Vec<i64> = shown.keys().copied().collect();
    for client in ground.site.clients_named(&numbers).await? {
        let Some(tally) = shown.get(&client.number) else { continue };
        let counts = tally.detection;
        let reason =
            (counts.unknown > 0).then(|| client.absence(client.scanned_at.is_some(), ground.now).words());
        let [contact, address, agent, system, id] = about(&client);
        let cells = vec![
            client.name.as_str().into(),
            standing(tally).name().into(),
            counts.required.into(),
            counts.installed.into(),
            counts.not_required.into(),
            counts.unknown.into(),
            tally.failed.into(),
            reason.into(),
            contact,
            client.scanned_at.into(),
            address,
            agent,
            system,
            id,
        ];
        table.drill(cells, of(&client));
    }
    Ok(table)
}

/// What report compliance-5 is asked with.
pub(super) fn of(client: &ReportClient) -> super::Values {
    [("client".to_owned(), client.id.to_string())].into()
}

/// What all deployments together want of updates.
struct Deployed {
    /// The first deadline of each, of whatever deployment (as in the field).
    deadlines: BTreeMap<UpdateId, Option<Timestamp>>,
    /// Those that are deployed to the client.
    targeted: BTreeSet<UpdateId>,
}

impl Deployed {
    async fn read(ground: &Ground<'_>, client: &ReportClient) -> Result<Self> {
        let reaching = ground.site.deployments_reaching(client.number).await?;
        let mut all = Self { deadlines: BTreeMap::new(), targeted: BTreeSet::new() };
        for deployment in ground.site.report_deployments().await? {
            for update in ground.site.deployed_updates(deployment.number).await? {
                if reaching.contains(&deployment.number) {
                    all.targeted.insert(update.clone());
                }
                let earliest = all.deadlines.entry(update).or_default();
                *earliest = [*earliest, deployment.deadline].into_iter().flatten().min();
            }
        }
        Ok(all)
    }
}

/// Compliance 5 (R-CMPL-09).
pub(super) async fn of_a_client(ground: &Ground<'_>) -> Result<Table> {
    let client = ground.client().await?;
    let states: Vec<_> = ground
        .site
        .client_states(client.id)
        .await?
        .into_iter()
        .filter(|state| matches!(state.detection, Detection::Required | Detection::Installed))
        .filter(|state| ground.text("vendor").is_none_or(|wanted| vendor(&state.update) == wanted))
        .collect();
    let ids: Vec<UpdateId> = states.iter().map(|state| state.update.clone()).collect();
    let updates = ground.site.updates(&ids).await?;
    let deployed = Deployed::read(ground, &client).await?;
    let mut table = Table::default()
        .with("Client", client.name.as_str())
        .with("Last contact", client.last_contact)
        .with("Last scan", client.scanned_at)
        .with("Scan state", client.scan.name());
    for state in states {
        let Some(update) = updates.get(&state.update) else { continue };
        let class = format!("{:?}", update.classification);
        if ground.text("classification").is_some_and(|wanted| !wanted.eq_ignore_ascii_case(&class)) {
            continue;
        }
        let required = state.detection == Detection::Required;
        let [code, symbol, _] = error_cells(state.error.as_ref());
        table.row(vec![
            vendor(&update.id).into(),
            class.into(),
            bulletins(update).into(),
            update.id.source.as_str().into(),
            update.title.as_str().into(),
            deployed.targeted.contains(&update.id).into(),
            (!required).into(),
            required.into(),
            deployed.deadlines.get(&update.id).copied().flatten().into(),
            state.since.into(),
            if required { state.enforcement.name().into() } else { Cell::from(state.detection.name()) },
            code,
            symbol,
            update.id.to_string().into(),
        ]);
    }
    Ok(table)
}

/// The bulletins of an update; none without any.
pub(super) fn bulletins(update: &patchtide_model::catalogue::Update) -> Option<String> {
    let all: Vec<&str> = update.bulletins.iter().map(String::as_str).collect();
    (!all.is_empty()).then(|| all.join(", "))
}
