//! What Prometheus reads: names, units and labels.
//!
//! Times are Unix seconds, never "seconds left": an alert subtracts them from `time()`, and a dead agent does not freeze
//! a countdown. Labels take values from the configuration and from enums, never from peers.

mod credentials;

use std::fmt;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;

use jiff::Timestamp;
use portcullis_policy::succession::Edge;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::EncodeLabelValue;
use prometheus_client::encoding::LabelValueEncoder;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use credentials::Credentials;

use crate::resource::Outcome;
use crate::status::CaStatus;
use crate::status::CertificateStatus;
use crate::status::Status;

/// The media type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All states of a certificate, so that each has its series whatever the certificate's state is.
const STATES: [&str; 8] = ["planned", "journalled", "obtained", "checked", "staged", "installed", "served", "retired"];

/// The agent's metrics. Clones share one registry.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Locked also while gauges are set, so that no reader sees them half set.
    registry: Mutex<Registry>,
    gauges: Gauges,
    rotations: Family<RotationLabels, Counter>,
    nacks: Family<ResourceLabels, Counter>,
    last_success: Family<NameLabels, Gauge>,
    audit_broken: Gauge,
    clock_offset: Gauge,
    keys_not_fetched: Family<CauseLabels, Counter>,
    lists_refused: Family<RefusalLabels, Counter>,
    credentials: Credentials,
}

