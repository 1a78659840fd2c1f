use std::collections::BTreeMap;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use jiff::Timestamp;
use patchtide_model::{object::ClientSettings, policy::PolicyBody, shared::Shared};
use patchtide_protocol::{
    envelope::{EnvelopeSignature, POLICY_TYPE, key_id, pre_authentication_encoding},
    policy::{pack_orders, pack_updates},
};

use super::*;

struct Signer(Ed25519KeyPair);

impl Signer {
    fn new() -> Self {
        Self(Ed25519KeyPair::generate().unwrap())
    }

    fn public(&self) -> PolicyKey {
        let key = self.0.public_key().as_ref();
        PolicyKey { key_id: key_id(key), public_key: STANDARD.encode(key) }
    }

    fn sign(&self, client: u128, site: &str, epoch: u64, number: u64) -> Offer {
        self.offer(&body(), client, site, epoch, number)
    }

    fn offer(&self, body: &PolicyBody, client: u128, site: &str, epoch: u64, number: u64) -> Offer {
        let (orders, updates) = (pack_orders(body).unwrap(), pack_updates(body).unwrap());
        let statement = Statement {
            version: patchtide_model::policy::POLICY_VERSION,
            site: site.parse().unwrap(),
            client: ClientId(uuid::Uuid::from_u128(client)),
            epoch,
            number,
            issued_at: Timestamp::UNIX_EPOCH,
            orders: orders.part,
            updates: updates.part,
        };
        let envelope = self.wrap(&serde_json::to_vec(&statement).unwrap());
        Offer { envelope, parts: Parts { orders: orders.bytes, updates: updates.bytes } }
    }

    fn wrap(&self, payload: &[u8]) -> Envelope {
        let signature = self.0.sign(&pre_authentication_encoding(POLICY_TYPE, payload));
        let keyid = self.public().key_id;
        Envelope::new(payload, vec![EnvelopeSignature { keyid, sig: STANDARD.encode(signature.as_ref()) }])
    }
}

/// What a management point offers.
#[derive(Clone)]
struct Offer {
    envelope: Envelope,
    parts: Parts,
}

fn body() -> PolicyBody {
    PolicyBody {
        settings: ClientSettings::default(),
        lines: Shared::default(),
        windows: vec![],
        deployments: Shared::default(),
        updates: Shared::default(),
        dependencies: Shared::default(),
        awaited: Shared::default(),
        provenance: Shared::default(),
    }
}

impl PolicyStore {
    /// What a poll does with an offer.
    fn take(&self, offer: &Offer) -> Result<Policy, PolicyError> {
        let statement = self.judge(&offer.envelope)?;
        self.keep(&offer.envelope, &statement, &offer.parts)
    }
}

fn store(signer: &Signer) -> (tempfile::TempDir, PolicyStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = PolicyStore {
        state: StateFolder::open(folder.path()).unwrap(),
        keys: vec![signer.public()],
        site: "lab".parse().unwrap(),
        client: ClientId(uuid::Uuid::from_u128(1)),
    };
    (folder, store)
}

