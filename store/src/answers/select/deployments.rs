//! Deployments and the clients that they reach.

use patchtide_model::{
    ClientId, ObjectName,
    state::{Compliance, DeploymentEnforcement},
};

use super::{Part, among, member};
use crate::{
    Result, SiteStore, StoreError,
    answers::{DeploymentClientState, clients::deployment_state},
    sql::{Build, Row, len, sql},
};

/// What can be asked of a deployment and a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeploymentStateIs {
    /// Of this deployment.
    Deployment(String),
    /// Of the client with this identity.
    Client(String),
    /// Of a client that is called so.
    Called(String),
    /// Enforcement.
    Enforcement(DeploymentEnforcement),
    /// Compliance.
    Compliance(Compliance),
    /// Symbol of the error.
    Error(String),
    /// Published code of the error.
    Code(u32),
    /// The client said something of it.
    Reported,
}

/// A deployment and a client that it reaches. Its key is the deployment's name, a point and the client's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentStateRow {
    /// Name of the deployment.
    pub deployment: ObjectName,
    /// Its uid.
    pub uid: String,
    /// What the client is called.
    pub name: String,
    /// The client.
    pub client: ClientId,
    /// What it reported; none: nothing.
    pub state: Option<DeploymentClientState>,
}

impl DeploymentStateRow {
    /// Its key in lists.
    pub fn key(&self) -> String {
        format!("{}.{}", self.deployment, self.client)
    }
}

/// Clients by identity, each with a look at whether the deployment reaches it: in that order a page is read without
/// sorting all of them.
const HEAD: &str = "SELECT c.uuid, x.enforcement, x.compliance, x.evaluation, x.until, x.error, x.changed_at, \
                    c.last_contact, c.name FROM client c CROSS JOIN deployment_target t \
                    LEFT JOIN deployment_client x ON x.client = c.id AND x.uid = ";

impl SiteStore {
    /// Deployments with the clients that they reach, by name and identity.
    pub async fn select_deployment_states(
        &self,
        part: &Part<DeploymentStateIs>,
    ) -> Result<Vec<DeploymentStateRow>> {
        let after = part.after.as_deref().map(key).transpose()?;
        let mut found = Vec::new();
        let known = sql("SELECT id, name, uid FROM deployment WHERE site = $1");
        let mut deployments: Vec<(ObjectName, i64, String)> = Vec::new();
        for row in self.rows("deployments", known.bind(self.site.as_str())).await? {
            deployments.push((row.parse(1, "deployment")?, row.int(0)?, row.text(2)?));
        }
        deployments.sort_unstable();
        for (name, number, uid) in deployments {
            let left = part.limit.saturating_sub(found.len());
            if left == 0 {
                break;
            }
            if !part.conditions.iter().all(|one| match &one.what {
                DeploymentStateIs::Deployment(asked) => (name.as_str() == asked) == one.holds,
                _ => true,
            }) {
                continue;
            }
            let from = match after {
                Some((last, _)) if name.as_str() < last => continue,
                Some((last, client)) if name.as_str() == last => client,
                _ => "",
            };
            let keys = part.keys.as_ref().map(|keys| {
                let mine =
                    keys.iter().filter_map(|text| key(text).ok()).filter(|(of, _)| *of == name.as_str());
                mine.map(|(_, client)| client.to_owned()).collect::<Vec<_>>()
            });
            if keys.as_ref().is_some_and(Vec::is_empty) {
                continue;
            }
            let rows = self.one_deployment(part, (number, &uid), from, keys.as_deref(), left).await?;
            for row in &rows {
                found.push(read(row, &name, &uid)?);
            }
        }
        Ok(found)
    }

    async fn one_deployment(
        &self,
        part: &Part<DeploymentStateIs>,
        (number, uid): (i64, &str),
        from: &str,
        keys: Option<&[String]>,
        limit: usize,
    ) -> Result<Vec<Row>> {
        let pool = &self.core().pool;
        let mut build = Build::new(HEAD);
        build
            .bind(uid)
            .push(" WHERE t.deployment = ")
            .bind(number)
            .push(" AND t.client = c.id AND c.site = ");
        build.bind(self.site.as_str()).push(" AND c.uuid > ").bind(from);
        for condition in &part.conditions {
            build.and(condition.holds, |build| {
                match &condition.what {
                    DeploymentStateIs::Deployment(_) => {
                        // Chosen above.
                        build.push(if condition.holds { "1 = 1" } else { "1 = 0" })
                    }
                    DeploymentStateIs::Client(id) => build.push("c.uuid = ").bind(id.as_str()),
                    DeploymentStateIs::Called(name) => build.push("c.name = ").bind(name.as_str()),
                    DeploymentStateIs::Enforcement(state) => {
                        build.push("COALESCE(x.enforcement, 0) = ").bind(state.id())
                    }
                    DeploymentStateIs::Compliance(state) => {
                        build.push("COALESCE(x.compliance, 0) = ").bind(state.id())
                    }
                    DeploymentStateIs::Error(symbol) => {
                        build.push("COALESCE(");
                        member(build, pool, "x.error", "symbol");
                        build.push(", '') = ").bind(symbol.as_str())
                    }
                    DeploymentStateIs::Code(code) => {
                        build.push("COALESCE(CAST(");
                        member(build, pool, "x.error", "code");
                        build.push(" AS BIGINT), 0) = ").bind(i64::from(*code))
                    }
                    DeploymentStateIs::Reported => build.push("x.client IS NOT NULL"),
                };
            });
        }
        if let Some(keys) = keys {
            among(&mut build, pool, "c.uuid", keys)?;
        }
        build.push(" ORDER BY c.uuid LIMIT ").bind(len(limit));
        self.rows("a deployment", build.sql()).await
    }
}

/// Deployment and client of a key.
fn key(text: &str) -> Result<(&str, &str)> {
    text.rsplit_once('.').ok_or_else(|| StoreError::Damaged {
        what: "key of a deployment and a client",
        detail: text.escape_debug().to_string(),
    })
}

fn read(row: &Row, deployment: &ObjectName, uid: &str) -> Result<DeploymentStateRow> {
    let state = match row.int_option(6)? {
        Some(_) => Some(deployment_state(row, row.time_option(7)?)?),
        None => None,
    };
    Ok(DeploymentStateRow {
        deployment: deployment.clone(),
        uid: uid.to_owned(),
        name: row.text(8)?,
        client: row.parse(0, "client id")?,
        state,
    })
}
