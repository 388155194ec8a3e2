//! Which of several proxies' elements is about the client, and whether they fit together.
//!
//! Each proxy appends its element at the right, so the one that the forwarder wrote is the last, and what stands left of the
//! configured hop came from somebody unknown. What it claims is never believed; it is looked at because a piece of a
//! believed element could be there: see [`Element::prove`].

use std::borrow::Cow;

use super::Element;
use crate::certificate::Leaf;
use crate::reason::Reason;

/// How a forwarder forwards, by the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hops {
    /// Proxies that append an element, the forwarder included: at least 1.
    pub(crate) count: usize,
    /// What the proxy next to the client is called in `By`; where only the forwarder forwards, the default is the URI names
    /// of its own certificate.
    pub(crate) by: Option<Box<str>>,
}

/// The certificate of the client, from the elements that `forwarder` sent.
///
/// Where several proxies forward, each must be the one whose certificate the next one saw: otherwise anybody whom the
/// forwarder takes as a client could write the elements before its own.
///
/// # Errors
///
/// The [`Reason`] not to believe it.
pub(super) fn client(elements: &[Element<'_>], hops: &Hops, forwarder: &Leaf) -> Result<Leaf, Reason> {
    let first = elements.len().checked_sub(hops.count).ok_or(Reason::ForwardedHopMissing)?;
    let (unknown, believed) = elements.split_at_checked(first).ok_or(Reason::ForwardedHopMissing)?;
    let (chosen, later) = believed.split_first().ok_or(Reason::ForwardedHopMissing)?;
    let client = chosen.prove()?;

    let mut by = &chosen.by;
    if hops.by.as_deref().is_some_and(|name| !names(by, name)) {
        return Err(Reason::ForwardedByMismatch);
    }
    for element in later {
        let proxy = element.prove()?;
        if by.is_empty() || !by.iter().all(|name| proxy.uris().any(|uri| uri == name)) {
            return Err(Reason::ForwardedByMismatch);
        }
        by = &element.by;
    }
    // The forwarder's own element; its name may be set by the policy if nobody stands before it.
    let named = hops.by.is_some() && later.is_empty();
    if !named && !by.iter().all(|name| forwarder.uris().any(|uri| uri == name)) {
        return Err(Reason::ForwardedByMismatch);
    }
    for element in unknown {
        match element.prove() {
            Ok(_) | Err(Reason::ForwardedCertificateMissing) => {}
            Err(reason) => return Err(reason),
        }
        // The chosen proxy writes one element for a request. A second one with its name is a piece of the first.
        if element.by.iter().any(|name| names(&chosen.by, name)) {
            return Err(Reason::ForwardedByMismatch);
        }
    }
    Ok(client)
}

fn names(by: &[Cow<'_, str>], name: &str) -> bool {
    by.iter().any(|known| known == name)
}
