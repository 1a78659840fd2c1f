//! What the agent says of itself: `status` and `why`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use jiff::{SignedDuration, Timestamp};
use patchtide_model::{
    ClientId, SiteName,
    policy::Policy,
    state::{Compliance, DeploymentEnforcement, Detection},
};
use patchtide_planner::client::{
    ClientView, Decision, Gate, GateStatus, Lease, Opens, RestartReason, ScanPurpose,
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
            lease_words(verdict.lease.as_ref())
        );
    }
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
                "enforcement": verdict.enforcement.map(DeploymentEnforcement::name),
            })
        })
        .collect();
    let data = json!({
        "client": s.client, "site": s.site, "policy": s.policy.map(|p| (p.epoch, p.number)), "contact": s.contact,
        "contactError": s.contact_error, "waiting": s.waiting, "acknowledged": s.acknowledged,
        "deployments": deployments, "view": s.view, "decision": s.decision, "distributionPoints": s.scores,
        "lastFailure": s.failure.at.map(|_| &s.failure), "otherUpdaters": s.others,
    });
    Answer { ok: true, text: plain(&out), data }
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

pub(crate) fn why(decision: &Decision, view: &ClientView, update: Option<&str>, now: Timestamp) -> Answer {
    let mut out = String::new();
    for gate in &decision.machine {
        say!(out, "machine\n{}", gate_line(gate, now));
    }
    let chosen: Vec<_> = decision
        .updates
        .iter()
        .filter(|(id, _)| update.is_none_or(|part| id.to_string().contains(part)))
        .collect();
    for (id, verdict) in &chosen {
        let state = verdict.state.map_or("nothing to enforce", |state| state.name());
        say!(out, "{id}\n  {}; {state}{}", verdict.detection.name(), lease_words(verdict.lease.as_ref()));
        if let Some(found) = view.detected.get(*id).filter(|found| !found.leaves.is_empty()) {
            let leaves: Vec<String> = found
                .leaves
                .iter()
                .map(|l| format!("{}:{} {}", l.package, l.architecture, l.version))
                .collect();
            say!(out, "  needs {}", leaves.join(", "));
        }
        if let Some(error) = &verdict.error {
            say!(out, "  {} (0x{:08X}): {}", error.symbol, error.code, error.message.trim_end());
        }
        for gate in &verdict.gates {
            say!(out, "{}", gate_line(gate, now));
        }
    }
    if chosen.is_empty() {
        match update {
            None => {
                say!(out, "nothing is deployed to this machine");
            }
            Some(part) => {
                let known: Vec<_> =
                    view.detected.iter().filter(|(id, _)| id.to_string().contains(part)).collect();
                for (id, found) in &known {
                    say!(out, "{id}\n  {}; no deployment brings it to this machine", found.state.name());
                }
                if known.is_empty() {
                    return Answer::refused(format!(
                        "no update named like {part:?} is deployed to this machine, required by it or installed on it"
                    ));
                }
            }
        }
    }
    let data =
        json!({ "machine": decision.machine, "updates": chosen.into_iter().collect::<BTreeMap<_, _>>() });
    Answer { ok: true, text: plain(&out), data }
}

/// An instant for people, to the second.
fn time(at: Timestamp) -> String {
    format!("{at:.0}")
}

/// What programs and other machines said does not steer the terminal of the one who reads it.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
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

fn lease_words(lease: Option<&Lease>) -> String {
    lease.map(|lease| format!(" (by {}, else {})", time(lease.by), lease.then)).unwrap_or_default()
}

/// `2 d 3 h`, `3 h 20 min`, `5 min`.
fn span_words(span: SignedDuration) -> String {
    let minutes = span.as_secs().max(0).div_euclid(60);
    let (days, hours, minutes) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes} min"),
        (0, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

fn gate_line(gate: &Gate, now: Timestamp) -> String {
    let status = match &gate.status {
        GateStatus::Open => "open".to_owned(),
        GateStatus::Closed(Opens::At(at)) => {
            format!("closed until {} (in {})", time(*at), span_words(at.duration_since(now)))
        }
        GateStatus::Closed(Opens::OnEvent) => "closed".to_owned(),
        GateStatus::Closed(Opens::Never { longest: None }) => "closed; nothing will open it".to_owned(),
        GateStatus::Closed(Opens::Never { longest: Some(span) }) => {
            format!(
                "closed; nothing will open it, the longest opening is {} to {}",
                time(span.start),
                time(span.end)
            )
        }
    };
    let set_by =
        if gate.object.is_empty() { String::new() } else { format!(" [{} {}]", gate.object, gate.field) };
    let kind = format!("{:?}", gate.kind).to_lowercase();
    format!("  {kind:<11} {status}: {}{set_by}", gate.reason)
}

#[cfg(test)]
mod tests {
    use patchtide_planner::client::GateKind;

    use super::*;

    #[test]
    fn people_get_seconds_spans_and_no_escapes() {
        let now: Timestamp = "2026-03-01T12:00:00.123456Z".parse().unwrap();
        let gate = |hours| Gate {
            kind: GateKind::Window,
            status: GateStatus::Closed(Opens::At(
                now.checked_add(SignedDuration::from_hours(hours)).unwrap(),
            )),
            object: "MaintenanceWindow/nightly".to_owned(),
            field: "schedule".to_owned(),
            reason: "waits".to_owned(),
        };
        let line = gate_line(&gate(27), now);
        assert_eq!(
            line,
            "  window      closed until 2026-03-02T15:00:00Z (in 1 d 3 h): waits [MaintenanceWindow/nightly schedule]"
        );
        assert!(gate_line(&gate(3), now).contains("(in 3 h 0 min)"));
        assert!(gate_line(&gate(-3), now).contains("(in 0 min)"));
        assert_eq!(plain("a\u{1b}[31mb\n\tc\r"), "a[31mb\n\tc");
        let kernel =
            RestartReason::Kernel { running: "6.1.0-1-amd64".into(), installed: "6.1.0-2-amd64".into() };
        assert_eq!(restart_words(&kernel), "the kernel 6.1.0-2-amd64 is installed, 6.1.0-1-amd64 runs");
    }
}
