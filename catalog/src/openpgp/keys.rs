//! Which keys may sign, and with what strength.

use pgp::composed::{SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType, SubpacketData};
use pgp::types::{EcdsaPublicParams, KeyDetails, PublicParams, Tag, VerifyingKey};
use rsa::traits::PublicKeyParts as _;

use super::{CLOCK_TOLERANCE, Refusal};

/// Hash and critical parts of a signature, also of those that bind keys.
pub(super) fn check_strength(signature: &Signature) -> Result<(), Refusal> {
    match signature.hash_alg() {
        Some(
            HashAlgorithm::Sha256
            | HashAlgorithm::Sha384
            | HashAlgorithm::Sha512
            | HashAlgorithm::Sha3_256
            | HashAlgorithm::Sha3_512,
        ) => {}
        Some(weak) => return Err(Refusal::WeakHash(weak.to_string())),
        None => return Err(Refusal::Unsupported),
    }
    let unknown = signature.config().is_none_or(|config| {
        config.hashed_subpackets().any(|p| {
            p.is_critical
                && matches!(
                    p.data,
                    SubpacketData::Other(..) | SubpacketData::Experimental(..) | SubpacketData::Notation(_)
                )
        })
    });
    if unknown { Err(Refusal::Unsupported) } else { Ok(()) }
}

/// Size of an RSA key.
pub(super) fn rsa_bits(key: &impl KeyDetails) -> Option<usize> {
    match key.public_params() {
        PublicParams::RSA(rsa) => Some(rsa.key.size() * 8),
        _ => None,
    }
}

pub(super) fn check_key_strength(key: &impl KeyDetails) -> Result<(), Refusal> {
    let weak = |why| Err(Refusal::WeakKey(key.fingerprint().to_string(), why));
    match key.public_params() {
        PublicParams::RSA(rsa) if rsa.key.size() < 256 => weak("RSA below 2048 bits"),
        PublicParams::RSA(_)
        | PublicParams::EdDSALegacy(_)
        | PublicParams::Ed25519(_)
        | PublicParams::Ed448(_)
        | PublicParams::ECDSA(
            EcdsaPublicParams::P256 { .. } | EcdsaPublicParams::P384 { .. } | EcdsaPublicParams::P521 { .. },
        ) => Ok(()),
        PublicParams::DSA(_) => weak("DSA"),
        _ => weak("its algorithm is not accepted"),
    }
}

pub(super) fn check_data<K: VerifyingKey>(
    signature: &Signature,
    key: &K,
    primary: &SignedPublicKey,
    data: &[u8],
) -> Result<(), Refusal> {
    check_key_strength(key)?;
    signature.verify(key, data).map_err(|_| Refusal::Wrong(primary.fingerprint().to_string()))
}

/// `None` = the signature says nothing about what the key is for.
fn may_sign(binding: &Signature) -> Option<bool> {
    binding.config()?.hashed_subpackets().find_map(|p| match &p.data {
        SubpacketData::KeyFlags(flags) => Some(flags.sign()),
        _ => None,
    })
}

fn latest<'a>(signatures: impl Iterator<Item = &'a Signature>, now: i64) -> Option<&'a Signature> {
    let made = |s: &Signature| s.created().map_or(i64::MAX, |t| i64::from(t.as_secs()));
    signatures.filter(|s| made(s) <= now + CLOCK_TOLERANCE).max_by_key(|s| made(s))
}

fn check_life(key: &impl KeyDetails, binding: &Signature, now: i64) -> Result<(), Refusal> {
    let life = binding.key_expiration_time().map_or(0, |life| i64::from(life.as_secs()));
    let expired = life != 0 && i64::from(key.created_at().as_secs()) + life <= now;
    if expired { Err(Refusal::KeyExpired(key.fingerprint().to_string())) } else { Ok(()) }
}

