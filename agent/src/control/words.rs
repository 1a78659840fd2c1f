//! What the agent says of itself: `status` and `why`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use jiff::Timestamp;
use patchtide_model::{
    ClientId, SiteName,
    policy::Policy,
    state::{Compliance, DeploymentEnforcement, Detection},
};
use patchtide_planner::{
    client::{ClientView, Decision, RestartReason, ScanPurpose},
    why::{
        self, Books,
        words::{gate_line, must_move, plain, state_line, time},
    },
};
use serde_json::json;

use super::Answer;
use crate::install::LastFailure;

/// What `status` tells.
pub(crate) struct Status<'a> {
    pub(crate) client: ClientId,
    pub(crate) site: &'a SiteName,
    pub(crate) policy: Option<&'a Policy>,
    pub(crate) view: &'a ClientView,
    pub(crate) decision: &'a Decision,
    pub(crate) contact: Option<Timestamp>,
    pub(crate) contact_error: Option<&'a str>,
    pub(crate) waiting: usize,
    pub(crate) acknowledged: u64,
    pub(crate) scores: BTreeMap<String, u32>,
    pub(crate) failure: LastFailure,
    /// Updaters beside this agent that are active.
    pub(crate) others: &'a BTreeSet<&'static str>,
    pub(crate) now: Timestamp,
}

// Writing into a String cannot fail.
macro_rules! say {
    ($out:expr, $($words:tt)*) => { let _ = writeln!($out, $($words)*); };
}

pub(crate) fn status(s: &Status<'_>) -> Answer {
    let mut out = String::new();
    say!(out, "client      {} of site {}", s.client, s.site);
    match s.policy {
        None => {
            say!(out, "policy      none yet");
        }
        Some(policy) => {
            say!(out, "policy      {}.{} of {}", policy.epoch, policy.number, time(policy.issued_at));
        }
    }
    let contact = s.contact.map_or("never".to_owned(), time);
    say!(out, "contact     {contact}{}", s.contact_error.map(|e| format!("; now: {e}")).unwrap_or_default());
    say!(out, "reports     {} waiting, {} acknowledged", s.waiting, s.acknowledged);
    let standing = why::scan(s.view, s.now);
    scanned(&mut out, s, &standing);
    machine(&mut out, s);
    deployments(&mut out, s);
    updates(&mut out, s.decision);
    if let Some(at) = s.failure.at {
        say!(out, "last failed transaction {}; the end of its output:\n{}", time(at), s.failure.output);
    }
    let deployments: Vec<_> = s
        .decision
        .deployments
        .iter()
        .map(|(uid, verdict)| {
            json!({
                "uid": uid, "name": verdict.name, "until": verdict.until, "error": verdict.error,
                "compliance": verdict.compliance.map(Compliance::name),
                "enforcement": verdict.enforcement.map(DeploymentEnforcement::name), "lease": verdict.lease,
                "evaluation": why::evaluation(verdict),
            })
        })
        .collect();
    let data = json!({
        "client": s.client, "site": s.site, "policy": s.policy.map(|p| (p.epoch, p.number)), "contact": s.contact,
        "contactError": s.contact_error, "scan": standing, "waiting": s.waiting, "acknowledged": s.acknowledged,
        "deployments": deployments, "view": s.view, "decision": s.decision, "distributionPoints": s.scores,
        "lastFailure": s.failure.at.map(|_| &s.failure), "otherUpdaters": s.others,
    });
    Answer::told(plain(&out), data)
}

fn scanned(out: &mut String, s: &Status<'_>, standing: &why::StateWhy) {
    let scan = &s.view.scan;
    let last = scan.last.map_or("never".to_owned(), time);
    say!(
        out,
        "scan        last {last}{}",
        scan.failure
            .as_ref()
            .map(|f| {
                let times = if f.count == 1 { "once".to_owned() } else { format!("{} times", f.count) };
                format!("; failed {times} since: {}", f.error.message)
            })
            .unwrap_or_default()
    );
    if standing.state.rule.is_some() {
        say!(out, "            {}", state_line("", standing).trim_start());
    }
    for (line, version) in &scan.covered {
        say!(out, "            {line} version {version}");
    }
    let count = |state| s.view.detected.values().filter(|found| found.state == state).count();
    say!(
        out,
        "updates     {} required, {} installed",
        count(Detection::Required),
        count(Detection::Installed)
    );
}

/// What it does, what is in its way, and what it needs.
fn machine(out: &mut String, s: &Status<'_>) {
    say!(out, "running     {}", running(s.view));
    if let Some(lock) = &s.view.lock {
        say!(out, "lock        dpkg's lock is held by {} since {}", lock.holder, time(lock.at));
    }
    if let Some(recovery) = &s.view.recovery {
        say!(
            out,
            "recovery    dpkg was interrupted, found {}, {} failed tries",
            time(recovery.since),
            recovery.failures
        );
    }
    for reason in &s.view.restart_reasons {
        say!(out, "restart     needed: {}", restart_words(reason));
    }
    if !s.others.is_empty() {
        let names = s.others.iter().copied().collect::<Vec<_>>().join(", ");
        say!(
            out,
            "updaters    {names} may change packages too; ClientSettings with otherUpdaters: Disable switches them off"
        );
    }
    for (url, score) in &s.scores {
        say!(out, "DP          {url} failed lately ({score} points)");
    }
    for gate in &s.decision.machine {
        say!(out, "{}", gate_line(gate, s.now));
    }
}

