//! Fetching from real servers: `git http-backend` behind TLS, and sshd; and from servers that misbehave. What a server
//! sends is bad input 31, 37, 38 and 39 of the catalogue (reliability 4).

#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub, dead_code, reason = "a test")]

mod hostile;
mod live;
mod ssh;
#[path = "../support/mod.rs"]
mod support;
mod tls;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use patchtide_controller::{
    clock::{Clock as _, SystemClock},
    git::fetch::{Cache, Credentials, FetchError, Fetched, Limits, Reference, Request},
};
use patchtide_tests::git::Repository;
use ssh::Sshd;
use tls::{Identity, Manner, Server, exported};

struct Bed {
    folder: tempfile::TempDir,
    repository: Repository,
    head: String,
}

impl Bed {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let repository = Repository::init(&folder.path().join("fleet")).unwrap();
        // Enough bytes, and none that deflate to nothing, for a pack whose middle is data.
        let noise: Vec<String> =
            (0_u64..4_000).map(|n| format!("{:x}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect();
        let noise = noise.join("\n");
        let head = repository.commit("one", &[("noise.txt", &noise), ("a.yaml", "kind: X\n")]).unwrap();
        Self { folder, repository, head }
    }

    fn serve(&self, identity: &Identity, manner: Manner) -> (Server, String) {
        let (root, name) = exported(self.repository.path());
        let server = Server::start(&root, identity, manner);
        let url = server.url(&name);
        (server, url)
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn fetch(&self, url: &str, credentials: Credentials, time: u64) -> Result<Fetched, FetchError> {
        let request = Request {
            url: url.to_owned(),
            reference: Reference::Branch("main".into()),
            credentials,
            limits: Limits { time: Duration::from_secs(time), bytes: 4 << 20, ..Limits::default() },
            applied: None,
            allow_rewrite: false,
            now: SystemClock.now(),
        };
        Cache::new(&self.cache()).fetch(&request)
    }
}

fn password(identity: &Identity) -> Credentials {
    Credentials {
        username: Some(tls::USER.0.to_owned()),
        password: Some(tls::USER.1.to_owned()),
        authorities: Some(identity.authority.clone()),
        ..Credentials::default()
    }
}

fn key(sshd: &Sshd) -> Credentials {
    Credentials {
        identity: Some(sshd.identity()),
        password: Some(ssh::PASSPHRASE.to_owned()),
        known_hosts: Some(sshd.known_hosts()),
        ..Credentials::default()
    }
}

fn code(result: Result<Fetched, FetchError>) -> String {
    let text = result.unwrap_err().to_string();
    text.split(':').next().unwrap().to_owned()
}

#[test]
fn https_with_a_password_and_a_private_authority() {
    let (bed, identity) = (Bed::new(), Identity::new("localhost", 2099));
    let (_server, url) = bed.serve(&identity, Manner::Honest);
    assert_eq!(bed.fetch(&url, password(&identity), 60).unwrap().commit.to_string(), bed.head);
    let wrong = Credentials { password: Some("guess".into()), ..password(&identity) };
    assert_eq!(code(bed.fetch(&url, wrong, 60)), "GIT-AUTH");
    let none = Credentials { username: None, password: None, ..password(&identity) };
    assert_eq!(code(bed.fetch(&url, none, 60)), "GIT-AUTH");
}

#[test]
fn bad_input_39_a_tls_server_that_is_not_the_one() {
    let bed = Bed::new();
    let good = Identity::new("localhost", 2099);
    let check = |identity: &Identity, credentials: Credentials, says: &str| {
        let (server, url) = bed.serve(identity, Manner::Honest);
        let error = bed.fetch(&url, credentials, 60).unwrap_err();
        assert!(matches!(&error, FetchError::Peer(why) if why.contains(says)), "{error}");
        // No fallback: neither another try without a check nor one without TLS.
        assert!(server.connections.load(std::sync::atomic::Ordering::Relaxed) <= 1);
    };
    let other_name = Identity::new("elsewhere.example", 2099);
    check(&other_name, password(&other_name), "not valid for name");
    let expired = Identity::new("localhost", 2021);
    check(&expired, password(&expired), "in force");
    check(&good, password(&other_name), "UnknownIssuer");
    // Without an authority of its own the system's count, and they do not know it.
    check(&good, Credentials { authorities: None, ..password(&good) }, "UnknownIssuer");
}

#[test]
fn ssh_with_a_protected_key_and_a_known_host() {
    let bed = Bed::new();
    let sshd = Sshd::start(&bed.folder.path().join("ssh"));
    let url = sshd.url(bed.repository.path());
    assert_eq!(bed.fetch(&url, key(&sshd), 60).unwrap().commit.to_string(), bed.head);
    let locked = Credentials { password: Some("guess".into()), ..key(&sshd) };
    assert!(bed.fetch(&url, locked, 60).is_err());
}

#[test]
fn bad_input_39_an_ssh_host_key_that_changed() {
    let bed = Bed::new();
    let sshd = Sshd::start(&bed.folder.path().join("ssh"));
    let before = Sshd::start(&bed.folder.path().join("before"));
    let url = sshd.url(bed.repository.path());
    // What known_hosts says is the key of the server as it was.
    let old = before.known_hosts().replace(&before.port.to_string(), &sshd.port.to_string());
    for known_hosts in [Some(old), Some("# nothing\n".to_owned()), None] {
        let error = bed.fetch(&url, Credentials { known_hosts, ..key(&sshd) }, 60).unwrap_err();
        assert!(matches!(&error, FetchError::Peer(why) if why.contains("not in known_hosts")), "{error}");
    }
    let revoked =
        format!("{}\n@revoked * {}", sshd.known_hosts(), sshd.known_hosts().split_once(' ').unwrap().1);
    let error = bed.fetch(&url, Credentials { known_hosts: Some(revoked), ..key(&sshd) }, 60).unwrap_err();
    assert!(matches!(&error, FetchError::Peer(why) if why.contains("revoked")), "{error}");
}

#[test]
fn bad_input_38_a_server_that_says_nothing_or_never_ends_is_left_in_time() {
    let (bed, identity) = (Bed::new(), Identity::new("localhost", 2099));
    for manner in [Manner::Silent, Manner::Drip] {
        let (_server, url) = bed.serve(&identity, manner.clone());
        let started = Instant::now();
        let error = bed.fetch(&url, password(&identity), 3).unwrap_err();
        assert!(matches!(error, FetchError::Timeout(_)), "{manner:?}: {error:?}");
        assert!(error.to_string().starts_with("GIT-TIMEOUT"), "{error}");
        // The thread comes back: nothing hangs on the server.
        let took = started.elapsed().as_secs_f64();
        assert!((2.5..8.0).contains(&took), "{manner:?}: {took} s");
    }
}

#[test]
fn bad_input_37_references_without_end_stop_at_the_limit_of_bytes() {
    let (bed, identity) = (Bed::new(), Identity::new("localhost", 2099));
    let (_server, url) = bed.serve(&identity, Manner::Endless);
    let error = bed.fetch(&url, password(&identity), 60).unwrap_err();
    assert!(error.to_string().starts_with("GIT-LIMIT") && error.to_string().contains("bytes"), "{error:?}");
}

#[test]
fn bad_input_31_packs_that_are_cut_off_or_damaged_are_not_believed() {
    let (bed, identity) = (Bed::new(), Identity::new("localhost", 2099));
    for manner in [Manner::Truncated(1_000), Manner::Damaged] {
        let (server, url) = bed.serve(&identity, manner.clone());
        let error = bed.fetch(&url, password(&identity), 60).unwrap_err();
        assert!(error.is_of_connection(), "{manner:?}: {error}");
        // The same server, honest again: everything is fetched anew.
        server.honest.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(
            bed.fetch(&url, password(&identity), 60).unwrap().commit.to_string(),
            bed.head,
            "{manner:?}"
        );
        std::fs::remove_dir_all(bed.cache()).unwrap();
    }
}

#[test]
fn a_redirect_to_another_host_gets_no_credentials() {
    let (bed, identity) = (Bed::new(), Identity::new("localhost", 2099));
    let (_server, url) = bed.serve(&identity, Manner::Redirect);
    let error = bed.fetch(&url, password(&identity), 60).unwrap_err();
    assert!(
        matches!(&error, FetchError::Redirect(to) if to.starts_with("https://elsewhere.example/")),
        "{error:?}"
    );
}

#[test]
fn nobody_there_is_told_with_the_cause() {
    let bed = Bed::new();
    let port = patchtide_tests::ports::PortLease::take().unwrap();
    let error =
        bed.fetch(&format!("https://localhost:{}/r", port.port()), Credentials::default(), 20).unwrap_err();
    assert!(matches!(&error, FetchError::Unreachable(why) if why.contains("refused")), "{error}");
}
