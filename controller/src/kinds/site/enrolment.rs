//! The enrolment loop: tokens from their Secrets, requests decided, certificates issued, clients revoked.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};
use patchtide_crds::{
    Site,
    site::{EnrolmentToken, TokenUse},
};
use patchtide_model::{ClientId, Digest, client::ClientState};
use patchtide_signer::SignerError;
use patchtide_store::{
    ObjectRow, StoreError,
    clients::{EnrolmentRow, EnrolmentState, TokenRow},
    site::TOKEN_MEMBER,
};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::{
    APPROVE, REVOKE,
    approval::{Decision, Token, decide},
    in_force, words,
};
use crate::{context::Context, error::chain};

/// The loop looks this often although nothing woke it.
const PERIOD: Duration = Duration::from_secs(30);
/// Changes that come within this time are one.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// Kind of the rows in which the management point asks for a new certificate of a client: named by the client's id, the
/// UID is the id of its enrolment, the content is the signing request (PEM) as a JSON string.
pub const RENEWAL: &str = "Renewal";
/// Key of a token in its Secret.
const KEY: &str = "token";
/// Shortest token, in bytes.
const SHORTEST: usize = 16;

/// What can go wrong; everything is tried again.
#[derive(Debug, thiserror::Error)]
enum EnrolmentError {
    #[error("the site database could not be asked about enrolments")]
    Store(#[from] StoreError),
    #[error("Secret {name} with enrolment tokens could not be read: give the controller get on secrets")]
    Secret {
        name: String,
        #[source]
        source: Box<kube::Error>,
    },
}

/// Runs until the task is dropped.
pub async fn run(ctx: Arc<Context>) {
    let mut changes = ctx.store.changes();
    let mut sites = ctx.caches.sites.version();
    let mut secrets = ctx.caches.secrets.subscribe();
    let mut told = BTreeSet::new();
    loop {
        changes.mark_unchanged();
        if let Some(site) = in_force(&ctx)
            && let Err(error) = once(&ctx, &site, &mut told).await
        {
            tracing::warn!(error = %chain(&error), "enrolments not decided; tried again");
            sleep(Duration::from_secs(1)).await;
        }
        let wake = async {
            tokio::select! {
                _ = changes.changed() => {}
                _ = sites.changed() => {}
                _ = secrets.changed() => {}
            }
            sleep(DEBOUNCE).await;
        };
        let _ = timeout(PERIOD, wake).await;
    }
}

/// One look at everything that waits. `told` holds the requests whose waiting has been told.
async fn once(ctx: &Context, site: &Site, told: &mut BTreeSet<Digest>) -> Result<(), EnrolmentError> {
    let now = ctx.clock.now();
    revoke(ctx, site).await?;
    let by_hand = words(site, APPROVE);
    let mut requests = ctx.store.open_enrolments().await?;
    requests.extend(refused_but_named(ctx, &by_hand).await?);
    told.retain(|id| requests.iter().any(|request| request.id == *id));
    if !requests.is_empty() {
        let (tokens, complete) = tokens(ctx, &site.spec.enrolment.tokens).await?;
        for request in requests {
            let mut decision =
                decide(&request, &site.spec.enrolment.approval, &tokens, complete, &by_hand, now);
            let token = request.token_digest.and_then(|digest| tokens.get(&digest));
            let collection = token.and_then(|token| token.collection.as_deref());
            let missing = collection.filter(|name| ctx.caches.collections.get(name).is_none());
            if let (Some(collection), Decision::Approve { .. }) = (missing, &decision) {
                // Its windows could not hold for the machine: it stays outside until the collection is there.
                decision = Decision::Wait;
                tracing::warn!(
                    collection,
                    name = request.name,
                    "the token's collection does not exist: create it or take it out of the token"
                );
            }
            if decision == Decision::Wait && told.insert(request.id) {
                tell(ctx, site, &request, missing).await;
            }
            carry_out(ctx, site, &request, decision, collection, now).await?;
        }
    }
    renew(ctx, site, now).await?;
    let pending = site.spec.enrolment.pending_lifetime.seconds().unwrap_or(7 * 86_400);
    let before = now.saturating_sub(SignedDuration::from_secs(pending)).unwrap_or(Timestamp::MIN);
    ctx.store.expire_enrolments(before).await?;
    Ok(())
}

/// Requests that were refused and that a person names nevertheless, by their whole id.
async fn refused_but_named(ctx: &Context, by_hand: &[&str]) -> Result<Vec<EnrolmentRow>, EnrolmentError> {
    let mut rows = Vec::new();
    for id in by_hand.iter().filter_map(|word| word.parse::<Digest>().ok()) {
        if let Some(enrolment) = ctx.store.enrolment(id).await?
            && matches!(enrolment.state, EnrolmentState::Refused { .. })
        {
            rows.push(enrolment.request);
        }
    }
    Ok(rows)
}

/// The tokens of the Site by digest, and whether every Secret was there.
async fn tokens(
    ctx: &Context,
    wished: &[EnrolmentToken],
) -> Result<(BTreeMap<Digest, Token>, bool), EnrolmentError> {
    let api: Api<Secret> = Api::namespaced(ctx.client.clone(), &ctx.namespace);
    let (mut tokens, mut complete) = (BTreeMap::new(), true);
    for token in wished {
        let name = &token.secret_ref.name;
        let secret = api
            .get_opt(name)
            .await
            .map_err(|source| EnrolmentError::Secret { name: name.clone(), source: Box::new(source) })?;
        let key = token.secret_ref.key.as_deref().unwrap_or(KEY);
        let bytes = secret.and_then(|secret| secret.data).and_then(|mut data| data.remove(key));
        let Some(text) = bytes.and_then(|bytes| String::from_utf8(bytes.0).ok()) else {
            complete = false;
            tracing::warn!(
                secret = name,
                key,
                token = token.name,
                "enrolment token's Secret is missing or not text"
            );
            continue;
        };
        let expires = token.expiry.as_ref().and_then(|text| text.parse::<Timestamp>().ok());
        // An end that cannot be read must not mean "never".
        let expires = if token.expiry.is_some() { Some(expires.unwrap_or(Timestamp::MIN)) } else { None };
        for digest in digests(&text, token.usage) {
            let row = TokenRow {
                digest,
                one_time: token.usage == TokenUse::OneTime,
                expires,
                name: token.name.clone(),
            };
            ctx.store.put_token(row).await?;
            let used = ctx.store.token(digest).await?.is_some_and(|stored| stored.used_at.is_some());
            let collection = token.collection.clone();
            tokens.insert(
                digest,
                Token { name: token.name.clone(), usage: token.usage, expires, used, collection },
            );
        }
    }
    Ok((tokens, complete))
}

/// Digests of the tokens in a Secret's value: one, or one a line for one-time tokens. Too short ones do not count.
fn digests(text: &str, usage: TokenUse) -> Vec<Digest> {
    let texts: Vec<&str> = match usage {
        TokenUse::OneTime => text.lines().map(str::trim).collect(),
        TokenUse::Site => vec![text.trim()],
    };
    texts
        .into_iter()
        .filter(|token| token.len() >= SHORTEST)
        .map(|token| Digest::of(token.as_bytes()))
        .collect()
}

/// Says that a machine waits for a person, and how to let it in.
async fn tell(ctx: &Context, site: &Site, request: &EnrolmentRow, missing: Option<&str>) {
    let id = request.id.to_string();
    let address =
        request.address.map_or_else(|| "an unknown address".to_owned(), |address| address.to_string());
    let note = match missing {
        Some(collection) => format!(
            "{} at {address} waits: the collection {collection} of its token does not exist; create it or take it out of enrolment.tokens",
            request.name
        ),
        None => format!(
            "{} at {address} waits for approval: kubectl annotate site {} {APPROVE}={}",
            request.name,
            site.name_any(),
            &id[..16]
        ),
    };
    tracing::info!(id, name = request.name, address, "enrolment waits for approval");
    ctx.events.publish(site, false, "EnrolmentPending", "Enrol", &note).await;
}

async fn carry_out(
    ctx: &Context,
    site: &Site,
    request: &EnrolmentRow,
    decision: Decision,
    collection: Option<&str>,
    now: Timestamp,
) -> Result<(), EnrolmentError> {
    let consume = match decision {
        Decision::Wait => return Ok(()),
        Decision::Refuse(reason) => {
            tracing::info!(id = %request.id, name = request.name, reason, "enrolment refused");
            let note = format!("{} ({}): {reason}", request.name, request.id);
            ctx.events.publish(site, true, "EnrolmentRefused", "Enrol", &note).await;
            return Ok(ctx.store.refuse_enrolment(request.id, &reason).await?);
        }
        Decision::Approve { consume } => consume,
    };
    let lifetime = lifetime(site);
    let client = identity(ctx, request).await?;
    let issued = ctx.signer.issue_client_certificate(&request.csr_pem, client, &ctx.site, lifetime, now);
    let certificate = match issued {
        Ok(certificate) => certificate,
        Err(error @ SignerError::Request(_)) => {
            let reason = format!("{}: make a new key and ask again", chain(&error));
            return Ok(ctx.store.refuse_enrolment(request.id, &reason).await?);
        }
        Err(error) => {
            tracing::warn!(error = %chain(&error), id = %request.id, "certificate not issued; tried again");
            return Ok(());
        }
    };
    // Used up before the client exists: of two machines with the same token one gets in.
    if let Some(token) = consume
        && !ctx.store.consume_token(token, now).await?
    {
        let reason = "the token is good for one machine and was used: ask for another one";
        return Ok(ctx.store.refuse_enrolment(request.id, reason).await?);
    }
    // Before the client exists, so that no policy can miss the windows of the collection.
    if let Some(collection) = collection {
        ctx.store.put_object(membership(client, collection)).await?;
    }
    let not_after = now.checked_add(lifetime).unwrap_or(Timestamp::MAX);
    ctx.store.approve_enrolment(request.id, client, &certificate, not_after, now).await?;
    tracing::info!(id = %request.id, %client, name = request.name, "client enrolled");
    let note = format!("{} is client {client}", request.name);
    ctx.events.publish(site, false, "ClientEnrolled", "Enrol", &note).await;
    Ok(())
}

/// The row that makes a client a direct member of the collection of its token.
fn membership(client: ClientId, collection: &str) -> ObjectRow {
    ObjectRow {
        kind: TOKEN_MEMBER.to_owned(),
        name: client.to_string(),
        uid: String::new(),
        generation: 0,
        json: serde_json::Value::from(collection).to_string(),
    }
}

/// Issues new certificates for active clients that ask with the key they enrolled with.
async fn renew(ctx: &Context, site: &Site, now: Timestamp) -> Result<(), EnrolmentError> {
    for row in ctx.store.objects(RENEWAL).await? {
        if let Some((client, csr)) = renewable(ctx, &row).await? {
            let lifetime = lifetime(site);
            match ctx.signer.issue_client_certificate(&csr, client, &ctx.site, lifetime, now) {
                Ok(certificate) => {
                    let not_after = now.checked_add(lifetime).unwrap_or(Timestamp::MAX);
                    ctx.store.renew_client(client, &certificate, not_after).await?;
                    tracing::info!(%client, "certificate renewed");
                }
                Err(error) => tracing::warn!(error = %chain(&error), %client, "certificate not renewed"),
            }
        } else {
            tracing::warn!(
                client = row.name,
                "renewal refused: not an active client with the key it enrolled with"
            );
        }
        ctx.store.delete_object(RENEWAL, &row.name).await?;
    }
    Ok(())
}

/// The client and request of a renewal, when the request is for the key that the client enrolled with. The management
/// point's word alone is not enough.
async fn renewable(ctx: &Context, row: &ObjectRow) -> Result<Option<(ClientId, String)>, EnrolmentError> {
    let (Ok(client), Ok(id), Ok(csr)) =
        (row.name.parse::<ClientId>(), row.uid.parse::<Digest>(), serde_json::from_str::<String>(&row.json))
    else {
        return Ok(None);
    };
    let enrolled = ctx.store.enrolment(id).await?.map(|enrolment| enrolment.state);
    let same_client = matches!(enrolled, Some(EnrolmentState::Approved { client: of, .. }) if of == client);
    let same_key = patchtide_signer::spki_digest(&csr).is_ok_and(|key| key == id);
    let active = ctx.store.client(client).await?.is_some_and(|client| client.state == ClientState::Active);
    Ok((same_client && same_key && active).then_some((client, csr)))
}

fn lifetime(site: &Site) -> SignedDuration {
    SignedDuration::from_secs(site.spec.enrolment.certificate_lifetime.seconds().unwrap_or(90 * 86_400))
}

/// The client's identity: random and never reused; that of a request that was approved before stays.
async fn identity(ctx: &Context, request: &EnrolmentRow) -> Result<ClientId, EnrolmentError> {
    match ctx.store.enrolment(request.id).await?.map(|enrolment| enrolment.state) {
        Some(EnrolmentState::Approved { client, .. }) => Ok(client),
        _ => Ok(ClientId(Uuid::new_v4())),
    }
}

/// Revokes the clients that the Site's annotation names.
async fn revoke(ctx: &Context, site: &Site) -> Result<(), EnrolmentError> {
    for word in words(site, REVOKE) {
        let Ok(id) = word.parse::<ClientId>() else {
            tracing::warn!(word, "not a client id in {REVOKE}");
            continue;
        };
        let client = ctx.store.client(id).await?;
        if client.is_some_and(|client| client.state != ClientState::Revoked) {
            ctx.store.set_client_state(id, ClientState::Revoked).await?;
            tracing::info!(client = %id, "client revoked");
            ctx.events.publish(site, false, "ClientRevoked", "Revoke", &format!("client {id}")).await;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_may_hold_several_one_time_tokens_and_short_ones_do_not_count() {
        let text = "0123456789abcdef\n  fedcba9876543210  \nshort\n";
        assert_eq!(digests(text, TokenUse::OneTime).len(), 2);
        assert_eq!(digests("  0123456789abcdef\n", TokenUse::Site), [Digest::of(b"0123456789abcdef")]);
        assert!(digests("short", TokenUse::Site).is_empty());
    }
}