/// Everything that a [`Status`] determines.
#[derive(Debug, Default)]
struct Gauges {
    not_after: Family<NameLabels, Gauge>,
    not_before: Family<NameLabels, Gauge>,
    renew_at: Family<NameLabels, Gauge>,
    served_not_after: Family<ServedLabels, Gauge>,
    served_current: Family<ServedLabels, Gauge>,
    served_expired: Family<AddressLabels, Gauge>,
    issued_to_served: Family<NameLabels, Gauge<f64, AtomicU64>>,
    chain_not_after: Family<EntryLabels, Gauge>,
    bundle_not_after: Family<EntryLabels, Gauge>,
    bundle_not_before: Family<EntryLabels, Gauge>,
    next_attempt: Family<NameLabels, Gauge>,
    failures: Family<NameLabels, Gauge>,
    left_out: Family<NameLabels, Gauge>,
    state: Family<StateLabels, Gauge>,
    policy: Family<VersionLabels, Gauge>,
    policy_acknowledged: Gauge,
    provider_keys: Family<ProviderLabels, Gauge>,
    provider_fetched: Family<ProviderLabels, Gauge>,
    proxies: Gauge,
    ready: Gauge,
    revoked_keys: Gauge,
    revoked_brakes: Gauge,
    list_entries: Family<ListLabels, Gauge>,
    list_next_update: Family<ListLabels, Gauge>,
    list_this_update: Family<ListLabels, Gauge>,
    root_not_before: Family<RootLabels, Gauge>,
    root_not_after: Family<RootLabels, Gauge>,
    root_others_until: Family<RootLabels, Gauge>,
    root_step: Family<StepLabels, Gauge>,
    root_next: Gauge,
    intermediate_not_before: Family<AuthorityLabels, Gauge>,
    intermediate_not_after: Family<AuthorityLabels, Gauge>,
    intermediate_wanted: Gauge,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RotationResult {
    /// It failed at the step.
    Failure,
    /// It is served.
    Success,
}

impl EncodeLabelValue for RotationResult {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(match self {
            Self::Failure => "failure",
            Self::Success => "success",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AuthorityLabels {
    sha256: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RootLabels {
    sha256: String,
    signs: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabels {
    step: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListLabels {
    list: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    cause: &'static str,
    list: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NameLabels {
    name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServedLabels {
    name: String,
    address: String,
    sni: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AddressLabels {
    name: String,
    address: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EntryLabels {
    name: String,
    sha256: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    name: String,
    state: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RotationLabels {
    name: String,
    result: RotationResult,
    step: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResourceLabels {
    resource: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProviderLabels {
    provider: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabels {
    cause: String,
    provider: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VersionLabels {
    version: String,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All of them, at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("portcullis");
        let gauges = Gauges::default();
        gauges.register(&mut registry);
        let rotations = Family::default();
        let nacks = Family::default();
        let last_success = Family::default();
        registry.register(
            "rotation",
            "Attempts to rotate a certificate that ended, by their last step",
            rotations.clone(),
        );
        registry.register("xds_nack", "Versions of a resource that a proxy refused", nacks.clone());
        registry.register(
            "last_success_timestamp_seconds",
            "When a rotation of the certificate was last completed",
            last_success.clone(),
        );
        let audit_broken = Gauge::default();
        registry.register(
            "audit_broken",
            "Whether events wait because the audit log cannot be written",
            audit_broken.clone(),
        );
        let clock_offset = Gauge::default();
        registry.register(
            "clock_offset_seconds",
            "By how much an issuer's clock was ahead when it was last asked, which is after a jump of ours",
            clock_offset.clone(),
        );
        let keys_not_fetched = Family::default();
        registry.register(
            "jwks_fetch_failures",
            "Attempts to fetch a provider's keys that failed, by cause",
            keys_not_fetched.clone(),
        );
        let lists_refused = Family::default();
        registry.register(
            "revocation_list_refused",
            "Revocation lists of an authority that were refused or could not be fetched, by cause",
            lists_refused.clone(),
        );
        let credentials = Credentials::default();
        credentials.register(&mut registry);
        let version = VersionLabels { version: env!("CARGO_PKG_VERSION").to_owned() };
        registry.register("build", "Version of the agent", Info::new(version));
        Self(Arc::new(Inner {
            registry: Mutex::new(registry),
            gauges,
            rotations,
            nacks,
            last_success,
            audit_broken,
            clock_offset,
            keys_not_fetched,
            lists_refused,
            credentials,
        }))
    }

    /// Sets every gauge from the picture; what left the picture leaves the metrics. Done at every scrape.
    pub fn update(&self, status: &Status) {
        let _locked = self.0.registry.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.gauges.set(status, Timestamp::now());
        self.0.credentials.set(&status.credentials);
    }

    /// Counts it, if it is a refusal.
    pub fn outcome(&self, outcome: &Outcome) {
        if let Outcome::Refused { name, .. } = outcome {
            self.0.nacks.get_or_create(&ResourceLabels { resource: name.clone() }).inc();
        }
    }

    /// Counts an attempt to fetch keys that failed, by its stable cause.
    pub fn keys_not_fetched(&self, provider: &str, cause: &str) {
        let labels = CauseLabels { cause: cause.to_owned(), provider: provider.to_owned() };
        self.0.keys_not_fetched.get_or_create(&labels).inc();
    }

    /// Counts a revocation list that was refused, by its stable cause.
    pub fn list_refused(&self, list: &str, cause: &'static str) {
        self.0.lists_refused.get_or_create(&RefusalLabels { list: list.to_owned(), cause }).inc();
    }

    /// Counts an attempt that ended: `step` is the last step taken.
    pub fn rotation(&self, name: &str, step: &str, result: RotationResult) {
        let labels = RotationLabels { name: name.to_owned(), result, step: step.to_owned() };
        self.0.rotations.get_or_create(&labels).inc();
        if result == RotationResult::Success {
            let now = Timestamp::now().as_second();
            self.0.last_success.get_or_create(&NameLabels { name: name.to_owned() }).set(now);
        }
    }

    /// Counts an attempt to rotate a credential that ended.
    pub fn credential(&self, name: &str, step: &'static str, is_success: bool) {
        self.0.credentials.ended(name, step, is_success);
    }

    /// Dates the last success of a certificate that was found in the store, where nothing newer is known.
    pub fn succeeded_before(&self, name: &str, at: i64) {
        let gauge = self.0.last_success.get_or_create_owned(&NameLabels { name: name.to_owned() });
        gauge.set(gauge.get().max(at));
    }

    /// Says whether the audit log can be written.
    pub fn audit(&self, is_written: bool) {
        self.0.audit_broken.set((!is_written).into());
    }

    /// Notes by how many seconds an issuer's clock is ahead.
    pub fn clock_offset(&self, seconds: i64) {
        self.0.clock_offset.set(seconds);
    }

    /// The exposition in OpenMetrics text, of type [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let registry = self.0.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut exposition = String::new();
        // Writing to a `String` does not fail, and the encoder has no other error.
        let _ = text::encode(&mut exposition, &registry);
        exposition
    }
}

impl Gauges {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "ca_root_not_before_timestamp_seconds",
            "Start of validity of a root of the built-in CA that is trusted",
            self.root_not_before.clone(),
        );
        registry.register(
            "ca_root_not_after_timestamp_seconds",
            "End of validity of a root of the built-in CA that is trusted",
            self.root_not_after.clone(),
        );
        registry.register(
            "ca_root_others_until_timestamp_seconds",
            "End of what others were issued under a root of the built-in CA; 0 if there is none",
            self.root_others_until.clone(),
        );
        registry.register(
            "ca_root_step",
            "Which step is being taken while one root of the built-in CA follows another",
            self.root_step.clone(),
        );
        registry.register(
            "ca_root_next_timestamp_seconds",
            "When another root begins to follow by itself; 0 if it has to be asked for",
            self.root_next.clone(),
        );
        registry.register(
            "ca_intermediate_not_before_timestamp_seconds",
            "Start of validity of the intermediate of the built-in CA that signs",
            self.intermediate_not_before.clone(),
        );
        registry.register(
            "ca_intermediate_not_after_timestamp_seconds",
            "End of validity of the intermediate of the built-in CA that signs",
            self.intermediate_not_after.clone(),
        );
        registry.register(
            "ca_intermediate_wanted",
            "Whether somebody who has the root's key has to sign the next intermediate",
            self.intermediate_wanted.clone(),
        );
        registry.register(
            "certificate_not_after_timestamp_seconds",
            "End of validity of the stored certificate",
            self.not_after.clone(),
        );
        registry.register(
            "certificate_not_before_timestamp_seconds",
            "Start of validity of the stored certificate",
            self.not_before.clone(),
        );
        registry.register(
            "certificate_chain_not_after_timestamp_seconds",
            "End of validity of an authority that comes with the stored certificate",
            self.chain_not_after.clone(),
        );
        registry.register(
            "certificate_renew_at_timestamp_seconds",
            "When the renewal of the stored certificate is planned",
            self.renew_at.clone(),
        );
        registry.register(
            "certificate_served_not_after_timestamp_seconds",
            "End of validity of the certificate seen at a listener",
            self.served_not_after.clone(),
        );
        registry.register(
            "certificate_served_current",
            "Whether a listener serves the stored certificate, in its validity",
            self.served_current.clone(),
        );
        registry.register(
            "served_expired",
            "Whether a listener serves an expired certificate",
            self.served_expired.clone(),
        );
        registry.register(
            "certificate_issued_to_served_seconds",
            "How long the last rotation took from issued to proven served",
            self.issued_to_served.clone(),
        );
        registry.register(
            "bundle_entry_not_after_timestamp_seconds",
            "End of validity of an authority in a trust bundle",
            self.bundle_not_after.clone(),
        );
        registry.register(
            "bundle_entry_not_before_timestamp_seconds",
            "Start of validity of an authority in a trust bundle",
            self.bundle_not_before.clone(),
        );
        registry.register(
            "next_attempt_timestamp_seconds",
            "When the next attempt to rotate is due",
            self.next_attempt.clone(),
        );
        registry.register(
            "certificate_names_left_out",
            "Names of the configuration that the stored certificate is without, for the issuer does not accept them",
            self.left_out.clone(),
        );
        registry.register("certificate_failures", "Attempts that failed since the last success", self.failures.clone());
        registry.register(
            "certificate_state",
            "The state that the certificate is in has 1, all others 0",
            self.state.clone(),
        );
        registry.register("policy_info", "Version of the policy that is pushed", self.policy.clone());
        registry.register(
            "policy_acknowledged",
            "Whether every connected proxy took the policy",
            self.policy_acknowledged.clone(),
        );
        registry.register("jwks_keys", "Keys of a provider of tokens that are in use", self.provider_keys.clone());
        registry.register(
            "jwks_last_success_timestamp_seconds",
            "When a provider's keys were last fetched, or found to be the same",
            self.provider_fetched.clone(),
        );
        registry.register(
            "revocations",
            "Certificates, keys and identities that are revoked",
            self.revoked_keys.clone(),
        );
        registry.register(
            "revocation_brakes",
            "Authorities of whom nothing is believed that they issued before an instant",
            self.revoked_brakes.clone(),
        );
        registry.register(
            "revocation_list_entries",
            "Certificates on the list of an authority that is in force",
            self.list_entries.clone(),
        );
        registry.register(
            "revocation_list_next_update_timestamp_seconds",
            "Until when the list of an authority is good; 0 if none was ever taken",
            self.list_next_update.clone(),
        );
        registry.register(
            "revocation_list_this_update_timestamp_seconds",
            "When the list of an authority was made; 0 if none was ever taken",
            self.list_this_update.clone(),
        );
        registry.register("xds_connected_proxies", "Proxies connected over xDS", self.proxies.clone());
        registry.register(
            "ready",
            "Whether everything stored is served and the policy is in force",
            self.ready.clone(),
        );
    }

    fn set(&self, status: &Status, now: Timestamp) {
        self.not_after.clear();
        self.not_before.clear();
        self.renew_at.clear();
        self.served_not_after.clear();
        self.served_current.clear();
        self.served_expired.clear();
        self.issued_to_served.clear();
        self.chain_not_after.clear();
        self.bundle_not_after.clear();
        self.bundle_not_before.clear();
        self.next_attempt.clear();
        self.failures.clear();
        self.left_out.clear();
        self.state.clear();
        self.policy.clear();
        self.provider_keys.clear();
        self.provider_fetched.clear();
        for provider in &status.providers {
            let labels = ProviderLabels { provider: provider.name.clone() };
            self.provider_keys.get_or_create(&labels).set(i64::try_from(provider.keys).unwrap_or(i64::MAX));
            if let Some(fetched_at) = provider.fetched_at {
                self.provider_fetched.get_or_create(&labels).set(fetched_at.as_second());
            }
        }
        self.set_ca(&status.ca);
        for certificate in &status.certificates {
            self.set_certificate(certificate, now);
        }
        for bundle in &status.bundles {
            for (sha256, not_after) in &bundle.entries {
                let labels = EntryLabels { name: bundle.name.clone(), sha256: sha256.clone() };
                self.bundle_not_after.get_or_create(&labels).set(not_after.as_second());
                if let Some(not_before) = bundle.not_before.get(sha256) {
                    self.bundle_not_before.get_or_create(&labels).set(not_before.as_second());
                }
            }
        }
        if let Some(version) = &status.policy.version {
            self.policy.get_or_create(&VersionLabels { version: version.clone() }).set(1);
        }
        self.policy_acknowledged.set(status.policy.acknowledged.into());
        self.proxies.set(i64::try_from(status.proxies.len()).unwrap_or(i64::MAX));
        self.ready.set(status.ready.into());
        self.list_entries.clear();
        self.list_next_update.clear();
        self.list_this_update.clear();
        for list in &status.revocations.lists {
            let labels = ListLabels { list: list.name.clone() };
            self.list_entries.get_or_create(&labels).set(i64::try_from(list.entries).unwrap_or(i64::MAX));
            let times = [(&self.list_this_update, list.this_update), (&self.list_next_update, list.next_update)];
            for (gauge, time) in times {
                gauge.get_or_create(&labels).set(time.map_or(0, Timestamp::as_second));
            }
        }
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.revoked_keys.set(count(status.revocations.keys));
        self.revoked_brakes.set(count(status.revocations.brakes));
    }

    fn set_ca(&self, ca: &CaStatus) {
        self.root_not_before.clear();
        self.root_not_after.clear();
        self.root_others_until.clear();
        for root in &ca.roots {
            let labels = RootLabels { sha256: root.sha256.clone(), signs: root.signs.to_string() };
            self.root_not_before.get_or_create(&labels).set(root.not_before.as_second());
            self.root_not_after.get_or_create(&labels).set(root.not_after.as_second());
            let until = root.others_until.map_or(0, Timestamp::as_second);
            self.root_others_until.get_or_create(&labels).set(until);
        }
        for step in Edge::ALL.map(Edge::as_str) {
            let taken = ca.succession.as_ref().is_some_and(|succession| succession.step == step);
            self.root_step.get_or_create(&StepLabels { step }).set(taken.into());
        }
        self.root_next.set(ca.next.map_or(0, Timestamp::as_second));
        self.intermediate_not_before.clear();
        self.intermediate_not_after.clear();
        if let Some(one) = &ca.intermediate {
            let labels = AuthorityLabels { sha256: one.sha256.clone() };
            self.intermediate_not_before.get_or_create(&labels).set(one.not_before.as_second());
            self.intermediate_not_after.get_or_create(&labels).set(one.not_after.as_second());
        }
        self.intermediate_wanted.set(ca.wanted.is_some().into());
    }

    fn set_certificate(&self, certificate: &CertificateStatus, now: Timestamp) {
        let CertificateStatus { name, .. } = certificate;
        let labels = NameLabels { name: name.clone() };
        if let Some(stored) = &certificate.stored {
            self.not_after.get_or_create(&labels).set(stored.not_after.as_second());
            self.not_before.get_or_create(&labels).set(stored.not_before.as_second());
        }
        for (sha256, not_after) in &certificate.chain {
            let labels = EntryLabels { name: name.clone(), sha256: sha256.clone() };
            self.chain_not_after.get_or_create(&labels).set(not_after.as_second());
        }
        if let Some(renew_at) = certificate.renew_at {
            self.renew_at.get_or_create(&labels).set(renew_at.as_second());
        }
        if let Some(next_attempt) = certificate.next_attempt {
            self.next_attempt.get_or_create(&labels).set(next_attempt.as_second());
        }
        if let Some(milliseconds) = certificate.issued_to_served_ms {
            self.issued_to_served
                .get_or_create(&labels)
                .set(std::time::Duration::from_millis(milliseconds).as_secs_f64());
        }
        self.failures.get_or_create(&labels).set(i64::try_from(certificate.failures).unwrap_or(i64::MAX));
        let left_out = certificate.dead_names.iter().filter(|dead| dead.left_out).count();
        self.left_out.get_or_create(&labels).set(i64::try_from(left_out).unwrap_or(i64::MAX));
        for state in STATES {
            let labels = StateLabels { name: name.clone(), state: state.to_owned() };
            self.state.get_or_create(&labels).set((certificate.state == state).into());
        }
        for served in &certificate.served {
            let address = served.address.clone();
            let labels = ServedLabels {
                name: name.clone(),
                address: address.clone(),
                sni: served.sni.clone().unwrap_or_default(),
            };
            self.served_current.get_or_create(&labels).set(served.current.into());
            let Some(leaf) = &served.leaf else { continue };
            self.served_not_after.get_or_create(&labels).set(leaf.not_after.as_second());
            let expired = leaf.not_after.as_second() < now.as_second();
            let gauge = self.served_expired.get_or_create_owned(&AddressLabels { name: name.clone(), address });
            // Several server names at one address share the series: one that is expired is enough.
            gauge.set(gauge.get().max(expired.into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::collections::BTreeSet;

    use super::*;
    use crate::status::BundleStatus;
    use crate::status::InHandshake;
    use crate::status::LeafStatus;
    use crate::status::ListStatus;
    use crate::status::PolicyStatus;
    use crate::status::ProviderStatus;
    use crate::status::RevocationStatus;
    use crate::status::RootStatus;
    use crate::status::ServedStatus;

    fn leaf(not_after: i64) -> LeafStatus {
        LeafStatus {
            serial: "1".to_owned(),
            sha256: "ab".to_owned(),
            not_before: Timestamp::constant(1_000, 0),
            not_after: Timestamp::from_second(not_after).unwrap(),
        }
    }

    fn status() -> Status {
        let served = |sni: &str, not_after| ServedStatus {
            address: "127.0.0.1:1".to_owned(),
            sni: Some(sni.to_owned()),
            leaf: Some(leaf(not_after)),
            current: false,
            error: None,
            checked_at: Some(Timestamp::constant(2_000, 0)),
        };
        Status {
            credentials: Vec::new(),
            ready: true,
            reasons: Vec::new(),
            certificates: vec![CertificateStatus {
                name: "gate\"way\\\n".to_owned(),
                identity: "spiffe://a.example/b".to_owned(),
                issuer: "built-in".to_owned(),
                state: "served".to_owned(),
                stored: Some(leaf(3_000)),
                chain: vec![("ef".to_owned(), Timestamp::constant(4_000, 0))],
                installed: None,
                served: vec![served("a", 1_999), served("b", 3_000)],
                next_attempt: Some(Timestamp::constant(2_500, 0)),
                renew_at: Some(Timestamp::constant(2_400, 0)),
                waits_for: None,
                is_fallback: false,
                dead_names: Vec::new(),
                last_error: None,
                rotations: 1,
                failures: 2,
                issued_to_served_ms: Some(12),
            }],
            ca: CaStatus {
                roots: vec![RootStatus {
                    sha256: "0a".to_owned(),
                    not_before: Timestamp::constant(700, 0),
                    not_after: Timestamp::constant(9_700, 0),
                    signs: true,
                    others_until: None,
                }],
                ..CaStatus::default()
            },
            bundles: vec![BundleStatus {
                name: "clients".to_owned(),
                entries: vec![("cd".to_owned(), Timestamp::constant(9_000, 0))],
                not_before: BTreeMap::from([("cd".to_owned(), Timestamp::constant(800, 0))]),
                version: "1".to_owned(),
                acknowledged: true,
                in_handshake: InHandshake::Nobody,
            }],
            policy: PolicyStatus { version: Some("p1".to_owned()), ..PolicyStatus::default() },
            providers: vec![ProviderStatus {
                keys: 2,
                fetched_at: Some(Timestamp::constant(1_500, 0)),
                ..ProviderStatus::new("corp", "https://login.acme.example/jwks")
            }],
            revocations: RevocationStatus {
                keys: 3,
                brakes: 1,
                lists: vec![
                    ListStatus { entries: 2, ..ListStatus::new("corp", "corp.crl") },
                    ListStatus {
                        this_update: Some(Timestamp::constant(1_100, 0)),
                        next_update: Some(Timestamp::constant(5_000, 0)),
                        ..ListStatus::new("taken", "taken.crl")
                    },
                ],
                ..RevocationStatus::default()
            },
            proxies: Vec::new(),
        }
    }

    /// Reads the exposition as strictly as `promtool check metrics` and returns the samples.
    fn parse(exposition: &str) -> BTreeMap<String, f64> {
        let body = exposition.strip_suffix("# EOF\n").expect("OpenMetrics ends with its end mark");
        let (mut described, mut typed) = (BTreeSet::new(), BTreeMap::new());
        let mut samples = BTreeMap::new();
        for line in body.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, text) = help.split_once(' ').unwrap();
                assert!(!text.is_empty() && described.insert(name.to_owned()), "{line}");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert!(["counter", "gauge", "info"].contains(&kind), "{line}");
                assert!(typed.insert(name.to_owned(), kind.to_owned()).is_none(), "{line}");
            } else {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let name = series.split('{').next().unwrap();
                assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{line}");
                let family = ["_total", "_info"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
                assert!(typed.contains_key(family) || typed.contains_key(name), "{line}: no type");
                assert!(described.contains(family) || described.contains(name), "{line}: no help");
                assert!(samples.insert(series.to_owned(), value.parse().unwrap()).is_none(), "{line}: twice");
            }
        }
        samples
    }

    const NAME: &str = "name=\"gate\\\"way\\\\\\n\"";

    #[test]
    fn the_exposition_is_well_formed_and_says_what_the_status_says() {
        let metrics = Metrics::new();
        metrics.0.gauges.set(&status(), Timestamp::constant(2_000, 0));
        metrics.rotation("a", "check", RotationResult::Failure);
        metrics.keys_not_fetched("corp", "status");
        metrics.list_refused("corp", "older");
        metrics.outcome(&Outcome::Refused {
            node: "n".to_owned(),
            name: "clients".to_owned(),
            version: "1".to_owned(),
            detail: "no".to_owned(),
        });
        let samples = parse(&metrics.encode());
        let served = format!("{NAME},address=\"127.0.0.1:1\"");
        for (series, want) in [
            (format!("portcullis_certificate_not_after_timestamp_seconds{{{NAME}}}"), 3_000.0),
            (format!("portcullis_certificate_not_before_timestamp_seconds{{{NAME}}}"), 1_000.0),
            (format!("portcullis_certificate_chain_not_after_timestamp_seconds{{{NAME},sha256=\"ef\"}}"), 4_000.0),
            (format!("portcullis_certificate_renew_at_timestamp_seconds{{{NAME}}}"), 2_400.0),
            (format!("portcullis_certificate_served_not_after_timestamp_seconds{{{served},sni=\"a\"}}"), 1_999.0),
            ("portcullis_audit_broken".to_owned(), 0.0),
            (format!("portcullis_certificate_served_current{{{served},sni=\"b\"}}"), 0.0),
            (format!("portcullis_served_expired{{{served}}}"), 1.0),
            (format!("portcullis_certificate_issued_to_served_seconds{{{NAME}}}"), 0.012),
            ("portcullis_bundle_entry_not_after_timestamp_seconds{name=\"clients\",sha256=\"cd\"}".to_owned(), 9_000.0),
            ("portcullis_bundle_entry_not_before_timestamp_seconds{name=\"clients\",sha256=\"cd\"}".to_owned(), 800.0),
            ("portcullis_ca_root_not_before_timestamp_seconds{sha256=\"0a\",signs=\"true\"}".to_owned(), 700.0),
            ("portcullis_ca_root_not_after_timestamp_seconds{sha256=\"0a\",signs=\"true\"}".to_owned(), 9_700.0),
            (format!("portcullis_next_attempt_timestamp_seconds{{{NAME}}}"), 2_500.0),
            (format!("portcullis_certificate_failures{{{NAME}}}"), 2.0),
            (format!("portcullis_certificate_names_left_out{{{NAME}}}"), 0.0),
            (format!("portcullis_certificate_state{{{NAME},state=\"served\"}}"), 1.0),
            (format!("portcullis_certificate_state{{{NAME},state=\"planned\"}}"), 0.0),
            ("portcullis_policy_info{version=\"p1\"}".to_owned(), 1.0),
            ("portcullis_policy_acknowledged".to_owned(), 0.0),
            ("portcullis_xds_connected_proxies".to_owned(), 0.0),
            ("portcullis_jwks_keys{provider=\"corp\"}".to_owned(), 2.0),
            ("portcullis_jwks_last_success_timestamp_seconds{provider=\"corp\"}".to_owned(), 1_500.0),
            ("portcullis_jwks_fetch_failures_total{cause=\"status\",provider=\"corp\"}".to_owned(), 1.0),
            ("portcullis_ready".to_owned(), 1.0),
            ("portcullis_revocations".to_owned(), 3.0),
            ("portcullis_revocation_brakes".to_owned(), 1.0),
            ("portcullis_revocation_list_entries{list=\"corp\"}".to_owned(), 2.0),
            ("portcullis_revocation_list_next_update_timestamp_seconds{list=\"corp\"}".to_owned(), 0.0),
            ("portcullis_revocation_list_this_update_timestamp_seconds{list=\"corp\"}".to_owned(), 0.0),
            ("portcullis_revocation_list_next_update_timestamp_seconds{list=\"taken\"}".to_owned(), 5_000.0),
            ("portcullis_revocation_list_this_update_timestamp_seconds{list=\"taken\"}".to_owned(), 1_100.0),
            ("portcullis_revocation_list_refused_total{cause=\"older\",list=\"corp\"}".to_owned(), 1.0),
            ("portcullis_rotation_total{name=\"a\",result=\"failure\",step=\"check\"}".to_owned(), 1.0),
            ("portcullis_xds_nack_total{resource=\"clients\"}".to_owned(), 1.0),
            (format!("portcullis_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1.0),
        ] {
            assert_eq!(samples.get(&series), Some(&want), "{series} in {samples:#?}");
        }
    }

    #[test]
    fn what_left_the_status_leaves_the_metrics() {
        let metrics = Metrics::new();
        metrics.update(&status());
        metrics.update(&Status::default());
        let samples = parse(&metrics.encode());
        assert!(samples.keys().all(|series| !series.contains("gate")), "{samples:#?}");
    }

    #[test]
    fn a_success_is_dated() {
        let metrics = Metrics::new();
        metrics.succeeded_before("a", 1_000);
        metrics.succeeded_before("a", 900);
        assert_eq!(parse(&metrics.encode())["portcullis_last_success_timestamp_seconds{name=\"a\"}"], 1_000.0);
        metrics.audit(false);
        assert_eq!(parse(&metrics.encode())["portcullis_audit_broken"], 1.0);
        let before = Timestamp::now().as_second();
        metrics.rotation("a", "retire", RotationResult::Success);
        let samples = parse(&metrics.encode());
        assert!(samples["portcullis_last_success_timestamp_seconds{name=\"a\"}"] >= before as f64);
    }
}
