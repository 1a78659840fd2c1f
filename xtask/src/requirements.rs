//! Every proof that `docs/requirements.md` names must exist.
//!
//! A row is `| R-XXX-nn | ... | proof |`; the last cell holds test names in backticks (`path::to::test_fn`), or
//! `n/a: reason`, or `not yet: reason`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

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

fn check(text: &str, tests: &BTreeSet<String>) -> Vec<String> {
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
            let function = name.rsplit("::").next().unwrap_or(name);
            if !tests.contains(function) {
                faults.push(format!("{place}: there is no test {name}"));
            }
        }
    }
    faults
}

/// The names of all test functions in the workspace's sources.
fn tests_of(folder: &Path) -> Result<BTreeSet<String>> {
    let mut tests = BTreeSet::new();
    let mut open = vec![folder.to_owned()];
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
                tests.extend(tests_in(&text));
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
        let tests = BTreeSet::from(["it_works".to_owned()]);
        let text = "| id | proof |\n| --- | --- |\n| R-MW-01 | said | `model::window::it_works` |\n\
            | R-MW-02 | `gone` |\n| R-MW-03 | n/a: no display |\n| R-MW-04 | not yet: |\n| R-MW-05 | hopefully |\n\
            | R-MW-01 | `it_works` |\n";
        let faults = check(text, &tests);
        assert_eq!(faults.len(), 4, "{faults:?}");
        for (fault, word) in
            faults.iter().zip(["no test gone", "reason is missing", "R-MW-05: no", "line 3 already"])
        {
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
