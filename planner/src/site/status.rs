//! Reported states -> the numbers of a deployment's status. The counts always add up to the clients targeted.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};
use patchtide_model::{
    ClientId, ObjectName,
    client::Client,
    deployment::{Available, Deadline, Deployment, DeploymentSettings},
    state::{Compliance, DeploymentEnforcement, StateError},
    window::{Calendar, NextOpening, Purpose, Window, time_zone},
};

use super::{SitePlan, Verdict};
use serde::{Deserialize, Serialize};

use crate::times;

/// What a client last reported about a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedState {
    /// Client.
    pub client: ClientId,
    /// Topic 301.
    pub enforcement: Option<DeploymentEnforcement>,
    /// Topic 300.
    pub compliance: Option<Compliance>,
    /// For a waiting state: until when.
    pub until: Option<Timestamp>,
    /// Error of a failed state.
    pub error: Option<StateError>,
    /// When the state was entered.
    pub changed_at: Timestamp,
}

/// What a status is computed from.
#[derive(Debug, Clone, Copy)]
pub struct StatusInput<'a> {
    /// The deployment.
    pub deployment: &'a Deployment,
    /// Clients it reaches now.
    pub targeted: &'a BTreeSet<ClientId>,
    /// Reports; those of clients that are no longer targeted are ignored.
    pub states: &'a [ReportedState],
    /// Windows of the targeted clients ([`windows_of`]); a set may repeat.
    pub windows: &'a [ClientWindows<'a>],
    /// Now.
    pub now: Timestamp,
}

/// The windows of one or more clients.
#[derive(Debug, Clone)]
pub struct ClientWindows<'a> {
    /// All windows that select them.
    pub windows: &'a [Window],
    /// Their own zone.
    pub zone: TimeZone,
}

/// The numbers of a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentNumbers {
    /// Clients targeted.
    pub targeted: u64,
    /// Of them compliant.
    pub compliant: u64,
    /// Of them never heard of in this deployment.
    pub never_reported: u64,
    /// All others by enforcement state; every state is a key, so that a table has all eleven.
    pub states: BTreeMap<DeploymentEnforcement, u64>,
    /// Compliant of targeted in percent, rounded down so that 100 means all; none when nobody is targeted.
    pub compliant_percent: Option<u8>,
    /// Errors, most frequent first.
    pub errors: Vec<ErrorCount>,
    /// Waiting states whose *until* passed long ago.
    pub overdue: u64,
    /// Available time.
    pub available: Moment,
    /// Deadline.
    pub deadline: Moment,
    /// The next time a targeted client's window opens.
    pub next_window: NextWindow,
    /// Some targeted client has no window between the available time and a deadline that is yet to come.
    pub missed: Option<Missed>,
}

/// Windows that open too late for a deadline (reliability.md #103).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed {
    /// The deadline.
    pub deadline: Timestamp,
    /// The first opening after the available time; none: there is none at all.
    pub opens: Option<Timestamp>,
}

/// An error and how often it is met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorCount {
    /// Symbol and code of the error.
    pub symbol: String,
    /// Published code.
    pub code: u32,
    /// Message of one of them.
    pub message: String,
    /// Clients.
    pub count: u64,
    /// The first of them, at most 5.
    pub examples: Vec<ClientId>,
}

/// A time of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// There is none (optional deployment), or it lies beyond the end of time.
    Never,
    /// One instant for everyone.
    At(Timestamp),
    /// Each client's own wall clock.
    ClientLocal(civil::DateTime),
}

/// The next window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextWindow {
    /// At least one targeted client is not bound to windows.
    Unrestricted,
    /// One is open, until then.
    OpenUntil(Timestamp),
    /// The next one opens then.
    At(Timestamp),
    /// None of them ever opens again.
    Never,
    /// Nobody is targeted.
    Nobody,
}

