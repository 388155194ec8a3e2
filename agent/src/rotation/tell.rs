//! Those who are told of a new certificate by the operator's own means, once it is in its place.

use portcullis_policy::rotation::Cause;

use super::deliver::DeliveryError;
use super::rotor::Rotor;
use super::rotor::StepError;
use crate::hook::Occasion;
use crate::hook::When;
use crate::reload::Signalled;

impl Rotor {
    /// Runs the hooks that are meant for now, one after the other, signals who is to be signalled, and says how it went. The
    /// first that fails ends it.
    pub(super) async fn tell(&self, when: When, cause: Cause) -> Result<Option<String>, StepError> {
        let Some(stored) = &self.entry.stored else { return Ok(None) };
        let names = &self.names_of(stored);
        let addresses = names.ip().iter().map(ToString::to_string);
        let occasion = Occasion {
            event: when,
            name: self.name(),
            identity: names.label(),
            names: names.dns().iter().cloned().chain(addresses).collect(),
            old_serial: self.entry.previous.as_ref().map(|previous| previous.serial.as_str()),
            new_serial: &stored.leaf.serial,
            directory: self.config.files.as_ref().map(|files| files.directory.as_path()),
            cause: cause.as_str(),
        };
        let key = stored.key.pem();
        let mut said = Vec::new();
        for hook in self.config.hooks.iter().filter(|hook| hook.when == when) {
            let ended = hook.run(&occasion, &key).await;
            said.push(ended.map_err(|error| StepError::Delivery(DeliveryError::Hook(error)))?);
        }
        if let Some(reload) = self.config.reload.clone().filter(|_| when == When::Installed) {
            let signal = reload.signal;
            let sent = tokio::task::spawn_blocking(move || reload.send()).await.expect("looking does not panic");
            said.push(match sent.map_err(|error| StepError::Delivery(DeliveryError::Reload(error)))? {
                Signalled::Process(pid) => format!("{signal} was sent to process {pid}"),
                Signalled::Nobody => {
                    tracing::warn!(certificate = self.name(), "nobody runs who could be signalled");
                    "nobody runs who could be signalled".to_owned()
                }
            });
        }
        Ok((!said.is_empty()).then(|| said.join("; ")))
    }
}
