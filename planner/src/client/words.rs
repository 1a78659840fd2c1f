//! Reasons, and whether they are put into words.

use std::fmt;

/// Why an update is due now.
#[derive(Clone, Copy)]
pub(super) enum Due<'a> {
    /// The start time of this deployment has come.
    Started(&'a str),
    /// A person asked for it.
    Asked,
    /// It comes along with what is due.
    Pulled(Puller<'a>),
}

/// Who pulls in what is not due yet. The first one is named.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Puller<'a> {
    /// The client settings.
    Settings(&'a str),
    /// A deployment.
    Deployment(&'a str),
}

impl Puller<'_> {
    pub(super) fn object(self) -> String {
        match self {
            Self::Settings(name) => format!("ClientSettings/{name}"),
            Self::Deployment(name) => format!("UpdateDeployment/{name}"),
        }
    }

    /// Where it is told to.
    pub(super) const fn field(self) -> &'static str {
        match self {
            Self::Settings(_) => "spec.installDueWithin",
            Self::Deployment(_) => "spec.settings.installation.installAllApplicable",
        }
    }
}

impl fmt::Display for Due<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ALONG: &str = "installs what is due soon along with what is due";
        match self {
            Self::Started(name) => write!(f, "the deadline of UpdateDeployment/{name} has come"),
            Self::Asked => f.write_str("a person asked for it"),
            Self::Pulled(puller) => write!(f, "{} {ALONG}", puller.object()),
        }
    }
}

/// Whether reasons are put into words. Who only asks what happens next does without: nothing else differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Words(pub bool);

impl Words {
    /// Nothing that anybody reads.
    pub(crate) const NONE: Self = Self(false);
    /// All of them.
    pub(crate) const ALL: Self = Self(true);

    /// A text, when somebody reads it.
    pub(super) fn say(self, text: fmt::Arguments<'_>) -> String {
        if self.0 { fmt::format(text) } else { String::new() }
    }
}

/// A reason in words, when somebody reads them.
macro_rules! say {
    ($context:expr, $($text:tt)*) => { $context.words.say(format_args!($($text)*)) };
}
pub(super) use say;
