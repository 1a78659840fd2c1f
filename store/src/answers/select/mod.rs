//! Lists of what a site has, of any size, some at a time: whoever asks says from where on, how many and what must hold,
//! and the database does the choosing.

mod clients;
mod deployments;
mod facts;
mod states;
mod updates;

pub use clients::{ClientIs, ClientRow, UpdateNumbers};
pub use deployments::{DeploymentStateIs, DeploymentStateRow};
pub use states::{ClientUpdateRow, StatesOf};
pub use updates::{UpdateIs, UpdateRow};

use jiff::Timestamp;
use patchtide_model::{SiteName, object::FactRequirement};

use crate::{
    Result, SiteStore, Store,
    sql::{Build, Pool, json, sql},
};

/// Something that must hold, or must not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition<T> {
    /// What.
    pub what: T,
    /// Whether it must; else it must not.
    pub holds: bool,
}

/// Which part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part<T> {
    /// What must hold, all of it.
    pub conditions: Vec<Condition<T>>,
    /// Facts that clients must have, as labels: a value that cannot be one of a label is none.
    pub facts: Vec<FactRequirement>,
    /// The key of the last one that is known already: only what comes after it. Keys are what rows call so.
    pub after: Option<String>,
    /// Only those of these keys.
    pub keys: Option<Vec<String>>,
    /// At most so many.
    pub limit: usize,
}

impl<T> Part<T> {
    /// The first `limit`, whatever they are.
    pub const fn first(limit: usize) -> Self {
        Self { conditions: Vec::new(), facts: Vec::new(), after: None, keys: None, limit }
    }
}

/// Who counts as silent: active clients that were not heard of after this instant.
pub type SilentSince = Timestamp;

impl Store {
    /// The sites that a controller keeps in this database, by name.
    pub async fn sites(&self) -> Result<Vec<SiteName>> {
        let query = sql("SELECT DISTINCT site FROM site_value WHERE name = '@limits' ORDER BY site");
        let rows = self.core.rows("the sites", query).await?;
        rows.iter().map(|row| row.parse(0, "site")).collect()
    }
}

impl SiteStore {
    /// Rises with every write that can change what the lists of this module say, over all processes; never falls.
    pub async fn select_number(&self) -> Result<u64> {
        let query = sql("SELECT COALESCE((SELECT number FROM change WHERE site = $1 AND kind = 'site'), 0) \
                         + COALESCE((SELECT revision FROM register WHERE site = $1), 0)");
        let row = self.row("the change number", query.bind(self.site.as_str())).await?;
        row.map_or(Ok(0), |row| row.unsigned(0))
    }
}

/// `AND <column> IN` a list of texts, in one value.
fn among(build: &mut Build, pool: &Pool, column: &'static str, keys: &[String]) -> Result<()> {
    let keys = json("keys", keys)?;
    build.push(" AND ").push(column);
    match pool {
        Pool::Sqlite(_) => build.push(" IN (SELECT value FROM json_each(").bind(keys).push("))"),
        Pool::Postgres(_) => {
            build.push(" IN (SELECT json_array_elements_text(CAST(").bind(keys).push(" AS json)))")
        }
    };
    Ok(())
}

/// A member of a JSON document in a column, as text. In place of `\u0000`, which PostgreSQL's text cannot hold, stands the
/// character for what cannot be shown.
fn member(build: &mut Build, pool: &Pool, column: &'static str, key: &str) {
    match pool {
        Pool::Sqlite(_) => {
            // Keys with quotation marks are no labels, and none of ours.
            let path = format!("$.\"{}\"", key.replace('"', ""));
            build
                .push("json_extract(replace(")
                .push(column)
                .push(", '\\u0000', '\\ufffd'), ")
                .bind(path)
                .push(")");
        }
        Pool::Postgres(_) => {
            build.push("CAST(replace(").push(column).push(", '\\u0000', '\\ufffd') AS json) ->> ").bind(key);
        }
    }
}
