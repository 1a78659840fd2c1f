//! What a Site's status shows.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use patchtide_crds::{
    Site, SiteStatus,
    conditions::{ALERTS_DELIVERED, CLIENTS_QUARANTINED, reason},
    site::{Backlog, ClientCounts, KeyStatus, RoleHealth},
};
use patchtide_model::{
    Digest,
    client::{Client, ClientState},
    object::ClientSettings,
};
use patchtide_planner::site::{Verdict, wake::AWAKE};
use patchtide_store::roles::RoleBeat;

use crate::{
    alerts::Alerting,
    compile::Compiled,
    context::Context,
    error::Failure,
    kinds::{database, flag, time},
    metrics::SILENT_INTERVALS,
};

/// Clients become inactive without any event.
pub const LOOK_AGAIN: Duration = Duration::from_mins(1);
/// A role that was not heard of for this long does not work.
const SILENT: SignedDuration = SignedDuration::from_mins(2);
/// An instance that was not heard of for this long, while another one works, is gone.
const GONE: SignedDuration = SignedDuration::from_hours(24);
/// Clients that a message names.
const NAMED: usize = 5;
/// Roles that a status holds.
const ROLES: usize = 64;

/// Fills clients, roles, backlog and keys.
pub async fn fill(ctx: &Context, status: &mut SiteStatus, object: &Site) -> Result<(), Failure> {
    let clients = ctx.store.clients().await.map_err(|error| database(&error))?;
    let pending = ctx.store.open_enrolments().await.map_err(|error| database(&error))?.len() as u64;
    let inactive_after = object.spec.retention.inactive_after.seconds().unwrap_or(30 * 86_400);
    let now = ctx.clock.now();
    let quarantined = quarantined(&clients);
    let told = quarantined.as_ref().map(|text| (true, "SharedIdentity", text.as_str()));
    let generation = object.metadata.generation.unwrap_or_default();
    flag(status, CLIENTS_QUARANTINED, generation, &ctx.clock.time(), told);
    let alerting = ctx.alerting.borrow().clone();
    let told = match &alerting {
        _ if object.spec.alertmanager.is_none() => None,
        // Right after a start: what was true before is still the best answer.
        Alerting::Unknown => status
            .conditions
            .iter()
            .find(|condition| condition.type_ == ALERTS_DELIVERED)
            .map(|known| (known.status == "True", known.reason.clone(), known.message.clone())),
        Alerting::Delivered(text) => Some((true, reason::SUCCEEDED.to_owned(), text.clone())),
        Alerting::Failed(text) => Some((false, reason::ALERTMANAGER_FAILED.to_owned(), text.clone())),
    };
    let told = told.as_ref().map(|(value, reason, text)| (*value, reason.as_str(), text.as_str()));
    flag(status, ALERTS_DELIVERED, generation, &ctx.clock.time(), told);
    status.clients = Some(count(&clients, pending, SignedDuration::from_secs(inactive_after), now));
    let compiled = ctx.compiled.borrow().clone();
    let withheld = compiled.plan.as_ref().map_or(0, |plan| {
        plan.policies.values().filter(|verdict| matches!(verdict, Verdict::Withheld { .. })).count() as u64
    });
    ctx.metrics.silent(&ctx.namespace, silent(&clients, &compiled, now));
    let reports = ctx.store.client_reports().await.map_err(|error| database(&error))?;
    let resyncs = reports.iter().filter(|report| report.gap).count() as u64;
    let beats = ctx.store.beats().await.map_err(|error| database(&error))?;
    for (role, instance) in gone(&beats, now) {
        ctx.store.forget_beat(&role, &instance).await.map_err(|error| database(&error))?;
    }
    let waiting = beats.values().filter(|beat| is_heard(beat, now)).map(|beat| beat.waiting).sum();
    status.backlog = Some(Backlog { messages: waiting, policies: withheld, resyncs });
    status.roles = roles(&beats, now);
    status.keys = Some(KeyStatus {
        ca_fingerprint: Some(fingerprint(ctx.signer.ca_pem())),
        ca_expires: certificate_end(ctx.signer.ca_pem()).map(time),
        policy_key_id: ctx.signer.policy_keys().first().map(|key| key.key_id.clone()),
        server_certificate_expires: first_expiry(&beats, now).map(time),
    });
    Ok(())
}

