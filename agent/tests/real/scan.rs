//! The scan against apt itself.

use std::{collections::BTreeMap, time::Instant};

use patchtide_agent::{
    catalogue::Catalogues,
    scan::{Machine, scan},
};
use patchtide_model::state::Detection;
use patchtide_packaging::Version;

use crate::{
    fixture::{Oracle, SECURITY, body, fixture, line_policies},
    ground::Ground,
};

#[test]
fn a_scan_finds_what_apt_would_upgrade() {
    let ground = Ground::new();
    let catalogues = Catalogues::open(&ground.site.state).unwrap();
    for bytes in fixture().catalogues.values() {
        catalogues.put(bytes).unwrap();
    }
    let lines = line_policies(&fixture().catalogues);
    let start = Instant::now();
    let machine = Machine::read(&ground.site.root).unwrap();
    let found = scan(&machine, &catalogues, &lines, &body(&BTreeMap::new(), vec![])).unwrap();
    println!("scan of {} lines in {:?}", lines.len(), start.elapsed());
    assert!(found.errors.is_empty());

    let mut required = Oracle::new();
    for leaf in found.detected.values().filter(|d| d.state == Detection::Required).flat_map(|d| &d.leaves) {
        let version = required.entry((leaf.package.clone(), leaf.architecture.clone())).or_default();
        if version.is_empty() || Version::parse(&leaf.version).unwrap() > Version::parse(version).unwrap() {
            version.clone_from(&leaf.version);
        }
    }
    // What apt would newly install is not required but needed.
    let needed: Vec<_> =
        found.detected.values().flat_map(|d| &d.needs).map(|leaf| leaf.package.as_str()).collect();
    let upgraded: Oracle = fixture()
        .oracle
        .clone()
        .into_iter()
        .filter(|((package, architecture), _)| machine.matching(package, architecture).next().is_some())
        .collect();
    assert_eq!(required, upgraded);
    for (package, _) in fixture().oracle.keys().filter(|key| !upgraded.contains_key(key)) {
        assert!(
            needed.contains(&package.as_str()),
            "{package} would be installed and is not named as needed"
        );
    }
    // Everything else of the root is installed or not required; nothing is both.
    let security = found.detected.iter().filter(|(id, _)| id.line.as_str() == SECURITY);
    assert!(security.clone().any(|(_, found)| found.state == Detection::Required));
    assert!(found.detected.values().any(|found| found.state == Detection::Installed));
}
