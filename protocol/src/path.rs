//! Paths of the roles' HTTPS interfaces.

/// MP, no certificate needed: [`crate::enrolment::SiteGreeting`].
pub const SITE: &str = "/v1/site";
/// MP, POST, no certificate needed: [`crate::enrolment::EnrolmentRequest`]; GET `/{id}`: [`crate::enrolment::EnrolmentAnswer`].
pub const ENROLMENTS: &str = "/v1/enrolments";
/// MP, POST: [`crate::enrolment::RenewalRequest`]; the answer is fetched as an enrolment's.
pub const RENEWALS: &str = "/v1/renewals";
/// MP, GET `?wait=SECONDS` with `If-None-Match: "<epoch>.<number>"`: an [`crate::envelope::Envelope`], or 304.
pub const POLICY: &str = "/v1/policy";
/// MP, GET `/{sha256}`: a part that the caller's policy names, compressed.
pub const POLICY_PARTS: &str = "/v1/policy/parts";
/// MP, GET: [`crate::location::Locations`].
pub const LOCATIONS: &str = "/v1/locations";
/// MP, POST: [`crate::state::StateReport`]; answer [`crate::state::Acknowledgement`].
pub const STATE_MESSAGES: &str = "/v1/state-messages";
/// SUP, GET `/{sha256}`: a compressed line catalogue.
pub const CATALOGUES: &str = "/v1/catalogues";
/// DP, GET and HEAD `/{sha256}`: a content file.
pub const BLOBS: &str = "/v1/blob/sha256";
