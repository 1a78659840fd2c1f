use std::process::Command;

use super::*;

struct Bed {
    dir: tempfile::TempDir,
}

impl Bed {
    fn new() -> Self {
        let bed = Self { dir: tempfile::tempdir().unwrap() };
        bed.git(&["init", "-q", "-b", "main", "."]);
        bed.commit("one");
        bed
    }

    fn git(&self, args: &[&str]) -> String {
        let path = self.dir.path().join("origin");
        std::fs::create_dir_all(&path).unwrap();
        let output = Command::new("git")
            .args(["-c", "user.name=a", "-c", "user.email=a@b.c"])
            .args(args)
            .current_dir(path)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn commit(&self, message: &str) -> Oid {
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        Oid::from_str(&self.git(&["rev-parse", "HEAD"])).unwrap()
    }

    fn fetch(&self, reference: &Reference, applied: Option<Oid>) -> Result<Fetched, FetchError> {
        self.cache().fetch(&Request { applied, ..self.request(reference) })
    }

    fn cache(&self) -> Cache {
        Cache::new(&self.dir.path().join("cache"))
    }

    fn request(&self, reference: &Reference) -> Request {
        Request {
            url: format!("file://{}", self.dir.path().join("origin").display()),
            reference: reference.clone(),
            credentials: Credentials::default(),
            limits: Limits::default(),
            applied: None,
            allow_rewrite: false,
            now: jiff::Timestamp::UNIX_EPOCH,
        }
    }
}

#[test]
fn branches_tags_and_commits_are_fetched() {
    let bed = Bed::new();
    let one = bed.commit("two");
    bed.git(&["tag", "-a", "-m", "v1", "v1"]);
    let two = bed.commit("three");
    let main = bed.fetch(&Reference::Branch("main".into()), Some(one)).unwrap();
    assert_eq!((main.commit, main.revision), (two, format!("main@sha1:{two}")));
    let tag = bed.fetch(&Reference::Tag("v1".into()), None).unwrap();
    assert_eq!(tag.commit, one);
    assert_ne!(tag.object, one);
    let commit = bed.fetch(&Reference::Commit(one.to_string()), None).unwrap();
    assert_eq!(commit.revision, format!("sha1:{one}"));
}

#[test]
fn bad_input_28_missing_branch() {
    let error = Bed::new().fetch(&Reference::Branch("absent".into()), None).unwrap_err();
    assert!(error.to_string().starts_with("GIT-REF-NOTFOUND: spec.ref: branch absent"), "{error}");
}

#[test]
fn bad_input_28_empty_repository() {
    let bed = Bed { dir: tempfile::tempdir().unwrap() };
    bed.git(&["init", "-q", "-b", "main", "."]);
    let error = bed.fetch(&Reference::Branch("main".into()), None).unwrap_err();
    assert!(matches!(error, FetchError::NotFound(_)), "{error}");
}

#[test]
fn bad_input_29_rewritten_history() {
    let bed = Bed::new();
    let applied = bed.commit("two");
    bed.git(&["reset", "-q", "--hard", "HEAD~1"]);
    bed.commit("other");
    let error = bed.fetch(&Reference::Branch("main".into()), Some(applied)).unwrap_err();
    assert!(matches!(error, FetchError::NotDescendant { .. }), "{error}");
}

#[test]
fn bad_input_31_a_damaged_cache_is_discarded_and_fetched_anew() {
    let bed = Bed::new();
    let head = bed.commit("two");
    bed.fetch(&Reference::Branch("main".into()), None).unwrap();
    let cache = bed.dir.path().join("cache");
    // Damage every stored object of the cache, whether packed or loose.
    let mut folders = vec![cache.join("objects")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                let length = entry.metadata().unwrap().len();
                std::fs::remove_file(entry.path()).unwrap();
                std::fs::write(entry.path(), vec![0; usize::try_from(length).unwrap()]).unwrap();
            }
        }
    }
    let first = bed.fetch(&Reference::Branch("main".into()), None);
    let again = if first.is_ok() { first } else { bed.fetch(&Reference::Branch("main".into()), None) };
    assert_eq!(again.unwrap().commit, head);
}

#[test]
fn bad_input_37_limits_are_named() {
    let bed = Bed::new();
    let limits = Limits { references: 0, ..Limits::default() };
    let main = Reference::Branch("main".into());
    let error = bed.cache().fetch(&Request { limits, ..bed.request(&main) }).unwrap_err();
    assert!(error.to_string().contains("references"), "{error}");
}

#[test]
fn bad_input_43_a_message_of_megabytes_is_refused_before_it_is_read() {
    let bed = Bed::new();
    let path = bed.dir.path().join("message");
    std::fs::write(&path, "x".repeat(2 << 20)).unwrap();
    bed.git(&["commit", "-q", "--allow-empty", "-F", path.to_str().unwrap()]);
    let error = bed.fetch(&Reference::Branch("main".into()), None).unwrap_err();
    assert!(error.to_string().starts_with("GIT-LIMIT") && error.to_string().contains("message"), "{error}");
}

#[test]
fn bad_input_30_a_branch_and_a_tag_of_one_name_are_told_apart() {
    let bed = Bed::new();
    let tagged = bed.commit("two");
    bed.git(&["tag", "same"]);
    let branched = bed.commit("three");
    bed.git(&["branch", "same"]);
    assert_eq!(bed.fetch(&Reference::Branch("same".into()), None).unwrap().commit, branched);
    assert_eq!(bed.fetch(&Reference::Tag("same".into()), None).unwrap().commit, tagged);
}

#[test]
fn a_cache_whose_making_was_broken_off_is_made_anew() {
    let bed = Bed::new();
    let cache = bed.dir.path().join("cache");
    std::fs::create_dir_all(&cache).unwrap();
    std::fs::write(cache.join("HEAD"), "").unwrap();
    bed.fetch(&Reference::Branch("main".into()), None).unwrap();
}

#[test]
fn bad_input_28_a_tag_that_leads_to_no_commit_is_told_and_discards_nothing() {
    let bed = Bed::new();
    bed.fetch(&Reference::Branch("main".into()), None).unwrap();
    std::fs::write(bed.dir.path().join("origin/key.asc"), "a key").unwrap();
    let blob = bed.git(&["hash-object", "-w", "key.asc"]);
    bed.git(&["tag", "-a", "-m", "a key", "key", &blob]);
    let error = bed.fetch(&Reference::Tag("key".into()), None).unwrap_err();
    assert!(error.to_string().starts_with("GIT-REF-NOTFOUND: spec.ref: tag key"), "{error}");
    assert!(bed.dir.path().join("cache/refs/patchtide/fetched").exists(), "the cache was discarded");
}

#[test]
fn packs_of_very_many_fetches_become_one() {
    let bed = Bed::new();
    let main = Reference::Branch("main".into());
    let applied = bed.fetch(&main, None).unwrap().commit;
    let packs = bed.dir.path().join("cache/objects/pack");
    for number in 0..SCATTERED {
        std::fs::write(packs.join(format!("pack_git2_{number}")), "half").unwrap();
    }
    bed.fetch(&main, Some(applied)).unwrap();
    let left = std::fs::read_dir(&packs).unwrap().count();
    assert!(left < 10, "{left} files");
}
