//! What dpkg says is installed: its `status` file.

use std::io::BufRead;

use crate::deb822::{Encoding, Limits, ReadError, Stanza, StanzaError, StanzaReader};
use crate::packages::{
    MultiArch, PackageError, SourceRef, architecture_is_valid, name_is_valid, parse_source, parse_version,
};
use crate::version::Version;

/// What the owner of the machine wants of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Want {
    /// Nothing said.
    Unknown,
    /// Installed.
    Install,
    /// Kept at its version.
    Hold,
    /// Removed, its configuration kept.
    Deinstall,
    /// Removed with its configuration.
    Purge,
}

/// How far a package is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Not there.
    NotInstalled,
    /// Removed, its configuration files are left.
    ConfigFiles,
    /// Unpacking or removing was interrupted.
    HalfInstalled,
    /// Unpacked and not configured.
    Unpacked,
    /// Configuring failed or was interrupted.
    HalfConfigured,
    /// Waits for a trigger of another package.
    TriggersAwaited,
    /// Its own trigger is yet to run.
    TriggersPending,
    /// Installed and configured.
    Installed,
}

/// One package known to dpkg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusEntry {
    /// Name.
    pub package: String,
    /// Architecture or `all`; empty for a package that is only selected and never was there.
    pub architecture: String,
    /// Version; none when it is not there.
    pub version: Option<Version>,
    /// Source package; none when there is no version.
    pub source: Option<SourceRef>,
    /// What its owner wants.
    pub want: Want,
    /// Whether dpkg asks to install it anew (`reinstreq`).
    pub reinstall_required: bool,
    /// How far it is.
    pub state: State,
    /// Mixing of architectures.
    pub multi_arch: MultiArch,
    /// Whether the system cannot do without it.
    pub essential: bool,
    /// Field `Depends` as written.
    pub depends: String,
    /// Field `Pre-Depends` as written.
    pub pre_depends: String,
    /// Field `Provides` as written.
    pub provides: String,
}

impl StatusEntry {
    /// Whether the package is installed and configured; waiting triggers do not change its version and count as installed.
    pub fn is_installed(&self) -> bool {
        matches!(self.state, State::Installed | State::TriggersAwaited | State::TriggersPending)
    }

    /// Whether an interrupted dpkg left it between two states, which must be repaired before anything else.
    pub fn is_broken(&self) -> bool {
        self.reinstall_required
            || matches!(self.state, State::HalfInstalled | State::Unpacked | State::HalfConfigured)
    }

    /// Whether its owner holds it at its version.
    pub fn is_held(&self) -> bool {
        self.want == Want::Hold
    }
}

/// A stanza of the status file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatusError {
    /// Not a stanza.
    #[error(transparent)]
    Malformed(#[from] StanzaError),
    /// Not a package.
    #[error("stanza {number} (package {name:?}) is not the state of a package")]
    Package {
        /// Number of the stanza, from 1.
        number: u64,
        /// The name it gives.
        name: String,
        /// Why.
        #[source]
        source: PackageError,
    },
    /// A `Status` field that is not three known words.
    #[error("stanza {number} (package {name:?}) has the unknown Status {value:?}")]
    Words {
        /// Number of the stanza, from 1.
        number: u64,
        /// The name it gives.
        name: String,
        /// The value, cut to 120 characters.
        value: String,
    },
}

/// The packages of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Every package that dpkg knows, in the order of the file.
    pub entries: Vec<StatusEntry>,
    /// What could not be read; a scan that covers less than everything must say so.
    pub errors: Vec<StatusError>,
}

impl Status {
    /// Reads dpkg's `status` file. What is wrong with one stanza does not hide the others; only a failing input ends it.
    pub fn read(input: impl BufRead) -> std::io::Result<Self> {
        let mut reader = StanzaReader::with(input, Limits::default(), Encoding::Lossy);
        let mut status = Self::default();
        while let Some(next) = reader.next_stanza() {
            match next {
                Ok(stanza) => match entry(&stanza) {
                    Ok(entry) => status.entries.push(entry),
                    Err(error) => status.errors.push(error),
                },
                Err(ReadError::Stanza(error)) => status.errors.push(error.into()),
                Err(ReadError::Input(error)) => return Err(error),
            }
        }
        Ok(status)
    }

    /// The packages that are installed and configured.
    pub fn installed(&self) -> impl Iterator<Item = &StatusEntry> {
        self.entries.iter().filter(|entry| entry.is_installed())
    }

