//! What the filter counts. Names come from a fixed list, never from a request.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use portcullis_policy::Decision;
use portcullis_policy::Protocol;
use portcullis_policy::Reason;

use crate::host::HostError;
use crate::host::Metric;
use crate::tally::count;

thread_local! {
    /// Of the VM: a host makes a new metric for each definition, and a VM outlives many configurations.
    static COUNTERS: OnceCell<Rc<Counters>> = const { OnceCell::new() };
}

/// The metrics of this VM. Where several VMs share a proxy, one configuration counts once in each.
pub(crate) struct Counters {
    requests: Verdicts,
    connections: Verdicts,
    denied_for: BTreeMap<Reason, Metric>,
    ended_for: BTreeMap<Reason, Metric>,
    shadow: Divergences,
    candidate: Divergences,
    certificates_cached: Metric,
    certificates_parsed: Metric,
    configurations_accepted: Metric,
    configurations_refused: Metric,
    drain_warned: Metric,
    policy_rules: Metric,
    revocations_stale: Metric,
    signatures_by_filter: Metric,
    signatures_by_host: Metric,
    tokens_cached: Metric,
    tokens_refused: Metric,
    tokens_verified: Metric,
}

/// What was decided about requests, or about TCP connections.
struct Verdicts {
    allowed: Metric,
    denied: Metric,
    /// Those that were let through and were open until then.
    ended: Metric,
}

/// Requests about which another verdict differs from the one that was enforced.
struct Divergences {
    would_allow: Metric,
    would_deny: Metric,
    other_rule: Metric,
}

impl Divergences {
    fn define(whose: &str) -> Result<Self, HostError> {
        let counter = |what: &str| Metric::counter(&format!("portcullis.{whose}.{what}"));
        Ok(Self {
            would_allow: counter("would_allow")?,
            would_deny: counter("would_deny")?,
            other_rule: counter("other_rule")?,
        })
    }
}

impl Counters {
    /// The counters of this VM, defined at the first call. Call it from a root context.
    pub(crate) fn of_vm() -> Result<Rc<Self>, HostError> {
        COUNTERS.with(|counters| {
            if let Some(counters) = counters.get() {
                return Ok(Rc::clone(counters));
            }
            let defined = Rc::new(Self::define()?);
            Ok(Rc::clone(counters.get_or_init(|| defined)))
        })
    }

    fn define() -> Result<Self, HostError> {
        let for_each_refusal = |what: &str| -> Result<BTreeMap<Reason, Metric>, HostError> {
            let refusals = Reason::ALL.iter().filter(|reason| reason.status() >= 400);
            let metric = |reason: &Reason| Metric::counter(&format!("portcullis.{what}.{}", reason.code()));
            refusals.map(|reason| Ok((*reason, metric(reason)?))).collect()
        };
        Ok(Self {
            requests: Verdicts {
                allowed: Metric::counter("portcullis.requests.allowed")?,
                denied: Metric::counter("portcullis.requests.denied")?,
                ended: Metric::counter("portcullis.streams.ended")?,
            },
            connections: Verdicts {
                allowed: Metric::counter("portcullis.connections.allowed")?,
                denied: Metric::counter("portcullis.connections.denied")?,
                ended: Metric::counter("portcullis.connections.ended")?,
            },
            denied_for: for_each_refusal("denied")?,
            ended_for: for_each_refusal("ended")?,
            shadow: Divergences::define("shadow")?,
            candidate: Divergences::define("candidate")?,
            certificates_cached: Metric::counter("portcullis.certificates.cached")?,
            certificates_parsed: Metric::counter("portcullis.certificates.parsed")?,
            configurations_accepted: Metric::counter("portcullis.configurations.accepted")?,
            configurations_refused: Metric::counter("portcullis.configurations.refused")?,
            drain_warned: Metric::counter("portcullis.drain.warned")?,
            policy_rules: Metric::gauge("portcullis.policy.rules")?,
            signatures_by_filter: Metric::counter("portcullis.signatures.by_filter")?,
            signatures_by_host: Metric::counter("portcullis.signatures.by_host")?,
            revocations_stale: Metric::counter("portcullis.revocations.stale")?,
            tokens_cached: Metric::counter("portcullis.tokens.cached")?,
            tokens_refused: Metric::counter("portcullis.tokens.refused")?,
            tokens_verified: Metric::counter("portcullis.tokens.verified")?,
        })
    }

    pub(crate) fn allowed(&self, protocol: Protocol) {
        count(self.verdicts(protocol).allowed);
    }

    pub(crate) fn denied(&self, protocol: Protocol, reason: Reason) {
        count(self.verdicts(protocol).denied);
        if let Some(metric) = self.denied_for.get(&reason) {
            count(*metric);
        }
    }

    /// Counts a stream that was ended while it was open.
    pub(crate) fn ended(&self, protocol: Protocol, reason: Reason) {
        count(self.verdicts(protocol).ended);
        if let Some(metric) = self.ended_for.get(&reason) {
            count(*metric);
        }
    }

    fn verdicts(&self, protocol: Protocol) -> &Verdicts {
        match protocol {
            Protocol::Http => &self.requests,
            Protocol::Tcp => &self.connections,
        }
    }

    /// Counts what shadow rules and a candidate would have made of a decision.
    pub(crate) fn diverged(&self, decision: &Decision<'_>) {
        let verdicts = [(&self.shadow, decision.shadow()), (&self.candidate, decision.candidate())];
        for (divergences, other) in verdicts {
            let Some(other) = other else { continue };
            match (decision.is_allowed(), other.is_allowed()) {
                (true, false) => count(divergences.would_deny),
                (false, true) => count(divergences.would_allow),
                (true, true) | (false, false) => count(divergences.other_rule),
            }
        }
    }

    pub(crate) fn certificate_cached(&self) {
        count(self.certificates_cached);
    }

    pub(crate) fn certificate_parsed(&self) {
        count(self.certificates_parsed);
    }

    /// Counts a signature, good or bad, whose arithmetic was done in here.
    pub(crate) fn signature_by_filter(&self) {
        count(self.signatures_by_filter);
    }

    /// Counts one that the host's library was asked about and answered.
    pub(crate) fn signature_by_host(&self) {
        count(self.signatures_by_host);
    }

    /// A request that was decided with a set of revocations older than it may be.
    pub(crate) fn revocations_stale(&self) {
        count(self.revocations_stale);
    }

    /// Counts a request whose sender is told that the connection's certificate is about to end.
    pub(crate) fn drain_warned(&self) {
        count(self.drain_warned);
    }

    pub(crate) fn token_cached(&self) {
        count(self.tokens_cached);
    }

    pub(crate) fn token_refused(&self) {
        count(self.tokens_refused);
    }

    pub(crate) fn token_verified(&self) {
        count(self.tokens_verified);
    }

    pub(crate) fn configuration_accepted(&self, rules: usize) {
        count(self.configurations_accepted);
        self.policy_rules.set(u64::try_from(rules).unwrap_or(u64::MAX));
    }

    pub(crate) fn configuration_refused(&self) {
        count(self.configurations_refused);
    }
}
