use jiff::Timestamp;
use patchtide_model::{Digest, catalogue::LeafRef, state::*};
use proptest::prelude::*;
use uuid::Uuid;

use super::{decode, encode};
use crate::{
    limits::{STATE_STRING_BYTES, STRING_BYTES},
    state::{
        DetectedUpdate, DetectionReport, Numbered, NumberedUpdate, StateBody, StateMessage, StateReport,
    },
};

fn instant() -> impl Strategy<Value = Timestamp> {
    (-60_000_000_000_000_i64..=200_000_000_000_000_000)
        .prop_map(|micros| Timestamp::from_microsecond(micros).unwrap())
}

fn leaf() -> impl Strategy<Value = LeafRef> {
    ("[a-z]{1,8}", "amd64|all", "[0-9]{1,4}").prop_map(|(package, architecture, version)| LeafRef {
        package,
        architecture,
        version,
    })
}

fn error() -> impl Strategy<Value = Option<StateError>> {
    proptest::option::of(
        (any::<u32>(), "[A-Z-]{1,12}", ".{0,40}")
            .prop_map(|(code, symbol, message)| StateError::told(code, symbol, message)),
    )
}

fn state<S: Copy + std::fmt::Debug + 'static>(all: &'static [S]) -> impl Strategy<Value = S> {
    proptest::sample::select(all)
}

fn numbered() -> impl Strategy<Value = Numbered> {
    let places = prop::collection::btree_set(any::<u16>(), 0..4);
    let states = prop::collection::btree_map(1..u64::MAX, (state(Detection::ALL), places), 0..20);
    (any::<[u8; 32]>(), states).prop_map(|(catalogue, states)| Numbered {
        catalogue: Digest::from_bytes(catalogue),
        states: states
            .into_iter()
            .map(|(number, (state, leaves))| NumberedUpdate {
                number,
                state,
                leaves: leaves.into_iter().collect(),
            })
            .collect(),
    })
}

fn body() -> impl Strategy<Value = StateBody> {
    let detected = ("[a-z]{1,6}", "[0-9]{1,3}", state(Detection::ALL), prop::collection::vec(leaf(), 0..4))
        .prop_map(|(source, version, state, leaves)| DetectedUpdate { source, version, state, leaves });
    let states = (prop::collection::vec(detected, 0..20), prop::option::of(numbered()));
    let detection = (any::<u64>(), any::<u16>(), any::<bool>(), states).prop_map(
        |(catalogue_version, part, last, (states, numbered))| {
            StateBody::Detection(DetectionReport {
                line: "debian/bookworm/main".parse().unwrap(),
                catalogue_version,
                part,
                last,
                needs: states.iter().flat_map(|s| s.leaves.clone()).collect(),
                states,
                numbered,
            })
        },
    );
    prop_oneof![
        prop::collection::btree_map("[a-z.]{1,9}", ".{0,20}", 0..5)
            .prop_map(|facts| StateBody::Facts { facts }),
        (state(Scan::ALL), error()).prop_map(|(state, error)| StateBody::Scan { state, error }),
        detection,
        (state(UpdateEnforcement::ALL), error()).prop_map(|(state, error)| StateBody::Update {
            update: "debian/bookworm/main:openssl@1:3.0~x".parse().unwrap(),
            state,
            error
        }),
        ("[a-z0-9-]{1,36}", state(DeploymentEnforcement::ALL), prop::option::of(instant()), error())
            .prop_map(|(deployment, state, until, error)| StateBody::Enforcement {
                deployment,
                state,
                until,
                error
            }),
        ("[a-z]{1,9}", state(Evaluation::ALL))
            .prop_map(|(deployment, state)| StateBody::Evaluation { deployment, state }),
        ("[a-z]{1,9}", state(Compliance::ALL))
            .prop_map(|(deployment, state)| StateBody::Compliance { deployment, state }),
        Just(StateBody::Heartbeat {}),
    ]
}

prop_compose! {
    fn report()(
        ids in any::<(u128, u128)>(),
        sent_at in instant(),
        policy in any::<Option<(u64, u64)>>(),
        parts in prop::collection::vec((1u64..1000, instant(), body()), 0..12),
    ) -> StateReport {
        let mut seq = 0;
        let messages = parts.into_iter().map(|(step, at, body)| {
            seq += step;
            StateMessage { seq, at, body }
        }).collect();
        let (incarnation, boot) = (Uuid::from_u128(ids.0), Uuid::from_u128(ids.1));
        StateReport { incarnation, boot, sent_at, policy, messages }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(report in report()) {
        let bytes = encode(&report);
        prop_assert_eq!(decode(&bytes).unwrap(), report);
    }

    #[test]
    fn no_part_of_a_report_is_a_report(report in report(), cut in any::<prop::sample::Index>()) {
        let bytes = encode(&report);
        let cut = cut.index(bytes.len());
        prop_assert!(decode(&bytes[..cut]).is_err());
        let mut longer = bytes;
        longer.push(0);
        prop_assert!(decode(&longer).is_err());
    }

    #[test]
    fn damage_is_an_error_or_another_report_never_a_panic(
        report in report(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = encode(&report);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(read) = decode(&bytes) {
            prop_assert_eq!(decode(&encode(&read)).unwrap(), read);
        }
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode(&bytes);
    }
}

#[test]
fn references_cannot_blow_a_report_up() {
    let long = "x".repeat(STRING_BYTES);
    let facts = (0..190).map(|n| (format!("k{n}"), long.clone())).collect();
    let message = |seq| StateMessage {
        seq,
        at: Timestamp::UNIX_EPOCH,
        body: StateBody::Facts { facts: Clone::clone(&facts) },
    };
    let report = StateReport {
        incarnation: Uuid::nil(),
        boot: Uuid::nil(),
        sent_at: Timestamp::UNIX_EPOCH,
        policy: None,
        messages: (1..=20).map(message).collect(),
    };
    let bytes = encode(&report);
    assert!(bytes.len() < 32 * 1024, "{}", bytes.len());
    const { assert!(20 * 190 * STRING_BYTES > STATE_STRING_BYTES) };
    assert_eq!(decode(&bytes).unwrap_err().what, "more bytes in strings than a report may have");
}
