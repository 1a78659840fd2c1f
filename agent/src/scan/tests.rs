use patchtide_packaging::status::Status;

use super::*;

fn machine(packages: &[(&str, &str, &str, &str)]) -> Machine {
    let mut text =
        "Package: dpkg\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.21\n\n".to_owned();
    for (name, arch, version, status) in packages {
        let stanza = format!(
            "Package: {name}\nStatus: {status}\nArchitecture: {arch}\nVersion: {version}\nMulti-Arch: same\n\n"
        );
        text.push_str(&stanza);
    }
    Machine::new(Status::read(text.as_bytes()).unwrap()).unwrap()
}

fn leaf(package: &str, architecture: &str, version: &str, depends: &str, provides: &str) -> ScanLeaf {
    ScanLeaf {
        package: package.to_owned(),
        version: version.to_owned(),
        architecture: architecture.to_owned(),
        depends: depends.to_owned(),
        provides: provides.to_owned(),
    }
}

fn update(source: &str, leaves: Vec<ScanLeaf>) -> ScanUpdate {
    ScanUpdate { number: 0, source: source.to_owned(), version: "2".to_owned(), leaves }
}

fn state(machine: &Machine, leaves: Vec<ScanLeaf>) -> Option<(Detection, usize)> {
    detect(machine, &update("s", leaves)).map(|(state, needed)| (state, needed.len()))
}

const OK: &str = "install ok installed";

#[test]
fn detection_follows_the_definition() {
    let m = machine(&[
        ("libx", "amd64", "1", OK),
        ("libx", "i386", "2", OK),
        ("gone", "amd64", "1", "deinstall ok config-files"),
        ("half", "amd64", "2", "install ok half-configured"),
        ("newer", "amd64", "3", "hold ok installed"),
        ("data", "all", "1", OK),
    ]);
    let one = |package, arch| vec![leaf(package, arch, "2", "", "")];
    assert_eq!(state(&m, one("libx", "amd64")), Some((Detection::Required, 1)));
    assert_eq!(state(&m, one("libx", "i386")), Some((Detection::Installed, 0)));
    assert_eq!(state(&m, one("libx", "arm64")), None);
    assert_eq!(state(&m, one("gone", "amd64")), None, "configuration files are not an installation");
    assert_eq!(
        state(&m, one("half", "amd64")),
        Some((Detection::Required, 1)),
        "half configured is not installed"
    );
    assert_eq!(state(&m, vec![leaf("half", "amd64", "1", "", "")]), Some((Detection::Installed, 0)));
    assert_eq!(state(&m, one("newer", "amd64")), Some((Detection::Installed, 0)), "from whichever line");
    assert_eq!(state(&m, one("data", "amd64")), Some((Detection::Required, 1)), "all turned into amd64");
    assert_eq!(
        state(&m, one("linux-image-6.1.0-40-amd64", "amd64")),
        None,
        "a new kernel is nobody's update"
    );
    let both = vec![leaf("libx", "amd64", "2", "", ""), leaf("libx", "i386", "2", "", "")];
    assert_eq!(state(&m, both), Some((Detection::Required, 1)), "only the architecture that lags");
}

fn needs(machine: &Machine, required: ScanUpdate, catalogue: &[ScanUpdate]) -> Vec<String> {
    let (_, places) = detect(machine, &required).unwrap();
    let leaves = chosen(&required, &places);
    let id = UpdateId { line: "a/b/c".parse().unwrap(), source: required.source, version: required.version };
    let found = needs::resolve(machine, &[Required { id, leaves }], |visit| {
        catalogue.iter().cloned().for_each(visit);
        Ok::<(), ()>(())
    })
    .unwrap();
    found.into_values().flatten().map(|l| format!("{}:{}={}", l.package, l.architecture, l.version)).collect()
}

#[test]
fn new_dependencies_are_found_transitively() {
    let m = machine(&[("linux-image-amd64", "amd64", "1", OK), ("libc6", "amd64", "1", OK)]);
    let meta = leaf("linux-image-amd64", "amd64", "2", "linux-image-9 (= 2), libc6, libc6 (>> 1)", "");
    let catalogue = [
        update("linux", vec![leaf("linux-image-9", "amd64", "2", "kmod | module-tools, initramfs", "")]),
        update("linux", vec![leaf("linux-image-9", "i386", "2", "", "")]),
        update("linux-old", vec![leaf("linux-image-9", "amd64", "1", "", "")]),
        update("busymod", vec![leaf("busymod", "amd64", "1", "", "module-tools")]),
        update("tiny", vec![leaf("tiny", "all", "1", "tool-that-nobody-has", "initramfs (= 1)")]),
        update("glibc", vec![leaf("libc6", "amd64", "3", "", "")]),
    ];
    assert_eq!(
        needs(&m, update("meta", vec![meta]), &catalogue),
        ["busymod:amd64=1", "libc6:amd64=3", "linux-image-9:amd64=2", "tiny:all=1"]
    );
}

#[test]
fn what_the_update_itself_brings_is_not_needed_anew() {
    let m = machine(&[("a", "amd64", "1", OK), ("b", "amd64", "1", OK), ("c", "i386", "1", OK)]);
    let bundle = update(
        "s",
        vec![leaf("a", "amd64", "2", "b (= 2), c [i386]", ""), leaf("b", "amd64", "2", "a (>= 2)", "")],
    );
    assert!(needs(&m, bundle, &[update("s", vec![leaf("b", "amd64", "3", "", "")])]).is_empty());
}