/// reliability.md 3.4: numbers never go back, an epoch may make them low again.
#[test]
fn an_older_policy_is_refused_even_when_the_file_is_gone() {
    let signer = Signer::new();
    let (folder, store) = store(&signer);
    assert_eq!(store.take(&signer.sign(1, "lab", 1, 5)).unwrap().number, 5);
    assert!(matches!(store.take(&signer.sign(1, "lab", 1, 4)), Err(PolicyError::Older { .. })));
    assert_eq!(store.load().unwrap().unwrap().number, 5);
    std::fs::remove_file(folder.path().join(FILE)).unwrap();
    assert!(store.load().unwrap().is_none());
    assert!(matches!(store.take(&signer.sign(1, "lab", 1, 4)), Err(PolicyError::Older { .. })));
    store.take(&signer.sign(1, "lab", 1, 5)).unwrap();
    assert_eq!(store.take(&signer.sign(1, "lab", 2, 1)).unwrap().epoch, 2);
    assert!(matches!(store.take(&signer.sign(1, "lab", 1, 9)), Err(PolicyError::Older { .. })));

    // Either of the two that know the number is enough.
    std::fs::write(folder.path().join(HIGHEST), "{").unwrap();
    assert!(matches!(store.take(&signer.sign(1, "lab", 1, 9)), Err(PolicyError::Older { .. })));
    store.take(&signer.sign(1, "lab", 2, 1)).unwrap();

    // Taken in as another client, whose numbers begin anew; the way back is closed as before.
    let other = PolicyStore { client: ClientId(uuid::Uuid::from_u128(2)), ..store.clone() };
    assert!(other.load().unwrap().is_none());
    assert_eq!(other.take(&signer.sign(2, "lab", 1, 3)).unwrap().number, 3);
    assert!(matches!(other.take(&signer.sign(2, "lab", 1, 2)), Err(PolicyError::Older { .. })));
}

/// A newer site (design 3 of the protocol): what it adds to a policy of a known form is ignored; a form that this agent
/// does not know is refused with what to do, and the policy in force stays.
#[test]
fn an_older_agent_keeps_working_with_a_newer_site_or_is_told_what_to_do() {
    let signer = Signer::new();
    let (_folder, store) = store(&signer);
    let with = |number: u64, change: &dyn Fn(&mut serde_json::Value)| {
        let mut offer = signer.sign(1, "lab", 1, number);
        let mut statement: serde_json::Value =
            serde_json::from_slice(&STANDARD.decode(&offer.envelope.payload).unwrap()).unwrap();
        let mut orders: serde_json::Value =
            serde_json::from_slice(&zstd::decode_all(&offer.parts.orders[..]).unwrap()).unwrap();
        statement["orders"]["json"] = orders.take();
        change(&mut statement);
        let json = serde_json::to_vec(&statement["orders"]["json"].take()).unwrap();
        offer.parts.orders = zstd::encode_all(&json[..], 1).unwrap();
        statement["orders"]["digest"] = patchtide_model::Digest::of(&offer.parts.orders).to_string().into();
        statement["orders"]["size"] = offer.parts.orders.len().into();
        statement["orders"]["expanded"] = json.len().into();
        Offer { envelope: signer.wrap(&serde_json::to_vec(&statement).unwrap()), ..offer }
    };
    let minor = with(5, &|statement| {
        statement["hint"] = "new".into();
        statement["orders"]["json"]["hint"] = 1.into();
        statement["orders"]["json"]["settings"]["hint"] = true.into();
    });
    assert_eq!(store.take(&minor).unwrap().number, 5);

    let error = store.take(&with(6, &|statement| statement["version"] = 3.into())).unwrap_err();
    assert!(matches!(error, PolicyError::Envelope(EnvelopeError::Version(3))));
    assert!(error.to_string().contains("update the agent"), "{error}");
    let error =
        store.take(&with(6, &|statement| statement["orders"]["json"]["windows"] = "all".into())).unwrap_err();
    assert!(error.to_string().contains("update the agent"), "{error}");
    assert_eq!(store.load().unwrap().unwrap().number, 5, "the policy in force stays");
    assert_eq!(
        store.take(&signer.sign(1, "lab", 1, 6)).unwrap().number,
        6,
        "what was refused leaves no mark"
    );

    // A policy of the form before: signed, and not to be mistaken for one of this form.
    let old =
        r#"{"version":1,"site":"lab","client":"00000000-0000-0000-0000-000000000001","epoch":1,"number":9}"#;
    let mut old = Offer { envelope: signer.wrap(old.as_bytes()), ..signer.sign(1, "lab", 1, 9) };
    let error = store.take(&old).unwrap_err();
    assert!(matches!(error, PolicyError::Envelope(EnvelopeError::Version(1))), "{error}");
    old.envelope.payload_type = "application/vnd.patchtide.policy.v1+json".to_owned();
    assert!(matches!(store.take(&old).unwrap_err(), PolicyError::Envelope(EnvelopeError::Type(_))));
    // And as it was kept by the agent before this one: fetched anew, the way back stays closed.
    store.state.save(FILE, &old.envelope).unwrap();
    assert!(store.load().unwrap().is_none());
    assert!(matches!(store.take(&signer.sign(1, "lab", 1, 5)), Err(PolicyError::Older { .. })));
    store.take(&signer.sign(1, "lab", 1, 6)).unwrap();
}

