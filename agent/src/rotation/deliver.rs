//! The targets of a certificate: proxies over xDS, files, and the listeners that show what is in use.

use std::time::Duration;

use jiff::Timestamp;
use portcullis_policy::rotation::Cause;
use portcullis_policy::rotation::Seen;
use tokio::time::Instant;

use super::entry::Credential;
use super::rotor::Rotor;
use super::rotor::StepError;
use crate::audit::Event;
use crate::audit::Kind;
use crate::envoy_admin::EnvoyAdmin;
use crate::errors::chain;
use crate::generation::FileSet;
use crate::generation::GenerationError;
use crate::hook::HookError;
use crate::hook::When;
use crate::leaf;
use crate::proof::KeyType;
use crate::reload::ReloadError;
use crate::resource::Body;
use crate::resource::Outcome;
use crate::resource::Resource;
use crate::status::ServedStatus;
use crate::xds::PublishError;

/// How long a proxy may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How long a listener may go on with the old certificate after the proxy took the new one.
const SWITCH: Duration = Duration::from_secs(10);
/// How long one handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(2);
/// Pause between two looks at a listener; a switch takes a few milliseconds.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);
const LONGEST_BETWEEN_LOOKS: Duration = Duration::from_millis(250);

/// Why a certificate did not arrive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeliveryError {
    /// A proxy may not know yet whom to believe.
    #[error(
        "it is held back: not every proxy took bundle `{bundle}` as it is now; the certificate before stays in use"
    )]
    BundleNotTaken {
        /// Its name.
        bundle: String,
    },
    /// A hook. The files are in their place.
    #[error("who reads the files was not told")]
    Hook(#[source] HookError),
    /// A signal. The files are in their place.
    #[error("who reads the files was not signalled")]
    Reload(#[source] ReloadError),
    /// A listener does not show it.
    #[error("`{address}` {found}")]
    NotServed {
        /// The listener.
        address: String,
        /// What it did instead.
        found: String,
    },
    /// Nobody who judges it by that bundle would believe it.
    #[error(
        "it is held back: it leads to no authority in bundle `{bundle}`, by which peers judge it; add the root of `{issuer}` that it leads to \
         to `also:` there; the certificate before stays in use until it ends"
    )]
    NotTrusted {
        /// The bundle's name.
        bundle: String,
        /// Who issued it.
        issuer: String,
    },
    /// It is not pushed at all.
    #[error("it is not published")]
    Publish(#[source] PublishError),
    /// A proxy said no.
    #[error("proxy `{node}` refused it: {detail}")]
    Refused {
        /// Its node id.
        node: String,
        /// Its words.
        detail: String,
    },
    /// A proxy said no after others had said yes.
    #[error("a proxy refused it")]
    RefusedLate,
    /// A proxy said nothing.
    #[error("not every proxy took it within {0:?}")]
    Unanswered(Duration),
}

/// What became of a certificate that was handed over.
pub(super) enum Installed {
    /// There was nobody to take it.
    Nowhere,
    /// Everybody has it.
    Taken {
        /// What those said of it who were told.
        said: Option<String>,
    },
}

/// The certificate as proxies get it.
pub(super) fn resource(name: &str, credential: &Credential) -> Resource {
    let body = Body::TlsCertificate { chain_pem: credential.chain_pem.clone(), key_pem: credential.key.pem() };
    Resource { name: name.to_owned(), version: credential.leaf.serial.clone(), body }
}

impl Rotor {
    /// Writes the files beside the current ones.
    pub(super) async fn stage(&mut self) -> Result<(), StepError> {
        self.open_files_again().await?;
        let (Some(generations), Some(stored)) = (self.generations.clone(), self.entry.stored.clone()) else {
            return Ok(());
        };
        let ca_pem = self.ca_pem(&stored);
        blocking(move || {
            let (serial, chain_pem) = (&stored.leaf.serial, &stored.chain_pem);
            generations.stage(&FileSet { serial, chain_pem, key: &stored.key, ca_pem: &ca_pem })
        })
        .await
    }

    /// Whether a proxy refused what is stored, also long after others took it.
    pub(super) fn is_refused(&self) -> bool {
        let serial = self.entry.serial();
        !self.entry.is_refused() && serial.is_some_and(|serial| self.context.publisher.is_refused(self.name(), serial))
    }

    /// Hands the stored certificate to every target, and has those told who read files. Says whether anybody took it; files
    /// count.
    ///
    /// Files follow the proxies, so that what a proxy refuses is not put before those who read files either; a proxy
    /// that says nothing does not hold them up.
    pub(super) async fn install(&mut self, cause: Cause) -> Result<Installed, StepError> {
        self.hold_back(leaf::now()).await.map_err(StepError::Delivery)?;
        let taken = self.install_at_proxies(cause).await;
        if matches!(taken, Ok(Installed::Nowhere)) {
            self.knocked = Some(Instant::now());
        }
        if matches!(taken, Err(StepError::Delivery(DeliveryError::Refused { .. } | DeliveryError::Publish(_)))) {
            return taken;
        }
        // The directory may be another one than when it was staged.
        self.stage().await?;
        if let (Some(generations), Some(stored)) = (self.generations.clone(), &self.entry.stored) {
            let serial = stored.leaf.serial.clone();
            blocking(move || generations.install(&serial)).await?;
        }
        match taken {
            Ok(Installed::Nowhere) => taken,
            // A proxy that goes on saying nothing is no reason to tell the others again and again.
            Err(_) if self.told.is_some() && self.told.as_deref() == self.entry.serial() => taken,
            _ => {
                let said = self.tell(When::Installed, cause).await?;
                self.told = self.entry.serial().map(str::to_owned);
                taken.map(|_| Installed::Taken { said })
            }
        }
    }

