//! What one proxy says of the certificate of its own client, and whether the certificate says so too.

use std::borrow::Cow;

use crate::certificate::DistinguishedName;
use crate::certificate::Leaf;
use crate::certificate::first_pem_block;
use crate::reason::Reason;

/// An element of `x-forwarded-client-cert`, its values decoded. Lists are as long as the proxy wrote them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Element<'a> {
    /// URIs of the proxy that wrote the element.
    pub(super) by: Vec<Cow<'a, str>>,
    /// SHA-256 of the client's certificate.
    pub(super) hash: Option<[u8; 32]>,
    /// The client's certificate, PEM.
    pub(super) cert: Option<Vec<u8>>,
    /// The chain that the client presented, its own certificate first, PEM.
    pub(super) chain: Option<Vec<u8>>,
    /// The subject (RFC 2253).
    pub(super) subject: Option<Cow<'a, str>>,
    /// The issuer (RFC 2253).
    pub(super) issuer: Option<Cow<'a, str>>,
    /// All URI names; an empty list says that there are none.
    pub(super) uri: Option<Vec<Cow<'a, str>>>,
    /// All DNS names.
    pub(super) dns: Option<Vec<Cow<'a, str>>>,
}

impl Element<'_> {
    /// The client's certificate, if everything else in the element is true of it.
    ///
    /// Names are never taken from the element itself: proxies write them as they stand in the certificate, and a name that
    /// holds `,` or `;` then reads as the beginning of another element or of another key.
    ///
    /// # Errors
    ///
    /// The [`Reason`] not to believe it. [`Reason::ForwardedCertificateMissing`], if there is no `Cert`.
    pub(super) fn prove(&self) -> Result<Leaf, Reason> {
        let pem = self.cert.as_deref().ok_or(Reason::ForwardedCertificateMissing)?;
        let leaf = Leaf::from_pem(pem).map_err(|_| Reason::CertificateUnreadable)?;
        if self.hash.is_some_and(|hash| hash != *leaf.sha256()) {
            return Err(Reason::ForwardedHashMismatch);
        }
        if let Some(chain) = &self.chain {
            let first = first_pem_block(chain).and_then(|block| Leaf::from_pem(block).ok());
            if first.is_none_or(|first| first.sha256() != leaf.sha256()) {
                return Err(Reason::ForwardedHashMismatch);
            }
        }
        let truthful = agrees(self.uri.as_deref(), leaf.uris())
            && agrees(self.dns.as_deref(), leaf.dns_names())
            && is(self.subject.as_deref(), leaf.subject())
            && is(self.issuer.as_deref(), leaf.issuer());
        if truthful { Ok(leaf) } else { Err(Reason::ForwardedNamesMismatch) }
    }
}

/// Whether the names are those of the certificate, each as often, in any order.
fn agrees<'n>(claimed: Option<&[Cow<'_, str>]>, names: impl Iterator<Item = &'n str>) -> bool {
    let Some(claimed) = claimed else { return true };
    let mut claimed: Vec<&str> = claimed.iter().map(AsRef::as_ref).collect();
    let mut names: Vec<&str> = names.collect();
    claimed.sort_unstable();
    names.sort_unstable();
    claimed == names
}

fn is(claimed: Option<&str>, name: &DistinguishedName) -> bool {
    claimed.is_none_or(|text| name.is_written(text))
}
