//! What goes on with the site by itself: the long poll for policy, and the certificate's renewal.

use std::{sync::Arc, time::Duration};

use patchtide_protocol::{limits, location::Locations, path};
use reqwest::Method;
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};

use super::{enrolling::Enrolling, events::Event, until};
use crate::{
    clock,
    identity::{DeviceKey, Identity, enrol},
    policy::{PolicyStore, Polled},
    state::StateFolder,
    transport::{
        SHORT, Transport, TransportError,
        error::chain,
        read_json,
        retry::{Backoff, dice},
    },
};

/// Longest wait before the site is asked again after a failure.
const PATIENCE: Duration = Duration::from_mins(2);
/// A poll that ends sooner without news did not wait.
const TOO_SOON: Duration = Duration::from_secs(2);

/// Polls policy for ever. A change at the site is here within a second.
pub(super) async fn poll_policy(
    policies: PolicyStore,
    transport: Transport,
    mut held: Option<(u64, u64)>,
    events: mpsc::Sender<Event>,
    woken: Arc<Notify>,
) {
    let mut backoff = Backoff::new(Duration::from_secs(1), PATIENCE);
    loop {
        let started = Instant::now();
        let polled = tokio::select! {
            polled = policies.poll(&transport, held, limits::LONGEST_POLL) => polled,
            // What was open when the machine went to sleep is dead.
            () = woken.notified() => continue,
        };
        let (event, wait) = match polled {
            Ok(Polled::New(policy)) => {
                held = Some((policy.epoch, policy.number));
                backoff.reset();
                if let Ok(locations) = locate(&transport).await
                    && events.send(Event::Locations(locations)).await.is_err()
                {
                    return;
                }
                (Event::Policy(policy), Duration::ZERO)
            }
            Ok(Polled::Unchanged) => {
                backoff.reset();
                // A site that stops lets its long polls go at once.
                let wait = if started.elapsed() < TOO_SOON { TOO_SOON } else { Duration::ZERO };
                (Event::Contact(Ok(())), wait)
            }
            Err(error) => {
                let asked = match &error {
                    crate::policy::PolicyError::Transport(error) => error.retry_after(),
                    _ => None,
                };
                let words = chain(&error);
                let wait = backoff.next(asked, dice());
                tracing::warn!(error = %words, wait = ?wait, "no policy");
                (Event::Contact(Err(words)), wait)
            }
        };
        if events.send(event).await.is_err() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = woken.notified() => {}
        }
    }
}

/// Where catalogues and content are for this client.
pub(super) async fn locate(transport: &Transport) -> Result<Locations, TransportError> {
    let response = transport.ask(Method::GET, path::LOCATIONS, SHORT, |request| request).await?;
    read_json(response, 256 * 1024).await
}

/// What keeping an identity needs.
pub(super) struct Keeper {
    pub(super) state: StateFolder,
    pub(super) key: Arc<DeviceKey>,
    pub(super) identity: Identity,
    pub(super) transport: Transport,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) enrolling: Enrolling,
    /// Connections that show no certificate: for one that ran out.
    pub(super) anonymous: Transport,
}

/// Renews the certificate after two thirds of its life; one that ran out while the site was away is asked for anew.
pub(super) async fn keep_identity(mut keeper: Keeper) {
    let mut backoff = Backoff::new(Duration::from_secs(2), Duration::from_mins(30));
    let mut asked = false;
    loop {
        let now = clock::now();
        let wait = until(keeper.identity.renew_at(), now);
        if !wait.is_zero() {
            // In steps: the machine may sleep, or its clock may be set.
            tokio::time::sleep(wait.min(Duration::from_hours(1))).await;
            continue;
        }
        let ran_out = keeper.identity.not_after <= now;
        let transport = if ran_out { &keeper.anonymous } else { &keeper.transport };
        let step = match (asked, ran_out) {
            (true, _) => enrol::poll(transport, &keeper.key, &keeper.enrolling.bundle).await,
            (false, true) => keeper.enrolling.request(transport).await,
            (false, false) => enrol::renew(transport, &keeper.key, &keeper.enrolling.bundle).await,
        };
        match step {
            Ok(enrol::Standing::Approved(renewed)) if renewed.not_after > keeper.identity.not_after => {
                let kept = renewed.save(&keeper.state).map_err(|error| chain(&error)).and_then(|()| {
                    keeper
                        .transport
                        .set_identity(&renewed.certificate_pem, keeper.key.private_key())
                        .map_err(|error| chain(&error))
                });
                match kept {
                    Ok(()) => tracing::info!(not_after = %renewed.not_after, "certificate renewed"),
                    Err(error) => tracing::error!(error, "the renewed certificate cannot be used"),
                }
                let other = keeper.identity.client != renewed.client;
                keeper.identity = *renewed;
                if other && keeper.events.send(Event::OtherClient).await.is_err() {
                    return;
                }
                asked = false;
                backoff.reset();
                continue;
            }
            // The old certificate, or not decided yet.
            Ok(enrol::Standing::Approved(_) | enrol::Standing::Pending(_)) => asked = true,
            Ok(enrol::Standing::NotAsked) => asked = false,
            Err(error) => {
                let not_after = keeper.identity.not_after;
                tracing::warn!(error = %chain(&error), %not_after, "certificate not renewed");
                asked = false;
            }
        }
        let mut wait = backoff.next(None, dice());
        if !ran_out {
            wait = wait.min(until(keeper.identity.not_after, now) + Duration::from_secs(1));
        }
        tokio::time::sleep(wait).await;
    }
}
