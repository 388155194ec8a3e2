//! A policy as canonical JSON: fixed order of fields, defaults shown, patterns and hashes in one spelling.
//!
//! The version of a policy is the hash of this text, so it is written piece by piece: nobody holds it in memory as a whole
//! when only the hash is asked for. What it says compiles to the same policy.

mod claims;
mod tokens;

use std::collections::BTreeMap;
use std::io;

use serde::Serialize;
use serde::Serializer;
use sha2::Digest;
use sha2::Sha256;

use crate::compile::FORMAT;
use crate::document;
use crate::forwarded::Forwarder;
use crate::hex::Hex;
use crate::policy::Policy;
use crate::requirement::Days;
use crate::requirement::Requirement;
use crate::requirement::Window;
use crate::revocation::RevocationsText;
use crate::roles::Condition;
use crate::roles::Member;
use crate::roles::RoleId;
use crate::roles::condition::Attribute;
use crate::rule;
use crate::rule::Effect;
use crate::rule::Rule;
use crate::strings::Strings;
use crate::time::UnixTime;
use crate::token::provider::Provider;

/// The canonical document.
pub(crate) fn to_json(policy: &Policy) -> String {
    let revocations = RevocationsText::new(policy.revocations());
    serde_json::to_string(&Whole { revocations, ..Whole::new(policy) }).unwrap_or_default()
}

/// SHA-256 of what a document says of tokens: the same for all documents that say the same of them.
pub(crate) fn tokens_digest(providers: &[Provider]) -> [u8; 32] {
    Sha256::digest(serde_json::to_vec(&tokens::tokens(providers)).unwrap_or_default()).into()
}

/// SHA-256 of the canonical document, `revocations` aside: those have a version of their own.
pub(crate) fn digest(policy: &Policy) -> [u8; 32] {
    let mut hash = io::BufWriter::with_capacity(16 << 10, Hash(Sha256::new()));
    // Neither a hash nor the types below refuse anything; if they did, it would be the hash of a part.
    let _ = serde_json::to_writer(&mut hash, &Whole::new(policy));
    hash.into_inner().map_or_else(|_| [0; 32], |hash| hash.0.finalize().into())
}

struct Hash(Sha256);

impl io::Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Serialize)]
struct Whole<'p> {
    version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    trust_domain: Option<&'p str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    anchors: Vec<AnchorText>,
    normalize_path: bool,
    merge_slashes: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    records: Option<Records>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drain: Option<DrainText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    forwarders: Option<Vec<ForwarderText<'p>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    own_xfcc: Option<bool>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tokens: tokens::Tokens<'p>,
    roles: Roles<'p>,
    rules: Rules<'p>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tcp: Vec<RuleText<'p>>,
    distrust: Vec<Distrust<'p>>,
    revoked: Revoked,
    tests: Vec<&'p document::Test>,
    #[serde(skip_serializing_if = "Option::is_none")]
    candidate: Option<Box<Self>>,
    /// The last of all, see [`crate::revocation::join`].
    #[serde(skip_serializing_if = "Option::is_none")]
    revocations: Option<RevocationsText>,
}

#[derive(Serialize)]
struct AnchorText {
    pem: String,
}

#[derive(Serialize)]
struct Records {
    allow_every: u64,
}

#[derive(Serialize)]
struct DrainText {
    before: String,
}

/// The roles, each rendered when it is its turn.
struct Roles<'p>(&'p Policy);

/// The rules, each rendered when it is its turn.
struct Rules<'p>(&'p Policy);

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Principals<'p> {
    Any,
    #[serde(untagged)]
    Roles(Vec<&'p str>),
}

#[derive(Serialize)]
struct RuleText<'p> {
    id: &'p str,
    #[serde(skip_serializing_if = "Option::is_none")]
    allow: Option<Principals<'p>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deny: Option<Principals<'p>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    methods: Option<Vec<&'p str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    paths: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hosts: Vec<String>,
    #[serde(flatten)]
    requirements: Option<RequirementsText<'p>>,
}

#[derive(Default, Serialize)]
struct RequirementsText<'r> {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<&'r str, &'r [Box<str>]>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sources: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    listeners: Vec<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    sni: &'r [Box<str>],
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<TlsText>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    times: Vec<WindowText>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    scopes: &'r [Box<str>],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    claims: claims::Claims<'r>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not: Option<Box<Self>>,
}

#[derive(Serialize)]
struct TlsText {
    min_version: String,
}

#[derive(Serialize)]
struct WindowText {
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    days: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hours: Option<String>,
}

#[derive(Default, Serialize)]
struct MemberText<'p> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spiffe: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    subject: BTreeMap<&'p str, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    issuer: BTreeMap<&'p str, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spki_sha256: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    eku: Vec<&'p str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    oid: &'p [Box<str>],
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<KeyText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_lifetime: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<claims::TokenText<'p>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not: Option<Box<Self>>,
}

