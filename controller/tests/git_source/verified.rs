//! Signatures that a source demands, by keys from a Secret: who signed, who may change what, and what stays in force when
//! the answer is no (reliability 3.6, bad input 40).

use std::{fs, path::PathBuf, process::Command};

use serde_json::Value;

use super::{Bed, SOURCE, collection, contract::check_contract, support::condition};

/// A signer with an SSH key.
struct Signer {
    key: PathBuf,
    public: String,
    fingerprint: String,
}

impl Signer {
    fn new(bed: &Bed, name: &str) -> Self {
        let key = bed.folder.path().join(name);
        let keygen = |args: &[&str]| {
            let output = Command::new("ssh-keygen").args(args).arg(&key).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        keygen(&["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]);
        let fingerprint = keygen(&["-lf"]).split_whitespace().nth(1).unwrap().to_owned();
        let public = fs::read_to_string(key.with_extension("pub")).unwrap();
        Self { key, public, fingerprint }
    }

    /// A commit signed by this key.
    fn commit(&self, bed: &Bed, file: &str, content: &str) -> String {
        bed.repository.write(file, content).unwrap();
        bed.repository.git(&["add", "--all"]).unwrap();
        let key = format!("user.signingkey={}", self.key.display());
        bed.repository.git(&["-c", "gpg.format=ssh", "-c", &key, "commit", "-q", "-S", "-m", "x"]).unwrap();
        bed.repository.head().unwrap()
    }
}

/// The revision is refused by this code, and what was in force is still.
fn refused(source: &Value, code: &str, applied: &str) {
    let (ready, verified) = (condition(source, "Ready"), condition(source, "Verified"));
    assert_eq!((&ready["status"], &ready["reason"]), (&"False".into(), &"VerificationError".into()));
    for condition in [&ready, &verified] {
        assert!(condition["message"].as_str().unwrap().starts_with(code), "{condition}");
    }
    assert_eq!(verified["status"], "False");
    assert_eq!(source["status"]["lastAppliedRevision"], format!("main@sha1:{applied}"));
}

pub async fn only_what_is_signed_by_those_who_may_is_applied(bed: &Bed) {
    let (alice, bob, mallory) =
        (Signer::new(bed, "alice"), Signer::new(bed, "bob"), Signer::new(bed, "mallory"));
    bed.ground.apply(&format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: signers\nstringData:\n  alice.sshpub: {:?}\n  bob.sshpub: {:?}\n",
        alice.public, bob.public
    ));
    let verify = format!(
        "  path: fleet\n  verify:\n    mode: HEAD\n    secretRef: {{name: signers}}\n    paths:\n    - {{path: fleet/windows, keys: ['{}']}}\n",
        alice.fingerprint
    );
    let first = alice.commit(bed, "fleet/windows/v.yaml", &collection("v", "alice"));
    bed.source(&verify);
    let source = bed.reconcile().await;
    assert_eq!(condition(&source, "Ready")["status"], "True", "{:#}", source["status"]);
    assert_eq!(condition(&source, "Verified")["status"], "True");
    assert_eq!(source["status"]["signer"], format!("SSH {}", alice.fingerprint));
    assert!(bed.names("collections").contains(&"v".to_owned()));

    // Nobody, and somebody else.
    bed.repository.commit("unsigned", &[("fleet/u.yaml", &collection("u", "nobody"))]).unwrap();
    refused(&bed.reconcile().await, "SIG-MISSING", &first);
    mallory.commit(bed, "fleet/u.yaml", &collection("u", "mallory"));
    refused(&bed.reconcile().await, "SIG-UNKNOWN", &first);
    check_contract(&bed.ground);
    assert!(!bed.names("collections").contains(&"u".to_owned()));

    // Bob may sign, and change what has no rule: with his name on it, it is in force.
    let second = bob.commit(bed, "fleet/u.yaml", &collection("u", "bob"));
    let source = bed.reconcile().await;
    assert_eq!(source["status"]["lastAppliedRevision"], format!("main@sha1:{second}"));
    assert_eq!(condition(&source, "Verified")["status"], "True");
    assert_eq!(bed.ground.get("collection", "u")["spec"]["description"], "bob");
    bob.commit(bed, "fleet/windows/v.yaml", &collection("v", "bob"));
    let source = bed.reconcile().await;
    refused(&source, "SIG-PATH", &second);
    let told = condition(&source, "Ready")["message"].to_string();
    assert!(told.contains("fleet/windows") && told.contains(&bob.fingerprint), "{told}");
    assert_eq!(bed.ground.get("collection", "v")["spec"]["description"], "alice");

    // Suspended, it says no more than that; the verdict on what is in force is not lost.
    bed.source(&format!("{verify}  suspend: true\n"));
    bed.ground.ready(SOURCE, "fleet", 60).await;
    check_contract(&bed.ground);

    // A second key is asked for, which an SSH signature alone cannot give.
    let demanding = verify.replace("mode: HEAD\n", "mode: HEAD\n    threshold: 2\n");
    bed.source(&demanding);
    refused(&bed.reconcile().await, "SIG-THRESHOLD", &second);
    bed.source("  path: fleet\n");
    let source = bed.reconcile().await;
    assert_eq!(condition(&source, "Verified"), Value::Null);
    assert_eq!(condition(&source, "Ready")["status"], "True", "{:#}", source["status"]);
}
