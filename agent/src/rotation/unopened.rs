//! Certificates of the configuration that cannot be looked after, for their directory or the store does not let us: in the status
//! with the reason, and tried again.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use portcullis_policy::rotation::Wait;
use tokio::time::Instant;

use super::Context;
use super::Rotation;
use super::rotor::Rotor;
use super::rotor::StepError;
use super::standing::standing;
use crate::audit::Event;
use crate::audit::Kind;
use crate::config::Certificate;
use crate::errors::chain;
use crate::status::CertificateStatus;

/// The first pause; each is twice as long as the one before.
const PAUSE: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(300);

/// How often it was tried, and when it is tried again.
#[derive(Debug)]
pub(super) struct Unopened {
    series: Series,
    pub(super) again: Instant,
}

/// Failures in a row to look after something. The audit log gets one alarm of them, and the end of that.
#[derive(Debug, Default)]
pub(crate) struct Series {
    failures: u32,
    /// The alarm, as long as the store did not take it: often that is what fails.
    untold: Option<Event>,
}

impl Series {
    /// Counts another failure. Gives how long to wait.
    pub(crate) fn fail(&mut self, context: &Context, name: &str, text: &str) -> Duration {
        self.failures = self.failures.saturating_add(1);
        if self.failures == 1 {
            self.untold = Some(Event::new(Kind::Alarm, name).because(format!("it is not looked after: {text}")));
        }
        self.tell(context);
        PAUSE.saturating_mul(1 << self.failures.saturating_sub(1).min(10)).min(LONGEST)
    }

    /// It is looked after again.
    pub(crate) fn end(mut self, context: &Context, name: &str) {
        self.tell(context);
        if self.untold.is_none() {
            self.untold = Some(Event::new(Kind::AlarmCleared, name).because("it is looked after again"));
            self.tell(context);
        }
    }

    fn tell(&mut self, context: &Context) {
        let Some(event) = &self.untold else { return };
        match context.store.note(&event.note()) {
            Ok(()) => {
                self.untold = None;
                context.noted.notify_one();
            }
            Err(error) => tracing::error!(error = chain(&error), "an event is not in the audit log: {event:?}"),
        }
    }
}

impl Rotation {
    /// Begins to look after a certificate, or says in its status why not.
    pub(super) async fn open_one(&mut self, certificate: Certificate) -> CertificateStatus {
        match Rotor::open(Arc::clone(&self.context), certificate.clone()).await {
            Ok(rotor) => {
                if let Some(one) = self.unopened.remove(&certificate.name) {
                    tracing::info!(certificate = certificate.name, "looked after again");
                    one.series.end(&self.context, &certificate.name);
                }
                let status = rotor.status();
                self.turns.stir(&certificate.name);
                self.idle.insert(certificate.name, rotor);
                status
            }
            Err(error) => self.cannot_open(&certificate, &error),
        }
    }

    /// Tries those again whose time has come.
    pub(super) async fn open_again(&mut self) {
        let now = Instant::now();
        let due: Vec<String> =
            self.unopened.iter().filter(|(_, one)| one.again <= now).map(|(name, _)| name.clone()).collect();
        for name in due {
            let Some(certificate) = self.wanted.certificate(&name).cloned() else {
                self.unopened.remove(&name);
                continue;
            };
            let status = self.open_one(certificate).await;
            self.context.board.certificate(status);
        }
    }

    /// Writes down that it cannot be looked after now, and when that is tried again.
    pub(super) fn cannot_open(&mut self, certificate: &Certificate, error: &StepError) -> CertificateStatus {
        let (name, text) = (&certificate.name, chain(error));
        tracing::error!(certificate = name, error = text, "not looked after; it is tried again");
        let mut series = self.unopened.remove(name).map(|one| one.series).unwrap_or_default();
        let pause = series.fail(&self.context, name, &text);
        let failures = series.failures;
        self.unopened.insert(name.clone(), Unopened { series, again: Instant::now() + pause });
        // What proxies and files have of it is as good as before.
        let stored = standing(self.context.store.as_ref(), name).ok().flatten();
        CertificateStatus {
            name: name.clone(),
            identity: certificate.names.label(),
            issuer: stored.as_ref().map_or(&certificate.issuer, |stored| &stored.issuer).clone(),
            state: "planned".to_owned(),
            stored: stored.map(|stored| stored.leaf.status()),
            chain: Vec::new(),
            installed: None,
            served: Vec::new(),
            next_attempt: Timestamp::now().checked_add(pause).ok(),
            renew_at: None,
            waits_for: Some(Wait::BackOff.as_str().to_owned()),
            is_fallback: false,
            dead_names: Vec::new(),
            last_error: Some(format!("not looked after: {text}")),
            rotations: 0,
            failures: u64::from(failures),
            issued_to_served_ms: None,
        }
    }
}