/// A stolen management point has statements and parts of many clients, all signed or named by what is signed.
#[test]
fn statements_and_parts_cannot_be_put_together_anew() {
    let signer = Signer::new();
    let (folder, store) = store(&signer);
    let open = PolicyBody { provenance: BTreeMap::from([("a".into(), "b".into())]).into(), ..body() };
    let (closed, open) = (signer.sign(1, "lab", 1, 1), signer.offer(&open, 1, "lab", 1, 2));
    store.take(&closed).unwrap();
    let refused = |offer: &Offer| {
        let error = store.take(offer).unwrap_err();
        assert!(matches!(error, PolicyError::Part(PartError::Other { .. })), "{error}");
        assert_eq!(store.load().unwrap().unwrap().number, 1, "the policy in force stays");
    };
    // The new number with the old orders, the orders in the place of the updates, half of a part, nothing.
    refused(&Offer { parts: closed.parts.clone(), ..open.clone() });
    let Parts { orders, updates } = open.parts.clone();
    refused(&Offer { parts: Parts { orders: updates.clone(), updates: orders.clone() }, ..open.clone() });
    let half = orders[..orders.len() / 2].to_vec();
    refused(&Offer { parts: Parts { orders: half, updates: updates.clone() }, ..open.clone() });
    refused(&Offer { parts: Parts::default(), ..open.clone() });
    // Other names in a statement are another statement, and nobody signed it.
    let mut forged: serde_json::Value =
        serde_json::from_slice(&STANDARD.decode(&open.envelope.payload).unwrap()).unwrap();
    let other: serde_json::Value =
        serde_json::from_slice(&STANDARD.decode(&closed.envelope.payload).unwrap()).unwrap();
    forged["orders"] = other["orders"].clone();
    let envelope = Envelope::new(&serde_json::to_vec(&forged).unwrap(), open.envelope.signatures.clone());
    let error = store.take(&Offer { envelope, parts: closed.parts }).unwrap_err();
    assert!(matches!(error, PolicyError::Envelope(EnvelopeError::Signature)), "{error}");
    assert_eq!(store.take(&open).unwrap().number, 2);

    // What lies on the disk is held to the same.
    let text = std::fs::read_to_string(folder.path().join(FILE)).unwrap();
    let kept: Kept = serde_json::from_str(&text).unwrap();
    store.state.save(FILE, &Kept { orders: String::new(), ..kept }).unwrap();
    assert!(store.load().unwrap().is_none());
    assert!(matches!(store.take(&signer.sign(1, "lab", 1, 1)), Err(PolicyError::Older { .. })));
}

#[test]
fn a_policy_for_another_or_of_an_unknown_key_is_refused() {
    let signer = Signer::new();
    let (_folder, store) = store(&signer);
    assert!(matches!(store.take(&signer.sign(2, "lab", 1, 1)), Err(PolicyError::Other { .. })));
    assert!(matches!(store.take(&signer.sign(1, "prod", 1, 1)), Err(PolicyError::Other { .. })));
    let stranger = Signer::new().sign(1, "lab", 1, 1);
    assert!(matches!(store.take(&stranger), Err(PolicyError::Envelope(EnvelopeError::Signature))));
    let mut touched = signer.sign(1, "lab", 1, 1);
    let payload = &mut touched.envelope.payload;
    payload.replace_range(8..9, if &payload[8..9] == "A" { "B" } else { "A" });
    assert!(store.take(&touched).is_err());
    assert!(store.load().unwrap().is_none());
}
