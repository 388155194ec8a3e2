//! What is asked of an issuer, as it is written down.

use serde::Deserialize;
use serde::Serialize;

use super::BUILT_IN;
use super::acme::AcmeOrder;
use super::directory::Awaited;
use crate::ca;
use crate::keys::PrivateKey;
use crate::names::Names;

/// What a certificate is asked for. Written down before anybody is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The new key; no two requests share one.
    pub key: PrivateKey,
    /// Names and uses.
    pub names: Names,
    /// Seconds that it is to live; an issuer may have its own mind.
    pub lifetime: i64,
}

/// How far the next step of an order led.
#[derive(Debug)]
pub enum Progress<T> {
    /// Write this down, then take the next step.
    Journal(T),
    /// The chain in PEM, leaf first, without the root.
    Issued(String),
}

/// An order, with everything that a new process needs to go on with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// At an ACME server.
    Acme {
        /// Its name in the configuration.
        issuer: String,
        /// For what.
        request: Request,
        /// What the server said so far.
        order: AcmeOrder,
    },
    /// At the CA in this process.
    BuiltIn(ca::Order),
    /// What somebody else puts into a directory.
    Directory {
        /// Its name in the configuration.
        issuer: String,
        /// What is awaited, and what was found.
        awaited: Awaited,
    },
    /// At OpenBao or Vault, which answer at once or not at all.
    OpenBao {
        /// Its name in the configuration.
        issuer: String,
        /// For what.
        request: Request,
    },
}

impl Order {
    /// The name of the issuer.
    pub fn issuer(&self) -> &str {
        match self {
            Self::Acme { issuer, .. } | Self::Directory { issuer, .. } | Self::OpenBao { issuer, .. } => issuer,
            Self::BuiltIn(_) => BUILT_IN,
        }
    }

    /// The key; none as long as somebody else has it.
    pub fn key(&self) -> Option<&PrivateKey> {
        match self {
            Self::Acme { request, .. } | Self::OpenBao { request, .. } => Some(&request.key),
            Self::BuiltIn(order) => Some(&order.key),
            Self::Directory { awaited, .. } => awaited.found.as_ref().map(|found| &found.key),
        }
    }

    /// The chain in PEM that somebody else made, once it was found.
    pub fn found(&self) -> Option<&str> {
        match self {
            Self::Directory { awaited, .. } => awaited.found.as_ref().map(|found| found.chain_pem.as_str()),
            Self::Acme { .. } | Self::BuiltIn(_) | Self::OpenBao { .. } => None,
        }
    }

    /// Names and uses.
    pub fn names(&self) -> &Names {
        match self {
            Self::Acme { request, .. } | Self::OpenBao { request, .. } => &request.names,
            Self::BuiltIn(order) => &order.names,
            Self::Directory { awaited, .. } => &awaited.names,
        }
    }
}
