//! Every proof that `docs/requirements.md` names must exist.
//!
//! A row is `| R-XXX-nn | ... | proof |`; the last cell holds test names in backticks (`folder::file::test_fn`: the path of
//! the test's file has every segment), or `n/a: reason`, or `not yet: reason`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::shell::workspace;

const DOCUMENT: &str = "docs/requirements.md";

pub(crate) fn run() -> Result<()> {
    let path = workspace().join(DOCUMENT);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let tests = tests_of(&workspace())?;
    let faults = check(&text, &tests);
    if faults.is_empty() {
        let rows = text.lines().filter(|line| row(line).is_some()).count();
        println!("requirements: the proofs of {rows} rows exist ({} tests known)", tests.len());
        return Ok(());
    }
    bail!("{DOCUMENT}:\n  {}", faults.join("\n  "));
}

/// Id and proof of a table row.
fn row(line: &str) -> Option<(&str, &str)> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    let (id, _) = inner.split_once('|')?;
    let (_, proof) = inner.rsplit_once('|')?;
    let (id, proof) = (id.trim(), proof.trim());
    let is_id = id.strip_prefix("R-").is_some_and(|rest| {
        rest.split_once('-').is_some_and(|(area, number)| {
            !area.is_empty()
                && !number.is_empty()
                && rest.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        })
    });
    is_id.then_some((id, proof))
}

/// Test functions, each with the files that have one of this name.
type Tests = BTreeMap<String, Vec<PathBuf>>;

/// True when a test of this name stands in a file whose path has every other segment of the name.
fn exists(tests: &Tests, name: &str) -> bool {
    let mut segments: Vec<_> = name.split("::").collect();
    let function = segments.pop().unwrap_or(name);
    tests.get(function).into_iter().flatten().any(|file| {
        let file = file.with_extension("");
        let parts: Vec<_> = file.iter().map(|part| part.to_string_lossy().replace('-', "_")).collect();
        segments.iter().all(|segment| parts.iter().any(|part| part == segment))
    })
}

fn check(text: &str, tests: &Tests) -> Vec<String> {
    let mut faults = Vec::new();
    let mut seen = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let Some((id, proof)) = row(line) else { continue };
        let place = format!("line {}: {id}", number + 1);
        if let Some(first) = seen.insert(id, number + 1) {
            faults.push(format!("{place}: stands in line {first} already"));
        }
        let excuse = ["n/a:", "not yet:"].iter().find_map(|word| proof.strip_prefix(word));
        if let Some(reason) = excuse {
            if reason.trim().is_empty() {
                faults.push(format!("{place}: a reason is missing"));
            }
            continue;
        }
        let names: Vec<_> = proof.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            faults.push(format!("{place}: no `test::name`, no `n/a: reason`, no `not yet: reason`"));
        }
        for name in names {
            if !exists(tests, name) {
                faults.push(format!("{place}: there is no test {name}"));
            }
        }
    }
    faults
}

/// All test functions in the workspace's sources; paths as seen from its top folder.
fn tests_of(top: &Path) -> Result<Tests> {
    let mut tests = Tests::new();
    let mut open = vec![top.to_owned()];
    while let Some(folder) = open.pop() {
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries.flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            let kind = entry.file_type().with_context(|| format!("cannot look at {}", path.display()))?;
            if kind.is_dir() && !name.starts_with('.') && !name.starts_with("target") {
                open.push(path);
            } else if kind.is_file() && name.ends_with(".rs") {
                let text =
                    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
                let path = path.strip_prefix(top).unwrap_or(&path);
                for test in tests_in(&text) {
                    tests.entry(test).or_default().push(path.to_owned());
                }
            }
        }
    }
    Ok(tests)
}

/// Functions that stand behind a test attribute, or in a `proptest!` block, and the names in `on_both!(...)`, which the
/// store's tests turn into a test on each database.
fn tests_in(text: &str) -> Vec<String> {
    let lists = text.split("\non_both!(").skip(1).filter_map(|rest| rest.split_once(')'));
    let names = lists.flat_map(|(names, _)| names.split(',')).map(|name| name.trim().to_owned());
    let mut tests: Vec<String> = names.filter(|name| !name.is_empty()).collect();
    let mut marked = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            marked = true;
        } else if let Some(rest) = line.strip_prefix("fn ").or_else(|| line.strip_prefix("async fn ")) {
            if marked {
                let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
                tests.push(name.to_owned());
            }
            marked = false;
        } else if !line.starts_with("#[") && !line.starts_with("//") && !line.is_empty() {
            marked = false;
        }
    }
    tests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_checked_one_by_one() {
        let file = PathBuf::from("model/src/window/mod.rs");
        let tests = Tests::from([("it_works".to_owned(), vec![file])]);
        let text = "| id | proof |\n| --- | --- |\n| R-MW-01 | said | `model::window::it_works` |\n\
            | R-MW-02 | `gone` |\n| R-MW-03 | n/a: no display |\n| R-MW-04 | not yet: |\n| R-MW-05 | hopefully |\n\
            | R-MW-01 | `it_works` |\n| R-MW-06 | `planner::window::it_works` |\n";
        let faults = check(text, &tests);
        assert_eq!(faults.len(), 5, "{faults:?}");
        let words = [
            "no test gone",
            "reason is missing",
            "R-MW-05: no",
            "line 3 already",
            "no test planner::window::it_works",
        ];
        for (fault, word) in faults.iter().zip(words) {
            assert!(fault.contains(word), "{fault}");
        }
    }

    #[test]
    fn only_functions_marked_as_tests_count() {
        let text = "#[test]\n// why\n#[expect(x)]\nfn one() {}\nfn helper() {}\n#[tokio::test(flavor = \"x\")]\nasync fn two() {}\n";
        assert_eq!(tests_in(text), ["one", "two"]);
        assert_eq!(
            tests_in("use a;\n\non_both!(\n    one,\n    two,\n);\non_both!(three);\n"),
            ["one", "two", "three"]
        );
    }

    #[test]
    fn named_proofs_exist() {
        run().unwrap();
    }
}
