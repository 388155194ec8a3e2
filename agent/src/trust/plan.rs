//! Which lists go into a bundle, or why none do. Pure, but for the signature under the built-in CA's own.
//!
//! What a proxy makes of them (Envoy 1.40, `crl` with `only_verify_leaf_cert_crl`): once there is a list for one authority, a
//! peer whose issuer has none is refused, and so is everybody whose issuer's list has ended.

use std::sync::Arc;

use portcullis_policy::UnixTime;
use portcullis_policy::revocation::WhenStale;
use sha2::Digest as _;
use sha2::Sha256;
use x509_parser::prelude::FromDer as _;
use x509_parser::prelude::X509Certificate;

use super::AuthorityList;
use super::Handshake;
use super::State;
use crate::ca::Authority;
use crate::ca::CaError;
use crate::config;
use crate::leaf;
use crate::revocation::ListAuthority;
use crate::revocation::Serial;

/// The built-in CA's own list begins at a multiple of this, in seconds: so that it is the same after a restart, and a clock
/// that is set back a little does not make it one of the future.
const PERIOD: i64 = 7 * 86_400;
/// How long it is good, in seconds: of the end, three periods are left when the next one is pushed. Nothing is gained by less:
/// whoever pushes it is who signs it, and a proxy without its agent goes on with what it has.
const GOOD_FOR: i64 = 4 * PERIOD + MARGIN;

/// How long before now it begins at least: the clock may be set back a little.
const MARGIN: i64 = 86_400;
/// A list is left out this long before it ends, in seconds, where it is not to refuse everybody.
const BEFORE_END: i64 = 120;
/// Most entries of the built-in CA's own list: every proxy holds them, and is sent them with every change.
const MAX_OWN: usize = 100_000;

/// A serial number that the built-in CA revoked, and since when.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnEntry {
    /// The number.
    pub serial: Serial,
    /// When it was revoked.
    pub since: UnixTime,
}

/// A list of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Of the built-in CA; good from the first to the last of these.
    Own(UnixTime, UnixTime),
    /// As it came.
    Given { der: Arc<[u8]>, entries: usize, next_update: UnixTime },
}

/// Why a bundle has no list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LeftOut {
    #[error("the configuration says so (`revocation.handshake`)")]
    Configured,
    #[error("the list of `{0}` has ended, and `when_stale: allow` lets its peers in")]
    Ended(String),
    #[error(
        "`{0}` may have authorities below it, whose lists nobody gives: it has no path length of 0 (RFC 5280 §4.2.1.9)"
    )]
    HasAuthoritiesBelow(String),
    #[error("there is no whole list of `{0}`, and with one of another authority nobody under it would be let in")]
    NoList(String),
    #[error("more than {MAX_OWN} serial numbers of the built-in CA are revoked")]
    TooMany,
    #[error("the list of `{0}` is too long to be pushed")]
    TooLong(String),
}

/// The lists of a bundle: one of each authority, or none while nobody of them is on any.
pub(super) fn lists(bundle: &config::Bundle, state: &State, now: UnixTime) -> Result<Vec<Part>, LeftOut> {
    let others: Vec<Other> = bundle.also.iter().filter_map(|der| Other::read(der)).collect();
    let of = |other: &Other| {
        let authority = other.authority.clone();
        state.lists.iter().filter(move |list| Some(&list.authority) == authority.as_ref())
    };
    let anybody = !state.own.is_empty() || others.iter().flat_map(of).any(|list| list.entries > 0);
    if !anybody {
        return Ok(Vec::new());
    }
    if state.handshake == Handshake::LeftToFilter {
        return Err(LeftOut::Configured);
    }
    if state.own.len() > MAX_OWN {
        return Err(LeftOut::TooMany);
    }
    let begin = UnixTime(now.0.saturating_sub(MARGIN).div_euclid(PERIOD).saturating_mul(PERIOD));
    let mut parts = vec![Part::Own(begin, UnixTime(begin.0.saturating_add(GOOD_FOR)))];
    for other in &others {
        let name = || other.name.clone();
        if !other.is_last {
            return Err(LeftOut::HasAuthoritiesBelow(name()));
        }
        let whole = of(other).filter(|list| list.is_whole);
        let list = whole.max_by_key(|list| list.next_update).ok_or_else(|| LeftOut::NoList(name()))?;
        let der = list.der.clone().ok_or_else(|| LeftOut::TooLong(name()))?;
        let AuthorityList { entries, next_update, .. } = *list;
        if state.when_stale == WhenStale::Allow && next_update.0 < now.0.saturating_add(BEFORE_END) {
            return Err(LeftOut::Ended(name()));
        }
        parts.push(Part::Given { der, entries, next_update });
    }
    Ok(parts)
}

/// An authority beside the built-in one.
struct Other {
    name: String,
    /// None if it may not sign lists.
    authority: Option<ListAuthority>,
    /// Whether there is no authority below it (RFC 5280 §4.2.1.9).
    is_last: bool,
}

impl Other {
    fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let constraints = certificate.basic_constraints().ok().flatten();
        let is_last = constraints.is_some_and(|basic| basic.value.path_len_constraint == Some(0));
        let authority = ListAuthority::from_der(der).ok();
        Some(Self { name: certificate.subject().to_string(), authority, is_last })
    }
}

impl Part {
    pub(super) fn entries(&self, own: &[OwnEntry]) -> usize {
        match self {
            Self::Own(..) => own.len(),
            Self::Given { entries, .. } => *entries,
        }
    }

    pub(super) fn next_update(&self) -> UnixTime {
        match self {
            Self::Own(_, end) => *end,
            Self::Given { next_update, .. } => *next_update,
        }
    }

    /// Of what it says, and not of its signature.
    pub(super) fn digest(&self, own: &[OwnEntry]) -> [u8; 32] {
        let mut hash = Sha256::new();
        match self {
            Self::Own(begin, _) => {
                hash.update(begin.0.to_le_bytes());
                for entry in own {
                    hash.update([u8::try_from(entry.serial.as_bytes().len()).unwrap_or(u8::MAX)]);
                    hash.update(entry.serial.as_bytes());
                }
            }
            Self::Given { der, .. } => hash.update(der),
        }
        hash.finalize().into()
    }

    /// Under each root of the built-in CA and each authority below it, one list: they have the same name, and a proxy tells the
    /// lists apart by the key that signed them.
    pub(super) fn pem(&self, roots: &[Arc<Authority>], own: &[OwnEntry], number: u64) -> Result<String, CaError> {
        match self {
            Self::Own(begin, end) => {
                let entries = || own.iter().map(|entry| (entry.serial.as_bytes(), entry.since));
                roots.iter().map(|root| root.revocation_list(entries(), number, *begin, *end)).collect()
            }
            Self::Given { der, .. } => Ok(leaf::pem("X509 CRL", der)),
        }
    }
}