    async fn install_at_proxies(&self, cause: Cause) -> Result<Installed, StepError> {
        let Some(stored) = &self.entry.stored else {
            return Ok(Installed::Nowhere);
        };
        let publisher = &self.context.publisher;
        let mut outcomes = publisher.outcomes();
        let mut activity = publisher.activity();
        publisher
            .publish(resource(&self.config.name, stored))
            .map_err(|error| StepError::Delivery(DeliveryError::Publish(error)))?;
        // A new one after a refusal goes out by itself.
        if cause == Cause::NotServed || self.entry.failures > 0 && self.entry.refused.is_none() {
            publisher.push_again(&self.config.name);
        }
        let deadline = Instant::now() + ANSWER;
        let mut may_knock = !self.config.served_at.is_empty();
        loop {
            match publisher.acknowledged(&self.config.name) {
                None if std::mem::take(&mut may_knock) => {
                    self.knock().await;
                    continue;
                }
                None if self.generations.is_none() => return Ok(Installed::Nowhere),
                None | Some(true) => return Ok(Installed::Taken { said: None }),
                Some(false) => {}
            }
            let heard = async {
                tokio::select! {
                    biased;
                    outcome = outcomes.recv() => outcome.ok(),
                    // Who left is not waited for, such as the old process of a hot restart.
                    _ = activity.changed() => None,
                }
            };
            match tokio::time::timeout_at(deadline, heard).await {
                Err(_) => return Err(StepError::Delivery(DeliveryError::Unanswered(ANSWER))),
                Ok(Some(Outcome::Refused { node, name, version, detail }))
                    if name == self.config.name && version == stored.leaf.serial =>
                {
                    return Err(StepError::Delivery(DeliveryError::Refused { node, detail }));
                }
                Ok(_) => {}
            }
        }
    }

    /// Shakes hands with the listeners, whatever they show: a proxy that learns of certificates by server name asks for one
    /// when a client does, and we are the first.
    async fn knock(&self) {
        for at in &self.config.served_at {
            // Nobody may be there yet.
            let _ = self.context.prover.leaf_at(at, None, HANDSHAKE).await;
        }
    }

    /// Waits until every target shows the stored certificate, and says what shows it.
    pub(super) async fn prove(&mut self) -> Result<String, StepError> {
        self.open_files()?;
        if let (None, Some(generations)) = (self.mend_files().await?, &self.generations) {
            let path = generations.path().to_owned();
            return Err(StepError::Files(GenerationError::NotCurrent { path }));
        }
        if self.config.served_at.is_empty() {
            let proxies = self.context.publisher.acknowledged(&self.config.name) == Some(true);
            return match &self.context.admin {
                Some(admin) if proxies => self.prove_by_admin(admin).await,
                _ => Ok(if proxies { "acknowledged by every proxy" } else { "files are in their place" }.to_owned()),
            };
        }
        let deadline = Instant::now() + SWITCH;
        let mut pause = BETWEEN_LOOKS;
        loop {
            if self.look_at_targets().await == Seen::Current {
                let seen = self.served.iter().map(|served| match &served.sni {
                    Some(sni) => format!("{} ({sni})", served.address),
                    None => served.address.clone(),
                });
                return Ok(format!("handshake with {}", seen.collect::<Vec<_>>().join(", ")));
            }
            if Instant::now() + pause > deadline {
                let bad = self.served.iter().find(|served| !served.current);
                let address = bad.map_or_else(String::new, |bad| bad.address.clone());
                let found = match bad.map(|bad| (&bad.leaf, &bad.error)) {
                    Some((Some(leaf), None)) => format!("goes on serving serial {}", leaf.serial),
                    Some((Some(leaf), Some(error))) => format!("goes on serving serial {} ({error})", leaf.serial),
                    Some((None, Some(error))) => error.clone(),
                    _ => "was not looked at".to_owned(),
                };
                let found = format!("{found}{}", self.explanation(&address).await);
                return Err(StepError::Delivery(DeliveryError::NotServed { address, found }));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_BETWEEN_LOOKS);
        }
    }