    /// The packages that an interrupted dpkg left behind.
    pub fn broken(&self) -> impl Iterator<Item = &StatusEntry> {
        self.entries.iter().filter(|entry| entry.is_broken())
    }
}

fn entry(stanza: &Stanza<'_>) -> Result<StatusEntry, StatusError> {
    let text = |name| stanza.get(name).unwrap_or_default();
    let package = text("Package");
    let wrong = |source| StatusError::Package {
        number: stanza.number(),
        name: package.chars().take(120).collect(),
        source,
    };
    if !name_is_valid(package) {
        return Err(wrong(PackageError::Missing("Package")));
    }
    let (want, reinstall_required, state) = words(text("Status")).ok_or_else(|| StatusError::Words {
        number: stanza.number(),
        name: package.to_owned(),
        value: text("Status").chars().take(120).collect(),
    })?;
    let version = match text("Version") {
        "" if matches!(state, State::NotInstalled | State::ConfigFiles) => None,
        "" => return Err(wrong(PackageError::Missing("Version"))),
        version => Some(parse_version(version).map_err(wrong)?),
    };
    let architecture = text("Architecture");
    if !architecture.is_empty() && !architecture_is_valid(architecture) {
        return Err(wrong(PackageError::Name {
            field: "Architecture",
            value: architecture.chars().take(120).collect(),
        }));
    }
    let source = match &version {
        None => None,
        Some(version) => Some(
            parse_source(stanza.get("Source").filter(|v| !v.is_empty()), package, version).map_err(wrong)?,
        ),
    };
    Ok(StatusEntry {
        package: package.to_owned(),
        architecture: architecture.to_owned(),
        version,
        source,
        want,
        reinstall_required,
        state,
        multi_arch: MultiArch::parse(stanza.get("Multi-Arch")),
        essential: text("Essential").eq_ignore_ascii_case("yes"),
        depends: text("Depends").to_owned(),
        pre_depends: text("Pre-Depends").to_owned(),
        provides: text("Provides").to_owned(),
    })
}

fn words(text: &str) -> Option<(Want, bool, State)> {
    let mut words = text.split_ascii_whitespace();
    let want = match words.next()? {
        "unknown" => Want::Unknown,
        "install" => Want::Install,
        "hold" => Want::Hold,
        "deinstall" => Want::Deinstall,
        "purge" => Want::Purge,
        _ => return None,
    };
    let reinstall = match words.next()? {
        "ok" => false,
        "reinstreq" => true,
        _ => return None,
    };
    let state = match words.next()? {
        "not-installed" => State::NotInstalled,
        "config-files" => State::ConfigFiles,
        "half-installed" => State::HalfInstalled,
        "unpacked" => State::Unpacked,
        "half-configured" => State::HalfConfigured,
        "triggers-awaited" => State::TriggersAwaited,
        "triggers-pending" => State::TriggersPending,
        "installed" => State::Installed,
        _ => return None,
    };
    words.next().is_none().then_some((want, reinstall, state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_of_packages() {
        let text = "Package: a\nStatus: install ok installed\nArchitecture: amd64\nMulti-Arch: same\nVersion: 1\nSource: s (2)\n\n\
                    Package: b\nStatus: hold ok triggers-pending\nArchitecture: all\nVersion: 1\n\n\
                    Package: c\nStatus: install reinstreq half-installed\nArchitecture: amd64\nVersion: 1\n\n\
                    Package: d\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n\n\
                    Package: e\nStatus: purge ok not-installed\n\n\
                    Package: f\nStatus: install ok broken\nVersion: 1\n\n\
                    Package: g\nStatus: install ok installed\n\n\
                    no field\n\n\
                    Package: h\nStatus: install ok unpacked\nArchitecture: i386\nVersion: 1\n";
        let status = Status::read(text.as_bytes()).unwrap();
        let names =
            |entries: Vec<&StatusEntry>| entries.iter().map(|e| e.package.clone()).collect::<String>();
        assert_eq!(names(status.installed().collect()), "ab");
        assert_eq!(names(status.broken().collect()), "ch");
        assert_eq!(names(status.entries.iter().collect()), "abcdeh");
        assert!(status.entries[1].is_held() && !status.entries[0].is_held());
        assert_eq!(status.entries[0].source.as_ref().unwrap().version.as_str(), "2");
        let errors: Vec<String> = status.errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors.len(), 3, "{errors:?}");
        assert!(
            errors[0].contains("broken") && errors[1].contains('g') && errors[2].contains("stanza 8"),
            "{errors:?}"
        );
    }
}
