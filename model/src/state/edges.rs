//! Which state may follow which, and why: the closed sets' transitions as data. `docs/states.md` is checked against it.
//!
//! Three rules hold in every set and stand in no table: a state may be said again; the first word about a thing may be
//! any state; and *unknown* may follow every state, for what is no longer looked after is no longer known.

use super::{Compliance, DeploymentEnforcement, Detection, Evaluation, Rule, Scan, UpdateEnforcement};

/// Topic 402.
pub(super) const UPDATE: &[Rule<UpdateEnforcement>] = {
    use UpdateEnforcement::{
        DownloadFailed, Downloaded, Downloading, GeneralFailure, InstallFailed, Installed, Installing,
        PendingInstallation, PendingRestart, RestartRequiredBefore, Started, WaitingForAnother,
        WaitingForContent, WaitingForWindow,
    };
    &[
        Rule {
            from: &[WaitingForContent, Downloading, DownloadFailed],
            to: &[WaitingForContent, Downloading, DownloadFailed],
            because: "a download starts, waits for a distribution point, or fails and is tried again",
        },
        Rule {
            from: &[WaitingForContent, Downloading, DownloadFailed],
            to: &[Downloaded],
            because: "every file is here and verified",
        },
        Rule {
            from: &[Downloaded],
            to: &[WaitingForContent, Downloading, DownloadFailed],
            because: "what is offered changed, more is needed, or a file was lost",
        },
        Rule {
            from: &[Downloaded],
            to: &[
                WaitingForWindow,
                WaitingForAnother,
                RestartRequiredBefore,
                PendingInstallation,
                Started,
                InstallFailed,
                GeneralFailure,
            ],
            because: "its deadline has come, or a person asked; what failed before is left alone until its time",
        },
        Rule {
            from: &[WaitingForWindow, WaitingForAnother, RestartRequiredBefore, PendingInstallation],
            to: &[
                WaitingForWindow,
                WaitingForAnother,
                RestartRequiredBefore,
                PendingInstallation,
                Started,
                InstallFailed,
                GeneralFailure,
            ],
            because: "one gate opens and the next is closed, or all are open",
        },
        Rule {
            from: &[WaitingForWindow, WaitingForAnother, RestartRequiredBefore, PendingInstallation, Started],
            to: &[WaitingForContent, Downloading, DownloadFailed, Downloaded],
            because: "what is offered changed, a file was lost, or it is no longer due",
        },
        Rule {
            from: &[Started],
            to: &[WaitingForWindow, WaitingForAnother, RestartRequiredBefore, PendingInstallation],
            because: "withdrawn before dpkg was started: a policy came, a lock is held, time ran out",
        },
        Rule { from: &[Started], to: &[Installing], because: "the transaction was started" },
        Rule {
            from: &[Started],
            to: &[InstallFailed, GeneralFailure],
            because: "refused before dpkg was started",
        },
        Rule {
            from: &[Installing],
            to: &[PendingRestart, Installed, InstallFailed, GeneralFailure],
            because: "the transaction ended and detection was repeated; or it runs longer than it may",
        },
        Rule {
            from: &[Installing],
            to: &[WaitingForAnother],
            because: "apt found the lock taken and touched nothing, or an interrupted dpkg is recovered",
        },
        Rule {
            from: &[Installing],
            to: &[WaitingForContent, Downloading, DownloadFailed, Downloaded],
            because: "it was cut off before anything of it was installed",
        },
        Rule {
            from: &[InstallFailed, GeneralFailure],
            to: &[
                WaitingForContent,
                Downloading,
                DownloadFailed,
                Downloaded,
                WaitingForWindow,
                WaitingForAnother,
                RestartRequiredBefore,
                PendingInstallation,
                Started,
            ],
            because: "it is tried again",
        },
        Rule {
            from: &[InstallFailed, GeneralFailure],
            to: &[Installed, PendingRestart, InstallFailed, GeneralFailure],
            because: "what took too long ended after all, or what did not run runs again",
        },
        Rule {
            from: &[WaitingForContent, Downloading, DownloadFailed],
            to: &[InstallFailed, GeneralFailure],
            because: "what is offered is again what failed before",
        },
        Rule {
            from: &[PendingRestart],
            to: &[Installed],
            because: "the machine restarted and it was detected again",
        },
        Rule { from: &[Installed], to: &[PendingRestart], because: "the system asks for a restart since" },
        Rule {
            from: &[PendingRestart, Installed],
            to: &[GeneralFailure],
            because: "a service that ran before does not run",
        },
        Rule {
            from: &[PendingRestart, Installed],
            to: &[WaitingForContent, Downloading, DownloadFailed, Downloaded],
            because: "required again: downgraded, revised, or still required after the restart",
        },
    ]
};

