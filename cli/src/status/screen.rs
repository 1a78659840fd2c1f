//! What is shown: a function of deployments, time, zone and width, and of nothing else.

use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};
use kube::ResourceExt as _;
use patchtide_crds::{
    UpdateDeployment, UpdateDeploymentStatus,
    conditions::{CONTENT_MISSING, DEADLINE_UNREACHABLE, StatusContract as _},
    update_deployment::RankedError,
};
use patchtide_model::state::Failure;
use patchtide_planner::why::words::span;

use super::text::{clean, clip, width, wrap};

/// Columns of the names of the lines.
const LABEL: usize = 15;
/// Errors shown of each deployment, all of them when it is the only one.
const ERRORS: usize = 3;
/// Lines that a message takes at most.
const LINES: usize = 3;

/// Whether with colours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    pub(super) colour: bool,
}

/// A colour, as the terminal has it set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tone {
    Good,
    Bad,
    Late,
    Quiet,
    Strong,
}

impl Style {
    fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Late => "33",
            Tone::Quiet => "2",
            Tone::Strong => "1",
        };
        if self.colour && !text.is_empty() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Everything that decides what is shown.
pub(super) struct Screen<'a> {
    pub(super) namespace: &'a str,
    pub(super) deployments: &'a [UpdateDeployment],
    pub(super) now: Timestamp,
    /// The zone of the one who looks.
    pub(super) zone: &'a TimeZone,
    /// Width; 20 at least are used.
    pub(super) columns: usize,
    pub(super) style: Style,
}

