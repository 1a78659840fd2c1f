//! Signatures: which are believed (reliability.md 4 #41, #45, #58).

#![allow(clippy::panic, clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::OnceLock;

use jiff::SignedDuration;
use patchtide_catalog::openpgp::{Keyring, Refusal, SignatureError};
use pgp::composed::KeyType;
use pgp::crypto::hash::HashAlgorithm;
use proptest::prelude::*;
use support::keys::{How, Key, clearsign_many};
use support::now;

const TEXT: &str = "Origin: Test\nSuite: stable\n- dashed\nFrom here\n";

fn reasons(error: SignatureError) -> Vec<Refusal> {
    match error {
        SignatureError::NoGood { reasons } => reasons,
        other => panic!("{other}"),
    }
}

#[test]
fn a_good_signature_gives_exactly_the_text() {
    let key = Key::new();
    for by_subkey in [false, true] {
        let signed = key.clearsign_as(TEXT, How { by_subkey, ..How::default() });
        for ring in [key.public(), key.armored().into_bytes()] {
            let good = Keyring::parse(&ring).unwrap().verify_clearsigned(signed.as_bytes(), now()).unwrap();
            assert_eq!(good.text, TEXT);
            assert_eq!(good.signer.fingerprint, key.fingerprint());
        }
    }
    let signer = Keyring::parse(&key.public()).unwrap().verify_detached(
        b"data",
        key.detached(b"data").as_bytes(),
        now(),
    );
    assert_eq!(signer.unwrap().fingerprint, key.fingerprint());
}

#[test]
fn keyrings_of_several_keys_binary_and_armored() {
    let (a, b, c) = (Key::new(), Key::new(), Key::new());
    let binary = [a.public(), b.public()].concat();
    let armored = format!("{}\n{}", a.armored(), b.armored());
    for ring in [binary, armored.into_bytes()] {
        let ring = Keyring::parse(&ring).unwrap();
        assert_eq!(ring.fingerprints().collect::<Vec<_>>(), [a.fingerprint(), b.fingerprint()]);
        assert!(ring.verify_clearsigned(b.clearsign(TEXT).as_bytes(), now()).is_ok());
        // One good signature of several suffices.
        let signed = clearsign_many(TEXT, &[&c, &b]);
        assert_eq!(
            ring.verify_clearsigned(signed.as_bytes(), now()).unwrap().signer.fingerprint,
            b.fingerprint()
        );
    }
    for junk in [
        &b""[..],
        b"hello",
        b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n-----END PGP PUBLIC KEY BLOCK-----\n",
    ] {
        assert!(Keyring::parse(junk).is_err());
    }
}

#[test]
fn bad_input_45_anything_around_the_signed_block() {
    let key = Key::new();
    let ring = Keyring::parse(&key.public()).unwrap();
    let signed = key.clearsign(TEXT);
    let other = key.clearsign("Origin: Other\n");
    for (bad, why) in [
        (TEXT.to_owned(), "no signature at all"),
        (String::new(), "empty"),
        (format!("Evil: yes\n{signed}"), "text before"),
        (format!("\n{signed}"), "an empty line before"),
        (format!("{signed}Evil: yes\n"), "text after"),
        (format!("{signed}{other}"), "two blocks"),
        (
            signed.replace("-----BEGIN PGP SIGNATURE-----", "Evil: yes\n-----BEGIN PGP SIGNATURE-----"),
            "text changed",
        ),
        (signed.replace("\n\nOrigin", "\nEvil: yes\n\nOrigin"), "text in the header"),
        (signed.replace("\n\nOrigin", "\n \nEvil: yes\n\nOrigin"), "text in the header behind a blank line"),
        (signed[..signed.len() / 2].to_owned(), "cut"),
        (signed[..signed.len() - 30].to_owned(), "cut at the end"),
        (signed.replace("Origin: Test", "-----BEGIN PGP SIGNED MESSAGE-----\nOrigin: Test"), "nested"),
        (signed.replace("-----END PGP SIGNATURE-----\n", ""), "not closed"),
    ] {
        assert!(ring.verify_clearsigned(bad.as_bytes(), now()).is_err(), "{why}");
    }
    assert!(ring.verify_clearsigned(&[0xff, 0xfe], now()).is_err());
    let padded = format!("{signed}\n \n");
    assert!(ring.verify_clearsigned(padded.as_bytes(), now()).is_ok(), "white space after is nothing");
}

#[test]
fn bad_input_45_a_changed_text_is_refused() {
    let key = Key::new();
    let ring = Keyring::parse(&key.public()).unwrap();
    let changed = key.clearsign(TEXT).replace("Origin: Test", "Origin: Evil");
    let error = ring.verify_clearsigned(changed.as_bytes(), now()).unwrap_err();
    assert!(!error.is_about_keys());
    assert_eq!(reasons(error), [Refusal::Wrong(key.fingerprint())]);
    let detached = ring.verify_detached(b"other", key.detached(b"data").as_bytes(), now()).unwrap_err();
    assert_eq!(reasons(detached), [Refusal::Wrong(key.fingerprint())]);
}

