//! Polls for policy at a management point that keeps to the protocol, at one that lags, and at a stolen one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use patchtide_agent::{
    policy::{PolicyError, PolicyStore, Polled},
    state::StateFolder,
    transport::{Transport, TransportError},
};
use patchtide_model::{
    ClientId, Digest,
    object::ClientSettings,
    policy::{POLICY_VERSION, PolicyBody},
    shared::Shared,
};
use patchtide_protocol::{
    Problem,
    bundle::{Bundle, PolicyKey},
    envelope::{Envelope, EnvelopeSignature, POLICY_TYPE, key_id, pre_authentication_encoding},
    limits::POLICY_PART_BYTES,
    policy::{Packed, PartError, Statement, pack_orders, pack_updates},
};

use crate::{
    download::bundle,
    server::{Ca, Reply, Request, Server, serve},
};

fn client() -> ClientId {
    ClientId(uuid::Uuid::from_u128(1))
}

/// A body that is told apart by `text`; what may be installed is always the same.
fn body(text: &str) -> PolicyBody {
    PolicyBody {
        settings: ClientSettings::default(),
        lines: Shared::default(),
        windows: vec![],
        deployments: Shared::default(),
        updates: Shared::default(),
        dependencies: Shared::default(),
        awaited: Shared::default(),
        provenance: BTreeMap::from([("told".to_owned(), text.to_owned())]).into(),
    }
}

/// What the management point answers, by path; every other path is 404.
#[derive(Default)]
struct Answers {
    policy: Option<Envelope>,
    parts: BTreeMap<Digest, Vec<u8>>,
    asked: Vec<String>,
}

/// A management point, and a client of it.
struct Bed {
    key: Ed25519KeyPair,
    answers: Arc<Mutex<Answers>>,
    transport: Transport,
    store: PolicyStore,
    _server: Server,
    _folder: tempfile::TempDir,
}

impl Bed {
    async fn new() -> Self {
        let (ca, key) = (Ca::new(), Ed25519KeyPair::generate().unwrap());
        let answers = Arc::<Mutex<Answers>>::default();
        let seen = Arc::clone(&answers);
        let server = serve(&ca, move |request| {
            let reply = answer(&mut seen.lock().unwrap(), &request);
            async move { reply }
        })
        .await;
        let public = key.public_key().as_ref();
        let policy_keys = vec![PolicyKey { key_id: key_id(public), public_key: STANDARD.encode(public) }];
        let bundle = Bundle { policy_keys, ..bundle(&ca, &[&server.url]) };
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open(folder.path()).unwrap();
        let store = PolicyStore::new(state, &bundle, client());
        let transport = Transport::new(&bundle).unwrap();
        Self { key, answers, transport, store, _server: server, _folder: folder }
    }

    /// A policy as the site signs it; `change` is what a careless or stolen site makes of it before.
    fn sign(&self, number: u64, body: &PolicyBody, change: impl FnOnce(&mut Statement)) -> Envelope {
        let mut statement = Statement {
            version: POLICY_VERSION,
            site: "lab".parse().unwrap(),
            client: client(),
            epoch: 1,
            number,
            issued_at: jiff::Timestamp::UNIX_EPOCH,
            orders: pack_orders(body).unwrap().part,
            updates: pack_updates(body).unwrap().part,
        };
        change(&mut statement);
        let payload = serde_json::to_vec(&statement).unwrap();
        let sig = STANDARD.encode(self.key.sign(&pre_authentication_encoding(POLICY_TYPE, &payload)));
        let keyid = key_id(self.key.public_key().as_ref());
        Envelope::new(&payload, vec![EnvelopeSignature { keyid, sig }])
    }

    /// Serves a policy with its parts, and no others.
    fn serve(&self, number: u64, body: &PolicyBody) {
        let parts = [pack_orders(body).unwrap(), pack_updates(body).unwrap()];
        let mut answers = self.answers.lock().unwrap();
        answers.policy = Some(self.sign(number, body, |_| ()));
        answers.parts = parts.map(|Packed { part, bytes }| (part.digest, bytes)).into();
    }

    async fn poll(&self) -> Result<Polled, PolicyError> {
        let held = self.store.load().unwrap().map(|policy| (policy.epoch, policy.number));
        self.store.poll(&self.transport, held, Duration::ZERO).await
    }

    /// The number and the word of the policy that came.
    async fn polled(&self) -> (u64, String) {
        match self.poll().await.unwrap() {
            Polled::New(policy) => (policy.number, policy.body.provenance["told"].clone()),
            Polled::Unchanged => panic!("nothing new"),
        }
    }

    /// Parts that were asked for since this was asked.
    fn asked(&self) -> usize {
        let asked = std::mem::take(&mut self.answers.lock().unwrap().asked);
        asked.iter().filter(|path| path.contains("/parts/")).count()
    }

