//! What the proxy knows of the downstream connection.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;

use crate::certificates::Leaf;

/// A downstream connection: the facts that Envoy offers as `connection.*`, `source.*` and `destination.*`
/// properties.
#[derive(Clone, Debug)]
pub struct Connection {
    pub(crate) id: u64,
    pub(crate) certificate: Option<Vec<u8>>,
    pub(crate) tls_version: Option<String>,
    pub(crate) sni: String,
    pub(crate) source: (IpAddr, u16),
    /// Where the peer connected to.
    pub(crate) listener: SocketAddr,
    pub(crate) faults: Vec<Fault>,
}

/// A way in which a proxy's answer about a property can be unusable.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The property, written `connection.mtls`, does not exist: an older Envoy, another host.
    Missing(&'static str),
    /// The property has this value instead of the true one.
    Value(&'static str, Vec<u8>),
    /// Reading the property fails with this status.
    Status(&'static str, i32),
}

impl Fault {
    pub(crate) fn property(&self) -> &'static str {
        match self {
            Self::Missing(property) | Self::Value(property, _) | Self::Status(property, _) => property,
        }
    }
}

impl Connection {
    /// A TLS 1.3 connection whose peer presented this certificate.
    pub fn mtls(leaf: &Leaf) -> Self {
        Self::presenting(leaf.der())
    }

    /// A TLS 1.3 connection whose peer presented these bytes as its certificate.
    pub fn presenting(certificate: impl Into<Vec<u8>>) -> Self {
        Self { certificate: Some(certificate.into()), ..Self::tls() }
    }

    /// A TLS 1.3 connection whose peer presented no certificate.
    pub fn tls() -> Self {
        Self { tls_version: Some("TLSv1.3".to_owned()), sni: "orders.acme.example".to_owned(), ..Self::plaintext() }
    }

    /// A connection without TLS.
    pub fn plaintext() -> Self {
        Self {
            id: 1,
            certificate: None,
            tls_version: None,
            sni: String::new(),
            source: (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7)), 40_000),
            listener: SocketAddr::from(([10, 0, 0, 1], 10_443)),
            faults: Vec::new(),
        }
    }

    /// The same, with this `connection.id`.
    #[must_use]
    pub fn id(mut self, id: u64) -> Self {
        self.id = id;
        self
    }

    /// The same, with this Server Name Indication.
    #[must_use]
    pub fn sni(mut self, name: &str) -> Self {
        name.clone_into(&mut self.sni);
        self
    }

    /// The same, from this address.
    #[must_use]
    pub fn source(mut self, address: IpAddr, port: u16) -> Self {
        self.source = (address, port);
        self
    }

    /// The same, to this address.
    #[must_use]
    pub fn to(mut self, listener: SocketAddr) -> Self {
        self.listener = listener;
        self
    }

    /// The same, on a proxy that answers wrongly.
    #[must_use]
    pub fn fault(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }
}
