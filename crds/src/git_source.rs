//! GitSource: a repository whose YAML is applied to the namespace.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ByteSize, DurationText,
    conditions::{Condition, Time, status_contract},
    defaults,
    duration::between,
    reference::{NAME, SecretRef},
};

/// A repository, what of it is applied, and how.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "patchtide.dev",
    version = "v1alpha1",
    kind = "GitSource",
    namespaced,
    status = "GitSourceStatus",
    derive = "PartialEq",
    shortname = "gsrc",
    category = "patchtide",
    doc = "A Git repository whose YAML is applied to this namespace: every file and object gets a verdict, the valid ones are applied, a broken one keeps its last good version, and only what the source itself applied is ever pruned.",
    selectable = ".spec.url",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Revision", type_ = "string", json_path = ".status.lastAppliedRevision"),
    printcolumn(name = "Objects", type_ = "integer", json_path = ".status.inventory.objects"),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.inventory.failed"),
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.url", priority = 1),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct GitSourceSpec {
    /// Repository: `https://`, `ssh://user@host/path` or, where the installation allows local repositories, `file://`.
    /// No user name or password in it: use secretRef.
    #[schemars(length(min = 8, max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^(https|ssh|file)://[^ ]+$')").message("write https://host/path, ssh://user@host/path or file:///path (scp-like addresses such as git@host:path become ssh://git@host/path)"))]
    #[x_kube(validation = Rule::new("!self.matches('^[a-z]+://([^/]*@)?-') && !self.matches('^https://[^/]*@')").message("no user name or password in an https URL, use secretRef; and the host must not start with -"))]
    pub url: String,
    /// What of the repository is followed. Default: branch `main`.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<GitReference>,
    /// Folder whose `*.yaml` and `*.yml` files are applied, with all folders below it; hidden ones and
    /// `kustomization.yaml` are left out. Default: the root. A path that is not in the revision is an error, never
    /// "delete all".
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("!self.startsWith('/') && !self.split('/').exists(p, p == '..' || p == '.git')").message("write a path inside the repository, for example clusters/prod, without a leading / and without .."))]
    pub path: Option<String>,
    /// Time between two looks at the repository, from 10s to 24h, default 1m. The actual time varies by 5 percent.
    #[serde(default = "defaults::m1")]
    #[x_kube(validation = between("10s", "24h"))]
    pub interval: DurationText,
    /// Time between two tries after a failure, from 10s to 24h. Default: interval; while the server cannot be reached or
    /// does not let in, longer from try to try up to 15m.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = between("10s", "24h"))]
    pub retry_interval: Option<DurationText>,
    /// Time that one fetch may take, from 5s to 1h, default 60s.
    #[serde(default = "defaults::s60")]
    #[x_kube(validation = between("5s", "1h"))]
    pub timeout: DurationText,
    /// Secret with the credentials. For https: `username` and `password`, or `bearerToken` (sent as the password), and
    /// `ca.crt` for a private certificate authority (with its intermediates; the system's authorities do not count
    /// then). For ssh: `identity`, `password` for a protected key, and `known_hosts`, without which no host is trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// Which signatures are demanded. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<GitVerification>,
    /// Whether objects that went from Git go from the cluster. Required, so that it is a decision. Only objects that
    /// carry the owner labels of this source go, none with the annotation `patchtide.dev/prune: disabled`, and none
    /// from a revision with failures.
    pub prune: bool,
    /// Most objects that one revision may prune, 0 to 100000, default 10. Beyond it nothing is pruned and PruneBlocked
    /// shows what would go, until the annotation `patchtide.dev/approvePrune: <revision>` approves it.
    #[serde(default = "ten")]
    #[schemars(range(min = 0, max = 100_000))]
    pub max_deletions: u32,
    /// Whether a revision may be taken that does not descend from the last applied one (force push, older commit).
    /// Default false: it is refused and the last applied revision stays. A change of `ref` by a person is always taken.
    #[serde(default)]
    pub allow_history_rewrite: bool,
    /// ServiceAccount in this namespace whose rights the source has. Default: the controller's own for this namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    pub service_account_name: Option<String>,
    /// Stops fetching, applying and pruning; what is applied stays. Default false.
    #[serde(default)]
    pub suspend: bool,
    /// Limits beyond which a revision is refused by the limit's name.
    #[serde(default)]
    pub limits: GitLimits,
}

