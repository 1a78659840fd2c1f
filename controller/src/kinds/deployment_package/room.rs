//! What of the packages a distribution point has room for. Pure.

use std::collections::BTreeSet;

use patchtide_crds::deployment_package::SendingPriority;
use patchtide_model::Digest;

use super::plan::Content;

/// A package that is sent to a point.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Its priority.
    pub priority: SendingPriority,
    /// Its name.
    pub name: String,
    /// Its files.
    pub content: Content,
}

/// The files that the point shall have, and those for which it has no room. Packages are taken by priority, then by
/// name; within one, what the point has been given already comes first, so that a package that grows loses nothing.
pub fn share(
    capacity: Option<u64>,
    mut packages: Vec<Sent>,
    had: &BTreeSet<Digest>,
) -> (BTreeSet<Digest>, BTreeSet<Digest>) {
    packages.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.name.cmp(&b.name)));
    let (mut wanted, mut left_out, mut used) = (BTreeSet::new(), BTreeSet::new(), 0_u64);
    for package in packages {
        let mut files: Vec<(bool, u64, Digest)> = package
            .content
            .files
            .iter()
            .map(|(digest, size)| (!had.contains(digest), *size, *digest))
            .collect();
        files.sort_unstable();
        for (_, size, digest) in files {
            if wanted.contains(&digest) {
                continue;
            }
            let next = used.saturating_add(size);
            if capacity.is_some_and(|capacity| next > capacity) {
                left_out.insert(digest);
            } else {
                used = next;
                wanted.insert(digest);
            }
        }
    }
    left_out.retain(|digest| !wanted.contains(digest));
    (wanted, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(name: &str, priority: SendingPriority, files: &[(&str, u64)]) -> Sent {
        let files = files.iter().map(|(name, size)| (Digest::of(name.as_bytes()), *size)).collect();
        Sent { priority, name: name.to_owned(), content: Content { files, ..Content::default() } }
    }

    fn names(digests: &BTreeSet<Digest>) -> Vec<&'static str> {
        ["a", "b", "c", "d"]
            .into_iter()
            .filter(|name| digests.contains(&Digest::of(name.as_bytes())))
            .collect()
    }

    #[test]
    fn a_point_takes_what_it_has_room_for_by_priority() {
        let packages = || {
            vec![
                sent("first", SendingPriority::Low, &[("a", 10)]),
                sent("second", SendingPriority::High, &[("b", 60), ("c", 30)]),
                sent("third", SendingPriority::Medium, &[("c", 30), ("d", 10)]),
            ]
        };
        let (wanted, left_out) = share(None, packages(), &BTreeSet::new());
        assert_eq!((names(&wanted), names(&left_out)), (vec!["a", "b", "c", "d"], vec![]));
        let (wanted, left_out) = share(Some(100), packages(), &BTreeSet::new());
        assert_eq!((names(&wanted), names(&left_out)), (vec!["b", "c", "d"], vec!["a"]));
        assert_eq!(share(Some(100), packages(), &wanted).0, wanted, "planning again changes nothing");
    }

    #[test]
    fn a_package_that_grows_beyond_the_point_loses_nothing() {
        let had = BTreeSet::from([Digest::of(b"b")]);
        let grown = vec![sent("p", SendingPriority::Medium, &[("a", 10), ("b", 60), ("c", 30)])];
        let (wanted, left_out) = share(Some(70), grown, &had);
        assert_eq!((names(&wanted), names(&left_out)), (vec!["a", "b"], vec!["c"]));
    }
}
