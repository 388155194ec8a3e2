//! What a credential's keeper says of itself: to the status, and to remedies.

use jiff::Timestamp;
use portcullis_policy::credential;
use portcullis_policy::credential::Step;

use super::keeper::Keeper;
use crate::leaf;
use crate::remedy::Failure;
use crate::remedy::Report;
use crate::status::CredentialStatus;

impl Keeper {
    /// One row of the status.
    pub(super) fn status(&self) -> CredentialStatus {
        let (entry, now) = (&self.entry, leaf::now());
        let record = entry.record();
        let (next, waits_for) = match credential::next(&record, &self.facts(now), now) {
            Step::Wait { until, reason } => (until.map(leaf::timestamp), Some(reason.as_str().to_owned())),
            _ => (Some(Timestamp::now()), None),
        };
        let current = entry.current.as_ref();
        CredentialStatus {
            name: self.config.name.clone(),
            consumers: self.config.consumers.clone(),
            source: self.config.source.kind(),
            state: credential::state(&record).as_str().to_owned(),
            id: entry.id().map(str::to_owned),
            account: current.and_then(|current| current.account.clone()),
            since: current.map(|current| leaf::timestamp(current.since)),
            extended_at: current.and_then(|current| current.extended_at).map(leaf::timestamp),
            not_after: current.and_then(|current| current.not_after).map(leaf::timestamp),
            rotate_at: current.map(|current| leaf::timestamp(current.rotate_at)).filter(|at| *at < FAR),
            next_attempt: next.filter(|at| *at < FAR),
            waits_for,
            proven_at: entry.proven_at.map(leaf::timestamp),
            overlap_until: record.overlap_until.map(leaf::timestamp),
            published: self.places(),
            is_on_demand: matches!(self.config.issue, crate::config::Issue::OnFirstUse { .. }),
            rotations: entry.rotations,
            failures: u64::from(entry.failures.max(self.complaint.is_some().into())),
            last_error: entry.last_error.clone().or_else(|| self.complaint.clone()),
        }
    }

    /// Where it goes.
    fn places(&self) -> Vec<String> {
        let mut places = Vec::new();
        if self.config.sds.is_some() {
            places.push("sds".to_owned());
        }
        places.extend(self.directory().map(|directory| directory.display().to_string()));
        places.extend(self.config.hooks.iter().map(|hook| hook.program.display().to_string()));
        places
    }

    pub(super) fn report(&self, failure: Failure, step: &'static str, error: String) -> Report {
        let entry = &self.entry;
        Report {
            failure,
            name: self.config.name.clone(),
            identity: self.config.consumers.join(" "),
            step,
            error,
            failures: entry.failures,
            tried: vec![format!("`{step}`, {} times, with the same value", entry.failures)],
            next_attempt: entry.retry_at.map(leaf::timestamp),
            outage_at: entry.current.as_ref().and_then(|current| current.not_after).map(leaf::timestamp),
        }
    }
}

/// What is later has no date.
const FAR: Timestamp = Timestamp::constant(32_503_680_000, 0);