    fn in_force(&self) -> u64 {
        self.store.load().unwrap().unwrap().number
    }
}

fn answer(answers: &mut Answers, request: &Request) -> Reply {
    let path = request.path.split('?').next().unwrap().to_owned();
    answers.asked.push(path.clone());
    if path == "/v1/policy" {
        return answers.policy.as_ref().map_or(Reply::status(204), Reply::json);
    }
    let digest = path.strip_prefix("/v1/policy/parts/").and_then(|name| name.parse().ok());
    match digest.and_then(|digest: Digest| answers.parts.get(&digest)) {
        Some(part) => Reply::part(part),
        None => Reply { status: 404, ..Reply::json(&problem()) },
    }
}

fn problem() -> Problem {
    Problem {
        code: "POLICY-PART".to_owned(),
        status: 404,
        detail: "no such part".to_owned(),
        remedy: "ask for the policy again".to_owned(),
    }
}

/// What a client has, it does not fetch again: of a new number alone the statement, of new orders nothing else.
#[tokio::test]
async fn only_parts_that_are_new_are_fetched() {
    let bed = Bed::new().await;
    bed.serve(1, &body("a"));
    assert_eq!((bed.polled().await, bed.asked()), ((1, "a".into()), 2));
    bed.serve(2, &body("b"));
    assert_eq!((bed.polled().await, bed.asked()), ((2, "b".into()), 1));
    bed.serve(3, &body("b"));
    assert_eq!((bed.polled().await, bed.asked()), ((3, "b".into()), 0));
    assert!(matches!(bed.poll().await.unwrap(), Polled::Unchanged));
}

/// The policy became another one between the statement and its parts: nothing is half in force, and the next poll has it.
#[tokio::test]
async fn a_part_that_was_collected_meanwhile_is_asked_for_by_its_new_name() {
    let bed = Bed::new().await;
    bed.serve(1, &body("a"));
    bed.polled().await;
    bed.serve(2, &body("b"));
    let gone = pack_orders(&body("b")).unwrap().part.digest;
    bed.answers.lock().unwrap().parts.remove(&gone);
    assert!(matches!(bed.poll().await.unwrap_err(), PolicyError::Gone));
    assert_eq!(bed.in_force(), 1);
    bed.serve(3, &body("c"));
    assert_eq!(bed.polled().await, (3, "c".into()));
}

/// A stolen management point has everything that was ever signed and can sign nothing (reliability.md 3.4).
#[tokio::test]
async fn a_stolen_management_point_cannot_put_policies_together() {
    let bed = Bed::new().await;
    bed.serve(2, &body("a"));
    bed.polled().await;
    let orders = |text: &str| pack_orders(&body(text)).unwrap();
    let offer = |envelope: Envelope, parts: &[(Digest, Vec<u8>)]| {
        let mut answers = bed.answers.lock().unwrap();
        answers.policy = Some(envelope);
        answers.parts = parts.iter().cloned().collect();
    };

    // Under the name that was signed come the orders of another policy, and none at all.
    for bytes in [orders("a").bytes, Vec::new()] {
        offer(bed.sign(3, &body("b"), |_| ()), &[(orders("b").part.digest, bytes)]);
        let error = bed.poll().await.unwrap_err();
        assert!(matches!(error, PolicyError::Part(PartError::Other { .. })), "{error}");
    }
    // More than was signed: not one byte more is read.
    let Packed { part, mut bytes } = orders("b");
    bytes.push(0);
    offer(bed.sign(3, &body("b"), |_| ()), &[(part.digest, bytes)]);
    let error = bed.poll().await.unwrap_err();
    assert!(matches!(error, PolicyError::Transport(TransportError::TooLarge { .. })), "{error}");
    // The statement of another client, and an older one, are not worth a request.
    bed.asked();
    let other = ClientId(uuid::Uuid::from_u128(2));
    offer(bed.sign(3, &body("b"), |statement| statement.client = other), &[]);
    assert!(matches!(bed.poll().await.unwrap_err(), PolicyError::Other { .. }));
    offer(bed.sign(1, &body("b"), |_| ()), &[]);
    assert!(matches!(bed.poll().await.unwrap_err(), PolicyError::Older { .. }));
    // Signed, but larger than an agent takes: said before it is fetched.
    let large = |statement: &mut Statement| statement.orders.size = POLICY_PART_BYTES as u64 + 1;
    offer(bed.sign(3, &body("b"), large), &[]);
    let error = bed.poll().await.unwrap_err();
    assert!(matches!(error, PolicyError::Part(PartError::TooLarge { .. })), "{error}");
    assert_eq!(bed.asked(), 0);
    // Nothing of all this left a mark.
    assert_eq!(bed.in_force(), 2);
    bed.serve(3, &body("b"));
    assert_eq!(bed.polled().await, (3, "b".into()));
}
