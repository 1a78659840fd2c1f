//! Update sources of a SoftwareUpdatePoint, and the rules that describe their updates.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    DurationText, defaults,
    duration::between,
    reference::{ConfigMapKeyRef, NAME, SecretKeyRef, SecretRef},
    rules::source_url,
    schema::leave_description_to_field,
};

/// One source of updates: a name and exactly one kind of source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.apt), has(self.rpm), has(self.wsus), has(self.custom), has(self.upstream)].filter(x, x).size() == 1").message("set exactly one of apt, rpm, wsus, custom and upstream"))]
pub struct UpdateSource {
    /// Name of the source: the first part of its product lines (`debian` in `debian/bookworm-security/main`) and so of
    /// every update's identity. Changing it makes other updates. Lower case letters, digits, - and ., at most 63.
    #[schemars(length(min = 1, max = 63), regex(pattern = NAME))]
    pub name: String,
    /// Product that updates of this source belong to, for example `Debian 12`. Default: the name, a blank and the suite.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub product: Option<String>,
    /// Vendor, for example `Debian`. Default: the Origin or publisher that the source names.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub vendor: Option<String>,
    /// A Debian archive: each suite and component is a product line, each source package version an update.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apt: Option<AptSource>,
    /// An rpm repository with `updateinfo.xml`: each advisory is an update.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpm: Option<RpmSource>,
    /// A WSUS server or Windows Update: each bundle is an update.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wsus: Option<WsusSource>,
    /// A catalogue of own and third-party updates kept in Git.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom: Option<CustomSource>,
    /// The software update point of another site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<UpstreamSource>,
}

/// A Debian archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AptSource {
    /// Root of the archive, the folder that holds `dists/` and `pool/`, for example `http://archive.example/debian`.
    #[schemars(length(min = 8, max = 2048))]
    #[x_kube(validation = source_url("the archive's root"))]
    pub url: String,
    /// Suites or codenames, 1 to 32, for example `[bookworm, bookworm-security]`.
    #[schemars(
        length(min = 1, max = 32),
        inner(length(min = 1, max = 128), regex(pattern = "^[A-Za-z0-9][A-Za-z0-9+._~/-]*$"))
    )]
    pub suites: Vec<String>,
    /// Components, 1 to 32, for example `[main]`. A component that a suite does not have is an error that names both.
    #[schemars(
        length(min = 1, max = 32),
        inner(length(min = 1, max = 128), regex(pattern = "^[A-Za-z0-9][A-Za-z0-9+._~/-]*$"))
    )]
    pub components: Vec<String>,
    /// Architectures of the clients, 1 to 16, for example `[amd64, arm64]`; `all` is always included.
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 1, max = 32), regex(pattern = "^[a-z0-9][a-z0-9-]*$"))
    )]
    pub architectures: Vec<String>,
    /// The keys that may sign the archive's InRelease. There is no way to take an unsigned archive.
    pub keyring: Keyring,
    /// Refuses an InRelease without Valid-Until. Default false, because stable suites have none; security suites do.
    #[serde(default)]
    pub require_valid_until: bool,
    /// Refuses an InRelease whose Date is older than this, from 1h to 3650d. Default: no limit beside Valid-Until.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = between("1h", "3650d"))]
    pub max_age: Option<DurationText>,
    /// Secret with `username` and `password` for the archive. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
}

/// Public keys: exactly one place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.inline), has(self.configMapRef), has(self.secretRef), has(self.keyringFile)].filter(x, x).size() == 1").message("say where the keys are: set exactly one of inline, configMapRef, secretRef and keyringFile"))]
pub struct Keyring {
    /// ASCII-armoured OpenPGP public keys, one block or several, at most 128 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 64, max = 131_072))]
    #[x_kube(validation = Rule::new("self.startsWith('-----BEGIN PGP PUBLIC KEY BLOCK-----')").message("give an ASCII-armoured public key (gpg --export --armor); for a binary keyring use configMapRef or secretRef"))]
    pub inline: Option<String>,
    /// ConfigMap with the keys, armoured or binary; key default `keyring`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<ConfigMapKeyRef>,
    /// Secret with the keys, armoured or binary; key default `keyring`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeyRef>,
    /// Absolute path of a keyring on the machine of the software update point, for example
    /// `/usr/share/keyrings/debian-archive-keyring.gpg`. Only below folders that the installation allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 1024))]
    #[x_kube(validation = Rule::new("self.startsWith('/') && !self.split('/').exists(p, p == '..')").message("write an absolute path without .."))]
    pub keyring_file: Option<String>,
}

