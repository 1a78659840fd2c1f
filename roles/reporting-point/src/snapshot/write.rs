//! Writing a snapshot: the head at once, clients, reports and the catalogue some at a time.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use patchtide_model::{
    UpdateId,
    catalogue::LeafRef,
    client::Client,
    state::{Detection, UpdateEnforcement},
};
use patchtide_planner::{
    site::status::ReportedState,
    snapshot::{CatalogueEntry, ClientReport, UpdateReport},
};
use patchtide_store::answers::{ClientPage, DeploymentClientState, Slots};
use serde_json::json;

use super::{Reading, SnapshotError};
use crate::{
    compress::Compression,
    discovery::API_VERSION,
    stream::{Comma, Output, Sender},
};

/// Clients, and updates of the catalogue, read at once: bounds memory, not the result.
const CLIENTS: usize = 200;
const UPDATES: usize = 500;

impl Reading {
    /// Writes it as JSON, compressed, in pieces that are sent.
    pub async fn write(self, compression: Compression, to: &Sender) -> Result<(), SnapshotError> {
        let mut out = Output::new(compression, to)?;
        let metadata = json!({
            "name": "current",
            "namespace": self.head.input.site.as_str(),
            "creationTimestamp": self.head.taken_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        });
        out.text(format!("{{\"kind\":\"Snapshot\",\"apiVersion\":\"{API_VERSION}\",\"metadata\":{metadata}"))
            .await?;
        let deployed = Self::deployed(&self.head.input.objects);
        let serde_json::Value::Object(head) = serde_json::to_value(&self.head)? else {
            return Ok(out.end().await?);
        };
        for (key, value) in head {
            match (key.as_str(), value) {
                ("input", serde_json::Value::Object(input)) => {
                    out.text(",\"input\":{").await?;
                    let mut comma = Comma::default();
                    for (key, value) in input.into_iter().filter(|(key, _)| key != "clients") {
                        out.text(format!("{}{}:", comma.next(), json!(key))).await?;
                        out.value(&value).await?;
                    }
                    out.text(format!("{}\"clients\":[", comma.next())).await?;
                    self.write_clients(&mut out).await?;
                    out.text("]}").await?;
                }
                // These are written below.
                ("reports" | "catalogue", _) => {}
                (_, value) => {
                    out.text(format!(",{}:", json!(key))).await?;
                    out.value(&value).await?;
                }
            }
        }
        out.text(",\"reports\":{").await?;
        self.write_reports(&mut out, &deployed).await?;
        out.text("}").await?;
        if self.catalogue {
            out.text(",\"catalogue\":[").await?;
            self.write_catalogue(&mut out).await?;
            out.text("]").await?;
        }
        out.text("}").await?;
        Ok(out.end().await?)
    }

    async fn write_clients(&self, out: &mut Output) -> Result<(), SnapshotError> {
        if let Some(one) = &self.one {
            return Ok(out.value(&one.client).await?);
        }
        let mut comma = Comma::default();
        let mut after = None;
        loop {
            let clients: Vec<Client> = self.moment.clients_after(after, CLIENTS).await?;
            let Some(last) = clients.last() else { return Ok(()) };
            after = Some(last.id);
            for client in &clients {
                out.text(comma.next()).await?;
                out.value(client).await?;
            }
        }
    }

    async fn write_reports(
        &self,
        out: &mut Output,
        deployed: &BTreeSet<UpdateId>,
    ) -> Result<(), SnapshotError> {
        let slots = self.moment.slots().await?;
        let mut sets = LeafSets::default();
        let mut comma = Comma::default();
        if let Some(one) = &self.one {
            sets.load(self, std::slice::from_ref(&**one)).await?;
            return self.write_report(out, &mut comma, one, &slots, &sets, None).await;
        }
        let mut after = None;
        loop {
            let pages = self.moment.client_page(after, CLIENTS).await?;
            let Some(last) = pages.last() else { return Ok(()) };
            after = Some(last.client.id);
            sets.load(self, &pages).await?;
            for page in &pages {
                self.write_report(out, &mut comma, page, &slots, &sets, Some(deployed)).await?;
            }
        }
    }

