//! The root, the archive's catalogues and packages; made once for all tests of this program.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
    time::{Duration, Instant},
};

use patchtide_agent::{
    download::Cache,
    install::{self, InstallError, LeavesOf, Prepared, Site, operation, outcome},
    root::Root,
    scan::Machine,
    state::StateFolder,
};
use patchtide_model::{
    Digest, LineId, UpdateId,
    catalogue::{ContentFile, Leaf, LineCatalogue, RestartRule, ScanLeaf, ScanUpdate},
    object::ClientSettings,
    policy::{LinePolicy, PolicyBody, UpdatePolicy},
};
use patchtide_packaging::{BinaryPackage, StanzaReader};
use patchtide_planner::client::InstallBatch;
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

/// A copy that shares the files below /usr: dpkg replaces files by renaming, it never writes into one.
fn copy_linked(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)?.flatten() {
        let how = if entry.file_name() == "usr" { "-al" } else { "-a" };
        run(Command::new("cp").arg(how).arg(entry.path()).arg(to))?;
    }
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
        lines: vec![],
        windows: vec![],
        deployments: vec![],
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
                };
                (id.clone(), update)
            })
            .collect(),
        dependencies,
        provenance: BTreeMap::new(),
    }
}

/// A machine of its own for one test.
pub(crate) struct Ground {
    _folder: tempfile::TempDir,
    pub(crate) site: Site,
    pub(crate) updates: BTreeMap<UpdateId, Vec<Leaf>>,
    pub(crate) dependencies: Vec<Leaf>,
    pub(crate) lines: Vec<LinePolicy>,
}

impl Ground {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root");
        copy_linked(&fixture().template, &path).unwrap();
        let root = Root::new(&path);
        let state = StateFolder::open(root.path("/var/lib/patchtide")).unwrap();
        let cache = Cache::open(&state).unwrap();
        let site = Site { root, state, cache, program: env!("CARGO_BIN_EXE_patchtide-agent").into() };
        Self { _folder: folder, site, updates: BTreeMap::new(), dependencies: vec![], lines: vec![] }
    }

    /// Runs a program in the root; its output.
    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        self.site.root.command(arguments).output().unwrap()
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    /// Status and version as dpkg says: `installed 2`, or empty.
    pub(crate) fn version(&self, package: &str) -> String {
        let output = self.output(&["dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", package]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The archive's pending updates are approved, and their packages are in the cache.
    pub(crate) fn approve_pending(&mut self) {
        for leaf in fixture().pending.values().flatten() {
            self.site.cache.put(&fs::read(&fixture().debs[&leaf.file.sha256]).unwrap()).unwrap();
        }
        self.updates.extend(fixture().pending.clone());
    }

    /// Builds a package with these fields and scripts (`conffiles`: the path of one). Its leaf; the file is in the cache.
    pub(crate) fn package(&self, name: &str, version: &str, fields: &str, scripts: &[(&str, &str)]) -> Leaf {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        fs::create_dir_all(tree.join("DEBIAN")).unwrap();
        fs::create_dir_all(tree.join("usr/share/demo")).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(tree.join("usr/share/demo").join(name), version).unwrap();
        let control = format!(
            "Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: Test <test@archive.example>\n\
             Description: test package\n{fields}"
        );
        fs::write(tree.join("DEBIAN/control"), &control).unwrap();
        for (script, text) in scripts {
            let path = tree.join("DEBIAN").join(script);
            if *script == "conffiles" {
                fs::create_dir_all(tree.join("etc")).unwrap();
                fs::write(tree.join(&text[1..]), format!("setting of version {version}\n")).unwrap();
                fs::write(&path, format!("{text}\n")).unwrap();
                continue;
            }
            fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let file = folder.path().join("x.deb");
        run(Command::new("dpkg-deb").args(["--root-owner-group", "--build"]).arg(&tree).arg(&file)).unwrap();
        leaf_of_file(&self.site, &control, &fs::read(file).unwrap())
    }

    /// Installs a package by hand, as the owner of the machine would.
    pub(crate) fn install_by_hand(&self, leaf: &Leaf) {
        let inside = format!("/var/lib/patchtide/cache/{}", leaf.file.sha256);
        self.run(&["dpkg", "--force-unsafe-io", "-i", &inside]);
    }

    pub(crate) fn approve(&mut self, leaf: Leaf) -> UpdateId {
        let id: UpdateId = format!("demo/test/main:{}@{}", leaf.package, leaf.version).parse().unwrap();
        self.updates.insert(id.clone(), vec![leaf]);
        id
    }

    pub(crate) fn batch(&self) -> InstallBatch {
        let leaves = || self.updates.values().flatten();
        InstallBatch {
            updates: self.updates.keys().map(|id| (id.clone(), RestartRule::Auto)).collect(),
            leaves: leaves().map(Leaf::reference).collect(),
            files: leaves().chain(&self.dependencies).map(|leaf| leaf.file.sha256).collect(),
            ..InstallBatch::default()
        }
    }

    pub(crate) fn leaves_of(&self) -> LeavesOf {
        self.updates
            .iter()
            .map(|(id, leaves)| (id.clone(), leaves.iter().map(Leaf::reference).collect::<BTreeSet<_>>()))
            .collect()
    }

    pub(crate) fn prepare(&self, batch: &InstallBatch) -> Result<Prepared, InstallError> {
        let mut body = body(&self.updates, self.dependencies.clone());
        body.lines.clone_from(&self.lines);
        install::prepare(&self.site, &body, batch, self.leaves_of(), jiff::Timestamp::UNIX_EPOCH, &|| true)
    }

    /// Waits for the operation's end.
    pub(crate) fn wait(&self) -> operation::Standing {
        let start = Instant::now();
        loop {
            match operation::look(&self.site).unwrap().expect("an operation") {
                operation::Standing::Running(_) => std::thread::sleep(Duration::from_millis(50)),
                ended => return ended,
            }
            assert!(start.elapsed() < Duration::from_mins(3), "the operation does not end");
        }
    }

    /// Installs what is approved and judges the end.
    pub(crate) fn install(&self) -> outcome::Verdict {
        let prepared = self.prepare(&self.batch()).unwrap();
        assert!(matches!(prepared, Prepared::Started), "{prepared:?}");
        let operation::Standing::Ended(record, ended) = self.wait() else { panic!("lost") };
        let machine = Machine::read(&self.site.root).unwrap();
        outcome::judge(&machine, &record.leaves_of, &ended, &operation::output(&self.site))
    }
}
