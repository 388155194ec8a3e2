//! `policy.yaml` as it is written, in its JSON form: shape only, nothing resolved. What may be long (roles, rules) is read one
//! element at a time, by [`Lists`].
//!
//! Absent: meaning. Names, patterns and times are text here; [`crate::compile`] gives them their types. What is refused
//! here is what has the wrong shape: unknown fields, fields that occur twice, `null` in place of a value (an emptied
//! `methods:` must not become "every method"). Nothing in the format nests without end (there is no `not` within `not`), so nothing here recurses
//! without end.

mod claims;
mod lists;
mod object;
mod read;
mod requirement;
mod revocations;
mod test;
mod text;
mod tokens;

use serde::Deserialize;

pub(crate) use claims::Claims;
pub(crate) use claims::Plain;
pub(crate) use claims::TokenFields;
pub(crate) use lists::Lists;
pub(crate) use lists::RoleNames;
pub(crate) use lists::RuleCount;
use object::object;
pub(crate) use object::objects;
use object::optional_object;
pub(crate) use read::read;
pub(crate) use read::read_peer;
pub(crate) use requirement::Headers;
use requirement::List;
pub(crate) use requirement::Requirements;
use requirement::TcpRequirements;
use requirement::Tls;
pub(crate) use requirement::Window;
use requirement::Windows;
pub(crate) use revocations::Revocations;
pub(crate) use test::OneOrMany;
pub(crate) use test::Peer;
pub(crate) use test::PeerNames;
pub(crate) use test::Test;
pub(crate) use test::TestKey;
pub(crate) use test::TestToken;
pub(crate) use text::Attributes;
pub(crate) use text::Condition;
pub(crate) use text::Entries;
pub(crate) use text::Forwarder;
pub(crate) use text::Key;
pub(crate) use text::Member;
pub(crate) use text::Principals;
pub(crate) use text::Text;
use text::boxed;
use text::list;
pub(crate) use text::present;
pub(crate) use tokens::Fields as ProviderFields;
pub(crate) use tokens::Jwks;
pub(crate) use tokens::Provider;
pub(crate) use tokens::Tokens;

/// The largest document that is read, in bytes.
pub(crate) const MAX_DOCUMENT: usize = 32 << 20;

/// A whole policy, but for the members of its roles and for its rules: those are in [`Lists`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document<'a> {
    pub(crate) version: u64,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(crate) trust_domain: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(crate) forwarders: Vec<Forwarder<'a>>,
    #[serde(borrow, default)]
    pub(crate) tokens: Tokens<'a>,
    #[serde(borrow, default, deserialize_with = "objects")]
    pub(crate) anchors: Vec<Anchor<'a>>,
    #[serde(default)]
    pub(crate) own_xfcc: bool,
    #[serde(borrow, default, deserialize_with = "optional_object")]
    pub(crate) candidate: Option<Box<Candidate<'a>>>,
    #[serde(default)]
    pub(crate) normalize_path: bool,
    #[serde(default)]
    pub(crate) merge_slashes: bool,
    #[serde(default, deserialize_with = "object")]
    pub(crate) records: Records,
    #[serde(borrow, default, deserialize_with = "optional_object")]
    pub(crate) drain: Option<Box<Drain<'a>>>,
    #[serde(borrow, default)]
    pub(crate) roles: RoleNames<'a>,
    pub(crate) rules: RuleCount,
    #[serde(borrow, default, deserialize_with = "objects")]
    pub(crate) tcp: Vec<TcpRule<'a>>,
    #[serde(borrow, default, deserialize_with = "objects")]
    pub(crate) distrust: Vec<Distrust<'a>>,
    #[serde(borrow, default, deserialize_with = "object")]
    pub(crate) revoked: Revoked<'a>,
    #[serde(borrow, default, deserialize_with = "optional_object")]
    pub(crate) revocations: Option<Box<Revocations<'a>>>,
    #[serde(default, deserialize_with = "objects")]
    pub(crate) tests: Vec<Test>,
}

/// A policy that decides beside the other. Who forwards, which tokens and issuers are believed, what an agent says is revoked and what is
/// recorded is the other's word: both decide about the same facts, found in the same way.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Candidate<'a> {
    version: u64,
    #[serde(borrow, default, deserialize_with = "present")]
    trust_domain: Option<Text<'a>>,
    #[serde(default)]
    normalize_path: bool,
    #[serde(default)]
    merge_slashes: bool,
    #[serde(borrow, default)]
    roles: RoleNames<'a>,
    rules: RuleCount,
    #[serde(borrow, default, deserialize_with = "objects")]
    tcp: Vec<TcpRule<'a>>,
    #[serde(borrow, default, deserialize_with = "objects")]
    distrust: Vec<Distrust<'a>>,
    #[serde(borrow, default, deserialize_with = "object")]
    revoked: Revoked<'a>,
    #[serde(default, deserialize_with = "objects")]
    tests: Vec<Test>,
}

