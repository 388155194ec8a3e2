//! The intermediates of the roots: carries out the steps that the core names ([`portcullis_policy::intermediate`]). A certificate
//! that is kept is the truth; what was told of it, and which one signs, is in the record.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use portcullis_policy::UnixTime;
use portcullis_policy::intermediate;
use portcullis_policy::intermediate::Facts;
use portcullis_policy::intermediate::Step;
use portcullis_policy::intermediate::Wait;

use super::LONG;
use super::Succession;
use super::SuccessionError;
use crate::audit::Event;
use crate::audit::Kind;
use crate::ca::Authority;
use crate::ca::offline;
use crate::config;
use crate::leaf;
use crate::remedy::Failure;
use crate::remedy::Report;
use crate::rotation::failpoint;
use crate::status::IntermediateStatus;

/// A signature that is wanted is asked for again after this time, and then more and more seldom.
const AGAIN: Duration = Duration::from_secs(6 * 3_600);

/// What the failpoints of this are called, in their order.
pub const FAILPOINTS: [&str; 5] =
    ["intermediate-make", "intermediate-key", "intermediate-made", "intermediate-switch", "intermediate-switched"];

/// How it stands with the intermediates.
#[derive(Default)]
pub(super) struct Standing {
    /// Whether an operator wants another one.
    pub(super) insists: bool,
    /// What is waited for, and until when.
    waits: Option<(Wait, Option<UnixTime>)>,
    /// What was asked for, when last, and how often.
    wanted: Option<(String, Instant, u32)>,
}

impl Succession {
    /// Has the intermediates follow each other.
    pub(super) async fn keep_below(&mut self) -> Result<(), SuccessionError> {
        let Some(wanted) = self.config.borrow().ca.intermediate else { return Ok(()) };
        let issuing = self.context.authorities.issuing();
        self.keep_others(&issuing)?;
        loop {
            self.tell_of_newest(&issuing)?;
            let facts = self.facts_of(&issuing);
            match intermediate::next(&facts, wanted.rotate_after, leaf::now()) {
                Step::Make => {
                    failpoint::hit("intermediate-make");
                    self.make_below(&issuing)?;
                    self.push().await;
                }
                Step::Switch => {
                    failpoint::hit("intermediate-switch");
                    self.switch_below(&issuing)?;
                }
                Step::Ask => {
                    self.below.waits = None;
                    self.want(&issuing);
                    break;
                }
                Step::Wait { until, reason } => {
                    self.wants_no_more();
                    if matches!(reason, Wait::Policy) && self.below.waits.is_none_or(|(before, _)| before != reason) {
                        tracing::warn!(waits_for = describe(reason, &issuing), "leaves are signed by the root itself");
                    }
                    self.below.waits = Some((reason, until));
                    break;
                }
            }
        }
        self.remove_below().await
    }

    /// One that waits to follow a root, or that others were issued certificates under, has to have one that is good.
    fn keep_others(&self, issuing: &Arc<Authority>) -> Result<(), SuccessionError> {
        let now = leaf::now();
        let others = self.loaded.iter().map(|(_, root)| root).filter(|root| root.leaf() != issuing.leaf());
        for root in others.filter(|root| root.has_key() && root.leaf().validity.holds(now)) {
            if root.newest().is_some_and(|newest| newest.leaf().validity.has_ended(now)) {
                self.make_below(root)?;
            }
        }
        Ok(())
    }

    fn facts_of(&self, root: &Arc<Authority>) -> Facts {
        let (newest, signs) = (root.newest(), root.signing());
        let is = |one: &Arc<crate::ca::Intermediate>| Some(one.leaf()) == newest.as_ref().map(|newest| newest.leaf());
        let is_used = signs.as_ref().is_some_and(is);
        let behind = if newest.is_none() || is_used { 0 } else { self.behind() };
        Facts {
            newest: newest.as_ref().map(|one| one.leaf().validity),
            is_used,
            older: signs.filter(|_| !is_used).map(|one| one.leaf().validity),
            behind,
            has_root_key: root.has_key(),
            root_until: root.leaf().validity.not_after,
            // Asked only where it matters: a policy may be long.
            is_named: newest.is_none() && (!offline::may_have_below(root.der()) || self.gate.names(root)),
            clock_in_doubt: self.context.clock.is_in_doubt(LONG, 0),
            is_wanted: self.below.insists,
        }
    }

