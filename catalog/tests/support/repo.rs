//! A small archive, written as an archive tool would write it.

use std::collections::BTreeMap;
use std::io::Write;

use jiff::{SignedDuration, Timestamp};
use patchtide_model::Digest;

use super::keys::Key;

/// One package of the archive.
#[derive(Clone)]
pub struct Package {
    pub name: String,
    pub source: String,
    pub version: String,
    pub architecture: String,
    pub body: Vec<u8>,
    pub extra: String,
}

pub fn package(name: &str, version: &str) -> Package {
    Package {
        name: name.into(),
        source: name.into(),
        version: version.into(),
        architecture: "amd64".into(),
        body: format!("{name} {version}").into_bytes(),
        extra: String::new(),
    }
}

impl Package {
    pub fn path(&self) -> String {
        format!("pool/main/{}_{}_{}.deb", self.name, self.version, self.architecture)
    }

    pub fn stanza(&self) -> String {
        format!(
            "Package: {}\nSource: {}\nVersion: {}\nArchitecture: {}\nFilename: {}\nSize: {}\nSHA256: {}\n\
             Description: the package {}\n{}\n",
            self.name,
            self.source,
            self.version,
            self.architecture,
            self.path(),
            self.body.len(),
            Digest::of(&self.body),
            self.name,
            self.extra
        )
    }
}

/// The archive at one moment.
#[derive(Clone)]
pub struct Repo {
    pub suite: String,
    pub packages: Vec<Package>,
    pub date: Timestamp,
    pub valid_until: Option<Timestamp>,
    pub origin: String,
    pub architectures: Vec<String>,
    /// Indices as they are sent, by suffix; changed by tests that send something else.
    pub forms: Vec<&'static str>,
    /// Changes the text of an index before it is compressed.
    pub index_text: Option<Vec<u8>>,
    /// Changes the text of the release before it is signed.
    pub release_edit: fn(String) -> String,
}

pub fn repo(packages: Vec<Package>) -> Repo {
    Repo {
        suite: "stable".into(),
        packages,
        date: super::now().saturating_sub(SignedDuration::from_hours(1)).unwrap(),
        valid_until: Some(super::now().saturating_add(SignedDuration::from_hours(24)).unwrap()),
        origin: "Test".into(),
        architectures: vec!["amd64".into()],
        forms: vec![".xz", ".gz", ""],
        index_text: None,
        release_edit: |text| text,
    }
}

pub fn rfc(time: Timestamp) -> String {
    time.strftime("%a, %d %b %Y %H:%M:%S UTC").to_string()
}

pub fn compress(suffix: &str, bytes: &[u8]) -> Vec<u8> {
    match suffix {
        ".xz" => {
            let mut out = xz2::write::XzEncoder::new(Vec::new(), 1);
            out.write_all(bytes).unwrap();
            out.finish().unwrap()
        }
        ".gz" => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            out.write_all(bytes).unwrap();
            out.finish().unwrap()
        }
        ".zst" => zstd::encode_all(bytes, 1).unwrap(),
        _ => bytes.to_vec(),
    }
}

impl Repo {
    pub fn index(&self, architecture: &str) -> Vec<u8> {
        if let Some(text) = &self.index_text {
            return text.clone();
        }
        let of = |p: &&Package| p.architecture == architecture || p.architecture == "all";
        self.packages.iter().filter(of).map(Package::stanza).collect::<String>().into_bytes()
    }

    /// Indices by path below the suite, in every form.
    pub fn indices(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for architecture in &self.architectures {
            let text = self.index(architecture);
            for form in &self.forms {
                files.insert(format!("main/binary-{architecture}/Packages{form}"), compress(form, &text));
            }
        }
        files
    }

    /// The release, not signed.
    pub fn release(&self) -> String {
        let mut text = format!(
            "Origin: {}\nLabel: Test-Security\nSuite: {}\nCodename: {}\nDate: {}\n",
            self.origin,
            self.suite,
            self.suite,
            rfc(self.date)
        );
        if let Some(until) = self.valid_until {
            text += &format!("Valid-Until: {}\n", rfc(until));
        }
        text += &format!(
            "Acquire-By-Hash: yes\nArchitectures: {}\nComponents: main\nSHA256:\n",
            self.architectures.join(" ")
        );
        for (path, bytes) in self.indices() {
            text += &format!(" {} {} {path}\n", Digest::of(&bytes), bytes.len());
        }
        (self.release_edit)(text)
    }

    /// Everything that a server of this archive has, without `by-hash`.
    pub fn files(&self, key: &Key) -> BTreeMap<String, Vec<u8>> {
        let base = format!("dists/{}", self.suite);
        let mut files: BTreeMap<String, Vec<u8>> =
            self.indices().into_iter().map(|(path, bytes)| (format!("{base}/{path}"), bytes)).collect();
        files.insert(format!("{base}/InRelease"), key.clearsign(&self.release()).into_bytes());
        for package in &self.packages {
            let path = package.path().replace('+', "%2B").replace('~', "%7E").replace(':', "%3A");
            files.insert(path, package.body.clone());
        }
        files
    }

    /// The same indices under their hashes.
    pub fn by_hash(&self) -> BTreeMap<String, Vec<u8>> {
        let of = |(path, bytes): (String, Vec<u8>)| {
            let directory = path.rsplit_once('/').unwrap().0.to_owned();
            (format!("dists/{}/{directory}/by-hash/SHA256/{}", self.suite, Digest::of(&bytes)), bytes)
        };
        self.indices().into_iter().map(of).collect()
    }
}
