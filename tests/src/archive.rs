//! The Debian archive that this machine's apt is configured for: found at run time, never written down.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::run;

/// The Debian release that test hosts are made from.
pub const RELEASE: &str = "bookworm";

/// Key of Debian's archives, used when a source names none.
const DEBIAN_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One suite of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suite {
    /// The archive's address, without a slash at its end.
    pub url: String,
    /// The suite's name as it stands in the path, for example `bookworm-security`.
    pub suite: String,
    /// The components that the configuration enables.
    pub components: Vec<String>,
    /// The keyring that its signature is checked against.
    pub keyring: PathBuf,
}

impl Suite {
    /// The address of a file of this suite's folder.
    pub fn file(&self, name: &str) -> String {
        format!("{}/dists/{}/{name}", self.url, self.suite)
    }

    /// The line for `sources.list`, component `main` alone.
    pub fn source_line(&self) -> String {
        format!("deb [signed-by={}] {} {} main", self.keyring.display(), self.url, self.suite)
    }
}

/// The suites that the product is tested with.
#[derive(Debug, Clone)]
pub struct Archive {
    /// `bookworm`.
    pub main: Suite,
    /// `bookworm-security`.
    pub security: Suite,
    /// The machine's Debian architecture, for example `amd64`.
    pub architecture: String,
}

impl Archive {
    /// Reads the machine's apt configuration.
    pub fn detect() -> Result<Self> {
        let folder = Path::new("/etc/apt");
        let suites = read_configuration(folder)?;
        let find = |name: &str| -> Result<Suite> {
            suites
                .iter()
                .find(|suite| suite.suite == name && suite.components.iter().any(|part| part == "main"))
                .cloned()
                .with_context(|| {
                    let known: Vec<_> = suites.iter().map(|suite| suite.suite.as_str()).collect();
                    format!(
                        "no apt source for {name} main in {}: add one, its suites are {known:?} (Debian 12 is needed)",
                        folder.display()
                    )
                })
        };
        let (main, security) = (find(RELEASE)?, find(&format!("{RELEASE}-security"))?);
        for suite in [&main, &security] {
            if !suite.keyring.is_file() {
                bail!(
                    "the keyring {} of {} does not exist: install the package debian-archive-keyring",
                    suite.keyring.display(),
                    suite.suite
                );
            }
        }
        let architecture = run(Command::new("dpkg").arg("--print-architecture"))?.trim().to_owned();
        Ok(Self { main, security, architecture })
    }
}

/// Fetches a file by apt's own methods, hence with the proxy and the certificates of the machine's apt.
pub fn download(url: &str, file: &Path) -> Result<()> {
    run(Command::new("/usr/lib/apt/apt-helper").arg("download-file").arg(url).arg(file))
        .with_context(|| format!("cannot fetch {url}"))?;
    Ok(())
}

/// The `Date` of a suite's signed release file, as it stands there.
pub fn release_date(suite: &Suite) -> Result<String> {
    let folder = tempfile::tempdir().context("cannot create a folder")?;
    let file = folder.path().join("InRelease");
    download(&suite.file("InRelease"), &file)?;
    let text = fs::read_to_string(&file).context("cannot read the fetched InRelease")?;
    text.lines()
        .find_map(|line| line.strip_prefix("Date: "))
        .map(str::to_owned)
        .with_context(|| format!("{} has no Date", suite.file("InRelease")))
}

/// A package that apt would bring to a newer version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgrade {
    /// Package name; with `:architecture` for a foreign one.
    pub package: String,
    /// Version installed.
    pub from: String,
    /// Version in the suite.
    pub to: String,
}

/// What this machine's own apt would upgrade in the root `root` from `suite` alone: the second opinion on a scan.
pub fn pending_upgrades(suite: &Suite, root: &Path) -> Result<Vec<Upgrade>> {
    let folder = tempfile::tempdir().context("cannot create a folder")?;
    let path = |name: &str| folder.path().join(name);
    for name in ["lists/partial", "cache/archives/partial", "state"] {
        fs::create_dir_all(path(name)).context("cannot create a folder for apt")?;
    }
    fs::write(path("sources.list"), suite.source_line() + "\n").context("cannot write a sources.list")?;
    let settings = [
        ("Dir::Etc::SourceList", path("sources.list")),
        ("Dir::Etc::SourceParts", PathBuf::from("/dev/null")),
        ("Dir::Etc::Preferences", PathBuf::from("/dev/null")),
        ("Dir::Etc::PreferencesParts", PathBuf::from("/dev/null")),
        ("Dir::State::Lists", path("lists")),
        ("Dir::State", path("state")),
        ("Dir::State::Status", root.join("var/lib/dpkg/status")),
        ("Dir::Cache", path("cache")),
    ];
    let apt = || {
        let mut command = Command::new("apt-get");
        command.args(["--quiet", "-o", "APT::Sandbox::User=root", "-o", "Debug::NoLocking=true"]);
        for (name, value) in &settings {
            command.arg("-o").arg(format!("{name}={}", value.display()));
        }
        command
    };
    run(apt().arg("update")).context("cannot fetch the suite's indices")?;
    let text = run(apt().args(["--simulate", "--with-new-pkgs", "upgrade"])).context("cannot ask apt")?;
    Ok(text.lines().filter_map(upgrade).collect())
}

