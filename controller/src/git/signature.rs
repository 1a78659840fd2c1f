//! Who signed a commit or tag: OpenPGP and SSH signatures, checked in process (bad-input catalogue #40, #41).

mod allowed;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use git2::{Oid, Repository};
use jiff::Timestamp;
use patchtide_catalog::openpgp::{Keyring, Refusal, SignatureError as PgpError};
use ssh_key::{Algorithm, HashAlg, SshSig};

use self::allowed::Trusted;
pub use self::rules::{PathRule, Rules};

const SSH_MARK: &str = "-----BEGIN SSH SIGNATURE-----";
const PGP_MARK: &str = "-----BEGIN PGP SIGNATURE-----";
/// Namespace that Git puts into its SSH signatures.
const SSH_NAMESPACE: &str = "git";
/// Bits of an RSA key below which it does not count.
const RSA_BITS: usize = 3_072;

/// The keys of the people who may sign.
#[derive(Default)]
pub struct Signers {
    openpgp: Vec<Keyring>,
    ssh: Vec<Trusted>,
}

/// Why a revision is not accepted, or the signers cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// The Secret holds no key, or one that cannot be read.
    #[error("SIG-KEYS: the Secret of spec.verify.secretRef, key {key}: {why}")]
    Keys {
        /// Key of the Secret.
        key: String,
        /// Why.
        why: String,
    },
    /// Not signed.
    #[error("SIG-MISSING: {0} is not signed; sign it with a key of spec.verify.secretRef")]
    Missing(String),
    /// Signed by somebody else.
    #[error("SIG-UNKNOWN: {what} is signed by a key that is not in spec.verify.secretRef: {why}")]
    Unknown {
        /// What.
        what: String,
        /// Detail.
        why: String,
    },
    /// Key or signature expired.
    #[error("SIG-EXPIRED: {what}: {why}; sign it anew with a key in force")]
    Expired {
        /// What.
        what: String,
        /// Detail.
        why: String,
    },
    /// Key revoked.
    #[error("SIG-REVOKED: {what}: {why}; sign it anew with another key")]
    Revoked {
        /// What.
        what: String,
        /// Detail.
        why: String,
    },
    /// Too weak.
    #[error("SIG-WEAK: {what}: {why}; use Ed25519, ECDSA or RSA of at least {RSA_BITS} bits with SHA-2")]
    Weak {
        /// What.
        what: String,
        /// Detail.
        why: String,
    },
    /// The signature does not fit.
    #[error(
        "SIG-WRONG: the signature of {what} does not hold: {why}; the repository may have been tampered with"
    )]
    Wrong {
        /// What.
        what: String,
        /// Detail.
        why: String,
    },
    /// Too few people signed.
    #[error(
        "SIG-THRESHOLD: {what} is signed by {have} of the {need} different keys that spec.verify.threshold asks for; let somebody else sign it too"
    )]
    Threshold {
        /// What.
        what: String,
        /// Good signatures of different keys.
        have: usize,
        /// Demanded.
        need: usize,
    },
    /// Somebody changed what is not theirs.
    #[error(
        "SIG-PATH: commit {commit} changes {path} and is signed by {who}, who is not in spec.verify.paths for it; let one of those who are make the change"
    )]
    Path {
        /// The commit.
        commit: Oid,
        /// The path of the rule.
        path: String,
        /// Who signed.
        who: String,
    },
    /// Too many commits to say who changed a path.
    #[error(
        "SIG-PATH: the last {longest} commits do not tell who changed {path} (spec.verify.paths); let one of those who may change it make a commit that changes it"
    )]
    TooFar {
        /// The path of the rule.
        path: String,
        /// Commits that are looked at.
        longest: usize,
    },
    /// Cannot be read.
    #[error("GIT-CORRUPT: {0} cannot be read from the object database")]
    Read(String, #[source] git2::Error),
}

impl Signers {
    /// Reads a Secret: `*.asc`, `*.pgp`, `*.gpg` are OpenPGP keyrings; `*.sshpub`, `*.pub` and `allowed_signers` hold
    /// SSH public keys, one a line.
    pub fn parse(secret: &BTreeMap<String, Vec<u8>>) -> Result<Self, SignatureError> {
        let mut signers = Self::default();
        for (key, bytes) in secret {
            let bad = |why: String| SignatureError::Keys { key: key.clone(), why };
            let ending = key.rsplit('.').next().unwrap_or_default();
            if matches!(ending, "asc" | "pgp" | "gpg") {
                signers.openpgp.push(Keyring::parse(bytes).map_err(|error| bad(error.to_string()))?);
            } else if matches!(ending, "sshpub" | "pub" | "allowed_signers") {
                let text = std::str::from_utf8(bytes).map_err(|_| bad("is not text".into()))?;
                signers.ssh.extend(allowed::parse(text).map_err(bad)?);
            }
        }
        if signers.openpgp.is_empty() && signers.ssh.is_empty() {
            return Err(SignatureError::Keys {
                key: "*".into(),
                why: "no key found; add *.asc (OpenPGP), *.sshpub or allowed_signers (SSH)".into(),
            });
        }
        Ok(signers)
    }

    /// Who signed `commit`: one or more keys, each once.
    pub fn verify_commit(
        &self,
        repository: &Repository,
        commit: Oid,
        now: Timestamp,
    ) -> Result<BTreeSet<String>, SignatureError> {
        let what = format!("commit {commit}");
        let (signature, content) = match repository.extract_signature(&commit, None) {
            Ok(parts) => parts,
            Err(error) if error.code() == git2::ErrorCode::NotFound => {
                return Err(SignatureError::Missing(what));
            }
            Err(error) => return Err(SignatureError::Read(what, error)),
        };
        self.verify(&what, &content, &signature, now)
    }

