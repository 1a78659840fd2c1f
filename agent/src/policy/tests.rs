use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use patchtide_model::{object::ClientSettings, policy::PolicyBody, shared::Shared};
use patchtide_protocol::envelope::{EnvelopeSignature, POLICY_TYPE, key_id, pre_authentication_encoding};

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

    fn sign(&self, client: u128, site: &str, epoch: u64, number: u64) -> Envelope {
        let policy = Policy {
            version: patchtide_model::policy::POLICY_VERSION,
            site: site.parse().unwrap(),
            client: ClientId(uuid::Uuid::from_u128(client)),
            epoch,
            number,
            issued_at: Timestamp::UNIX_EPOCH,
            body: PolicyBody {
                settings: ClientSettings::default(),
                lines: Shared::default(),
                windows: vec![],
                deployments: Shared::default(),
                updates: Shared::default(),
                dependencies: Shared::default(),
                awaited: Shared::default(),
                provenance: Shared::default(),
            },
        };
        self.wrap(&serde_json::to_vec(&policy).unwrap())
    }

    fn wrap(&self, payload: &[u8]) -> Envelope {
        let signature = self.0.sign(&pre_authentication_encoding(POLICY_TYPE, payload));
        let keyid = self.public().key_id;
        Envelope::new(payload, vec![EnvelopeSignature { keyid, sig: STANDARD.encode(signature.as_ref()) }])
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
        let envelope = signer.sign(1, "lab", 1, number);
        let mut policy: serde_json::Value =
            serde_json::from_slice(&STANDARD.decode(&envelope.payload).unwrap()).unwrap();
        change(&mut policy);
        signer.wrap(&serde_json::to_vec(&policy).unwrap())
    };
    let minor = with(5, &|policy| {
        policy["hint"] = "new".into();
        policy["body"]["hint"] = 1.into();
        policy["body"]["settings"]["hint"] = true.into();
    });
    assert_eq!(store.take(&minor).unwrap().number, 5);

    let error = store.take(&with(6, &|policy| policy["version"] = 2.into())).unwrap_err();
    assert!(matches!(error, PolicyError::Envelope(EnvelopeError::Version(2))));
    assert!(error.to_string().contains("update the agent"), "{error}");
    let error = store.take(&with(6, &|policy| policy["body"]["windows"] = "all".into())).unwrap_err();
    assert!(error.to_string().contains("update the agent"), "{error}");
    assert_eq!(store.load().unwrap().unwrap().number, 5, "the policy in force stays");
    assert_eq!(
        store.take(&signer.sign(1, "lab", 1, 6)).unwrap().number,
        6,
        "what was refused leaves no mark"
    );
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
    touched.payload.replace_range(8..9, if &touched.payload[8..9] == "A" { "B" } else { "A" });
    assert!(store.take(&touched).is_err());
    assert!(store.load().unwrap().is_none());
}