#[test]
fn bad_input_58_unknown_expired_and_revoked_keys_are_named() {
    let (key, stranger) = (Key::new(), Key::new());
    let signed = stranger.clearsign(TEXT);
    let error =
        Keyring::parse(&key.public()).unwrap().verify_clearsigned(signed.as_bytes(), now()).unwrap_err();
    assert!(error.is_about_keys());
    assert_eq!(reasons(error), [Refusal::UnknownKey(stranger.fingerprint())]);

    let expiring = Key::new().living(3600);
    let signed = expiring.clearsign(TEXT);
    let ring = Keyring::parse(&expiring.public()).unwrap();
    assert!(ring.verify_clearsigned(signed.as_bytes(), now()).is_ok());
    let later = now().saturating_add(SignedDuration::from_hours(2)).unwrap();
    let error = ring.verify_clearsigned(signed.as_bytes(), later).unwrap_err();
    assert!(error.is_about_keys());
    assert_eq!(reasons(error), [Refusal::KeyExpired(expiring.fingerprint())]);

    let revoked = Key::new().revoked();
    for by_subkey in [false, true] {
        let signed = revoked.clearsign_as(TEXT, How { by_subkey, ..How::default() });
        let error = Keyring::parse(&revoked.public())
            .unwrap()
            .verify_clearsigned(signed.as_bytes(), now())
            .unwrap_err();
        assert_eq!(reasons(error), [Refusal::KeyRevoked(revoked.fingerprint())]);
    }
}

#[test]
fn bad_input_58_a_key_that_may_not_sign() {
    let key = Key::of(KeyType::Ed25519Legacy, false);
    let ring = Keyring::parse(&key.public()).unwrap();
    let error = ring.verify_clearsigned(key.clearsign(TEXT).as_bytes(), now()).unwrap_err();
    assert_eq!(reasons(error), [Refusal::KeyNotForSigning(key.fingerprint())]);
    // Its signing subkey may.
    let signed = key.clearsign_as(TEXT, How { by_subkey: true, ..How::default() });
    assert!(ring.verify_clearsigned(signed.as_bytes(), now()).is_ok());
    // A subkey whose binding belongs to another key is nobody's.
    let (mut thief, victim) = (Key::new(), Key::new());
    thief.0.secret_subkeys = victim.0.secret_subkeys.clone();
    let signed = victim.clearsign_as(TEXT, How { by_subkey: true, ..How::default() });
    let error =
        Keyring::parse(&thief.public()).unwrap().verify_clearsigned(signed.as_bytes(), now()).unwrap_err();
    assert!(matches!(reasons(error).as_slice(), [Refusal::KeyNotForSigning(_)]));
}

#[test]
fn bad_input_41_weak_hashes() {
    let key = Key::of(KeyType::Rsa(2048), true);
    let ring = Keyring::parse(&key.public()).unwrap();
    assert!(ring.verify_clearsigned(key.clearsign(TEXT).as_bytes(), now()).is_ok());
    for hash in [HashAlgorithm::Sha1, HashAlgorithm::Md5, HashAlgorithm::Sha224] {
        let signed = key.clearsign_as(TEXT, How { hash, ..How::default() });
        let error = ring.verify_clearsigned(signed.as_bytes(), now()).unwrap_err();
        assert_eq!(reasons(error), [Refusal::WeakHash(hash.to_string())]);
    }
}

#[test]
fn signatures_that_are_over_or_not_yet() {
    let key = Key::new();
    let ring = Keyring::parse(&key.public()).unwrap();
    let hour = SignedDuration::from_hours(1);
    let old = How { made: now().saturating_sub(hour).unwrap(), lives: Some(60), ..How::default() };
    assert_eq!(
        reasons(ring.verify_clearsigned(key.clearsign_as(TEXT, old).as_bytes(), now()).unwrap_err()),
        [Refusal::Expired]
    );
    let future = How { made: now().saturating_add(hour).unwrap(), ..How::default() };
    assert_eq!(
        reasons(ring.verify_clearsigned(key.clearsign_as(TEXT, future).as_bytes(), now()).unwrap_err()),
        [Refusal::Time]
    );
}

fn signed() -> &'static (Keyring, Vec<u8>, Vec<u8>) {
    static SIGNED: OnceLock<(Keyring, Vec<u8>, Vec<u8>)> = OnceLock::new();
    SIGNED.get_or_init(|| {
        let key = Key::new();
        (Keyring::parse(&key.public()).unwrap(), key.clearsign(TEXT).into_bytes(), key.public())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever is changed in a signed block, it is refused, or the change meant nothing: never another text.
    #[test]
    fn no_change_makes_another_text(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..4)) {
        let (ring, block, _) = signed();
        let mut block = block.clone();
        for (at, byte, how) in changes {
            let at = at.index(block.len());
            match how {
                0 => block[at] = byte,
                1 => block.insert(at, byte),
                _ => { block.remove(at); }
            }
        }
        if let Ok(good) = ring.verify_clearsigned(&block, now()) {
            prop_assert_eq!(good.text, TEXT);
        }
    }

    #[test]
    fn spoilt_keyrings_never_panic(at in any::<prop::sample::Index>(), byte in any::<u8>(), end in any::<prop::sample::Index>()) {
        let (_, block, public) = signed();
        let mut public = public.clone();
        let at = at.index(public.len());
        public[at] = byte;
        public.truncate(end.index(public.len()) + 1);
        if let Ok(ring) = Keyring::parse(&public)
            && let Ok(good) = ring.verify_clearsigned(block, now())
        {
            prop_assert_eq!(good.text, TEXT);
        }
    }
}
