//! Members of roles: conditions as they are written to conditions that can be checked.

use super::claims;
use super::roles::RoleTable;
use super::value;
use crate::anchor::Anchors;
use crate::certificate::Leaf;
use crate::document;
use crate::error::PolicyProblem;
use crate::network::Network;
use crate::pattern::Patterns;
use crate::pattern::Step;
use crate::roles::Condition;
use crate::roles::Member;
use crate::roles::RoleId;
use crate::roles::condition::Attribute;
use crate::roles::condition::KeyKind;
use crate::roles::condition::fold_email;
use crate::roles::condition::trim_serial;
use crate::strings::Strings;
use crate::token::provider::Providers;

/// What is wrong with a member, and where in it: `spiffe`, `eku[1]`, empty for the whole.
pub(super) type FieldProblem = (String, PolicyProblem);

/// Compiles one member of a role.
pub(super) fn compile(
    role: RoleId,
    way: &document::Member<'_>,
    table: &RoleTable,
    anchors: &Anchors,
    providers: &Providers,
    strings: &mut Strings,
    patterns: &mut Patterns,
) -> Result<Member, FieldProblem> {
    let mut requires = None;
    let mut role_of = |name: &str, strings: &Strings| {
        requires = Some(table.find(name, strings)?);
        Ok(())
    };
    let conditions = conditions(way, &mut role_of, anchors, providers, strings, patterns)?;
    Ok(Member { role, requires, conditions: conditions.into() })
}

/// Compiles the conditions of a member, or of its `not`; those on a role go to `role`.
fn conditions(
    way: &document::Member<'_>,
    role: &mut dyn FnMut(&str, &Strings) -> Result<(), PolicyProblem>,
    anchors: &Anchors,
    providers: &Providers,
    strings: &mut Strings,
    patterns: &mut Patterns,
) -> Result<Vec<Condition>, FieldProblem> {
    if way.0.is_empty() {
        return Err((String::new(), PolicyProblem::NoCondition));
    }
    let mut conditions = Vec::with_capacity(way.0.len());
    for written in &way.0 {
        let here = |problem| (written.field().to_owned(), problem);
        conditions.push(match written {
            document::Condition::Dns(name) => Condition::Dns(dns(name.as_str()).map_err(here)?),
            document::Condition::Eku(purposes) => Condition::Eku(eku(purposes.iter().map(document::Text::as_str))?),
            document::Condition::Email(name) => Condition::Email(email(name.as_str()).map_err(here)?),
            document::Condition::Ip(network) => Condition::Ip(Box::new(ip(network.as_str()).map_err(here)?)),
            document::Condition::Issuer(attributes) => {
                conditions.extend(issuer(pairs(attributes), anchors)?);
                continue;
            }
            document::Condition::Key(written) => key(written)?,
            document::Condition::MaxLifetime(text) => Condition::MaxLifetime(lifetime(text.as_str()).map_err(here)?),
            document::Condition::Not(inner) => {
                Condition::Not(not(inner, anchors, providers, strings, patterns)?.into())
            }
            document::Condition::Oid(oids) => Condition::Oid(oid(oids.iter().map(document::Text::as_str))?),
            document::Condition::Role(name) => {
                role(name.as_str(), strings).map_err(here)?;
                continue;
            }
            document::Condition::Serial(serial) => Condition::Serial(self::serial(serial.as_str()).map_err(here)?),
            document::Condition::Sha256(hash) => Condition::Sha256(value::sha256(hash.as_str()).map_err(here)?),
            document::Condition::Spiffe(text) => {
                let text = text.as_str();
                let bad = |why| here(PolicyProblem::BadPattern { pattern: value::shown(text), why });
                Condition::Spiffe(patterns.spiffe(text, strings).map_err(bad)?)
            }
            document::Condition::SpkiSha256(hash) => Condition::SpkiSha256(value::sha256(hash.as_str()).map_err(here)?),
            document::Condition::Subject(attributes) => Condition::Subject(subject(pairs(attributes))?),
            document::Condition::Token(fields) => {
                Condition::Token(Box::new(claims::token(fields, providers, strings)?))
            }
            document::Condition::Uri(uri) => Condition::Uri(self::uri(uri.as_str()).map_err(here)?),
        });
    }
    Ok(conditions)
}

