//! `kubectl patchtide windows`: when windows open. Needs no cluster for a file.

mod ics;
mod print;
mod read;

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};
use patchtide_model::window::{Calendar, Purpose, Span, WindowAction, Zone, time_zone};

use crate::action::say;
use read::Shown;

/// What is printed at most: a hundred years of a daily window.
const MOST: usize = 36_525;

/// Where nothing is said: 30 days.
const DAYS: i64 = 30;

/// Which windows, for whom, and when.
#[derive(Args)]
pub(crate) struct Options {
    /// Names of `MaintenanceWindow` objects in the cluster; none, and no file: all of the site
    names: Vec<String>,
    /// YAML file with `MaintenanceWindow` objects (other kinds are skipped), - for standard input; needs no cluster
    #[arg(short, long, conflicts_with = "names")]
    file: Option<PathBuf>,
    /// Time zone of the client, for example Europe/Berlin: what `timeZone: ClientLocal` means, and how times are shown
    #[arg(long, value_parser = zone)]
    client_zone: Option<TimeZone>,
    /// What is open at or after this: an instant (2026-12-01T00:00:00Z), or a day or civil time on the client's clock
    /// (2026-12-01, 2026-12-01T18:00). Default: now
    #[arg(long)]
    from: Option<String>,
    /// What begins before this, in the same form. Default: 30 days after --from
    #[arg(long)]
    to: Option<String>,
    /// All the windows as one client has them: joined, with what is denied cut out
    #[arg(long)]
    union: bool,
    /// What the union is for: restart-only windows count for restarts alone
    #[arg(long, value_enum, default_value_t, requires = "union")]
    purpose: For,
    /// Output
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Form of the output.
#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    #[default]
    Table,
    /// A list of {start, end} in UTC, with the window's name where there are several
    Json,
    /// iCalendar, for any calendar program
    Ics,
}

/// What somebody wants to do.
#[derive(Clone, Copy, Default, ValueEnum)]
pub(crate) enum For {
    /// Installations
    #[default]
    Install,
    /// Restarts
    Restart,
}

/// One line of the output: when what is open, or denied.
struct Line<'a> {
    /// None: the union.
    window: Option<&'a Shown>,
    span: Span,
}

/// What was asked for.
struct Listing<'a> {
    windows: &'a [Shown],
    lines: Vec<Line<'a>>,
    from: Timestamp,
    to: Timestamp,
    /// How times are shown, when the windows' own zones are not used.
    zone: Option<TimeZone>,
    /// Of a union: what comes next, where nothing lies in the time that was asked for.
    calendar: Option<Calendar>,
}

fn zone(name: &str) -> Result<TimeZone, String> {
    if name == "UTC" {
        return Ok(TimeZone::UTC);
    }
    time_zone(name).ok_or_else(|| {
        format!("TZ-UNKNOWN: {name} is not a zone of the IANA database; write for example Europe/Berlin")
    })
}

/// An instant, or a civil time on that clock.
fn instant(option: &str, text: &str, clock: &TimeZone) -> anyhow::Result<Timestamp> {
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(instant);
    }
    let civil = text.parse::<civil::DateTime>().map_err(|_| {
        anyhow::anyhow!(
            "{option}: {text} is no time: write 2026-12-01T00:00:00Z, 2026-12-01T18:00 or 2026-12-01"
        )
    })?;
    patchtide_model::window::first_instant(civil, clock)
        .with_context(|| format!("{option}: {text} lies beyond the end of time"))
}

impl Options {
    /// The file to read; none: the cluster is asked.
    pub(crate) fn is_offline(&self) -> bool {
        self.file.is_some()
    }

    /// Prints what a file says.
    pub(crate) fn run_file(&self, namespace: Option<&str>, now: Timestamp) -> anyhow::Result<()> {
        let Some(file) = &self.file else { bail!("no file: name one with --file") };
        self.print(&read::from_file(file, namespace)?, now)
    }

    /// Prints what the cluster says.
    pub(crate) async fn run(
        &self,
        client: &kube::Client,
        namespace: &str,
        now: Timestamp,
    ) -> anyhow::Result<()> {
        self.print(&read::from_cluster(client, namespace, &self.names).await?, now)
    }

    fn print(&self, windows: &[Shown], now: Timestamp) -> anyhow::Result<()> {
        let listing = self.list(windows, now)?;
        let text = match self.output {
            Output::Table => print::table(&listing),
            Output::Json => print::json(&listing)?,
            Output::Ics => ics::calendar(&listing),
        };
        say(text.trim_end());
        Ok(())
    }

