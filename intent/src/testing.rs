//! What unit tests need again and again.

use std::collections::BTreeSet;

use jiff::Timestamp;
use patchtide_model::{
    Digest, UpdateId,
    catalogue::{Classification, ContentFile, Leaf, RestartRule, Severity, Update},
};

/// An update of one leaf that has the source's name.
pub(crate) fn update(id: &str) -> Update {
    let id: UpdateId = id.parse().unwrap();
    let leaf = Leaf {
        package: id.source.clone(),
        version: id.version.clone(),
        architecture: "amd64".into(),
        file: ContentFile {
            sha256: Digest::of(id.to_string().as_bytes()),
            size: 1000,
            path: format!("pool/main/{}.deb", id.source),
        },
        stanza: format!("Package: {}\n", id.source),
    };
    Update {
        title: format!("{} - a package", id.source),
        classification: Classification::SecurityUpdates,
        product: "Debian 12".into(),
        severity: Severity::None,
        cves: BTreeSet::default(),
        bulletins: BTreeSet::default(),
        posted: Timestamp::UNIX_EPOCH,
        leaves: vec![leaf],
        maximum_run_time: None,
        exclusive: false,
        restart: RestartRule::Auto,
        superseded_by: None,
        expired: false,
        id,
    }
}
