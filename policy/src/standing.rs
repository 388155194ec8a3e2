//! Whether a certificate is believed: its dates, its issuer, the emergency brakes, the lists of revoked ones.
//!
//! Absent: chains; the proxy checked them. What is asked of the certificate alone is worked out once and
//! kept with it; what depends on the time is asked on every request.

use std::sync::Arc;

use crate::certificate::Leaf;
use crate::pattern::Patterns;
use crate::reason::Reason;
use crate::revocation::Revocations;
use crate::roles::Binding;
use crate::roles::Condition;
use crate::roles::condition::trim_serial;
use crate::strings::Strings;
use crate::time::UnixTime;

/// The certificates that a policy no longer believes. Lists are sorted.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// Whether the policy says by whom certificates must be signed.
    pub(crate) anchored: bool,
    pub(crate) brakes: Vec<Brake>,
    pub(crate) serials: Vec<Box<[u8]>>,
    pub(crate) spki_sha256: Vec<[u8; 32]>,
    pub(crate) sha256: Vec<[u8; 32]>,
    pub(crate) fresh_until: Option<UnixTime>,
    /// What an agent says is revoked.
    pub(crate) revocations: Arc<Revocations>,
}

/// Certificates that are distrusted: all conditions must hold, of which there is at least one.
#[derive(Debug)]
pub(crate) struct Brake {
    pub(crate) issued_before: Option<UnixTime>,
    pub(crate) issuer: Vec<Condition>,
}

impl Standing {
    /// Why a certificate is not believed at any time, if so.
    pub(crate) fn of(&self, leaf: &Leaf, patterns: &Patterns, strings: &Strings) -> Option<Reason> {
        let serial = trim_serial(leaf.serial());
        let revoked = self.sha256.binary_search(leaf.sha256()).is_ok()
            || self.spki_sha256.binary_search(leaf.spki_sha256()).is_ok()
            || self.serials.binary_search_by(|known| known.as_ref().cmp(serial)).is_ok();
        if revoked {
            return Some(Reason::CertificateRevoked);
        }
        let covers = |brake: &Brake| {
            brake.issued_before.is_none_or(|instant| leaf.not_before() < instant)
                && brake
                    .issuer
                    .iter()
                    .all(|condition| condition.holds(Some(leaf), None, patterns, strings, &mut Binding::default()))
        };
        let distrusted = self.brakes.iter().any(covers).then_some(Reason::CertificateDistrusted);
        // By both lists one is revoked first of all.
        match self.revocations.judge(leaf) {
            Some(Reason::CertificateRevoked) => Some(Reason::CertificateRevoked),
            told => distrusted.or(told),
        }
    }

    /// Why a validated certificate is not believed at `now`, if so; `lasting` is the answer of [`Standing::of`].
    pub(crate) fn at(&self, now: UnixTime, leaf: &Leaf, lasting: Option<Reason>) -> Option<Reason> {
        if now < leaf.not_before() {
            Some(Reason::CertificateNotYetValid)
        } else if now > leaf.not_after() {
            Some(Reason::CertificateExpired)
        } else if self.anchored && !leaf.provenance().is_known(now) {
            Some(Reason::CertificateIssuerUnknown)
        } else if lasting.is_some() {
            lasting
        } else if self.fresh_until.is_some_and(|end| now > end) {
            Some(Reason::RevocationStale)
        } else {
            self.revocations.doubt(now, leaf)
        }
    }
}
