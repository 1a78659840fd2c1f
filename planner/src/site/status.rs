//! Reported states -> the numbers of a deployment's status. The counts always add up to the clients targeted.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};
use patchtide_model::{
    ClientId, ObjectName,
    client::Client,
    deployment::{Available, Deadline, Deployment, DeploymentSettings},
    object::ClientSettings,
    shared::Shared,
    state::{Compliance, DeploymentEnforcement, Leased as _, Overdue, StateError, Told, overdue},
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
    /// The plan in force: by whose settings a client waits.
    pub plan: Option<&'a SitePlan>,
    /// Clients by identity: in whose zone a deadline is.
    pub clients: &'a [Shared<Client>],
    /// When clients were last heard of, as far as that is known.
    pub heard: &'a BTreeMap<ClientId, Timestamp>,
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
    /// States that are older than their lease allows.
    pub overdue: OverdueNumbers,
    /// Clients that are not compliant although the deadline is past for them, their share of its spread included.
    pub past_deadline: u64,
    /// The first of these, at most 10.
    pub late: Vec<ClientId>,
    /// Available time.
    pub available: Moment,
    /// Deadline.
    pub deadline: Moment,
    /// The next time a targeted client's window opens.
    pub next_window: NextWindow,
}

/// Clients whose enforcement state is older than its lease allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OverdueNumbers {
    /// Those that are heard of and say nothing else.
    pub late: u64,
    /// Those that were not heard of for so long that what they said may be long past.
    pub silent: u64,
    /// One of them, one that is heard of if there is any.
    pub example: Option<(ClientId, DeploymentEnforcement, Overdue)>,
}

impl OverdueNumbers {
    /// Both.
    pub const fn total(&self) -> u64 {
        self.late + self.silent
    }

    fn add(&mut self, client: ClientId, state: DeploymentEnforcement, overdue: Overdue) {
        let is_first = match overdue {
            Overdue::Late { .. } => {
                self.late += 1;
                self.late == 1
            }
            Overdue::Silent { .. } => {
                self.silent += 1;
                self.total() == 1
            }
        };
        if is_first {
            self.example = Some((client, state, overdue));
        }
    }
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
    let (mut compliant, mut never_reported, mut past_deadline) = (0_u64, 0_u64, 0_u64);
    let mut overdue = OverdueNumbers::default();
    let mut late = Vec::new();
    let mut errors: BTreeMap<(u32, &str), ErrorCount> = BTreeMap::new();
    for client in input.targeted {
        let state = latest.get(client).copied();
        let standing = standing(
            state.and_then(|state| state.enforcement),
            state.and_then(|state| state.compliance),
            false,
        );
        if standing != Standing::Compliant && is_past_deadline(input, *client) {
            past_deadline += 1;
            if late.len() < LATE {
                late.push(*client);
            }
        }
        match standing {
            Standing::NeverReported => never_reported += 1,
            Standing::Compliant => compliant += 1,
            Standing::In(enforcement) => {
                *states.entry(enforcement).or_default() += 1;
                let Some(state) = state else { continue };
                if let Some(found) = lease(input, enforcement, state) {
                    overdue.add(*client, enforcement, found);
                }
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
        past_deadline,
        late,
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
    }
}

const EXAMPLES: usize = 5;
/// Clients behind the deadline that are named.
const LATE: usize = 10;

/// Where a client that a deployment reaches stands with it: exactly one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It never said anything of it.
    NeverReported,
    /// It has what it requires.
    Compliant,
    /// It is at it.
    In(DeploymentEnforcement),
}

/// Compliant wins over an enforcement state left from before; heard of without an enforcement state is *unknown*. Who said
/// *compliant* of the deployment as it was before updates were added, and by its scan `requires` one of them, is not
/// compliant: what it will do about that it has not said yet.
pub fn standing(
    enforcement: Option<DeploymentEnforcement>,
    compliance: Option<Compliance>,
    requires: bool,
) -> Standing {
    match (enforcement, compliance) {
        (None, None) => Standing::NeverReported,
        (_, Some(Compliance::Compliant)) if requires => Standing::In(DeploymentEnforcement::Unknown),
        (_, Some(Compliance::Compliant)) => Standing::Compliant,
        (enforcement, _) => Standing::In(enforcement.unwrap_or(DeploymentEnforcement::Unknown)),
    }
}

/// Whether the lease of a state is over, by the settings of its client.
fn lease(
    input: &StatusInput<'_>,
    enforcement: DeploymentEnforcement,
    state: &ReportedState,
) -> Option<Overdue> {
    enforcement.lease_rule()?;
    let told = Told {
        state: enforcement,
        since: state.changed_at,
        until: state.until,
        heard: input.heard.get(&state.client).copied(),
    };
    overdue(&told, &settings(input, state.client), input.now)
}

/// What a client was told to do by; the defaults while it has been told nothing.
fn settings<'a>(input: &StatusInput<'a>, client: ClientId) -> Cow<'a, ClientSettings> {
    match input.plan.and_then(|plan| plan.policies.get(&client)) {
        Some(Verdict::Policy(body)) => Cow::Borrowed(&body.settings),
        _ => Cow::Owned(ClientSettings::default()),
    }
}

fn is_past_deadline(input: &StatusInput<'_>, client: ClientId) -> bool {
    let deployment = input.deployment;
    let of = &deployment.settings;
    let zone = || {
        let at = input.clients.binary_search_by_key(&client, |client| client.id).ok()?;
        time_zone(input.clients.get(at)?.facts.get("timezone")?)
    };
    let zone = of.client_local_time.then(zone).flatten().unwrap_or(TimeZone::UTC);
    let Some(deadline) = times::deadline(of, deployment.anchor, &zone).filter(|at| *at < input.now) else {
        return false;
    };
    let spread = !settings(input, client).no_deadline_spread;
    let share =
        if spread { times::share(client, &deployment.uid, of.deadline_spread) } else { SignedDuration::ZERO };
    deadline.checked_add(share).is_ok_and(|at| at < input.now)
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
    clients: &'a [Shared<Client>],
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