/// The conditions of which not all may hold.
fn not(
    way: &document::Member<'_>,
    anchors: &Anchors,
    providers: &Providers,
    strings: &mut Strings,
    patterns: &mut Patterns,
) -> Result<Vec<Condition>, FieldProblem> {
    let place = |(field, problem): FieldProblem| {
        let dot = if field.is_empty() { "" } else { "." };
        (format!("not{dot}{field}"), problem)
    };
    // Whoever lacks a role may lack it because the certificate says nothing of what the role is about.
    let mut no_role = |_: &str, _: &Strings| Err(PolicyProblem::NotWithin { what: "role" });
    let conditions = conditions(way, &mut no_role, anchors, providers, strings, patterns).map_err(place)?;
    for condition in &conditions {
        let (field, captures) = match condition {
            Condition::Spiffe(pattern) => {
                ("spiffe", patterns.steps(*pattern).iter().any(|step| matches!(step, Step::Capture(_))))
            }
            Condition::Token(wanted) => ("token.claims", wanted.claims.iter().any(|claim| claim.capture().is_some())),
            _ => continue,
        };
        if captures {
            return Err(place((field.to_owned(), PolicyProblem::NotWithin { what: "{capture}" })));
        }
    }
    Ok(conditions)
}

/// The conditions on who issued a certificate: attributes of its name, the identifier of its key, or its hash, which is that
/// of an anchor.
pub(super) fn issuer<'t>(
    pairs: impl Iterator<Item = (&'t str, &'t str)>,
    anchors: &Anchors,
) -> Result<Vec<Condition>, FieldProblem> {
    let mut conditions: Vec<Condition> = Vec::new();
    let mut names = Vec::new();
    for (name, text) in pairs {
        let here = |problem| (format!("issuer.{name}"), problem);
        match name {
            "sha256" => {
                let hash = value::sha256(text).map_err(here)?;
                if !anchors.has(&hash) {
                    let expected = "the hash of one of the policy's `anchors`; put the issuer's certificate there";
                    return Err(here(value::bad(text, expected)));
                }
                conditions.push(Condition::IssuerAnchor(hash));
            }
            "key_id" => conditions.push(Condition::IssuerKey(value::bytes(text).map_err(here)?)),
            _ => names.push((name, text)),
        }
    }
    let kinds = conditions.iter().map(std::mem::discriminant);
    if kinds.clone().any(|kind| kinds.clone().filter(|other| *other == kind).count() > 1) {
        let problem = PolicyProblem::Duplicate { what: "condition", name: "key_id or sha256".to_owned() };
        return Err(("issuer".to_owned(), problem));
    }
    if !names.is_empty() {
        conditions.push(Condition::Issuer(attributes("issuer", names)?));
    }
    if conditions.is_empty() {
        return Err(("issuer".to_owned(), PolicyProblem::NoCondition));
    }
    Ok(conditions)
}

pub(super) fn subject<'t>(pairs: impl Iterator<Item = (&'t str, &'t str)>) -> Result<Box<[Attribute]>, FieldProblem> {
    attributes("subject", pairs.collect())
}

pub(super) fn eku<'t>(purposes: impl Iterator<Item = &'t str>) -> Result<Box<[Box<str>]>, FieldProblem> {
    let mut oids = Vec::new();
    for (position, purpose) in purposes.enumerate() {
        let Some(oid) = Leaf::eku_oid(purpose) else {
            let known = "`server_auth`, `client_auth` and other purposes of RFC 5280, and dotted object identifiers";
            let name = value::shown(purpose);
            return Err((format!("eku[{position}]"), PolicyProblem::UnknownWord { name, known }));
        };
        oids.push(oid.into());
    }
    if oids.is_empty() { Err(("eku".to_owned(), PolicyProblem::EmptyList)) } else { Ok(oids.into()) }
}

