//! `SearchFolder`: how many updates meet its criteria now. Dereference is the search itself; there is nothing to apply:
//! lists that follow a folder search with the same function.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use patchtide_crds::{SearchFolder, SearchFolderStatus, search_folder::SearchCriteria};
use patchtide_intent::search_folder::{Known, Query};
use patchtide_model::{UpdateId, catalogue::Update, search::DetectionCounts};
use tokio::sync::watch;

use crate::{
    cache::Cache,
    context::Context,
    driver::Reconciler,
    error::{Failure, Outcome},
    kinds::{database, time},
};

/// Updates shown in status.
const NEWEST: usize = 20;
/// Updates that one search looks at. Whole archives are below it; the search says so when it is reached.
const LIMIT: usize = 100_000;

/// The kind.
pub struct SearchFolders;

impl Reconciler for SearchFolders {
    type Object = SearchFolder;

    fn cache(ctx: &Context) -> &Arc<Cache<SearchFolder>> {
        &ctx.caches.search_folders
    }

    fn wakes(&self, ctx: &Context) -> Vec<watch::Receiver<u64>> {
        vec![ctx.store.changes()]
    }

    async fn reconcile(
        &self,
        ctx: &Context,
        object: &SearchFolder,
        status: &mut SearchFolderStatus,
    ) -> Result<Outcome, Failure> {
        let mut found = search(ctx, &object.spec.criteria).await?;
        found.sort_by(|a, b| b.posted.cmp(&a.posted).then_with(|| a.id.cmp(&b.id)));
        let newest: Vec<String> = found.iter().take(NEWEST).map(|update| update.id.to_string()).collect();
        let matches = u64::try_from(found.len()).unwrap_or(u64::MAX);
        if status.matches != Some(matches) || status.newest != newest {
            status.changed_time = Some(time(ctx.clock.now()));
        }
        status.matches = Some(matches);
        status.newest = newest;
        status.catalogue_version = Some(catalogue_version(ctx).await?);
        Ok(Outcome::ready(format!("{matches} updates meet the criteria")))
    }
}

/// The updates that meet `criteria` now.
pub async fn search(ctx: &Context, criteria: &SearchCriteria) -> Result<Vec<Update>, Failure> {
    let query = Query::new(criteria, ctx.clock.now())?;
    let found = ctx.store.search(&query.coarse, LIMIT).await.map_err(|error| database(&error))?;
    if found.len() == LIMIT {
        return Err(Failure::retry(
            patchtide_crds::conditions::reason::RECONCILIATION_FAILED,
            format!(
                "more than {LIMIT} updates meet the coarse criteria: narrow the search by lines, classifications or requiredBy"
            ),
        ));
    }
    let mut known = Known::default();
    if query.needs_deployed {
        let objects = ctx.store.load_objects().await.map_err(|error| database(&error))?;
        known.deployed =
            objects.deployments.into_values().flat_map(|deployment| deployment.updates).collect();
    }
    let ids: Vec<UpdateId> = found.iter().map(|(update, _)| update.id.clone()).collect();
    let counts: BTreeMap<UpdateId, DetectionCounts> = if query.needs_counts {
        ctx.store.required_counts(&ids).await.map_err(|error| database(&error))?
    } else {
        BTreeMap::new()
    };
    if query.needs_content {
        let digests: Vec<_> =
            found.iter().flat_map(|(update, _)| update.leaves.iter().map(|leaf| leaf.file.sha256)).collect();
        let states = ctx.store.content_states(&digests).await.map_err(|error| database(&error))?;
        known.present = states
            .into_iter()
            .filter(|(_, state)| *state == patchtide_store::content::ContentState::Present)
            .map(|(digest, _)| digest)
            .collect::<BTreeSet<_>>();
    }
    Ok(found
        .into_iter()
        .filter(|(update, required)| {
            let counts = counts.get(&update.id).copied().unwrap_or_default();
            query.matches(update, *required, counts, &known)
        })
        .map(|(update, _)| update)
        .collect())
}

/// One number for the catalogue of the whole site: it rises with every change of any line.
pub async fn catalogue_version(ctx: &Context) -> Result<u64, Failure> {
    let lines = ctx.store.lines().await.map_err(|error| database(&error))?;
    Ok(lines.iter().map(|line| line.version).sum())
}
