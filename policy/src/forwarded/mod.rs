//! The certificate of a client that speaks through a proxy: `x-forwarded-client-cert` (Envoy) and `Client-Cert` (RFC 9440).
//!
//! Only what a forwarder of the policy sent is read. An identity comes from the certificate's DER alone; everything else that
//! the header says of it must be true of the DER. What can be read in two ways is malformed. Sizes are bounded before
//! anything is parsed, and nothing recurses.

mod client_cert;
mod element;
mod fields;
mod hops;
mod json;
#[cfg(test)]
mod tests;
mod xfcc;

use std::sync::Arc;

use crate::certificate::Leaf;
use crate::pattern::Patterns;
use crate::policy::Subject;
use crate::reason::Reason;
use crate::roles::Binding;
use crate::roles::Condition;
use crate::strings::Strings;

pub(crate) use fields::Fields;
pub(crate) use fields::is_forwarded_header;
pub(crate) use hops::Hops;

use element::Element;

/// The longest header that is read, in bytes. Proxies take little more for all fields of a request together.
const MAX_TEXT: usize = 64 * 1024;

/// The most elements that are read.
pub(crate) const MAX_ELEMENTS: usize = 16;

/// The certificate that a request brings with it in its header, beside that of its peer. [`crate::Memory`] reads it.
#[derive(Clone, Debug, Default)]
pub enum Forwarded {
    /// None: there is no such header, or only what the proxy itself wrote about its own peer.
    #[default]
    Nothing,
    /// The client's certificate, which the peer, a forwarder, saw.
    Certificate(Arc<Subject>),
    /// One that is not believed, and why.
    Refused(Reason),
}

/// A peer whose word about its own clients is taken.
#[derive(Debug)]
pub(crate) struct Forwarder {
    /// All must hold.
    pub(crate) conditions: Box<[Condition]>,
    pub(crate) hops: Hops,
    /// What it forwards goes on to the upstream.
    pub(crate) keep: bool,
}

impl Forwarder {
    /// Whether this is its certificate.
    pub(crate) fn is(&self, leaf: &Leaf, patterns: &Patterns, strings: &Strings) -> bool {
        let mut binding = Binding::default();
        self.conditions.iter().all(|condition| condition.holds(Some(leaf), None, patterns, strings, &mut binding))
    }
}

/// A header is not in its format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Malformed;

impl From<Malformed> for Reason {
    fn from(Malformed: Malformed) -> Self {
        Self::ForwardedUnparsable
    }
}

/// The client's certificate, by the `x-forwarded-client-cert` that `forwarder` sent, in text or JSON. With `own_xfcc`, the
/// last element is what the proxy itself wrote about the forwarder; `None` if there is no other.
///
/// # Errors
///
/// The [`Reason`] not to believe it.
pub(crate) fn from_xfcc(header: &[u8], own_xfcc: bool, hops: &Hops, forwarder: &Leaf) -> Result<Option<Leaf>, Reason> {
    let elements = elements(header)?;
    let forwarded = if own_xfcc { before_own(&elements, forwarder)? } else { &elements };
    if own_xfcc && forwarded.is_empty() {
        return Ok(None);
    }
    hops::client(forwarded, hops, forwarder).map(Some)
}

/// The certificate of the peer itself, from what the proxy wrote about it into the last element.
///
/// # Errors
///
/// The [`Reason`] not to believe it.
pub(crate) fn own_peer(header: &[u8]) -> Result<Leaf, Reason> {
    let elements = elements(header)?;
    elements.last().ok_or(Reason::ForwardedCertificateMissing)?.prove()
}

/// Whether the only element is the one that the proxy wrote about `peer`.
///
/// # Errors
///
/// The [`Reason`] not to believe it.
pub(crate) fn is_own(header: &[u8], peer: &Leaf) -> Result<bool, Reason> {
    Ok(before_own(&elements(header)?, peer)?.is_empty())
}

/// The elements before the last, which is the proxy's own and about `peer`.
fn before_own<'e, 'h>(elements: &'e [Element<'h>], peer: &Leaf) -> Result<&'e [Element<'h>], Reason> {
    let (own, others) = elements.split_last().ok_or(Reason::ForwardedUnparsable)?;
    if own.prove()?.sha256() != peer.sha256() {
        return Err(Reason::ForwardedHashMismatch);
    }
    // The proxy writes one element for a request. A second one with its name is a piece of the first.
    if others.iter().any(|other| other.by.iter().any(|name| own.by.contains(name))) {
        return Err(Reason::ForwardedByMismatch);
    }
    Ok(others)
}

/// The client's certificate, by the `Client-Cert` and the `Client-Cert-Chain` fields that `forwarder` sent.
///
/// # Errors
///
/// The [`Reason`] not to believe it: also that the policy speaks of several proxies or of a name, which these fields do not
/// tell.
pub(crate) fn from_client_cert<'h>(
    header: &[u8],
    chains: impl Iterator<Item = &'h [u8]>,
    hops: &Hops,
) -> Result<Leaf, Reason> {
    for chain in chains {
        client_cert::check_chain(text(chain)?)?;
    }
    let der = client_cert::parse(text(header)?)?;
    if hops.count != 1 {
        return Err(Reason::ForwardedHopMissing);
    }
    if hops.by.is_some() {
        return Err(Reason::ForwardedByMismatch);
    }
    Leaf::from_der(&der).map_err(|_| Reason::CertificateUnreadable)
}

fn elements(header: &[u8]) -> Result<Vec<Element<'_>>, Malformed> {
    let text = text(header)?;
    // Envoy appends to a list in JSON, and to anything else as text. No key begins with `[`.
    if text.starts_with('[') { json::parse(text) } else { xfcc::parse(text) }
}

fn text(header: &[u8]) -> Result<&str, Malformed> {
    if header.len() > MAX_TEXT {
        return Err(Malformed);
    }
    str::from_utf8(header).map_err(|_| Malformed)
}
