//! The header fields that carry forwarded certificates, by name.

use super::Forwarder;
use super::from_client_cert;
use super::from_xfcc;
use super::is_own;
use crate::certificate::Leaf;
use crate::decide::Head;
use crate::form::folds_to;
use crate::reason::Reason;

const XFCC: &[u8] = b"x-forwarded-client-cert";
const CLIENT_CERT: &[u8] = b"client-cert";
const CLIENT_CERT_CHAIN: &[u8] = b"client-cert-chain";

/// Which of the fields a name is, for the gate and for servers behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Xfcc,
    ClientCert,
    ClientCertChain,
    /// None of them, but some servers fold `_`, `.` and `-` into one.
    Alias,
}

impl Field {
    /// `None` for all other fields.
    fn of(name: &[u8]) -> Option<Self> {
        let known = [(XFCC, Self::Xfcc), (CLIENT_CERT, Self::ClientCert), (CLIENT_CERT_CHAIN, Self::ClientCertChain)];
        let (exact, field) = known.into_iter().find(|(known, _)| name.len() == known.len() && folds_to(name, known))?;
        Some(if name.eq_ignore_ascii_case(exact) { field } else { Self::Alias })
    }
}

/// Whether a server behind the gate could take a header of this name for one with a forwarded certificate.
pub(crate) fn is_forwarded_header(name: &[u8]) -> bool {
    Field::of(name).is_some()
}

/// The fields of one request.
#[derive(Debug, Default)]
pub(crate) struct Fields<'h> {
    pub(crate) xfcc: Option<&'h [u8]>,
    pub(crate) client_cert: Option<&'h [u8]>,
    pub(crate) chains: Vec<&'h [u8]>,
    pub(crate) alias: bool,
    /// A field that may occur once occurs more often.
    pub(crate) duplicated: bool,
}

impl<'h> Fields<'h> {
    pub(crate) fn of(head: &Head<'h>) -> Self {
        let mut fields = Self::default();
        head.fields.iter().for_each(|&(name, value)| fields.add(name, value));
        fields
    }

    pub(crate) fn add(&mut self, name: &[u8], value: &'h [u8]) {
        match Field::of(name) {
            None => {}
            Some(Field::Xfcc) => self.duplicated |= self.xfcc.replace(value).is_some(),
            Some(Field::ClientCert) => self.duplicated |= self.client_cert.replace(value).is_some(),
            Some(Field::ClientCertChain) => self.chains.push(value),
            Some(Field::Alias) => self.alias = true,
        }
    }

    /// The certificate of the client of `peer`, which is a forwarder or not. `None` if there is no field but what the proxy
    /// itself wrote.
    ///
    /// # Errors
    ///
    /// The [`Reason`] not to believe it.
    pub(crate) fn client(
        &self,
        own_xfcc: bool,
        peer: Option<&Leaf>,
        forwarder: Option<&Forwarder>,
    ) -> Result<Option<Leaf>, Reason> {
        if self.is_empty() {
            return Ok(None);
        }
        let Some((peer, forwarder)) = peer.zip(forwarder) else {
            return match (peer, self) {
                (Some(peer), &Self { xfcc: Some(xfcc), client_cert: None, alias: false, .. })
                    if own_xfcc && self.chains.is_empty() && is_own(xfcc, peer)? =>
                {
                    Ok(None)
                }
                _ => Err(Reason::ForwarderUntrusted),
            };
        };
        if self.duplicated {
            return Err(Reason::HeaderDuplicated);
        }
        if self.is_ambiguous() {
            return Err(Reason::ForwardedAmbiguous);
        }
        if self.alias {
            return Err(Reason::ForwardedAlias);
        }
        match (self.xfcc, self.client_cert) {
            (Some(xfcc), _) => from_xfcc(xfcc, own_xfcc, &forwarder.hops, peer),
            (None, Some(header)) => from_client_cert(header, self.chains.iter().copied(), &forwarder.hops).map(Some),
            // RFC 9440 §2.3: no chain without a certificate.
            (None, None) => Err(Reason::ForwardedUnparsable),
        }
    }

    /// Whether there is none at all.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self { xfcc: None, client_cert: None, alias: false, .. }) && self.chains.is_empty()
    }

    /// Whether there are two answers to who the client is.
    pub(crate) fn is_ambiguous(&self) -> bool {
        self.xfcc.is_some() && (self.client_cert.is_some() || !self.chains.is_empty())
    }
}
