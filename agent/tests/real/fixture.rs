//! The root, the archive's catalogues and packages; made once for all tests of this program.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use patchtide_agent::install::Site;
use patchtide_model::{
    Digest, LineId, UpdateId,
    catalogue::{ContentFile, Leaf, LineCatalogue, RestartRule, ScanLeaf, ScanUpdate},
    object::ClientSettings,
    policy::{LinePolicy, PolicyBody, UpdatePolicy},
    shared::Shared,
};
use patchtide_packaging::{BinaryPackage, StanzaReader};
use patchtide_tests::{archive::Archive, host::ClientRoot, process::run};

pub(crate) const MAIN: &str = "debian/bookworm/main";
pub(crate) const SECURITY: &str = "debian/bookworm-security/main";

/// What `apt-get -s dist-upgrade` says with the security archive: package -> version.
pub(crate) type Oracle = BTreeMap<(String, String), String>;

pub(crate) struct Fixture {
    _folder: tempfile::TempDir,
    template: PathBuf,
    pub(crate) oracle: Oracle,
    /// Compressed catalogue of each line.
    pub(crate) catalogues: BTreeMap<LineId, Vec<u8>>,
    /// The pending updates of the security line with their leaves.
    pub(crate) pending: BTreeMap<UpdateId, Vec<Leaf>>,
    /// Downloaded packages by digest.
    pub(crate) debs: BTreeMap<Digest, PathBuf>,
}

impl Fixture {
    /// The root that each test's own is a copy of.
    pub(crate) fn template(&self) -> &Path {
        &self.template
    }
}

pub(crate) fn fixture() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(|| build().expect("the real root could not be made"))
}

fn build() -> anyhow::Result<Fixture> {
    let archive = Archive::detect()?;
    let base = ClientRoot::build(&archive, &[])?;
    let folder = tempfile::tempdir()?;
    let template = folder.path().join("template");
    copy(base.path(), &template)?;
    let lists = folder.path().join("lists");
    let debs_folder = folder.path().join("archives");
    for part in [lists.join("partial"), debs_folder.join("partial")] {
        fs::create_dir_all(part)?;
    }
    let sources = folder.path().join("sources.list");
    fs::write(&sources, format!("{}\n{}\n", archive.main.source_line(), archive.security.source_line()))?;
    // This machine's apt, with its proxy and keys, on the root's dpkg state.
    let apt = |arguments: &[&str]| -> anyhow::Result<String> {
        let mut command = Command::new("apt-get");
        for option in [
            format!("Dir::Etc::SourceList={}", sources.display()),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            format!("Dir::State={}", folder.path().join("state").display()),
            format!("Dir::State::Lists={}", lists.display()),
            format!("Dir::State::status={}", template.join("var/lib/dpkg/status").display()),
            format!("Dir::Cache::Archives={}", debs_folder.display()),
            "Dir::Cache::pkgcache=".to_owned(),
            "Dir::Cache::srcpkgcache=".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::GzipIndexes=false".to_owned(),
            "APT::Architectures=".to_owned() + &archive.architecture,
            "Debug::NoLocking=true".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        run(command.arg("-q").args(arguments).env("LC_ALL", "C"))
    };
    fs::create_dir_all(folder.path().join("state"))?;
    apt(&["update"])?;
    let oracle = upgrades(&apt(&["-s", "dist-upgrade"])?);
    anyhow::ensure!(oracle.len() > 5, "the root has no pending updates: {oracle:?}");
    apt(&["-y", "--download-only", "dist-upgrade"])?;
    let mut debs = BTreeMap::new();
    for entry in fs::read_dir(&debs_folder)?.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "deb") {
            debs.insert(Digest::of(&fs::read(entry.path())?), entry.path());
        }
    }
    let mut catalogues = BTreeMap::new();
    let mut pending = BTreeMap::new();
    for (line, part) in [(MAIN, "_bookworm_main_"), (SECURITY, "security")] {
        let line: LineId = line.parse()?;
        let index = fs::read_dir(&lists)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                name.contains(part) && name.ends_with("_Packages")
            })
            .ok_or_else(|| anyhow::anyhow!("no index of {line}"))?;
        let updates = sources_of(&fs::read(index)?);
        let catalogue = LineCatalogue {
            line: line.clone(),
            version: 1,
            updates: updates.iter().map(|(id, leaves)| scan_update(id, leaves)).collect(),
        };
        catalogues.insert(line.clone(), zstd::encode_all(&serde_json::to_vec(&catalogue)?[..], 3)?);
        let is_pending = |leaf: &Leaf| {
            oracle.get(&(leaf.package.clone(), leaf.architecture.clone())) == Some(&leaf.version)
        };
        for ((source, version), leaves) in updates {
            let leaves: Vec<Leaf> = leaves.into_iter().filter(|leaf| is_pending(leaf)).collect();
            if !leaves.is_empty() && line.as_str() == SECURITY {
                pending.insert(UpdateId { line: line.clone(), source, version }, leaves);
            }
        }
    }
    Ok(Fixture { _folder: folder, template, oracle, catalogues, pending, debs })
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(to))?;
    Ok(())
}

