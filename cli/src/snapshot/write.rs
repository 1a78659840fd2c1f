//! A snapshot's file: for its owner alone, whole or not there.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::is_plain;

/// A file that is being written.
pub(super) struct File {
    path: PathBuf,
    part: PathBuf,
    out: Out,
    /// The last byte so far: the brace that closes the document, at the end.
    last: Option<u8>,
}

enum Out {
    Plain(fs::File),
    Zstd(Box<zstd::stream::write::Encoder<'static, fs::File>>),
}

impl File {
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        // One that an earlier run left may be readable by others.
        let _ = fs::remove_file(&part);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part);
        let file = file.with_context(|| format!("cannot write {}", part.display()))?;
        let out = if is_plain(path) {
            Out::Plain(file)
        } else {
            Out::Zstd(Box::new(
                zstd::stream::write::Encoder::new(file, 3).context("nothing can be compressed")?,
            ))
        };
        Ok(Self { path: path.to_owned(), part, out, last: None })
    }

    /// Takes the next piece of the document.
    pub(super) fn take(&mut self, piece: &[u8]) -> anyhow::Result<()> {
        let Some((last, before)) = piece.split_last() else { return Ok(()) };
        if let Some(held) = self.last.replace(*last) {
            self.put(&[held])?;
        }
        self.put(before)
    }

    fn put(&mut self, text: &[u8]) -> anyhow::Result<()> {
        match &mut self.out {
            Out::Plain(file) => file.write_all(text),
            Out::Zstd(encoder) => encoder.write_all(text),
        }
        .with_context(|| format!("cannot write {}", self.part.display()))
    }

    /// Adds the resources at the end of the document and puts the file in its place. Returns its bytes.
    pub(super) fn finish(mut self, resources: &[Value]) -> anyhow::Result<u64> {
        if self.last != Some(b'}') {
            bail!("the answer ended in the middle: try again");
        }
        let text = serde_json::to_vec(resources).context("the objects cannot be written as JSON")?;
        self.put(b",\"resources\":")?;
        self.put(&text)?;
        self.put(b"}\n")?;
        let Self { path, part, out, .. } = self;
        let cannot = || format!("cannot write {}", path.display());
        let file = match out {
            Out::Plain(file) => file,
            Out::Zstd(encoder) => encoder.finish().with_context(cannot)?,
        };
        file.sync_all().with_context(cannot)?;
        fs::rename(&part, &path).with_context(cannot)?;
        Ok(file.metadata().with_context(cannot)?.len())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use patchtide_planner::{site::SiteInput, snapshot::Snapshot};
    use serde_json::json;

    use super::*;
    use crate::snapshot::read;

    fn document() -> Vec<u8> {
        let input = SiteInput {
            site: "lab".parse().unwrap(),
            objects: patchtide_model::object::SiteObjects::default(),
            clients: vec![],
            lines: vec![],
            updates: std::collections::BTreeMap::new(),
            required_leaves: std::collections::BTreeMap::new(),
            dependencies: vec![],
            holders: None,
        };
        let mut value =
            serde_json::to_value(Snapshot::new(input, "2026-01-02T03:04:05Z".parse().unwrap())).unwrap();
        value["kind"] = "Snapshot".into();
        serde_json::to_vec(&value).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again_in_both_forms() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["lab.json", "lab.json.zst"] {
            let path = folder.path().join(name);
            let mut file = File::create(&path).unwrap();
            for piece in document().chunks(7) {
                file.take(piece).unwrap();
            }
            let bytes = file.finish(&[json!({"kind": "Collection"})]).unwrap();
            let there = fs::metadata(&path).unwrap();
            assert_eq!((there.permissions().mode() & 0o777, there.len()), (0o600, bytes));
            let snapshot = read::read(&path).unwrap();
            assert_eq!((snapshot.input.site.as_str(), snapshot.resources.len()), ("lab", 1));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn half_an_answer_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lab.json");
        let mut file = File::create(&path).unwrap();
        file.take(b"{\"version\":1,").unwrap();
        assert!(file.finish(&[]).is_err());
        assert!(!path.exists());
    }

    #[test]
    fn what_is_no_snapshot_of_this_form_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        let read = |text: &[u8]| {
            fs::write(&path, text).unwrap();
            format!("{:#}", read::read(&path).unwrap_err())
        };
        let newer = String::from_utf8(document()).unwrap().replace("\"version\":1", "\"version\":9");
        assert!(read(newer.as_bytes()).contains("form 9"), "{}", read(newer.as_bytes()));
        assert!(read(b"{\"version\":7,\"other\":[]}").contains("form 7"));
        assert!(read(b"kind: Collection\n").contains("no snapshot"));
        assert!(read(&document()[..100]).contains("no snapshot"));
        let mut cut = zstd::encode_all(document().as_slice(), 1).unwrap();
        cut.truncate(cut.len() - 9);
        assert!(read(&cut).contains("x.json"));
    }
}
