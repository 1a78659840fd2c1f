//! Certificates and keys of one control plane, made anew for each.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// Files in the control plane's folder, all PEM.
#[derive(Debug)]
pub(super) struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Makes them all in `folder`.
    pub(super) fn create(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let this = Self { folder: folder.to_owned() };
        let ca = authority("patchtide-test")?;
        this.write("ca.crt", &ca.pem())?;
        this.leaf(
            &ca,
            "apiserver",
            "kube-apiserver",
            &["localhost", "127.0.0.1", "kubernetes.default.svc", "kubernetes", "10.0.0.1"],
            ExtendedKeyUsagePurpose::ServerAuth,
        )?;
        // Requests that the aggregator passes on to an extension server carry this client certificate.
        let front = authority("patchtide-test-front-proxy")?;
        this.write("front-proxy-ca.crt", &front.pem())?;
        this.leaf(&front, "front-proxy", "front-proxy", &[], ExtendedKeyUsagePurpose::ClientAuth)?;
        let accounts = KeyPair::generate().context("cannot make a key")?;
        this.write("service-account.key", &accounts.serialize_pem())?;
        this.write("service-account.pub", &accounts.public_key_pem())?;
        Ok(this)
    }

    /// The path of one of the files.
    pub(super) fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn leaf(
        &self,
        issuer: &CertifiedIssuer<'static, KeyPair>,
        file: &str,
        name: &str,
        names: &[&str],
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<()> {
        let key = KeyPair::generate().context("cannot make a key")?;
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut request = CertificateParams::new(names).context("a certificate's name is not valid")?;
        request.distinguished_name.push(DnType::CommonName, name);
        request.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        request.extended_key_usages = vec![usage];
        request.use_authority_key_identifier_extension = true;
        let certificate = request.signed_by(&key, issuer).context("cannot sign a certificate")?;
        self.write(&format!("{file}.crt"), &certificate.pem())?;
        self.write(&format!("{file}.key"), &key.serialize_pem())
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

fn authority(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut request = CertificateParams::default();
    request.distinguished_name.push(DnType::CommonName, name);
    request.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    request.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate().context("cannot make a key")?;
    CertifiedIssuer::self_signed(request, key).context("cannot sign a CA certificate")
}