    async fn write_report(
        &self,
        out: &mut Output,
        comma: &mut Comma,
        page: &ClientPage,
        slots: &Slots,
        sets: &LeafSets,
        deployed: Option<&BTreeSet<UpdateId>>,
    ) -> Result<(), SnapshotError> {
        if page.report.is_none() && page.signed.is_none() {
            return Ok(());
        }
        out.text(format!("{}{}:", comma.next(), json!(page.client.id))).await?;
        Ok(out.value(&report(page, slots, sets, deployed)).await?)
    }

    async fn write_catalogue(&self, out: &mut Output) -> Result<(), SnapshotError> {
        let mut comma = Comma::default();
        let mut after = 0;
        loop {
            let (updates, last) = self.moment.updates_after(after, UPDATES).await?;
            let Some(last) = last else { return Ok(()) };
            after = last;
            let ids: Vec<UpdateId> = updates.iter().map(|update| update.id.clone()).collect();
            let counts = self.moment.required_counts(&ids).await?;
            let required = self.moment.required_leaves(&ids.into_iter().collect()).await?;
            for mut update in updates {
                let required = required.get(&update.id);
                update.leaves.retain(|leaf| required.is_some_and(|some| some.contains(&leaf.reference())));
                update.leaves.iter_mut().for_each(|leaf| leaf.stanza = String::new());
                let counts = counts.get(&update.id).copied().unwrap_or_default();
                out.text(comma.next()).await?;
                out.value(&CatalogueEntry { update, counts }).await?;
            }
        }
    }
}

/// Leaf sets that were looked up; the clients of a site share a few.
#[derive(Default)]
struct LeafSets(HashMap<i64, Vec<LeafRef>>);

/// Leaf sets remembered at most.
const SETS: usize = 50_000;

impl LeafSets {
    async fn load(&mut self, reading: &Reading, pages: &[ClientPage]) -> Result<(), SnapshotError> {
        if self.0.len() > SETS {
            self.0.clear();
        }
        let named = pages.iter().flat_map(|page| &page.updates).filter_map(|state| state.leaf_set);
        let unknown: BTreeSet<i64> = named.filter(|set| !self.0.contains_key(set)).collect();
        if !unknown.is_empty() {
            self.0.extend(reading.moment.leaf_sets(unknown).await?);
        }
        Ok(())
    }
}

/// What a client reported. Of a whole site, what is installed and no deployment names is left out: it is most of what
/// clients report, and nothing follows from it.
fn report(
    page: &ClientPage,
    slots: &Slots,
    sets: &LeafSets,
    deployed: Option<&BTreeSet<UpdateId>>,
) -> ClientReport {
    let mut updates = BTreeMap::new();
    for state in &page.updates {
        let Some(id) = slots.get(state.slot) else { continue };
        let enforcement = Some(state.enforcement).filter(|state| *state != UpdateEnforcement::Unknown);
        let settled =
            state.detection != Detection::Required && enforcement.is_none() && state.error.is_none();
        if settled && deployed.is_some_and(|deployed| !deployed.contains(id)) {
            continue;
        }
        let leaves = state.leaf_set.and_then(|set| sets.0.get(&set)).into_iter().flatten().cloned().collect();
        let report = UpdateReport {
            detection: state.detection,
            enforcement,
            error: state.error.clone(),
            since: state.since,
            leaves,
        };
        updates.insert(id.clone(), report);
    }
    ClientReport {
        policy: page.signed.map(|(epoch, number, _)| (epoch, number)),
        policy_issued_at: page.signed.map(|(_, _, at)| at),
        scan: page.report.as_ref().map(|report| report.scan),
        last_scan: page.scans.iter().map(|(_, _, at)| *at).max(),
        covered: page.scans.iter().map(|(line, version, _)| (line.clone(), *version)).collect(),
        updates,
        deployments: page.deployments.iter().map(|(uid, state)| (uid.clone(), reported(state))).collect(),
    }
}

fn reported(state: &DeploymentClientState) -> ReportedState {
    ReportedState {
        client: state.client,
        enforcement: Some(state.enforcement),
        compliance: Some(state.compliance),
        until: state.until,
        error: state.error.clone(),
        changed_at: state.changed_at,
    }
}
