use patchtide_protocol::certificate::RequestError;

/// What the signer could not do.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// A key could not be made.
    #[error("a new {what} could not be generated: the system's random source failed")]
    Generate {
        /// Which key.
        what: &'static str,
        /// Cause.
        #[source]
        source: rcgen::Error,
    },
    /// The system gave no random bytes.
    #[error("the system's random source failed: no key or serial number can be made")]
    Random,
    /// A stored key or certificate cannot be read.
    #[error(
        "the signer's {what} cannot be read: restore the Secret from a backup (a new one would lock out every client)"
    )]
    Load {
        /// Which part of the Secret.
        what: &'static str,
        /// Cause.
        #[source]
        source: rcgen::Error,
    },
    /// The stored policy key is not an Ed25519 key.
    #[error("the signer's policy key is not an Ed25519 key in PKCS#8: restore the Secret from a backup")]
    PolicyKey,
    /// The CA's certificate and key do not belong together.
    #[error("the signer's CA certificate does not belong to its key: restore both from the same backup")]
    Mismatch,
    /// A signing request is refused.
    #[error("the signing request is refused")]
    Request(#[source] RequestError),
    /// A name cannot stand in a certificate.
    #[error("{name:?} cannot stand in a server certificate: give a DNS name or an IP address")]
    Name {
        /// The name.
        name: String,
        /// Cause.
        #[source]
        source: rcgen::Error,
    },
    /// An instant or lifetime outside of what certificates can say.
    #[error("the certificate's validity is outside of what a certificate can say: shorten its lifetime")]
    Validity,
    /// Signing failed.
    #[error("the {what} could not be signed")]
    Sign {
        /// What.
        what: &'static str,
        /// Cause.
        #[source]
        source: rcgen::Error,
    },
    /// The policy cannot be written as JSON.
    #[error("the policy of client {client} cannot be written as JSON")]
    Encode {
        /// Whose.
        client: patchtide_model::ClientId,
        /// Cause.
        #[source]
        source: serde_json::Error,
    },
}