#[derive(Serialize)]
struct KeyText {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_bits: Option<usize>,
}

#[derive(Serialize)]
struct ForwarderText<'p> {
    #[serde(flatten)]
    member: MemberText<'p>,
    hops: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<&'p str>,
    keep: bool,
}

#[derive(Serialize)]
struct Distrust<'p> {
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_before: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    issuer: BTreeMap<&'p str, String>,
}

#[derive(Serialize)]
struct Revoked {
    serials: Vec<String>,
    spki_sha256: Vec<String>,
    sha256: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fresh_until: Option<String>,
}

impl<'p> Whole<'p> {
    fn new(policy: &'p Policy) -> Self {
        let standing = &policy.standing;
        let distrust = standing.brakes.iter().map(|brake| Distrust {
            issued_before: brake.issued_before.map(time),
            issuer: MemberText::new(None, &brake.issuer, policy).issuer,
        });
        Self {
            version: FORMAT,
            trust_domain: policy.settings.trust_domain.as_deref(),
            anchors: policy.anchors.0.iter().map(|anchor| AnchorText { pem: anchor.pem() }).collect(),
            normalize_path: policy.settings.normalization.normalize_path,
            merge_slashes: policy.settings.normalization.merge_slashes,
            records: Some(Records { allow_every: policy.settings.allow_every }),
            drain: policy.settings.drain.map(|drain| DrainText { before: format!("{}s", drain.before) }),
            forwarders: Some(policy.forwarders.iter().map(|forwarder| ForwarderText::new(forwarder, policy)).collect()),
            own_xfcc: Some(policy.settings.own_xfcc),
            tokens: tokens::tokens(&policy.providers.list),
            roles: Roles(policy),
            rules: Rules(policy),
            tcp: policy.tcp.rules.iter().map(|(_, rule)| RuleText::new(rule, &policy.tcp.rules, policy)).collect(),
            distrust: distrust.collect(),
            revoked: Revoked {
                serials: standing.serials.iter().map(|serial| hex(serial)).collect(),
                spki_sha256: standing.spki_sha256.iter().map(|hash| hex(hash)).collect(),
                sha256: standing.sha256.iter().map(|hash| hex(hash)).collect(),
                fresh_until: standing.fresh_until.map(time),
            },
            tests: policy.tests.iter().map(|test| &test.source).collect(),
            candidate: policy.candidate.as_deref().map(|candidate| {
                // The rest it has of this policy.
                let whole = Self::new(candidate);
                Box::new(Self {
                    anchors: Vec::new(),
                    records: None,
                    forwarders: None,
                    own_xfcc: None,
                    tokens: BTreeMap::new(),
                    ..whole
                })
            }),
            revocations: None,
        }
    }
}

impl Serialize for Roles<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(policy) = self;
        serializer.collect_map(policy.roles.all().map(|role| {
            let members = policy.members.of(role).iter().map(|member| MemberText::of(member, policy));
            (role_name(role, policy), members.collect::<Vec<_>>())
        }))
    }
}

impl Serialize for Rules<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(policy) = self;
        serializer.collect_seq(policy.rules.iter().map(|(_, rule)| RuleText::new(rule, &policy.rules, policy)))
    }
}

impl<'p> RuleText<'p> {
    fn new(rule: &'p Rule, rules: &'p rule::Rules, policy: &'p Policy) -> Self {
        let Policy { strings, patterns, .. } = policy;
        let principals = match rules.roles(rule) {
            [] => Principals::Any,
            roles => Principals::Roles(roles.iter().map(|role| role_name(*role, policy)).collect()),
        };
        let (allow, deny) = match rule.effect {
            Effect::Allow => (Some(principals), None),
            Effect::Deny => (None, Some(principals)),
        };
        Self {
            id: strings.text(rule.id),
            allow,
            deny,
            shadow: rule.shadow.then_some(true),
            methods: rules.method_names(rule.methods, strings),
            paths: rules.paths(rule).iter().map(|path| patterns.path_text(*path, strings)).collect(),
            hosts: rules.hosts(rule).iter().map(|host| patterns.host_text(*host, strings)).collect(),
            requirements: match rules.requirements(rule) {
                [] => None,
                requirements => Some(RequirementsText::new(requirements, strings)),
            },
        }
    }
}

