//! The owner's apt preferences on releases: what the catalogue knows of a line's release is what apt pins by here.

use std::{collections::BTreeMap, fs};

use patchtide_agent::install::{InstallError, outcome::Verdict};
use patchtide_model::{
    Digest,
    policy::{LinePolicy, LineRelease},
};

use crate::ground::Ground;

/// Version 1 of two packages is installed; version 2 of one comes from each of two lines.
fn ground() -> Ground {
    let mut ground = Ground::new();
    for (line, package, origin) in
        [("demo/one/main", "demo-a", "One Ltd"), ("demo/two/main", "demo-b", "Two")]
    {
        ground.install_by_hand(&ground.package(package, "1", "", &[]));
        let leaf = ground.package(package, "2", "", &[]);
        let id = format!("{line}:{package}@2").parse().unwrap();
        ground.updates.insert(id, vec![leaf]);
        let named = |text: &str| Some(text.to_owned());
        ground.lines.push(LinePolicy {
            line: line.parse().unwrap(),
            catalogue_version: 1,
            digest: Digest::of(b""),
            size: 0,
            release: Some(LineRelease {
                origin: named(origin),
                label: named(&format!("{origin} Security (all)")),
                suite: named("stable-security"),
                codename: named(&format!("{package}-security")),
            }),
        });
    }
    ground
}

#[test]
fn pins_on_releases_are_kept() {
    let ground = ground();
    let preferences = ground.site.root.path("/etc/apt/preferences.d/own");
    for (pin, kept_back) in [
        ("release o=One Ltd", vec!["demo-a"]),
        ("release n=demo-b-security", vec!["demo-b"]),
        ("release a=stable-security", vec!["demo-a", "demo-b"]),
        ("release l=Two Security all", vec!["demo-b"]),
    ] {
        fs::write(&preferences, format!("Package: *\nPin: {pin}\nPin-Priority: -1\n")).unwrap();
        let error = ground.prepare(&ground.batch()).unwrap_err();
        assert!(matches!(&error, InstallError::Pinned(names) if *names == kept_back), "{pin}: {error}");
    }
    fs::write(&preferences, "Package: *\nPin: release o=Three\nPin-Priority: -1\n").unwrap();
    assert_eq!(ground.install(), Verdict::Done(BTreeMap::new()));
    assert_eq!(
        (ground.version("demo-a"), ground.version("demo-b")),
        ("installed 2".into(), "installed 2".into())
    );
}

/// apt refuses to work with a preferred release that no source has: here that is one of the machine's other sources.
#[test]
fn a_preferred_release_of_other_sources_is_no_obstacle() {
    for default in ["trixie", "stable-security"] {
        let ground = ground();
        let config = ground.site.root.path("/etc/apt/apt.conf.d/99own");
        fs::write(config, format!("APT::Default-Release \"{default}\";\n")).unwrap();
        assert_eq!(ground.install(), Verdict::Done(BTreeMap::new()), "{default}");
        assert_eq!(ground.version("demo-a"), "installed 2");
    }
}
