//! A document to a policy: every name resolved, every pattern indexed, or the first thing that is wrong.

mod anchors;
mod claims;
mod drain;
mod forwarders;
mod member;
mod requirement;
mod revocations;
mod roles;
mod rules;
mod standing;
mod tests;
mod tokens;
mod value;

use std::mem;
use std::sync::Arc;

use crate::anchor::Anchors;
use crate::document;
use crate::document::Document;
use crate::document::Lists;
use crate::error::PolicyError;
use crate::error::PolicyProblem;
use crate::hex::Hex;
use crate::horizon::Windows;
use crate::path::Normalization;
use crate::pattern::Patterns;
use crate::policy::Policy;
use crate::policy::RuleSet;
use crate::policy::Settings;
use crate::render;
use crate::revocation;
use crate::revocation::Revocations;
use crate::spiffe;
use crate::strings::Strings;
use crate::token::provider::Providers;

pub(crate) use roles::RoleTable;
pub(crate) use tests::peer;

/// The version of the format that is read.
pub(crate) const FORMAT: u64 = 1;

/// Compiles a document.
///
/// # Errors
///
/// The first thing that is wrong, with its place.
pub(crate) fn compile(text: &[u8]) -> Result<Policy, PolicyError> {
    let mut document = document::read(text)?;
    let candidate = document.candidate.take();
    let anchors = Arc::new(anchors::compile(&document.anchors)?);
    let providers = Arc::new(tokens::compile(&document.tokens)?);
    let forwarders = mem::take(&mut document.forwarders);
    let own_xfcc = document.own_xfcc;
    let revocations = Arc::new(revocations::compile(document.revocations.take().as_deref())?);
    let shared = Shared { anchors, providers, forwarders, revocations };
    let mut policy = build(document, Lists::of_document(text), &shared)?;
    if let Some(document) = candidate {
        // It has this of the policy that it is beside.
        let document = Document { own_xfcc, ..(*document).into() };
        let mut candidate =
            build(document, Lists::of_candidate(text), &shared).map_err(|error| error.within("candidate"))?;
        candidate.version = version(&candidate);
        policy.needs = policy.needs.and(candidate.needs);
        policy.tcp_needs = policy.tcp_needs.and(candidate.tcp_needs);
        policy.candidate = Some(Box::new(candidate));
    }
    policy.version = version(&policy);
    Ok(policy)
}

/// What a policy and its candidate have in common.
struct Shared<'a> {
    anchors: Arc<Anchors>,
    providers: Arc<Providers>,
    forwarders: Vec<document::Forwarder<'a>>,
    revocations: Arc<Revocations>,
}

fn version(policy: &Policy) -> String {
    revocation::version_with(Hex(&render::digest(policy)).to_string(), &policy.standing.revocations)
}

fn build(document: Document<'_>, lists: Lists<'_>, shared: &Shared<'_>) -> Result<Policy, PolicyError> {
    let Shared { anchors, providers, forwarders, revocations } = shared;
    let settings = settings(&document)?;
    let Document { roles, rules, tcp, distrust, revoked, tests, .. } = document;

    let mut strings = Strings::new();
    let mut patterns = Patterns::default();
    let (roles, members) = roles::compile(roles, lists, anchors, providers, &mut strings, &mut patterns)?;
    let forwarders = forwarders::compile(forwarders, &roles, anchors, providers, &mut strings, &mut patterns)?;
    let RuleSet { rules, index } = rules::compile(rules, lists, &roles, &mut strings, &mut patterns)?;
    let tcp = rules::compile_tcp(tcp, &rules, &roles, &mut strings, &mut patterns)?;
    let standing = standing::compile(&distrust, &revoked, Arc::clone(revocations), anchors)?;
    let tests = tests::compile(tests, [&rules, &tcp.rules], providers, &strings, &standing)?;
    let (needs, tcp_needs) = (rules.needs(), tcp.rules.needs());
    let windows = Windows::of([&rules, &tcp.rules]);
    strings.shrink();
    patterns.shrink();
    Ok(Policy {
        settings,
        anchors: Arc::clone(anchors),
        providers: Arc::clone(providers),
        strings,
        patterns,
        roles,
        members,
        forwarders,
        rules,
        index,
        tcp,
        standing,
        tests,
        needs,
        tcp_needs,
        windows,
        candidate: None,
        version: String::new(),
    })
}

fn settings(document: &Document<'_>) -> Result<Settings, PolicyError> {
    if document.version != FORMAT {
        return Err(PolicyError::new("version", PolicyProblem::Version(document.version)));
    }
    let trust_domain = document.trust_domain.as_ref().map(|domain| domain.as_str().to_owned());
    if let Some(domain) = &trust_domain
        && !spiffe::is_trust_domain(domain)
    {
        return Err(PolicyError::new(
            "trust_domain",
            value::bad(domain, "a SPIFFE trust domain, such as `acme.example`"),
        ));
    }
    Ok(Settings {
        trust_domain,
        normalization: Normalization { normalize_path: document.normalize_path, merge_slashes: document.merge_slashes },
        allow_every: document.records.allow_every,
        own_xfcc: document.own_xfcc,
        drain: document.drain.as_deref().map(drain::compile).transpose()?,
    })
}