/// Topic 301. A deployment speaks with the weightiest state of its updates, so that most states may follow most others;
/// that something is installed or waited with is never told before its files are here.
pub(super) const DEPLOYMENT: &[Rule<DeploymentEnforcement>] = {
    use DeploymentEnforcement::{
        DownloadFailed, Downloaded, Downloading, InstallFailed, Installed, Installing, PendingRestart,
        WaitingForAnother, WaitingForRestart, WaitingForWindow,
    };
    &[
        Rule {
            from: &[Downloading, DownloadFailed],
            to: &[Downloading, DownloadFailed],
            because: "a download fails, or is tried again",
        },
        Rule {
            from: &[Downloading, DownloadFailed],
            to: &[Downloaded],
            because: "every file of the update that is furthest is here",
        },
        Rule {
            from: &[Downloaded],
            to: &[WaitingForWindow, WaitingForAnother, WaitingForRestart, Installing],
            because: "the deadline has come, or a person asked",
        },
        Rule {
            from: &[WaitingForWindow, WaitingForAnother, WaitingForRestart],
            to: &[WaitingForWindow, WaitingForAnother, WaitingForRestart, Installing],
            because: "one gate opens and the next is closed, or all are open",
        },
        Rule {
            from: &[Installing],
            to: &[WaitingForWindow, WaitingForAnother, WaitingForRestart],
            because: "a batch ended or was withdrawn, and the rest waits",
        },
        Rule {
            from: &[Installing],
            to: &[PendingRestart, Installed, InstallFailed],
            because: "the batch ended and detection was repeated",
        },
        Rule {
            from: &[PendingRestart],
            to: &[Installed, WaitingForWindow, WaitingForAnother, WaitingForRestart, Installing],
            because: "the machine restarted, or another update of it goes on before that",
        },
        Rule {
            from: &[InstallFailed],
            to: &[WaitingForWindow, WaitingForAnother, WaitingForRestart, Installing],
            because: "it is tried again",
        },
        Rule {
            from: &[
                Installing,
                WaitingForWindow,
                WaitingForAnother,
                WaitingForRestart,
                PendingRestart,
                InstallFailed,
                Installed,
                Downloaded,
            ],
            to: &[Downloading, DownloadFailed, Downloaded],
            because: "an update of it is needed (again): the policy or the machine changed, or others are done",
        },
        Rule {
            from: &[
                Downloading,
                DownloadFailed,
                Downloaded,
                WaitingForWindow,
                WaitingForAnother,
                WaitingForRestart,
                InstallFailed,
            ],
            to: &[Installed],
            because: "what was left is installed, also by another hand, or needed no longer",
        },
        Rule {
            from: &[
                Downloading,
                DownloadFailed,
                Downloaded,
                WaitingForWindow,
                WaitingForAnother,
                WaitingForRestart,
                InstallFailed,
                Installed,
            ],
            to: &[PendingRestart],
            because: "the system asks for a restart because of what is installed of it",
        },
        Rule {
            from: &[
                Downloading,
                DownloadFailed,
                Downloaded,
                WaitingForWindow,
                WaitingForAnother,
                WaitingForRestart,
                PendingRestart,
                Installed,
            ],
            to: &[InstallFailed],
            because: "an update of it failed, or what it installed does not run",
        },
    ]
};

/// Topic 302.
pub(super) const EVALUATION: &[Rule<Evaluation>] = {
    use Evaluation::{Activated, Failed, Succeeded};
    &[
        Rule { from: &[Activated], to: &[Succeeded, Failed], because: "the scan that it needs ended" },
        Rule {
            from: &[Succeeded, Failed],
            to: &[Activated],
            because: "the machine or the policy changed: evaluated anew",
        },
    ]
};

/// Topic 300.
pub(super) const COMPLIANCE: &[Rule<Compliance>] = {
    use Compliance::{Compliant, Conflict, NonCompliant};
    &[
        Rule {
            from: &[NonCompliant, Conflict],
            to: &[Compliant],
            because: "every update is installed or not required, and no restart is pending",
        },
        Rule {
            from: &[Compliant, Conflict],
            to: &[NonCompliant],
            because: "an update is required, or a restart is pending",
        },
        Rule {
            from: &[Compliant, NonCompliant],
            to: &[Conflict],
            because: "two deployments contradict each other; this client merges them and never says so",
        },
    ]
};

/// Topic 500.
pub(super) const DETECTION: &[Rule<Detection>] = {
    use Detection::{Installed, NotRequired, Required};
    &[
        Rule {
            from: &[NotRequired],
            to: &[Required],
            because: "an older package of it was installed by hand, or the update was revised",
        },
        Rule {
            from: &[NotRequired],
            to: &[Installed],
            because: "its packages were installed by another hand",
        },
        Rule { from: &[Required], to: &[Installed], because: "it was installed" },
        Rule { from: &[Required, Installed], to: &[NotRequired], because: "its packages were removed" },
        Rule {
            from: &[Installed],
            to: &[Required],
            because: "a package was downgraded, or the update was revised",
        },
    ]
};

/// Topic 501.
pub(super) const SCAN: &[Rule<Scan>] = {
    use Scan::{Completed, CompletedWithErrors, Failed, PendingRetry, Running, WaitingForCatalogue};
    &[
        Rule {
            from: &[Completed, CompletedWithErrors, Failed, PendingRetry, WaitingForCatalogue],
            to: &[Running],
            because: "a scan is due, asked for, or tried again",
        },
        Rule { from: &[Running], to: &[Completed, CompletedWithErrors], because: "it came to its end" },
        Rule {
            from: &[Running],
            to: &[WaitingForCatalogue],
            because: "no software update point has the catalogue",
        },
        Rule {
            from: &[Running],
            to: &[PendingRetry],
            because: "it failed for the first or second time in a row",
        },
        Rule { from: &[Running], to: &[Failed], because: "it failed for the third time in a row, or more" },
    ]
};