    /// Who signed the annotated tag `name`. The tag's own name must be the one asked for, so that a signed tag cannot
    /// be passed off as another.
    pub fn verify_tag(
        &self,
        repository: &Repository,
        tag: Oid,
        name: &str,
        now: Timestamp,
    ) -> Result<BTreeSet<String>, SignatureError> {
        let what = format!("tag {name}");
        let read = |error| SignatureError::Read(what.clone(), error);
        let odb = repository.odb().map_err(read)?;
        let object = odb.read(tag).map_err(read)?;
        if object.kind() != git2::ObjectType::Tag {
            return Err(SignatureError::Missing(what));
        }
        let data = object.data();
        let named =
            data.split(|byte| *byte == b'\n').take(4).any(|line| line == format!("tag {name}").as_bytes());
        if !named {
            return Err(SignatureError::Wrong { what, why: "it was made for another name".into() });
        }
        let start = [SSH_MARK, PGP_MARK].iter().filter_map(|mark| find(data, mark.as_bytes())).min();
        let start = start.ok_or_else(|| SignatureError::Missing(what.clone()))?;
        self.verify(&what, &data[..start], &data[start..], now)
    }

    fn verify(
        &self,
        what: &str,
        content: &[u8],
        signature: &[u8],
        now: Timestamp,
    ) -> Result<BTreeSet<String>, SignatureError> {
        if signature.starts_with(SSH_MARK.as_bytes()) {
            return self
                .verify_ssh(what.to_owned(), content, signature, now)
                .map(|signer| BTreeSet::from([signer]));
        }
        let mut good = BTreeSet::new();
        let mut worst: Option<SignatureError> = None;
        for ring in &self.openpgp {
            let judged = ring
                .judge_detached(content, signature, now)
                .map_err(|error| SignatureError::Wrong { what: what.to_owned(), why: pgp_text(&error) })?;
            for one in judged {
                match one {
                    Ok(signer) if signer.rsa_bits.is_some_and(|bits| bits < RSA_BITS) => {
                        let bits = signer.rsa_bits.unwrap_or_default();
                        let why = format!("RSA of {bits} bits");
                        worst = Some(SignatureError::Weak { what: what.to_owned(), why });
                    }
                    Ok(signer) => {
                        good.insert(format!("OpenPGP {}", signer.fingerprint));
                    }
                    Err(refusal) => {
                        let error = openpgp_error(what, &refusal);
                        // A key that another ring of the Secret knows is not unknown.
                        if worst.is_none() || !matches!(error, SignatureError::Unknown { .. }) {
                            worst = Some(error);
                        }
                    }
                }
            }
        }
        if good.is_empty() {
            Err(worst.unwrap_or_else(|| SignatureError::Unknown {
                what: what.to_owned(),
                why: "no OpenPGP key is given".into(),
            }))
        } else {
            Ok(good)
        }
    }

    fn verify_ssh(
        &self,
        what: String,
        content: &[u8],
        signature: &[u8],
        now: Timestamp,
    ) -> Result<String, SignatureError> {
        let signature = SshSig::from_pem(signature)
            .map_err(|error| SignatureError::Wrong { what: what.clone(), why: error.to_string() })?;
        let fingerprint = signature.public_key().fingerprint(HashAlg::Sha256);
        let known: Vec<&Trusted> =
            self.ssh.iter().filter(|trusted| trusted.key.key_data() == signature.public_key()).collect();
        let Some(first) = known.first() else {
            return Err(SignatureError::Unknown { what, why: format!("SSH key {fingerprint}") });
        };
        // One line that lets the key sign now is enough.
        let Some(trusted) = known.iter().find(|trusted| trusted.refuses(now).is_none()) else {
            let why = format!("SSH key {fingerprint} {}", first.refuses(now).unwrap_or_default());
            return Err(SignatureError::Expired { what, why });
        };
        let key = &trusted.key;
        if matches!(key.algorithm(), Algorithm::Dsa) {
            return Err(SignatureError::Weak { what, why: "DSA".into() });
        }
        if let Some(rsa) = key.key_data().rsa() {
            let bits = rsa.n.as_positive_bytes().map_or(0, |bytes| bytes.len() * 8);
            if bits < RSA_BITS {
                return Err(SignatureError::Weak { what, why: format!("RSA of {bits} bits") });
            }
        }
        key.verify(SSH_NAMESPACE, content, &signature)
            .map_err(|error| SignatureError::Wrong { what, why: error.to_string() })?;
        Ok(format!("SSH {fingerprint}"))
    }
}

fn pgp_text(error: &PgpError) -> String {
    crate::error::chain(error)
}

fn openpgp_error(what: &str, refusal: &Refusal) -> SignatureError {
    let (what, why) = (what.to_owned(), refusal.to_string());
    match refusal {
        Refusal::UnknownKey(_) | Refusal::KeyNotForSigning(_) => SignatureError::Unknown { what, why },
        Refusal::KeyExpired(_) | Refusal::Expired => SignatureError::Expired { what, why },
        Refusal::KeyRevoked(_) => SignatureError::Revoked { what, why },
        Refusal::WeakKey(..) | Refusal::WeakHash(_) => SignatureError::Weak { what, why },
        Refusal::Wrong(_) | Refusal::Time | Refusal::Unsupported => SignatureError::Wrong { what, why },
    }
}

fn find(data: &[u8], mark: &[u8]) -> Option<usize> {
    data.windows(mark.len()).position(|window| window == mark)
}
