//! A machine for one test: a copy of the root, packages made for it, transactions on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

use jiff::SignedDuration;
use patchtide_agent::{
    download::Cache,
    install::{self, InstallError, LeavesOf, Prepared, Site, operation, outcome},
    root::Root,
    scan::Machine,
    state::StateFolder,
};
use patchtide_model::{
    UpdateId,
    catalogue::{Leaf, RestartRule},
    policy::LinePolicy,
};
use patchtide_planner::client::{InstallBatch, limits};
use patchtide_tests::process::run;

use crate::fixture::{body, fixture, leaf_of_file};

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
        copy_linked(fixture().template(), &path).unwrap();
        let root = Root::new(&path);
        let state = StateFolder::open(root.path("/var/lib/patchtide")).unwrap();
        let cache = Cache::open(&state).unwrap();
        let site = Site {
            root,
            state,
            cache,
            program: env!("CARGO_BIN_EXE_patchtide-agent").into(),
            script_limit: limits::LEAST_PATIENCE,
        };
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

    /// Builds a package with these fields and scripts (`conffiles`: the path of one; `/...`: a program there; `templates`: as
    /// it is). Its leaf; the file is in the cache.
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
            if *script == "templates" {
                fs::write(&path, text).unwrap();
                continue;
            }
            let path = if let Some(inside) = script.strip_prefix('/') {
                let path = tree.join(inside);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                path
            } else {
                path
            };
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
        self.prepare_until(batch, None)
    }

    /// The same, not to be started after this on the clock that counts since the boot.
    pub(crate) fn prepare_until(
        &self,
        batch: &InstallBatch,
        not_after: Option<SignedDuration>,
    ) -> Result<Prepared, InstallError> {
        let mut body = body(&self.updates, self.dependencies.clone());
        body.lines = self.lines.clone().into();
        let (leaves_of, then) = (self.leaves_of(), jiff::Timestamp::UNIX_EPOCH);
        install::prepare(&self.site, &body, batch, leaves_of, then, &|| true, not_after)
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

    /// Whether anything runs below the root.
    pub(crate) fn is_quiet(&self) -> bool {
        let below = |entry: &fs::DirEntry| {
            fs::read_link(entry.path().join("root")).is_ok_and(|at| at == self.site.root.folder())
        };
        !fs::read_dir("/proc").unwrap().flatten().any(|entry| below(&entry))
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
