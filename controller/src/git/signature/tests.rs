use std::{path::Path, process::Command};

use super::*;

/// Runs a real program; its output is the test's evidence when it fails.
fn run(dir: &Path, program: &str, args: &[&str]) {
    let output = Command::new(program)
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn key(dir: &Path, name: &str, kind: &[&str]) -> Vec<u8> {
    let mut args = vec!["-q", "-N", "", "-C", name, "-f", name, "-t"];
    args.extend(kind);
    run(dir, "ssh-keygen", &args);
    std::fs::read(dir.join(format!("{name}.pub"))).unwrap()
}

/// A repository whose one commit is signed by `key`, by real git and ssh-keygen.
fn signed(dir: &Path, key: Option<&str>) -> (Repository, Oid) {
    run(dir, "git", &["init", "-q", "-b", "main", "r"]);
    let repo = dir.join("r");
    for (name, value) in [("user.name", "a"), ("user.email", "a@b.c"), ("gpg.format", "ssh")] {
        run(&repo, "git", &["config", name, value]);
    }
    if let Some(key) = key {
        let path = dir.join(key);
        run(&repo, "git", &["config", "user.signingkey", path.to_str().unwrap()]);
        run(&repo, "git", &["commit", "-q", "--allow-empty", "-S", "-m", "x"]);
    } else {
        run(&repo, "git", &["commit", "-q", "--allow-empty", "-m", "x"]);
    }
    let repository = Repository::open(&repo).unwrap();
    let head = repository.head().unwrap().peel_to_commit().unwrap().id();
    (repository, head)
}

fn signers(public: &[u8]) -> Signers {
    Signers::parse(&BTreeMap::from([("admins.sshpub".to_owned(), public.to_vec())])).unwrap()
}

#[test]
fn bad_input_40_ssh_signed_commits() {
    let dir = tempfile::tempdir().unwrap();
    let alice = key(dir.path(), "alice", &["ed25519"]);
    let mallory = key(dir.path(), "mallory", &["ed25519"]);
    let (repository, head) = signed(dir.path(), Some("alice"));
    let now = Timestamp::UNIX_EPOCH;
    let by = signers(&alice).verify_commit(&repository, head, now).unwrap();
    assert!(by.len() == 1 && by.iter().all(|signer| signer.starts_with("SSH SHA256:")), "{by:?}");
    let error = signers(&mallory).verify_commit(&repository, head, now).unwrap_err();
    assert!(matches!(error, SignatureError::Unknown { .. }), "{error}");
}

#[test]
fn bad_input_40_unsigned_commit() {
    let dir = tempfile::tempdir().unwrap();
    let alice = key(dir.path(), "alice", &["ed25519"]);
    let (repository, head) = signed(dir.path(), None);
    let error = signers(&alice).verify_commit(&repository, head, Timestamp::UNIX_EPOCH).unwrap_err();
    assert!(error.to_string().starts_with("SIG-MISSING"), "{error}");
}

#[test]
fn bad_input_41_weak_rsa() {
    let dir = tempfile::tempdir().unwrap();
    let weak = key(dir.path(), "weak", &["rsa", "-b", "2048"]);
    let (repository, head) = signed(dir.path(), Some("weak"));
    let error = signers(&weak).verify_commit(&repository, head, Timestamp::UNIX_EPOCH).unwrap_err();
    assert!(error.to_string().starts_with("SIG-WEAK"), "{error}");
}

#[test]
fn a_secret_without_a_key_is_named() {
    let error = Signers::parse(&BTreeMap::from([("notes.txt".to_owned(), vec![1])])).err().unwrap();
    assert!(error.to_string().contains("*.asc"), "{error}");
    let error =
        Signers::parse(&BTreeMap::from([("a.sshpub".to_owned(), b"ssh-ed25519 AAAA".to_vec())])).err();
    assert!(error.unwrap().to_string().contains("a.sshpub"));
}

/// Keys and signatures by the real gpg, in a home of its own.
struct Gpg {
    home: tempfile::TempDir,
}

impl Gpg {
    fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    fn run(&self, args: &[&str], input: &[u8]) -> Vec<u8> {
        use std::{io::Write as _, process::Stdio};
        let mut child = Command::new("gpg")
            .args(["--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""])
            .args(args)
            .env("GNUPGHOME", self.home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("gpg (Debian package gnupg): {error}"));
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "gpg {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// A signing key; its fingerprint.
    fn key(&self, name: &str, algorithm: &str, more: &[&str], expires: &str) -> String {
        let user = format!("{name} <{name}@patchtide.example>");
        let mut args = more.to_vec();
        args.extend(["--quick-generate-key", &user, algorithm, "sign", expires]);
        self.run(&args, b"");
        let list = self.run(&["--with-colons", "--list-keys", name], b"");
        let list = String::from_utf8(list).unwrap();
        let line = list.lines().find(|line| line.starts_with("fpr:")).unwrap();
        line.split(':').nth(9).unwrap().to_owned()
    }

    fn export(&self, names: &[&str]) -> Vec<u8> {
        let mut args = vec!["--armor", "--export"];
        args.extend(names);
        self.run(&args, b"")
    }

    fn revoke(&self, fingerprint: &str) {
        // gpg guards the certificate that it makes with every key by a colon in front of the armor.
        let file = self.home.path().join("openpgp-revocs.d").join(format!("{fingerprint}.rev"));
        let text = std::fs::read_to_string(file).unwrap().replace(":-----BEGIN", "-----BEGIN");
        self.run(&["--import"], text.as_bytes());
    }

    /// A commit signed with `args` (which keys, which digest, when); its id.
    fn commit(&self, repository: &Repository, files: &[(&str, &str)], parents: &[Oid], args: &[&str]) -> Oid {
        let mut index = git2::Index::new().unwrap();
        repository.set_index(&mut index).unwrap();
        if let Some(parent) = parents.first() {
            index.read_tree(&repository.find_commit(*parent).unwrap().tree().unwrap()).unwrap();
        }
        for (path, content) in files {
            let entry = git2::IndexEntry {
                ctime: git2::IndexTime::new(0, 0),
                mtime: git2::IndexTime::new(0, 0),
                dev: 0,
                ino: 0,
                mode: 0o100_644,
                uid: 0,
                gid: 0,
                file_size: 0,
                id: Oid::ZERO_SHA1,
                flags: 0,
                flags_extended: 0,
                path: path.as_bytes().to_vec(),
            };
            index.add_frombuffer(&entry, content.as_bytes()).unwrap();
        }
        let tree = repository.find_tree(index.write_tree_to(repository).unwrap()).unwrap();
        let who = git2::Signature::now("a", "a@patchtide.example").unwrap();
        let parents: Vec<_> = parents.iter().map(|id| repository.find_commit(*id).unwrap()).collect();
        let parents: Vec<_> = parents.iter().collect();
        let buffer = repository.commit_create_buffer(&who, &who, "x", &tree, &parents).unwrap();
        let mut all = args.to_vec();
        all.extend(["--armor", "--detach-sign"]);
        let signature = self.run(&all, &buffer);
        let text = std::str::from_utf8(&buffer).unwrap();
        repository.commit_signed(text, std::str::from_utf8(&signature).unwrap(), None).unwrap()
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf").args(["--kill", "all"]).env("GNUPGHOME", self.home.path()).status();
    }
}

fn now() -> Timestamp {
    use crate::clock::{Clock as _, SystemClock};
    SystemClock.now()
}

fn ring(bytes: Vec<u8>) -> Signers {
    Signers::parse(&BTreeMap::from([("people.asc".to_owned(), bytes)])).unwrap()
}

fn bare() -> (tempfile::TempDir, Repository) {
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::init_bare(folder.path()).unwrap();
    (folder, repository)
}

#[test]
fn bad_input_40_openpgp_unknown_expired_and_revoked_keys() {
    let (gpg, (_folder, repository)) = (Gpg::new(), bare());
    let alice = gpg.key("alice", "ed25519", &[], "never");
    gpg.key("mallory", "ed25519", &[], "never");
    let code = |signers: &Signers, commit| {
        signers
            .verify_commit(&repository, commit, now())
            .unwrap_err()
            .to_string()
            .split(':')
            .next()
            .unwrap()
            .to_owned()
    };
    let commit = gpg.commit(&repository, &[("a", "1")], &[], &["-u", "alice"]);
    let by = ring(gpg.export(&["alice"])).verify_commit(&repository, commit, now()).unwrap();
    assert_eq!(by, BTreeSet::from([format!("OpenPGP {}", alice.to_lowercase())]));
    assert_eq!(code(&ring(gpg.export(&["mallory"])), commit), "SIG-UNKNOWN");
    // A key that was good when it signed and has expired since.
    let past = ["--faked-system-time", "20200101T000000"];
    gpg.key("carol", "ed25519", &past, "2020-02-01");
    let late = gpg.commit(&repository, &[("a", "2")], &[], &[past[0], past[1], "-u", "carol"]);
    let carol = ring(gpg.export(&["carol"]));
    assert_eq!(code(&carol, late), "SIG-EXPIRED");
    // Judged by the time at which the revision was first seen, it was good.
    let then = "2020-01-02T00:00:00Z".parse().unwrap();
    carol.verify_commit(&repository, late, then).unwrap();
    let bob = gpg.key("bob", "ed25519", &[], "never");
    let before = gpg.commit(&repository, &[("a", "3")], &[], &["-u", "bob"]);
    ring(gpg.export(&["bob"])).verify_commit(&repository, before, now()).unwrap();
    gpg.revoke(&bob);
    assert_eq!(code(&ring(gpg.export(&["bob"])), before), "SIG-REVOKED");
}

#[test]
fn bad_input_40_one_of_two_signatures() {
    let (gpg, (_folder, repository)) = (Gpg::new(), bare());
    gpg.key("alice", "ed25519", &[], "never");
    gpg.key("bob", "ed25519", &[], "never");
    let signers = ring(gpg.export(&["alice", "bob"]));
    let two = Rules { threshold: 2, paths: Vec::new() };
    let judged =
        |commit| two.enough("revision".into(), &signers.verify_commit(&repository, commit, now()).unwrap());
    let both = gpg.commit(&repository, &[("a", "1")], &[], &["-u", "alice", "-u", "bob"]);
    judged(both).unwrap();
    let one = gpg.commit(&repository, &[("a", "2")], &[], &["-u", "alice"]);
    let error = judged(one).unwrap_err().to_string();
    assert!(error.starts_with("SIG-THRESHOLD: revision is signed by 1 of the 2"), "{error}");
    // The same key twice is one signature.
    let twice = gpg.commit(&repository, &[("a", "3")], &[], &["-u", "alice", "-u", "alice"]);
    assert!(judged(twice).is_err());
}

#[test]
fn bad_input_40_a_key_that_is_not_allowed_for_the_path() {
    let (gpg, (_folder, repository)) = (Gpg::new(), bare());
    let alice = gpg.key("alice", "ed25519", &[], "never");
    gpg.key("bob", "ed25519", &[], "never");
    let signers = ring(gpg.export(&["alice", "bob"]));
    let rules = Rules { threshold: 1, paths: vec![PathRule { path: "windows".into(), keys: vec![alice] }] };
    let check = |head, applied| rules.check_paths(&repository, &signers, head, applied, now());
    let first = gpg.commit(&repository, &[("windows/a.yaml", "1"), ("b.yaml", "1")], &[], &["-u", "alice"]);
    check(first, None).unwrap();
    // Bob may change what has no rule, before and after the source knows the revision.
    let elsewhere = gpg.commit(&repository, &[("b.yaml", "2")], &[first], &["-u", "bob"]);
    check(elsewhere, Some(first)).unwrap();
    check(elsewhere, None).unwrap();
    let window = gpg.commit(&repository, &[("windows/a.yaml", "2")], &[elsewhere], &["-u", "bob"]);
    let error = check(window, Some(elsewhere)).unwrap_err().to_string();
    assert!(error.starts_with("SIG-PATH") && error.contains("windows"), "{error}");
    // A commit of Alice on top does not make Bob's hers.
    let on_top = gpg.commit(&repository, &[("windows/b.yaml", "1")], &[window], &["-u", "alice"]);
    assert!(check(on_top, Some(elsewhere)).is_err());
    // Once it is in force (the rule came later), only what is new counts.
    check(on_top, Some(window)).unwrap();
}

/// Commits without end on top of a change must not make it forgotten, nor take for ever to look through.
#[test]
fn bad_input_40_a_change_buried_under_commits_is_not_accepted() {
    let (gpg, (folder, repository)) = (Gpg::new(), bare());
    let alice = gpg.key("alice", "ed25519", &[], "never");
    gpg.key("bob", "ed25519", &[], "never");
    let signers = ring(gpg.export(&["alice", "bob"]));
    let rules = Rules { threshold: 1, paths: vec![PathRule { path: "windows".into(), keys: vec![alice] }] };
    let first = gpg.commit(&repository, &[("windows/a.yaml", "1")], &[], &["-u", "alice"]);
    let change = gpg.commit(&repository, &[("windows/a.yaml", "2")], &[first], &["-u", "bob"]);
    let mut stream = format!("reset refs/heads/main\nfrom {change}\n\n");
    for _ in 0..20_001 {
        stream.push_str("commit refs/heads/main\ncommitter b <b@c> 1700000000 +0000\ndata 1\nx\n");
    }
    let path = folder.path().join("stream");
    std::fs::write(&path, stream).unwrap();
    let mut git = Command::new("git");
    git.arg("--git-dir").arg(repository.path()).args(["fast-import", "--quiet"]);
    assert!(git.stdin(std::fs::File::open(&path).unwrap()).status().unwrap().success());
    let head = repository.refname_to_id("refs/heads/main").unwrap();
    for applied in [None, Some(first)] {
        let started = std::time::Instant::now();
        let error = rules.check_paths(&repository, &signers, head, applied, now()).unwrap_err();
        assert!(matches!(&error, SignatureError::TooFar { path, .. } if path == "windows"), "{error}");
        assert!(error.to_string().starts_with("SIG-PATH") && started.elapsed().as_secs() < 10, "{error}");
    }
    // What is in force needs no look at how it came about.
    rules.check_paths(&repository, &signers, head, Some(head), now()).unwrap();
}

#[test]
fn bad_input_41_openpgp_weak_keys_and_digests() {
    let (gpg, (_folder, repository)) = (Gpg::new(), bare());
    for (name, algorithm, digest) in
        [("small", "rsa2048", "SHA512"), ("old", "dsa2048", "SHA256"), ("digest", "rsa3072", "SHA1")]
    {
        gpg.key(name, algorithm, &[], "never");
        let commit = gpg.commit(&repository, &[("a", name)], &[], &["--digest-algo", digest, "-u", name]);
        let error =
            ring(gpg.export(&[name])).verify_commit(&repository, commit, now()).unwrap_err().to_string();
        assert!(error.starts_with("SIG-WEAK"), "{name}: {error}");
    }
}

#[test]
fn an_ssh_key_signs_only_while_allowed_signers_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let alice = key(dir.path(), "alice", &["ed25519"]);
    let (repository, head) = signed(dir.path(), Some("alice"));
    let line = format!("alice@b.c valid-before=\"20260101\" {}", String::from_utf8(alice).unwrap());
    let signers =
        Signers::parse(&BTreeMap::from([("allowed_signers".to_owned(), line.into_bytes())])).unwrap();
    signers.verify_commit(&repository, head, "2025-12-31T00:00:00Z".parse().unwrap()).unwrap();
    let error =
        signers.verify_commit(&repository, head, "2026-01-01T00:00:00Z".parse().unwrap()).unwrap_err();
    assert!(error.to_string().starts_with("SIG-EXPIRED"), "{error}");
}
