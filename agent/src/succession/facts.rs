//! What is seen of a root's way into the bundles and out of them.

use std::sync::Arc;

use portcullis_policy::UnixTime;
use portcullis_policy::succession::Facts;
use portcullis_policy::succession::Wait;

use super::LONG;
use crate::ca::Kept;
use crate::ca::Turn;
use crate::config::Config;
use crate::gate::Gate;
use crate::leaf;
use crate::leaf::Leaf;
use crate::rotation::Context;
use crate::rotation::Footing;
use crate::status::BundleStatus;
use crate::status::RootStatus;

/// The facts, and words for them.
pub(super) struct Seen {
    pub(super) facts: Facts,
    /// Who does not have it yet.
    pub(super) behind: Vec<String>,
    /// Who has it.
    pub(super) proof: String,
}

/// Looks at every bundle and every certificate of the configuration.
pub(super) fn look(
    context: &Arc<Context>,
    config: &Config,
    bundles: &[BundleStatus],
    gate: &Gate,
    turn: &Turn,
) -> Seen {
    let proxies = context.publisher.proxies().len();
    let mut behind = Vec::new();
    for bundle in bundles {
        let name = &bundle.name;
        if !context.publisher.is_newest(name, &bundle.version) {
            behind.push(format!("bundle `{name}` could not be pushed"));
        }
        match context.publisher.acknowledged(name) {
            Some(true) => {}
            Some(false) => behind.push(format!("bundle `{name}` was not taken by every proxy yet")),
            // One that no connected proxy asks for holds up nobody.
            None if proxies > 0 => {}
            None => behind.push(format!("no proxy is connected that could take bundle `{name}`")),
        }
    }
    // What counts is who asks for a bundle: one that is still asking for all that it needs may be behind.
    if !bundles.is_empty() && context.publisher.is_filling() {
        behind.push(
            "a proxy that came a moment ago, or is on its way back, may not have asked for everything yet".to_owned(),
        );
    }
    let authorities = &context.authorities;
    behind.extend(policy(context, config, gate, turn));
    let (pem, roots) = (authorities.pem(), authorities.trusted().len());
    let (mut ours, mut directories) = (0, 0);
    let now = leaf::now();
    for certificate in &config.certificates {
        let Some(standing) = context.tally.of(&certificate.name) else { continue };
        if !standing.is_built_in {
            continue;
        }
        if is_under(&standing, turn, now) {
            ours += 1;
        }
        if certificate.files.is_some() {
            directories += 1;
            let has_all = standing.ca_pem.as_ref().map_or(roots == 1, |had| *had == pem);
            if !has_all || !standing.is_settled {
                behind.push(format!("the files of `{}` do not have it yet", certificate.name));
            }
        }
    }
    let record = context.roots.journal().record();
    let facts = Facts {
        behind: behind.len(),
        ours,
        unaware_until: turn.unaware_until,
        others_until: record.ends.get(&turn.from.sha256).copied(),
        clock_in_doubt: context.clock.is_in_doubt(LONG, 0),
    };
    let proof = format!("{} bundles at {proxies} proxies, {directories} directories", bundles.len());
    Seen { facts, behind, proof }
}

/// What the policy lacks: one that believes the old root by name has to believe the new one as well, at every proxy. That it names
/// a root which is gone harms nobody.
fn policy(context: &Context, config: &Config, gate: &Gate, turn: &Turn) -> Option<String> {
    let filter = config.filter.as_ref()?;
    let trusted = context.authorities.trusted();
    let names =
        |kept: &Kept| trusted.iter().find(|root| root.leaf().sha256 == kept.sha256).map(|root| gate.names(root));
    let (old, new) = (names(&turn.from), turn.to.as_ref().and_then(names));
    match (old, new) {
        (Some(true), Some(false)) => Some(
            "the policy names the old root (`anchors`, `issuer`) and not the new one: add it there, `portcullis ca show` \
             prints it"
                .to_owned(),
        ),
        (Some(true), Some(true))
            if context.publisher.is_expecting()
                || context.publisher.all_acknowledged(&filter.names()) == Some(false) =>
        {
            Some("the policy was not taken by every proxy yet".to_owned())
        }
        _ => None,
    }
}

/// A root, for the status.
pub(super) fn root(leaf: &Leaf, signs: bool, others_until: Option<UnixTime>) -> RootStatus {
    RootStatus {
        sha256: leaf.sha256.clone(),
        not_before: leaf::timestamp(leaf.validity.not_before),
        not_after: leaf::timestamp(leaf.validity.not_after),
        signs,
        others_until: others_until.map(leaf::timestamp),
    }
}

/// Whether a certificate is under the old root, for all that is known: what an older agent wrote is, and so may be what the
/// stored one replaces until that is seen in use, or has ended.
fn is_under(standing: &Footing, turn: &Turn, now: UnixTime) -> bool {
    let may_be_older = !standing.is_settled && standing.replaced_until.is_some_and(|until| now <= until);
    may_be_older || standing.root.as_ref().is_none_or(|root| *root == turn.from.sha256)
}

/// What is waited for, in words.
pub(super) fn describe(reason: Wait, behind: &[String]) -> String {
    match reason {
        Wait::Behind(_) => match behind {
            [] => "bundles".to_owned(),
            [one] => one.clone(),
            [first, more @ ..] => format!("{first}, and {} more like it", more.len()),
        },
        Wait::Clock => "the clock, which was set or was not watched for long enough to destroy a key by it".to_owned(),
        Wait::Others => "the end of what others were issued under the old root".to_owned(),
        Wait::Ours(1) => "one certificate to be replaced and seen in use".to_owned(),
        Wait::Ours(ours) => format!("{ours} certificates to be replaced and seen in use"),
        Wait::Unaware => "the end of what others were issued before, who may know the old root only; `portcullis ca \
                          switch` if they know the new one"
            .to_owned(),
    }
}
