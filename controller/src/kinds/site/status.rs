//! What a Site's status shows.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use patchtide_crds::{
    Site, SiteStatus,
    site::{Backlog, ClientCounts, KeyStatus, RoleHealth},
};
use patchtide_model::{
    Digest,
    client::{Client, ClientState},
};
use patchtide_planner::site::Verdict;

use crate::{
    context::Context,
    error::Failure,
    kinds::{database, time},
};

/// Clients become inactive without any event.
pub const LOOK_AGAIN: Duration = Duration::from_mins(1);
/// A role that was not heard of for this long does not work.
const SILENT: SignedDuration = SignedDuration::from_mins(2);

/// Fills clients, roles, backlog and keys.
pub async fn fill(ctx: &Context, status: &mut SiteStatus, object: &Site) -> Result<(), Failure> {
    let clients = ctx.store.clients().await.map_err(|error| database(&error))?;
    let pending = ctx.store.open_enrolments().await.map_err(|error| database(&error))?.len() as u64;
    let inactive_after = object.spec.retention.inactive_after.seconds().unwrap_or(30 * 86_400);
    let now = ctx.clock.now();
    status.clients = Some(count(&clients, pending, SignedDuration::from_secs(inactive_after), now));
    let compiled = ctx.compiled.borrow().clone();
    let withheld = compiled.plan.as_ref().map_or(0, |plan| {
        plan.policies.values().filter(|verdict| matches!(verdict, Verdict::Withheld { .. })).count() as u64
    });
    let reports = ctx.store.client_reports().await.map_err(|error| database(&error))?;
    let resyncs = reports.iter().filter(|report| report.gap).count() as u64;
    status.backlog = Some(Backlog { messages: 0, policies: withheld, resyncs });
    status.roles = roles(ctx, now).await?;
    status.keys = Some(KeyStatus {
        ca_fingerprint: Some(fingerprint(ctx.signer.ca_pem())),
        ca_expires: expiry(ctx.signer.ca_pem()),
        policy_key_id: ctx.signer.policy_keys().first().map(|key| key.key_id.clone()),
        server_certificate_expires: None,
    });
    Ok(())
}

/// End of a certificate.
fn expiry(pem: &str) -> Option<Time> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok()?;
    let end = pem.parse_x509().ok()?.validity().not_after.timestamp();
    Timestamp::from_second(end).ok().map(time)
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

/// What the roles wrote about themselves: values `role/<name>` of the site database, `RFC 3339 time, blank, address`.
async fn roles(ctx: &Context, now: Timestamp) -> Result<Vec<RoleHealth>, Failure> {
    let mut roles = Vec::new();
    for name in ["management-point", "distribution-point", "software-update-point"] {
        let value = ctx.store.get_value(&format!("role/{name}")).await.map_err(|error| database(&error))?;
        let Some(value) = value else {
            continue;
        };
        let (at, address) = value.split_once(' ').unwrap_or((value.as_str(), ""));
        let silent = at.parse::<Timestamp>().map_or(SignedDuration::MAX, |at| now.duration_since(at));
        let healthy = silent < SILENT;
        roles.push(RoleHealth {
            name: name.to_owned(),
            address: (!address.is_empty()).then(|| address.to_owned()),
            healthy,
            message: (!healthy).then(|| format!("not heard of since {at}: look at the role's log")),
        });
    }
    Ok(roles)
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
    }
}
