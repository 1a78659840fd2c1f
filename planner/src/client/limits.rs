//! The times a client reckons with. `docs/semantics.md` says where each comes from.

use jiff::SignedDuration;

/// What an apt transaction takes whatever is in it: reading indices, unpacking, triggers, rebuilding boot images.
pub const TRANSACTION_BASE: SignedDuration = SignedDuration::from_mins(10);
/// What an update adds to a transaction when no rule sets its maximum run time.
pub const UPDATE_SHARE: SignedDuration = SignedDuration::from_secs(30);
/// A scan this young counts as the one before the batch (R-SCAN-14).
pub const SCAN_BEFORE_INSTALL: SignedDuration = SignedDuration::from_mins(10);
/// The scan before a batch runs this long before a known start, so that it takes nothing of the window.
pub const SCAN_LEAD: SignedDuration = SignedDuration::from_mins(2);
/// Another process's lock is looked at again after this time.
pub const LOCK_RETRY: SignedDuration = SignedDuration::from_secs(30);
/// A policy issued this far ahead of the machine's clock means that the clock is wrong.
pub const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(10);
/// From this many failures on an update is installed alone, so that it cannot spoil the others.
pub const ALONE_AFTER: u32 = 2;
/// Failed scans in a row before a state says so: until then the next try may help.
pub const SCAN_FAILED_AFTER: u32 = 3;
/// A source that gives less than so many bytes a second is given up (`docs/semantics.md`): what a download takes at most.
pub const SLOWEST_DOWNLOAD: u64 = 1024;
/// Failed downloads in a row before the state says *failed* instead of *waiting*.
pub const DOWNLOAD_FAILED_AFTER: u32 = 3;

/// A file that is on no distribution point is asked for all the same when the policy that says so is this old.
pub const AWAITED_PATIENCE: SignedDuration = SignedDuration::from_hours(1);

/// After a scan found something new, the site gets this long to approve it before a batch goes without it.
pub const APPROVAL_GRACE: SignedDuration = SignedDuration::from_mins(2);

/// How long a transaction is expected to take, from the maximum run time of each of its updates where a rule sets one.
pub fn transaction(run_times: impl Iterator<Item = Option<SignedDuration>>) -> SignedDuration {
    run_times.fold(TRANSACTION_BASE, |sum, time| sum.saturating_add(time.unwrap_or(UPDATE_SHARE)))
}

/// Maximum run time of an update with an installer of its own when no rule sets one (domain.md 4.3).
pub const SEQUENTIAL_RUN_TIME: SignedDuration = SignedDuration::from_mins(20);

/// How long installers that run one by one are expected to take.
pub fn sequence(run_times: impl Iterator<Item = Option<SignedDuration>>) -> SignedDuration {
    run_times.fold(SignedDuration::ZERO, |sum, time| sum.saturating_add(time.unwrap_or(SEQUENTIAL_RUN_TIME)))
}

/// A transaction is not called too long before this time.
pub const LEAST_PATIENCE: SignedDuration = SignedDuration::from_hours(1);

/// After what time a transaction is called too long: twice what is expected, for that is an estimate, and at least `least`.
pub fn patience(expected: SignedDuration, least: SignedDuration) -> SignedDuration {
    expected.saturating_mul(2).max(least)
}

/// `first`, doubled with each further failure, at most `most`.
fn back_off(first: SignedDuration, most: SignedDuration, count: u32) -> SignedDuration {
    let factor = 1_i32 << count.saturating_sub(1).min(20);
    first.checked_mul(factor).unwrap_or(most).min(most)
}

/// Pause after the n-th failed installation: 1 h, 2 h, ... 24 h.
pub fn install_retry(count: u32) -> SignedDuration {
    back_off(SignedDuration::from_hours(1), SignedDuration::from_hours(24), count)
}

/// Pause after the n-th failed download: 1 min, 2 min, ... 1 h.
pub fn download_retry(count: u32) -> SignedDuration {
    back_off(SignedDuration::from_mins(1), SignedDuration::from_hours(1), count)
}

/// Pause after the n-th time that no distribution point had a file: 15 s, 30 s, ... 15 min.
pub fn offer_retry(count: u32) -> SignedDuration {
    back_off(SignedDuration::from_secs(15), SignedDuration::from_mins(15), count)
}

/// Pause after the n-th failed scan: 1 min, 2 min, ... 30 min.
pub fn scan_retry(count: u32) -> SignedDuration {
    back_off(SignedDuration::from_mins(1), SignedDuration::from_mins(30), count)
}

/// Pause after the n-th failed recovery of dpkg: 5 min, 10 min, ... 6 h.
pub fn recovery_retry(count: u32) -> SignedDuration {
    back_off(SignedDuration::from_mins(5), SignedDuration::from_hours(6), count)
}
