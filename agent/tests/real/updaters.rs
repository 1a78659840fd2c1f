//! Other updaters of a real root: found as apt understands its configuration, switched off, given back (R-CLI).

use std::{collections::BTreeSet, fs, os::unix::fs::symlink};

use patchtide_agent::{
    scan::Machine,
    updaters::{active, follow},
};
use patchtide_model::object::OtherUpdaters::{Disable, Report};

use crate::ground::Ground;

#[test]
fn they_are_found_switched_off_and_given_back() {
    let ground = Ground::new();
    let root = &ground.site.root;
    let wants = root.path("/etc/systemd/system/timers.target.wants");
    fs::create_dir_all(&wants).unwrap();
    for timer in ["apt-daily.timer", "apt-daily-upgrade.timer"] {
        let _ = fs::remove_file(wants.join(timer));
        let _ = fs::remove_file(root.path("/etc/systemd/system").join(timer));
    }
    symlink("/lib/systemd/system/apt-daily.timer", wants.join("apt-daily.timer")).unwrap();
    ground.install_by_hand(&ground.package("unattended-upgrades", "1", "", &[]));
    let machine = Machine::read(root).unwrap();
    let parts = root.path("/etc/apt/apt.conf.d");
    assert_eq!(active(root, &machine), BTreeSet::from(["apt-daily.timer"]), "off by the package's default");

    // Blocks count; files that apt leaves out for their names do not.
    fs::write(parts.join("20auto-upgrades"), "APT { Periodic { Unattended-Upgrade \"1\"; }; };\n").unwrap();
    fs::write(parts.join("99old.dpkg-old"), "APT::Periodic::Unattended-Upgrade \"0\";\n").unwrap();
    let both = BTreeSet::from(["apt-daily.timer", "unattended-upgrades"]);
    assert_eq!(active(root, &machine), both);

    assert!(!follow(root, &machine, Report).unwrap());
    assert!(follow(root, &machine, Disable).unwrap());
    assert!(active(root, &machine).is_empty());
    assert!(!follow(root, &machine, Disable).unwrap(), "nothing is left to do");
    assert!(follow(root, &machine, Report).unwrap());
    assert_eq!(active(root, &machine), both);
}
