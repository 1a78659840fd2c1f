//! How a certificate names a client: `spiffe://<site>.patchtide/client/<uuid>`. Nothing else does.

use jiff::Timestamp;
pub use patchtide_model::{ClientId, SiteName, client::ClientState};

/// Whom a verified client certificate names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The site that gave the identity.
    pub site: SiteName,
    /// The client.
    pub client: ClientId,
    /// The certificate is not valid after this instant, also on connections that were opened before it.
    pub not_after: Timestamp,
}

/// The URI by which a certificate names a client.
pub fn client_uri(site: &SiteName, client: ClientId) -> String {
    format!("spiffe://{site}.patchtide/client/{client}")
}

/// Reads [`client_uri`] back; only its exact form is accepted.
pub fn parse_client_uri(uri: &str) -> Option<(SiteName, ClientId)> {
    let (domain, id) = uri.strip_prefix("spiffe://")?.split_once("/client/")?;
    let site: SiteName = domain.strip_suffix(".patchtide")?.parse().ok()?;
    let client: ClientId = id.parse().ok()?;
    (client_uri(&site, client) == uri).then_some((site, client))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_form_names_a_client() {
        let client: ClientId = "67e55044-10b1-426f-9247-bb680e5fe0c8".parse().unwrap();
        let site: SiteName = "lab".parse().unwrap();
        let uri = client_uri(&site, client);
        assert_eq!(uri, "spiffe://lab.patchtide/client/67e55044-10b1-426f-9247-bb680e5fe0c8");
        assert_eq!(parse_client_uri(&uri), Some((site, client)));
        for bad in [
            "",
            "spiffe://lab.patchtide/client/",
            "spiffe://lab.patchtide/client/67e5504410b1426f9247bb680e5fe0c8",
            "spiffe://lab.patchtide/client/67E55044-10b1-426f-9247-bb680e5fe0c8",
            "spiffe://lab/client/67e55044-10b1-426f-9247-bb680e5fe0c8",
            "spiffe://a/b.patchtide/client/67e55044-10b1-426f-9247-bb680e5fe0c8",
            "spiffe://LAB.patchtide/client/67e55044-10b1-426f-9247-bb680e5fe0c8",
            "https://lab.patchtide/client/67e55044-10b1-426f-9247-bb680e5fe0c8",
        ] {
            assert_eq!(parse_client_uri(bad), None, "{bad}");
        }
    }
}
