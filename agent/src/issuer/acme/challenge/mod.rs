//! Proving names: what the CA looks for is put in its place, looked at by ourselves, and taken away when the CA is done, on
//! every way out.

mod dns;
mod dns01;
mod http01;
mod server;
mod tls_alpn01;

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;

use futures::future::join_all;
use instant_acme::ChallengeType;
use instant_acme::Identifier;
use serde::Deserialize;
use serde::Serialize;

pub use dns::DnsError;

use super::error::AcmeError;
use super::problem::Failure;
use super::settings::Challenge;
use crate::errors::chain;

/// What proves one name.
#[derive(Clone, Debug)]
pub(super) struct Proof {
    pub(super) identifier: Identifier,
    pub(super) token: String,
    /// RFC 8555 §8.1.
    pub(super) key_authorization: String,
    pub(super) digest: Vec<u8>,
    /// Of the TXT record.
    pub(super) dns_value: String,
}

/// A TXT record that was put into the DNS, or may have been.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TxtRecord {
    pub(super) name: String,
    pub(super) value: String,
}

/// Whether somebody may have looked for the proofs of these names before they were there, and remembers that they were not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// Somebody may: a proof failed lately.
    Looked,
    /// Nobody that we know of.
    Unseen,
}

/// Proves names in the configured way. What listens does so only while something is being proven.
pub(super) enum Challenger {
    Dns01(dns01::Dns01),
    Http01(http01::Http01),
    TlsAlpn01(tls_alpn01::TlsAlpn01),
}

/// What is in place. Dropping it takes it away; a hook is then run without anybody waiting for it, so that [`Self::remove`]
/// is better.
#[must_use]
pub(super) enum Presented {
    Dns01(dns01::Records),
    Served(server::Held),
}

impl Challenger {
    pub(super) fn new(settings: &Challenge) -> Self {
        match settings {
            Challenge::Dns01Hook { argv, within, check } => {
                let hook = dns01::Hook::new(argv.clone(), *within);
                Self::Dns01(dns01::Dns01::new(dns01::Way::Hook(hook), check.clone()))
            }
            Challenge::Dns01Update { update, check } => {
                let updater = dns::Updater::new(update.clone());
                Self::Dns01(dns01::Dns01::new(dns01::Way::Update(updater), check.clone()))
            }
            Challenge::Http01 { listen } => Self::Http01(http01::Http01::new(*listen)),
            Challenge::TlsAlpn01 { listen } => Self::TlsAlpn01(tls_alpn01::TlsAlpn01::new(*listen)),
        }
    }

    pub(super) fn kind(&self) -> ChallengeType {
        match self {
            Self::Dns01(_) => ChallengeType::Dns01,
            Self::Http01(_) => ChallengeType::Http01,
            Self::TlsAlpn01(_) => ChallengeType::TlsAlpn01,
        }
    }

    /// What the challenges call it.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Dns01(_) => "dns-01",
            Self::Http01(_) => "http-01",
            Self::TlsAlpn01(_) => "tls-alpn-01",
        }
    }

    /// Finds out what can be found out before an order is made.
    pub(super) async fn probe(&self) -> Result<(), AcmeError> {
        match self {
            Self::Dns01(_) => Ok(()),
            Self::Http01(http01) => http01.probe().await,
            Self::TlsAlpn01(tls_alpn01) => tls_alpn01.probe().await,
        }
    }

    /// Which names cannot be proven as things are, as far as one can tell before an order. Who does not answer says nothing.
    pub(super) async fn look_at(&self, identifiers: &[Identifier], resolver: Option<SocketAddr>) -> Vec<Failure> {
        let looks = identifiers.iter().map(|identifier| async move {
            let why = match (self, identifier, resolver) {
                (Self::Dns01(dns01), ..) => dns01.look_at(&record_of(identifier)).await,
                (_, Identifier::Dns(name), Some(resolver)) => dns::look_at(resolver, name).await,
                _ => None,
            }?;
            Some(Failure { name: named(identifier), kind: String::new(), detail: chain(&why) })
        });
        join_all(looks).await.into_iter().flatten().collect()
    }

    /// The records that these proofs need; to be written down before they are put in place.
    pub(super) fn records(&self, proofs: &[Proof]) -> Vec<TxtRecord> {
        match self {
            Self::Dns01(_) => proofs.iter().map(TxtRecord::of).collect(),
            Self::Http01(_) | Self::TlsAlpn01(_) => Vec::new(),
        }
    }

    /// Puts everything in place, and looks whether it is there.
    pub(super) async fn present(&self, proofs: &[Proof], before: Before) -> Result<Presented, AcmeError> {
        match self {
            Self::Dns01(dns01) => dns01.present(self.records(proofs), before).await.map(Presented::Dns01),
            Self::Http01(http01) => http01.present(proofs).await.map(Presented::Served),
            Self::TlsAlpn01(tls_alpn01) => tls_alpn01.present(proofs).await.map(Presented::Served),
        }
    }

    /// Takes away what an attempt that did not come to its end may have left.
    pub(super) async fn clean_up(&self, records: &[TxtRecord]) {
        if let Self::Dns01(dns01) = self {
            dns01.remove(records).await;
        }
    }
}

impl Presented {
    /// Takes everything away.
    pub(super) async fn remove(self) {
        match self {
            Self::Dns01(records) => records.remove().await,
            Self::Served(held) => drop(held),
        }
    }
}

impl TxtRecord {
    /// RFC 8555 §8.4. A wildcard is proven by the name below it.
    fn of(proof: &Proof) -> Self {
        Self { name: record_of(&proof.identifier), value: proof.dns_value.clone() }
    }
}

/// Where the record of a name lies.
fn record_of(identifier: &Identifier) -> String {
    let name = name_of(identifier);
    format!("_acme-challenge.{}", name.strip_prefix("*.").unwrap_or(&name))
}

/// A name as it is asked for.
fn named(identifier: &Identifier) -> String {
    match identifier {
        Identifier::Dns(name) => name.clone(),
        other => name_of(other),
    }
}

/// What the challenges call the kind.
pub(super) fn word(kind: &ChallengeType) -> &str {
    match kind {
        ChallengeType::Dns01 => "dns-01",
        ChallengeType::Http01 => "http-01",
        ChallengeType::TlsAlpn01 => "tls-alpn-01",
        ChallengeType::Unknown(other) => other,
        _ => "another way",
    }
}

/// The name or address of an identifier.
pub(super) fn name_of(identifier: &Identifier) -> String {
    identifier.authorized(false).to_string()
}

/// Where something that listens at `listen` is reached from this machine.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
