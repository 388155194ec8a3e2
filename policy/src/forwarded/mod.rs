//! The certificate of a client that speaks through a proxy: `x-forwarded-client-cert` (Envoy) and `Client-Cert` (RFC 9440).
//!
//! Only what a forwarder of the policy sent is read. An identity comes from the certificate's DER alone; everything else that
//! the header says of it must be true of the DER. What can be read in two ways is malformed. Sizes are bounded before
//! anything is parsed, and nothing recurses.

mod client_cert;
mod element;
mod hops;
mod json;
#[cfg(test)]
mod tests;
mod xfcc;

use crate::certificate::Leaf;
use crate::reason::Reason;

pub(crate) use hops::Hops;

use element::Element;

/// The longest header that is read, in bytes. Proxies take little more for all fields of a request together.
const MAX_TEXT: usize = 64 * 1024;

/// The most elements that are read.
const MAX_ELEMENTS: usize = 16;

/// A header is not in its format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Malformed;

impl From<Malformed> for Reason {
    fn from(Malformed: Malformed) -> Self {
        Self::ForwardedUnparsable
    }
}

/// The client's certificate, by the `x-forwarded-client-cert` that `forwarder` sent, in text or JSON.
///
/// # Errors
///
/// The [`Reason`] not to believe it.
pub(crate) fn from_xfcc(header: &[u8], hops: &Hops, forwarder: &Leaf) -> Result<Leaf, Reason> {
    hops::client(&elements(header)?, hops, forwarder)
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
