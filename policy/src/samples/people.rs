//! Certificates that nobody has: one for each way in which a role can be held.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::words::Shape;
use super::words::Words;
use super::words::unify;
use crate::certificate::AlternativeName;
use crate::certificate::PublicKey;
use crate::certificate::Synthetic;
use crate::pattern::Pattern;
use crate::policy::Policy;
use crate::roles::Condition;
use crate::roles::Member;
use crate::roles::RoleId;
use crate::roles::condition::Attribute;
use crate::roles::condition::ED25519;
use crate::roles::condition::KeyKind;
use crate::roles::condition::spiffe_words;
use crate::spiffe::SpiffeId;
use crate::time::UnixTime;

/// How many combinations of members of required roles are tried for one member.
const MAX_TRIES: usize = 256;

/// Whether anybody can hold a role by one of its members.
#[derive(Debug)]
pub(crate) enum Holder {
    /// This certificate does.
    Somebody(Box<Synthetic>),
    /// Nobody: the conditions contradict each other, those on this field.
    Nobody(&'static str),
    /// There was none among what was tried.
    Unknown,
}

/// Makes a certificate that holds a role by this member, its captures standing for these words. It is asked of the engine
/// whether it does.
pub(crate) fn holder(policy: &Policy, member: &Member, words: &Words, now: UnixTime) -> Holder {
    let mut contradiction = None;
    let mut certain = true;
    let mut open = Vec::new();
    match Draft::default().with(member) {
        Ok(draft) => open.push((draft, member.requires)),
        Err(field) => contradiction = Some(field),
    }
    let mut tries = 0;
    while let Some((draft, required)) = open.pop() {
        tries += 1;
        if tries > MAX_TRIES {
            return Holder::Unknown;
        }
        let Some(required) = required else {
            match draft.certificate(policy, words, now) {
                Ok(synthetic) if holds(policy, member.role, &synthetic) => {
                    return Holder::Somebody(Box::new(synthetic));
                }
                Ok(_) => certain = false,
                Err(field) => contradiction = Some(field),
            }
            continue;
        };
        let members = policy.members.of(required);
        certain &= members.len() <= MAX_TRIES;
        // The first one is looked at first: the list of what is open is taken from its end.
        for other in members.iter().take(MAX_TRIES).rev() {
            match draft.with(other) {
                Ok(draft) => open.push((draft, other.requires)),
                Err(field) => contradiction = Some(field),
            }
        }
    }
    match contradiction {
        Some(field) if certain => Holder::Nobody(field),
        _ => Holder::Unknown,
    }
}

fn holds(policy: &Policy, role: RoleId, synthetic: &Synthetic) -> bool {
    let held = policy.members.held(Some(&synthetic.clone().leaf()), None, &policy.patterns, &policy.strings);
    held.is_ok_and(|held| held.iter().any(|held| held.role == role))
}

/// A certificate of whom no role speaks, if anybody can be that.
pub(super) fn stranger(now: UnixTime) -> Synthetic {
    let name = AlternativeName::Uri("spiffe://stranger.example/nobody".to_owned());
    Synthetic { alternative_names: vec![name], ..Synthetic::blank(now) }
}

/// What a certificate must have, gathered from member to member.
#[derive(Clone, Debug, Default)]
struct Draft<'p> {
    spiffe: Vec<Pattern>,
    uris: Vec<&'p str>,
    dns: Vec<&'p str>,
    emails: Vec<&'p str>,
    ips: Vec<IpAddr>,
    subject: BTreeMap<&'p str, &'p str>,
    issuer: BTreeMap<&'p str, &'p str>,
    eku: Vec<&'p str>,
    oids: Vec<&'p str>,
    key: Option<(KeyKind, usize)>,
    lifetime: Option<i64>,
    anchor: Option<[u8; 32]>,
    key_id: Option<&'p [u8]>,
    serial: Option<&'p [u8]>,
    sha256: Option<&'p [u8; 32]>,
    spki_sha256: Option<&'p [u8; 32]>,
    /// All conditions, and those of each `not`.
    held: Vec<&'p Condition>,
    excluded: Vec<&'p [Condition]>,
}

