//! Repositories and servers made to exhaust: bad input 37 (reliability 4), each answered in bounded time and memory.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use flate2::{Compression, write::ZlibEncoder};
use git2::{ObjectType, Oid, Repository};
use patchtide_controller::{
    clock::{Clock as _, SystemClock},
    git::{
        fetch::{Cache, FetchError, Limits, Reference, Request},
        tree,
    },
};

use super::{
    Bed, key, password,
    ssh::Sshd,
    tls::{Identity, Manner},
};

/// Links of a chain: what the catalogue asks for. Git itself never writes more than 4,095.
const DEPTH: usize = 10_000;

/// One at a time: what they measure is the whole process.
static ALONE: Mutex<()> = Mutex::new(());

/// Kilobytes that the process holds: now, or at most since the peak was last reset.
fn kilobytes(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// How far the memory of the process grows.
struct Memory {
    before: u64,
}

impl Memory {
    /// From now on.
    fn watch() -> Self {
        // Resets the peak.
        fs::write("/proc/self/clear_refs", "5").unwrap();
        Self { before: kilobytes("VmRSS") }
    }

    /// Mebibytes, at most at once.
    fn grown(&self) -> u64 {
        kilobytes("VmHWM").saturating_sub(self.before) >> 10
    }
}

#[test]
fn bad_input_37_a_million_references_are_not_taken_in() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (bed, identity) = (Bed::new(), Identity::new("localhost", 2099));
    let mut packed = String::from("# pack-refs with: peeled fully-peeled sorted \n");
    for number in 0..1_000_000 {
        writeln!(packed, "{} refs/heads/n{number:07}", bed.head).unwrap();
    }
    fs::write(bed.repository.path().join(".git/packed-refs"), packed).unwrap();
    let told = |error: FetchError| {
        let text = error.to_string();
        assert!(text.starts_with("GIT-LIMIT: spec.url: "), "{text}");
        assert!(
            text.contains("references offered by the server") && text.contains("delete branches"),
            "{text}"
        );
    };
    let sshd = Sshd::start(&bed.folder.path().join("ssh"));
    // The server is another process here, so that what grows is the client.
    let (started, memory) = (Instant::now(), Memory::watch());
    let request = Request { limits: Limits::default(), ..request(&sshd.url(bed.repository.path())) };
    let request = Request { credentials: key(&sshd), ..request };
    told(Cache::new(&bed.cache()).fetch(&request).unwrap_err());
    let grown = memory.grown();
    println!("ssh: {:.1} s, {grown} MiB", started.elapsed().as_secs_f64());
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    assert!(grown < 120, "{grown} MiB");
    let started = Instant::now();
    let (_server, url) = bed.serve(&identity, Manner::Honest);
    let request = Request { credentials: password(&identity), ..self::request(&url) };
    told(Cache::new(&bed.cache()).fetch(&request).unwrap_err());
    println!("https: {:.1} s", started.elapsed().as_secs_f64());
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
}

fn request(url: &str) -> Request {
    Request {
        url: url.to_owned(),
        reference: Reference::Branch("main".into()),
        credentials: patchtide_controller::git::fetch::Credentials::default(),
        limits: Limits { time: Duration::from_mins(1), ..Limits::default() },
        applied: None,
        allow_rewrite: false,
        now: SystemClock.now(),
    }
}

/// A pack, object by object.
struct Pack {
    bytes: Vec<u8>,
    objects: u32,
}

impl Pack {
    fn new() -> Self {
        Self { bytes: b"PACK\0\0\0\x02\0\0\0\0".to_vec(), objects: 0 }
    }

    /// Appends an object of this type in the pack's numbering; `base` is what a delta is against.
    fn object(&mut self, kind: u8, base: Option<Oid>, data: &[u8]) {
        self.objects += 1;
        let mut rest = data.len() >> 4;
        let mut byte = (kind << 4) | u8::try_from(data.len() & 15).unwrap();
        while rest > 0 {
            self.bytes.push(byte | 0x80);
            byte = u8::try_from(rest & 0x7f).unwrap();
            rest >>= 7;
        }
        self.bytes.push(byte);
        self.bytes.extend(base.iter().flat_map(|base| base.as_bytes().to_vec()));
        let mut deflate = ZlibEncoder::new(Vec::new(), Compression::fast());
        deflate.write_all(data).unwrap();
        self.bytes.extend(deflate.finish().unwrap());
    }

