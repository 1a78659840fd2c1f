//! Who signed a commit or tag: OpenPGP and SSH signatures, checked in process (bad-input catalogue #40, #41).

use std::collections::BTreeMap;

use git2::{Oid, Repository};
use jiff::Timestamp;
use patchtide_catalog::openpgp::{Keyring, Refusal, SignatureError as PgpError};
use ssh_key::{Algorithm, HashAlg, PublicKey, SshSig};

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
    ssh: Vec<PublicKey>,
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
    #[error("SIG-WRONG: the signature of {what} does not hold: {why}; the repository may have been tampered with")]
    Wrong {
        /// What.
        what: String,
        /// Detail.
        why: String,
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
                for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
                    let start = ["ssh-", "ecdsa-", "sk-"].iter().filter_map(|kind| line.find(kind)).min();
                    let start = start.ok_or_else(|| bad("a line holds no SSH public key".into()))?;
                    let public = PublicKey::from_openssh(&line[start..])
                        .map_err(|error| bad(format!("an SSH public key cannot be read: {error}")))?;
                    signers.ssh.push(public);
                }
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

    /// Who signed `commit`.
    pub fn verify_commit(&self, repository: &Repository, commit: Oid, now: Timestamp) -> Result<String, SignatureError> {
        let what = format!("commit {commit}");
        let (signature, content) = match repository.extract_signature(&commit, None) {
            Ok(parts) => parts,
            Err(error) if error.code() == git2::ErrorCode::NotFound => return Err(SignatureError::Missing(what)),
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
    ) -> Result<String, SignatureError> {
        let what = format!("tag {name}");
        let read = |error| SignatureError::Read(what.clone(), error);
        let odb = repository.odb().map_err(read)?;
        let object = odb.read(tag).map_err(read)?;
        if object.kind() != git2::ObjectType::Tag {
            return Err(SignatureError::Missing(what));
        }
        let data = object.data();
        let named = data.split(|byte| *byte == b'\n').take(4).any(|line| line == format!("tag {name}").as_bytes());
        if !named {
            return Err(SignatureError::Wrong { what, why: "it was made for another name".into() });
        }
        let start = [SSH_MARK, PGP_MARK].iter().filter_map(|mark| find(data, mark.as_bytes())).min();
        let start = start.ok_or_else(|| SignatureError::Missing(what.clone()))?;
        self.verify(&what, &data[..start], &data[start..], now)
    }

    fn verify(&self, what: &str, content: &[u8], signature: &[u8], now: Timestamp) -> Result<String, SignatureError> {
        let what = what.to_owned();
        if signature.starts_with(SSH_MARK.as_bytes()) {
            return self.verify_ssh(what, content, signature);
        }
        let mut last = SignatureError::Unknown { what: what.clone(), why: "no OpenPGP key is given".into() };
        for ring in &self.openpgp {
            match ring.verify_detached(content, signature, now) {
                Ok(signer) => return Ok(format!("OpenPGP {}", signer.fingerprint)),
                Err(error) => last = openpgp_error(&what, &error),
            }
        }
        Err(last)
    }

    fn verify_ssh(&self, what: String, content: &[u8], signature: &[u8]) -> Result<String, SignatureError> {
        let signature = SshSig::from_pem(signature)
            .map_err(|error| SignatureError::Wrong { what: what.clone(), why: error.to_string() })?;
        let fingerprint = signature.public_key().fingerprint(HashAlg::Sha256);
        let known = self.ssh.iter().find(|key| key.key_data() == signature.public_key());
        let Some(key) = known else {
            return Err(SignatureError::Unknown { what, why: format!("SSH key {fingerprint}") });
        };
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

fn openpgp_error(what: &str, error: &PgpError) -> SignatureError {
    let (what, why) = (what.to_owned(), error.to_string());
    let PgpError::NoGood { reasons } = error else {
        return SignatureError::Wrong { what, why };
    };
    match reasons.first() {
        Some(Refusal::UnknownKey(_) | Refusal::KeyNotForSigning(_)) => SignatureError::Unknown { what, why },
        Some(Refusal::KeyExpired(_) | Refusal::Expired) => SignatureError::Expired { what, why },
        Some(Refusal::KeyRevoked(_)) => SignatureError::Revoked { what, why },
        Some(Refusal::WeakKey(..) | Refusal::WeakHash(_)) => SignatureError::Weak { what, why },
        _ => SignatureError::Wrong { what, why },
    }
}

fn find(data: &[u8], mark: &[u8]) -> Option<usize> {
    data.windows(mark.len()).position(|window| window == mark)
}

#[cfg(test)]
mod tests {
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
        let signer = signers(&alice).verify_commit(&repository, head, now).unwrap();
        assert!(signer.starts_with("SSH SHA256:"), "{signer}");
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
        let error = Signers::parse(&BTreeMap::from([("a.sshpub".to_owned(), b"ssh-ed25519 AAAA".to_vec())])).err();
        assert!(error.unwrap().to_string().contains("a.sshpub"));
    }
}
