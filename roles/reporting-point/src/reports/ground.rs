//! What a report is asked with, found in the site.

use std::collections::BTreeSet;

use jiff::Timestamp;
use patchtide_model::{ClientId, UpdateId, client::Facts, state::StateError};
use patchtide_store::{
    SiteStore,
    reports::{ReportClient, ReportCollection, ReportDeployment, ReportList, Scope},
};

use super::{
    ReportError, Values,
    definitions::Definition,
    table::{Cell, Table},
};
use super::{clients, compliance, distribution, errors, management, scan, states, updates};

type Result<T, E = ReportError> = std::result::Result<T, E>;

/// Names that an error lists at most.
const NAMED: usize = 10;

/// One moment of a site, and what is asked of it.
pub(super) struct Ground<'a> {
    pub(super) site: &'a SiteStore,
    pub(super) now: Timestamp,
    definition: &'static Definition,
    values: &'a Values,
}

/// Whose states are counted, and what it is called.
pub(super) struct Among {
    pub(super) scope: Scope,
    pub(super) name: String,
    pub(super) collection: Option<ReportCollection>,
}

impl<'a> Ground<'a> {
    pub(super) const fn new(
        site: &'a SiteStore,
        definition: &'static Definition,
        values: &'a Values,
        now: Timestamp,
    ) -> Self {
        Self { site, now, definition, values }
    }

    pub(super) async fn run(&self) -> Result<Table> {
        match self.definition.name {
            "compliance-1" => compliance::overall(self).await,
            "compliance-2" => updates::matching(self).await,
            "compliance-3" => updates::of_a_list(self).await,
            "compliance-4" => updates::by_month(self).await,
            "compliance-5" => compliance::of_a_client(self).await,
            "compliance-6" => updates::states(self).await,
            "compliance-7" => compliance::clients(self).await,
            "compliance-8" => updates::clients(self).await,
            "compliance-9" => updates::health(self).await,
            "compliance-10" => compliance::degree(self).await,
            "management-1" => management::of_a_list(self).await,
            "management-2" => management::not_deployed(self).await,
            "management-3" => management::updates(self).await,
            "management-4" => management::of_a_collection(self).await,
            "management-5" => management::of_a_client(self).await,
            "management-6" => management::of_an_update(self).await,
            "management-7" => management::without_content(self).await,
            "management-8" => management::clients_without_content(self).await,
            "states-1" => states::enforcement(self).await,
            "states-2" => states::evaluation(self).await,
            "states-3" => states::of_a_client(self).await,
            "states-4" => states::clients(self).await,
            "states-5" => states::of_an_update(self).await,
            "states-6" => states::clients_of_an_update(self).await,
            "scan-1" | "scan-2" => scan::states(self).await,
            "scan-3" | "scan-4" => scan::clients(self).await,
            "troubleshooting-1" => errors::of_scans(self).await,
            "troubleshooting-2" => errors::of_a_deployment(self).await,
            "troubleshooting-3" => errors::clients_of_scans(self).await,
            "troubleshooting-4" => errors::clients_of_a_deployment(self).await,
            "troubleshooting-5" => errors::ranked(self).await,
            "troubleshooting-6" => errors::of_clients(self).await,
            "distribution-1" => distribution::points(self).await,
            "clients-1" => clients::versions(self).await,
            _ => clients::of_a_version(self).await,
        }
    }

    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        self.values.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub(super) fn missing(&self, name: &'static str) -> ReportError {
        let parameter = self.definition.parameters.iter().find(|parameter| parameter.name == name);
        let description = parameter.map_or("", |parameter| parameter.description);
        ReportError::Missing { report: self.definition.name, name, description }
    }

    /// Rows that are shown at most.
    pub(super) fn rows(&self) -> usize {
        self.text("limit").and_then(|limit| limit.parse().ok()).unwrap_or(super::ROWS)
    }

