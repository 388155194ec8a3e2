//! What becomes of a failure beside the next attempt: who is told, and when the certificate before takes its place again.

use portcullis_policy::rotation::Edge;

use super::deliver::DeliveryError;
use super::rotor::Rotor;
use super::rotor::StepError;
use crate::audit::Event;
use crate::audit::Kind;
use crate::errors::chain;
use crate::leaf;
use crate::remedy::Failure;
use crate::remedy::Report;

impl Rotor {
    /// Takes the next rung of the ladder after a failure that was written down. Handing over again and telling readers again is
    /// what the next attempt does anyway.
    pub(super) async fn escalate(&mut self, edge: Edge, error: &StepError) {
        let text = chain(error);
        self.context.remedies.tell(self.report(of(edge, error), edge, text.clone()));
        let attempts = self.entry.failures;
        let enough = self.config.roll_back_after.is_some_and(|most| attempts >= most);
        let own = self.entry.flight.is_some_and(|flight| flight.cause.issues());
        if !(enough && own && matches!(error, StepError::Delivery(DeliveryError::NotServed { .. }))) {
            return;
        }
        let event =
            Event::new(Kind::RolledBack, self.name()).because(format!("not served after {attempts} attempts: {text}"));
        // Told before the series is forgotten.
        let report = self.report(Failure::RolledBack, edge, text);
        match self.step_back(event).await {
            Ok(()) => self.context.remedies.tell(report),
            Err(error) => {
                tracing::error!(certificate = self.name(), error = chain(&error), "it is tried again");
            }
        }
    }

    fn report(&self, failure: Failure, edge: Edge, error: String) -> Report {
        let entry = &self.entry;
        let mut tried = Vec::new();
        if failure == Failure::NotServed || failure == Failure::RolledBack {
            tried.push(format!("handed over to proxies and files, {} times", entry.failures));
            let told = self.config.hooks.len() + usize::from(self.config.reload.is_some());
            if told > 0 {
                tried.push(format!("told {told} readers of files each time"));
            }
        } else {
            tried.push(format!("`{}`, {} times", edge.as_str(), entry.failures));
        }
        // While the new one is not in use, the one before is.
        let in_use = entry.last_good.as_ref().filter(|_| entry.flight.is_some()).or(entry.stored.as_ref());
        Report {
            failure,
            name: self.config.name.clone(),
            identity: self.config.names.label(),
            step: edge.as_str(),
            error,
            failures: entry.failures,
            tried,
            next_attempt: entry.retry_at.map(leaf::timestamp),
            outage_at: in_use.map(|used| leaf::timestamp(used.validity().not_after)),
        }
    }
}

/// The kind of a failure.
fn of(edge: Edge, error: &StepError) -> Failure {
    match (edge, error) {
        (_, StepError::Delivery(DeliveryError::NotServed { .. })) => Failure::NotServed,
        (_, StepError::Delivery(_)) => Failure::DeliveryFailed,
        (_, StepError::Store(_) | StepError::Room(_) | StepError::Key(_) | StepError::Record { .. }) => {
            Failure::NotTried
        }
        (Edge::Journal, StepError::Files(_)) => Failure::NotTried,
        (_, StepError::Files(_)) => Failure::DeliveryFailed,
        (
            _,
            StepError::Answer { .. }
            | StepError::Check(_)
            | StepError::EndsTooSoon { .. }
            | StepError::Issue { .. }
            | StepError::Rehearsal { .. },
        ) => Failure::IssuerFailed,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::generation::GenerationError;
    use crate::hook::HookError;
    use crate::issuer::IssueError;
    use crate::keys::KeyError;
    use crate::leaf::LeafError;
    use crate::reload::ReloadError;
    use crate::room::NoRoom;
    use crate::room::Room;
    use crate::rotation::check::CheckError;
    use crate::store::StoreError;
    use crate::xds::PublishError;

    #[test]
    fn each_failure_is_told_as_what_it_is() {
        let name = || "gateway".to_owned();
        let issuer = || "ca".to_owned();
        let gone = || IssueError::Gone { name: issuer() };
        let files = || StepError::Files(GenerationError::OpenToOthers { path: "tls".into(), mode: 0o777 });
        let delivery = StepError::Delivery;
        for (what, edge, error, want) in [
            ("an answer that is none", Edge::Obtain, StepError::Answer { issuer: issuer() }, Failure::IssuerFailed),
            (
                "one that has ended",
                Edge::Obtain,
                StepError::EndsTooSoon { issuer: issuer(), until: Timestamp::UNIX_EPOCH },
                Failure::IssuerFailed,
            ),
            (
                "one that no peer takes",
                Edge::Check,
                StepError::Check(CheckError::Unreadable(LeafError)),
                Failure::IssuerFailed,
            ),
            ("no order", Edge::Obtain, StepError::Issue { issuer: issuer(), source: gone() }, Failure::IssuerFailed),
            (
                "no rehearsal",
                Edge::Journal,
                StepError::Rehearsal { issuer: issuer(), source: Box::new(gone()) },
                Failure::IssuerFailed,
            ),
            ("no random numbers", Edge::Journal, StepError::Key(KeyError::Random), Failure::NotTried),
            ("half a record", Edge::Check, StepError::Record { name: name(), edge: Edge::Check }, Failure::NotTried),
            (
                "a full disk",
                Edge::Journal,
                StepError::Room(NoRoom { path: "state".into(), room: Room { bytes: 0, files: None } }),
                Failure::NotTried,
            ),
            ("the store", Edge::Stage, StepError::Store(StoreError::Conflict { key: name() }), Failure::NotTried),
            ("files, before anything was ordered", Edge::Journal, files(), Failure::NotTried),
            ("files, with a certificate for them", Edge::Install, files(), Failure::DeliveryFailed),
            (
                "a bundle that not every proxy took",
                Edge::Install,
                delivery(DeliveryError::BundleNotTaken { bundle: name() }),
                Failure::DeliveryFailed,
            ),
            (
                "a hook",
                Edge::Install,
                delivery(DeliveryError::Hook(HookError::Missing { path: "hook".into() })),
                Failure::DeliveryFailed,
            ),
            (
                "a signal",
                Edge::Install,
                delivery(DeliveryError::Reload(ReloadError::OpenToOthers {
                    pid_file: "nginx.pid".into(),
                    owner: 1_000,
                    mode: 0o666,
                })),
                Failure::DeliveryFailed,
            ),
            (
                "a listener with another one",
                Edge::Prove,
                delivery(DeliveryError::NotServed { address: "a:1".to_owned(), found: "serves 2a".to_owned() }),
                Failure::NotServed,
            ),
            (
                "a root that no bundle has",
                Edge::Install,
                delivery(DeliveryError::NotTrusted { bundle: name(), issuer: issuer() }),
                Failure::DeliveryFailed,
            ),
            (
                "nothing to publish",
                Edge::Install,
                delivery(DeliveryError::Publish(PublishError::EmptyBundle { name: name() })),
                Failure::DeliveryFailed,
            ),
            (
                "a refusal",
                Edge::Install,
                delivery(DeliveryError::Refused { node: "n".to_owned(), detail: "no".to_owned() }),
                Failure::DeliveryFailed,
            ),
            ("a late refusal", Edge::Prove, delivery(DeliveryError::RefusedLate), Failure::DeliveryFailed),
            (
                "silence",
                Edge::Install,
                delivery(DeliveryError::Unanswered(Duration::from_secs(1))),
                Failure::DeliveryFailed,
            ),
        ] {
            assert_eq!(of(edge, &error), want, "{what}: {error}");
        }
    }
}
