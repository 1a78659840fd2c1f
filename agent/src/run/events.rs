//! What can happen to the engine.

use std::collections::BTreeMap;

use patchtide_model::{
    Digest, LineId, UpdateId,
    policy::{LinePolicy, Policy},
    state::{Failure, StateError},
};
use patchtide_planner::client::ScanRequest;
use patchtide_protocol::{location::Locations, state::Acknowledgement};
use tokio::sync::oneshot;

use crate::{
    catalogue::CatalogueError,
    control::{Answer, Peer, Question},
    download::DownloadError,
    install::{InstallError, Prepared, operation::Standing},
    report::ReportError,
    scan::{Found, ScanError},
};

/// Something that happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// A new policy is in force.
    Policy(Box<Policy>),
    /// The site was reached, or not: for `status`.
    Contact(Result<(), String>),
    /// Where catalogues and content are.
    Locations(Locations),
    /// A scan ended.
    Scanned(ScanRequest, Result<Box<Scanned>, ScanFailed>),
    /// A file came, or not.
    Downloaded(Digest, Result<(), DownloadError>),
    /// A batch or a recovery was started, or not.
    Prepared(Result<Prepared, InstallError>),
    /// An operation ended.
    Ended(Standing),
    /// Services that were watched: those that do not run, with how they are, and the updates it is the fault of.
    Services(BTreeMap<String, String>, BTreeMap<UpdateId, StateError>),
    /// The site took this machine in as another client: its policies and numbers are others.
    OtherClient,
    /// A report was answered, or not.
    Reported(Result<Acknowledgement, ReportError>),
    /// Someone at the machine asks.
    Asked(Question, Peer, oneshot::Sender<Answer>),
}

/// A scan that ended well.
#[derive(Debug)]
pub(crate) struct Scanned {
    /// The policy it was made under.
    pub(crate) policy: Policy,
    /// What it found.
    pub(crate) found: Found,
    /// The catalogues it read.
    pub(crate) lines: BTreeMap<LineId, LinePolicy>,
}

/// Why a scan failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScanFailed {
    /// No catalogue.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The scan itself.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// It did not come to its end.
    #[error("the scan ran longer than {0:#} and was given up: check the disk and the network")]
    Timeout(jiff::SignedDuration),
    /// It was broken off.
    #[error("the scan was broken off: tell the makers of the agent")]
    Broken,
}

impl ScanFailed {
    /// As it is reported.
    pub(crate) fn failure(&self) -> Failure {
        match self {
            Self::Catalogue(CatalogueError::NoSource(_))
            | Self::Scan(ScanError::Catalogue(CatalogueError::NoSource(_))) => Failure::ScanSource,
            Self::Catalogue(CatalogueError::Digest { .. }) => Failure::ScanHash,
            Self::Catalogue(_) | Self::Scan(ScanError::Catalogue(_)) => Failure::ScanCatalogue,
            Self::Scan(ScanError::Machine(_)) => Failure::DpkgUnreadable,
            Self::Timeout(_) => Failure::ScanTimeout,
            Self::Broken => Failure::ScanBroken,
        }
    }
}
