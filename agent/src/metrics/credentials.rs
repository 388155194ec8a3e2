//! What is counted of credentials.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::status::CredentialStatus;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Credential {
    credential: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Attempt {
    credential: String,
    result: &'static str,
    step: &'static str,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Credentials {
    attempts: Family<Attempt, Counter>,
    extended: Family<Credential, Gauge>,
    failures: Family<Credential, Gauge>,
    next_attempt: Family<Credential, Gauge>,
    not_after: Family<Credential, Gauge>,
    overlap_until: Family<Credential, Gauge>,
    proven: Family<Credential, Gauge>,
    rotate_at: Family<Credential, Gauge>,
    since: Family<Credential, Gauge>,
}

impl Credentials {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "credential_rotation",
            "Attempts to rotate a credential that ended, by their last step",
            self.attempts.clone(),
        );
        let gauges = [
            ("extended_timestamp_seconds", "When the end of the current value was last put off", &self.extended),
            ("failures", "Failed attempts since the last success", &self.failures),
            ("next_attempt_timestamp_seconds", "When the next attempt is due", &self.next_attempt),
            ("not_after_timestamp_seconds", "When the current value ends by itself, if it does", &self.not_after),
            ("overlap_until_timestamp_seconds", "Until when what was replaced is good at least", &self.overlap_until),
            ("proven_timestamp_seconds", "When the current value was proven to be everywhere", &self.proven),
            ("rotate_timestamp_seconds", "When the next rotation is planned", &self.rotate_at),
            ("since_timestamp_seconds", "When the current value was made", &self.since),
        ];
        for (name, help, family) in gauges {
            registry.register(format!("credential_{name}"), help, family.clone());
        }
    }

    pub(super) fn ended(&self, name: &str, step: &'static str, is_success: bool) {
        let result = if is_success { "success" } else { "failure" };
        self.attempts.get_or_create(&Attempt { credential: name.to_owned(), result, step }).inc();
    }

    pub(super) fn set(&self, all: &[CredentialStatus]) {
        let gauges = [
            &self.extended,
            &self.next_attempt,
            &self.not_after,
            &self.overlap_until,
            &self.proven,
            &self.rotate_at,
            &self.since,
        ];
        self.failures.clear();
        gauges.iter().for_each(|gauge| gauge.clear());
        for credential in all {
            let labels = Credential { credential: credential.name.clone() };
            self.failures.get_or_create(&labels).set(i64::try_from(credential.failures).unwrap_or(i64::MAX));
            let times = [
                credential.extended_at,
                credential.next_attempt,
                credential.not_after,
                credential.overlap_until,
                credential.proven_at,
                credential.rotate_at,
                credential.since,
            ];
            for (gauge, time) in gauges.iter().zip(times) {
                if let Some(time) = time {
                    gauge.get_or_create(&labels).set(time.as_second());
                }
            }
        }
    }
}
