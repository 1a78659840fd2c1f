//! What a list's status shows.

use std::collections::{BTreeMap, BTreeSet};

use patchtide_crds::{UpdateListStatus, update_list::ListCompliance};
use patchtide_model::{
    ClientId, UpdateId, catalogue::Update, client::ClientState, object::DeploymentPackage, state::Scan,
};

use crate::{context::Context, error::Failure, kinds::database};
use patchtide_intent::update_list::Members;

/// Updates named in a list of the status.
const SHOWN: usize = 20;

/// Fills counts, names and compliance.
pub async fn fill(
    ctx: &Context,
    status: &mut UpdateListStatus,
    pinned: &BTreeSet<UpdateId>,
    members: &Members,
    known: &BTreeMap<UpdateId, Update>,
) -> Result<(), Failure> {
    let missing: Vec<&UpdateId> = pinned.iter().filter(|id| !known.contains_key(id)).collect();
    let of = |meets: fn(&Update) -> bool| {
        members.members.iter().filter(|id| known.get(id).is_some_and(meets)).collect::<Vec<&UpdateId>>()
    };
    let expired = of(|update| update.expired);
    let superseded = of(|update| update.superseded_by.is_some());
    let outdated = of(|update| update.expired || update.superseded_by.is_some());
    let first = |ids: &[&UpdateId]| ids.iter().take(SHOWN).map(ToString::to_string).collect();
    status.resolved = Some(members.members.len() as u64);
    status.missing = Some(missing.len() as u64);
    status.expired = Some(expired.len() as u64);
    status.superseded = Some(superseded.len() as u64);
    status.missing_updates = first(&missing);
    status.outdated_updates = first(&outdated);
    status.without_content = Some(without_content(ctx, &members.members).await?);
    status.compliance = Some(compliance(ctx, &members.members).await?);
    Ok(())
}

/// Members that no package holds.
async fn without_content(ctx: &Context, members: &BTreeSet<UpdateId>) -> Result<u64, Failure> {
    let objects = ctx.store.load_objects().await.map_err(|error| database(&error))?;
    Ok(unpacked(members, objects.packages.values()).len() as u64)
}

/// Those of `members` that no package holds (R-ULST-13).
pub fn unpacked<'a>(
    members: &'a BTreeSet<UpdateId>,
    packages: impl Iterator<Item = &'a DeploymentPackage>,
) -> Vec<&'a UpdateId> {
    let packed: BTreeSet<&UpdateId> = packages.flat_map(|package| &package.updates).collect();
    members.iter().filter(|id| !packed.contains(id)).collect()
}

async fn compliance(ctx: &Context, members: &BTreeSet<UpdateId>) -> Result<ListCompliance, Failure> {
    let clients = ctx.store.clients().await.map_err(|error| database(&error))?;
    let active: BTreeSet<ClientId> =
        clients.iter().filter(|client| client.state == ClientState::Active).map(|client| client.id).collect();
    let reports = ctx.store.client_reports().await.map_err(|error| database(&error))?;
    let scanned: BTreeSet<ClientId> = reports
        .iter()
        .filter(|report| matches!(report.scan, Scan::Completed | Scan::CompletedWithErrors))
        .map(|report| report.client)
        .collect();
    let mut requiring = BTreeSet::new();
    // The counts are in memory: only what somebody requires is worth a query.
    let ids: Vec<UpdateId> = members.iter().cloned().collect();
    let counts = ctx.store.required_counts(&ids).await.map_err(|error| database(&error))?;
    for update in counts.iter().filter(|(_, count)| count.required > 0).map(|(update, _)| update) {
        let clients = ctx.store.requiring_clients(update).await.map_err(|error| database(&error))?;
        requiring.extend(clients.into_iter().filter(|client| active.contains(client)));
    }
    Ok(count(&active, &scanned, &requiring))
}

/// Compliant, not compliant and unknown add up to the active clients.
fn count(
    active: &BTreeSet<ClientId>,
    scanned: &BTreeSet<ClientId>,
    requiring: &BTreeSet<ClientId>,
) -> ListCompliance {
    let total = active.len() as u64;
    let non_compliant = requiring.len() as u64;
    let unknown = active.iter().filter(|id| !scanned.contains(id) && !requiring.contains(id)).count() as u64;
    let compliant = total.saturating_sub(non_compliant + unknown);
    let percent =
        (compliant * 100).checked_div(total).and_then(|n| u32::try_from(n).ok()).unwrap_or_default();
    ListCompliance {
        summary: format!("{compliant}/{total}"),
        clients: total,
        compliant,
        non_compliant,
        unknown,
        percent,
    }
}

#[cfg(test)]
mod tests {
    use patchtide_model::ClientId;
    use uuid::Uuid;

    use super::*;

    /// R-ULST-13: an update without content in any package is marked.
    #[test]
    fn members_that_no_package_holds_are_counted() {
        let id = |text: &str| text.parse::<UpdateId>().unwrap();
        let (a, b) = (id("debian/bookworm/main:a@1"), id("debian/bookworm/main:b@1"));
        let members = BTreeSet::from([a.clone(), b.clone()]);
        let package = |updates: Vec<UpdateId>| DeploymentPackage {
            name: patchtide_model::ObjectName::new("p").unwrap(),
            distribution_points: BTreeSet::new(),
            updates,
            version: 1,
        };
        assert_eq!(unpacked(&members, std::iter::empty()).len(), 2);
        assert_eq!(unpacked(&members, [package(vec![a.clone()])].iter()), [&b]);
        assert!(unpacked(&members, [package(vec![a]), package(vec![b])].iter()).is_empty());
    }

    #[test]
    fn the_three_kinds_add_up_and_never_heard_is_not_compliant() {
        let id = |n: u128| ClientId(Uuid::from_u128(n));
        let active: BTreeSet<_> = (1..=10).map(id).collect();
        let scanned: BTreeSet<_> = (1..=7).map(id).collect();
        let requiring: BTreeSet<_> = (6..=8).map(id).collect();
        let result = count(&active, &scanned, &requiring);
        assert_eq!((result.compliant, result.non_compliant, result.unknown), (5, 3, 2));
        assert_eq!((result.summary.as_str(), result.percent), ("5/10", 50));
        assert_eq!(count(&BTreeSet::new(), &scanned, &BTreeSet::new()).percent, 0);
    }
}
