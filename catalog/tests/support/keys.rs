//! OpenPGP keys and signatures made for a test.

use jiff::Timestamp;
use pgp::composed::{
    ArmorOptions, CleartextSignedMessage, EncryptionCaps, KeyType, SecretKeyParamsBuilder, SignedPublicKey,
    SignedSecretKey, SubkeyParamsBuilder,
};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{KeyFlags, SignatureConfig, SignatureType, Subpacket, SubpacketData};
use pgp::ser::Serialize;
use pgp::types::{Duration, KeyDetails, Password, SigningKey, Tag};

pub struct Key(pub SignedSecretKey);

/// How a text is signed.
#[derive(Clone, Copy)]
pub struct How {
    pub hash: HashAlgorithm,
    pub made: Timestamp,
    pub lives: Option<u32>,
    pub by_subkey: bool,
}

impl Default for How {
    fn default() -> Self {
        Self { hash: HashAlgorithm::Sha512, made: super::now(), lives: None, by_subkey: false }
    }
}

fn regular(data: SubpacketData) -> Subpacket {
    Subpacket::regular(data).unwrap()
}

fn seconds(time: Timestamp) -> pgp::types::Timestamp {
    pgp::types::Timestamp::from_secs(u32::try_from(time.as_second()).unwrap())
}

impl Key {
    pub fn new() -> Self {
        Self::of(KeyType::Ed25519Legacy, true)
    }

    pub fn of(kind: KeyType, can_sign: bool) -> Self {
        let mut subkey = SubkeyParamsBuilder::default();
        subkey
            .key_type(KeyType::Ed25519Legacy)
            .can_sign(true)
            .can_encrypt(EncryptionCaps::None)
            .can_authenticate(false);
        let mut params = SecretKeyParamsBuilder::default();
        params
            .key_type(kind)
            .can_certify(true)
            .can_sign(can_sign)
            .can_encrypt(EncryptionCaps::None)
            .primary_user_id("Archive <archive@archive.example>".into())
            .subkey(subkey.build().unwrap());
        Self(params.build().unwrap().generate(rand::thread_rng()).unwrap())
    }

    /// The same key, that ends so many seconds after it was made.
    pub fn living(mut self, life: u32) -> Self {
        let public = self.0.to_public_key();
        let mut flags = KeyFlags::default();
        flags.set_certify(true);
        flags.set_sign(true);
        let mut config = self.config(SignatureType::CertPositive, HashAlgorithm::Sha512, super::now());
        config.hashed_subpackets.push(regular(SubpacketData::KeyFlags(flags)));
        config.hashed_subpackets.push(regular(SubpacketData::KeyExpirationTime(Duration::from_secs(life))));
        let id = public.details.users[0].id.clone();
        let key = &self.0.primary_key;
        let signature = config
            .sign_certification(key, &public.primary_key, &Password::empty(), Tag::UserId, &id)
            .unwrap();
        self.0.details.users[0].signatures = vec![signature];
        self
    }

    /// Exported before its subkey was made.
    pub fn public_without_subkey(&self) -> Vec<u8> {
        let mut public = self.0.to_public_key();
        public.public_subkeys.clear();
        public.to_bytes().unwrap()
    }

    /// Fingerprint of the subkey.
    pub fn subkey(&self) -> String {
        self.0.secret_subkeys[0].key.fingerprint().to_string()
    }

    /// The same key, revoked.
    pub fn revoked(mut self) -> Self {
        let public = self.0.to_public_key();
        let config = self.config(SignatureType::KeyRevocation, HashAlgorithm::Sha512, super::now());
        let signature =
            config.sign_key(&self.0.primary_key, &Password::empty(), &public.primary_key).unwrap();
        self.0.details.revocation_signatures.push(signature);
        self
    }

    fn config(&self, typ: SignatureType, hash: HashAlgorithm, made: Timestamp) -> SignatureConfig {
        let key = &self.0.primary_key;
        let mut config = SignatureConfig::v4(typ, key.algorithm(), hash);
        config.hashed_subpackets = vec![
            regular(SubpacketData::SignatureCreationTime(seconds(made))),
            regular(SubpacketData::IssuerFingerprint(key.fingerprint())),
        ];
        config
    }

    pub fn fingerprint(&self) -> String {
        self.0.primary_key.fingerprint().to_string()
    }

    /// Exported, binary.
    pub fn public(&self) -> Vec<u8> {
        SignedPublicKey::from(self.0.clone()).to_bytes().unwrap()
    }

    /// Exported, ASCII-armored.
    pub fn armored(&self) -> String {
        self.0.to_public_key().to_armored_string(ArmorOptions::default()).unwrap()
    }

    pub fn clearsign(&self, text: &str) -> String {
        self.clearsign_as(text, How::default())
    }

    pub fn clearsign_as(&self, text: &str, how: How) -> String {
        let message = if how.by_subkey {
            Self::message(text, how, &self.0.secret_subkeys[0].key)
        } else {
            Self::message(text, how, &self.0.primary_key)
        };
        message.to_armored_string(ArmorOptions::default()).unwrap()
    }

    fn message(text: &str, how: How, key: &impl SigningKey) -> CleartextSignedMessage {
        let mut config = SignatureConfig::v4(SignatureType::Text, key.algorithm(), how.hash);
        config.hashed_subpackets = vec![
            regular(SubpacketData::SignatureCreationTime(seconds(how.made))),
            regular(SubpacketData::IssuerFingerprint(key.fingerprint())),
        ];
        if let Some(life) = how.lives {
            config
                .hashed_subpackets
                .push(regular(SubpacketData::SignatureExpirationTime(Duration::from_secs(life))));
        }
        CleartextSignedMessage::new(text, config, key, &Password::empty()).unwrap()
    }

    /// A detached signature, ASCII-armored.
    pub fn detached(&self, data: &[u8]) -> String {
        let config = self.config(SignatureType::Binary, HashAlgorithm::Sha512, super::now());
        let signature = config.sign(&self.0.primary_key, &Password::empty(), data).unwrap();
        pgp::composed::DetachedSignature::new(signature).to_armored_string(ArmorOptions::default()).unwrap()
    }
}

/// One text with the signatures of several keys.
pub fn clearsign_many(text: &str, keys: &[&Key]) -> String {
    let message = CleartextSignedMessage::new_many(text, |normalized| {
        keys.iter()
            .map(|key| {
                let config = key.config(SignatureType::Text, HashAlgorithm::Sha512, super::now());
                config.sign(&key.0.primary_key, &Password::empty(), normalized.as_bytes())
            })
            .collect()
    });
    message.unwrap().to_armored_string(ArmorOptions::default()).unwrap()
}
