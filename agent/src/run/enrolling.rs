//! Before the agent has an identity: asking for one, and telling people at the machine how that stands.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use patchtide_model::client::Facts;
use patchtide_protocol::bundle::Bundle;

use super::{Config, RunError};
use crate::{
    clock,
    control::{Answer, Question},
    facts,
    identity::{
        DeviceKey, Identity,
        enrol::{self, EnrolError, Standing},
    },
    scan::Machine,
    state::StateFolder,
    transport::{
        Transport,
        error::chain,
        retry::{Backoff, dice},
    },
};

/// An enrolment of this machine.
pub(super) struct Enrolling {
    pub(super) bundle: Bundle,
    key: Arc<DeviceKey>,
    name: String,
    facts: Facts,
    /// How it stands.
    said: Mutex<String>,
}

impl Enrolling {
    pub(super) fn new(config: &Config, bundle: &Bundle, key: &Arc<DeviceKey>) -> Self {
        let native = Machine::read(&config.root).ok().map(|machine| machine.native().to_owned());
        let name = facts::hostname(&config.root);
        Self {
            bundle: bundle.clone(),
            key: Arc::clone(key),
            name: if name.is_empty() { "unnamed".to_owned() } else { name },
            facts: facts::collect(&config.root, native.as_deref()),
            said: Mutex::new("the site has not been reached yet".to_owned()),
        }
    }

    /// Asks for an identity, as if this machine were new.
    pub(super) async fn request(&self, transport: &Transport) -> Result<Standing, EnrolError> {
        enrol::greet(transport, &self.bundle).await?;
        enrol::request(transport, &self.bundle, &self.key, &self.name, &self.facts).await
    }

    /// Answers a person before there is an identity.
    pub(super) fn answer(&self, question: &Question) -> Answer {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let text = format!(
            "not enrolled at site {}: {said}\nenrolment   {} (name {})\nasked       {}",
            self.bundle.site,
            self.key.enrolment_id(),
            self.name,
            self.bundle.management_points.join(", ")
        );
        match question {
            Question::Status | Question::Why { .. } => Answer {
                data: serde_json::json!({
                    "site": self.bundle.site, "enrolment": self.key.enrolment_id(), "notEnrolled": said,
                }),
                ..Answer::said(text)
            },
            _ => Answer::refused(text),
        }
    }

    /// The identity on disk, whatever its age, or a new one: asks until the site has decided.
    pub(super) async fn identify(
        &self,
        state: &StateFolder,
        transport: &Transport,
    ) -> Result<Identity, RunError> {
        let key = &self.key;
        if let Some(identity) = Identity::load(state, key, &self.bundle)? {
            // Also one that ran out: the kept policy holds, and an interrupted dpkg is not left alone because the site is
            // away. A new certificate is asked for beside that.
            return Ok(identity);
        }
        let mut pending = Backoff::new(enrol::PENDING.0, enrol::PENDING.1);
        let mut failing = Backoff::new(Duration::from_secs(1), Duration::from_mins(2));
        let mut asked = false;
        loop {
            let step = async {
                if asked {
                    enrol::poll(transport, key, &self.bundle).await
                } else {
                    self.request(transport).await
                }
            };
            let (words, wait) = match step.await {
                Ok(Standing::Approved(identity)) if identity.not_after > clock::now() => {
                    identity.save(state)?;
                    return Ok(*identity);
                }
                // The old certificate once more: the site makes a new one when it is asked anew.
                Ok(Standing::Approved(_) | Standing::NotAsked) => {
                    asked = false;
                    ("the site does not know this machine's request".to_owned(), failing.next(None, dice()))
                }
                Ok(Standing::Pending(reason)) => {
                    asked = true;
                    failing.reset();
                    (format!("waiting for approval: {reason}"), pending.next(None, dice()))
                }
                Err(error @ EnrolError::Refused(_)) => {
                    asked = false;
                    (error.to_string(), Duration::from_mins(10))
                }
                Err(error) => {
                    let asked_for = match &error {
                        EnrolError::Transport(error) => error.retry_after(),
                        _ => None,
                    };
                    (chain(&error), failing.next(asked_for, dice()))
                }
            };
            {
                let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
                if *said != words {
                    tracing::info!(enrolment = %key.enrolment_id(), "not enrolled: {words}");
                    *said = words;
                }
            }
            tokio::time::sleep(wait).await;
        }
    }
}
