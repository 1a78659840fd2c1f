//! A timeline for people.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use jiff::{Timestamp, tz::TimeZone};
use patchtide_model::{ClientId, state::Compliance, state::UpdateEnforcement};
use patchtide_planner::{
    client::Action,
    sim::{Entry, Outage, What, World},
};
use serde_json::json;

/// One line: several clients that did the same at the same time.
pub(crate) struct Line {
    pub at: Timestamp,
    /// Empty: the site.
    pub clients: Vec<String>,
    pub text: String,
}

/// What there is to tell of a world.
pub(crate) fn lines(world: &World, zone: &TimeZone) -> Vec<Line> {
    let mut required: BTreeMap<ClientId, usize> = BTreeMap::new();
    let mut lines: Vec<Line> = Vec::new();
    let mut places: BTreeMap<(i64, bool, String), usize> = BTreeMap::new();
    for entry in &world.log {
        let Some(text) = text(entry, world, zone, &mut required) else { continue };
        let name = entry.client.and_then(|client| world.machine(client)).map(|machine| machine.name.clone());
        let key = (entry.at.as_second(), name.is_none(), text.clone());
        let place = *places.entry(key).or_insert_with(|| {
            lines.push(Line { at: entry.at, clients: Vec::new(), text });
            lines.len() - 1
        });
        if let Some(line) = lines.get_mut(place) {
            line.clients.extend(name);
        }
    }
    lines
}

fn clock(at: Timestamp, zone: &TimeZone) -> String {
    zone.to_datetime(at).strftime("%a %Y-%m-%d %H:%M:%S").to_string()
}

fn text(
    entry: &Entry,
    world: &World,
    zone: &TimeZone,
    required: &mut BTreeMap<ClientId, usize>,
) -> Option<String> {
    let deployment = |uid: &String| {
        let found = world.site.objects.deployments.values().find(|deployment| deployment.uid == *uid);
        found.map_or_else(|| uid.clone(), |deployment| deployment.name.to_string())
    };
    Some(match &entry.what {
        What::Site(words) => words.clone(),
        What::Published { changed } => format!("new policy for {changed} clients"),
        What::Policy { .. } | What::Enforcement { .. } | What::Started(Action::Scan(_) | Action::Recover) => {
            return None;
        }
        What::Started(Action::Download { files }) => format!("downloads {} file(s)", files.len()),
        What::Started(Action::Install(batch)) => {
            let ids: Vec<String> =
                batch.updates.keys().map(|id| format!("{}@{}", id.source, id.version)).collect();
            let window = batch
                .window_end
                .map_or_else(String::new, |end| format!(", in a window until {}", clock(end, zone)));
            format!("installs {}{window}", ids.join(", "))
        }
        What::Started(Action::Restart { at, because, power_off }) => {
            let because: Vec<&str> =
                because.iter().map(|why| why.rsplit_once(':').map_or(why.as_str(), |(_, id)| id)).collect();
            let what = if *power_off { "that it shuts down" } else { "a restart" };
            format!("announces {what} for {}, because of {}", clock(*at, zone), because.join(", "))
        }
        What::Scanned { result: Ok(count) } => {
            let known = entry.client.and_then(|client| required.insert(client, *count));
            if known == Some(*count) {
                return None;
            }
            format!("scanned: {count} update(s) required")
        }
        What::Scanned { result: Err(error) } => format!("scan failed: {}", error.message),
        What::DownloadFailed(error) => format!("download failed: {}", error.message),
        What::Installed { failed } if failed.is_empty() => "installation ended".to_owned(),
        What::Installed { failed } => {
            let ids: Vec<String> = failed.iter().map(|id| format!("{}@{}", id.source, id.version)).collect();
            format!("installation ended, failed: {}", ids.join(", "))
        }
        What::Recovered { ok: true } => "the interrupted dpkg is put right".to_owned(),
        What::Recovered { ok: false } => "the interrupted dpkg could not be put right".to_owned(),
        What::CalledOff => "the restart is called off".to_owned(),
        What::Down { why: Outage::Restart } => "restarts".to_owned(),
        What::Down { why: Outage::Owner } => "is restarted by its owner".to_owned(),
        What::Down { why: Outage::Power } => "loses power".to_owned(),
        What::Up => "is up again".to_owned(),
        What::AgentKilled => "its agent is killed".to_owned(),
        What::AgentStarted => "its agent starts again".to_owned(),
        What::Suspended => "is closed".to_owned(),
        What::Resumed => "is opened again".to_owned(),
        What::ClockJumped { by } => {
            let way = if by.is_negative() { "back" } else { "ahead" };
            format!("its clock jumps {way} by {:#}", by.abs())
        }
        What::Online(true) => "has a network again".to_owned(),
        What::Online(false) => "has no network".to_owned(),
        What::Person(words) => format!("somebody {words}"),
        What::Update { update, state, waits_for, error } => {
            let quiet = matches!(
                state,
                UpdateEnforcement::Started
                    | UpdateEnforcement::Installing
                    | UpdateEnforcement::Downloading
                    | UpdateEnforcement::PendingInstallation
                    | UpdateEnforcement::Unknown
            );
            if quiet {
                return None;
            }
            let why = match (error, waits_for) {
                (Some(error), _) => format!(" ({})", error.message),
                (None, Some(why)) => format!(" ({why})"),
                (None, None) => String::new(),
            };
            format!("{}@{}: {}{why}", update.source, update.version, state.name())
        }
        What::Compliance { deployment: uid, state } => {
            let words = match state {
                Compliance::Compliant => "is compliant with",
                Compliance::NonCompliant => "is not compliant with",
                Compliance::Unknown | Compliance::Conflict => return None,
            };
            format!("{words} {}", deployment(uid))
        }
    })
}

