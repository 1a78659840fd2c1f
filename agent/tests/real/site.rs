//! A site in memory that speaks the protocol: enrolment, policy by long poll, locations, content, state messages.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use patchtide_model::{
    ClientId, Digest,
    policy::{POLICY_VERSION, PolicyBody},
};
use patchtide_protocol::{
    binary,
    bundle::{Bundle, PolicyKey},
    encoding,
    enrolment::{EnrolmentAnswer, EnrolmentRequest, EnrolmentState, RenewalRequest, SiteGreeting},
    envelope::{Envelope, EnvelopeSignature, POLICY_TYPE, key_id, pre_authentication_encoding},
    location::{DistributionPointLocation, Locality, Locations},
    policy::{Statement, pack_orders, pack_updates},
    state::{Acknowledgement, StateBody, StateMessage},
};
use tokio::sync::watch;

use crate::server::{Ca, Reply, Request, Server, serve};

#[derive(Default)]
struct State {
    enrolments: usize,
    polls: usize,
    csr: Option<String>,
    messages: Vec<StateMessage>,
    resync: bool,
    files: BTreeMap<String, Vec<u8>>,
    /// Of the policy that was told last.
    parts: BTreeMap<String, Vec<u8>>,
    /// Served byte by byte until somebody is in a hurry.
    dripping: BTreeMap<String, Arc<AtomicBool>>,
    asked_for: BTreeSet<String>,
    renewals: usize,
}

/// Seconds.
const MONTH: i64 = 30 * 86_400;

/// The site.
pub(crate) struct Site {
    ca: Arc<Ca>,
    key: Arc<Ed25519KeyPair>,
    state: Arc<Mutex<State>>,
    policy: watch::Sender<Option<(u64, PolicyBody)>>,
    server: Server,
}

impl Site {
    /// Starts it.
    pub(crate) async fn start() -> Self {
        Self::start_with(MONTH, false).await
    }

