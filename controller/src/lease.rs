//! The leader's lease: of several controllers one works.
//!
//! Clocks of machines are never compared (reliability.md 4 #110): a lease is given up when it has not changed for its
//! duration by *this* process's monotonic clock, however old or new the time in it looks. That time is for people.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use uuid::Uuid;

use crate::{clock::Clock, error::chain};

/// Name of the Lease.
pub const LEASE: &str = "patchtide-controller";
/// After this time without a change another process takes over from a leader that is gone.
const DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew for this long stops: before another one may begin.
const GIVE_UP: Duration = Duration::from_secs(10);
/// The leader renews this often.
const RENEW: Duration = Duration::from_secs(4);
/// The others look this often, and the leader tries again after a failure.
const LOOK: Duration = Duration::from_secs(2);
/// Time for one look or one renewal.
const PATIENCE: Duration = Duration::from_secs(4);

/// What to do about a lease as it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It is ours.
    Renew,
    /// It is nobody's, or was given up.
    Take,
    /// It is another's.
    Wait,
}

/// What was seen of another's lease, and since when it has not changed.
#[derive(Debug, Default)]
struct Watch {
    seen: Option<(String, Instant)>,
}

impl Watch {
    fn step(&mut self, lease: &Lease, identity: &str, now: Instant) -> Step {
        let spec = lease.spec.as_ref();
        let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
        if holder.is_empty() {
            return Step::Take;
        }
        if holder == identity {
            self.seen = None;
            return Step::Renew;
        }
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        match &self.seen {
            Some((known, since)) if *known == version => {
                let seconds = spec.and_then(|spec| spec.lease_duration_seconds);
                let duration =
                    seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
                // Another version of the program may hold it for longer; for less than our own nobody can.
                let duration = duration.unwrap_or(DURATION).clamp(DURATION, DURATION * 8);
                if now.duration_since(*since) >= duration { Step::Take } else { Step::Wait }
            }
            _ => {
                self.seen = Some((version, now));
                Step::Wait
            }
        }
    }
}

struct Keeper<C> {
    api: Api<Lease>,
    identity: String,
    clock: C,
    watch: Watch,
}

/// Competes for the lease until the receiver is dropped, then gives it back. The receiver says whether this process leads.
pub fn compete<C: Clock>(
    client: Client,
    namespace: &str,
    identity: Option<String>,
    clock: C,
) -> (watch::Receiver<bool>, JoinHandle<()>) {
    let identity = identity.unwrap_or_else(|| Uuid::new_v4().to_string());
    let keeper = Keeper { api: Api::namespaced(client, namespace), identity, clock, watch: Watch::default() };
    let (leads, receiver) = watch::channel(false);
    (receiver, tokio::spawn(keeper.run(leads)))
}

impl<C: Clock> Keeper<C> {
    async fn run(mut self, leads: watch::Sender<bool>) {
        // When it was last ours for certain: the answer may have taken a while.
        let mut ours: Option<Instant> = None;
        let mut told = false;
        while !leads.is_closed() {
            let begun = Instant::now();
            let is_ours = match timeout(PATIENCE, self.attempt()).await {
                Ok(Ok(is_ours)) => {
                    told = false;
                    Some(is_ours)
                }
                failed => {
                    let error = match &failed {
                        Ok(Err(error)) => chain(error),
                        _ => "no answer in time".to_owned(),
                    };
                    if !told {
                        tracing::warn!(
                            error,
                            "the Lease {LEASE} could not be looked at: the controller needs get, create and update on leases in its namespace, and the API server"
                        );
                    }
                    told = true;
                    None
                }
            };
            match is_ours {
                Some(true) => ours = Some(begun),
                Some(false) => ours = None,
                None => ours = ours.filter(|since| since.elapsed() < GIVE_UP),
            }
            leads.send_if_modified(|leading| std::mem::replace(leading, ours.is_some()) != ours.is_some());
            let pause = if is_ours == Some(true) { RENEW } else { LOOK };
            tokio::select! {
                () = sleep(pause) => {}
                () = leads.closed() => {}
            }
        }
        if ours.is_some()
            && let Ok(Err(error)) = timeout(PATIENCE, self.release()).await
        {
            tracing::debug!(error = chain(&error), "the lease was not given back; it runs out");
        }
    }

    /// One look, and what follows from it. Whether the lease is ours.
    async fn attempt(&mut self) -> kube::Result<bool> {
        let Some(mut lease) = self.api.get_opt(LEASE).await? else {
            let mut lease = Lease {
                metadata: ObjectMeta { name: Some(LEASE.to_owned()), ..ObjectMeta::default() },
                spec: None,
            };
            self.hold(&mut lease, Step::Take);
            return written(self.api.create(&PostParams::default(), &lease).await);
        };
        let step = self.watch.step(&lease, &self.identity, Instant::now());
        if step == Step::Wait {
            return Ok(false);
        }
        self.hold(&mut lease, step);
        // With the version that was read: of two that take it one gets it.
        written(self.api.replace(LEASE, &PostParams::default(), &lease).await)
    }

    fn hold(&self, lease: &mut Lease, step: Step) {
        let now = Some(MicroTime(self.microseconds()));
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        if step == Step::Take {
            spec.acquire_time.clone_from(&now);
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(-1).saturating_add(1));
        }
        spec.holder_identity = Some(self.identity.clone());
        spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
        spec.renew_time = now;
    }

    fn microseconds(&self) -> Timestamp {
        let now = self.clock.now();
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }

    async fn release(&mut self) -> kube::Result<()> {
        let mut lease = self.api.get(LEASE).await?;
        let Some(spec) = &mut lease.spec else { return Ok(()) };
        if spec.holder_identity.as_ref() == Some(&self.identity) {
            spec.holder_identity = None;
            self.api.replace(LEASE, &PostParams::default(), &lease).await?;
        }
        Ok(())
    }
}

/// Somebody else was quicker: no failure.
fn written(result: kube::Result<Lease>) -> kube::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str, version: u32, renewed: &str) -> Lease {
        Lease {
            metadata: ObjectMeta { resource_version: Some(version.to_string()), ..ObjectMeta::default() },
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.to_owned()),
                lease_duration_seconds: Some(15),
                renew_time: Some(MicroTime(renewed.parse().unwrap())),
                ..LeaseSpec::default()
            }),
        }
    }

    /// Bad input 110: whatever time stands in it, a lease that changes is held, and one that does not is given up after its
    /// duration on our own clock.
    #[test]
    fn bad_input_110_only_whether_it_changes_counts() {
        for renewed in ["1970-01-01T00:00:00Z", "2026-11-22T00:00:00Z", "2999-01-01T00:00:00Z"] {
            let (mut watch, start) = (Watch::default(), Instant::now());
            let mut at = |seconds: u64, version| {
                watch.step(&lease("other", version, renewed), "me", start + Duration::from_secs(seconds))
            };
            for second in 0..60 {
                let version = u32::try_from(second / 10).unwrap();
                assert_eq!(at(second, version), Step::Wait, "{renewed} after {second} s");
            }
            assert_eq!([at(64, 5), at(65, 5)], [Step::Wait, Step::Take], "{renewed}");
        }
        let mut watch = Watch::default();
        assert_eq!(watch.step(&lease("me", 1, "1970-01-01T00:00:00Z"), "me", Instant::now()), Step::Renew);
        assert_eq!(watch.step(&lease("", 1, "2999-01-01T00:00:00Z"), "me", Instant::now()), Step::Take);
    }
}
