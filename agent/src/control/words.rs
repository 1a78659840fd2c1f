//! What the agent says of itself: `status` and `why`.

use std::{collections::BTreeMap, fmt::Write as _};

use jiff::Timestamp;
use patchtide_model::{
    ClientId, SiteName,
    policy::Policy,
    state::{Compliance, DeploymentEnforcement, Detection},
};
use patchtide_planner::client::{ClientView, Decision, Gate, GateStatus, Lease, Opens};
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
            say!(out, "policy      {}.{} of {}", policy.epoch, policy.number, policy.issued_at);
        }
    }
    let contact = s.contact.map_or("never".to_owned(), |at| at.to_string());
    say!(out, "contact     {contact}{}", s.contact_error.map(|e| format!("; now: {e}")).unwrap_or_default());
    say!(out, "reports     {} waiting, {} acknowledged", s.waiting, s.acknowledged);
    let scan = &s.view.scan;
    let last = scan.last.map_or("never".to_owned(), |at| at.to_string());
    say!(
        out,
        "scan        last {last}{}",
        scan.failure
            .as_ref()
            .map(|f| format!("; failed {} times: {}", f.count, f.error.message))
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
        say!(out, "lock        dpkg's lock is held by {} since {}", lock.holder, lock.at);
    }
    if let Some(recovery) = &s.view.recovery {
        say!(
            out,
            "recovery    dpkg was interrupted, found {}, {} failed tries",
            recovery.since,
            recovery.failures
        );
    }
    for reason in &s.view.restart_reasons {
        say!(out, "restart     {reason:?}");
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
        let until = verdict.until.map(|at| format!(", until {at}")).unwrap_or_default();
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
        say!(out, "last failed transaction {at}; the end of its output:\n{}", s.failure.output);
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
        "lastFailure": s.failure.at.map(|_| &s.failure),
    });
    Answer { ok: true, text: out, data }
}

fn running(view: &ClientView) -> String {
    let running = &view.running;
    let mut what = Vec::new();
    if let Some(scan) = &running.scan {
        what.push(format!("scan ({:?})", scan.purpose));
    }
    if !running.download.is_empty() {
        what.push(format!("{} downloads", running.download.len()));
    }
    if let Some(install) = &running.install {
        what.push(format!("installation of {} updates since {}", install.batch.updates.len(), install.since));
    }
    if running.recovery {
        what.push("recovery of dpkg".to_owned());
    }
    if let Some(at) = running.restart_at {
        what.push(format!("restart announced for {at}"));
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
    Answer { ok: true, text: out, data }
}

fn lease_words(lease: Option<&Lease>) -> String {
    lease.map(|lease| format!(" (by {}, else {})", lease.by, lease.then)).unwrap_or_default()
}

fn gate_line(gate: &Gate, now: Timestamp) -> String {
    let status = match &gate.status {
        GateStatus::Open => "open".to_owned(),
        GateStatus::Closed(Opens::At(at)) => {
            let minutes = at.duration_since(now).as_secs().max(0).div_euclid(60);
            format!("closed until {at} (in {minutes} min)")
        }
        GateStatus::Closed(Opens::OnEvent) => "closed".to_owned(),
        GateStatus::Closed(Opens::Never { longest: None }) => "closed; nothing will open it".to_owned(),
        GateStatus::Closed(Opens::Never { longest: Some(span) }) => {
            format!("closed; nothing will open it, the longest opening is {} to {}", span.start, span.end)
        }
    };
    let set_by =
        if gate.object.is_empty() { String::new() } else { format!(" [{} {}]", gate.object, gate.field) };
    let kind = format!("{:?}", gate.kind).to_lowercase();
    format!("  {kind:<11} {status}: {}{set_by}", gate.reason)
}