/// `Inst apt [2.6.1] (2.6.2 Debian-Security:12/... [amd64])`; a new package has no version in brackets.
fn upgrade(line: &str) -> Option<Upgrade> {
    let (package, rest) = line.strip_prefix("Inst ")?.split_once(" [")?;
    let (from, rest) = rest.split_once("] (")?;
    let to = rest.split_whitespace().next()?;
    Some(Upgrade { package: package.to_owned(), from: from.to_owned(), to: to.to_owned() })
}

/// All enabled `deb` suites of an apt configuration folder, in apt's order.
fn read_configuration(folder: &Path) -> Result<Vec<Suite>> {
    let mut suites = Vec::new();
    let single = folder.join("sources.list");
    if single.is_file() {
        suites.extend(one_line(&read(&single)?));
    }
    let parts = folder.join("sources.list.d");
    let mut files: Vec<_> =
        fs::read_dir(&parts).ok().into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.sort();
    for file in files {
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => suites.extend(one_line(&read(&file)?)),
            Some("sources") => suites.extend(deb822(&read(&file)?)),
            _ => {}
        }
    }
    Ok(suites)
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

fn suite(url: &str, suite: &str, components: &[String], keyring: Option<&str>) -> Suite {
    // A source may also hold the key itself, or fingerprints; only a path is of use to others.
    let keyring = keyring.filter(|value| value.starts_with('/')).unwrap_or(DEBIAN_KEYRING);
    Suite {
        url: url.trim_end_matches('/').to_owned(),
        suite: suite.to_owned(),
        components: components.to_vec(),
        keyring: PathBuf::from(keyring),
    }
}

/// `deb [option=value ...] URL suite component...`
fn one_line(text: &str) -> Vec<Suite> {
    let mut suites = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some(rest) = line.strip_prefix("deb ").map(str::trim) else { continue };
        let (options, rest) = match rest.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
            Some((options, rest)) => (options, rest),
            None => ("", rest),
        };
        let keyring = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
        let mut words = rest.split_whitespace();
        let (Some(url), Some(name)) = (words.next(), words.next()) else { continue };
        let components: Vec<_> = words.map(str::to_owned).collect();
        suites.push(suite(url, name, &components, keyring));
    }
    suites
}

/// Stanzas with `Types`, `URIs`, `Suites`, `Components`, `Signed-By`, `Enabled`.
fn deb822(text: &str) -> Vec<Suite> {
    let mut suites = Vec::new();
    for stanza in text.split("\n\n") {
        let mut fields: BTreeMap<String, String> = BTreeMap::new();
        let mut last = String::new();
        for line in stanza.lines().filter(|line| !line.starts_with('#')) {
            if line.starts_with([' ', '\t']) {
                let value = fields.entry(last.clone()).or_default();
                value.push(' ');
                value.push_str(line.trim());
            } else if let Some((name, value)) = line.split_once(':') {
                last = name.trim().to_ascii_lowercase();
                fields.insert(last.clone(), value.trim().to_owned());
            }
        }
        let words = |name: &str| -> Vec<String> {
            fields
                .get(name)
                .into_iter()
                .flat_map(|value| value.split_whitespace())
                .map(str::to_owned)
                .collect()
        };
        let enabled = fields.get("enabled").is_none_or(|value| !value.eq_ignore_ascii_case("no"));
        if !enabled || !words("types").iter().any(|kind| kind == "deb") {
            continue;
        }
        let components = words("components");
        for url in words("uris") {
            for name in words("suites") {
                suites.push(suite(&url, &name, &components, fields.get("signed-by").map(String::as_str)));
            }
        }
    }
    suites
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_styles_of_sources_say_the_same() {
        let short = one_line(
            "# comment\ndeb [arch=amd64 signed-by=/k.gpg] http://archive.example/debian/ bookworm main contrib # x\n\
             deb-src http://archive.example/debian bookworm main\n",
        );
        let long = deb822(
            "Types: deb\n# comment\nURIs: http://archive.example/debian/\nSuites: bookworm\n\
             Components: main\n contrib\nSigned-By: /k.gpg\n\nEnabled: no\nTypes: deb\nURIs: http://b.example\nSuites: x\n",
        );
        assert_eq!(short, long);
        assert_eq!(
            short[0].source_line(),
            "deb [signed-by=/k.gpg] http://archive.example/debian bookworm main"
        );
    }

    #[test]
    fn upgrades_are_read_and_new_packages_left_out() {
        let line = "Inst apt [2.6.1] (2.6.2 Debian-Security:12/oldstable-security [amd64])";
        let expected = Upgrade { package: "apt".into(), from: "2.6.1".into(), to: "2.6.2".into() };
        assert_eq!(upgrade(line), Some(expected));
        assert_eq!(upgrade("Inst new (1.0 Debian [amd64])"), None);
        assert_eq!(upgrade("Conf apt (2.6.2 Debian [amd64])"), None);
    }

    #[test]
    fn missing_suite_is_named() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read_configuration(folder.path()).unwrap().is_empty());
    }

    #[test]
    fn this_machines_archive_answers() {
        let archive = Archive::detect().unwrap();
        assert!(release_date(&archive.main).unwrap().contains("UTC"));
    }
}
