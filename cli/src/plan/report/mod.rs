//! The plan for people: what must not be overlooked first, then everything by kind of effect.

mod deployments;
mod effects;
mod markdown;
mod table;

use std::fmt::Write as _;

use patchtide_planner::site::forecast::{Change, Forecast, Freedom};

use super::{
    make::{Outcome, Plan, PlanProblem},
    merge::ObjectChange,
    words::{Style, clients, counted, number, size, time},
};

/// Lines of one section; what is beyond is counted.
const LINES: usize = 200;

/// What is shown.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// What it comes to, in one line.
    verdict: String,
    /// Where and when.
    about: Vec<String>,
    /// What must not be overlooked.
    alarms: Vec<String>,
    /// The figures.
    summary: Vec<String>,
    sections: Vec<Section>,
}

/// Lines that belong together.
#[derive(Debug, Default)]
struct Section {
    title: String,
    lines: Vec<String>,
}

impl Section {
    fn new(title: impl Into<String>, lines: Vec<String>) -> Self {
        let mut section = Self { title: title.into(), lines };
        if section.lines.len() > LINES {
            let more = section.lines.len() - LINES;
            section.lines.truncate(LINES);
            section.lines.push(format!("and {more} more"));
        }
        section
    }
}

impl Report {
    pub(super) fn of(plan: &Plan, style: Style) -> Self {
        let mut report = Self { verdict: verdict(plan), ..Self::default() };
        report.about.push(format!(
            "site {}, ahead from {}, on what was in force at {}",
            plan.site,
            time(plan.at),
            time(plan.base_taken_at)
        ));
        report.about.push(format!("plan sha256:{}", plan.hash));
        report.alarms.extend(plan.findings.iter().map(|finding| style.text(&finding.to_string())));
        let new = plan.problems.iter().filter(|problem| problem.new);
        report.alarms.extend(new.map(|problem| told(problem, style)));
        report.alarms.extend(plan.warnings.iter().map(|warning| style.text(warning)));
        if let Some(forecast) = &plan.forecast {
            alarms(forecast, style, &mut report.alarms);
            summary(plan, forecast, &mut report.summary);
        }
        report.section("Objects", plan.objects.iter().map(|object| change(object, style)).collect());
        if let Some(forecast) = &plan.forecast {
            for deployment in &forecast.deployments {
                let (title, lines) = deployments::lines(deployment, style);
                report.section(title, lines);
            }
            report.section("Maintenance windows", effects::windows(forecast, style));
            report.section("Client settings", effects::client_settings(forecast, style));
            report.section("Collections", effects::collections(forecast, style));
            report.section("Distribution points", effects::points(forecast, style));
            report.section("Notes", effects::notes(forecast, style));
        }
        let standing = plan.problems.iter().filter(|problem| !problem.new);
        report.section("Problems that there are already", standing.map(|p| told(p, style)).collect());
        report
    }

    fn section(&mut self, title: impl Into<String>, lines: Vec<String>) {
        if !lines.is_empty() {
            self.sections.push(Section::new(title, lines));
        }
    }
}

fn verdict(plan: &Plan) -> String {
    match plan.outcome {
        Outcome::Nothing => "Nothing changes.".to_owned(),
        Outcome::Error if plan.forecast.is_none() => {
            "Files are in error: what the rest would do is not told before they are put right.".to_owned()
        }
        Outcome::Error => "An object cannot come into force as it is written.".to_owned(),
        Outcome::Changes => {
            let count = |wanted| plan.objects.iter().filter(|object| object.change == wanted).count();
            format!(
                "objects: {} added, {} changed, {} removed",
                count(Change::Added),
                count(Change::Changed),
                count(Change::Removed)
            )
        }
    }
}

fn told(problem: &PlanProblem, style: Style) -> String {
    let place = problem.place.as_ref().map(|place| format!("{} ", style.text(place))).unwrap_or_default();
    let waits = if problem.waits { "waits" } else { "cannot come into force" };
    let object = style.name(&format!("{}/{}", problem.kind, problem.name));
    format!("{place}{object} {waits}: {}: {}", problem.reason, style.text(&problem.message))
}

