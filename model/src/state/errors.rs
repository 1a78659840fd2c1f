//! Every error that a client of ours can report: symbol, published code, published status message, words and remedy.

use serde::{Deserialize, Serialize};

/// An error next to a failed state: a code of the published ranges with words and a remedy (domain.md section 8). Ours are
/// made by [`Failure::error`] alone, so that symbol and code always belong together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StateError {
    /// Published 32-bit code, for example 0x87D00664.
    pub code: u32,
    /// Our short symbol, for example `PRE-LOCK`, `PKG-HASH`, `INSTALL-SCRIPT`.
    pub symbol: String,
    /// What happened and what to do, at most 1 KiB.
    pub message: String,
}

impl StateError {
    /// As a client told it, whichever that is: clients of other makers have symbols of their own.
    pub const fn told(code: u32, symbol: String, message: String) -> Self {
        Self { code, symbol, message }
    }

    /// Which of ours it is; none: another maker's, or an older version's.
    pub fn failure(&self) -> Option<Failure> {
        Failure::ALL
            .iter()
            .copied()
            .find(|failure| failure.symbol() == self.symbol && failure.code() == self.code)
    }
}

macro_rules! failures {
    ($($variant:ident = $symbol:literal, $code:literal, $message:expr, $words:literal, $remedy:literal;)+) => {
        /// What can go wrong on a client.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Failure {
            $(#[doc = $words] $variant,)+
        }

        impl Failure {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Our short symbol. Two that differ in their code alone share one.
            pub const fn symbol(self) -> &'static str {
                match self { $(Self::$variant => $symbol,)+ }
            }

            /// Published 32-bit code (domain.md 8).
            pub const fn code(self) -> u32 {
                match self { $(Self::$variant => $code,)+ }
            }

            /// Published status message (domain.md 1.7); none: none says it.
            pub const fn status_message(self) -> Option<u32> {
                match self { $(Self::$variant => $message,)+ }
            }

            /// What happened.
            pub const fn words(self) -> &'static str {
                match self { $(Self::$variant => $words,)+ }
            }

            /// What a person does about it.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy,)+ }
            }

            /// The error, with what is known of this case.
            pub fn error(self, message: impl Into<String>) -> StateError {
                StateError { code: self.code(), symbol: self.symbol().to_owned(), message: message.into() }
            }
        }
    };
}