/// An rpm repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RpmSource {
    /// Root of the repository, the folder that holds `repodata/`.
    #[schemars(length(max = 2048))]
    #[x_kube(validation = source_url("the repository's root"))]
    pub url: String,
    /// Name of the product line below the source's name, for example `9/BaseOS`.
    #[schemars(
        length(min = 1, max = 128),
        regex(pattern = "^[A-Za-z0-9][A-Za-z0-9+._~-]*/[A-Za-z0-9][A-Za-z0-9+._~-]*$")
    )]
    pub line: String,
    /// Architectures of the clients, 1 to 16, for example `[x86_64]`; `noarch` is always included.
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 1, max = 32), regex(pattern = "^[a-z0-9][a-z0-9_-]*$"))
    )]
    pub architectures: Vec<String>,
    /// The keys that may sign `repomd.xml`, or the packages where the metadata is unsigned.
    pub keyring: Keyring,
    /// Refuses unsigned metadata. Default true.
    #[serde(default = "defaults::yes")]
    pub require_signed_metadata: bool,
    /// Refuses metadata older than this, from 1h to 3650d. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = between("1h", "3650d"))]
    pub max_age: Option<DurationText>,
    /// Secret with `username` and `password`, or `tls.crt` and `tls.key`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
}

/// A WSUS server or Windows Update.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WsusSource {
    /// URL of the server, with its port: `http://wsus.example:8530` or `https://wsus.example:8531`. Wrong ports are the
    /// most frequent mistake here: default Web sites use 80 and 443, custom ones 8530 and 8531.
    #[schemars(length(min = 8, max = 2048), regex(pattern = "^https?://[^ ?#@]+$"))]
    pub url: String,
    /// Secret with `username` and `password`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// The reporting events that this software update point sends to the server: None, Status for status events only, or
    /// All. Default None, and best left so.
    #[serde(default)]
    pub reporting_events: ReportingEvents,
}

/// Reporting events to an upstream WSUS (R-SYNC-12).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReportingEvents {
    /// None.
    #[default]
    None,
    /// Status only.
    Status,
    /// All.
    All,
}

/// A catalogue kept in Git.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CustomSource {
    /// GitSource in this namespace whose repository holds the catalogue.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    pub git_source: String,
    /// Folder with the catalogue's documents, outside of the GitSource's own path.
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
}

/// Another site's software update point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.transfer == 'Import' ? !has(self.url) : has(self.url)").message("transfer Online needs the url of the other site; transfer Import takes files that a person brings and has no url"))]
pub struct UpstreamSource {
    /// Online: over the network. Import: a site without a connection, to which a person carries exported files
    /// (`kubectl patchtide import`). Default Online.
    #[serde(default)]
    pub transfer: Transfer,
    /// Management point of the other site.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 10, max = 2048), regex(pattern = "^https://[^ ?#@]+$"))]
    pub url: Option<String>,
    /// Secret with `ca.crt`, `tls.crt` and `tls.key` that the other site issued for this one; for Import `ca.crt`
    /// alone, which the files are verified against.
    pub secret_ref: SecretRef,
}

/// How another site's catalogue comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Transfer {
    /// Over the network.
    #[default]
    Online,
    /// In files.
    Import,
}

/// Classifications of updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the published names")]
pub enum Classification {
    CriticalUpdates,
    DefinitionUpdates,
    FeaturePacks,
    SecurityUpdates,
    ServicePacks,
    Tools,
    UpdateRollups,
    Updates,
}

