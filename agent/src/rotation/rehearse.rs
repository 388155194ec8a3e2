//! An order that is tried where it does not count: on an operator's word, and by itself before the next one where several failed.

use portcullis_policy::UnixTime;
use portcullis_policy::schedule;

use super::Context;
use super::check;
use super::entry::Credential;
use super::rotor::Rotor;
use super::rotor::StepError;
use crate::audit::Event;
use crate::audit::Kind;
use crate::command::CommandError;
use crate::command::Rehearsal;
use crate::config::Certificate;
use crate::errors::chain;
use crate::issuer::IssueError;
use crate::issuer::Roots;
use crate::issuer::acme::AcmeError;
use crate::issuer::acme::Rehearsed;
use crate::leaf;

/// Failures of an issuer in a row, after which it is asked again only when a rehearsal went well.
const ENOUGH: u32 = 3;

impl Rotor {
    /// Rehearses what is to be taken up again after failures in a row. An issuer whose rehearsal server cannot be asked is asked
    /// all the same, and so is one when the end is near.
    pub(super) async fn rehearse_first(&mut self, now: UnixTime) -> Result<(), StepError> {
        let Some(order) = self.entry.order.as_ref().filter(|_| self.entry.unissued >= ENOUGH && !self.is_rehearsed)
        else {
            return Ok(());
        };
        let validity = self.entry.stored.as_ref().map(Credential::validity);
        let Ok(issuer) = self.context.issuers.named(order.issuer()) else { return Ok(()) };
        if !issuer.can_rehearse() || validity.is_some_and(|validity| now >= schedule::emergency_at(validity)) {
            return Ok(());
        }
        let (names, name) = (order.names().clone(), issuer.name().to_owned());
        match issuer.rehearse(names, self.config.lifetime).await {
            Ok(rehearsed) => {
                looks_right(&rehearsed, leaf::now()).map_err(StepError::Check)?;
                let cause =
                    format!("an order at `{}` went well, after {} failures", rehearsed.host, self.entry.unissued);
                self.note(&Event::new(Kind::Rehearsed, self.name()).because(cause));
            }
            Err(error) if error.says_nothing() => {
                tracing::warn!(certificate = self.name(), error = chain(&error), "nothing was rehearsed");
            }
            Err(error) => return Err(StepError::Rehearsal { issuer: name, source: Box::new(error) }),
        }
        self.is_rehearsed = true;
        Ok(())
    }
}

/// Rehearses an order for a certificate of the configuration.
pub(super) async fn rehearse(context: &Context, config: &Certificate) -> Result<Rehearsal, CommandError> {
    let failed = |cause: String| CommandError::Failed { step: "rehearsal".to_owned(), cause };
    let tell = |cause: String| {
        let event = Event::new(Kind::Rehearsed, &config.name).by("operator").because(cause);
        match context.store.note(&event.note()) {
            Ok(()) => context.noted.notify_one(),
            Err(error) => tracing::error!(error = chain(&error), "an event is lost to the audit log"),
        }
    };
    let tried = async {
        let issuer = context.issuers.named(&config.issuer)?;
        issuer.rehearse(config.names.clone(), config.lifetime).await
    };
    let rehearsed = match tried.await {
        Ok(rehearsed) => rehearsed,
        Err(error @ (IssueError::NoRehearsal { .. } | IssueError::Acme(AcmeError::NoStaging { .. }))) => {
            return Err(CommandError::Invalid { what: chain(&error) });
        }
        Err(error) => {
            tell(format!("it failed: {}", chain(&error)));
            return Err(failed(chain(&error)));
        }
    };
    if let Err(error) = looks_right(&rehearsed, leaf::now()) {
        tell(format!("what `{}` issued is not as it should be: {}", rehearsed.host, chain(&error)));
        return Err(failed(chain(&error)));
    }
    tell(format!("an order at `{}` went well", rehearsed.host));
    let chain_of = leaf::chain(&rehearsed.chain_pem).unwrap_or_default();
    let leaf = chain_of.first().and_then(|der| leaf::Leaf::from_der(der).ok());
    Ok(Rehearsal {
        name: config.name.clone(),
        server: rehearsed.host,
        order: rehearsed.order,
        names: rehearsed.request.names.labels(),
        challenge: rehearsed.challenge.to_owned(),
        certificates: chain_of.len(),
        not_after: leaf.map(|leaf| leaf::timestamp(leaf.validity.not_after)),
        took_ms: rehearsed.took_ms,
    })
}

/// Looks at what came of a rehearsal as a peer would who trusts the last certificate of its chain.
fn looks_right(rehearsed: &Rehearsed, now: UnixTime) -> Result<(), check::CheckError> {
    let chain = leaf::chain(&rehearsed.chain_pem).map_err(check::CheckError::Unreadable)?;
    let last = chain.last().cloned().into_iter().collect();
    let request = &rehearsed.request;
    check::as_peer(&rehearsed.chain_pem, &request.key, &request.names, &Roots::these(last), now).map(drop)
}
