//! The contract of status.

use patchtide_crds::conditions::violations;

use crate::support::Ground;

/// Every status of every object keeps the contract that Flux and kstatus check.
pub fn check_contract(ground: &Ground) {
    macro_rules! check {
        ($object:expr, $($kind:ident),+) => {
            match $object["kind"].as_str().unwrap() {
                $(stringify!($kind) => {
                    let object: patchtide_crds::$kind = serde_json::from_value($object.clone()).unwrap();
                    let generation = object.metadata.generation.unwrap();
                    let broken = violations(object.status.as_ref().unwrap(), generation, true);
                    assert_eq!(broken, Vec::<String>::new(), "{}/{}", stringify!($kind), object.metadata.name.unwrap());
                })+
                other => panic!("kind {other}"),
            }
        };
    }
    for object in ground.all() {
        patchtide_crds::for_all_kinds!(check, object);
    }
}
