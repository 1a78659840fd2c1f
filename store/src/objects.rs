//! Custom resources in domain form: validated, one row an object, the last good one of each.

use patchtide_model::object::{Blocked, SiteObjects};

use crate::{
    Result, SiteStore,
    core::Signal,
    sql::{Row, json, sql},
    writer::Tx,
};

const DEPLOYMENT: &str = "UpdateDeployment";

/// An object as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRow {
    /// `Collection`, `MaintenanceWindow`, `UpdateDeployment`, `ClientSettings`, `DistributionPoint`, `DeploymentPackage`;
    /// any other kind is kept too, but is not part of [`SiteObjects`].
    pub kind: String,
    /// Object name.
    pub name: String,
    /// Kubernetes UID.
    pub uid: String,
    /// Generation this row was made from.
    pub generation: i64,
    /// The domain object as JSON.
    pub json: String,
}

impl SiteStore {
    /// Keeps `row`. True when that changed anything; an equal row is not written.
    pub async fn put_object(&self, row: ObjectRow) -> Result<bool> {
        let mut tx = self.begin("an object").await?;
        let put = sql(
            "INSERT INTO object (site, kind, name, uid, generation, body) VALUES ($1, $2, $3, $4, $5, $6) \
                       ON CONFLICT (site, kind, name) DO UPDATE \
                       SET uid = excluded.uid, generation = excluded.generation, body = excluded.body \
                       WHERE object.uid <> excluded.uid OR object.generation <> excluded.generation \
                       OR object.body <> excluded.body",
        );
        let is_deployment = row.kind == DEPLOYMENT;
        let put = put.bind(self.site.as_str()).bind(row.kind).bind(row.name).bind(row.uid);
        let changed = tx.execute(put.bind(row.generation).bind(row.json)).await? > 0;
        if changed && is_deployment {
            forget_deployments(&mut tx).await?;
        }
        self.end(tx, changed).await
    }

    async fn end(&self, mut tx: Tx, changed: bool) -> Result<bool> {
        if changed {
            tx.raise(&self.site, Signal::Site);
        }
        tx.commit().await?;
        Ok(changed)
    }

    /// One object.
    pub async fn object(&self, kind: &str, name: &str) -> Result<Option<ObjectRow>> {
        let query = sql(
            "SELECT kind, name, uid, generation, body FROM object WHERE site = $1 AND kind = $2 AND name = $3",
        );
        let query = query.bind(self.site.as_str()).bind(kind).bind(name);
        self.row("an object", query).await?.as_ref().map(object).transpose()
    }

    /// All objects of a kind, by name.
    pub async fn objects(&self, kind: &str) -> Result<Vec<ObjectRow>> {
        let query = sql(
            "SELECT kind, name, uid, generation, body FROM object WHERE site = $1 AND kind = $2 ORDER BY name",
        );
        let rows = self.rows("objects", query.bind(self.site.as_str()).bind(kind)).await?;
        rows.iter().map(object).collect()
    }

    /// Removes an object and its blocked row. True when there was one.
    pub async fn delete_object(&self, kind: &str, name: &str) -> Result<bool> {
        let mut tx = self.begin("an object").await?;
        let mut removed = 0;
        for delete in [
            sql("DELETE FROM object WHERE site = $1 AND kind = $2 AND name = $3"),
            sql("DELETE FROM blocked WHERE site = $1 AND kind = $2 AND name = $3"),
        ] {
            removed += tx.execute(delete.bind(self.site.as_str()).bind(kind).bind(name)).await?;
        }
        if removed > 0 && kind == DEPLOYMENT {
            forget_deployments(&mut tx).await?;
        }
        self.end(tx, removed > 0).await
    }

    /// Names of the objects of a kind (blocked ones without a good row too), sorted.
    pub async fn object_names(&self, kind: &str) -> Result<Vec<String>> {
        let query = sql("SELECT name FROM object WHERE site = $1 AND kind = $2 \
                         UNION SELECT name FROM blocked WHERE site = $1 AND kind = $2 ORDER BY name");
        let rows = self.rows("objects", query.bind(self.site.as_str()).bind(kind)).await?;
        rows.iter().map(|row| row.text(0)).collect()
    }

