//! `kubectl patchtide plan` against an exported snapshot, without the reading of YAML: the snapshot is read, and what a
//! changed deployment and a changed window would do is reckoned.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use patchtide_model::{LineId, UpdateId, state::Detection};
use patchtide_planner::{
    site::{SiteInput, forecast::forecast},
    snapshot::{ClientReport, Snapshot, UpdateReport},
};

use crate::{fleet::name, resident, timed};

/// Updates that each client requires.
const REQUIRED: usize = 10;

fn at() -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24)
}

/// The site with what its clients reported of it.
fn snapshot(input: SiteInput) -> Snapshot {
    let deployed: Vec<&UpdateId> = input.objects.deployments.values().flat_map(|one| &one.updates).collect();
    let covered: BTreeMap<LineId, u64> =
        input.lines.iter().map(|line| (line.line.clone(), line.catalogue_version)).collect();
    let mut reports = BTreeMap::new();
    for (n, client) in input.clients.iter().enumerate() {
        let release = client.facts.get("os.codename").map_or("", String::as_str);
        let mine = deployed.iter().cycle().skip(n * 37 % deployed.len()).take(deployed.len());
        let mine = mine.filter(|id| id.line.as_str().contains(release)).take(REQUIRED);
        let updates = mine.filter_map(|id| {
            let found = UpdateReport {
                detection: Detection::Required,
                enforcement: None,
                error: None,
                since: Some(Timestamp::UNIX_EPOCH),
                leaves: input.required_leaves.get(*id)?.iter().take(1).cloned().collect(),
            };
            Some(((*id).clone(), found))
        });
        let report = ClientReport {
            last_scan: Some(Timestamp::UNIX_EPOCH),
            covered: covered.clone(),
            updates: updates.collect(),
            ..ClientReport::default()
        };
        reports.insert(client.id, report);
    }
    Snapshot { reports, ..Snapshot::new(input, at()) }
}

pub(crate) fn measure(input: SiteInput) {
    let text = serde_json::to_vec(&snapshot(input)).expect("a snapshot");
    let memory = resident();
    let (read, parsing, wall) =
        timed(|| serde_json::from_slice::<Snapshot>(&text).expect("the snapshot again"));
    let mebibytes = text.len() >> 20;
    println!("  a snapshot of {mebibytes} MiB is read in {parsing:9.2} ms ({wall:.0} ms on the wall)");
    drop(text);
    let mut after = read.input.clone();
    after.objects.deployments.get_mut(&name("deployment-46")).expect("a deployment").suspend = true;
    let window = after.objects.windows.get_mut(&name("window-39")).expect("a window");
    window.duration *= 2;
    let (plan, time, wall) = timed(|| forecast(&read.input, &after, &read.reports, at()));
    assert!(!plan.is_empty(), "a change without an effect");
    println!(
        "  its plan for a change takes {time:9.2} ms ({wall:.0} ms on the wall); {} MiB in all",
        resident()
    );
    println!("  (its hash: {})", plan.hash());
    println!("  (before the snapshot was read: {memory} MiB, its text included)");
}
