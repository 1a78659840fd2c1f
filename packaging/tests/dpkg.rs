//! Against the real dpkg of this machine: order of versions, and its own status file.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::cmp::Ordering;
use std::process::Command;

use patchtide_packaging::relation::{Asker, Candidate, Provided, Relations, parse_provides};
use patchtide_packaging::status::Status;
use patchtide_packaging::{Version, version::VersionError};

/// A small generator of its own, so that a failure can be repeated from its number.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

fn version(numbers: &mut Numbers) -> String {
    let mut text = String::new();
    if numbers.below(4) == 0 {
        text += ["0:", "1:", "02:", "2147483647:", "2147483648:", ":", "a:"][numbers.below(7)];
    }
    let parts = [
        "0",
        "1",
        "9",
        "10",
        "00",
        "007",
        "12345678901234567890123",
        "a",
        "Z",
        "z",
        "~",
        "~~",
        ".",
        "+",
        "-",
        "-0",
        "-1",
        "rc",
        "b1",
    ];
    for _ in 0..=numbers.below(6) {
        text += parts[numbers.below(parts.len())];
    }
    text
}

fn dpkg(a: &str, operator: &str, b: &str) -> Option<bool> {
    // `--` is not understood here; a version that begins with a hyphen is an option to dpkg.
    let output = Command::new("dpkg").args(["--compare-versions", a, operator, b]).output();
    match output.expect("this test needs dpkg").status.code() {
        Some(0) => Some(true),
        Some(1) => Some(false),
        _ => None,
    }
}

/// reliability.md 4 #52 and C6: the order is dpkg's, and what dpkg refuses is refused.
#[test]
fn bad_input_52_order_is_that_of_dpkg() {
    let mut numbers = Numbers(52);
    let (mut compared, mut refused) = (0, 0);
    for round in 0..1500 {
        let (a, b) = (version(&mut numbers), version(&mut numbers));
        if a.starts_with('-') || b.starts_with('-') {
            continue;
        }
        if let (Ok(x), Ok(y)) = (Version::parse(&a), Version::parse(&b)) {
            let operator = match x.cmp(&y) {
                Ordering::Less => "lt",
                Ordering::Equal => "eq",
                Ordering::Greater => "gt",
            };
            assert_eq!(dpkg(&a, operator, &b), Some(true), "round {round}: {a} {operator} {b}");
            compared += 1;
        } else {
            assert_eq!(dpkg(&a, "eq", &b), None, "round {round}: {a} {b} is good for dpkg");
            refused += 1;
        }
    }
    assert!(compared > 500 && refused > 50, "{compared} compared, {refused} refused");
}

/// Neighbours in sorted order: the interesting pairs are the close ones.
#[test]
fn order_of_all_installed_versions_is_that_of_dpkg() {
    let status = std::fs::read("/var/lib/dpkg/status").expect("this test needs a Debian machine");
    let status = Status::read(&status[..]).unwrap();
    let mut versions: Vec<Version> = status.installed().filter_map(|e| e.version.clone()).collect();
    versions.sort();
    versions.dedup_by(|a, b| a.as_str() == b.as_str());
    for pair in versions.chunks(2).filter(|pair| pair.len() == 2).take(300) {
        assert_eq!(dpkg(pair[0].as_str(), "le", pair[1].as_str()), Some(true), "{pair:?}");
    }
    assert!(versions.len() > 20);
}

#[test]
fn the_status_file_of_this_machine_is_read_as_dpkg_query_reads_it() {
    let bytes = std::fs::read("/var/lib/dpkg/status").expect("this test needs a Debian machine");
    let status = Status::read(&bytes[..]).unwrap();
    assert_eq!(status.errors, []);
    let format =
        "${Package} ${Architecture} ${Version} ${source:Package} ${source:Version} ${db:Status-Abbrev}\n";
    let output =
        Command::new("dpkg-query").args(["-W", "-f", format]).output().expect("this test needs dpkg-query");
    let mut theirs: Vec<String> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| line.trim_end().ends_with("ii") || line.trim_end().ends_with("hi"))
        .map(|line| line.trim_end().rsplit_once(' ').unwrap().0.to_owned())
        .collect();
    let mut ours: Vec<String> = status
        .installed()
        .map(|e| {
            let source = e.source.as_ref().unwrap();
            let version = e.version.as_ref().unwrap();
            format!("{} {} {version} {} {}", e.package, e.architecture, source.name, source.version)
        })
        .collect();
    theirs.sort();
    ours.sort();
    assert_eq!(ours, theirs);
    assert!(ours.len() > 50);
}

#[test]
fn bad_input_52_a_version_of_1000_characters_is_refused() {
    assert_eq!(Version::parse(&"9".repeat(1000)).unwrap_err(), VersionError::TooLong(1000));
}

/// dpkg configures a package only when what it depends on is there: so nothing installed may lack anything.
#[test]
fn what_is_installed_on_this_machine_lacks_nothing() {
    let bytes = std::fs::read("/var/lib/dpkg/status").expect("this test needs a Debian machine");
    let status = Status::read(&bytes[..]).unwrap();
    let output = Command::new("dpkg").arg("--print-architecture").output().expect("this test needs dpkg");
    let native = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let provides: Vec<Vec<Provided>> =
        status.installed().map(|e| parse_provides(&e.provides).unwrap()).collect();
    let candidates: Vec<Candidate<'_>> = status
        .installed()
        .zip(&provides)
        .map(|(e, provides)| Candidate {
            name: &e.package,
            version: e.version.as_ref().unwrap(),
            architecture: &e.architecture,
            multi_arch: e.multi_arch,
            provides,
        })
        .collect();
    let mut relations = 0;
    for entry in status.installed() {
        let asker = Asker { architecture: &entry.architecture, native: &native };
        for field in [&entry.depends, &entry.pre_depends] {
            let needs = Relations::parse(field).unwrap();
            relations += needs.0.len();
            let lacks: Vec<_> = needs.unsatisfied(asker, candidates.iter().copied()).collect();
            assert!(lacks.is_empty(), "{} lacks {lacks:?}", entry.package);
        }
    }
    assert!(relations > 500, "{relations}");
}
