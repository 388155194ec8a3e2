//! The question to the policy: what is asked of the host, and what everybody who asks does with the answer.

use std::rc::Rc;

use portcullis_policy::Decision;
use portcullis_policy::Forwarded;
use portcullis_policy::Head;
use portcullis_policy::Peer;
use portcullis_policy::Protocol;
use portcullis_policy::Request;
use portcullis_policy::Tls;
use portcullis_policy::UnixTime;

use crate::counters::Counters;
use crate::generation::Certificate;
use crate::generation::Generation;
use crate::host;
use crate::host::Digest;
use crate::host::HostError;
use crate::host::Now;
use crate::lineage;
use crate::record;
use crate::streams;
use crate::streams::Stream;

/// What became of a stream.
pub(crate) enum Verdict {
    /// It goes on, and is judged again at this second; `None` is never.
    GoesOn { due: Option<UnixTime> },
    /// It was refused.
    Refused,
}

/// Asks about a stream that begins, counts and records the answer; `carry_out` makes it come true.
///
/// # Errors
///
/// [`HostError`], also that of `carry_out`. The stream must not go on then.
pub(crate) fn begin(
    generation: &Rc<Generation>,
    counters: &Counters,
    protocol: Protocol,
    head: Head<'_>,
    carry_out: impl FnOnce(&Decision<'_>, &Request<'_>) -> Result<(), HostError>,
) -> Result<Verdict, HostError> {
    let now = host::now()?;
    streams::check_room()?;
    let verdict = ask(generation, counters, protocol, head, now, |decision, request, digest| {
        counters.diverged(decision);
        if generation.policy().revocations().is_stale(now.second()) {
            counters.revocations_stale();
        }
        carry_out(decision, request)?;
        if decision.is_allowed() {
            counters.allowed(protocol);
            // Not `||`: each is a count of its own.
            if generation.sample_allowed() | generation.sample_divergent(decision) {
                record::decided(decision, request, digest);
            }
            Ok(Verdict::GoesOn { due: generation.policy().reconsider_at(request) })
        } else {
            counters.denied(protocol, decision.reason());
            record::decided(decision, request, digest);
            Ok(Verdict::Refused)
        }
    })??;
    if matches!(verdict, Verdict::GoesOn { .. }) {
        lineage::begin_under(generation, now.second());
    }
    Ok(verdict)
}

/// Asks about a stream that goes on, counts and records its end.
///
/// # Errors
///
/// [`HostError`], if the host does not say what the policy has to know. The stream must not go on then.
pub(crate) fn again(
    generation: &Generation,
    counters: &Counters,
    stream: &Stream,
    now: Now,
) -> Result<Verdict, HostError> {
    let protocol = stream.protocol();
    ask(generation, counters, protocol, stream.head(), now, |decision, request, digest| {
        if decision.is_allowed() {
            return Verdict::GoesOn { due: generation.policy().reconsider_at(request) };
        }
        counters.ended(protocol, decision.reason());
        record::ended(decision, request, digest);
        Verdict::Refused
    })
}

/// Asks the policy about the stream that host calls are about now, with everything that the host says of it.
///
/// # Errors
///
/// [`HostError`], if the host does not say what the policy has to know.
fn ask<T>(
    generation: &Generation,
    counters: &Counters,
    protocol: Protocol,
    head: Head<'_>,
    now: Now,
    then: impl FnOnce(&Decision<'_>, &Request<'_>, Option<Digest>) -> T,
) -> Result<T, HostError> {
    let Presented { digest, certificate, is_validated } = presented(generation, counters, protocol, &head)?;
    let needs = generation.policy().needs(protocol);
    let tls_version = if needs.tls_version { host::tls_version()? } else { None };
    let sni = if needs.sni { host::server_name()? } else { None };
    let peer = match certificate.as_deref() {
        None => Peer::Absent,
        Some(Ok(subject)) => Peer::Presented { subject, validated: is_validated },
        Some(Err(error)) => Peer::Unreadable(error),
    };
    let forwarded = generation.forwarded(&peer, &head);
    let now = instant(now, &peer, &forwarded);
    let token = generation.token(&head, now, counters);
    let request = Request {
        now,
        peer,
        forwarded: &forwarded,
        token: &token,
        tls: Tls { version: tls_version.as_deref(), sni: sni.as_deref() },
        source: if needs.source { host::source_address()? } else { None },
        // Without it a record of a connection would not say what was asked for.
        listener: if needs.listener || protocol == Protocol::Tcp { host::listener_address()? } else { None },
        protocol,
        head,
    };
    Ok(then(&generation.policy().decide(&request), &request, digest))
}

/// The second to decide in. Certificates end with the instant that they name (RFC 5280 §4.1.2.5), and policies count in whole
/// seconds: within the last one of a certificate it is the next one already. What else changes with it does not matter then.
fn instant(now: Now, peer: &Peer<'_>, forwarded: &Forwarded) -> UnixTime {
    let peer = match peer {
        Peer::Presented { subject, .. } => Some(subject.leaf()),
        Peer::Absent | Peer::Unreadable(_) => None,
    };
    let client = match forwarded {
        Forwarded::Certificate(subject) => Some(subject.leaf()),
        Forwarded::Nothing | Forwarded::Refused(_) => None,
    };
    let ends = peer.into_iter().chain(client).any(|leaf| leaf.not_after() == now.second());
    if ends { now.rounded_up() } else { now.second() }
}

/// The certificate that the peer presented, as far as the proxy tells.
struct Presented {
    digest: Option<Digest>,
    certificate: Option<Rc<Certificate>>,
    is_validated: bool,
}

impl Presented {
    /// Told by a host that does not say whether it validated the certificate: the listener's configuration has to promise it.
    fn promised(digest: Option<Digest>, certificate: Option<Rc<Certificate>>) -> Self {
        Self { digest, certificate, is_validated: true }
    }
}

fn presented(
    generation: &Generation,
    counters: &Counters,
    protocol: Protocol,
    head: &Head<'_>,
) -> Result<Presented, HostError> {
    // A connection has no header that the proxy could have written into.
    let own_xfcc = generation.policy().own_xfcc() && protocol == Protocol::Http;
    let digest = match host::peer_digest() {
        Err(missing @ HostError::PropertyMissing(host::MTLS)) => {
            return match host::escaped_certificate() {
                Ok(None) => Ok(Presented::promised(None, None)),
                Ok(Some(host::EscapedCertificate { text, is_validated })) => {
                    Ok(Presented { digest: None, certificate: Some(generation.escaped(&text)), is_validated })
                }
                Err(HostError::PropertyMissing(_)) if own_xfcc => {
                    Ok(Presented::promised(None, generation.own_peer(head, None)?))
                }
                Err(HostError::PropertyMissing(_)) => Err(missing),
                Err(error) => Err(error),
            };
        }
        Err(HostError::PropertyMissing(_)) if own_xfcc => {
            return Ok(Presented::promised(None, generation.own_peer(head, None)?));
        }
        digest => digest?,
    };
    let certificate = match digest.map(|digest| generation.certificate(digest, counters)).transpose() {
        Err(HostError::PropertyMissing(_)) if own_xfcc => generation.own_peer(head, digest)?,
        certificate => certificate?,
    };
    Ok(Presented::promised(digest, certificate))
}
