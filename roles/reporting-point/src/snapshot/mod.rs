//! `snapshots/current`: a site at one moment, written while it is read.

mod resource;
mod write;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use patchtide_model::{ObjectName, UpdateId, object::SiteObjects};
use patchtide_planner::{site::SiteInput, snapshot::Snapshot};
use patchtide_store::{Result as Stored, SiteStore, StoreError, answers::ClientPage};

pub use crate::{compress::Compression, stream::Sender};
pub(crate) use resource::Snapshots;

/// Kinds of the rows that hold what deployments have pinned and what lists hold.
const PINNED: &str = "PinnedReferences";
const LISTS: &str = "UpdateList";

/// What of the site is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// Name or id of the one client that is told of; none: all.
    pub client: Option<String>,
    /// With the whole catalogue.
    pub catalogue: bool,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// No controller keeps such a site in this database.
    #[error(
        "no site of this name is in the site database: create a Site object in the namespace, and let a controller run there"
    )]
    NoSite,
    /// No client of the site is called so.
    #[error("no client of the site has the name or id {0:?}")]
    NoClient(String),
    /// Several are.
    #[error("several clients are called {name:?}, give the id of one: {ids}")]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// Some of their ids.
        ids: String,
    },
    /// The site database failed.
    #[error("the site database does not answer")]
    Store(#[from] StoreError),
    /// What was read cannot be written as JSON: a defect.
    #[error("the snapshot cannot be written")]
    Json(#[from] serde_json::Error),
    /// The snapshot cannot be compressed or passed on.
    #[error("the snapshot cannot be passed on")]
    Output(#[from] std::io::Error),
}

/// A site at one moment, about to be written.
#[derive(Debug)]
pub struct Reading {
    moment: SiteStore,
    /// Everything but what is read some clients or updates at a time.
    head: Snapshot,
    /// The one client that is told of.
    one: Option<Box<ClientPage>>,
    catalogue: bool,
}

impl Reading {
    /// Starts to read `site` as it is now. It holds a reading connection of the database until it is dropped.
    pub async fn start(site: &SiteStore, asked: &Asked, now: Timestamp) -> Result<Self, SnapshotError> {
        let moment = site.at_this_moment().await?;
        if !moment.exists().await? {
            return Err(SnapshotError::NoSite);
        }
        let one = match &asked.client {
            Some(name) => Some(Box::new(called(&moment, name).await?)),
            None => None,
        };
        let input = input(&moment).await?;
        let mut head = Snapshot::new(input, now);
        head.pinned = rows(&moment, PINNED).await?;
        head.lists = rows(&moment, LISTS).await?;
        Ok(Self { moment, head, one, catalogue: asked.catalogue })
    }

    /// Updates that deployments name.
    fn deployed(objects: &SiteObjects) -> BTreeSet<UpdateId> {
        objects.deployments.values().flat_map(|deployment| deployment.updates.iter().cloned()).collect()
    }
}

async fn input(moment: &SiteStore) -> Stored<SiteInput> {
    let mut objects = moment.load_objects().await?;
    moment.add_token_members(&mut objects).await?;
    let found = moment.approvable(&objects, moment.offered_lines().await?).await?;
    Ok(SiteInput {
        site: moment.name().clone(),
        objects,
        clients: Vec::new(),
        lines: found.lines,
        updates: found.updates,
        required_leaves: found.required_leaves,
        dependencies: found.dependencies,
        holders: Some(found.holders),
    })
}

async fn rows(
    moment: &SiteStore,
    kind: &str,
) -> Result<BTreeMap<ObjectName, serde_json::Value>, SnapshotError> {
    let rows = moment.objects(kind).await?;
    let named = rows.into_iter().filter_map(|row| Some((ObjectName::new(row.name).ok()?, row.json)));
    named.map(|(name, json)| Ok((name, serde_json::from_str(&json)?))).collect()
}

/// The one client of this name or id; of several with one name those that are active count.
async fn called(moment: &SiteStore, name: &str) -> Result<ClientPage, SnapshotError> {
    let ids = moment.clients_called(name).await?;
    match ids.as_slice() {
        [] => Err(SnapshotError::NoClient(name.to_owned())),
        [id] => moment.client_in_full(*id).await?.ok_or_else(|| SnapshotError::NoClient(name.to_owned())),
        several => {
            let ids: Vec<String> = several.iter().take(5).map(ToString::to_string).collect();
            Err(SnapshotError::Ambiguous { name: name.to_owned(), ids: ids.join(", ") })
        }
    }
}
