//! OpenPGP signatures of archives (and of whoever else signs what a site takes in), checked in process by rpgp.
//!
//! rpgp verifies single signatures; which key may sign, until when, and how strong it must be is decided here,
//! strictly: no SHA-1 or MD5 anywhere in the chain, no RSA below 2048 bits, no DSA, no expired or revoked key.

mod keys;

use std::fmt;

use jiff::Timestamp;
use pgp::composed::{CleartextSignedMessage, Deserializable, DetachedSignature, SignedPublicKey};
use pgp::packet::{Signature, SignatureType};
use pgp::types::{Fingerprint, KeyDetails};

use keys::{check_data, check_primary, check_strength, check_subkey, rsa_bits};

/// Signatures in one message that are looked at; archives have one to four.
const MAX_SIGNATURES: usize = 32;

/// How far ahead of our clock a signature may be made, in seconds.
const CLOCK_TOLERANCE: i64 = 300;

const ARMOR_KEY: &[u8] = b"-----BEGIN PGP PUBLIC KEY BLOCK-----";
const BEGIN_MESSAGE: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
const BEGIN_SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----";
const END_SIGNATURE: &str = "-----END PGP SIGNATURE-----";

/// The keys that are trusted for one source.
#[derive(Debug, Clone)]
pub struct Keyring {
    keys: Vec<SignedPublicKey>,
    unreadable: usize,
}

/// Why bytes are no keyring.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// Nothing in it.
    #[error("the keyring has no OpenPGP public key: give one or more exported keys, binary or ASCII-armored")]
    Empty,
    /// It cannot be read at all.
    #[error("the keyring cannot be read as OpenPGP public keys, binary or ASCII-armored")]
    Unreadable(#[source] pgp::errors::Error),
}

/// A text whose signature holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedText {
    /// Exactly the signed text, line ends as LF.
    pub text: String,
    /// Who signed it.
    pub signer: Signer,
}

/// A key of the keyring that made a good signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// Fingerprint of the primary key, lower-case hexadecimal.
    pub fingerprint: String,
    /// When the signature was made.
    pub made: Timestamp,
    /// Size of the key that made it, where it is an RSA key: who asks for more than this module does decides by it.
    pub rsa_bits: Option<usize>,
}

/// Why one signature does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Made by a key that is not in the keyring; its id or fingerprint.
    UnknownKey(String),
    /// The key has expired; its fingerprint.
    KeyExpired(String),
    /// The key has been revoked; its fingerprint.
    KeyRevoked(String),
    /// The key may not sign, or is not bound to a primary key by a valid signature; its fingerprint.
    KeyNotForSigning(String),
    /// The key is too weak; its fingerprint and why.
    WeakKey(String, &'static str),
    /// The signature uses a hash that can be forged.
    WeakHash(String),
    /// The signature does not belong to this text, made with this key.
    Wrong(String),
    /// The signature has expired.
    Expired,
    /// The signature was made after now, or has no time.
    Time,
    /// The signature is of another type or has a critical part that is not understood.
    Unsupported,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey(id) => write!(f, "key {id} is not in the keyring"),
            Self::KeyExpired(id) => write!(f, "key {id} has expired"),
            Self::KeyRevoked(id) => write!(f, "key {id} has been revoked"),
            Self::KeyNotForSigning(id) => write!(f, "key {id} may not sign"),
            Self::WeakKey(id, why) => write!(f, "key {id} is too weak ({why})"),
            Self::WeakHash(name) => write!(f, "the signature uses {name}, which is too weak"),
            Self::Wrong(id) => write!(f, "the signature of key {id} does not fit the text"),
            Self::Expired => write!(f, "the signature has expired"),
            Self::Time => write!(f, "the signature has no time or one in the future"),
            Self::Unsupported => write!(f, "the signature is of an unsupported kind"),
        }
    }
}

/// Why a text is not believed.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// Not one clearsigned block with nothing around it (reliability.md 4 #45).
    #[error("not exactly one signed block: {0}")]
    Framing(&'static str),
    /// The block cannot be parsed.
    #[error("the signed block cannot be parsed")]
    Unreadable(#[source] pgp::errors::Error),
    /// No signature counts; why, for each.
    #[error("no good signature: {}", reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    NoGood {
        /// One reason for each signature.
        reasons: Vec<Refusal>,
    },
}

