//! Manners: who holds a connection whose certificate is about to end is told, so that a good client comes back with its new
//! one before it is refused.

use crate::decide::Peer;
use crate::decide::Request;
use crate::policy::Policy;
use crate::time::UnixTime;

/// When clients are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Drain {
    /// Seconds before the end of the certificate from which on they are.
    pub(crate) before: i64,
}

impl Policy {
    /// The last second of the certificate that the peer of a request presented, if that is so near that the peer is to be
    /// told: its connection can do nothing after it. `None` without `drain` in the policy.
    ///
    /// It is about the connection, so behind a forwarder it is about the forwarder's certificate.
    pub fn drains(&self, request: &Request<'_>) -> Option<UnixTime> {
        let drain = self.settings.drain?;
        let Peer::Presented { subject, .. } = request.peer else { return None };
        let end = subject.leaf().not_after();
        (end.0.saturating_sub(request.now.0) <= drain.before).then_some(end)
    }
}