/// Severities of updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the published names")]
pub enum Severity {
    None,
    Low,
    Moderate,
    Important,
    Critical,
}

/// When an installed update asks for a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = leave_description_to_field)]
pub enum RestartRule {
    /// Always.
    Always,
    /// Never, whatever the system says.
    Never,
    /// When the system says so.
    Auto,
}

/// Gives a classification to updates of sources whose archive has none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.origin) || has(self.label) || has(self.suite) || has(self.component)").message("a rule needs something to match: set origin, label, suite or component"))]
pub struct ClassificationRule {
    /// Origin of the Release file; `*` stands for any characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub origin: Option<String>,
    /// Label of the Release file, for example `Debian-Security`; `*` stands for any characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub label: Option<String>,
    /// Suite as it stands in the source's list of suites; `*` stands for any characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub suite: Option<String>,
    /// Component; `*` stands for any characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub component: Option<String>,
    /// The classification that a matching update gets.
    pub classification: Classification,
}

/// What the site knows about updates beyond their source: the first rule that matches and sets a field decides it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.maximumRunTime) || has(self.exclusive) || has(self.restart) || has(self.severity) || has(self.licenceAccepted)").message("a rule needs an effect: set maximumRunTime, exclusive, restart, severity or licenceAccepted"))]
pub struct UpdateRule {
    /// Name of the rule, for status and `why`. Unique in the list.
    #[schemars(length(min = 1, max = 63), regex(pattern = NAME))]
    pub name: String,
    /// Which updates; all fields given must match.
    #[serde(rename = "match")]
    pub matches: UpdateMatch,
    /// Longest time the installer may run, from 1m to 9999m. An update is started only where the window has room for it
    /// and the restart. Default: that of the kind of source.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = between("1m", "9999m"))]
    pub maximum_run_time: Option<DurationText>,
    /// Installed apart from all others, with a restart of its own, like a service pack. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclusive: Option<bool>,
    /// Always: an installed update asks for a restart. Never: it does not, whatever the system says. Auto: when the
    /// system says so. Default Auto.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<RestartRule>,
    /// Severity: it counts instead of that of the advisories.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// Licence terms were read and accepted for all clients. An update with licence terms is not deployed without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub licence_accepted: Option<bool>,
}

/// Which updates a rule means: all fields given must match. No field at all: every update.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateMatch {
    /// Source package name, advisory id or bundle name; `*` stands for any characters: `linux*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200))]
    pub source: Option<String>,
    /// Title; `*` stands for any characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub title: Option<String>,
    /// Classification.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classification: Option<Classification>,
    /// Product; `*` stands for any characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub product: Option<String>,
    /// Product line, `<source>/<suite>/<component>`; `*` stands for any characters: `debian/*/main`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200))]
    pub line: Option<String>,
}

/// A file that tells severity and CVEs of updates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.url) != has(self.configMapRef)").message("set exactly one of url and configMapRef"))]
pub struct AdvisoryFile {
    /// Name, for status. Unique in the list.
    #[schemars(length(min = 1, max = 63), regex(pattern = NAME))]
    pub name: String,
    /// Format of the file.
    pub format: AdvisoryFormat,
    /// Where it is fetched from at every synchronisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    #[x_kube(validation = source_url("the file's place"))]
    pub url: Option<String>,
    /// ConfigMap that holds it; key default `advisories`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<ConfigMapKeyRef>,
}

/// Formats of advisory files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AdvisoryFormat {
    /// JSON of Debian's security tracker.
    DebianSecurityTracker,
    /// The list of DSA or DLA of Debian's security tracker.
    DebianAdvisoryList,
    /// OSV, one document or a JSON array of them.
    #[serde(rename = "OSV")]
    Osv,
    /// CSAF 2.0.
    #[serde(rename = "CSAF")]
    Csaf,
    /// OVAL definitions.
    #[serde(rename = "OVAL")]
    Oval,
}
