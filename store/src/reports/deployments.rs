//! Collections, update lists and deployments as the policies in force know them, and what clients said of a deployment.

use std::collections::BTreeSet;

use jiff::Timestamp;
use patchtide_model::{
    UpdateId,
    state::{Compliance, DeploymentEnforcement, Evaluation, StateError},
};

use crate::{
    Result, SiteStore,
    sql::{Row, Sql, sql},
};

/// A collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportCollection {
    /// Its number.
    pub number: i64,
    /// Its name.
    pub name: String,
}

/// An update list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportList {
    /// Its number.
    pub number: i64,
    /// Its name.
    pub name: String,
}

/// A deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportDeployment {
    /// Its number.
    pub number: i64,
    /// Its name.
    pub name: String,
    /// Kubernetes UID.
    pub uid: String,
    /// The collection it is for.
    pub collection: Option<ReportCollection>,
    /// When it becomes available.
    pub available: Option<Timestamp>,
    /// Its deadline.
    pub deadline: Option<Timestamp>,
    /// Times are read in the clients' own zones.
    pub local_time: bool,
    /// When its policy changed last.
    pub modified: Option<Timestamp>,
}

/// What a client that a deployment reaches said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentReport {
    /// The client's number.
    pub client: i64,
    /// Topic 301; none: it never said one.
    pub enforcement: Option<DeploymentEnforcement>,
    /// Topic 300; none: it never said one.
    pub compliance: Option<Compliance>,
    /// Topic 302; none: it never said one.
    pub evaluation: Option<Evaluation>,
    /// Error of a failed state.
    pub error: Option<StateError>,
    /// When any of it changed last, by the site's clock.
    pub changed_at: Option<Timestamp>,
}

const DEPLOYMENTS: &str = "SELECT d.id, d.name, d.uid, c.id, c.name, d.available, d.deadline, d.local_time, d.modified \
     FROM deployment d LEFT JOIN collection c ON c.id = d.collection WHERE d.site = $1 ORDER BY d.name";

impl SiteStore {
    /// The collections, by name.
    pub async fn report_collections(&self) -> Result<Vec<ReportCollection>> {
        let query = sql("SELECT id, name FROM collection WHERE site = $1 ORDER BY name");
        let rows = self.rows("collections", query.bind(self.site.as_str())).await?;
        rows.iter().map(|row| Ok(ReportCollection { number: row.int(0)?, name: row.text(1)? })).collect()
    }

    /// The update lists, by name.
    pub async fn report_lists(&self) -> Result<Vec<ReportList>> {
        let query = sql("SELECT id, name FROM update_list WHERE site = $1 ORDER BY name");
        let rows = self.rows("update lists", query.bind(self.site.as_str())).await?;
        rows.iter().map(|row| Ok(ReportList { number: row.int(0)?, name: row.text(1)? })).collect()
    }

    /// The deployments, by name.
    pub async fn report_deployments(&self) -> Result<Vec<ReportDeployment>> {
        let query = sql(DEPLOYMENTS).bind(self.site.as_str());
        self.rows("deployments", query).await?.iter().map(deployment).collect()
    }

    /// The updates of a list that the catalogue has.
    pub async fn list_updates(&self, list: i64) -> Result<BTreeSet<UpdateId>> {
        self.identities(
            sql("SELECT l.name, u.source, u.version FROM update_list_member m \
                 JOIN software_update u ON u.id = m.update_id JOIN line l ON l.id = u.line \
                 WHERE l.site = $1 AND m.list = $2")
            .bind(self.site.as_str())
            .bind(list),
        )
        .await
    }

    /// The updates of a deployment that the catalogue has.
    pub async fn deployed_updates(&self, deployment: i64) -> Result<BTreeSet<UpdateId>> {
        self.identities(
            sql("SELECT l.name, u.source, u.version FROM deployment_update m \
                 JOIN software_update u ON u.id = m.update_id JOIN line l ON l.id = u.line \
                 WHERE l.site = $1 AND m.deployment = $2")
            .bind(self.site.as_str())
            .bind(deployment),
        )
        .await
    }

    async fn identities(&self, query: Sql) -> Result<BTreeSet<UpdateId>> {
        let rows = self.rows("updates", query).await?;
        let id = |row: &Row| {
            Ok(UpdateId { line: row.parse(0, "line")?, source: row.text(1)?, version: row.text(2)? })
        };
        rows.iter().map(id).collect()
    }

    /// The numbers of the deployments that reach a client.
    pub async fn deployments_reaching(&self, client: i64) -> Result<BTreeSet<i64>> {
        let query = sql("SELECT deployment FROM deployment_target WHERE client = $1").bind(client);
        self.rows("deployments", query).await?.iter().map(|row| row.int(0)).collect()
    }

    /// The names of the collections that a client is in.
    pub async fn collections_with(&self, client: i64) -> Result<BTreeSet<String>> {
        let query = sql("SELECT c.name FROM collection_member m JOIN collection c ON c.id = m.collection \
                         WHERE c.site = $1 AND m.client = $2");
        let rows = self.rows("collections", query.bind(self.site.as_str()).bind(client)).await?;
        rows.iter().map(|row| row.text(0)).collect()
    }

    /// What each active client that a deployment reaches said of it.
    pub async fn deployment_reports(&self, deployment: i64) -> Result<Vec<DeploymentReport>> {
        let query = sql("SELECT c.id, r.enforcement, r.compliance, r.evaluation, r.error, r.changed_at \
                         FROM deployment_target t JOIN client c ON c.id = t.client \
                         JOIN deployment d ON d.id = t.deployment \
                         LEFT JOIN deployment_client r ON r.uid = d.uid AND r.client = c.id \
                         WHERE d.site = $1 AND d.id = $2 AND c.state = 1 ORDER BY c.id");
        let query = query.bind(self.site.as_str()).bind(deployment);
        self.rows("a deployment", query).await?.iter().map(report).collect()
    }
}

fn deployment(row: &Row) -> Result<ReportDeployment> {
    let collection = match (row.int_option(3)?, row.text_option(4)?) {
        (Some(number), Some(name)) => Some(ReportCollection { number, name }),
        _ => None,
    };
    Ok(ReportDeployment {
        number: row.int(0)?,
        name: row.text(1)?,
        uid: row.text(2)?,
        collection,
        available: row.time_option(5)?,
        deadline: row.time_option(6)?,
        local_time: row.flag(7)?,
        modified: row.time_option(8)?,
    })
}

fn report(row: &Row) -> Result<DeploymentReport> {
    let state = |index| Ok(row.int_option(index)?.and_then(|id| u8::try_from(id).ok()));
    Ok(DeploymentReport {
        client: row.int(0)?,
        enforcement: state(1)?.and_then(DeploymentEnforcement::from_id),
        compliance: state(2)?.and_then(Compliance::from_id),
        evaluation: state(3)?.and_then(Evaluation::from_id),
        error: row.json_option(4, "error")?,
        changed_at: row.time_option(5)?,
    })
}