    /// Bundles that not every proxy took yet as they are: a proxy without the list of who signed refuses everybody.
    fn behind(&self) -> usize {
        let publisher = &self.context.publisher;
        let is_filling = publisher.is_filling();
        let is_behind = |name: &str, version: &str| {
            is_filling || !publisher.is_newest(name, version) || publisher.acknowledged(name) == Some(false)
        };
        self.trust.statuses().iter().filter(|bundle| is_behind(&bundle.name, &bundle.version)).count()
    }

    fn make_below(&self, root: &Arc<Authority>) -> Result<(), SuccessionError> {
        let made = root.make_intermediate(&self.config.borrow().ca, leaf::now()).map_err(SuccessionError::Below)?;
        let leaf = made.leaf();
        tracing::info!(
            serial = leaf.serial,
            until = %leaf::timestamp(leaf.validity.not_after),
            "the root signed another intermediate"
        );
        Ok(())
    }

    /// Takes what was signed elsewhere.
    pub(super) async fn install_below(&mut self, chain_pem: &str) -> Result<(), SuccessionError> {
        let issuing = self.context.authorities.issuing();
        let domain = self.config.borrow().ca.trust_domain.clone();
        issuing.install(chain_pem, &domain, leaf::now()).map_err(SuccessionError::Below)?;
        self.below.insists = true;
        self.tell_of_newest(&issuing)?;
        self.push().await;
        self.keep_below().await
    }

    /// Writes down once that there is another one, whatever killed the agent before it could.
    fn tell_of_newest(&mut self, root: &Arc<Authority>) -> Result<(), SuccessionError> {
        let Some(newest) = root.newest() else { return Ok(()) };
        let (of, sha256) = (root.leaf().sha256.clone(), newest.leaf().sha256.clone());
        let record = self.journal().record();
        let known = record.below.get(&of);
        if known.is_some_and(|below| below.newest.as_ref() == Some(&sha256)) {
            return Ok(());
        }
        let by = if self.below.insists { "operator" } else { "schedule" };
        let signs = root.signing().map(|one| one.leaf().clone());
        let old = signs.as_ref().filter(|signs| signs.sha256 != sha256).map(|signs| signs.serial.as_str());
        let event = Event::new(Kind::IntermediateMade, "ca").by(by).change(old, Some(&newest.leaf().serial));
        let told = self.journal().change(&[event], |record| {
            let below = record.below.entry(of).or_default();
            (below.newest, below.signs) = (Some(sha256), signs.map(|signs| signs.sha256));
        });
        told.map_err(SuccessionError::Store)?;
        self.below.insists = false;
        self.context.noted.notify_one();
        Ok(())
    }

    fn switch_below(&self, root: &Arc<Authority>) -> Result<(), SuccessionError> {
        let Some(newest) = root.newest() else { return Ok(()) };
        let (of, sha256) = (root.leaf().sha256.clone(), newest.leaf().sha256.clone());
        let old = root.signing().map(|one| one.leaf().serial.clone());
        let event = Event::new(Kind::IntermediateSwitched, "ca").change(old.as_deref(), Some(&newest.leaf().serial));
        let named = sha256.clone();
        let switched = self.journal().change(&[event], |record| {
            record.below.entry(of).or_default().signs = Some(named);
        });
        switched.map_err(SuccessionError::Store)?;
        failpoint::hit("intermediate-switched");
        root.sign_with(&sha256);
        tracing::info!(serial = newest.leaf().serial, "leaves are signed by another intermediate");
        self.context.noted.notify_one();
        Ok(())
    }

    /// Destroys the keys of those that have ended.
    async fn remove_below(&self) -> Result<(), SuccessionError> {
        if self.context.clock.is_in_doubt(LONG, 0) {
            return Ok(());
        }
        let mut any = false;
        for (_, root) in &self.loaded {
            for gone in root.remove_ended(leaf::now()).map_err(SuccessionError::Below)? {
                any = true;
                self.note(&Event::new(Kind::IntermediateRemoved, "ca").change(Some(&gone.leaf().serial), None));
            }
        }
        if any {
            self.push().await;
        }
        Ok(())
    }