    /// The whole, with its count and its digest.
    fn end(mut self) -> Vec<u8> {
        self.bytes[8..12].copy_from_slice(&self.objects.to_be_bytes());
        let mut child = Command::new("sha1sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&self.bytes).unwrap();
        let output = child.wait_with_output().unwrap().stdout;
        let digest: Oid = std::str::from_utf8(&output[..40]).unwrap().parse().unwrap();
        self.bytes.extend_from_slice(digest.as_bytes());
        self.bytes
    }
}

const COMMIT: u8 = 1;
const TREE: u8 = 2;
const BLOB: u8 = 3;
const DELTA: u8 = 7;

/// The content of link `number`: another first line, the same rest.
fn link(number: usize) -> Vec<u8> {
    format!("#{number:08}\nkind: X\n").into_bytes()
}

/// What makes `link(number)` out of any other.
fn delta(number: usize) -> Vec<u8> {
    let content = link(number);
    let length = u8::try_from(content.len()).unwrap();
    // Sizes of base and result; ten bytes as they stand; then from offset 10 what is left.
    let mut delta = vec![length, length, 10];
    delta.extend_from_slice(&content[..10]);
    delta.extend_from_slice(&[0b1001_0001, 10, length - 10]);
    delta
}

/// A commit whose one file is the last of a chain of deltas, and the pack that holds it; `backwards`: each delta comes
/// before what it is against.
fn chain(backwards: bool) -> (Oid, Vec<u8>) {
    let id = |number| Oid::hash_object(ObjectType::Blob, &link(number)).unwrap();
    let mut pack = Pack::new();
    pack.object(BLOB, None, &link(0));
    let numbers: Vec<usize> = if backwards { (1..=DEPTH).rev().collect() } else { (1..=DEPTH).collect() };
    for number in numbers {
        pack.object(DELTA, Some(id(number - 1)), &delta(number));
    }
    let mut root = b"100644 a.yaml\0".to_vec();
    root.extend_from_slice(id(DEPTH).as_bytes());
    pack.object(TREE, None, &root);
    let root = Oid::hash_object(ObjectType::Tree, &root).unwrap();
    let commit =
        format!("tree {root}\nauthor a <a@b> 1700000000 +0000\ncommitter a <a@b> 1700000000 +0000\n\nx\n");
    pack.object(COMMIT, None, commit.as_bytes());
    (Oid::hash_object(ObjectType::Commit, commit.as_bytes()).unwrap(), pack.end())
}

/// Makes the repository's branch name a commit that git would not send this way.
fn offer(bed: &Bed, commit: Oid, pack: &[u8]) {
    let objects = bed.folder.path().join("chain");
    fs::create_dir_all(&objects).unwrap();
    let mut child = bed
        .repository
        .command()
        .args(["index-pack", "--stdin", "--fix-thin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(pack).unwrap();
    assert!(child.wait().unwrap().success(), "git does not take the pack itself");
    bed.repository.git(&["update-ref", "refs/heads/main", &commit.to_string()]).unwrap();
}

fn file(cache: &Path, commit: Oid) -> Vec<u8> {
    let repository = Repository::open_bare(cache).unwrap();
    let files = tree::read(&repository, commit, "", tree::Limits::default()).unwrap();
    files.files["a.yaml"].clone()
}

#[test]
fn bad_input_37_a_chain_of_ten_thousand_deltas_is_read_or_left_in_time() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let identity = Identity::new("localhost", 2099);
    // In good order it costs little, however deep it is.
    let bed = Bed::new();
    let (commit, pack) = chain(false);
    offer(&bed, commit, &pack);
    let (_server, url) = bed.serve(&identity, Manner::Pack(Arc::new(pack)));
    let (started, memory) = (Instant::now(), Memory::watch());
    let fetched = bed.fetch(&url, password(&identity), 30).unwrap();
    assert_eq!(fetched.commit, commit);
    assert_eq!(file(&bed.cache(), commit), link(DEPTH));
    let grown = memory.grown();
    println!("in order: {:.1} s, {grown} MiB", started.elapsed().as_secs_f64());
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    assert!(grown < 128, "{grown} MiB");
    // In the worst order each look through all of them finds one: it ends at the time of the fetch, if not before.
    let bed = Bed::new();
    let (commit, pack) = chain(true);
    offer(&bed, commit, &pack);
    let (_server, url) = bed.serve(&identity, Manner::Pack(Arc::new(pack)));
    let started = Instant::now();
    match bed.fetch(&url, password(&identity), 4) {
        Ok(_) => assert_eq!(file(&bed.cache(), commit), link(DEPTH)),
        Err(error) => assert!(error.to_string().starts_with("GIT-TIMEOUT"), "{error}"),
    }
    println!("backwards: {:.1} s", started.elapsed().as_secs_f64());
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
}

/// Points the branch at a tree of `count` files, each the same blob, and returns the commit.
fn wide(bed: &Bed, count: usize) -> Oid {
    let repository = Repository::open(bed.repository.path()).unwrap();
    let blob = repository.revparse_single("HEAD:a.yaml").unwrap().id();
    let mut raw = Vec::new();
    for number in 0..count {
        write!(raw, "100644 f{number:07}.yaml\0").unwrap();
        raw.extend_from_slice(blob.as_bytes());
    }
    let root = repository.odb().unwrap().write(ObjectType::Tree, &raw).unwrap().to_string();
    let commit = bed.repository.git(&["commit-tree", "-p", "HEAD", "-m", "wide", &root]).unwrap();
    bed.repository.git(&["update-ref", "refs/heads/main", commit.trim()]).unwrap();
    commit.trim().parse().unwrap()
}

#[test]
fn bad_input_37_a_million_files_are_not_read() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let identity = Identity::new("localhost", 2099);
    for (count, says) in [(1_000_000, "bytes of a folder's listing"), (300_000, "entries")] {
        let bed = Bed::new();
        let commit = wide(&bed, count);
        let (_server, url) = bed.serve(&identity, Manner::Honest);
        let (started, memory) = (Instant::now(), Memory::watch());
        let request = Request { credentials: password(&identity), ..request(&url) };
        assert_eq!(Cache::new(&bed.cache()).fetch(&request).unwrap().commit, commit);
        let repository = Repository::open_bare(bed.cache()).unwrap();
        let limits = tree::Limits { files: 400_000, ..tree::Limits::default() };
        let error = tree::read(&repository, commit, "", limits).unwrap_err().to_string();
        assert!(error.starts_with("GIT-LIMIT") && error.contains(says), "{error}");
        assert!(error.contains("set spec.path"), "{error}");
        let grown = memory.grown();
        println!("{count} files: {:.1} s, {grown} MiB", started.elapsed().as_secs_f64());
        assert!(started.elapsed() < Duration::from_secs(15) && grown < 256, "{grown} MiB");
    }
}

/// Nothing, 256 MiB of it, deflates to a quarter of a mebibyte, which no limit of bytes received holds back: it is never
/// inflated as a whole, neither while it is fetched nor when the commit is read. (The catalogue's gibibyte takes half a
/// minute to make, and no more memory.)
#[test]
fn bad_input_37_a_blob_that_deflates_to_nothing_is_never_held() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (bed, identity) = (Bed::new(), Identity::new("localhost", 2099));
    let path = bed.repository.path().join("bomb.yaml");
    fs::File::create(&path).unwrap().set_len(256 << 20).unwrap();
    bed.repository.git(&["-c", "core.compression=1", "add", "bomb.yaml"]).unwrap();
    fs::remove_file(&path).unwrap();
    bed.repository.git(&["commit", "-q", "-m", "bomb"]).unwrap();
    let commit: Oid = bed.repository.head().unwrap().parse().unwrap();
    let (_server, url) = bed.serve(&identity, Manner::Honest);
    let (started, memory) = (Instant::now(), Memory::watch());
    let request = Request { credentials: password(&identity), ..request(&url) };
    assert_eq!(Cache::new(&bed.cache()).fetch(&request).unwrap().commit, commit);
    let repository = Repository::open_bare(bed.cache()).unwrap();
    let read = tree::read(&repository, commit, "", tree::Limits::default()).unwrap();
    let told: Vec<String> = read.findings.iter().map(ToString::to_string).collect();
    assert!(told.len() == 1 && told[0].starts_with("bomb.yaml YAML-SIZE: 268435456 bytes"), "{told:?}");
    assert_eq!(read.files.keys().collect::<Vec<_>>(), ["a.yaml"]);
    let grown = memory.grown();
    println!("a bomb: {:.1} s, {grown} MiB", started.elapsed().as_secs_f64());
    assert!(grown < 96, "{grown} MiB");
}

#[test]
fn what_a_server_says_is_shown_without_the_password_and_without_control_characters() {
    let (bed, identity) = (Bed::new(), Identity::new("localhost", 2099));
    let (_server, url) = bed.serve(&identity, Manner::Echo);
    let error = bed.fetch(&url, password(&identity), 30).unwrap_err();
    let FetchError::Operation(source) = &error else { panic!("{error:?}") };
    assert!(source.message().contains("is not the password"), "{source}");
    assert!(!source.message().contains(super::tls::USER.1), "{source}");
    assert!(!source.message().contains('\x1b'), "{source:?}");
}