impl SignatureError {
    /// Whether only keys are the matter: unknown, expired, revoked (reliability.md 4 #58); what is signed may be good.
    pub fn is_about_keys(&self) -> bool {
        let about_key = |r: &Refusal| {
            matches!(
                r,
                Refusal::UnknownKey(_)
                    | Refusal::KeyExpired(_)
                    | Refusal::KeyRevoked(_)
                    | Refusal::KeyNotForSigning(_)
            )
        };
        matches!(self, Self::NoGood { reasons } if !reasons.is_empty() && reasons.iter().all(about_key))
    }
}

impl Keyring {
    /// Reads concatenated transferable public keys, binary, or any number of ASCII-armored blocks.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyringError> {
        let mut ring = Self { keys: Vec::new(), unreadable: 0 };
        let mut failure = None;
        for block in armored_blocks(bytes) {
            match SignedPublicKey::from_reader_many(block) {
                Err(error) => {
                    ring.unreadable += 1;
                    failure = Some(error);
                }
                Ok((keys, _)) => {
                    for key in keys {
                        match key {
                            Ok(key) => ring.keys.push(key),
                            // One exotic key must not take the others with it.
                            Err(error) => {
                                ring.unreadable += 1;
                                failure = Some(error);
                            }
                        }
                    }
                }
            }
        }
        match (ring.keys.is_empty(), failure) {
            (false, _) => Ok(ring),
            (true, Some(error)) => Err(KeyringError::Unreadable(error)),
            (true, None) => Err(KeyringError::Empty),
        }
    }

    /// Fingerprints of the primary keys.
    pub fn fingerprints(&self) -> impl Iterator<Item = String> {
        self.keys.iter().map(|key| key.fingerprint().to_string())
    }

    /// Whether the key of this fingerprint may be believed now. What it has signed is not looked at.
    pub fn trusts(&self, fingerprint: &str, now: Timestamp) -> bool {
        let named = |key: &&SignedPublicKey| key.fingerprint().to_string() == fingerprint;
        self.keys.iter().filter(named).any(|key| check_primary(key, false, now.as_second()).is_ok())
    }

    /// How many keys could not be read and are not trusted for that reason.
    pub fn unreadable(&self) -> usize {
        self.unreadable
    }

    /// Checks a clearsigned text. One good signature of a trusted key suffices.
    pub fn verify_clearsigned(&self, bytes: &[u8], now: Timestamp) -> Result<SignedText, SignatureError> {
        let text =
            std::str::from_utf8(bytes).map_err(|_| SignatureError::Framing("the file is not UTF-8"))?;
        check_framing(text)?;
        // The parser takes an empty line at the end for data; `check_framing` has seen that it is nothing more.
        let block = text.trim_end();
        let (message, _) = CleartextSignedMessage::from_string(block).map_err(SignatureError::Unreadable)?;
        let text = message.signed_text();
        let signer = self.first_good(message.signatures(), text.as_bytes(), now)?;
        Ok(SignedText { text: text.replace("\r\n", "\n"), signer })
    }

    /// Checks a detached signature over data; the signature binary or ASCII-armored.
    pub fn verify_detached(
        &self,
        data: &[u8],
        signature: &[u8],
        now: Timestamp,
    ) -> Result<Signer, SignatureError> {
        self.first_good(&detached(signature)?, data, now)
    }

    /// Judges every detached signature over data: who made it, or why it does not count. For whoever wants several.
    pub fn judge_detached(
        &self,
        data: &[u8],
        signature: &[u8],
        now: Timestamp,
    ) -> Result<Vec<Result<Signer, Refusal>>, SignatureError> {
        let signatures = detached(signature)?;
        if signatures.is_empty() || signatures.len() > MAX_SIGNATURES {
            return Err(SignatureError::Framing("there must be 1 to 32 signatures"));
        }
        Ok(signatures.iter().map(|signature| self.check(signature, data, now.as_second())).collect())
    }

    fn first_good(
        &self,
        signatures: &[Signature],
        data: &[u8],
        now: Timestamp,
    ) -> Result<Signer, SignatureError> {
        if signatures.is_empty() {
            return Err(SignatureError::Framing("there is no signature"));
        }
        if signatures.len() > MAX_SIGNATURES {
            return Err(SignatureError::Framing("there are more than 32 signatures"));
        }
        let mut reasons = Vec::new();
        for signature in signatures {
            match self.check(signature, data, now.as_second()) {
                Ok(signer) => return Ok(signer),
                Err(reason) => reasons.push(reason),
            }
        }
        Err(SignatureError::NoGood { reasons })
    }

    fn check(&self, signature: &Signature, data: &[u8], now: i64) -> Result<Signer, Refusal> {
        check_strength(signature)?;
        if !matches!(signature.typ(), Some(SignatureType::Text | SignatureType::Binary)) {
            return Err(Refusal::Unsupported);
        }
        let made = i64::from(signature.created().ok_or(Refusal::Time)?.as_secs());
        if made > now + CLOCK_TOLERANCE {
            return Err(Refusal::Time);
        }
        let life = signature.signature_expiration_time().map_or(0, |life| i64::from(life.as_secs()));
        if life != 0 && made + life <= now {
            return Err(Refusal::Expired);
        }
        let mut reason = Refusal::UnknownKey(issuer(signature));
        for key in &self.keys {
            let result = if issued_by(signature, key) {
                check_primary(key, true, now)
                    .and_then(|()| check_data(signature, key, key, data))
                    .map(|()| rsa_bits(key))
            } else if let Some(subkey) =
                key.public_subkeys.iter().find(|subkey| issued_by(signature, *subkey))
            {
                check_primary(key, false, now)
                    .and_then(|()| check_subkey(key, subkey, now))
                    .and_then(|()| check_data(signature, subkey, key, data))
                    .map(|()| rsa_bits(subkey))
            } else {
                continue;
            };
            match result {
                Ok(rsa_bits) => {
                    let made = Timestamp::from_second(made).map_err(|_| Refusal::Time)?;
                    return Ok(Signer { fingerprint: key.fingerprint().to_string(), made, rsa_bits });
                }
                Err(why) => reason = why,
            }
        }
        Err(reason)
    }
}

