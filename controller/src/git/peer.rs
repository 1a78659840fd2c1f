//! Whether the server is the one that is meant: its TLS certificate or its ssh host key (bad-input catalogue #39).
//! There is no fallback: what is not shown to be right is refused.

use std::time::Duration;

use git2::cert::Cert;
use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _};
use ssh_key::{
    HashAlg, PublicKey,
    known_hosts::{Entry, HostPatterns, Marker},
};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// What is known of the server beforehand.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// Host of the URL, without brackets.
    pub host: &'a str,
    /// Port of the URL.
    pub port: u16,
    /// Certificate authorities, PEM; none: those of the system.
    pub authorities: Option<&'a str>,
    /// Lines of `known_hosts`.
    pub known_hosts: Option<&'a str>,
    /// The time.
    pub now: Timestamp,
}

/// What to do with what the server showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// It is the one.
    Trusted,
    /// The TLS library's own judgement, by the authorities of the system, stands.
    System,
}

/// Judges what the server showed; the error says why it is refused and what to do.
pub fn judge(cert: &Cert<'_>, expected: Expected<'_>) -> Result<Judgement, String> {
    if let Some(x509) = cert.as_x509() {
        return match expected.authorities {
            None => Ok(Judgement::System),
            Some(pem) => tls(x509.data(), pem, expected).map(|()| Judgement::Trusted),
        };
    }
    let key = cert.as_hostkey().and_then(git2::cert::CertHostkey::hostkey);
    let key = key.and_then(|raw| PublicKey::from_bytes(raw).ok());
    let key = key.ok_or("the server showed no host key that can be read")?;
    ssh(&key, expected).map(|()| Judgement::Trusted)
}

/// The leaf certificate against the authorities of the Secret. An intermediate certificate counts when it stands there.
fn tls(leaf: &[u8], pem: &str, expected: Expected<'_>) -> Result<(), String> {
    let given: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| format!("ca.crt of the Secret is not PEM: {error:?}"))?;
    let now = expected.now.as_second();
    // The verifier takes a trust anchor's word for ever, so an expired authority is taken out here.
    let valid = |der: &CertificateDer<'_>| {
        x509_parser::parse_x509_certificate(der).is_ok_and(|(_, certificate)| {
            let validity = certificate.validity();
            (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&now)
        })
    };
    let given: Vec<CertificateDer<'_>> = given.into_iter().filter(valid).collect();
    let anchors: Vec<_> = given.iter().filter_map(|der| anchor_from_trusted_cert(der).ok()).collect();
    if anchors.is_empty() {
        return Err("ca.crt of the Secret holds no certificate authority that is in force; put the present one in".into());
    }
    let leaf = CertificateDer::from(leaf);
    let leaf = EndEntityCert::try_from(&leaf).map_err(|error| format!("its certificate cannot be read: {error}"))?;
    let time = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now).unwrap_or_default()));
    leaf.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &anchors, &given, time, KeyUsage::server_auth(), None, None)
        .map_err(|error| format!("its certificate is not good by ca.crt of the Secret: {error}"))?;
    let name = ServerName::try_from(expected.host).map_err(|_| "the host of spec.url is no name".to_owned())?;
    leaf.verify_is_valid_for_subject_name(&name)
        .map_err(|_| format!("its certificate is for another name than {}", expected.host))
}

/// The host key against the lines of `known_hosts`, as OpenSSH reads them: by name, or by `[name]:port` for another
/// port than 22; `@revoked` refuses a key whatever else is said. Hashed names and authorities are not read.
fn ssh(key: &PublicKey, expected: Expected<'_>) -> Result<(), String> {
    let shown = format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256));
    let lines = expected.known_hosts.unwrap_or_default();
    let entries: Vec<Entry> = lines
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter_map(|line| line.parse().ok())
        .collect();
    let same = |entry: &&Entry| entry.public_key().key_data() == key.key_data();
    if entries.iter().filter(same).any(|entry| entry.marker() == Some(&Marker::Revoked)) {
        return Err(format!("known_hosts of the Secret says that the host key {shown} is revoked"));
    }
    let name = if expected.port == 22 { expected.host.to_owned() } else { format!("[{}]:{}", expected.host, expected.port) };
    let mut of_host = entries.iter().filter(|entry| entry.marker().is_none() && names(entry.host_patterns(), &name));
    if of_host.any(|entry| same(&entry)) {
        return Ok(());
    }
    let hashed = entries.iter().any(|entry| matches!(entry.host_patterns(), HostPatterns::HashedName { .. }));
    let hint = if hashed { " (hashed names are not read: write plain ones)" } else { "" };
    Err(format!(
        "the host key {shown} of {name} is not in known_hosts of the Secret{hint}; make sure that it is the server's, then add what ssh-keyscan says of it"
    ))
}

/// Whether the patterns name the host: `*` and `?` as usual, `!` takes out again.
fn names(patterns: &HostPatterns, host: &str) -> bool {
    let HostPatterns::Patterns(patterns) = patterns else { return false };
    let fits = |pattern: &str| wild(pattern.to_lowercase().as_bytes(), host.to_lowercase().as_bytes());
    patterns.iter().any(|pattern| fits(pattern))
        && !patterns.iter().filter_map(|pattern| pattern.strip_prefix('!')).any(fits)
}

/// A pattern with `*` and `?` against a text; linear memory, no recursion over the text.
fn wild(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    fn judged(known_hosts: &str, port: u16) -> Result<(), String> {
        let key: PublicKey = KEY.parse().unwrap();
        let expected = Expected {
            host: "git.example",
            port,
            authorities: None,
            known_hosts: Some(known_hosts),
            now: Timestamp::UNIX_EPOCH,
        };
        ssh(&key, expected)
    }

    #[test]
    fn known_hosts_is_read_as_openssh_reads_it() {
        judged(&format!("# hosts\ngit.example,10.0.0.1 {KEY}\n"), 22).unwrap();
        judged(&format!("*.example {KEY}"), 22).unwrap();
        judged(&format!("[git.example]:2222 {KEY}"), 2222).unwrap();
        for (lines, port) in [
            (format!("git.example {KEY}"), 2222),
            (format!("[git.example]:2222 {KEY}"), 22),
            (format!("*.example,!git.example {KEY}"), 22),
            (format!("other.example {KEY}"), 22),
            (format!("@cert-authority git.example {KEY}"), 22),
            (String::new(), 22),
        ] {
            assert!(judged(&lines, port).unwrap_err().contains("is not in known_hosts"), "{lines}");
        }
        let revoked = judged(&format!("git.example {KEY}\n@revoked * {KEY}"), 22).unwrap_err();
        assert!(revoked.contains("revoked"), "{revoked}");
    }

    #[test]
    fn wildcards() {
        assert!(wild(b"*", b"") && wild(b"a*c", b"abbc") && wild(b"?x*", b"xx") && wild(b"**a", b"ba"));
        assert!(!wild(b"a*c", b"abd") && !wild(b"?", b"") && !wild(b"a", b"ab"));
    }
}