failures! {
    ScanSource = "SCAN-SOURCE", 0x87D0_0691, Some(11700),
        "no software update point in reach has the catalogue", "check the software update point and the way to it; the scan is tried again";
    ScanHash = "SCAN-HASH", 0x8024_6002, Some(11701),
        "a catalogue is not the one that the policy names", "synchronise the site; when it stays so, somebody changes it on the way";
    ScanCatalogue = "SCAN-CATALOGUE", 0x87D0_0602, Some(11701),
        "a catalogue cannot be fetched or read", "check the network and free space on the client; the scan is tried again";
    ScanTimeout = "SCAN-TIMEOUT", 0x87D0_0601, Some(11701),
        "a scan ran longer than an hour and was given up", "check the disk and the network of the client; the scan is tried again";
    ScanPartial = "SCAN-PARTIAL", 0x87D0_0695, Some(11701),
        "some packages of dpkg's database cannot be read", "run dpkg --audit; what could be read was scanned";
    ScanBroken = "SCAN-BROKEN", 0x87D0_0656, Some(11713),
        "a scan was broken off", "tell the makers of the agent";
    ScanBefore = "SCAN-BEFORE", 0x87D0_0650, Some(11701),
        "the scan before a batch fails again and again", "see the client's scan state; nothing is installed without that scan";
    ScanAfter = "SCAN-AFTER", 0x87D0_0651, Some(11753),
        "what was installed cannot be detected again", "see the client's scan state; success is told when it was seen";
    DpkgUnreadable = "PRE-DPKG", 0x87D0_0657, Some(11713),
        "the packages of the machine cannot be read", "run dpkg --audit and put /var/lib/dpkg right";
    DpkgBroken = "PRE-DPKG", 0x87D0_0654, Some(11708),
        "an interrupted dpkg cannot be put right", "run dpkg --configure -a on the machine and mend what it names; it is tried again";
    DpkgHangs = "PRE-DPKG", 0x87D0_0664, Some(11709),
        "what an interrupted dpkg runs hung and was ended", "fix the script that is named; it is tried again";
    Held = "PRE-HELD", 0x87D0_0700, None,
        "a package is held on the machine", "apt-mark unhold, or take the update out of the deployment";
    Pinned = "PRE-PINNED", 0x87D0_0700, None,
        "the machine's apt preferences keep a package back", "see apt-cache policy and /etc/apt/preferences.d";
    DiskFull = "PRE-DISK", 0x87D0_1201, Some(11704),
        "the disk has no room", "make room";
    NoInodes = "PRE-INODES", 0x87D0_1201, Some(11704),
        "the file system has no inodes left", "remove small files";
    ReadOnly = "PRE-RO", 0x87D0_0654, Some(11708),
        "a file system that dpkg writes to is read-only", "remount it writable";
    ReadOnlyCache = "PRE-RO", 0x87D0_0653, Some(11706),
        "the file system of the cache is read-only", "remount it writable";
    CacheDisk = "DISK", 0x87D0_0653, Some(11706),
        "the cache cannot be written", "check the disk of the client";
    NoPoint = "DP-NONE", 0x87D0_0669, Some(11703),
        "no distribution point is in reach", "check boundaries and the network";
    NotOffered = "DP-NOT-OFFERED", 0x87D0_0607, Some(11703),
        "no distribution point in reach has a file", "add the deployment package to a distribution point, or wait until it is there";
    Captive = "NET-CAPTIVE", 0x87D0_0653, Some(11706),
        "something else answers in place of the distribution point", "log in to the network, or mend the proxy; nothing of it was believed";
    Download = "NET-DOWNLOAD", 0x87D0_0653, Some(11706),
        "a download broke off", "check the network; it goes on where it broke off";
    Length = "PKG-LEN", 0x8024_6002, Some(11702),
        "a file is not as long as the policy says", "redistribute the package; the bytes were thrown away";
    Hash = "PKG-HASH", 0x8024_6002, Some(11702),
        "a file is not the one that the policy names", "redistribute the package, and check the disks; the bytes were thrown away";
    Identity = "PKG-IDENTITY", 0x8024_6002, Some(11702),
        "a file holds another package than the policy says", "redistribute the package";
    Format = "PKG-FORMAT", 0x8024_6002, Some(11708),
        "a file is no package", "take the update out, or redistribute it; dpkg did not see it";
    Tar = "PKG-TAR", 0x8024_6002, Some(11708),
        "a package holds what must not come near dpkg", "take the update out; dpkg did not see it";
    Limit = "PKG-LIMIT", 0x8024_6002, Some(11708),
        "a package needs more than its limits allow", "take the update out; dpkg did not see it";
    Unsatisfied = "DEP-UNSAT", 0x87D0_0607, Some(11703),
        "a package needs another that is not approved", "deploy the update that it belongs to, or synchronise";
    Foreign = "DEP-FOREIGN", 0x87D0_0654, Some(11708),
        "apt would install what is not approved", "approve it, or keep the update out";
    Unapproved = "PLAN-UNAPPROVED", 0x87D0_0654, Some(11708),
        "a batch names a file that the policy does not", "evaluate again";
    Incomplete = "PLAN-INCOMPLETE", 0x87D0_0654, Some(11708),
        "apt would leave something out", "evaluate again after the package changes on the machine";
    Removes = "PLAN-REMOVE", 0x87D0_0654, Some(11708),
        "the transaction would remove packages", "set allowRemove in the deployment, or keep the update out";
    Dangerous = "PLAN-DANGEROUS", 0x87D0_0654, Some(11708),
        "the transaction would remove what the machine cannot do without", "keep the update out";
    Downgrades = "PLAN-DOWNGRADE", 0x87D0_0654, Some(11708),
        "the transaction would make a package older", "keep the update out";
    NotStarted = "INSTALL-START", 0x87D0_0654, Some(11710),
        "a transaction could not be started", "see the message; apt and dpkg must be installed and sound";
    Script = "INSTALL-SCRIPT", 0x87D0_0654, Some(11708),
        "a maintainer script failed", "fix its cause; it is tried again";
    ScriptHangs = "INSTALL-SCRIPT", 0x87D0_0664, Some(11709),
        "a maintainer script or a hook hung and was ended", "fix its cause, or give the update a longer maximum run time";
    Apt = "INSTALL-APT", 0x87D0_0654, Some(11708),
        "apt failed", "see the end of its output, and /var/log/apt/term.log";
    StillRequired = "INSTALL-STILL-REQUIRED", 0x87D0_0668, Some(11752),
        "apt ended well and packages are still older", "see /var/log/apt/term.log";
    Service = "INSTALL-SERVICE", 0x87D0_070D, Some(11708),
        "installed, but a service that ran before does not run", "look at its log and start it, or restart the machine";
    RunTime = "RUN-TIME", 0x87D0_0664, Some(11709),
        "a transaction runs longer than it may; dpkg is not ended", "look at the machine; a longer maximum run time gives it more";
    NeverFits = "WINDOW-NEVER-FITS", 0x87D0_0667, Some(11717),
        "no maintenance window, now or later, is long enough", "make a window longer, or allow installation outside windows";
    Clock = "CLOCK-UNTRUSTED", 0x8007_2F8F, None,
        "the machine's clock is behind what the site has signed", "set the clock; nothing is installed before that";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// R-ENFU-17: every pair of symbol and code is one failure, of a published range, with words and a remedy.
    #[test]
    fn every_failure_has_a_published_code_words_and_a_remedy() {
        let pairs: BTreeSet<_> = Failure::ALL.iter().map(|f| (f.symbol(), f.code())).collect();
        assert_eq!(pairs.len(), Failure::ALL.len());
        for failure in Failure::ALL {
            assert!(matches!(failure.code() >> 16, 0x87D0 | 0x8024 | 0x8007), "{failure:?}");
            assert!(failure.status_message().is_none_or(|id| (11700..=11760).contains(&id)), "{failure:?}");
            assert!(failure.words().len() > 5 && failure.remedy().len() > 5, "{failure:?}");
            assert_eq!(failure.error("x").failure(), Some(*failure));
        }
        assert_eq!(StateError::told(1, "X".to_owned(), String::new()).failure(), None);
        let json = r#"{"code":2278557284,"symbol":"RUN-TIME","message":"m"}"#;
        let told: StateError = serde_json::from_str(json).unwrap();
        assert_eq!(
            (told.failure(), serde_json::to_string(&told).unwrap().as_str()),
            (Some(Failure::RunTime), json)
        );
    }
}
