//! Which software update points clients scan against: one for each type of client (R-SUP-09). Pure.

use std::{collections::BTreeSet, sync::Arc};

use kube::ResourceExt;
use patchtide_crds::{
    SoftwareUpdatePoint,
    software_update_point::{ClientTypes, SupRole, UpdateSource},
};

/// Those in force, oldest first: an active one whose client types an older one in force has already is not.
fn in_force(points: &[Arc<SoftwareUpdatePoint>]) -> Vec<&Arc<SoftwareUpdatePoint>> {
    let mut active: Vec<_> = points
        .iter()
        .filter(|point| point.spec.role == SupRole::Active && point.metadata.deletion_timestamp.is_none())
        .collect();
    active.sort_by_key(|point| {
        (point.metadata.creation_timestamp.as_ref().map(|time| time.0), point.name_any())
    });
    let mut accepted: Vec<&Arc<SoftwareUpdatePoint>> = Vec::new();
    for point in active {
        if !accepted.iter().any(|older| overlap(older, point)) {
            accepted.push(point);
        }
    }
    accepted
}

fn overlap(one: &SoftwareUpdatePoint, other: &SoftwareUpdatePoint) -> bool {
    let (one, other) = (one.spec.client_types, other.spec.client_types);
    one == other || one == ClientTypes::Both || other == ClientTypes::Both
}

/// The older point that keeps an active one from being in force; none: it is in force, or a spare one.
pub fn displaced_by(points: &[Arc<SoftwareUpdatePoint>], point: &SoftwareUpdatePoint) -> Option<String> {
    if point.spec.role != SupRole::Active {
        return None;
    }
    let accepted = in_force(points);
    if accepted.iter().any(|accepted| accepted.uid() == point.uid()) {
        return None;
    }
    accepted.into_iter().find(|older| overlap(older, point)).map(|older| older.name_any())
}

/// The sources that clients scan against: those of the points in force. Nobody is an Internet client yet, so a point for
/// these alone serves nobody.
pub fn offered_sources(points: &[Arc<SoftwareUpdatePoint>]) -> impl Iterator<Item = &UpdateSource> {
    let serving =
        in_force(points).into_iter().filter(|point| point.spec.client_types != ClientTypes::Internet);
    serving.flat_map(|point| &point.spec.sources)
}

/// The lines of a source, each with its suite.
pub fn lines(source: &UpdateSource) -> impl Iterator<Item = (&str, String)> {
    source.apt.iter().flat_map(move |apt| {
        apt.suites.iter().flat_map(move |suite| {
            let line = move |component| (suite.as_str(), format!("{}/{suite}/{component}", source.name));
            apt.components.iter().map(line)
        })
    })
}

/// The lines of the points in force.
pub fn offered_lines(points: &[Arc<SoftwareUpdatePoint>]) -> BTreeSet<String> {
    offered_sources(points).flat_map(lines).map(|(_, line)| line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(name: &str, day: u32, more: &str) -> Arc<SoftwareUpdatePoint> {
        let yaml = format!(
            "apiVersion: patchtide.dev/v1alpha1\nkind: SoftwareUpdatePoint\nmetadata: {{name: {name}, uid: {name}, creationTimestamp: '2026-01-0{day}T00:00:00Z'}}\nspec: {{{more}, sources: [{{name: {name}, apt: {{url: 'http://archive.example/d', suites: [s], components: [main, contrib], architectures: [amd64], keyring: {{keyringFile: /k}}}}}}]}}\n"
        );
        Arc::new(serde_saphyr::from_str(&yaml).unwrap())
    }

    /// R-SUP-09, R-SUP-10.
    #[test]
    fn one_point_is_active_for_each_type_of_client() {
        let points = [
            point("late", 3, "role: Active"),
            point("first", 1, "role: Active"),
            point("spare", 2, "role: Spare"),
            point("outside", 4, "clientTypes: Internet"),
            point("both", 5, "clientTypes: Both"),
        ];
        let by = |n: usize| displaced_by(&points, &points[n]);
        assert_eq!(by(0).as_deref(), Some("first"));
        assert_eq!((by(1), by(2), by(3)), (None, None, None));
        assert_eq!(by(4).as_deref(), Some("first"));
        let lines = offered_lines(&points);
        assert_eq!(lines, BTreeSet::from(["first/s/main".to_owned(), "first/s/contrib".to_owned()]));
    }

    /// R-SUP-11, R-SUP-12: without an active point there is nothing to scan against.
    #[test]
    fn without_an_active_point_nothing_is_offered() {
        assert_eq!(offered_lines(&[point("spare", 1, "role: Spare")]), BTreeSet::new());
        assert_eq!(offered_lines(&[]), BTreeSet::new());
    }

    #[test]
    fn the_next_one_takes_over_when_the_first_becomes_spare() {
        let points = [point("first", 1, "role: Spare"), point("late", 3, "role: Active")];
        assert_eq!(displaced_by(&points, &points[1]), None);
        assert_eq!(offered_lines(&points).len(), 2);
    }
}
