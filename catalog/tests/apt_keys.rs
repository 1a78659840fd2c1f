//! An archive's keys end, change and are taken away (reliability.md 4 #58): refused with `APT-KEY` and the fingerprint, and
//! what was accepted before stays.

#![allow(clippy::panic, clippy::unwrap_used, reason = "tests")]

mod support;

use jiff::SignedDuration;
use patchtide_catalog::apt::{AptSource, AptState, LineResult, Mode, Run, RunOptions};
use patchtide_catalog::openpgp::Keyring;
use support::keys::{How, Key};
use support::repo::{Repo, package, repo};
use support::server::Server;
use support::{changed, fetcher, now, refused, run_one, source};

const RELEASE: &str = "dists/stable/InRelease";

fn archive() -> Repo {
    repo(vec![package("a", "1"), package("b", "1")])
}

/// Publishes the archive and reads it once with this keyring.
async fn read(server: &Server, key: &Key, ring: &[u8]) -> (AptSource, AptState) {
    server.files(archive().files(key));
    let source = source(&server.url, ring);
    let (result, state) = run_one(source.clone(), AptState::default()).await;
    changed(result);
    (source, state)
}

/// Refused with the code, and with this fingerprint for people to look for.
async fn refuses(source: &AptSource, state: &AptState, fingerprint: &str, what: &str) {
    let (result, after) = run_one(source.clone(), state.clone()).await;
    let error = refused(result);
    assert_eq!(error.code(), "APT-KEY", "{}", error.chain());
    assert!(error.chain().contains(&format!("key {fingerprint} {what}")), "{}", error.chain());
    assert_eq!(after.lines, state.lines);
}

#[tokio::test]
async fn bad_input_58_an_archive_that_changes_its_key_waits_for_the_new_one() {
    let (old, new, server) = (Key::new(), Key::new(), Server::start().await);
    let (source, state) = read(&server, &old, &old.public()).await;
    server.files(Repo { date: now(), ..archive() }.files(&new));
    refuses(&source, &state, &new.fingerprint(), "is not in the keyring").await;
    // The keyring has got the new one.
    let both = [old.public(), new.public()].concat();
    let source = AptSource { keyring: Keyring::parse(&both).unwrap(), ..source };
    let (result, state) = run_one(source, state).await;
    assert!(result.is_ok());
    assert_eq!(state.suites["stable"].signer, new.fingerprint());
}

#[tokio::test]
async fn bad_input_58_a_subkey_that_the_keyring_does_not_have() {
    let (key, server) = (Key::new(), Server::start().await);
    let (source, state) = read(&server, &key, &key.public_without_subkey()).await;
    let release = Repo { date: now(), ..archive() }.release();
    let signed = key.clearsign_as(&release, How { by_subkey: true, ..How::default() });
    server.file(RELEASE, signed);
    refuses(&source, &state, &key.subkey(), "is not in the keyring").await;
    let source = AptSource { keyring: Keyring::parse(&key.public()).unwrap(), ..source };
    assert!(run_one(source, state).await.0.is_ok());
}

/// "Not modified" is an answer about the file, not about the key.
#[tokio::test]
async fn bad_input_58_an_expired_key_is_noticed_although_nothing_changed() {
    let (key, server) = (Key::new().living(3600), Server::start().await);
    let (source, state) = read(&server, &key, &key.public()).await;
    let at = async |hours| {
        let now = now().saturating_add(SignedDuration::from_hours(hours)).unwrap();
        let options = RunOptions::default();
        let mut run = Run::new(fetcher(), source.clone(), state.clone(), Mode::Full, now, options).unwrap();
        run.next().await.unwrap().result
    };
    assert!(matches!(at(0).await, Ok(LineResult::Unchanged { .. })));
    let error = refused(at(2).await);
    assert_eq!(error.code(), "APT-KEY", "{}", error.chain());
    assert!(error.chain().contains(&format!("key {} has expired", key.fingerprint())), "{}", error.chain());
}

#[tokio::test]
async fn bad_input_58_a_key_that_is_taken_away_is_not_trusted_any_more() {
    let (key, other, server) = (Key::new(), Key::new(), Server::start().await);
    let (source, state) = read(&server, &key, &[key.public(), other.public()].concat()).await;
    let source = AptSource { keyring: Keyring::parse(&other.public()).unwrap(), ..source };
    refuses(&source, &state, &key.fingerprint(), "is not in the keyring").await;
}

/// What one archive said about its file is no question to another.
#[tokio::test]
async fn another_mirror_is_asked_for_the_whole_release() {
    let (key, server, mirror) = (Key::new(), Server::start().await, Server::start().await);
    let (source, state) = read(&server, &key, &key.public()).await;
    mirror.files(archive().files(&key));
    let source = AptSource { url: mirror.url.parse().unwrap(), ..source };
    let (result, _) = run_one(source, state).await;
    assert!(matches!(result, Ok(LineResult::Unchanged { .. })));
    assert_eq!(mirror.take_requests()[0].1, "", "no condition");
}
