//! The engine as a whole: policies in, verdicts out.
#![cfg_attr(
    not(test),
    allow(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::print_stdout,
        clippy::unwrap_used,
        dead_code,
        unused_imports,
        reason = "for the fuzzer, which takes the reference and `drawn` alone, this is a test as well"
    )
)]

#[cfg(test)]
mod anchors;
mod captures;
mod checks;
#[cfg(test)]
mod decisions;
#[cfg(test)]
mod description;
#[cfg(test)]
mod drain;
#[cfg(feature = "fuzzing")]
pub(crate) mod drawn;
#[cfg(test)]
mod forwarding;
#[cfg(test)]
pub(crate) mod issuer;
#[cfg(test)]
mod members;
mod order;
mod properties;
mod reference;
mod reference_requirements;
mod reference_tokens;
mod refusals;
mod requirements;
#[cfg(test)]
mod revocations;
#[cfg(test)]
mod sample;
mod samples;
mod scale;
mod shadows;
mod standing;
#[cfg(test)]
mod tcp;
#[cfg(test)]
mod token_refusals;
#[cfg(test)]
mod tokens;

use crate::Decision;
use crate::Forwarded;
use crate::Head;
use crate::Leaf;
use crate::Peer;
use crate::Policy;
use crate::Protocol;
use crate::Reason;
use crate::Request;
use crate::Subject;
use crate::Tls;
use crate::UnixTime;
use crate::certificate::AlternativeName;
use crate::certificate::Synthetic;
use crate::token::Bearer;

const NOW: UnixTime = UnixTime(1_800_000_000);

fn policy(text: &str) -> Policy {
    Policy::from_json(text.as_bytes()).unwrap_or_else(|error| panic!("`{}`: {error}", error.path()))
}

/// A certificate of an hour around [`NOW`], without any name.
fn unnamed() -> Synthetic {
    Synthetic {
        alternative_names: Vec::new(),
        subject: Vec::new(),
        issuer: Vec::new(),
        eku: Vec::new(),
        policies: None,
        issuer_sha256: None,
        public_key: crate::PublicKey::Ec { curve: "1.2.840.10045.3.1.7".to_owned() },
        authority_key_id: None,
        serial: Box::new([7]),
        sha256: [1; 32],
        spki_sha256: [2; 32],
        not_before: UnixTime(NOW.0 - 1800),
        not_after: UnixTime(NOW.0 + 1800),
    }
}

fn spiffe(id: &str) -> Leaf {
    Synthetic { alternative_names: vec![AlternativeName::Uri(id.to_owned())], ..unnamed() }.leaf()
}

fn dns(names: &[&str]) -> Leaf {
    let names = names.iter().map(|name| AlternativeName::Dns((*name).to_owned()));
    Synthetic { alternative_names: names.collect(), ..unnamed() }.leaf()
}

fn presented(subject: Option<&Subject>) -> Peer<'_> {
    subject.map_or(Peer::Absent, |subject| Peer::Presented { subject, validated: true })
}

fn request<'a>(peer: Peer<'a>, method: &'a str, host: Option<&'a str>, path: &'a str) -> Request<'a> {
    let head = Head {
        method: Some(method.as_bytes()),
        authority: host.map(str::as_bytes),
        path: Some(path.as_bytes()),
        fields: Vec::new(),
        duplicated: false,
    };
    Request {
        now: NOW,
        peer,
        forwarded: &Forwarded::Nothing,
        token: &Bearer::Absent,
        tls: Tls::default(),
        source: None,
        listener: None,
        protocol: Protocol::Http,
        head,
    }
}

/// Reason and rule.
fn verdict<'p>(decision: &Decision<'p>) -> (Reason, Option<&'p str>) {
    (decision.reason(), decision.rule())
}