    fn needed(&self, name: &'static str) -> Result<&'a str> {
        self.text(name).ok_or_else(|| self.missing(name))
    }

    /// What it was asked with, with these in addition or instead: for the report that tells more.
    pub(super) fn on<const N: usize>(&self, more: [(&str, String); N]) -> Values {
        let mut values = self.values.clone();
        values.remove("limit");
        values.extend(more.map(|(name, value)| (name.to_owned(), value)));
        values
    }

    pub(super) async fn list(&self) -> Result<ReportList> {
        let name = self.needed("list")?;
        let all = self.site.report_lists().await?;
        let known = || some(all.iter().map(|list| list.name.as_str()));
        all.iter()
            .find(|list| list.name == name)
            .cloned()
            .ok_or_else(|| nothing("list", "update list", name, known()))
    }

    pub(super) async fn deployment(&self) -> Result<ReportDeployment> {
        let name = self.needed("deployment")?;
        let all = self.site.report_deployments().await?;
        let known = || some(all.iter().map(|deployment| deployment.name.as_str()));
        let found = all.iter().find(|deployment| deployment.name == name || deployment.uid == name);
        found.cloned().ok_or_else(|| nothing("deployment", "deployment", name, known()))
    }

    /// The clients of the collection that is asked for; all of the site without one.
    pub(super) async fn among(&self) -> Result<Among> {
        let Some(name) = self.text("collection") else {
            return Ok(Among { scope: Scope::Site, name: "all clients".to_owned(), collection: None });
        };
        let all = self.site.report_collections().await?;
        let known = || some(all.iter().map(|collection| collection.name.as_str()));
        let found = all.iter().find(|collection| collection.name == name).cloned();
        let found = found.ok_or_else(|| nothing("collection", "collection", name, known()))?;
        Ok(Among {
            scope: Scope::Collection(found.number),
            name: found.name.clone(),
            collection: Some(found),
        })
    }

    pub(super) async fn update(&self) -> Result<UpdateId> {
        let name = self.needed("update")?;
        let id: UpdateId = name.parse().map_err(|_| ReportError::Value {
            parameter: "update",
            value: name.to_owned(),
            expected: "the identity of an update, <line>:<source>@<version>".to_owned(),
        })?;
        if self.site.update(&id).await?.is_none() {
            let known = format!(
                "none of line {} and source {} at that version: kubectl patchtide report compliance-2 --set filter={} finds those there are",
                id.line, id.source, id.source
            );
            return Err(nothing("update", "update", name, known));
        }
        Ok(id)
    }

    pub(super) async fn client(&self) -> Result<ReportClient> {
        let name = self.needed("client")?;
        let ids = self.site.clients_called(name).await?;
        let all = self.site.clients_of(Scope::Site).await?;
        let mut found: Vec<ReportClient> =
            all.iter().filter(|client| ids.contains(&client.id)).cloned().collect();
        match (found.pop(), found.is_empty()) {
            (Some(client), true) => Ok(client),
            (Some(_), false) => {
                let ids: Vec<String> = ids.iter().take(NAMED).map(ClientId::to_string).collect();
                Err(ReportError::Value {
                    parameter: "client",
                    value: name.to_owned(),
                    expected: format!("the name of one client: give one of the ids {}", ids.join(", ")),
                })
            }
            (None, _) => {
                let known = some(all.iter().map(|client| client.name.as_str()));
                Err(nothing("client", "active client", name, known))
            }
        }
    }

    /// The updates of the list or of the deployment that is asked for.
    pub(super) async fn updates(&self) -> Result<(&'static str, String, BTreeSet<UpdateId>)> {
        if self.text("deployment").is_some() && self.text("list").is_none() {
            let deployment = self.deployment().await?;
            let updates = self.site.deployed_updates(deployment.number).await?;
            return Ok(("Deployment", deployment.name, updates));
        }
        let list = self.list().await?;
        let updates = self.site.list_updates(list.number).await?;
        Ok(("Update list", list.name, updates))
    }

    /// A whole number.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &'static str) -> Result<Option<T>> {
        let Some(value) = self.text(name) else { return Ok(None) };
        let wrong = || ReportError::Value {
            parameter: name,
            value: value.to_owned(),
            expected: "a whole number".to_owned(),
        };
        value.parse().map(Some).map_err(|_| wrong())
    }

    /// One of `states`: by its number, its name, or its name in short.
    pub(super) fn state<T: Copy>(&self, states: &[(T, u32, &str, &str)]) -> Result<T> {
        let value = self.needed("state")?;
        let found = states.iter().find(|(_, number, name, short)| {
            value.parse() == Ok(*number) || name.eq_ignore_ascii_case(value) || *short == value
        });
        found.map(|(state, ..)| *state).ok_or_else(|| ReportError::Value {
            parameter: "state",
            value: value.to_owned(),
            expected: format!(
                "one of {}",
                states.iter().map(|(_, _, _, short)| *short).collect::<Vec<_>>().join(", ")
            ),
        })
    }
}

fn nothing(parameter: &'static str, kind: &'static str, name: &str, known: String) -> ReportError {
    ReportError::Nothing { parameter, kind, name: name.to_owned(), known }
}

fn some<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    match names.len() {
        0 => "none".to_owned(),
        all if all > NAMED => format!("{} and {} more", names[..NAMED].join(", "), all - NAMED),
        _ => names.join(", "),
    }
}

/// A fact of a client.
pub(super) fn fact(facts: &Facts, key: &str) -> Cell {
    facts.get(key).cloned().into()
}

/// Code, symbol and words of an error.
pub(super) fn error_cells(error: Option<&StateError>) -> [Cell; 3] {
    match error {
        None => [Cell::None, Cell::None, Cell::None],
        Some(error) => [
            format!("{:#010X}", error.code).into(),
            error.symbol.as_str().into(),
            error.message.as_str().into(),
        ],
    }
}

/// Who made it: the name by which the line calls its archive.
pub(super) fn vendor(id: &UpdateId) -> &str {
    id.line.as_str().split('/').next().unwrap_or_default()
}

/// What the system of a client calls itself.
pub(super) fn system(client: &ReportClient) -> Cell {
    let part = |key: &str| client.facts.get(key).map(String::as_str);
    match (part("os.id"), part("os.version")) {
        (Some(id), Some(version)) => format!("{id} {version}").into(),
        (Some(one), None) | (None, Some(one)) => one.into(),
        (None, None) => Cell::None,
    }
}

/// Last contact, address, agent, system and id of a client.
pub(super) fn about(client: &ReportClient) -> [Cell; 5] {
    [
        client.last_contact.into(),
        client.address.clone().into(),
        fact(&client.facts, "agent.version"),
        system(client),
        client.id.to_string().into(),
    ]
}
