//! `tests:` to questions that can be asked.

use super::claims;
use super::member;
use super::member::FieldProblem;
use super::value;
use crate::anchor::Anchors;
use crate::certificate::AlternativeName;
use crate::certificate::Leaf;
use crate::certificate::PublicKey;
use crate::certificate::Synthetic;
use crate::document;
use crate::document::Peer;
use crate::document::PeerNames;
use crate::document::TestKey;
use crate::error::PolicyError;
use crate::error::PolicyProblem;
use crate::reason::Reason;
use crate::requirement::TlsVersion;
use crate::roles::Condition;
use crate::roles::condition::Attribute;
use crate::roles::condition::ED25519;
use crate::roles::condition::KeyKind;
use crate::rule::Effect;
use crate::rule::Rules;
use crate::samples::SampleRequest;
use crate::selftest::Expectation;
use crate::selftest::Test;
use crate::selftest::TestToken;
use crate::spiffe::SpiffeId;
use crate::standing::Standing;
use crate::strings::Strings;
use crate::time::UnixTime;
use crate::token::provider::Providers;
use crate::token::scopes;

pub(super) fn compile(
    written: Vec<document::Test>,
    rules: [&Rules; 2],
    providers: &Providers,
    strings: &Strings,
    standing: &Standing,
) -> Result<Vec<Test>, PolicyError> {
    let latest = standing.brakes.iter().filter_map(|brake| brake.issued_before).max();
    let now = latest.unwrap_or(UnixTime(0));
    let tests = written.into_iter().enumerate().map(|(position, test)| {
        compile_one(test, rules, providers, strings, now).map_err(|(field, problem)| {
            PolicyError::new(format!("tests[{position}]{}{field}", if field.is_empty() { "" } else { "." }), problem)
        })
    });
    tests.collect()
}

fn compile_one(
    source: document::Test,
    rules: [&Rules; 2],
    providers: &Providers,
    strings: &Strings,
    now: UnixTime,
) -> Result<Test, FieldProblem> {
    let here = |field: &'static str| move |problem| (field.to_owned(), problem);
    let place = |text: &str| {
        let expected = "an address and a port that a client connects to, such as `10.0.0.1:5432`";
        text.parse().map_err(|_| value::bad(text, expected))
    };
    let (request, listener) = match (&source.request, &source.connection) {
        (Some(request), None) => {
            let listener = source.listener.as_deref().map(place).transpose().map_err(here("listener"))?;
            (Some(self::request(request, &source.host)?), listener)
        }
        (None, Some(connection)) => {
            let is_there = [
                ("host", source.host.is_some()),
                ("headers", !source.headers.0.is_empty()),
                ("token", source.token.is_some()),
                ("forwarded_by", source.forwarded_by.is_some()),
                ("listener", source.listener.is_some()),
            ];
            if let Some((field, _)) = is_there.into_iter().find(|(_, is_there)| *is_there) {
                return Err(here(field)(PolicyProblem::ExactlyOne { first: field, second: "connection" }));
            }
            (None, Some(place(connection).map_err(here("connection"))?))
        }
        (Some(_), Some(_)) | (None, None) => {
            return Err((String::new(), PolicyProblem::ExactlyOne { first: "request", second: "connection" }));
        }
    };
    let at = source.at.as_deref().map(value::time).transpose().map_err(here("at"))?;
    let now = at.unwrap_or(now);
    let address = |text: &str| text.parse().map_err(|_| value::bad(text, "an IP address"));
    let source_address = source.source.as_deref().map(address).transpose().map_err(here("source"))?;
    let version = |text: &str| match TlsVersion::parse(text) {
        Some(version) => Ok(version.to_string()),
        None => Err(value::bad(text, "a version of TLS, `1.0` to `1.3`")),
    };
    let tls_version = source.tls.as_deref().map(version).transpose().map_err(here("tls"))?;
    let each = |(name, values): &(String, document::OneOrMany)| -> Vec<(String, String)> {
        values.0.iter().map(|value| (name.clone(), value.clone())).collect()
    };
    let fields = source.headers.0.iter().flat_map(each).collect();
    let peer = match &source.peer {
        Peer::Absent => None,
        Peer::Presented(names) => {
            Some(leaf(names, now).map_err(|(field, problem)| (format!("peer.{field}"), problem))?)
        }
    };
    let forwarded_by = source.forwarded_by.as_deref().map(|names| leaf(names, now)).transpose();
    let forwarded_by = forwarded_by.map_err(|(field, problem)| (format!("forwarded_by.{field}"), problem))?;
    let token = source.token.as_deref().map(|token| self::token(token, providers)).transpose();
    let token = token.map_err(|(field, problem)| (format!("token.{field}"), problem))?;
    let expectation = match (&source.expect.allow, &source.expect.deny) {
        (Some(rule), None) if is_rule(rule, Effect::Allow, rules, strings) => Expectation::Allow(rule.clone()),
        (Some(name), None) => return Err(here("expect.allow")(unknown(name, "the ids of allow rules"))),
        (None, Some(name)) => match Reason::ALL.iter().find(|reason| reason.code() == name) {
            Some(&reason) => Expectation::DenyReason(reason),
            None if is_rule(name, Effect::Deny, rules, strings) => Expectation::DenyRule(name.clone()),
            None => return Err(here("expect.deny")(unknown(name, "reason codes and the ids of deny rules"))),
        },
        (Some(_), Some(_)) | (None, None) => {
            return Err(here("expect")(PolicyProblem::ExactlyOne { first: "allow", second: "deny" }));
        }
    };
    let sni = source.sni.clone();
    Ok(Test {
        peer,
        forwarded_by,
        token,
        now,
        request,
        fields,
        listener,
        source_address,
        sni,
        tls_version,
        expectation,
        source,
    })
}

