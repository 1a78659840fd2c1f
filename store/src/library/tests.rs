use std::{
    process::{Command, Stdio},
    sync::Barrier,
    thread,
};

use super::*;

fn library() -> (tempfile::TempDir, Library) {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::open(folder.path().join("content")).unwrap();
    (folder, library)
}

fn leftovers(library: &Library) -> usize {
    fs::read_dir(library.incoming()).unwrap().count()
}

#[test]
fn what_is_put_is_found_listed_and_removed() {
    let (_folder, library) = library();
    let digest = library.put(b"tide").unwrap();
    assert_eq!(library.put(b"tide").unwrap(), digest);
    assert_eq!(library.read(digest).unwrap(), b"tide");
    assert_eq!(library.iter().unwrap().collect::<Vec<_>>(), [(digest, 4)]);
    assert_eq!(leftovers(&library), 0);
    assert!(library.remove(digest).unwrap() && !library.remove(digest).unwrap() && !library.contains(digest));
    assert!(matches!(library.read(digest), Err(LibraryError::Missing(_))));
}

#[test]
fn wrong_bytes_are_never_published() {
    let (_folder, library) = library();
    let digest = Digest::of(b"expected");
    let mut incoming = library.writer().unwrap();
    incoming.write(b"expecteD").unwrap();
    assert!(
        matches!(incoming.finish(digest, 8), Err(LibraryError::WrongDigest { expected, .. }) if expected == digest)
    );
    let mut incoming = library.writer().unwrap();
    incoming.write(b"expect").unwrap();
    assert!(matches!(incoming.finish(digest, 8), Err(LibraryError::WrongSize { expected: 8, got: 6 })));
    assert!(!library.contains(digest));
    assert_eq!(leftovers(&library), 0);
}

/// What has come stays when the attempt ends; two at once do not get into each other's way.
#[test]
fn a_file_is_gone_on_with_where_it_ended() {
    let (_folder, library) = library();
    let digest = Digest::of(b"first and second");
    let resume = |library: &Library| {
        let mut known = Vec::new();
        let incoming = library.resume(digest, |bytes| known.extend_from_slice(bytes)).unwrap();
        (incoming, known)
    };
    let (mut first, known) = resume(&library);
    assert!(known.is_empty());
    first.write(b"first and ").unwrap();
    let (mut beside, known) = resume(&library);
    assert!(known.is_empty(), "somebody is at it");
    beside.write(b"first").unwrap();
    drop((first, beside));
    // As after a restart.
    let library = Library::open(library.root()).unwrap();
    assert_eq!(library.partials().unwrap(), [digest]);
    let (mut second, known) = resume(&library);
    assert_eq!((known.as_slice(), second.size()), (&b"first and "[..], 10));
    second.write(b"second").unwrap();
    second.finish(digest, 16).unwrap();
    assert_eq!(library.read(digest).unwrap(), b"first and second");
    assert!(library.partials().unwrap().is_empty());
    // What was spoilt in between is not gone on with for ever.
    let (mut third, _) = resume(&library);
    third.write(b"first AND ").unwrap();
    drop(third);
    let (mut fourth, _) = resume(&library);
    fourth.write(b"second").unwrap();
    assert!(matches!(fourth.finish(digest, 16), Err(LibraryError::WrongDigest { .. })));
    assert!(library.partials().unwrap().is_empty());
    let (mut fifth, known) = resume(&library);
    assert!(known.is_empty());
    fifth.write(b"x").unwrap();
    fifth.discard().unwrap();
    resume(&library).0.write(b"y").unwrap();
    library.forget_partial(digest).unwrap();
    assert!(library.partials().unwrap().is_empty());
}

#[test]
fn damage_on_disk_is_noticed_when_read() {
    let (_folder, library) = library();
    let digest = library.put(b"sound").unwrap();
    fs::write(library.path(digest), b"found").unwrap();
    assert!(matches!(library.read(digest), Err(LibraryError::WrongDigest { .. })));
}

#[test]
fn concurrent_puts_of_one_digest_all_succeed() {
    let (_folder, library) = library();
    let bytes = vec![7; 1 << 20];
    let barrier = Barrier::new(8);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                barrier.wait();
                let mut incoming = library.writer().unwrap();
                incoming.write(&bytes).unwrap();
                let path = incoming.finish(Digest::of(&bytes), 1 << 20).unwrap();
                assert_eq!(fs::read(path).unwrap().len(), 1 << 20);
            });
        }
    });
    assert_eq!(library.read(Digest::of(&bytes)).unwrap(), bytes);
    assert_eq!(leftovers(&library), 0);
}

#[test]
fn import_links_or_copies() {
    let (_folder, one) = library();
    let (_other, two) = library();
    let digest = one.put(b"content").unwrap();
    two.import(&one, digest).unwrap();
    two.import(&one, digest).unwrap();
    assert_eq!(two.read(digest).unwrap(), b"content");
    one.remove(digest).unwrap();
    assert!(two.contains(digest));
    assert!(matches!(one.import(&two, Digest::of(b"x")), Err(LibraryError::Missing(_))));
    // /dev/shm is another file system than /tmp on the machines this is built on; where it is not, this is a link again.
    if let Ok(folder) = tempfile::tempdir_in("/dev/shm") {
        let three = Library::open(folder.path()).unwrap();
        three.import(&two, digest).unwrap();
        assert_eq!(three.read(digest).unwrap(), b"content");
    }
}

/// The child writes for ever and is killed at arbitrary moments: what is published is complete, and the next opening clears
/// the rest.
#[test]
fn a_kill_at_any_moment_leaves_only_complete_files() {
    const FOLDER: &str = "PATCHTIDE_TEST_LIBRARY";
    if let Ok(folder) = std::env::var(FOLDER) {
        let library = Library::open(folder).unwrap();
        for n in 0_u32.. {
            library.put(&n.to_le_bytes().repeat(50_000)).unwrap();
        }
    }
    let (_folder, library) = library();
    let mut published = 0;
    for round in 0_u64..8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "library::tests::a_kill_at_any_moment_leaves_only_complete_files"])
            .env(FOLDER, library.root())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(std::time::Duration::from_millis(25 + 17 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let again = Library::open(library.root()).unwrap();
        assert_eq!(leftovers(&again), 0);
        for (digest, _) in again.iter().unwrap() {
            again.read(digest).unwrap();
        }
        published = again.iter().unwrap().count();
    }
    assert!(published > 0, "the child never got to publish");
}
