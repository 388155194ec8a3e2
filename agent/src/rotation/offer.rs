//! Certificates that somebody else makes and puts where they are looked for: heard of here, taken as any other.

use portcullis_policy::UnixTime;
use portcullis_policy::schedule;

use super::rotor::Rotor;
use crate::audit::Event;
use crate::audit::Kind;
use crate::command::CommandError;
use crate::issuer::Order;
use crate::leaf;
use crate::leaf::Leaf;

impl Rotor {
    /// Hears what the issuer offers without being asked. Cheap: call it before every look at what is to be done.
    pub(super) fn hear(&mut self) {
        let issuer = self.context.issuers.named(&self.config.issuer);
        let Some(offered) = issuer.ok().and_then(|issuer| issuer.offered()) else {
            self.facts.offered = false;
            return;
        };
        match offered {
            Ok(leaf) => {
                self.complain(None);
                let is_news = self.is_news(&leaf, leaf::now());
                if is_news && !self.facts.offered {
                    tracing::info!(certificate = self.name(), serial = leaf.serial, "somebody put a new one there");
                    // What was waited for is there.
                    self.entry.retry_at = None;
                }
                self.facts.offered = is_news;
            }
            Err(why) => {
                self.facts.offered = false;
                self.complain(Some(why));
            }
        }
    }

    /// Whether a certificate that lies there is one that was not looked at yet.
    fn is_news(&self, offered: &Leaf, now: UnixTime) -> bool {
        let (serial, sha256) = (Some(&offered.serial), Some(&offered.sha256));
        if self.declined.as_ref() == sha256 {
            return false;
        }
        // A proxy, or an operator, said no to it.
        if self.entry.refused.as_ref() == serial || self.entry.left.as_ref() == serial {
            return false;
        }
        match &self.entry.stored {
            None => true,
            Some(stored) if Some(&stored.leaf.sha256) == sha256 => false,
            Some(stored) if stored.issuer == self.config.issuer => {
                offered.validity.not_before >= stored.leaf.validity.not_before
            }
            // One that is old already is no reason to leave what the fallback issued.
            Some(_) => now < schedule::renew_at(offered.validity, self.config.renew_after, 0),
        }
    }

    /// What was offered was looked at, and is not taken.
    pub(super) fn decline(&mut self) {
        let found = self.entry.order.as_ref().and_then(Order::found).and_then(|chain| leaf::chain(chain).ok());
        let leaf = found.and_then(|chain| Leaf::from_der(chain.first()?).ok());
        self.declined = leaf.map(|leaf| leaf.sha256);
        self.facts.offered = false;
    }

    /// Tells once of something that lies there and is no certificate to take.
    fn complain(&mut self, why: Option<String>) {
        if self.complaint == why {
            return;
        }
        let before = std::mem::replace(&mut self.complaint, why);
        let event = match (&self.complaint, before) {
            (Some(why), _) => {
                tracing::error!(certificate = self.name(), why, "what is offered is not taken");
                Event::new(Kind::Alarm, self.name()).because(why.clone())
            }
            (None, Some(before)) => Event::new(Kind::AlarmCleared, self.name()).because(before),
            (None, None) => return,
        };
        self.note(&event);
        self.context.board.certificate(self.status());
    }

    /// Has the issuer forget that it asked to be left alone; who wants that is told if it is of no use.
    pub(super) async fn override_wait(&mut self) {
        let Ok(issuer) = self.context.issuers.named(&self.config.issuer) else { return };
        match issuer.override_wait(&self.config.names).await {
            Ok(()) => self.note(&Event::new(Kind::WaitOverridden, self.name()).by("operator").because(issuer.name())),
            Err(error) => {
                let cause = crate::errors::chain(&error);
                self.answer(Err(CommandError::Failed { step: "overriding the wait".to_owned(), cause }));
            }
        }
    }

    /// Takes away what the order under way left elsewhere. To be called before it is forgotten.
    pub(super) async fn abandon(&self) {
        let Some(order) = &self.entry.order else { return };
        match self.context.issuers.named(order.issuer()) {
            Ok(issuer) => issuer.abandon(order).await,
            Err(error) => {
                let error = crate::errors::chain(&error);
                tracing::warn!(certificate = self.name(), error, "what its order left in the DNS, if anything, stays");
            }
        }
    }

    /// Why it is of no use to ask for a renewal, where somebody else has to make it.
    pub(super) fn nobody_to_ask(&self) -> Option<CommandError> {
        let issuer = self.context.issuers.named(&self.config.issuer).ok()?;
        let path = issuer.waits_at().filter(|_| !self.facts.offered)?;
        let what = format!(
            "certificate `{}` comes from `{}`: renew it where it is made (as by `certbot renew`); what is put there is taken by itself",
            self.name(),
            path.display()
        );
        Some(CommandError::Invalid { what })
    }
}
