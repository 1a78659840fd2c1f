//! What people ask of a running site with `kubectl patchtide`, and what they are told when they ask wrongly.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use patchtide_tests::demo::{Line, NAMESPACE};
use patchtide_tests::paths;
use patchtide_tests::process::run;
use patchtide_tests::wait;
use serde_json::Value;

use crate::{ask, ask_as, copy_yaml, snapshot};

/// An answer that must have this exit status; its standard output.
fn answer(line: &Line, status: i32, words: &[&str]) -> Result<String> {
    let (code, out, error) = ask(line, words)?;
    ensure!(code == status, "{words:?} ended with {code}: {out}{error}");
    Ok(out)
}

fn json(text: &str) -> Result<Value> {
    serde_json::from_str(text).with_context(|| format!("no JSON: {text}"))
}

/// `why` of an update that waits because its deployment is suspended: the site in words and as JSON, and the agent.
pub(crate) fn why(line: &Line, source: &str) -> Result<()> {
    let words = answer(line, 0, &["why", "web-1", source])?;
    for part in [source, "suspended", "UpdateDeployment/security", "spec.suspend"] {
        ensure!(words.contains(part), "{part:?} is missing: {words}");
    }
    let site = json(&answer(line, 0, &["why", "web-1", source, "-o", "json"])?)?;
    let agent = line.host("web-1")?.exec(&["patchtide-agent", "why", source, "-o", "json"])?;
    let agent = json(&agent)?;
    ensure!((&site["source"], &agent["source"]) == (&"site".into(), &"agent".into()), "{site} {agent}");
    ensure!(site["updates"].as_array().map(Vec::len) == Some(1), "{site}");
    for told in [&site, &agent] {
        let gates = told["updates"][0]["gates"].to_string();
        ensure!(gates.contains("suspend") && !told["updates"][0]["waitsFor"].is_null(), "{gates}");
        ensure!(told["updates"][0]["detection"]["id"] == 2, "required: {told}");
    }
    let id = site["client"]["id"].as_str().context("no id")?;
    ensure!(id == agent["client"]["id"], "one client: {site} {agent}");
    // By the client's id and the deployment's name too.
    let whole = answer(line, 0, &["why", id, "security"])?;
    ensure!(whole.contains("web-1") && whole.contains(source), "{whole}");
    Ok(())
}

/// `plan`, live and against a snapshot: nothing, a change, its forms, its hash.
pub(crate) fn plan(line: &Line, changed: &[(&str, &str)]) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (same, other) = (folder.path().join("same"), folder.path().join("other"));
    copy_yaml(line.repository().path(), &same)?;
    copy_yaml(line.repository().path(), &other)?;
    for (name, text) in changed {
        fs::write(other.join(name), text)?;
    }
    let of = |path: &Path| path.display().to_string();
    let (same, other) = (of(&same), of(&other));
    // The whole catalogue is read for each: as few as tell everything.
    let table = answer(line, 2, &["plan", "-f", &other])?;
    ensure!(table.contains("security") && table.contains("spec.suspend"), "{table}");

    // Later, and of a snapshot without a cluster: one plan, one hash, in every form.
    let kept = of(&folder.path().join("site.json.zst"));
    answer(line, 0, &["snapshot", "--out", &kept])?;
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&kept)?.permissions());
    ensure!(mode.trailing_zeros() >= 6, "others may read the snapshot: {mode:o}");
    let first = json(&answer(line, 2, &["plan", "-f", &other, "-o", "json"])?)?;
    let hash = first["hash"].as_str().context("no hash")?;
    ensure!(hash.starts_with("sha256:") && first["outcome"] == "changes", "{first}");
    let now = first["at"].as_str().context("no instant")?;
    let again = ["plan", "-f", &other, "-o", "json", "--now", now];
    ensure!(json(&answer(line, 2, &again)?)?["hash"] == hash, "the hash changed");
    let nowhere = folder.path().join("nowhere");
    let offline = ["plan", "-f", &other, "-o", "markdown", "--now", now, "--snapshot", &kept];
    let (code, markdown, error) = ask_as(&nowhere, &offline)?;
    ensure!(code == 2, "{markdown}{error}");
    ensure!(markdown.starts_with("### Patchtide plan") && markdown.contains("<details>"), "{markdown}");
    ensure!(markdown.contains(hash), "live {first:#}\n\noffline {markdown}");
    let (code, nothing, error) = ask_as(&nowhere, &["plan", "-f", &same, "--snapshot", &kept])?;
    ensure!(code == 0 && nothing.contains("Nothing changes"), "{code}: {nothing}{error}");
    // What it says of the change: everybody lacks the one update, and the one with a window waits for it.
    let after = &first["forecast"]["deployments"][0]["after"];
    ensure!(after["targeted"] == 3 && after["lacking"] == 3, "{after:#}");
    ensure!(after["installs"].to_string().contains("nightly"), "{after:#}");
    // A file that is wrong is an error and no change.
    fs::write(
        folder.path().join("other/update-list.yaml"),
        "apiVersion: patchtide.dev/v1alpha1\nkind: UpdateLst\n",
    )?;
    let (code, out, _) = ask(line, &["plan", "-f", &other])?;
    ensure!(code == 1 && out.contains("update-list.yaml"), "{code}: {out}");
    // The commit that is in force, from the repository.
    let git = ask_in(line, line.repository().path(), &["plan", "-f", "HEAD"])?;
    ensure!(git.0 == 0, "{git:?}");
    Ok(())
}