    fn list<'a>(&self, windows: &'a [Shown], now: Timestamp) -> anyhow::Result<Listing<'a>> {
        if let Some(shown) = windows.iter().find(|shown| shown.window.zone == Zone::ClientLocal)
            && self.client_zone.is_none()
        {
            bail!(
                "{}: timeZone: ClientLocal is the clock of each client: say which with --client-zone, for example --client-zone Europe/Berlin",
                shown.place
            );
        }
        let clock = self.client_zone.clone().unwrap_or(TimeZone::UTC);
        let from = self.from.as_deref().map_or(Ok(now), |text| instant("--from", text, &clock))?;
        let to = match self.to.as_deref() {
            Some(text) => instant("--to", text, &clock)?,
            None => from.checked_add(SignedDuration::from_hours(24 * DAYS)).unwrap_or(Timestamp::MAX),
        };
        if to <= from {
            bail!("--to {to} is not after --from {from}: nothing lies between them");
        }
        let mut lines = Vec::new();
        let mut calendar = None;
        if self.union {
            let purpose = match self.purpose {
                For::Install => Purpose::Install,
                For::Restart => Purpose::Restart,
            };
            let all = Calendar::new(windows.iter().map(|shown| &shown.window), purpose, &clock);
            // What nothing bounds is shown as far as it was asked for.
            let bounded = |span: Span| Span {
                start: if span.start == Timestamp::MIN { from } else { span.start },
                end: if span.end == Timestamp::MAX { to } else { span.end },
            };
            lines.extend(
                all.openings_between(from, to)
                    .take(MOST + 1)
                    .map(|span| Line { window: None, span: bounded(span) }),
            );
            calendar = Some(all);
        } else {
            for shown in windows {
                let spans = shown.window.occurrences_between(&clock, from, to).take(MOST + 1 - lines.len());
                lines.extend(spans.map(|span| Line { window: Some(shown), span }));
                if lines.len() > MOST {
                    break;
                }
            }
            lines.sort_by_key(|line| line.span);
        }
        if lines.len() > MOST {
            bail!(
                "more than {MOST} occurrences between {from} and {to}: bring --to nearer, or ask for fewer windows"
            );
        }
        Ok(Listing { windows, lines, from, to, zone: self.client_zone.clone(), calendar })
    }
}

impl Line<'_> {
    fn denies(&self) -> bool {
        self.window.is_some_and(|shown| shown.window.action == WindowAction::Deny)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        options: Options,
    }

    pub(super) fn options(arguments: &[&str]) -> Options {
        Command::try_parse_from(std::iter::once(&"windows").chain(arguments)).unwrap().options
    }

    pub(super) fn file(text: &str) -> Vec<Shown> {
        read::documents("w.yaml", text.as_bytes(), None).unwrap()
    }

    pub(super) const TWO: &str = "\
apiVersion: patchtide.dev/v1alpha1
kind: MaintenanceWindow
metadata: {name: nights}
spec:
  collection: servers
  description: \"Nights; backups, then updates\\nas agreed\"
  recurrence: {weekly: {weekdays: [Monday, Friday]}}
  start: '22:00'
  duration: 4h
---
apiVersion: patchtide.dev/v1alpha1
kind: MaintenanceWindow
metadata: {name: freeze}
spec:
  collection: servers
  recurrence: {monthlyByDate: {lastDay: true}}
  start: '00:00'
  duration: 24h
  timeZone: UTC
  action: Deny
";

    fn lines(arguments: &[&str], text: &str) -> Vec<String> {
        let windows = file(text);
        let listing = options(arguments).list(&windows, "2026-11-21T12:00:00Z".parse().unwrap()).unwrap();
        listing.lines.iter().map(|line| format!("{}/{}", line.span.start, line.span.end)).collect()
    }

    /// Bad input 101: the windows apart, and as a client has them.
    #[test]
    fn several_windows_apart_and_as_one_client_has_them() {
        let range =
            ["-f", "-", "--client-zone", "Europe/Berlin", "--from", "2026-11-27", "--to", "2026-12-02"];
        assert_eq!(
            lines(&range, TWO),
            [
                "2026-11-27T21:00:00Z/2026-11-28T01:00:00Z",
                "2026-11-30T00:00:00Z/2026-12-01T00:00:00Z",
                "2026-11-30T21:00:00Z/2026-12-01T01:00:00Z",
            ]
        );
        let union = [&range[..], &["--union"]].concat();
        assert_eq!(
            lines(&union, TWO),
            ["2026-11-27T21:00:00Z/2026-11-28T01:00:00Z", "2026-12-01T00:00:00Z/2026-12-01T01:00:00Z"]
        );
        // What is under way counts, and what begins at the end does not.
        let late = [
            "-f",
            "-",
            "--client-zone",
            "UTC",
            "--from",
            "2026-11-28T00:00:00Z",
            "--to",
            "2026-11-30T22:00Z",
        ];
        assert_eq!(
            lines(&late, TWO),
            ["2026-11-27T22:00:00Z/2026-11-28T02:00:00Z", "2026-11-30T00:00:00Z/2026-12-01T00:00:00Z"]
        );
    }

    #[test]
    fn what_cannot_be_answered_is_told_with_the_remedy() {
        let windows = file(TWO);
        let said = |arguments: &[&str]| {
            let now = "2026-11-21T12:00:00Z".parse().unwrap();
            options(arguments).list(&windows, now).map(|_| ()).unwrap_err().to_string()
        };
        assert!(said(&["-f", "-"]).contains("w.yaml:1:1: timeZone: ClientLocal"));
        assert!(said(&["-f", "-"]).contains("--client-zone Europe/Berlin"));
        let zoned = ["-f", "-", "--client-zone", "UTC"];
        assert!(said(&[&zoned[..], &["--to", "soon"]].concat()).contains("--to: soon is no time: write"));
        assert!(said(&[&zoned[..], &["--to", "2026-01-01"]].concat()).contains("not after --from"));
        assert!(said(&[&zoned[..], &["--to", "9999-01-01"]].concat()).contains("bring --to nearer"));
        let unknown = Command::try_parse_from(["windows", "--client-zone", "Europe/Berlim"]).map(|_| ());
        assert!(unknown.unwrap_err().to_string().contains("TZ-UNKNOWN"));
        assert!(Command::try_parse_from(["windows", "a", "-f", "b"]).is_err());
    }
}