/// Names of clients in short: `web-1 to web-5`.
pub(crate) fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let all: BTreeSet<(&str, u64, &str)> = names
        .map(|name| {
            let split = name.rsplit_once('-').and_then(|(stem, number)| Some((stem, number.parse().ok()?)));
            let (stem, number) = split.unwrap_or((name, 0));
            (stem, number, name)
        })
        .collect();
    let mut runs: Vec<(&str, u64, &str, &str)> = Vec::new();
    for (stem, number, name) in all {
        match runs.last_mut() {
            Some((known, last, _, end)) if *known == stem && *last + 1 == number => {
                (*last, *end) = (number, name);
            }
            _ => runs.push((stem, number, name, name)),
        }
    }
    let words: Vec<String> = runs
        .iter()
        .map(|(_, _, from, to)| if from == to { (*from).to_owned() } else { format!("{from} to {to}") })
        .collect();
    words.join(", ")
}

/// So often is something told in full before it is only counted.
const TOLD: usize = 3;
/// Steps of what repeats itself: begun, failed, waits again.
const STEPS: usize = 4;

/// Lines without what the same clients do again and again: it is told once, and then counted.
fn collapse(lines: &[Line], zone: &TimeZone) -> Vec<Line> {
    let mut by_clients: BTreeMap<&[String], Vec<usize>> = BTreeMap::new();
    for (place, line) in lines.iter().enumerate() {
        by_clients.entry(&line.clients).or_default().push(place);
    }
    // What stands in place of a line; none: nothing does.
    let mut instead: BTreeMap<usize, Option<String>> = BTreeMap::new();
    for places in by_clients.into_values() {
        let texts: Vec<&str> =
            places.iter().filter_map(|place| lines.get(*place)).map(|line| line.text.as_str()).collect();
        let mut from = 0;
        while from < texts.len() {
            let times = |steps: usize| {
                let mut rounds = texts.get(from..).unwrap_or_default().chunks_exact(steps);
                let first = rounds.next();
                first.map_or(0, |first| 1 + rounds.take_while(|round| *round == first).count())
            };
            let Some((steps, times)) =
                (1..=STEPS).map(|steps| (steps, times(steps))).find(|(_, times)| *times > TOLD)
            else {
                from += 1;
                continue;
            };
            let repeated = places.get(from + steps..from + steps * times).unwrap_or_default();
            for place in repeated {
                instead.insert(*place, None);
            }
            if let (Some(first), Some(last)) =
                (repeated.first(), repeated.last().and_then(|place| lines.get(*place)))
            {
                let words = format!("... the same {} more times, until {}", times - 1, clock(last.at, zone));
                instead.insert(*first, Some(words));
            }
            from += steps * times;
        }
    }
    let kept = lines.iter().enumerate().filter_map(|(place, line)| {
        let text = match instead.get(&place) {
            None => line.text.clone(),
            Some(words) => words.clone()?,
        };
        Some(Line { at: line.at, clients: line.clients.clone(), text })
    });
    kept.collect()
}

/// As text, times in `zone`.
pub(crate) fn print(lines: &[Line], zone: &TimeZone) -> String {
    let lines = collapse(lines, zone);
    let who: Vec<String> = lines
        .iter()
        .map(|line| {
            if line.clients.is_empty() {
                "site".to_owned()
            } else {
                names(line.clients.iter().map(String::as_str))
            }
        })
        .collect();
    let width = who.iter().map(|who| who.chars().count()).max().unwrap_or(0).min(24);
    let mut out = String::new();
    for (line, who) in lines.iter().zip(&who) {
        let _ = writeln!(out, "{}  {who:<width$}  {}", clock(line.at, zone), line.text);
    }
    out
}

/// As JSON, times in UTC.
pub(crate) fn to_json(lines: &[Line]) -> serde_json::Value {
    lines
        .iter()
        .map(|line| json!({ "at": line.at.to_string(), "clients": line.clients, "what": line.text }))
        .collect()
}
