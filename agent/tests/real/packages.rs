//! Package files that must not come near dpkg, and transactions that must not be: in a real root.

use std::{fs, path::Path, process::Command};

use patchtide_agent::install::{InstallError, outcome::Verdict};
use patchtide_model::catalogue::Leaf;
use patchtide_tests::process::run;

use crate::{fixture::leaf_of_file, ground::Ground};

const TREE: &str = "--owner=0 --group=0 --sort=name --format=gnu";

/// Packs what `make` puts into a folder as tar, with these words more.
fn tar(words: &str, paths: &[&str], make: impl Fn(&Path)) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path());
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new("tar");
    command.arg("-C").arg(folder.path()).args(TREE.split(' ')).args(words.split_whitespace());
    run(command.arg("-cf").arg(file.path()).args(paths)).unwrap();
    fs::read(file.path()).unwrap()
}

fn stanza(version: &str) -> String {
    format!(
        "Package: demo-a\nVersion: {version}\nArchitecture: all\nMaintainer: Test <test@archive.example>\n\
         Installed-Size: 10\nDescription: test package\n"
    )
}

fn control_file(folder: &Path) {
    fs::write(folder.join("control"), stanza("2")).unwrap();
}

fn good_control() -> Vec<u8> {
    tar("", &["./control"], control_file)
}

fn good_data() -> Vec<u8> {
    tar("", &["."], |folder| fs::write(folder.join("demo"), "2").unwrap())
}

/// A package of these parts; its file is in the cache.
fn package(ground: &Ground, control: &[u8], data: (&str, &[u8])) -> Leaf {
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, body) in [("debian-binary", &b"2.0\n"[..]), ("control.tar", control), data] {
        let header = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, body.len());
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(body);
        bytes.resize(bytes.len().next_multiple_of(2), b'\n');
    }
    leaf_of_file(&ground.site, &stanza("2"), &bytes)
}

/// A ground on which version 1 is installed and this package is approved as version 2.
fn ground_with(control: &[u8], data: (&str, &[u8])) -> (Ground, Leaf) {
    let mut ground = Ground::new();
    ground.install_by_hand(&ground.package("demo-a", "1", "", &[]));
    let leaf = package(&ground, control, data);
    ground.approve(leaf.clone());
    (ground, leaf)
}

/// The symbol of the refusal; nothing was touched.
fn refused(control: &[u8], data: (&str, &[u8])) -> &'static str {
    let (ground, _) = ground_with(control, data);
    let before = fs::read(ground.site.root.path("/var/lib/dpkg/status")).unwrap();
    let error = ground.prepare(&ground.batch()).unwrap_err();
    assert!(matches!(error, InstallError::Package { .. }), "{error}");
    assert!(error.to_string().contains("dpkg was not started"), "{error}");
    assert_eq!(fs::read(ground.site.root.path("/var/lib/dpkg/status")).unwrap(), before);
    error.failure().symbol()
}

/// The parts that the other tests spoil make a package that is installed.
#[test]
fn a_package_of_plain_parts_is_installed() {
    let (ground, _) = ground_with(&good_control(), ("data.tar", &good_data()));
    assert_eq!(ground.install(), Verdict::Done(std::collections::BTreeMap::new()));
    assert_eq!(ground.version("demo-a"), "installed 2");
}

/// reliability.md 4 #61: made by the real tar, refused before dpkg is started.
#[test]
fn bad_input_61_a_control_archive_that_reaches_out_is_refused() {
    let touch = |folder: &Path, name: &str| fs::write(folder.join(name), "x").unwrap();
    let with = |words: &str, make: &dyn Fn(&Path)| {
        tar(words, &["./control", "./evil"], |folder| {
            control_file(folder);
            make(folder);
        })
    };
    let make = |program: &'static str, words: &'static [&'static str]| {
        move |folder: &Path| drop(run(Command::new(program).args(words).arg(folder.join("evil"))).unwrap())
    };
    for (what, control) in [
        ("..", with("--transform s,^./evil,../../evil,", &|folder| touch(folder, "evil"))),
        ("absolute", with("-P --transform s,^./evil,/etc/evil,", &|folder| touch(folder, "evil"))),
        ("link", with("", &make("ln", &["-s", "/etc/passwd"]))),
        ("folder", with("", &make("mkdir", &[]))),
        ("setuid", with("--mode=4755", &|folder| touch(folder, "evil"))),
        ("pipe", with("", &make("mkfifo", &[]))),
        (
            "device",
            with("", &|folder| {
                let evil = folder.join("evil");
                run(Command::new("mknod").arg(evil).args(["c", "1", "3"])).unwrap();
            }),
        ),
    ] {
        assert_eq!(refused(&control, ("data.tar", &good_data())), "PKG-TAR", "{what}");
    }
}