impl Screen<'_> {
    fn columns(&self) -> usize {
        self.columns.max(20)
    }

    /// The line at the top of a live screen.
    pub(super) fn head(&self) -> String {
        let title = format!("patchtide status, namespace {}", self.namespace);
        let clock = self.now.strftime("%H:%M:%S UTC").to_string();
        let room = self.columns().saturating_sub(clock.len() + 1);
        let title = clip(&title, room);
        let gap = " ".repeat(self.columns() - width(&title) - clock.len());
        self.style.paint(Tone::Strong, &title) + &gap + &self.style.paint(Tone::Quiet, &clock)
    }

    /// The line at the bottom: what can be done, or what is wrong.
    pub(super) fn foot(&self, trouble: Option<&str>, hidden: usize) -> String {
        if let Some(trouble) = trouble {
            let text = format!("not up to date, trying again: {}", clean(trouble));
            return self.style.paint(Tone::Bad, &clip(&text, self.columns()));
        }
        let text = match hidden {
            0 => "q ends".to_owned(),
            lines => format!("q ends, arrows scroll, {lines} more lines below"),
        };
        self.style.paint(Tone::Quiet, &clip(&text, self.columns()))
    }

    /// The deployments.
    pub(super) fn body(&self) -> Vec<String> {
        if self.deployments.is_empty() {
            return vec![clip(&format!("no deployments in namespace {}", self.namespace), self.columns())];
        }
        let mut out = Vec::new();
        for deployment in self.deployments {
            if !out.is_empty() {
                out.push(String::new());
            }
            self.deployment(deployment, &mut out);
        }
        out
    }

    fn deployment(&self, deployment: &UpdateDeployment, out: &mut Vec<String>) {
        let name = deployment.name_any();
        let Some(status) = deployment.status.as_ref().filter(|status| status.targeted.is_some()) else {
            let why = deployment.status.as_ref().and_then(|status| status.condition("Ready"));
            out.push(self.style.paint(Tone::Strong, &clip(&name, self.columns())));
            let text = why.map_or_else(
                || "not reconciled yet".to_owned(),
                |ready| format!("{}: {}", ready.reason, clean(&ready.message)),
            );
            self.row(out, "not ready", Tone::Bad, &text);
            return;
        };
        self.title(&name, status, out);
        if let Some(ready) = status.condition("Ready").filter(|ready| ready.status != "True") {
            self.row(out, "not ready", Tone::Bad, &format!("{}: {}", ready.reason, clean(&ready.message)));
        }
        if deployment.spec.suspend {
            self.row(
                out,
                "held",
                Tone::Late,
                "by spec.suspend: nothing is downloaded, installed or restarted",
            );
        }
        if let Some(deadline) = &status.deadline {
            let (tone, text) = self.deadline(deadline, status);
            self.row(out, "deadline", tone, &text);
        }
        if let Some(window) = &status.next_window {
            self.row(out, "next window", Tone::Quiet, &self.window(window));
        }
        self.states(status, out);
        self.errors(status, out);
        self.late(status, out);
        for condition in [CONTENT_MISSING, DEADLINE_UNREACHABLE] {
            if let Some(told) = status.condition(condition).filter(|told| told.status == "True") {
                let label = if condition == CONTENT_MISSING { "content" } else { "not in time" };
                self.row(out, label, Tone::Late, &clean(&told.message));
            }
        }
    }

    /// Name, bar, percent, counts.
    fn title(&self, name: &str, status: &UpdateDeploymentStatus, out: &mut Vec<String>) {
        let percent = status.compliant_percent.unwrap_or(0).min(100);
        let compliant = status.compliant.as_deref().unwrap_or("-").replace('/', " of ");
        let updates = status.updates.unwrap_or(0);
        let counts = format!("{compliant} compliant, {updates} updates");
        let full = usize::try_from(percent / 5).unwrap_or(0);
        // Bar, percent and blanks take 29 columns. What does not fit beside the name comes below it.
        let fits = width(name) + 29 + width(&counts) <= self.columns();
        let tone = if percent == 100 { Tone::Good } else { Tone::Late };
        let bar =
            format!("[{}{}] {percent:>3}%", self.style.paint(tone, &"#".repeat(full)), ".".repeat(20 - full));
        if fits {
            out.push(format!("{} {bar} {counts}", self.style.paint(Tone::Strong, name)));
            return;
        }
        out.push(self.style.paint(Tone::Strong, &clip(name, self.columns())));
        if self.columns() >= 30 {
            out.push(format!("  {bar}"));
        }
        out.push(format!("  {}", clip(&counts, self.columns() - 2)));
    }

    /// A line with its name, wrapped below itself.
    fn row(&self, out: &mut Vec<String>, label: &str, tone: Tone, text: &str) {
        // Numbers below each other keep their place.
        let pad = " ".repeat(text.len() - text.trim_start().len());
        let room = (self.columns() - LABEL).saturating_sub(pad.len()).max(1);
        let lines: Vec<String> =
            wrap(text.trim_start(), room, LINES).iter().map(|line| format!("{pad}{line}")).collect();
        for (n, line) in lines.iter().enumerate() {
            let label = if n == 0 { format!("  {label:<13}") } else { " ".repeat(LABEL) };
            let text = if tone == Tone::Quiet { line.clone() } else { self.style.paint(tone, line) };
            out.push(self.style.paint(Tone::Quiet, &label) + &text);
        }
    }

    fn deadline(&self, text: &str, status: &UpdateDeploymentStatus) -> (Tone, String) {
        if text == "none" {
            return (Tone::Quiet, "none: whoever wants it installs it".to_owned());
        }
        let late = status.past_deadline.unwrap_or(0) > 0;
        if let Ok(at) = text.parse::<Timestamp>() {
            let tone = if late { Tone::Bad } else { Tone::Quiet };
            return (tone, format!("{}, {}", self.moment(at), self.distance(at)));
        }
        match text.parse::<DateTime>() {
            Ok(at) => (
                if late { Tone::Bad } else { Tone::Quiet },
                format!("{} by each client's own clock", at.strftime("%Y-%m-%d %H:%M")),
            ),
            Err(_) => (Tone::Quiet, clean(text)),
        }
    }

    fn window(&self, text: &str) -> String {
        if let Some(end) = text.strip_prefix("open until ").and_then(|end| end.parse::<Timestamp>().ok()) {
            return format!("open until {}, {}", self.moment(end), self.distance(end));
        }
        match text.parse::<Timestamp>() {
            Ok(at) => format!("{}, {}", self.moment(at), self.distance(at)),
            Err(_) => clean(text),
        }
    }

    /// In UTC, and in the zone of the one who looks where that is another time.
    fn moment(&self, at: Timestamp) -> String {
        let utc = at.strftime("%Y-%m-%d %H:%M UTC").to_string();
        let here = at.to_zoned(self.zone.clone());
        if here.offset().is_zero() {
            return utc;
        }
        let same_day = here.date() == at.to_zoned(TimeZone::UTC).date();
        let form = if same_day { "%H:%M" } else { "%Y-%m-%d %H:%M" };
        format!("{utc} ({} here)", here.strftime(form))
    }

    fn distance(&self, at: Timestamp) -> String {
        let left = at.duration_since(self.now);
        if left >= SignedDuration::ZERO {
            format!("in {}", span(left))
        } else {
            format!("{} ago", span(-left))
        }
    }

    fn states(&self, status: &UpdateDeploymentStatus, out: &mut Vec<String>) {
        let counts: Vec<_> = status.enforcement.iter().filter(|count| count.clients > 0).collect();
        let digits = counts.iter().map(|count| count.clients.to_string().len()).max().unwrap_or(1);
        for (n, count) in counts.into_iter().enumerate() {
            let failed = count.state.contains("Failed");
            let tone = if failed { Tone::Bad } else { Tone::Quiet };
            let label = if n == 0 { "states" } else { "" };
            self.row(out, label, tone, &format!("{:>digits$} {}", count.clients, clean(&count.state)));
        }
    }

    /// The worst first, with what happened and what to do.
    fn errors(&self, status: &UpdateDeploymentStatus, out: &mut Vec<String>) {
        let shown = if self.deployments.len() == 1 { status.errors.len() } else { ERRORS };
        let digits = status.errors.iter().map(|error| error.clients.to_string().len()).max().unwrap_or(1);
        for (n, error) in status.errors.iter().take(shown).enumerate() {
            let label = if n == 0 { "errors" } else { "" };
            let example = match (&error.example_client, error.clients) {
                (None, _) => String::new(),
                (Some(name), 1) => format!(" on {}", clean(name)),
                (Some(name), _) => format!(" for example on {}", clean(name)),
            };
            let head = format!("{:>digits$} {} {}{example}", error.clients, error.code, clean(&error.symbol));
            self.row(out, label, Tone::Bad, &head);
            self.row(out, "", Tone::Quiet, &clean(&error.message));
            if let Some(remedy) = remedy(error) {
                self.row(out, "", Tone::Strong, &format!("to do: {remedy}"));
            }
        }
        if let more @ 1.. = status.errors.len().saturating_sub(shown) {
            self.row(
                out,
                "",
                Tone::Quiet,
                &format!("and {more} other errors: name the deployment to see all"),
            );
        }
    }

    /// Who is behind the deadline, who hangs, who is silent.
    fn late(&self, status: &UpdateDeploymentStatus, out: &mut Vec<String>) {
        if let Some(late @ 1..) = status.past_deadline {
            let names: Vec<String> = status.late_clients.iter().map(|name| clean(name)).collect();
            let more = late.saturating_sub(names.len() as u64);
            let more = match (names.is_empty(), more) {
                (true, _) | (_, 0) => String::new(),
                (false, more) => format!(" and {more} more"),
            };
            let names = if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) };
            self.row(out, "late", Tone::Bad, &format!("{late} past their deadline{names}{more}"));
        }
        let silent = status.silent.unwrap_or(0);
        if let hanging @ 1.. = status.overdue.unwrap_or(0).saturating_sub(silent) {
            let text = format!("{hanging} talk to the site and do not move: kubectl patchtide why CLIENT");
            self.row(out, "hanging", Tone::Late, &text);
        }
        if silent > 0 {
            self.row(out, "silent", Tone::Late, &format!("{silent} off or cut off for a day or more"));
        }
    }
}

/// What a person does about it, where the message does not say it already.
fn remedy(error: &RankedError) -> Option<&'static str> {
    let is = |failure: &&Failure| {
        failure.symbol() == error.symbol && format!("0x{:08X}", failure.code()) == error.code
    };
    let remedy = Failure::ALL.iter().find(is)?.remedy();
    (!error.message.contains(remedy)).then_some(remedy)
}

#[cfg(test)]
mod tests;