/// What of the repository is followed: exactly one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.branch) ? 1 : 0) + (has(self.tag) ? 1 : 0) + (has(self.commit) ? 1 : 0) == 1").message("set exactly one of branch, tag and commit"))]
pub struct GitReference {
    /// Branch, without `refs/heads/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9_.][A-Za-z0-9_./+@-]*$') && !self.contains('..')").message("not a usable branch name: it must not start with - and must not hold .. or blanks"))]
    pub branch: Option<String>,
    /// Tag, without `refs/tags/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9_.][A-Za-z0-9_./+@-]*$') && !self.contains('..')").message("not a usable tag name: it must not start with - and must not hold .. or blanks"))]
    pub tag: Option<String>,
    /// Commit, its full id of 40 or 64 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 40, max = 64), regex(pattern = "^([0-9a-f]{40}|[0-9a-f]{64})$"))]
    pub commit: Option<String>,
}

/// Which signatures are demanded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GitVerification {
    /// HEAD: the commit. Tag: the annotated tag that `ref.tag` names. TagAndHEAD: both.
    pub mode: VerificationMode,
    /// Secret with the public keys of the people who may sign: `*.asc` or `*.pgp` for OpenPGP, `*.sshpub` or
    /// `allowed_signers` for SSH, whose namespaces and times are kept. SHA-1 and MD5 signatures, DSA and RSA below 3072
    /// bits are refused. Whether a key has expired is judged by the time at which a revision was first seen.
    pub secret_ref: SecretRef,
    /// Different keys that must have signed, 1 to 5, default 1. A commit carries several OpenPGP signatures, or one of
    /// either kind beside that of its tag (TagAndHEAD).
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 5))]
    pub threshold: u32,
    /// Who may change what: a commit that changes a path of this list must be signed by one of its keys. Default:
    /// everybody who may sign may change everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub paths: Vec<PathSigners>,
}

/// Who may change what lies at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PathSigners {
    /// File or folder from the repository's root, for example `clusters/prod/windows`.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("!self.startsWith('/') && !self.split('/').exists(p, p == '..' || p == '.git')").message("write a path inside the repository, for example clusters/prod, without a leading / and without .."))]
    pub path: String,
    /// Fingerprints of keys in the Secret: `SHA256:...` for SSH, 40 to 64 hexadecimal digits for OpenPGP.
    #[schemars(length(min = 1, max = 64), inner(length(min = 40, max = 100)))]
    pub keys: Vec<String>,
}

/// What must be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VerificationMode {
    /// The commit.
    #[serde(rename = "HEAD")]
    Head,
    /// The tag.
    Tag,
    /// Both.
    #[serde(rename = "TagAndHEAD")]
    TagAndHead,
}

/// Limits beyond which a revision, a file or an object is refused by the limit's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GitLimits {
    /// Bytes fetched for one revision, default 500Mi.
    pub fetch_size: ByteSize,
    /// Files read below `path`, 1 to 200000, default 5000.
    #[schemars(range(min = 1, max = 200_000))]
    pub files: u32,
    /// Bytes of one file, default 1Mi.
    pub file_size: ByteSize,
    /// Bytes of all files read below `path`, default 64Mi.
    pub total_size: ByteSize,
    /// Documents in one file, 1 to 10000, default 200.
    #[schemars(range(min = 1, max = 10_000))]
    pub documents_per_file: u32,
    /// Objects of one revision, 1 to 100000, default 5000.
    #[schemars(range(min = 1, max = 100_000))]
    pub objects: u32,
    /// Nesting of a document, 4 to 64, default 32.
    #[schemars(range(min = 4, max = 64))]
    pub depth: u32,
    /// YAML aliases that one file may use, 0 to 1000, default 0: none.
    #[schemars(range(min = 0, max = 1_000))]
    pub aliases: u32,
}