/// Counts and times of a deployment.
pub fn deployment_status(input: &StatusInput<'_>) -> DeploymentNumbers {
    let latest: BTreeMap<ClientId, &ReportedState> = input
        .states
        .iter()
        .filter(|state| input.targeted.contains(&state.client))
        .map(|state| (state.client, state))
        .collect();
    let mut states: BTreeMap<DeploymentEnforcement, u64> =
        DeploymentEnforcement::ALL.iter().map(|state| (*state, 0)).collect();
    let (mut compliant, mut never_reported, mut overdue) = (0_u64, 0_u64, 0_u64);
    let mut errors: BTreeMap<(u32, &str), ErrorCount> = BTreeMap::new();
    for client in input.targeted {
        match classify(latest.get(client).copied()) {
            Standing::NeverReported => never_reported += 1,
            Standing::Compliant => compliant += 1,
            Standing::In(enforcement, state) => {
                *states.entry(enforcement).or_default() += 1;
                overdue += u64::from(is_overdue(enforcement, state, input.now));
                if let Some(error) = &state.error {
                    let count = errors.entry((error.code, &error.symbol)).or_insert_with(|| ErrorCount {
                        symbol: error.symbol.clone(),
                        code: error.code,
                        message: error.message.clone(),
                        count: 0,
                        examples: Vec::new(),
                    });
                    count.count += 1;
                    if count.examples.len() < EXAMPLES {
                        count.examples.push(*client);
                    }
                }
            }
        }
    }
    let mut errors: Vec<ErrorCount> = errors.into_values().collect();
    errors.sort_by(|a, b| {
        b.count.cmp(&a.count).then_with(|| a.symbol.cmp(&b.symbol)).then(a.code.cmp(&b.code))
    });
    let targeted = u64::try_from(input.targeted.len()).unwrap_or(u64::MAX);
    let percent = (u128::from(compliant) * 100).checked_div(u128::from(targeted));
    DeploymentNumbers {
        targeted,
        compliant,
        never_reported,
        states,
        compliant_percent: percent.and_then(|percent| u8::try_from(percent).ok()),
        errors,
        overdue,
        available: moment(
            input.deployment,
            times::available,
            match input.deployment.settings.available {
                Available::At(civil) => Some(civil),
                Available::AsSoonAsPossible => None,
            },
        ),
        deadline: deadline_moment(input.deployment),
        next_window: next_window(input.windows, input.now),
        missed: missed(input),
    }
}

const EXAMPLES: usize = 5;

/// Where a targeted client stands: exactly one of these.
enum Standing<'a> {
    NeverReported,
    Compliant,
    In(DeploymentEnforcement, &'a ReportedState),
}

/// Compliant wins over a state left from before; heard of without an enforcement state is *unknown*.
fn classify(state: Option<&ReportedState>) -> Standing<'_> {
    match state {
        None => Standing::NeverReported,
        Some(state) if state.enforcement.is_none() && state.compliance.is_none() => Standing::NeverReported,
        Some(state) if state.compliance == Some(Compliance::Compliant) => Standing::Compliant,
        Some(state) => Standing::In(state.enforcement.unwrap_or(DeploymentEnforcement::Unknown), state),
    }
}

/// How long after its *until* a waiting client may stay silent: two cycles of state messages.
const GRACE: SignedDuration = SignedDuration::from_mins(30);

fn is_overdue(enforcement: DeploymentEnforcement, state: &ReportedState, now: Timestamp) -> bool {
    !enforcement.is_final()
        && state.until.and_then(|until| until.checked_add(GRACE).ok()).is_some_and(|late| late < now)
}

type Resolve = fn(&DeploymentSettings, Timestamp, &TimeZone) -> Option<Timestamp>;

fn moment(deployment: &Deployment, resolve: Resolve, civil: Option<civil::DateTime>) -> Moment {
    match civil {
        Some(civil) if deployment.settings.client_local_time => Moment::ClientLocal(civil),
        _ => {
            resolve(&deployment.settings, deployment.anchor, &TimeZone::UTC).map_or(Moment::Never, Moment::At)
        }
    }
}