    /// What Envoy's own configuration has to say to a listener that goes on with another certificate, and what to write
    /// instead; empty if nothing.
    async fn explanation(&self, address: &str) -> String {
        let Some(admin) = &self.context.admin else { return String::new() };
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        match admin.fixed(HANDSHAKE).await {
            Ok(fixed) => {
                let here = fixed.iter().find(|fixed| port.is_some() && fixed.port == port);
                here.map(|fixed| format!("; {}", fixed.remedy(self.name()))).unwrap_or_default()
            }
            Err(error) => {
                tracing::warn!(certificate = self.name(), error = chain(&error), "Envoy could not be asked");
                String::new()
            }
        }
    }

    /// Waits until Envoy lists the stored certificate. An administration that does not answer proves nothing either way:
    /// then the acknowledgement has to do.
    async fn prove_by_admin(&self, admin: &EnvoyAdmin) -> Result<String, StepError> {
        let serial = self.entry.serial().unwrap_or_default();
        let deadline = Instant::now() + SWITCH;
        let mut pause = BETWEEN_LOOKS;
        loop {
            match admin.held(HANDSHAKE).await {
                Ok(held) if held.iter().any(|held| held.serial == serial) => {
                    return Ok("acknowledged by every proxy and listed by Envoy".to_owned());
                }
                Ok(_) if Instant::now() + pause > deadline => {
                    // Envoy lists only what a listener or a cluster uses.
                    tracing::warn!(
                        certificate = self.config.name,
                        serial,
                        "Envoy took the certificate and does not use it"
                    );
                    return Ok("acknowledged by every proxy, not in use".to_owned());
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(certificate = self.config.name, error = chain(&error), "Envoy could not be asked");
                    return Ok("acknowledged by every proxy".to_owned());
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_BETWEEN_LOOKS);
        }
    }

    /// One handshake with each listener, as a client that takes only such keys as the stored certificate's, and one look at
    /// the files.
    pub(super) async fn look_at_targets(&mut self) -> Seen {
        let Some(stored) = &self.entry.stored else {
            return Seen::Unknown;
        };
        let issuer = self.context.issuers.named(&stored.issuer);
        let prover =
            issuer.map_or_else(|_| self.context.prover.clone(), |issuer| self.context.prover.trusting(&issuer.roots()));
        let key = leaf::chain(&stored.chain_pem).ok().and_then(|chain| KeyType::of(&chain[0]));
        let mut all = Vec::with_capacity(self.config.served_at.len());
        for at in &self.config.served_at {
            let sighting = prover.leaf_at(at, key, HANDSHAKE).await;
            let now = Timestamp::now();
            let (address, sni, checked_at) = (at.address.clone(), at.sni.clone(), Some(now));
            all.push(match sighting {
                Ok(seen) => {
                    let valid = seen.leaf.not_before <= now && now.as_second() <= seen.leaf.not_after.as_second();
                    let current = valid && seen.leaf.sha256 == stored.leaf.sha256;
                    ServedStatus { address, sni, leaf: Some(seen.leaf), current, error: seen.distrusted, checked_at }
                }
                Err(error) => {
                    ServedStatus { address, sni, leaf: None, current: false, error: Some(chain(&error)), checked_at }
                }
            });
        }
        let mut seen = match (
            all.iter().all(|served| served.current),
            all.iter().any(|served| served.leaf.is_some() && !served.current),
        ) {
            (_, true) => Seen::Other,
            (true, false) => Seen::Current,
            (false, false) => Seen::Unknown,
        };
        self.served = all;
        if self.config.files.is_some() {
            match self.mend_files().await {
                Ok(Some(_)) => {}
                Ok(None) => seen = Seen::Other,
                Err(error) => {
                    // Delivering again says what is wrong, and counts it.
                    tracing::error!(certificate = self.config.name, error = chain(&error), "files cannot be looked at");
                    seen = Seen::Other;
                }
            }
        }
        seen
    }

    /// Looks whether the files are those of the stored certificate, and puts right what somebody changed in them. None if
    /// they are of another, or there are none.
    async fn mend_files(&self) -> Result<Option<Vec<String>>, StepError> {
        let (Some(generations), Some(stored)) = (self.generations.clone(), self.entry.stored.clone()) else {
            return Ok(None);
        };
        let ca_pem = self.ca_pem(&stored);
        let mended = blocking(move || {
            let (serial, chain_pem) = (&stored.leaf.serial, &stored.chain_pem);
            generations.mend(&FileSet { serial, chain_pem, key: &stored.key, ca_pem: &ca_pem })
        })
        .await?;
        if let Some(mended) = mended.as_ref().filter(|mended| !mended.is_empty()) {
            let mended = mended.join("; ");
            tracing::warn!(certificate = self.config.name, mended, "files were changed by somebody and put right");
            self.note(&Event::new(Kind::Repaired, &self.config.name).because(mended).change(None, self.entry.serial()));
        }
        Ok(mended)
    }

    /// Removes what the stored certificate replaced.
    pub(super) async fn prune(&self) -> Result<(), StepError> {
        match self.generations.clone() {
            Some(generations) => blocking(move || generations.prune()).await,
            None => Ok(()),
        }
    }
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, GenerationError> + Send + 'static,
) -> Result<T, StepError> {
    let outcome = tokio::task::spawn_blocking(work).await;
    outcome.expect("writing files does not panic").map_err(StepError::Files)
}