/// reliability.md 4 #62: an extended header may give a member another size than its own header. dpkg refuses such an
/// archive too, but in the middle of a transaction.
#[test]
fn bad_input_62_extended_headers_are_refused_as_dpkg_refuses_them() {
    let make = |folder: &Path| fs::write(folder.join("demo"), "2").unwrap();
    let data = tar("--format=posix --pax-option=comment=two-sizes", &["."], make);
    assert_eq!(refused(&good_control(), ("data.tar", &data)), "PKG-TAR");
    let (ground, leaf) = ground_with(&good_control(), ("data.tar", &data));
    let inside = format!("/var/lib/patchtide/cache/{}", leaf.file.sha256);
    let said = ground.output(&["dpkg", "--unpack", &inside]);
    assert!(!said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));

    // The control archive goes through tar, which would believe such a header.
    let control = tar("--format=posix --pax-option=comment=two-sizes", &["./control"], control_file);
    assert_eq!(refused(&control, ("data.tar", &good_data())), "PKG-TAR");
}

/// reliability.md 4 #63: 300 MB of nothing in some kilobytes, by both compressors, and a hole.
#[test]
fn bad_input_63_a_package_that_expands_to_more_than_it_says_is_refused() {
    let hole = |folder: &Path| {
        fs::File::create(folder.join("demo")).unwrap().set_len(300 << 20).unwrap();
    };
    let data = tar("", &["."], hole);
    let zstd = zstd::encode_all(&data[..], 1).unwrap();
    assert!(zstd.len() < 1 << 20);
    assert_eq!(refused(&good_control(), ("data.tar.zst", &zstd)), "PKG-LIMIT");
    let xz = xz(&["-0"], &data);
    assert!(xz.len() < 1 << 20);
    assert_eq!(refused(&good_control(), ("data.tar.xz", &xz)), "PKG-LIMIT");
    let sparse = tar("--sparse", &["."], hole);
    assert!(sparse.len() < 1 << 20);
    assert_eq!(refused(&good_control(), ("data.tar", &sparse)), "PKG-LIMIT");
}

