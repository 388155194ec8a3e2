//! What is pushed to a proxy over xDS, before it is Protobuf.

use portcullis_policy::Protocol;
use zeroize::Zeroizing;

/// One named resource at one version.
#[derive(Clone, PartialEq, Eq)]
pub struct Resource {
    /// Name that the proxy subscribes to.
    pub name: String,
    /// Opaque, changes whenever the body does; for a certificate its serial.
    pub version: String,
    /// The content.
    pub body: Body,
}

impl Resource {
    /// Whether it says the same as another one: then a proxy that has one needs no other, and refuses both or neither.
    pub fn says_the_same(&self, other: &Self) -> bool {
        if let (
            Body::WasmFilter { protocol, module, configuration, root_id: _ },
            Body::WasmFilter {
                protocol: its_protocol,
                module: its_module,
                configuration: its_configuration,
                root_id: _,
            },
        ) = (&self.body, &other.body)
        {
            let named = (&self.name, &self.version) == (&other.name, &other.version);
            return named && (protocol, module, configuration) == (its_protocol, its_module, its_configuration);
        }
        self == other
    }
}

/// Content of a resource.
#[derive(Clone, PartialEq, Eq)]
pub enum Body {
    /// A certificate chain, leaf first, with its key (SDS `tls_certificate`).
    TlsCertificate {
        /// PEM.
        chain_pem: String,
        /// PKCS#8 PEM.
        key_pem: Zeroizing<String>,
    },
    /// Whom to trust (SDS `validation_context`). Never empty.
    ValidationContext {
        /// PEM of the CAs.
        trusted_ca_pem: String,
        /// URI SANs of which one must match; empty for no condition.
        match_uri: Vec<String>,
        /// PEM of revocation lists, one of each CA; none for no list.
        crl_pem: Option<String>,
    },
    /// A secret of one value (SDS `generic_secret`): what an injected credential is made of.
    GenericSecret {
        /// The value, as it is used.
        value: Zeroizing<Vec<u8>>,
    },
    /// Keys of session tickets (SDS `session_ticket_keys`), 80 bytes each: the first encrypts, all decrypt. Never empty.
    SessionTicketKeys {
        /// The keys.
        keys: Vec<Zeroizing<Vec<u8>>>,
    },
    /// The Wasm filter with the policy as its configuration (ECDS).
    WasmFilter {
        /// What it stands in the way of: requests in a chain of HTTP filters, or connections in one of network filters.
        protocol: Protocol,
        /// Path of the module as the proxy sees it.
        module: String,
        /// The policy, JSON.
        configuration: String,
        /// Unlike that of every push before. A proxy that gets an earlier configuration back takes up what it made of it
        /// then and does not configure the filter, which would not learn that its policy is another one.
        root_id: String,
    },
}

impl std::fmt::Debug for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resource").field("name", &self.name).field("version", &self.version).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::GenericSecret { .. } => "GenericSecret",
            Self::SessionTicketKeys { .. } => "SessionTicketKeys",
            Self::TlsCertificate { .. } => "TlsCertificate",
            Self::ValidationContext { .. } => "ValidationContext",
            Self::WasmFilter { .. } => "WasmFilter",
        })
    }
}

/// What a proxy said to a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It took this version.
    Acknowledged {
        /// `node.id`.
        node: String,
        /// Name of the resource.
        name: String,
        /// Version it took.
        version: String,
    },
    /// It refused this version; it goes on with the one before, and the server does not send this one again.
    Refused {
        /// `node.id`.
        node: String,
        /// Name of the resource.
        name: String,
        /// Version it refused.
        version: String,
        /// Its words (`error_detail`).
        detail: String,
    },
}