impl<'r> RequirementsText<'r> {
    fn new(requirements: impl IntoIterator<Item = &'r Requirement>, strings: &Strings) -> Self {
        let mut text = Self::default();
        for requirement in requirements {
            match requirement {
                Requirement::Claims(tests) => text.claims = claims::claims(tests, strings),
                Requirement::Not(inner) => text.not = Some(Box::new(Self::new(inner.as_ref(), strings))),
                Requirement::Headers(headers) => {
                    text.headers = headers.iter().map(|header| (&*header.name, &*header.values)).collect();
                }
                Requirement::Listeners(listeners) => {
                    text.listeners = listeners.iter().map(ToString::to_string).collect();
                }
                Requirement::Scopes(scopes) => text.scopes = scopes,
                Requirement::Sni(names) => text.sni = names,
                Requirement::Sources(networks) => text.sources = networks.iter().map(ToString::to_string).collect(),
                Requirement::Times(windows) => text.times = windows.iter().map(WindowText::new).collect(),
                Requirement::Tls(version) => {
                    text.tls = Some(TlsText { min_version: version.as_text() });
                }
            }
        }
        text
    }
}

impl WindowText {
    fn new(window: &Window) -> Self {
        let Window { from, until, days, hours } = *window;
        let clock = |minutes: u16| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        Self {
            from: from.map(time),
            until: until.map(time),
            days: if days == Days::ALL { Vec::new() } else { days.names().collect() },
            hours: hours.map(|(from, until)| format!("{}-{}", clock(from), clock(until))),
        }
    }
}

/// One thing that a rule requires, as it is written: `sources: ["10.0.0.0/8"]`.
pub(crate) fn requirement(requirement: &Requirement, strings: &Strings) -> String {
    let text = serde_json::to_string(&RequirementsText::new([requirement], strings)).unwrap_or_default();
    let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(&text);
    inner.replacen('"', "", 2).replacen(':', ": ", 1)
}

impl<'p> ForwarderText<'p> {
    fn new(forwarder: &'p Forwarder, policy: &'p Policy) -> Self {
        let Forwarder { conditions, hops, keep } = forwarder;
        Self {
            member: MemberText::new(None, conditions, policy),
            hops: hops.count,
            by: hops.by.as_deref(),
            keep: *keep,
        }
    }
}

impl<'p> MemberText<'p> {
    fn of(member: &'p Member, policy: &'p Policy) -> Self {
        Self::new(member.requires, &member.conditions, policy)
    }

    fn new(requires: Option<RoleId>, conditions: &'p [Condition], policy: &'p Policy) -> Self {
        let mut text = Self { role: requires.map(|role| role_name(role, policy)), ..Self::default() };
        for condition in conditions {
            match condition {
                Condition::Dns(name) => text.dns = Some(name),
                Condition::Eku(purposes) => text.eku = purposes.iter().map(AsRef::as_ref).collect(),
                Condition::Email(name) => text.email = Some(name),
                Condition::Ip(network) => text.ip = Some(network.to_string()),
                Condition::Issuer(wanted) => text.issuer.extend(attributes(wanted)),
                Condition::IssuerAnchor(hash) => {
                    text.issuer.insert("sha256", hex(&**hash));
                }
                Condition::IssuerKey(key) => {
                    text.issuer.insert("key_id", hex(key));
                }
                Condition::Key { kind, min_bits } => {
                    let min_bits = Some(*min_bits).filter(|bits| *bits > 0);
                    text.key = Some(KeyText { r#type: kind.name(), min_bits });
                }
                Condition::MaxLifetime(seconds) => text.max_lifetime = Some(format!("{seconds}s")),
                Condition::Not(inner) => text.not = Some(Box::new(Self::new(None, inner, policy))),
                Condition::Oid(oids) => text.oid = oids,
                Condition::Serial(serial) => text.serial = Some(hex(serial)),
                Condition::Sha256(hash) => text.sha256 = Some(hex(&**hash)),
                Condition::Spiffe(pattern) => {
                    text.spiffe = Some(policy.patterns.spiffe_text(*pattern, &policy.strings))
                }
                Condition::SpkiSha256(hash) => text.spki_sha256 = Some(hex(&**hash)),
                Condition::Subject(wanted) => text.subject.extend(attributes(wanted)),
                Condition::Token(wanted) => {
                    text.token = Some(claims::TokenText::new(wanted, &policy.providers, &policy.strings));
                }
                Condition::Uri(uri) => text.uri = Some(uri),
            }
        }
        text
    }
}

fn role_name(role: RoleId, policy: &Policy) -> &str {
    policy.roles.name(role, &policy.strings)
}

fn attributes(wanted: &[Attribute]) -> impl Iterator<Item = (&str, String)> {
    wanted.iter().map(|attribute| (attribute.name.as_ref(), attribute.value.as_ref().to_owned()))
}

/// A serial number of zero has no bytes left.
fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() { "00".to_owned() } else { Hex(bytes).to_string() }
}

fn time(instant: UnixTime) -> String {
    instant.to_rfc3339().unwrap_or_default()
}