fn change(object: &ObjectChange, style: Style) -> String {
    let sign = match (object.change, style) {
        (Change::Added, Style::Plain) => "+",
        (Change::Removed, Style::Plain) => "-",
        (Change::Changed | Change::Affected, Style::Plain) => "~",
        (Change::Added, Style::Markdown) => "added",
        (Change::Removed, Style::Markdown) => "removed",
        (Change::Changed | Change::Affected, Style::Markdown) => "changed",
    };
    let mut line = format!("{sign} {}", style.name(&format!("{}/{}", object.kind, object.name)));
    if let Some(place) = &object.place {
        let _ = write!(line, " ({})", style.text(place));
    }
    let fields: Vec<String> = object
        .fields
        .iter()
        .map(|field| {
            let value = |value: &Option<String>| value.as_ref().map(|value| style.name(value));
            let name = style.name(&field.field);
            match (value(&field.before), value(&field.after)) {
                (Some(before), Some(after)) => format!("{name} {before} -> {after}"),
                (None, Some(after)) => format!("{name} + {after}"),
                (Some(before), None) => format!("{name} - {before}"),
                (None, None) => name,
            }
        })
        .collect();
    if !fields.is_empty() {
        let _ = write!(line, ": {}", fields.join("; "));
    }
    line
}

/// What a person must see although everything else is folded away.
fn alarms(forecast: &Forecast, style: Style, alarms: &mut Vec<String>) {
    for group in &forecast.windows {
        let names = style.names(&group.clients);
        match group.freedom {
            Freedom::Unbound => alarms.push(format!(
                "{} the last maintenance window ({}): from then on updates are installed and machines restarted at any time after a deadline: {names}",
                clients(group.clients.count, "loses", "lose"),
                style.list(&group.before),
            )),
            Freedom::Shut => alarms.push(format!(
                "no maintenance window of {} ever opens again ({}): nothing is installed there: {names}",
                counted(group.clients.count, "client"),
                style.list(&group.after),
            )),
            Freedom::Bound | Freedom::Opened | Freedom::Other => {}
        }
    }
    for deployment in &forecast.deployments {
        let Some(after) = deployment.after.as_ref().filter(|after| after.missing() > 0) else { continue };
        let lacking: u64 = after.unreachable.iter().map(|group| group.lacking).sum();
        alarms.push(format!(
            "{} the deadline of {}; {} of them said that an update is missing there; the nearest windows are told below",
            clients(after.missing(), "can never meet", "can never meet"),
            style.name(&format!("UpdateDeployment/{}", deployment.name)),
            number(lacking),
        ));
    }
    for group in &forecast.withheld {
        alarms.push(format!(
            "{} no new policy any more: {}: {}",
            clients(group.clients.count, "gets", "get"),
            style.text(&group.reason),
            style.names(&group.clients),
        ));
    }
}

fn summary(plan: &Plan, forecast: &Forecast, lines: &mut Vec<String>) {
    if plan.outcome == Outcome::Nothing {
        return;
    }
    let all = &forecast.clients;
    lines.push(format!(
        "{} of {} another policy",
        number(all.other_policy),
        clients(all.active, "gets", "get")
    ));
    if all.released > 0 {
        lines.push(format!("{} policy again", clients(all.released, "gets", "get")));
    }
    let bytes: u64 = forecast.distribution_points.iter().map(|point| point.new_bytes).sum();
    lines.push(format!(
        "{} go to distribution points, clients download {}",
        size(bytes),
        size(all.download_bytes)
    ));
    lines.push(format!(
        "restarts: {} more for certain, {} more perhaps",
        counted(all.restarts, "client"),
        counted(all.possible_restarts, "client")
    ));
    let never = forecast.unreachable();
    if never > 0 {
        lines.push(format!("{} of clients can never be met", counted(never, "deadline")));
    }
}