/// End of the first certificate of a chain.
pub fn certificate_end(pem: &str) -> Option<Timestamp> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok()?;
    Timestamp::from_second(pem.parse_x509().ok()?.validity().not_after.timestamp()).ok()
}

/// SHA-256 of the certificate's DER, as clients compare it.
fn fingerprint(pem: &str) -> String {
    use base64::Engine as _;
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = base64::engine::general_purpose::STANDARD.decode(body).unwrap_or_default();
    format!("sha256:{}", Digest::of(&der))
}

/// Active, pending, revoked and quarantined add up to the total.
fn count(clients: &[Client], pending: u64, inactive_after: SignedDuration, now: Timestamp) -> ClientCounts {
    let of = |state: ClientState| clients.iter().filter(|client| client.state == state).count() as u64;
    let inactive = clients.iter().filter(|client| {
        client.state == ClientState::Active
            && client.last_contact.is_none_or(|last| now.duration_since(last) >= inactive_after)
    });
    let pending = pending + of(ClientState::Pending);
    let (active, revoked, quarantined) =
        (of(ClientState::Active), of(ClientState::Revoked), of(ClientState::Quarantined));
    ClientCounts {
        total: active + pending + revoked + quarantined,
        active,
        pending,
        revoked,
        quarantined,
        inactive: inactive.count() as u64,
    }
}

/// Active clients that were not heard of for more than so many of their polling intervals.
fn silent(clients: &[Client], compiled: &Compiled, now: Timestamp) -> [u64; SILENT_INTERVALS.len()] {
    let policies = compiled.plan.as_ref().map(|plan| &plan.policies);
    let default = ClientSettings::default().policy_polling;
    let mut counts = [0; SILENT_INTERVALS.len()];
    for client in clients.iter().filter(|client| client.state == ClientState::Active) {
        let polling = match policies.and_then(|policies| policies.get(&client.id)) {
            Some(Verdict::Policy(body)) => body.settings.policy_polling,
            _ => default,
        };
        for (count, intervals) in counts.iter_mut().zip(SILENT_INTERVALS) {
            // One that waits for news asks only every few minutes, however short its interval is.
            let silence = polling.saturating_mul(i32::try_from(intervals).unwrap_or(i32::MAX)).max(AWAKE);
            *count += u64::from(client.last_contact.is_none_or(|last| now.duration_since(last) > silence));
        }
    }
    counts
}

/// Whom nobody can tell from another machine, and what to do.
fn quarantined(clients: &[Client]) -> Option<String> {
    let locked = clients.iter().filter(|client| client.state == ClientState::Quarantined);
    let names: Vec<String> = locked.map(|client| format!("{} ({})", client.name, client.id)).collect();
    let more = match names.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!names.is_empty()).then(|| {
        format!(
            "{} clients get nothing, because two machines seem to share the identity of each (a cloned disk, a restored snapshot): {}{more}; remove the agent's state on these machines, so that each enrols as one of its own",
            names.len(),
            names[..names.len().min(NAMED)].join(", ")
        )
    })
}

/// Signs of life by role and instance.
type Beats = BTreeMap<(String, String), RoleBeat>;

fn is_heard(beat: &RoleBeat, now: Timestamp) -> bool {
    now.duration_since(beat.at) < SILENT
}

/// Instances that were not heard of for a day, where another one of the role works: they are gone for good.
fn gone(beats: &Beats, now: Timestamp) -> Vec<(String, String)> {
    let replaced = |role: &str| beats.iter().any(|((other, _), beat)| other == role && is_heard(beat, now));
    beats
        .iter()
        .filter(|((role, _), beat)| now.duration_since(beat.at) >= GONE && replaced(role))
        .map(|(key, _)| key.clone())
        .collect()
}