fn ask_in(line: &Line, folder: &Path, words: &[&str]) -> Result<(i32, String, String)> {
    let mut command = crate::program(line.plane().kubeconfig())?;
    crate::ended(command.current_dir(folder).args(["-n", NAMESPACE]).args(words))
}

/// `windows` of the cluster, the same as of the file that was committed.
pub(crate) fn windows(line: &Line) -> Result<()> {
    let week = ["--client-zone", "UTC", "--from", "2026-12-01", "--to", "2026-12-08", "-o", "json"];
    let cluster = answer(line, 0, &[&["windows", "nightly"], &week[..]].concat())?;
    let file = line.repository().path().join("maintenance-window.yaml").display().to_string();
    let (_, of_file, _) = ask(line, &[&["windows", "-f", &file], &week[..]].concat())?;
    ensure!(cluster == of_file, "{cluster}\n{of_file}");
    let spans = json(&cluster)?;
    let opens = format!("2026-12-03T{}:00Z", line.window_opens());
    ensure!(spans.as_array().into_iter().flatten().any(|span| span["start"] == opens.as_str()), "{spans}");
    let table = answer(line, 0, &["windows"])?;
    ensure!(table.contains("nightly"), "{table}");
    let (code, _, error) = ask(line, &["windows", "nightli"])?;
    ensure!(code == 1 && error.contains("nightli") && error.contains("nightly"), "{error}");
    Ok(())
}

/// `patchtide db snapshot` beside the running server says what the reporting point says.
pub(crate) fn database(line: &Line) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("site.json");
    wait::until("the database to say what the reporting point says", Duration::from_mins(1), || {
        let read = || -> Result<(Value, Value)> {
            let _ = fs::remove_file(&out);
            let mut command = Command::new(paths::program("patchtide", "patchtide")?);
            command.args(["db", "snapshot", "--no-catalogue", "--namespace", NAMESPACE, "--out"]).arg(&out);
            run(command.arg("--data").arg(line.data()))?;
            Ok((json(&fs::read_to_string(&out)?)?, snapshot(line)?))
        };
        let (database, cluster) = read().map_err(|error| format!("{error:#}"))?;
        // A client may report something between the two.
        let parts = ["input", "reports", "pinned", "lists"];
        match parts.iter().find(|part| database[**part] != cluster[**part]) {
            None => Ok(()),
            Some(part) => Err(format!("{part} differs: {} {}", database[*part], cluster[*part])),
        }
    })?;
    let kept = out.display().to_string();
    let (code, text, error) = ask_as(&folder.path().join("nowhere"), &["why", "web-1", "--snapshot", &kept])?;
    ensure!(code == 0 && text.contains("web-1"), "{text}{error}");
    Ok(())
}