    /// Starts it. The first client certificate was issued a day ago and is valid for so many seconds from now; renewals
    /// may not be served.
    pub(crate) async fn start_with(seconds: i64, no_renewals: bool) -> Self {
        let ca = Ca::new();
        let key = Arc::new(Ed25519KeyPair::generate().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let (policy, changes) = watch::channel(None);
        let client = ClientId(uuid::Uuid::new_v4());
        let own = Arc::new(Mutex::new(String::new()));
        let context = Context {
            ca: Arc::clone(&ca),
            key: Arc::clone(&key),
            state: Arc::clone(&state),
            changes,
            client,
            seconds,
            no_renewals,
            own: Arc::clone(&own),
        };
        let server = serve(&ca, move |request| {
            let context = context.clone();
            async move { context.answer(request).await }
        })
        .await;
        own.lock().unwrap().clone_from(&server.url);
        Self { ca, key, state, policy, server }
    }

    pub(crate) fn bundle(&self) -> Bundle {
        let public = self.key.public_key().as_ref();
        Bundle {
            site: "lab".parse().unwrap(),
            management_points: vec![self.server.url.clone()],
            ca_pem: self.ca.pem(),
            policy_keys: vec![PolicyKey { key_id: key_id(public), public_key: STANDARD.encode(public) }],
            token: Some("let me in".to_owned()),
        }
    }

    /// Serves a catalogue or a package.
    pub(crate) fn put(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.state.lock().unwrap().files.insert(digest.to_string(), bytes.to_vec());
        digest
    }

    /// Serves a file byte by byte from now on, or no longer: what is on its way then comes at once.
    pub(crate) fn drip(&self, file: Digest, slow: bool) {
        let mut state = self.state.lock().unwrap();
        if slow {
            state.dripping.insert(file.to_string(), Arc::default());
        } else if let Some(hurry) = state.dripping.remove(&file.to_string()) {
            hurry.store(true, Ordering::SeqCst);
        }
    }

    /// Whether the file was asked for.
    pub(crate) fn asked_for(&self, file: &Digest) -> bool {
        self.state.lock().unwrap().asked_for.contains(&file.to_string())
    }

    pub(crate) fn set_policy(&self, number: u64, body: PolicyBody) {
        self.policy.send_replace(Some((number, body)));
    }

    pub(crate) fn ask_resync(&self) {
        self.state.lock().unwrap().resync = true;
    }

    pub(crate) fn enrolments(&self) -> usize {
        self.state.lock().unwrap().enrolments
    }

    pub(crate) fn renewals(&self) -> usize {
        self.state.lock().unwrap().renewals
    }

    pub(crate) fn messages(&self) -> Vec<StateMessage> {
        self.state.lock().unwrap().messages.clone()
    }

    /// Waits until a message says it; returns its number.
    pub(crate) async fn said(
        &self,
        what: &str,
        after: u64,
        log: &std::path::Path,
        says: impl Fn(&StateBody) -> bool,
    ) -> u64 {
        for _ in 0..1200 {
            if let Some(found) = self.messages().iter().find(|m| m.seq > after && says(&m.body)) {
                return found.seq;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let messages: Vec<String> =
            self.messages().iter().map(|m| format!("{} {:?}", m.seq, m.body)).collect();
        panic!("not reported: {what}; reported: {messages:#?}\n{}", patchtide_tests::process::tail(log, 60));
    }
}

#[derive(Clone)]
struct Context {
    ca: Arc<Ca>,
    key: Arc<Ed25519KeyPair>,
    state: Arc<Mutex<State>>,
    changes: watch::Receiver<Option<(u64, PolicyBody)>>,
    client: ClientId,
    seconds: i64,
    no_renewals: bool,
    own: Arc<Mutex<String>>,
}

impl Context {
    async fn answer(&self, request: Request) -> Reply {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        assert_eq!(request.headers.get("patchtide-protocol").map(String::as_str), Some("2"), "{path}");
        let open = path == "/v1/site" || path.starts_with("/v1/enrolments");
        if !open && !request.authenticated {
            return Reply::status(401);
        }
        match (request.method.as_str(), path) {
            ("GET", "/v1/site") => Reply::json(&SiteGreeting {
                site: "lab".parse().unwrap(),
                oldest_version: 1,
                newest_version: 2,
                time: Timestamp::UNIX_EPOCH,
            }),
            ("POST", "/v1/enrolments") => {
                let body: EnrolmentRequest = serde_json::from_slice(&request.body).unwrap();
                assert_eq!(body.token.as_deref(), Some("let me in"));
                let mut state = self.state.lock().unwrap();
                state.csr = Some(body.csr_pem);
                state.enrolments += 1;
                drop(state);
                self.enrolment(true, true)
            }
            ("GET", _) if path.starts_with("/v1/enrolments/") => {
                let mut state = self.state.lock().unwrap();
                state.polls += 1;
                let (pending, first) = (state.polls < 2, state.enrolments < 2);
                drop(state);
                self.enrolment(pending, first)
            }
            ("POST", "/v1/renewals") if self.no_renewals => Reply::status(503),
            ("POST", "/v1/renewals") => {
                let body: RenewalRequest = serde_json::from_slice(&request.body).unwrap();
                let mut state = self.state.lock().unwrap();
                state.csr = Some(body.csr_pem);
                state.renewals += 1;
                drop(state);
                self.certificate(MONTH)
            }
            ("GET", "/v1/policy") => self.policy(&request, query).await,
            ("GET", _) if path.starts_with("/v1/policy/parts/") => {
                let name = path.rsplit('/').next().unwrap_or_default();
                match self.state.lock().unwrap().parts.get(name) {
                    Some(part) => Reply::part(part),
                    None => Reply::status(404),
                }
            }
            ("GET", "/v1/locations") => {
                let url = self.own.lock().unwrap().clone();
                Reply::json(&Locations {
                    software_update_points: vec![url.clone()],
                    distribution_points: vec![DistributionPointLocation {
                        name: "dp".to_owned(),
                        url,
                        locality: Locality::Fast,
                    }],
                })
            }
            ("POST", "/v1/state-messages") => self.take(&request),
            ("GET", _) => {
                let name = path.rsplit('/').next().unwrap_or_default();
                let mut state = self.state.lock().unwrap();
                state.asked_for.insert(name.to_owned());
                let slow = state.dripping.get(name).cloned();
                match state.files.get(name) {
                    Some(bytes) => {
                        let reply = Reply::file(&request, bytes);
                        Reply { drip: slow.as_ref().map(|_| 0), hurry: slow.unwrap_or_default(), ..reply }
                    }
                    None => Reply::status(404),
                }
            }
            _ => Reply::status(404),
        }
    }

    fn enrolment(&self, pending: bool, first: bool) -> Reply {
        if pending {
            let state = EnrolmentState::Pending { reason: "a person looks at it".to_owned() };
            return Reply::json(&EnrolmentAnswer { id: Digest::of(b""), state });
        }
        self.certificate(if first { self.seconds } else { MONTH })
    }

    fn certificate(&self, seconds: i64) -> Reply {
        let csr = self.state.lock().unwrap().csr.clone().unwrap();
        let state = EnrolmentState::Approved {
            client: self.client,
            certificate_pem: self.ca.client(&csr, self.client, seconds),
        };
        Reply::json(&EnrolmentAnswer { id: Digest::of(b""), state })
    }

    async fn policy(&self, request: &Request, query: &str) -> Reply {
        let held = request.headers.get("if-none-match").cloned();
        let wait: u64 = query.strip_prefix("wait=").unwrap().parse().unwrap();
        let mut changes = self.changes.clone();
        let found = tokio::time::timeout(Duration::from_secs(wait), async {
            loop {
                if let Some((number, body)) = changes.borrow_and_update().clone()
                    && held != Some(format!("\"1.{number}\""))
                {
                    return (number, body);
                }
                if changes.changed().await.is_err() {
                    // The test is over.
                    std::future::pending::<()>().await;
                }
            }
        })
        .await;
        let Ok((number, body)) = found else { return Reply::status(304) };
        let (orders, updates) = (pack_orders(&body).unwrap(), pack_updates(&body).unwrap());
        let statement = Statement {
            version: POLICY_VERSION,
            site: "lab".parse().unwrap(),
            client: self.client,
            epoch: 1,
            number,
            issued_at: Timestamp::UNIX_EPOCH,
            orders: orders.part,
            updates: updates.part,
        };
        let parts = [orders, updates].map(|part| (part.part.digest.to_string(), part.bytes));
        self.state.lock().unwrap().parts = parts.into();
        let payload = serde_json::to_vec(&statement).unwrap();
        let sig = self.key.sign(&pre_authentication_encoding(POLICY_TYPE, &payload));
        let signature = EnvelopeSignature {
            keyid: key_id(self.key.public_key().as_ref()),
            sig: STANDARD.encode(sig.as_ref()),
        };
        Reply::json(&Envelope::new(&payload, vec![signature]))
    }

    fn take(&self, request: &Request) -> Reply {
        let report = binary::decode(&encoding::expand(&request.body).unwrap()).unwrap();
        report.check().unwrap();
        let mut state = self.state.lock().unwrap();
        let mut acknowledged = state.messages.last().map_or(0, |m| m.seq);
        for message in report.messages {
            // Kept once, in order, without a gap.
            if message.seq > acknowledged {
                assert_eq!(message.seq, acknowledged + 1, "a gap");
                acknowledged = message.seq;
                state.messages.push(message);
            }
        }
        let resync = std::mem::take(&mut state.resync);
        Reply::json(&Acknowledgement { acknowledged, resync, by_name: false, superseded: false })
    }
}