impl<'a> From<Candidate<'a>> for Document<'a> {
    fn from(candidate: Candidate<'a>) -> Self {
        let Candidate {
            version,
            trust_domain,
            normalize_path,
            merge_slashes,
            roles,
            rules,
            tcp,
            distrust,
            revoked,
            tests,
        } = candidate;
        Self {
            version,
            trust_domain,
            forwarders: Vec::new(),
            tokens: Tokens::default(),
            anchors: Vec::new(),
            own_xfcc: false,
            candidate: None,
            normalize_path,
            merge_slashes,
            records: Records::default(),
            drain: None,
            roles,
            rules,
            tcp,
            distrust,
            revoked,
            revocations: None,
            tests,
        }
    }
}

/// A certificate by which issuers are known: its text, or the file that holds it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Anchor<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    pub(crate) pem: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(crate) file: Option<Text<'a>>,
}

/// Which decisions leave a record.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Records {
    #[serde(default)]
    pub(crate) allow_every: u64,
}

/// When clients are told that their connection's certificate is about to end.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Drain<'a> {
    #[serde(borrow)]
    pub(crate) before: Text<'a>,
}

/// One rule.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule<'a> {
    #[serde(borrow)]
    pub(crate) id: Text<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(crate) allow: Option<Principals<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(crate) deny: Option<Principals<'a>>,
    #[serde(borrow, default, deserialize_with = "list")]
    pub(crate) methods: Option<Vec<Text<'a>>>,
    #[serde(borrow, default, deserialize_with = "list")]
    pub(crate) paths: Option<Vec<Text<'a>>>,
    #[serde(borrow, default, deserialize_with = "list")]
    pub(crate) hosts: Option<Vec<Text<'a>>>,
    #[serde(borrow, default, deserialize_with = "boxed")]
    scopes: Option<Box<List<'a>>>,
    #[serde(borrow, default, deserialize_with = "boxed")]
    claims: Option<Box<Claims<'a>>>,
    #[serde(default)]
    pub(crate) shadow: bool,
    #[serde(borrow, default, deserialize_with = "boxed")]
    headers: Option<Box<Headers<'a>>>,
    #[serde(borrow, default, deserialize_with = "boxed")]
    sources: Option<Box<List<'a>>>,
    #[serde(borrow, default, deserialize_with = "boxed")]
    listeners: Option<Box<List<'a>>>,
    #[serde(borrow, default, deserialize_with = "boxed")]
    sni: Option<Box<List<'a>>>,
    #[serde(borrow, default, deserialize_with = "optional_object")]
    tls: Option<Box<Tls<'a>>>,
    #[serde(borrow, default, deserialize_with = "boxed")]
    times: Option<Box<Windows<'a>>>,
    #[serde(borrow, default, deserialize_with = "optional_object")]
    pub(crate) not: Option<Box<Requirements<'a>>>,
}

impl<'a> Rule<'a> {
    /// What the rule requires beside its lists, `not` aside.
    pub(crate) fn take_requirements(&mut self) -> Requirements<'a> {
        Requirements {
            headers: self.headers.take(),
            sources: self.sources.take(),
            listeners: self.listeners.take(),
            sni: self.sni.take(),
            tls: self.tls.take(),
            times: self.times.take(),
            scopes: self.scopes.take(),
            claims: self.claims.take(),
        }
    }
}

/// One rule about TCP connections: what a connection has none of (methods, paths, hosts, header fields, tokens), it cannot
/// ask for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TcpRule<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    allow: Option<Principals<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    deny: Option<Principals<'a>>,
    #[serde(default)]
    shadow: bool,
    #[serde(borrow, default, deserialize_with = "optional_object")]
    not: Option<Box<TcpRequirements<'a>>>,
    #[serde(borrow, default, deserialize_with = "boxed")]
    sources: Option<Box<List<'a>>>,
    #[serde(borrow, default, deserialize_with = "boxed")]
    listeners: Option<Box<List<'a>>>,
    #[serde(borrow, default, deserialize_with = "boxed")]
    sni: Option<Box<List<'a>>>,
    #[serde(borrow, default, deserialize_with = "optional_object")]
    tls: Option<Box<Tls<'a>>>,
    #[serde(borrow, default, deserialize_with = "boxed")]
    times: Option<Box<Windows<'a>>>,
}

impl<'a> From<TcpRule<'a>> for Rule<'a> {
    fn from(rule: TcpRule<'a>) -> Self {
        let TcpRule { id, allow, deny, shadow, not, sources, listeners, sni, tls, times } = rule;
        Self {
            id,
            allow,
            deny,
            methods: None,
            paths: None,
            hosts: None,
            scopes: None,
            claims: None,
            shadow,
            headers: None,
            sources,
            listeners,
            sni,
            tls,
            times,
            not: not.map(|not| Box::new((*not).into())),
        }
    }
}

/// Certificates that are no longer believed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Distrust<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    pub(crate) issued_before: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(crate) issuer: Option<Attributes<'a>>,
}

/// Certificates that are revoked one by one.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Revoked<'a> {
    #[serde(borrow, default)]
    pub(crate) serials: Vec<Text<'a>>,
    #[serde(borrow, default)]
    pub(crate) spki_sha256: Vec<Text<'a>>,
    #[serde(borrow, default)]
    pub(crate) sha256: Vec<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(crate) fresh_until: Option<Text<'a>>,
}