fn xz(words: &[&str], bytes: &[u8]) -> Vec<u8> {
    let plain = tempfile::NamedTempFile::new().unwrap();
    fs::write(plain.path(), bytes).unwrap();
    let output = Command::new("xz").args(words).args(["-T1", "-c"]).arg(plain.path()).output().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// The check of an xz header.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// reliability.md 4 #63: a few bytes whose reader must make a dictionary of 4 GiB. The strongest settings that packages
/// are made with are read.
#[test]
fn bad_input_63_a_dictionary_larger_than_any_package_needs_is_refused() {
    let mut evil = xz(&["-0"], &good_data());
    // Behind the stream's 12 bytes a block: its length, no sizes, LZMA2 with one byte that says how large the dictionary is.
    let end = 12 + (usize::from(evil[12]) + 1) * 4;
    assert_eq!(evil[13..16], [0, 0x21, 1]);
    evil[16] = 40;
    let check = crc32(&evil[12..end - 4]).to_le_bytes();
    evil[end - 4..end].copy_from_slice(&check);
    let (ground, _) = ground_with(&good_control(), ("data.tar.xz", &evil));
    let error = ground.prepare(&ground.batch()).unwrap_err();
    assert_eq!(error.failure().symbol(), "PKG-LIMIT", "{error}");
    assert!(error.to_string().contains("bytes of memory") && error.to_string().contains("demo-a"), "{error}");
    assert_eq!(ground.version("demo-a"), "installed 1");

    let mut zstd = zstd::Encoder::new(Vec::new(), 1).unwrap();
    zstd.window_log(27).unwrap();
    std::io::Write::write_all(&mut zstd, &good_data()).unwrap();
    let zstd = zstd.finish().unwrap();
    for (name, data) in [("data.tar.xz", xz(&["-9e"], &good_data())), ("data.tar.zst", zstd)] {
        let (ground, _) = ground_with(&good_control(), (name, &data));
        assert_eq!(ground.install(), Verdict::Done(std::collections::BTreeMap::new()), "{name}");
    }
}

/// reliability.md 4 #54: two packages that need each other are one transaction.
#[test]
fn bad_input_54_a_loop_of_dependencies_is_one_transaction() {
    let mut ground = Ground::new();
    for (name, other) in [("demo-a", "demo-b"), ("demo-b", "demo-a")] {
        ground.run(&["true"]);
        let depends = |version: &str| format!("Depends: {other} (>= {version})\n");
        let old = ground.package(name, "1", "", &[]);
        ground.install_by_hand(&old);
        ground.approve(ground.package(name, "2", &depends("2"), &[]));
    }
    assert_eq!(ground.install(), Verdict::Done(std::collections::BTreeMap::new()));
    assert_eq!(
        (ground.version("demo-a"), ground.version("demo-b")),
        ("installed 2".into(), "installed 2".into())
    );
}

/// reliability.md 4 #54: what cannot be satisfied is named; a third source's package that says that it provides it is
/// not taken, for apt sees nothing but what is approved.
#[test]
fn bad_input_54_dependencies_come_from_the_approved_content_alone() {
    let mut ground = Ground::new();
    ground.install_by_hand(&ground.package("demo-a", "1", "", &[]));
    let evil = ground.package("evil", "9", "Provides: demo-virtual\n", &[]);
    let root = ground.site.root.clone();
    let third = root.path("/srv/third");
    fs::create_dir_all(&third).unwrap();
    fs::copy(ground.site.cache.path(&evil.file.sha256), third.join("evil.deb")).unwrap();
    let index: String = evil
        .stanza
        .lines()
        .map(|line| if line.starts_with("Filename:") { "Filename: ./evil.deb" } else { line })
        .flat_map(|line| [line, "\n"])
        .collect();
    fs::write(third.join("Packages"), index).unwrap();
    fs::write(root.path("/etc/apt/sources.list.d/third.list"), "deb [trusted=yes] file:/srv/third ./\n")
        .unwrap();
    let only = ["-o", "Dir::Etc::SourceList=/dev/null", "-o", "APT::Sandbox::User=root"];
    ground.run(&[&["apt-get"], &only[..], &["update"]].concat());
    let offered = ground.run(&[&["apt-get"], &only[..], &["-s", "install", "evil"]].concat());
    assert!(offered.contains("Inst evil"), "the third source is in force: {offered}");

    ground.approve(ground.package("demo-a", "2", "Depends: demo-virtual\n", &[]));
    let error = ground.prepare(&ground.batch()).unwrap_err();
    assert_eq!(error.failure().symbol(), "DEP-UNSAT", "{error}");
    assert!(error.to_string().contains("demo-a needs demo-virtual"), "{error}");
    assert_eq!(ground.version("evil"), "");

    ground.dependencies.push(ground.package("demo-mail", "1", "Provides: demo-virtual\n", &[]));
    assert_eq!(ground.install(), Verdict::Done(std::collections::BTreeMap::new()));
    assert_eq!((ground.version("demo-mail"), ground.version("evil")), ("installed 1".into(), String::new()));

    // Impossible whatever there is.
    ground.updates.clear();
    ground.approve(ground.package("demo-a", "3", "Depends: dpkg (>= 999)\n", &[]));
    let error = ground.prepare(&ground.batch()).unwrap_err();
    assert_eq!(error.failure().symbol(), "DEP-UNSAT", "{error}");
    assert!(error.to_string().contains("dpkg (>= 999)"), "{error}");
    assert_eq!(ground.version("demo-a"), "installed 2");
}

/// Something mounted over `/usr` of the root; unmounted when the test is over.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn new(ground: &Ground, options: &str) -> Self {
        let usr = ground.site.root.path("/usr");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&usr)).unwrap();
        Self(usr)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// reliability.md 4 #69: a read-only system and one without inodes are seen before anything starts.
#[test]
fn bad_input_69_a_disk_that_takes_no_files_is_seen_before_anything_starts() {
    let mut ground = Ground::new();
    ground.install_by_hand(&ground.package("demo-a", "1", "", &[]));
    ground.approve(ground.package("demo-a", "2", "", &[]));
    for (options, symbol, remedy) in
        [("ro", "PRE-RO", "remount it writable"), ("nr_inodes=50", "PRE-INODES", "remove small files")]
    {
        let mounted = Mounted::new(&ground, options);
        let error = ground.prepare(&ground.batch()).unwrap_err();
        drop(mounted);
        assert_eq!(error.failure().symbol(), symbol, "{error}");
        assert!(error.to_string().contains(remedy), "{error}");
    }
    let database = ground.site.root.path("/var/lib/dpkg");
    run(Command::new("mount").arg("--bind").args([&database, &database])).unwrap();
    let mounted = Mounted(database.clone());
    run(Command::new("mount").args(["-o", "remount,bind,ro"]).arg(&database)).unwrap();
    let error = ground.prepare(&ground.batch()).unwrap_err();
    drop(mounted);
    assert_eq!(error.failure().symbol(), "PRE-RO", "{error}");
    assert_eq!(ground.version("demo-a"), "installed 1");
    assert_eq!(ground.install(), Verdict::Done(std::collections::BTreeMap::new()), "with room it is");
}