/// Somebody new, who does it wrong: each answer names what is wrong and what helps.
pub(crate) fn mistakes(line: &Line, folder: &Path) -> Result<()> {
    let wrong = |words: &[&str], parts: &[&str]| -> Result<()> {
        let (code, out, error) = ask(line, words)?;
        ensure!(code == 1, "{words:?}: {code} {out}{error}");
        told(words, &error, parts)
    };
    wrong(&["why", "web-9"], &["web-9", "web-1"])?;
    wrong(&["why", "WEB"], &["WEB"])?;
    wrong(&["why", "web-1", "secruity"], &["secruity", "security"])?;
    wrong(&["why", "web-1", "no-such-thing"], &["no-such-thing"])?;
    wrong(&["status", "secruity"], &["secruity"])?;
    wrong(&["snapshot", "--client", "web-9", "--out", "/dev/null"], &["web-9"])?;
    let (code, _, error) =
        crate::ended(crate::program(line.plane().kubeconfig())?.args(["-n", "default", "why", "web-1"]))?;
    ensure!(code == 1, "{error}");
    told(&["-n default"], &error, &["namespace default", "-n"])?;

    // No cluster at all.
    for words in [&["why", "web-1"][..], &["status"], &["windows"], &["plan", "-f", "."], &["snapshot"]] {
        let (code, _, error) = ask_as(&folder.join("nowhere"), words)?;
        ensure!(code == 1, "{error}");
        told(words, &error, &["nowhere", "KUBECONFIG"])?;
    }
    // One that is not there any more.
    let gone = folder.join("gone.kubeconfig");
    let mut text = json(&line.plane().kubectl(&["config", "view", "--raw", "-o", "json"])?)?;
    text["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:9".into();
    fs::write(&gone, text.to_string())?;
    let (code, _, error) = ask_as(&gone, &["why", "web-1"])?;
    ensure!(code == 1, "{error}");
    told(&["gone"], &error, &["127.0.0.1:9"])?;

    // A user without rights.
    let nobody = folder.join("nobody.kubeconfig");
    line.plane().service_account_kubeconfig(NAMESPACE, "default", &nobody)?;
    for words in [&["why", "web-1"][..], &["status"], &["windows"], &["plan", "-f", "."], &["snapshot"]] {
        let (code, _, error) = ask_as(&nobody, &[&["-n", NAMESPACE], words].concat())?;
        ensure!(code == 1, "{error}");
        told(words, &error, &["forbidden", NAMESPACE])?;
    }
    Ok(())
}

/// Every part stands in what was said; and no traces of the program.
pub(crate) fn told(words: &[&str], said: &str, parts: &[&str]) -> Result<()> {
    println!("{words:?} says: {}", said.trim());
    for part in parts {
        ensure!(said.contains(part), "{words:?}: {part:?} is missing in: {said}");
    }
    ensure!(!said.contains("backtrace") && !said.contains("{ "), "not for people: {said}");
    Ok(())
}

/// `report`: how many have all of the list, by state and by degree; who they are; what the deployment's status says.
pub(crate) fn reports(line: &Line, compliant: u64) -> Result<()> {
    let of = |words: &[&str]| -> Result<Value> {
        json(&answer(line, 0, &[&["report"], words, &["-o", "json"]].concat())?)
    };
    let count = |report: &Value, state: &str| {
        let rows = report["rows"].as_array().into_iter().flatten();
        rows.filter(|row| row["cells"][0] == state).filter_map(|row| row["cells"][1].as_u64()).sum::<u64>()
    };
    // The list is in force in the register a moment after it is in the cluster.
    let expected = (compliant, 3 - compliant, 0);
    wait::until("the report to say so", Duration::from_secs(30), || {
        let report = of(&["compliance-1", "--list", "security"]).map_err(|error| format!("{error:#}"))?;
        let states = ["Compliant", "Non-compliant", "Compliance state unknown"];
        let found = states.map(|state| count(&report, state));
        if found == [expected.0, expected.1, expected.2] {
            Ok(())
        } else {
            Err(format!("{found:?}: {report}"))
        }
    })?;
    let state = if compliant == 3 { "compliant" } else { "non-compliant" };
    let clients = of(&["compliance-7", "--list", "security", "--state", state])?;
    let names: Vec<&str> =
        clients["rows"].as_array().into_iter().flatten().filter_map(|row| row["cells"][0].as_str()).collect();
    ensure!(names == ["db-1", "web-1", "web-2"], "{clients}");
    let deployment = of(&["states-1", "--deployment", "security"])?;
    let object = line.plane().get(&["updatedeployment", "security", "-n", NAMESPACE])?;
    let status = object["status"]["compliant"].as_str().context("no counts")?;
    let told = format!("{}/3", count(&deployment, "Compliant"));
    ensure!(told == status, "the report says {told}, the status {status}");
    let web = of(&["compliance-5", "--client", "web-1"])?;
    ensure!(web["rows"].as_array().is_some_and(|rows| rows.len() > 5), "web-1 has its updates: {web}");
    let csv = answer(line, 0, &["report", "management-3", "--deployment", "security", "-o", "csv"])?;
    ensure!(csv.starts_with("bulletin,article,title,installed,") && csv.lines().count() > 3, "{csv}");
    Ok(())
}
