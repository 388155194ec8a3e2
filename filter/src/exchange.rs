//! One HTTP request: what becomes of the policy's answer.

use std::mem;
use std::rc::Rc;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use portcullis_policy::Decision;
use portcullis_policy::Permit;
use portcullis_policy::Protocol;
use portcullis_policy::Request;
use portcullis_policy::UnixTime;
use portcullis_policy::is_identity_header;
use proxy_wasm::traits::Context;
use proxy_wasm::traits::HttpContext;
use proxy_wasm::types::Action;

use crate::counters::Counters;
use crate::generation::Generation;
use crate::host;
use crate::host::Headers;
use crate::host::HostError;
use crate::question;
use crate::question::Verdict;
use crate::record;
use crate::reply;
use crate::streams;
use crate::streams::Stream;

const IDENTITY: &str = "x-portcullis-identity";
const ROLES: &str = "x-portcullis-roles";
const RULE: &str = "x-portcullis-rule";
const CERTIFICATE_EXPIRES: &str = "x-portcullis-certificate-expires";

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
        let verdict =
            question::begin(
                generation,
                counters,
                Protocol::Http,
                headers.head(),
                |decision, request| match decision {
                    Decision::Allow(permit) => {
                        forward(permit, headers)?;
                        tell_of_end(generation, counters, request)
                    }
                    Decision::Deny(denial) => {
                        let request_id = record::request_id(&request.head);
                        reply::refuse(denial.reason(), denial.challenge(), request_id)
                    }
                },
            )?;
        let Verdict::GoesOn { due } = verdict else { return Ok(Action::Pause) };
        streams::keep(self.context, Stream::Http(mem::take(headers)), Rc::clone(generation), due);
        Ok(Action::Continue)
    }

    /// Fails closed: the one answer to whatever kept the policy from deciding.
    fn fail(&self, error: &HostError, headers: &Headers) -> Action {
        let head = headers.head();
        // Where not even this is possible, the request stays paused until the proxy's time-out.
        let _ = reply::refuse(error.reason(), None, record::request_id(&head));
        if let Some(counters) = &self.counters {
            counters.denied(Protocol::Http, error.reason());
        }
        record::failed(error, Protocol::Http, &head);
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

/// Says when the certificate of the connection ends, if the policy wants it told.
fn tell_of_end(generation: &Generation, counters: &Counters, request: &Request<'_>) -> Result<(), HostError> {
    if let Some(date) = generation.policy().drains(request).and_then(http_date) {
        host::set_request_header(CERTIFICATE_EXPIRES, &date)?;
        counters.drain_warned();
    }
    Ok(())
}

/// An instant in the form of RFC 9110 §5.6.7.
fn http_date(instant: UnixTime) -> Option<String> {
    let instant = Timestamp::from_second(instant.0).ok()?;
    DateTimePrinter::new().timestamp_to_rfc9110_string(&instant).ok()
}

impl Drop for Exchange {
    fn drop(&mut self) {
        streams::forget(self.context);
    }
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