/// The end of the server certificate that ends first, among roles that work.
fn first_expiry(beats: &Beats, now: Timestamp) -> Option<Timestamp> {
    beats.values().filter(|beat| is_heard(beat, now)).filter_map(|beat| beat.certificate_expires).min()
}

/// What the roles say of themselves; one that is silent does not work.
fn roles(beats: &Beats, now: Timestamp) -> Vec<RoleHealth> {
    let health = beats.iter().take(ROLES).map(|((role, _), beat)| {
        let healthy = is_heard(beat, now);
        RoleHealth {
            name: role.clone(),
            address: (!beat.address.is_empty()).then(|| beat.address.clone()),
            healthy,
            message: (!healthy).then(|| format!("not heard of since {}: look at the role's log", beat.at)),
        }
    });
    health.collect()
}

#[cfg(test)]
mod tests {
    use patchtide_model::ClientId;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn counts_add_up() {
        let now: Timestamp = "2026-07-01T00:00:00Z".parse().unwrap();
        let client = |n: u128, state, last: Option<&str>| Client {
            id: ClientId(Uuid::from_u128(n)),
            name: "c".into(),
            state,
            facts: std::collections::BTreeMap::default(),
            address: None,
            last_contact: last.map(|last| last.parse().unwrap()),
        };
        let clients = [
            client(1, ClientState::Active, Some("2026-06-30T00:00:00Z")),
            client(2, ClientState::Active, Some("2026-05-01T00:00:00Z")),
            client(3, ClientState::Revoked, None),
        ];
        let counts = count(&clients, 4, SignedDuration::from_hours(30 * 24), now);
        assert_eq!((counts.total, counts.active, counts.pending, counts.inactive), (7, 2, 4, 1));
        assert_eq!(quarantined(&clients), None);
        let cloned = client(4, ClientState::Quarantined, None);
        let told = quarantined(&[clients[0].clone(), cloned]).unwrap();
        assert!(told.starts_with("1 clients get nothing") && told.contains("c (00000000-"), "{told}");
    }

    #[test]
    fn silence_is_counted_in_polling_intervals() {
        let now: Timestamp = "2026-07-01T00:00:00Z".parse().unwrap();
        let client = |n: u128, state, minutes: Option<i64>| Client {
            id: ClientId(Uuid::from_u128(n)),
            name: "c".into(),
            state,
            facts: std::collections::BTreeMap::default(),
            address: None,
            last_contact: minutes.map(|minutes| now - SignedDuration::from_mins(minutes)),
        };
        let active = ClientState::Active;
        let clients = [
            client(1, active, Some(110)),
            client(2, active, Some(125)),
            client(3, active, Some(60 * 7)),
            client(4, active, None),
            client(5, ClientState::Revoked, None),
        ];
        assert_eq!(silent(&clients, &Compiled::default(), now), [3, 2, 1]);
    }

    #[test]
    fn a_silent_role_does_not_work_and_a_replaced_one_is_forgotten() {
        let now: Timestamp = "2026-07-10T00:00:00Z".parse().unwrap();
        let beat = |minutes: i64| RoleBeat {
            at: now - SignedDuration::from_mins(minutes),
            address: "0.0.0.0:8443".into(),
            certificate_expires: Some(now + SignedDuration::from_hours(24 * (90 - minutes))),
            waiting: 3,
        };
        let key = |role: &str, instance: &str| (role.to_owned(), instance.to_owned());
        let beats = Beats::from([
            (key("management-point", "a"), beat(0)),
            (key("management-point", "b"), beat(1)),
            (key("management-point", "old"), beat(60 * 25)),
            (key("distribution-point", "a"), beat(60 * 25)),
        ]);
        let health: Vec<bool> = roles(&beats, now).iter().map(|role| role.healthy).collect();
        assert_eq!(health, [false, true, true, false]);
        assert_eq!(gone(&beats, now), [key("management-point", "old")]);
        assert_eq!(first_expiry(&beats, now), Some(now + SignedDuration::from_hours(24 * 89)));
    }
}
