use patchtide_model::catalogue::LineCatalogue;

use super::*;

fn packed(version: u64, updates: usize) -> Vec<u8> {
    let updates = (0..updates)
        .map(|n| ScanUpdate { number: 0, source: format!("s{n}"), version: "1".to_owned(), leaves: vec![] })
        .collect();
    let catalogue = LineCatalogue { line: "a/b/c".parse().unwrap(), version, updates };
    zstd::encode_all(&serde_json::to_vec(&catalogue).unwrap()[..], 1).unwrap()
}

fn line(bytes: &[u8], version: u64) -> LinePolicy {
    LinePolicy {
        line: "a/b/c".parse().unwrap(),
        catalogue_version: version,
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
        release: None,
    }
}

fn open() -> (tempfile::TempDir, Catalogues) {
    let folder = tempfile::tempdir().unwrap();
    let catalogues = Catalogues::open(&StateFolder::open(folder.path()).unwrap()).unwrap();
    (folder, catalogues)
}

#[test]
fn updates_come_one_by_one_and_rotten_bytes_never() {
    let (_folder, catalogues) = open();
    let bytes = packed(3, 1000);
    let line = line(&bytes, 3);
    let mut count = 0;
    assert!(matches!(catalogues.for_each(&line, &mut |_| {}), Err(CatalogueError::Missing(_))));
    catalogues.put(&bytes).unwrap();
    assert!(catalogues.has(&line));
    catalogues.for_each(&line, &mut |_| count += 1).unwrap();
    assert_eq!(count, 1000);

    let path = catalogues.file(&line.digest);
    let mut rotten = bytes;
    *rotten.last_mut().unwrap() ^= 1;
    fs::write(&path, rotten).unwrap();
    assert!(matches!(catalogues.for_each(&line, &mut |_| {}), Err(CatalogueError::Missing(_))));
    assert!(!path.exists());
}

#[test]
fn another_version_truncation_and_bombs_are_errors() {
    let (_folder, catalogues) = open();
    let bytes = packed(3, 2);
    catalogues.put(&bytes).unwrap();
    let error = catalogues.for_each(&line(&bytes, 4), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("version 3"), "{error}");

    let cut = &bytes[..bytes.len() - 5];
    catalogues.put(cut).unwrap();
    assert!(matches!(catalogues.for_each(&line(cut, 3), &mut |_| {}), Err(CatalogueError::Form { .. })));

    let bomb = zstd::encode_all(io::repeat(b' ').take(600 << 20), 1).unwrap();
    catalogues.put(&bomb).unwrap();
    assert!(matches!(catalogues.for_each(&line(&bomb, 3), &mut |_| {}), Err(CatalogueError::Form { .. })));
}