/// A request as a test writes it; its host stands in the URL or beside it.
fn request(text: &str, host: &Option<String>) -> Result<SampleRequest, FieldProblem> {
    let request = SampleRequest::parse(text)
        .ok_or_else(|| value::bad(text, "a method and a path, such as `GET /orders/42`"))
        .map_err(|problem| ("request".to_owned(), problem))?;
    match (&request.host, host) {
        (Some(_), Some(host)) => {
            let problem =
                PolicyProblem::Duplicate { what: "the host, by the request's URL:", name: value::shown(host) };
            Err(("host".to_owned(), problem))
        }
        (Some(_), None) => Ok(request),
        (None, host) => Ok(SampleRequest { host: host.clone(), ..request }),
    }
}

/// The certificate of a peer that is written down outside of a policy; `None` for who has none.
///
/// # Errors
///
/// What is wrong with it, with the field.
pub(crate) fn peer(text: &str, now: UnixTime) -> Result<Option<Leaf>, PolicyError> {
    match document::read_peer(text)? {
        Peer::Absent => Ok(None),
        Peer::Presented(names) => {
            leaf(&names, now).map(Some).map_err(|(field, problem)| PolicyError::new(field, problem))
        }
    }
}

fn token(written: &document::TestToken, providers: &Providers) -> Result<TestToken, FieldProblem> {
    let provider = claims::provider(&written.provider, providers)?;
    for (position, scope) in written.scopes.iter().flatten().enumerate() {
        if !scopes::is_scope(scope) {
            return Err((format!("scopes[{position}]"), value::bad(scope, "a scope: visible ASCII without spaces")));
        }
    }
    Ok(TestToken { provider, claims: written.claims.clone(), scopes: written.scopes.clone() })
}

