//! What the filter counts. Names come from a fixed list, never from a request.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use portcullis_policy::Reason;

use crate::host::HostError;
use crate::host::Metric;

thread_local! {
    /// Of the VM: a host makes a new metric for each definition, and a VM outlives many configurations.
    static COUNTERS: OnceCell<Rc<Counters>> = const { OnceCell::new() };
}

/// The metrics of this VM. Where several VMs share a proxy, one configuration counts once in each.
pub(crate) struct Counters {
    allowed: Metric,
    denied: Metric,
    denied_for: BTreeMap<Reason, Metric>,
    certificates_cached: Metric,
    certificates_parsed: Metric,
    configurations_accepted: Metric,
    configurations_refused: Metric,
    policy_rules: Metric,
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
        let mut denied_for = BTreeMap::new();
        for &reason in Reason::ALL.iter().filter(|reason| reason.status() >= 400) {
            let name = format!("portcullis.denied.{}", reason.code());
            denied_for.insert(reason, Metric::counter(&name)?);
        }
        Ok(Self {
            allowed: Metric::counter("portcullis.requests.allowed")?,
            denied: Metric::counter("portcullis.requests.denied")?,
            denied_for,
            certificates_cached: Metric::counter("portcullis.certificates.cached")?,
            certificates_parsed: Metric::counter("portcullis.certificates.parsed")?,
            configurations_accepted: Metric::counter("portcullis.configurations.accepted")?,
            configurations_refused: Metric::counter("portcullis.configurations.refused")?,
            policy_rules: Metric::gauge("portcullis.policy.rules")?,
        })
    }

    pub(crate) fn request_allowed(&self) {
        self.allowed.count();
    }

    pub(crate) fn request_denied(&self, reason: Reason) {
        self.denied.count();
        if let Some(metric) = self.denied_for.get(&reason) {
            metric.count();
        }
    }

    pub(crate) fn certificate_cached(&self) {
        self.certificates_cached.count();
    }

    pub(crate) fn certificate_parsed(&self) {
        self.certificates_parsed.count();
    }

    pub(crate) fn configuration_accepted(&self, rules: usize) {
        self.configurations_accepted.count();
        self.policy_rules.set(u64::try_from(rules).unwrap_or(u64::MAX));
    }

    pub(crate) fn configuration_refused(&self) {
        self.configurations_refused.count();
    }
}