    /// Says that the newest generation of an object blocks policy, or no longer does. True when that changed anything.
    pub async fn set_blocked(&self, kind: &str, name: &str, blocked: Option<Blocked>) -> Result<bool> {
        let mut tx = self.begin("a blocked object").await?;
        let change = match &blocked {
            Some(blocked) => sql("INSERT INTO blocked (site, kind, name, body) VALUES ($1, $2, $3, $4) \
                                  ON CONFLICT (site, kind, name) DO UPDATE SET body = excluded.body \
                                  WHERE blocked.body <> excluded.body")
            .bind(self.site.as_str())
            .bind(kind)
            .bind(name)
            .bind(json("blocked object", blocked)?),
            None => sql("DELETE FROM blocked WHERE site = $1 AND kind = $2 AND name = $3")
                .bind(self.site.as_str())
                .bind(kind)
                .bind(name),
        };
        let changed = tx.execute(change).await? > 0;
        self.end(tx, changed).await
    }

    /// All objects policy is compiled from; `blocked` has keys `<kind>/<name>`. A row that does not read back is an error:
    /// policy must not ignore it.
    pub async fn load_objects(&self) -> Result<SiteObjects> {
        // One statement: what is read belongs together.
        let query = sql("SELECT kind, name, body, 0 FROM object WHERE site = $1 \
                         UNION ALL SELECT kind, name, body, 1 FROM blocked WHERE site = $1");
        let mut objects = SiteObjects::default();
        for row in self.rows("objects", query.bind(self.site.as_str())).await? {
            let kind = row.text(0)?;
            if row.flag(3)? {
                let name = row.text(1)?;
                objects.blocked.insert(format!("{kind}/{name}"), row.json(2, "blocked object")?);
                continue;
            }
            let name = || row.parse(1, "object name");
            match kind.as_str() {
                "Collection" => drop(objects.collections.insert(name()?, row.json(2, "Collection")?)),
                "MaintenanceWindow" => {
                    drop(objects.windows.insert(name()?, row.json(2, "MaintenanceWindow")?));
                }
                "UpdateDeployment" => {
                    drop(objects.deployments.insert(name()?, row.json(2, "UpdateDeployment")?));
                }
                "ClientSettings" => {
                    drop(objects.client_settings.insert(name()?, row.json(2, "ClientSettings")?));
                }
                "DistributionPoint" => {
                    drop(objects.distribution_points.insert(name()?, row.json(2, "DistributionPoint")?));
                }
                "DeploymentPackage" => {
                    drop(objects.packages.insert(name()?, row.json(2, "DeploymentPackage")?));
                }
                _ => {}
            }
        }
        Ok(objects)
    }
}

/// What clients reported about deployments that are gone goes too: those of now, and those a client spoke of too late.
async fn forget_deployments(tx: &mut Tx) -> Result<()> {
    let uncalled = sql("DELETE FROM client_wake WHERE uid NOT IN \
                        (SELECT uid FROM object WHERE kind = 'UpdateDeployment')");
    tx.execute(uncalled).await?;
    let gone = sql("SELECT DISTINCT uid FROM deployment_client WHERE uid NOT IN \
                    (SELECT uid FROM object WHERE kind = 'UpdateDeployment')");
    for row in tx.rows(gone).await? {
        let uid = row.text(0)?;
        tx.execute(sql("DELETE FROM deployment_client WHERE uid = $1").bind(uid.as_str())).await?;
        for entry in tx.cache().sites.values_mut().flat_map(|site| site.clients.values_mut()) {
            entry.deployments.remove(&uid);
        }
    }
    Ok(())
}

fn object(row: &Row) -> Result<ObjectRow> {
    Ok(ObjectRow {
        kind: row.text(0)?,
        name: row.text(1)?,
        uid: row.text(2)?,
        generation: row.int(3)?,
        json: row.text(4)?,
    })
}
