//! Where a client finds catalogues and content, in the order in which it should try (R-DP-04).

use serde::{Deserialize, Serialize};

/// Answer of `GET /v1/locations`, for the address of the caller. Not signed: what is fetched there is checked against
/// the signed policy, so a wrong answer can delay but not install.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Locations {
    /// Base URLs of software update points.
    pub software_update_points: Vec<String>,
    /// Distribution points: inside a fast boundary first, then slow, then unprotected fallback; ties by a hash of
    /// client and name, so that clients spread.
    pub distribution_points: Vec<DistributionPointLocation>,
}

/// A distribution point for this client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DistributionPointLocation {
    /// Object name.
    pub name: String,
    /// Base URL.
    pub url: String,
    /// How the client reaches it.
    pub locality: Locality,
}

/// How a client reaches a distribution point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Locality {
    /// Inside a fast boundary of it.
    Fast,
    /// Inside a slow or unreliable boundary of it.
    Slow,
    /// In none of its boundaries; it is not protected.
    Fallback,
}