impl<'p> Draft<'p> {
    /// Adds a member's conditions, or names the field in which they contradict those before them.
    fn with(&self, member: &'p Member) -> Result<Self, &'static str> {
        let mut draft = self.clone();
        for condition in &member.conditions {
            draft.held.push(condition);
            match condition {
                Condition::Dns(name) => add(&mut draft.dns, &**name),
                Condition::Eku(purposes) => purposes.iter().for_each(|purpose| add(&mut draft.eku, &**purpose)),
                Condition::Email(name) => add(&mut draft.emails, &**name),
                Condition::Ip(network) => add(&mut draft.ips, network.address),
                Condition::Issuer(wanted) => attributes(&mut draft.issuer, wanted).ok_or("issuer")?,
                // One certificate may have several: an authority's old one and its new one.
                Condition::IssuerAnchor(hash) => draft.anchor = Some(**hash),
                Condition::IssuerKey(key) => only(&mut draft.key_id, &**key).ok_or("issuer.key_id")?,
                Condition::Key { kind, min_bits } => {
                    let least = match draft.key {
                        Some((known, _)) if known != *kind => return Err("key"),
                        Some((_, known)) => known.max(*min_bits),
                        None => *min_bits,
                    };
                    draft.key = Some((*kind, least));
                }
                Condition::MaxLifetime(seconds) => {
                    draft.lifetime = Some(draft.lifetime.map_or(*seconds, |known| known.min(*seconds)));
                }
                // Mostly the draft is something else already; the engine is asked.
                Condition::Not(inner) => draft.excluded.push(inner),
                Condition::Oid(oids) => oids.iter().for_each(|oid| add(&mut draft.oids, &**oid)),
                Condition::Serial(serial) => only(&mut draft.serial, &**serial).ok_or("serial")?,
                Condition::Sha256(hash) => only(&mut draft.sha256, &**hash).ok_or("sha256")?,
                Condition::Spiffe(pattern) => draft.spiffe.push(*pattern),
                Condition::SpkiSha256(hash) => only(&mut draft.spki_sha256, &**hash).ok_or("spki_sha256")?,
                Condition::Subject(wanted) => attributes(&mut draft.subject, wanted).ok_or("subject")?,
                // No token is made: whoever needs one is found to hold nothing, and nothing is concluded from that.
                Condition::Token(_) => {}
                Condition::Uri(uri) => add(&mut draft.uris, &**uri),
            }
        }
        // Who has a SPIFFE ID has no other URI.
        if !draft.spiffe.is_empty() && draft.uris.len() > 1 {
            return Err("uri");
        }
        Ok(draft)
    }

    fn certificate(&self, policy: &Policy, words: &Words, now: UnixTime) -> Result<Synthetic, &'static str> {
        for inner in &self.excluded {
            let held = |excluded: &Condition| self.held.iter().any(|held| held.implies(excluded, &policy.patterns));
            if let Some(first) = inner.first().filter(|_| inner.iter().all(held)) {
                return Err(first.field());
            }
        }
        if self.spiffe.is_empty() {
            return Ok(self.facts(None, now));
        }
        let shapes = self.spiffe.iter().map(|pattern| (policy.patterns.steps(*pattern), pattern.rest));
        let shapes: Vec<Shape<'_>> = shapes.collect();
        // Who has a SPIFFE ID has no other URI, so one that is asked for is the ID. A trust domain alone is nobody's ID.
        let (field, found) = match self.uris.first() {
            None => ("spiffe", vec![None; 2]),
            Some(uri) => {
                let id = SpiffeId::parse(uri).ok_or("uri")?;
                ("uri", spiffe_words(&id).map(|word| Some(word.to_owned())).collect())
            }
        };
        let found = unify(&shapes, found, &mut words.clone(), &policy.strings).ok_or(field)?;
        Ok(self.facts(Some(format!("spiffe://{}", found.join("/"))), now))
    }

    fn facts(&self, spiffe: Option<String>, now: UnixTime) -> Synthetic {
        let uris = match spiffe {
            Some(id) => vec![id],
            None => self.uris.iter().map(|uri| (*uri).to_owned()).collect(),
        };
        let mut alternative_names: Vec<AlternativeName> = uris.into_iter().map(AlternativeName::Uri).collect();
        let host =
            |name: &&str| name.strip_prefix("*.").map_or_else(|| (*name).to_owned(), |parent| format!("x.{parent}"));
        alternative_names.extend(self.dns.iter().map(host).map(AlternativeName::Dns));
        alternative_names.extend(self.emails.iter().map(|name| AlternativeName::Email((*name).to_owned())));
        alternative_names.extend(self.ips.iter().copied().map(AlternativeName::Ip));
        let pairs = |wanted: &BTreeMap<&str, &str>| {
            wanted.iter().map(|(oid, value)| ((*oid).to_owned(), (*value).to_owned())).collect()
        };
        let blank = Synthetic::blank(now);
        Synthetic {
            alternative_names,
            subject: pairs(&self.subject),
            issuer: pairs(&self.issuer),
            eku: self.eku.iter().map(|purpose| (*purpose).to_owned()).collect(),
            policies: match self.oids.as_slice() {
                [] => None,
                oids => Some(oids.iter().map(|oid| (*oid).to_owned()).collect()),
            },
            public_key: self.key.map_or_else(|| blank.public_key.clone(), |(kind, bits)| public_key(kind, bits)),
            not_after: self.lifetime.map_or(blank.not_after, |lifetime| UnixTime(now.0.saturating_add(lifetime))),
            issuer_sha256: self.anchor,
            authority_key_id: self.key_id.map(Into::into),
            serial: self.serial.map_or_else(|| blank.serial.clone(), Into::into),
            sha256: self.sha256.copied().unwrap_or(blank.sha256),
            spki_sha256: self.spki_sha256.copied().unwrap_or(blank.spki_sha256),
            ..blank
        }
    }
}

fn public_key(kind: KeyKind, bits: usize) -> PublicKey {
    let curve = |curve: &str| PublicKey::Ec { curve: curve.to_owned() };
    match kind {
        KeyKind::Ec if bits <= 256 => curve("1.2.840.10045.3.1.7"),
        KeyKind::Ec if bits <= 384 => curve("1.3.132.0.34"),
        KeyKind::Ec => curve("1.3.132.0.35"),
        KeyKind::Ed25519 => PublicKey::Other { algorithm: ED25519.to_owned() },
        KeyKind::Rsa => PublicKey::Rsa { bits: bits.max(2048) },
    }
}

fn add<T: PartialEq>(list: &mut Vec<T>, value: T) {
    if !list.contains(&value) {
        list.push(value);
    }
}

/// Sets what there is only one of.
fn only<T: PartialEq>(place: &mut Option<T>, value: T) -> Option<()> {
    let same = place.as_ref().is_none_or(|known| *known == value);
    *place = Some(value);
    same.then_some(())
}

fn attributes<'p>(known: &mut BTreeMap<&'p str, &'p str>, wanted: &'p [Attribute]) -> Option<()> {
    let mut agree =
        wanted.iter().map(|attribute| *known.entry(&attribute.oid).or_insert(&attribute.value) == &*attribute.value);
    agree.all(|agrees| agrees).then_some(())
}