pub(super) fn oid<'t>(texts: impl Iterator<Item = &'t str>) -> Result<Box<[Box<str>]>, FieldProblem> {
    let mut oids: Vec<Box<str>> = Vec::new();
    for (position, text) in texts.enumerate() {
        if !Leaf::is_oid(text) {
            let problem = value::bad(text, "a dotted object identifier, such as `1.3.6.1.4.1.99999.1`");
            return Err((format!("oid[{position}]"), problem));
        }
        oids.push(text.into());
    }
    if oids.is_empty() { Err(("oid".to_owned(), PolicyProblem::EmptyList)) } else { Ok(oids.into()) }
}

pub(super) fn key_kind(name: &str) -> Result<KeyKind, PolicyProblem> {
    let kind = KeyKind::NAMES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
    kind.ok_or_else(|| PolicyProblem::UnknownWord { name: value::shown(name), known: "`ec`, `ed25519` and `rsa`" })
}

fn key(written: &document::Key<'_>) -> Result<Condition, FieldProblem> {
    let kind = key_kind(written.r#type.as_str()).map_err(|problem| ("key.type".to_owned(), problem))?;
    let sizes = match kind {
        KeyKind::Ec => 1..=521,
        KeyKind::Rsa => 1..=16_384,
        KeyKind::Ed25519 => 0..=0,
    };
    match written.min_bits {
        Some(bits) if !sizes.contains(&bits) || kind == KeyKind::Ed25519 => {
            let expected =
                "a size that such keys have: up to 521 bits on a curve, 16384 for RSA; `ed25519` has one only";
            Err(("key.min_bits".to_owned(), value::bad(&bits.to_string(), expected)))
        }
        bits => Ok(Condition::Key { kind, min_bits: bits.unwrap_or(0) }),
    }
}

pub(super) fn lifetime(text: &str) -> Result<i64, PolicyProblem> {
    value::duration(text)
        .filter(|seconds| *seconds > 0)
        .ok_or_else(|| value::bad(text, "a length of time, such as `24h`"))
}

pub(super) fn serial(text: &str) -> Result<Box<[u8]>, PolicyProblem> {
    value::bytes(text).map(|bytes| trim_serial(&bytes).into())
}

pub(super) fn ip(text: &str) -> Result<Network, PolicyProblem> {
    Network::parse(text)
        .ok_or_else(|| value::bad(text, "an IP address, or a network whose bits after the prefix are zero"))
}

pub(super) fn email(text: &str) -> Result<Box<str>, PolicyProblem> {
    let folded = fold_email(text).filter(|_| is_printable(text));
    folded.map(Into::into).ok_or_else(|| value::bad(text, "an e-mail address"))
}

pub(super) fn uri(text: &str) -> Result<Box<str>, PolicyProblem> {
    let valid = is_printable(text) && text.contains(':');
    if valid { Ok(text.into()) } else { Err(value::bad(text, "a URI")) }
}

/// A DNS name in lower case, its first label possibly `*`.
pub(super) fn dns(text: &str) -> Result<Box<str>, PolicyProblem> {
    let labels = text.strip_prefix("*.").unwrap_or(text);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let valid = text.len() <= 253 && labels.split('.').all(|label| !label.is_empty() && label.bytes().all(allowed));
    if valid {
        Ok(text.to_ascii_lowercase().into())
    } else {
        Err(value::bad(text, "a DNS name, of which only the whole first label can be `*`"))
    }
}

fn attributes(field: &str, mut pairs: Vec<(&str, &str)>) -> Result<Box<[Attribute]>, FieldProblem> {
    if pairs.is_empty() {
        return Err((field.to_owned(), PolicyProblem::NoCondition));
    }
    pairs.sort_unstable();
    let mut attributes: Vec<Attribute> = Vec::with_capacity(pairs.len());
    for (name, text) in pairs {
        let here = |problem| (format!("{field}.{name}"), problem);
        let attribute = value::attribute(name, text).map_err(here)?;
        if attributes.iter().any(|known| known.oid == attribute.oid) {
            return Err(here(PolicyProblem::Duplicate { what: "attribute", name: name.to_owned() }));
        }
        attributes.push(attribute);
    }
    Ok(attributes.into())
}

fn pairs<'t>(attributes: &'t document::Attributes<'_>) -> impl Iterator<Item = (&'t str, &'t str)> {
    attributes.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
}

fn is_printable(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}