    /// Says that somebody who has the root's key is wanted: at once, and again, ever more seldom.
    fn want(&mut self, root: &Arc<Authority>) {
        let signs = root.signing();
        let until = signs.as_ref().map(|one| leaf::timestamp(one.leaf().validity.not_after));
        let what = match until {
            Some(until) => format!("the intermediate ends at {until}, and nothing is signed after that"),
            None => "there is no intermediate, and nothing is signed".to_owned(),
        };
        let text = format!(
            "{what}: `portcullis ca request` here, `portcullis ca sign` where the root's key is, `portcullis ca install` here"
        );
        let times = match &self.below.wanted {
            Some((before, last, _)) if *before == text && last.elapsed() < AGAIN => return,
            Some((before, _, times)) if *before == text => times.saturating_add(1),
            _ => {
                tracing::error!(text, "a signature of the root is wanted");
                self.note(&Event::new(Kind::Alarm, "ca").because(text.clone()));
                1
            }
        };
        self.context.remedies.tell(Report {
            failure: Failure::SignatureWanted,
            name: "ca".to_owned(),
            identity: self.context.trust_domain.clone(),
            step: "request",
            error: text.clone(),
            failures: times,
            tried: Vec::new(),
            next_attempt: None,
            outage_at: until,
        });
        self.below.wanted = Some((text, Instant::now(), times));
    }

    fn wants_no_more(&mut self) {
        if let Some((text, ..)) = self.below.wanted.take() {
            self.note(&Event::new(Kind::AlarmCleared, "ca").because(text));
            self.context.remedies.is_well("ca");
        }
    }

    /// For the status: the one that signs, and what is wanted of others.
    pub(super) fn below_status(&self) -> (Option<IntermediateStatus>, Option<String>) {
        let issuing = self.context.authorities.issuing();
        let wanted = self.below.wanted.as_ref().map(|(text, ..)| text.clone());
        let Some(signs) = issuing.signing() else { return (None, wanted) };
        let leaf = signs.leaf();
        let (waits_for, next) = match self.below.waits {
            Some((Wait::Due, until)) => (None, until),
            Some((reason, until)) => (Some(describe(reason, &issuing)), until),
            None => (wanted.as_ref().map(|_| "somebody who has the root's key".to_owned()), None),
        };
        let status = IntermediateStatus {
            serial: leaf.serial.clone(),
            sha256: leaf.sha256.clone(),
            not_before: leaf::timestamp(leaf.validity.not_before),
            not_after: leaf::timestamp(leaf.validity.not_after),
            next: next.map(leaf::timestamp),
            waits_for,
        };
        (Some(status), wanted)
    }

    /// Why an operator cannot have another one, if so.
    pub(super) fn may_insist(&self, config: &config::Ca) -> Result<(), &'static str> {
        let issuing = self.context.authorities.issuing();
        let newest = issuing.newest().map(|one| one.leaf().clone());
        if config.intermediate.is_none() {
            return Err(
                "leaves are signed by the root itself: say `intermediate: {}` below `ca` and restart the agent",
            );
        }
        if !issuing.has_key() {
            return Err(
                "the root's key is kept elsewhere: `portcullis ca request` here, `portcullis ca sign` there, `portcullis ca install` here",
            );
        }
        if !offline::may_have_below(issuing.der()) {
            return Err("the root allows no authority below it; `portcullis ca rotate` has one follow that does");
        }
        if newest != issuing.signing().map(|one| one.leaf().clone()) {
            return Err("another one is there already and signs as soon as every proxy took the bundles");
        }
        Ok(())
    }
}

fn describe(reason: Wait, root: &Authority) -> String {
    match reason {
        Wait::Behind(1) => "one bundle to be taken by every proxy".to_owned(),
        Wait::Behind(count) => format!("{count} bundles to be taken by every proxy"),
        Wait::Clock => "the clock, which was set a moment ago".to_owned(),
        Wait::Due => "its time".to_owned(),
        Wait::Policy if !offline::may_have_below(root.der()) => {
            "a root that allows authorities below it: `portcullis ca rotate`".to_owned()
        }
        Wait::Policy => {
            "the policy, which names the root (`anchors`, `issuer`) and would refuse what is below it".to_owned()
        }
        Wait::Root => "another root, for this one ends as well: `portcullis ca rotate`".to_owned(),
    }
}

/// Puts in force what the record says of who signs.
pub(super) fn recall(root: &Authority, record: &crate::ca::Record) {
    let below = record.below.get(&root.leaf().sha256);
    if let Some(signs) = below.and_then(|below| below.signs.as_ref())
        && root
            .intermediates()
            .iter()
            .any(|one| one.leaf().sha256 == *signs && !one.leaf().validity.has_ended(leaf::now()))
    {
        root.sign_with(signs);
    }
}