/// The signatures of a detached block, one more than are looked at.
fn detached(signature: &[u8]) -> Result<Vec<Signature>, SignatureError> {
    let (parsed, _) = DetachedSignature::from_reader_many(signature).map_err(SignatureError::Unreadable)?;
    let all: Result<Vec<_>, _> = parsed.take(MAX_SIGNATURES + 1).collect();
    Ok(all.map_err(SignatureError::Unreadable)?.into_iter().map(|one| one.signature).collect())
}

/// Cuts ASCII-armored keyrings into their blocks; anything else is one block.
fn armored_blocks(bytes: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<usize> = memchr::memmem::find_iter(bytes, ARMOR_KEY).collect();
    if starts.is_empty() {
        return if bytes.is_empty() { Vec::new() } else { vec![bytes] };
    }
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    starts.iter().zip(ends).map(|(start, end)| &bytes[*start..end]).collect()
}

/// What a lenient parser would skip is exactly where an attack hides: anything before, between or after is refused.
fn check_framing(text: &str) -> Result<(), SignatureError> {
    let line_is = |line: &str, marker: &str| line.trim_end() == marker;
    let mut lines = text.lines();
    if !lines.next().is_some_and(|first| line_is(first, BEGIN_MESSAGE)) {
        let marker = text.contains(BEGIN_MESSAGE);
        return Err(SignatureError::Framing(if marker {
            "there is text before it"
        } else {
            "there is none"
        }));
    }
    let mut part = 0;
    for line in lines {
        let marker = line.starts_with("-----");
        part = match part {
            0 if line_is(line, BEGIN_SIGNATURE) => 1,
            0 if line.starts_with('-') && !line.starts_with("- ") => {
                return Err(SignatureError::Framing("a second block begins inside it"));
            }
            1 if line_is(line, END_SIGNATURE) => 2,
            1 if marker => return Err(SignatureError::Framing("the signature is not closed")),
            2 if !line.trim().is_empty() => {
                let second = marker && line_is(line, BEGIN_MESSAGE);
                return Err(SignatureError::Framing(if second {
                    "there is a second one"
                } else {
                    "there is text after it"
                }));
            }
            same => same,
        };
    }
    if part == 2 { Ok(()) } else { Err(SignatureError::Framing("it is cut off")) }
}

fn issuer(signature: &Signature) -> String {
    let fingerprint = signature.issuer_fingerprint().first().map(ToString::to_string);
    fingerprint
        .or_else(|| signature.issuer_key_id().first().map(ToString::to_string))
        .unwrap_or_else(|| "(not named)".into())
}

fn issued_by(signature: &Signature, key: &impl KeyDetails) -> bool {
    let fingerprints = signature.issuer_fingerprint();
    let own: Fingerprint = key.fingerprint();
    if !fingerprints.is_empty() {
        return fingerprints.iter().any(|f| **f == own);
    }
    let ids = signature.issuer_key_id();
    let own = key.legacy_key_id();
    ids.is_empty() || ids.iter().any(|id| **id == own)
}