fn leaf(names: &PeerNames, now: UnixTime) -> Result<Leaf, FieldProblem> {
    let here = |field: &'static str| move |problem| (field.to_owned(), problem);
    if let Some(id) = names.spiffe.as_deref().filter(|id| SpiffeId::parse(id).is_none()) {
        return Err(here("spiffe")(value::bad(id, "a SPIFFE ID; a name that only looks like one goes under `uri`")));
    }
    let mut alternative_names = Vec::new();
    alternative_names.extend(names.spiffe.iter().chain(&names.uri.0).cloned().map(AlternativeName::Uri));
    alternative_names.extend(names.dns.0.iter().cloned().map(AlternativeName::Dns));
    alternative_names.extend(names.email.0.iter().cloned().map(AlternativeName::Email));
    for text in &names.ip.0 {
        let address = text.parse().map_err(|_| value::bad(text, "an IP address")).map_err(here("ip"))?;
        alternative_names.push(AlternativeName::Ip(address));
    }
    let eku = if names.eku.0.is_empty() {
        Vec::new()
    } else {
        member::eku(names.eku.0.iter().map(String::as_str))?.iter().map(|oid| oid.as_ref().to_owned()).collect()
    };
    let mut issuer = Vec::new();
    let mut authority_key_id = None;
    let of_anchor = names.issuer.0.iter().find(|(name, _)| name == "sha256");
    let issuer_sha256 = of_anchor.map(|(_, hash)| value::sha256(hash).map(|hash| *hash)).transpose();
    let issuer_sha256 = issuer_sha256.map_err(here("issuer.sha256"))?;
    if names.issuer.0.len() > usize::from(of_anchor.is_some()) {
        let others = pairs(&names.issuer.0).filter(|(name, _)| *name != "sha256");
        for condition in member::issuer(others, &Anchors::default())? {
            match condition {
                Condition::Issuer(attributes) => issuer.extend(attributes),
                Condition::IssuerKey(key) => authority_key_id = Some(key),
                _ => {}
            }
        }
    }
    let subject = if names.subject.0.is_empty() { Box::default() } else { member::subject(pairs(&names.subject.0))? };
    let hash = |field: &'static str, text: &Option<String>| match text {
        None => Ok([0; 32]),
        Some(text) => value::sha256(text).map(|hash| *hash).map_err(here(field)),
    };
    let serial = names.serial.as_deref().map(member::serial).transpose().map_err(here("serial"))?;
    let time =
        |field: &'static str, text: &Option<String>| text.as_deref().map(value::time).transpose().map_err(here(field));
    let not_before = time("not_before", &names.not_before)?.unwrap_or(now);
    let lifetime = names.lifetime.as_deref().map(member::lifetime).transpose().map_err(here("lifetime"))?;
    let not_after = match (lifetime, time("not_after", &names.not_after)?) {
        (None, not_after) => not_after.unwrap_or(UnixTime(i64::MAX)),
        (Some(lifetime), None) => UnixTime(not_before.0.saturating_add(lifetime)),
        (Some(_), Some(_)) => {
            return Err(here("not_after")(PolicyProblem::ExactlyOne { first: "lifetime", second: "not_after" }));
        }
    };
    let attributes = |list: Vec<Attribute>| list.into_iter().map(|one| (one.oid.into(), one.value.into())).collect();
    let policies = match names.oid.0.as_slice() {
        [] => None,
        oids => Some(member::oid(oids.iter().map(String::as_str))?.iter().map(|oid| oid.as_ref().to_owned()).collect()),
    };
    let unknown_key = PublicKey::Other { algorithm: String::new() };
    Ok(Synthetic {
        policies,
        issuer_sha256,
        public_key: names.key.as_ref().map_or(Ok(unknown_key), public_key)?,
        alternative_names,
        subject: attributes(subject.into()),
        issuer: attributes(issuer),
        eku,
        authority_key_id,
        serial: serial.unwrap_or_default(),
        sha256: hash("sha256", &names.sha256)?,
        spki_sha256: hash("spki_sha256", &names.spki_sha256)?,
        not_before,
        not_after,
    }
    .leaf())
}

fn public_key(key: &TestKey) -> Result<PublicKey, FieldProblem> {
    let kind = member::key_kind(&key.r#type).map_err(|problem| ("key.type".to_owned(), problem))?;
    let curve = |curve: &str| Some(PublicKey::Ec { curve: curve.to_owned() });
    let key_of = match (kind, key.bits) {
        (KeyKind::Ec, Some(256)) => curve("1.2.840.10045.3.1.7"),
        (KeyKind::Ec, Some(384)) => curve("1.3.132.0.34"),
        (KeyKind::Ec, Some(521)) => curve("1.3.132.0.35"),
        (KeyKind::Rsa, Some(bits)) => Some(PublicKey::Rsa { bits }),
        (KeyKind::Ed25519, None) => Some(PublicKey::Other { algorithm: ED25519.to_owned() }),
        _ => None,
    };
    let bits = key.bits.map_or_else(|| "no size".to_owned(), |bits| bits.to_string());
    let expected = "a size that such a key has: 256, 384 or 521 bits on a curve, any for RSA, none for `ed25519`";
    key_of.ok_or_else(|| ("key.bits".to_owned(), value::bad(&bits, expected)))
}

fn is_rule(name: &str, effect: Effect, rules: [&Rules; 2], strings: &Strings) -> bool {
    let mut found = rules.iter().filter_map(|rules| rules.named(strings.find(name)));
    found.any(|rule| rule.effect == effect && !rule.shadow)
}

fn unknown(name: &str, known: &'static str) -> PolicyProblem {
    PolicyProblem::UnknownWord { name: value::shown(name), known }
}

fn pairs(pairs: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))
}