/// `Inst name [old] (new ... [arch])` lines.
fn upgrades(text: &str) -> Oracle {
    text.lines()
        .filter_map(|line| {
            let mut words = line.strip_prefix("Inst ")?.split_whitespace();
            let name = words.next()?.split(':').next()?.to_owned();
            let new = line.split_once('(')?.1.split_whitespace().next()?.to_owned();
            let architecture = line
                .split_once('(')?
                .1
                .split_once(')')?
                .0
                .rsplit_once('[')?
                .1
                .trim_end_matches(']')
                .to_owned();
            Some(((name, architecture), new))
        })
        .collect()
}

/// The newest version of each package of an index, by source.
fn sources_of(index: &[u8]) -> BTreeMap<(String, String), Vec<Leaf>> {
    let mut newest: BTreeMap<(String, String), BinaryPackage> = BTreeMap::new();
    let mut reader = StanzaReader::new(index);
    while let Some(stanza) = reader.next_stanza() {
        let package = BinaryPackage::parse(&stanza.unwrap()).unwrap();
        let key = (package.package.clone(), package.architecture.clone());
        if newest.get(&key).is_none_or(|held| package.version > held.version) {
            newest.insert(key, package);
        }
    }
    let mut sources: BTreeMap<(String, String), Vec<Leaf>> = BTreeMap::new();
    for package in newest.into_values() {
        let key = (package.source.name.clone(), package.source.version.as_str().to_owned());
        sources.entry(key).or_default().push(leaf_of(package));
    }
    sources
}

pub(crate) fn leaf_of(package: BinaryPackage) -> Leaf {
    Leaf {
        version: package.version.as_str().to_owned(),
        file: ContentFile {
            sha256: package.sha256.to_string().parse().unwrap(),
            size: package.size,
            path: package.filename,
        },
        package: package.package,
        architecture: package.architecture,
        stanza: package.stanza,
    }
}

/// The leaf of a package file as an archive's index would list it; the file is in the cache.
pub(crate) fn leaf_of_file(site: &Site, control: &str, bytes: &[u8]) -> Leaf {
    let digest = site.cache.put(bytes).unwrap();
    let stanza = format!("{control}Filename: pool/{digest}.deb\nSize: {}\nSHA256: {digest}\n", bytes.len());
    let mut reader = StanzaReader::new(stanza.as_bytes());
    leaf_of(BinaryPackage::parse(&reader.next_stanza().unwrap().unwrap()).unwrap())
}

fn field(stanza: &str, name: &str) -> String {
    let mut reader = StanzaReader::new(stanza.as_bytes());
    let stanza = reader.next_stanza().unwrap().unwrap();
    stanza.get(name).unwrap_or_default().to_owned()
}

pub(crate) fn scan_update((source, version): &(String, String), leaves: &[Leaf]) -> ScanUpdate {
    let leaves = leaves
        .iter()
        .map(|leaf| {
            let depends: Vec<String> = ["Pre-Depends", "Depends"]
                .map(|name| field(&leaf.stanza, name))
                .into_iter()
                .filter(|text| !text.is_empty())
                .collect();
            ScanLeaf {
                package: leaf.package.clone(),
                version: leaf.version.clone(),
                architecture: leaf.architecture.clone(),
                depends: depends.join(", "),
                provides: field(&leaf.stanza, "Provides"),
            }
        })
        .collect();
    ScanUpdate { number: 0, source: source.clone(), version: version.clone(), leaves }
}

pub(crate) fn line_policies(catalogues: &BTreeMap<LineId, Vec<u8>>) -> Vec<LinePolicy> {
    catalogues
        .iter()
        .map(|(line, bytes)| LinePolicy {
            line: line.clone(),
            catalogue_version: 1,
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            release: None,
        })
        .collect()
}

pub(crate) fn body(updates: &BTreeMap<UpdateId, Vec<Leaf>>, dependencies: Vec<Leaf>) -> PolicyBody {
    PolicyBody {
        settings: ClientSettings::default(),
        lines: Shared::default(),
        windows: vec![],
        deployments: Shared::default(),
        updates: updates
            .iter()
            .map(|(id, leaves)| {
                let update = UpdatePolicy {
                    title: id.source.clone(),
                    leaves: leaves.clone(),
                    maximum_run_time: None,
                    exclusive: false,
                    superseded_by: None,
                    restart: RestartRule::Auto,
                    installer: patchtide_model::catalogue::Installer::Apt,
                };
                (id.clone(), update.into())
            })
            .collect(),
        dependencies: dependencies.into(),
        awaited: Shared::default(),
        provenance: Shared::default(),
    }
}