fn deployments(out: &mut String, s: &Status<'_>) {
    for (uid, verdict) in &s.decision.deployments {
        let suspended =
            s.policy.is_some_and(|p| p.body.deployments.iter().any(|d| d.uid == *uid && d.suspend));
        let state = verdict.enforcement.map_or("nothing to enforce", |state| state.name());
        let until = verdict.until.map(|at| format!(", until {}", time(at))).unwrap_or_default();
        let compliance = verdict.compliance.map_or("Compliance state unknown", |state| state.name());
        say!(
            out,
            "deployment  {}: {compliance}; {state}{until}{}{}",
            verdict.name,
            if suspended { "; suspended" } else { "" },
            must_move(verdict.lease.as_ref(), verdict.enforcement.map(why::Named::from).as_ref())
        );
        if let Some(evaluation) = why::evaluation(verdict) {
            say!(out, "            {}", state_line("evaluation:", &evaluation));
        }
    }
}

/// Updates in a state that is not final, with their leases.
fn updates(out: &mut String, decision: &Decision) {
    const SHOWN: usize = 20;
    let moving = || {
        decision.updates.iter().filter_map(|(id, verdict)| {
            let state = why::Named::from(verdict.state?);
            state.rule.is_some().then_some((id, verdict, state))
        })
    };
    for (id, verdict, state) in moving().take(SHOWN) {
        say!(out, "update      {id}: {}{}", state.name, must_move(verdict.lease.as_ref(), Some(&state)));
    }
    let more = moving().skip(SHOWN).count();
    if more > 0 {
        say!(out, "            and {more} more; `patchtide-agent why` shows them all");
    }
}

fn running(view: &ClientView) -> String {
    let running = &view.running;
    let mut what = Vec::new();
    if let Some(scan) = &running.scan {
        what.push(format!("scan ({})", purpose_words(scan.purpose)));
    }
    if !running.download.is_empty() {
        what.push(format!("{} downloads", running.download.len()));
    }
    if let Some(install) = &running.install {
        what.push(format!(
            "installation of {} updates since {}",
            install.batch.updates.len(),
            time(install.since)
        ));
    }
    if running.recovery {
        what.push("recovery of dpkg".to_owned());
    }
    if let Some(at) = running.restart_at {
        what.push(format!("restart announced for {}", time(at)));
    }
    if what.is_empty() { "nothing".to_owned() } else { what.join(", ") }
}

pub(crate) fn why(books: &Books<'_>, asked: Option<&str>) -> Answer {
    let explanation = why::of_decision(books);
    let chosen = match asked {
        None => explanation,
        Some(asked) => match why::select(&explanation, asked) {
            Some(chosen) => chosen,
            None => return undeployed(books.view, asked),
        },
    };
    let data = serde_json::to_value(&chosen).unwrap_or_default();
    Answer::told(why::words::text(&chosen), data)
}

/// What the machine needs or has, and no deployment brings.
fn undeployed(view: &ClientView, asked: &str) -> Answer {
    let mut out = String::new();
    for (id, found) in view.detected.iter().filter(|(id, _)| why::names(id, asked)) {
        say!(out, "{id}\n  {}; no deployment brings it to this machine", found.state.name());
    }
    if out.is_empty() {
        return Answer::refused(format!(
            "no deployment and no update named like {asked:?} reaches this machine, and it has or requires no such update"
        ));
    }
    Answer::said(plain(&out))
}

fn restart_words(reason: &RestartReason) -> String {
    match reason {
        RestartReason::RequiredFile => "a package asked for it (/run/reboot-required)".to_owned(),
        RestartReason::Kernel { running, installed } => {
            format!("the kernel {installed} is installed, {running} runs")
        }
        RestartReason::InitOutdated => "process 1 uses files that were replaced".to_owned(),
    }
}

const fn purpose_words(purpose: ScanPurpose) -> &'static str {
    match purpose {
        ScanPurpose::First => "the first one",
        ScanPurpose::Cycle => "its time has come",
        ScanPurpose::ScanRequested => "asked for",
        ScanPurpose::Evaluation => "evaluation of deployments",
        ScanPurpose::EvaluationRequested => "evaluation asked for",
        ScanPurpose::PolicyChanged => "the policy names other updates",
        ScanPurpose::BeforeInstall => "before an installation",
        ScanPurpose::Validation => "after a change",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_named_with_the_one_that_runs() {
        let kernel =
            RestartReason::Kernel { running: "6.1.0-1-amd64".into(), installed: "6.1.0-2-amd64".into() };
        assert_eq!(restart_words(&kernel), "the kernel 6.1.0-2-amd64 is installed, 6.1.0-1-amd64 runs");
    }
}
