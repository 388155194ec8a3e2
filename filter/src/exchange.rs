//! One HTTP request: what is asked of the host, the question to the policy, and what becomes of the answer.

use std::mem;
use std::rc::Rc;

use portcullis_policy::Decision;
use portcullis_policy::Forwarded;
use portcullis_policy::Head;
use portcullis_policy::Peer;
use portcullis_policy::Permit;
use portcullis_policy::Request;
use portcullis_policy::Tls;
use portcullis_policy::UnixTime;
use portcullis_policy::is_identity_header;
use proxy_wasm::traits::Context;
use proxy_wasm::traits::HttpContext;
use proxy_wasm::types::Action;

use crate::counters::Counters;
use crate::generation::Certificate;
use crate::generation::Generation;
use crate::host;
use crate::host::Digest;
use crate::host::Headers;
use crate::host::HostError;
use crate::host::Now;
use crate::lineage;
use crate::record;
use crate::reply;
use crate::streams;

const IDENTITY: &str = "x-portcullis-identity";
const ROLES: &str = "x-portcullis-roles";
const RULE: &str = "x-portcullis-rule";

/// The filter's side of one HTTP request. Bodies and responses are not looked at.
pub(crate) struct Exchange {
    context: u32,
    generation: Option<Rc<Generation>>,
    counters: Option<Rc<Counters>>,
}

impl Exchange {
    /// A request that the policy of `generation` decides; without one it is refused.
    pub(crate) fn new(context: u32, generation: Option<Rc<Generation>>, counters: Option<Rc<Counters>>) -> Self {
        Self { context, generation, counters }
    }

    /// Lets the request through and keeps an eye on it, or answers it. `headers` are taken only if it goes through.
    fn decide(&self, headers: &mut Headers) -> Result<Action, HostError> {
        let (Some(generation), Some(counters)) = (&self.generation, &self.counters) else {
            return Err(HostError::NotConfigured);
        };
        let now = host::now()?;
        streams::check_room()?;
        let passed = ask(generation, counters, headers, now, |decision, request, digest| -> Result<_, HostError> {
            counters.diverged(decision);
            if generation.policy().revocations().is_stale(now.second()) {
                counters.revocations_stale();
            }
            match decision {
                Decision::Allow(permit) => {
                    forward(permit, headers)?;
                    counters.request_allowed();
                    // Not `||`: each is a count of its own.
                    if generation.sample_allowed() | generation.sample_divergent(decision) {
                        record::decided(decision, request, digest);
                    }
                    Ok(Some(generation.policy().reconsider_at(request)))
                }
                Decision::Deny(denial) => {
                    reply::refuse(denial.reason(), denial.challenge(), record::request_id(&request.head).as_deref())?;
                    counters.request_denied(denial.reason());
                    record::decided(decision, request, digest);
                    Ok(None)
                }
            }
        })??;
        let Some(due) = passed else { return Ok(Action::Pause) };
        lineage::begin_under(generation, now.second());
        streams::keep(self.context, mem::take(headers), Rc::clone(generation), due);
        Ok(Action::Continue)
    }

    /// Fails closed: the one answer to whatever kept the policy from deciding.
    fn fail(&self, error: &HostError, headers: &Headers) -> Action {
        let head = headers.head();
        // Where not even this is possible, the request stays paused until the proxy's time-out.
        let _ = reply::refuse(error.reason(), None, record::request_id(&head).as_deref());
        if let Some(counters) = &self.counters {
            counters.request_denied(error.reason());
        }
        record::failed(error, &head);
        Action::Pause
    }
}

impl Context for Exchange {}

impl HttpContext for Exchange {
    fn on_http_request_headers(&mut self, count: usize, _end_of_stream: bool) -> Action {
        let mut headers = match host::request_headers(count) {
            Ok(headers) => headers,
            Err(error) => return self.fail(&error, &Headers::default()),
        };
        match self.decide(&mut headers) {
            Ok(action) => action,
            Err(error) => self.fail(&error, &headers),
        }
    }

    fn on_http_request_trailers(&mut self, count: usize) -> Action {
        match clean_trailers(count) {
            Ok(()) => Action::Continue,
            Err(error) => self.fail(&error, &Headers::default()),
        }
    }
}

/// Takes out of what follows a body what an upstream could take for a word about who asks.
fn clean_trailers(count: usize) -> Result<(), HostError> {
    let names = host::request_trailer_names(count)?;
    let mut forged = names.iter().filter(|name| is_identity_header(name.as_bytes()));
    // One removal takes every field of that name, and another one finds nothing: no harm.
    forged.try_for_each(|name| host::remove_request_trailer(name))
}

impl Drop for Exchange {
    fn drop(&mut self) {
        streams::forget(self.context);
    }
}

/// Asks the policy about the stream that host calls are about now, with everything that the host says of it.
///
/// # Errors
///
/// [`HostError`], if the host does not say what the policy has to know.
pub(crate) fn ask<T>(
    generation: &Generation,
    counters: &Counters,
    headers: &Headers,
    now: Now,
    then: impl FnOnce(&Decision<'_>, &Request<'_>, Option<Digest>) -> T,
) -> Result<T, HostError> {
    let head = headers.head();
    let Presented { digest, certificate, is_validated } = presented(generation, counters, &head)?;
    let needs = generation.policy().needs();
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

fn presented(generation: &Generation, counters: &Counters, head: &Head<'_>) -> Result<Presented, HostError> {
    let own_xfcc = generation.policy().own_xfcc();
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

/// Tells the upstream who asks. What the client sent under these names goes first, whatever the permit says.
///
/// Each change makes the proxy look for the route again, so nothing is touched without need.
fn forward(permit: &Permit<'_>, headers: &Headers) -> Result<(), HostError> {
    for (name, _) in headers.iter().filter(|(name, _)| permit.removes(name.as_bytes())) {
        host::remove_request_header(name)?;
    }
    if let Some(identity) = permit.identity() {
        host::set_request_header(IDENTITY, identity)?;
    }
    if let [first, rest @ ..] = permit.roles() {
        if rest.is_empty() {
            host::set_request_header(ROLES, first)?;
        } else {
            host::set_request_header(ROLES, &permit.roles().join(","))?;
        }
    }
    if let Some(rule) = permit.rule() {
        host::set_request_header(RULE, rule)?;
    }
    Ok(())
}
