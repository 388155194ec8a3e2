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
        _ => Failure::IssuerFailed,
    }
}
