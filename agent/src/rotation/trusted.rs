//! Whether those believe a new certificate who will see it, as far as the configuration says who they are.

use portcullis_policy::UnixTime;

use super::check;
use super::deliver::DeliveryError;
use super::rotor::Rotor;
use crate::issuer::BUILT_IN;

impl Rotor {
    /// Keeps a certificate of another issuer from being handed over as long as it leads to no authority of a bundle that it is
    /// judged by, or a proxy has not taken that bundle, and the certificate before is good. Roots of the built-in CA have an order
    /// of their own.
    pub(super) async fn hold_back(&mut self, now: UnixTime) -> Result<(), DeliveryError> {
        (self.is_held, self.awaited) = (false, None);
        let Some(stored) = self.entry.stored.as_ref().filter(|stored| stored.issuer != BUILT_IN) else { return Ok(()) };
        let Some(before) = self.entry.last_good.as_ref().filter(|before| before.validity().holds(now)) else {
            // Nobody would be let in with the one before either.
            return Ok(());
        };
        for bundle in &self.config.trusted_by {
            let Some(roots) = self.context.trust.roots_of(bundle) else { continue };
            let leads = |chain_pem, leaf| check::leads_to(chain_pem, leaf, &roots);
            // Where not even the one before was believed, the bundle is not what it is judged by.
            if !leads(&before.chain_pem, &before.leaf) {
                continue;
            }
            if !leads(&stored.chain_pem, &stored.leaf) {
                self.is_held = true;
                return Err(DeliveryError::NotTrusted { bundle: bundle.clone(), issuer: stored.issuer.clone() });
            }
            // Who is on its way back asks for the bundle when it is there.
            self.context.publisher.all_back().await;
            if self.context.publisher.acknowledged(bundle) == Some(false) {
                (self.is_held, self.awaited) = (true, Some(bundle.clone()));
                return Err(DeliveryError::BundleNotTaken { bundle: bundle.clone() });
            }
        }
        Ok(())
    }

    /// Whether it waits for a bundle that no proxy lacks any more.
    pub(super) fn is_awaited_no_more(&self) -> bool {
        self.awaited.as_ref().is_some_and(|bundle| self.context.publisher.acknowledged(bundle) != Some(false))
    }

    /// Has it handed over again soon if it was held back.
    pub(super) fn hold_no_more(&mut self) {
        self.awaited = None;
        if std::mem::take(&mut self.is_held) {
            self.entry.retry_at = None;
        }
    }
}