impl Default for GitLimits {
    fn default() -> Self {
        Self {
            fetch_size: defaults::mib500(),
            files: 5_000,
            file_size: defaults::mib1(),
            total_size: defaults::mib64(),
            documents_per_file: 200,
            objects: 5_000,
            depth: 32,
            aliases: 0,
        }
    }
}

fn one() -> u32 {
    1
}

fn ten() -> u32 {
    10
}

/// What is true of the source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GitSourceStatus {
    /// Last generation of the spec that ended ready or stalled; -1 before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling, Stalled and the conditions of this kind. Ready=True means that this generation is accepted,
    /// resolved and in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 24))]
    pub conditions: Vec<Condition>,
    /// Value of the last `reconcile.patchtide.dev/requestedAt` annotation that was carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_handled_reconcile_at: Option<String>,
    /// Revision of which work began last, for example `main@sha1:9d1e...`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 400))]
    pub last_attempted_revision: Option<String>,
    /// Last revision of which everything valid was applied and pruned.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 400))]
    pub last_applied_revision: Option<String>,
    /// When the last applied commit was made, as it says itself: shown, never decided by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_applied_commit_time: Option<Time>,
    /// When the repository was last reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_fetch_time: Option<Time>,
    /// Counts of files and objects of the last attempted revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inventory: Option<Inventory>,
    /// The first 20 failures of the last attempted revision, each with its place and remedy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub failures: Vec<FileFailure>,
    /// A prune that waits for a person, and what it would delete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prune: Option<BlockedPrune>,
    /// Who signed the last applied revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 400))]
    pub signer: Option<String>,
    /// The last 5 revisions with what became of them, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub history: Vec<HistoryEntry>,
}

status_contract!(GitSourceStatus);

/// Counts of a revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Inventory {
    /// Files read.
    pub files: u64,
    /// Objects that the source owns in the cluster.
    pub objects: u64,
    /// Objects written by the last run: created or changed.
    pub applied: u64,
    /// Objects found as they should be: not written.
    pub unchanged: u64,
    /// Objects deleted by the last run.
    pub pruned: u64,
    /// Files and objects with a failure.
    pub failed: u64,
    /// What was noticed and is no failure; events tell the first of them.
    pub warnings: u64,
    /// Objects whose last good version is kept because the one in Git is broken.
    pub kept: u64,
}

/// One failure, with its place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileFailure {
    /// File in the repository.
    #[schemars(length(max = 1024))]
    pub file: String,
    /// Line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Column, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// Object, as `Kind/name`, where one could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 320))]
    pub object: Option<String>,
    /// Field, as a path such as `spec.duration`, where one is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub field: Option<String>,
    /// Code, for example `YAML-DUPKEY`.
    #[schemars(length(max = 63))]
    pub code: String,
    /// What is wrong and what to do.
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// A prune that waits for a person.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlockedPrune {
    /// Revision that would prune: the value for `patchtide.dev/approvePrune`.
    #[schemars(length(max = 400))]
    pub revision: String,
    /// Objects that would go.
    pub count: u64,
    /// The first 20 of them, as `Kind/name`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(max = 320)))]
    pub objects: Vec<String>,
}

/// One revision and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// Revision.
    #[schemars(length(max = 400))]
    pub revision: String,
    /// SHA-256 over the objects it holds.
    #[schemars(length(max = 71))]
    pub digest: String,
    /// First time it was reconciled.
    pub first_reconciled: Time,
    /// Last time.
    pub last_reconciled: Time,
    /// How long the last run took, for example `1.2s`.
    #[schemars(length(max = 32))]
    pub last_reconciled_duration: String,
    /// Reason of Ready after the last run.
    #[schemars(length(max = 64))]
    pub last_reconciled_status: String,
    /// Number of runs.
    pub total_reconciliations: u64,
}
