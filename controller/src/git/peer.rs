//! Whether the server is the one that is meant: its TLS certificate or its ssh host key (bad-input catalogue #39).
//! There is no fallback: what is not shown to be right is refused.

use std::sync::Arc;

use git2::cert::Cert;
use jiff::Timestamp;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use ssh_key::{
    HashAlg, PublicKey,
    known_hosts::{Entry, HostPatterns, Marker},
};

/// What is known of an ssh server beforehand.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// Host of the URL, without brackets.
    pub host: &'a str,
    /// Port of the URL.
    pub port: u16,
    /// Lines of `known_hosts`.
    pub known_hosts: Option<&'a str>,
}

/// Judges what the server showed to libgit2: a host key. The error says why it is refused and what to do.
pub fn judge(cert: &Cert<'_>, expected: Expected<'_>) -> Result<(), String> {
    let key = cert.as_hostkey().and_then(git2::cert::CertHostkey::hostkey);
    let key = key.and_then(|raw| PublicKey::from_bytes(raw).ok());
    ssh(&key.ok_or("it showed no host key that can be read")?, expected)
}

/// How TLS is spoken to a server: by the authorities given (PEM), or by those of the system.
pub fn tls(authorities: Option<&str>, now: Timestamp) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let given = match authorities {
        Some(pem) => CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| format!("ca.crt of the Secret is not PEM: {error:?}"))?
            .into_iter()
            .filter(|der| in_force(der, now))
            .collect(),
        None => rustls_native_certs::load_native_certs().certs,
    };
    // One that cannot be read is no authority; the others stay.
    roots.add_parsable_certificates(given);
    if roots.is_empty() {
        return Err(match authorities {
            Some(_) => "ca.crt of the Secret holds no certificate authority that is in force; put the present one in".into(),
            None => "this system knows no certificate authority; install its ca-certificates, or put ca.crt into the Secret".into(),
        });
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

/// A verifier takes an authority's word for ever, so an expired one is taken out beforehand.
fn in_force(der: &CertificateDer<'_>, now: Timestamp) -> bool {
    x509_parser::parse_x509_certificate(der).is_ok_and(|(_, certificate)| {
        let validity = certificate.validity();
        (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&now.as_second())
    })
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
    let name = if expected.port == 22 {
        expected.host.to_owned()
    } else {
        format!("[{}]:{}", expected.host, expected.port)
    };
    let mut of_host =
        entries.iter().filter(|entry| entry.marker().is_none() && names(entry.host_patterns(), &name));
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

    #[expect(clippy::unwrap_in_result, reason = "the fixture itself must be readable")]
    fn judged(known_hosts: &str, port: u16) -> Result<(), String> {
        let key: PublicKey = KEY.parse().unwrap();
        let expected = Expected { host: "git.example", port, known_hosts: Some(known_hosts) };
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