fn deadline_moment(deployment: &Deployment) -> Moment {
    let settings = &deployment.settings;
    let civil = match (settings.deadline, settings.available) {
        (Deadline::At(civil), _) => Some(civil),
        // So long after a wall clock's time: that wall clock's time plus the duration.
        (Deadline::After(after), Available::At(civil)) => match civil.checked_add(after) {
            Ok(civil) => Some(civil),
            Err(_) => return Moment::Never,
        },
        _ => None,
    };
    moment(deployment, times::deadline, civil)
}

/// The worst of the clients that have time before the deadline and no window in it.
fn missed(input: &StatusInput<'_>) -> Option<Missed> {
    let (settings, anchor) = (&input.deployment.settings, input.deployment.anchor);
    if settings.install_outside_windows {
        return None;
    }
    let late = input.windows.iter().filter_map(|client| {
        let available = times::available(settings, anchor, &client.zone)?;
        let deadline = times::deadline(settings, anchor, &client.zone)?;
        let calendar = Calendar::new(client.windows, Purpose::Install, &client.zone);
        if deadline <= available || deadline < input.now || calendar.is_free() {
            return None;
        }
        let opens = match calendar.next_opening(available, SignedDuration::from_nanos(1)) {
            NextOpening::Now { .. } => return None,
            NextOpening::At(span) => Some(span.start),
            NextOpening::Never { .. } => None,
        };
        opens.is_none_or(|opens| opens > deadline).then_some(Missed { deadline, opens })
    });
    late.max_by_key(|missed| missed.opens.unwrap_or(Timestamp::MAX))
}

/// The earliest of the clients' openings: one that is open now, then the next, then never.
pub fn next_window(clients: &[ClientWindows<'_>], now: Timestamp) -> NextWindow {
    let mut best: Option<NextWindow> = None;
    for client in clients {
        let calendar = Calendar::new(client.windows, Purpose::Install, &client.zone);
        let found = match calendar.next_opening(now, SignedDuration::from_nanos(1)) {
            NextOpening::Now { until: None } => NextWindow::Unrestricted,
            NextOpening::Now { until: Some(until) } => NextWindow::OpenUntil(until),
            NextOpening::At(span) => NextWindow::At(span.start),
            NextOpening::Never { .. } => NextWindow::Never,
        };
        let rank = |window: &NextWindow| match window {
            NextWindow::Unrestricted => (0, Timestamp::MIN),
            NextWindow::OpenUntil(until) => (1, *until),
            NextWindow::At(start) => (2, *start),
            NextWindow::Never => (3, Timestamp::MIN),
            NextWindow::Nobody => (4, Timestamp::MIN),
        };
        if best.as_ref().is_none_or(|known| rank(&found) < rank(known)) {
            best = Some(found);
        }
    }
    best.unwrap_or(NextWindow::Nobody)
}

/// The distinct windows of the targeted clients, as a plan gave them out. A client's zone is its fact `timezone`; one
/// that does not say is taken as UTC.
pub fn windows_of<'a>(
    plan: &'a SitePlan,
    clients: &'a [Client],
    targeted: &BTreeSet<ClientId>,
) -> Vec<ClientWindows<'a>> {
    let mut distinct: BTreeMap<(Vec<&ObjectName>, &str), ClientWindows<'a>> = BTreeMap::new();
    for client in clients.iter().filter(|client| targeted.contains(&client.id)) {
        let Some(Verdict::Policy(body)) = plan.policies.get(&client.id) else { continue };
        let name = client.facts.get("timezone").map_or("UTC", String::as_str);
        let key = (body.windows.iter().map(|window| &window.name).collect(), name);
        distinct.entry(key).or_insert_with(|| ClientWindows {
            windows: &body.windows,
            zone: time_zone(name).unwrap_or(TimeZone::UTC),
        });
    }
    distinct.into_values().collect()
}