/// The primary key: bound by its own newest signature, alive, not revoked and, when it signs itself, allowed to.
pub(super) fn check_primary(key: &SignedPublicKey, signs: bool, now: i64) -> Result<(), Refusal> {
    let primary = &key.primary_key;
    let name = || key.fingerprint().to_string();
    check_key_strength(primary)?;
    if key.details.revocation_signatures.iter().any(|s| s.verify_key(primary).is_ok()) {
        return Err(Refusal::KeyRevoked(name()));
    }
    let strong = |s: &&Signature| check_strength(s).is_ok();
    let direct =
        key.details.direct_signatures.iter().filter(strong).filter(|s| s.verify_key(primary).is_ok());
    let users = key.details.users.iter().filter(|user| {
        let mut revocations =
            user.signatures.iter().filter(|s| s.typ() == Some(SignatureType::CertRevocation));
        !revocations.any(|s| s.verify_certification(primary, Tag::UserId, &user.id).is_ok())
    });
    let certified = users.flat_map(|user| {
        user.signatures
            .iter()
            .filter(strong)
            .filter(|s| s.verify_certification(primary, Tag::UserId, &user.id).is_ok())
    });
    let binding = latest(direct.chain(certified), now).ok_or_else(|| Refusal::KeyNotForSigning(name()))?;
    check_life(primary, binding, now)?;
    if signs && may_sign(binding) == Some(false) { Err(Refusal::KeyNotForSigning(name())) } else { Ok(()) }
}

/// A subkey: bound by the primary key, agreeing to it by a signature of its own, for signing, alive, not revoked.
pub(super) fn check_subkey(
    key: &SignedPublicKey,
    subkey: &SignedPublicSubKey,
    now: i64,
) -> Result<(), Refusal> {
    let name = || subkey.fingerprint().to_string();
    let valid = |s: &&Signature| s.verify_subkey_binding(&key.primary_key, &subkey.key).is_ok();
    let of_type = |typ| move |s: &&Signature| s.typ() == Some(typ);
    if subkey.signatures.iter().filter(of_type(SignatureType::SubkeyRevocation)).any(|s| valid(&s)) {
        return Err(Refusal::KeyRevoked(name()));
    }
    let bindings = subkey.signatures.iter().filter(of_type(SignatureType::SubkeyBinding));
    let bindings = bindings.filter(|s| check_strength(s).is_ok()).filter(valid);
    let binding = latest(bindings, now).ok_or_else(|| Refusal::KeyNotForSigning(name()))?;
    check_life(subkey, binding, now)?;
    let agrees = binding.embedded_signature().is_some_and(|back| {
        check_strength(back).is_ok() && back.verify_primary_key_binding(&subkey.key, &key.primary_key).is_ok()
    });
    if may_sign(binding) == Some(true) && agrees { Ok(()) } else { Err(Refusal::KeyNotForSigning(name())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgp::crypto::public_key::PublicKeyAlgorithm;
    use pgp::packet::PubKeyInner;
    use pgp::types::KeyVersion;

    /// reliability.md 4 #41: no library makes such keys any more, so one is put together from a number.
    #[test]
    fn bad_input_41_rsa_below_2048_bits_is_weak() {
        for (bytes, good) in [(128, false), (255, false), (256, true), (512, true)] {
            let modulus = rsa::BigUint::from_bytes_be(&vec![0xff; bytes]);
            let key = rsa::RsaPublicKey::new(modulus, rsa::BigUint::from(65_537_u32)).unwrap();
            let created = pgp::types::Timestamp::from_secs(0);
            let params = PublicParams::RSA(key.into());
            let key =
                PubKeyInner::new(KeyVersion::V4, PublicKeyAlgorithm::RSA, created, None, params).unwrap();
            let key = pgp::packet::PublicKey::from_inner(key).unwrap();
            assert_eq!(check_key_strength(&key).is_ok(), good, "{bytes} bytes");
        }
    }
}
