//! Where a credential is published: proxies over SDS, files, programs that get it on their standard input.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use portcullis_policy::rotation::Seen;
use serde::Serialize;
use sha2::Digest as _;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::entry::Entry;
use super::entry::Kept;
use super::error::CredentialError;
use super::form::Facts;
use super::form::Form;
use super::form::FormError;
use super::keeper::Keeper;
use super::made;
use crate::config;
use crate::config::CredentialSource;
use crate::generation::Contents;
use crate::generation::Generations;
use crate::generation::Secrecy;
use crate::leaf;
use crate::resource::Body;
use crate::resource::Resource;

/// How long proxies may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// A credential as files, written out.
pub(super) struct Written {
    version: String,
    files: Vec<(String, Zeroizing<String>, Secrecy)>,
}

impl Contents for Written {
    fn serial(&self) -> &str {
        &self.version
    }

    fn file(&self, name: &str) -> (Zeroizing<String>, Secrecy) {
        let found = self.files.iter().find(|(other, ..)| other == name);
        found.map_or_else(|| (Zeroizing::default(), Secrecy::Secret), |(_, text, secrecy)| (text.clone(), *secrecy))
    }
}

/// What a program is told on its standard input.
#[derive(Serialize)]
struct Occasion<'a> {
    event: &'static str,
    name: &'a str,
    consumers: &'a [String],
    id: &'a str,
    account: Option<&'a str>,
    secret: &'a str,
    not_after: Option<Timestamp>,
    cause: &'a str,
}

/// What is published, in one word that says nothing of it.
pub(super) fn version(config: &config::Credential, entry: &Entry) -> String {
    let mut hash = Sha256::new();
    // Another form is another thing to publish.
    hash.update(format!("{:?} {:?}\n", config.sds, config.files.as_ref().map(|files| &files.write)));
    let ids = if config.source.is_ring() { entry.ring() } else { entry.current.iter().collect() };
    for kept in ids {
        hash.update(&kept.id);
        hash.update(b"\n");
        hash.update(kept.since.0.to_be_bytes());
    }
    leaf::hex(hash.finalize().get(..8).unwrap_or_default())
}

impl Keeper {
    /// Whether every place can hold this value.
    ///
    /// # Errors
    ///
    /// [`CredentialError::Form`], with the place.
    pub(super) fn fits(&self, kept: &Kept) -> Result<(), CredentialError> {
        if self.config.source.is_ring() {
            return Ok(());
        }
        if let Some(form) = self.config.sds {
            let in_header = form.write(kept.account.as_deref(), &kept.secret);
            in_header.map_err(|source| CredentialError::Form { place: "sds".to_owned(), source })?;
        }
        if kept.secret.expose().is_empty() {
            return Err(CredentialError::Form { place: self.config.name.clone(), source: FormError::Empty });
        }
        for (name, form) in self.config.files.iter().flat_map(|files| &files.write) {
            let written = form.write(&facts(kept, None));
            written.map_err(|source| CredentialError::Form { place: name.clone(), source })?;
        }
        Ok(())
    }

    /// The resource for proxies, if they get one.
    pub(super) fn resource(&self, entry: &Entry) -> Result<Option<Resource>, CredentialError> {
        let (Some(form), Some(current)) = (self.config.sds, entry.ring().first().copied()) else { return Ok(None) };
        let body = if self.config.source == CredentialSource::SessionTicketKeys {
            let keys = entry.ticket_keys().into_iter().map(|kept| made::ticket_bytes(&kept.secret)).collect();
            Body::SessionTicketKeys { keys }
        } else {
            let value = form.write(current.account.as_deref(), &current.secret);
            let value = value.map_err(|source| CredentialError::Form { place: "sds".to_owned(), source })?;
            Body::GenericSecret { value }
        };
        Ok(Some(Resource { name: self.config.name.clone(), version: version(&self.config, entry), body }))
    }

    fn written(&self, entry: &Entry) -> Result<Option<Written>, CredentialError> {
        let (Some(files), Some(current)) = (&self.config.files, entry.ring().first().copied()) else { return Ok(None) };
        let key_set = match self.config.source {
            CredentialSource::SigningKey(_) => {
                let set = entry.key_set().map_err(|error| CredentialError::Make(error.into()))?;
                Some(set)
            }
            _ => None,
        };
        let facts = facts(current, key_set.as_ref());
        let mut written = Vec::with_capacity(files.write.len());
        for (name, form) in &files.write {
            let text = form.write(&facts).map_err(|source| CredentialError::Form { place: name.clone(), source })?;
            let secrecy = if *form == Form::Jwks { Secrecy::Public } else { Secrecy::Secret };
            written.push((name.clone(), text, secrecy));
        }
        Ok(Some(Written { version: version(&self.config, entry), files: written }))
    }

    /// Opens the directory of the files, if there is one and it is not open.
    pub(super) fn open_files(&mut self) -> Result<(), CredentialError> {
        if let Some(files) = self.config.files.as_ref().filter(|_| self.generations.is_none()) {
            let names = files.write.iter().map(|(name, _)| name.clone()).collect();
            let opened = Generations::open_with(&files.files, names).map_err(CredentialError::Files)?;
            self.generations = Some(Arc::new(opened));
        }
        Ok(())
    }

    /// Hands what is current to every place.
    pub(super) async fn publish(&mut self, cause: &str) -> Result<(), CredentialError> {
        let entry = self.entry.clone();
        self.place(&entry).await?;
        self.tell_programs(cause).await
    }

    /// Hands it to proxies and writes the files, as this entry has it.
    pub(super) async fn place(&mut self, entry: &Entry) -> Result<(), CredentialError> {
        self.open_files()?;
        if let Some(resource) = self.resource(entry)? {
            self.context.agent.publisher.publish(resource).map_err(CredentialError::Publish)?;
        }
        if let (Some(generations), Some(written)) = (self.generations.clone(), self.written(entry)?) {
            blocking(move || {
                generations.stage(&written)?;
                generations.install(written.serial())?;
                generations.prune()
            })
            .await?;
        }
        Ok(())
    }

    async fn tell_programs(&self, cause: &str) -> Result<(), CredentialError> {
        let Some(current) = self.entry.current.as_ref().filter(|_| !self.config.source.is_ring()) else {
            return Ok(());
        };
        for hook in &self.config.hooks {
            let occasion = Occasion {
                event: "published",
                name: &self.config.name,
                consumers: &self.config.consumers,
                id: &current.id,
                account: current.account.as_deref(),
                secret: current.secret.expose(),
                not_after: current.not_after.map(leaf::timestamp),
                cause,
            };
            let json = Zeroizing::new(serde_json::to_vec(&occasion).expect("an occasion is made of strings"));
            let said = hook.run_with(&json, [], current.secret.expose()).await.map_err(CredentialError::Hook)?;
            tracing::info!(credential = self.config.name, said, "a consumer was told");
        }
        Ok(())
    }

    /// Sees every place hold what is current, and says what shows it.
    pub(super) async fn see(&mut self) -> Result<String, CredentialError> {
        let mut proof = Vec::new();
        if self.config.sds.is_some() {
            proof.push(self.proxies_have_it().await?);
        }
        if let (Some(generations), Some(written)) = (self.generations.clone(), self.written(&self.entry)?) {
            let path = generations.path().display().to_string();
            let mended = blocking(move || generations.mend(&written)).await?;
            if mended.is_none() {
                return Err(CredentialError::Record { step: "prove" });
            }
            proof.push(format!("`{path}` holds it"));
        }
        if !self.config.hooks.is_empty() {
            proof.push(format!("{} programs took it", self.config.hooks.len()));
        }
        if self.config.awaits_filter
            && let Some(next) = self.entry.next.as_ref().or(self.entry.current.as_ref())
        {
            proof.push(super::filters::have(&self.context.gate, &next.id).await?);
        }
        self.seen = Seen::Current;
        Ok(proof.join("; "))
    }

    async fn proxies_have_it(&self) -> Result<String, CredentialError> {
        let (name, version) = (&self.config.name, version(&self.config, &self.entry));
        let publisher = &self.context.agent.publisher;
        // Who is on its way back uses what it had until it is there. What is to be replaced before that waits for nobody.
        let proven = self.entry.next.as_ref().or(self.entry.current.as_ref());
        let left = proven.map_or(Duration::MAX, |proven| {
            let left = proven.rotate_at.0.saturating_sub(leaf::now().0);
            Duration::from_secs(u64::try_from(left).unwrap_or_default())
        });
        let _ = tokio::time::timeout(left, publisher.all_back()).await;
        let mut activity = publisher.activity();
        let answered = async {
            loop {
                activity.mark_unchanged();
                if publisher.is_refused(name, &version) {
                    return Err(CredentialError::Refused);
                }
                match publisher.acknowledged(name) {
                    None => return Ok("no proxy asks for it yet".to_owned()),
                    Some(true) => return Ok("every proxy that asks for it took it".to_owned()),
                    Some(false) => {}
                }
                if activity.changed().await.is_err() {
                    return Err(CredentialError::Unanswered(ANSWER));
                }
            }
        };
        tokio::time::timeout(ANSWER, answered).await.unwrap_or(Err(CredentialError::Unanswered(ANSWER)))
    }

    /// Puts right what somebody changed in the files. Says what that was.
    pub(super) async fn mend(&mut self) -> Result<Vec<String>, CredentialError> {
        self.open_files()?;
        let (Some(generations), Some(written)) = (self.generations.clone(), self.written(&self.entry)?) else {
            return Ok(Vec::new());
        };
        match blocking(move || generations.mend(&written)).await? {
            Some(mended) => Ok(mended),
            None => {
                self.seen = Seen::Other;
                Ok(Vec::new())
            }
        }
    }
}

impl Keeper {
    /// The directory of the files.
    pub(super) fn directory(&self) -> Option<&Path> {
        self.config.files.as_ref().map(|files| files.files.directory.as_path())
    }
}

fn facts<'a>(kept: &'a Kept, key_set: Option<&'a serde_json::Value>) -> Facts<'a> {
    Facts {
        account: kept.account.as_deref(),
        secret: &kept.secret,
        id: &kept.id,
        not_after: kept.not_after.map(leaf::timestamp),
        key_set,
    }
}

/// What the disk takes its time for.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, crate::generation::GenerationError> + Send + 'static,
) -> Result<T, CredentialError> {
    tokio::task::spawn_blocking(work).await.expect("files do not panic").map_err(CredentialError::Files)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use portcullis_policy::UnixTime;

    use super::*;
    use crate::board::Board;
    use crate::credential::Context;
    use crate::credential::Rings;
    use crate::credential::Seal;
    use crate::gate::Gate;
    use crate::room;
    use crate::rotation::tests::context;
    use crate::secret::Secret;

    #[tokio::test]
    async fn what_proxies_on_their_way_back_use_is_not_replaced_yet() {
        let directory = tempfile::tempdir().expect("a directory");
        let agent = context(directory.path(), room::at);
        let publisher = agent.publisher.clone();
        let file = directory.path().join("portcullis.yaml");
        let text = "version: 1\nca: { trust_domain: acme.example }\ncertificates: []\n\
            credentials: [{ name: tickets, source: { session_ticket_keys: {} }, sds: {} }]\n";
        std::fs::write(&file, text).expect("written");
        let config = config::Config::load(&file).expect("a configuration");
        let seal = Seal::open(None, &directory.path().join("seal.key")).expect("a key");
        let gate = Gate::open(publisher.clone(), Board::new(), Arc::clone(&agent.store)).expect("a gate");
        let context = Arc::new(Context { agent, seal, gate, rings: Rings::default() });
        let credential = Arc::new(config.credentials[0].clone());
        let mut keeper = Keeper::open(context, credential, Duration::MAX).await.expect("a keeper");

        publisher.expect_back();
        {
            let mut proof = pin!(keeper.proxies_have_it());
            assert!(tokio::time::timeout(Duration::ZERO, &mut proof).await.is_err());
            publisher.expect_no_more();
            assert_eq!(proof.await.expect("proven"), "no proxy asks for it yet");
        }

        // A token of five seconds would end meanwhile. Of a ring it is the next key that is proven, though the one in use is due.
        publisher.expect_back();
        let kept = |rotate_at| Kept {
            id: "1".to_owned(),
            account: None,
            secret: Secret::new("a key".to_owned()),
            lease: None,
            since: leaf::now(),
            not_after: None,
            rotate_at,
            extend_at: None,
            extended_at: None,
            signed_with: None,
            made_of: "session_ticket_keys".to_owned(),
            set_on: None,
        };
        keeper.entry.current = Some(kept(leaf::now()));
        assert_eq!(keeper.proxies_have_it().await.expect("proven"), "no proxy asks for it yet");
        keeper.entry.next = Some(kept(UnixTime(leaf::now().0 + 3_600)));
        assert!(tokio::time::timeout(Duration::ZERO, keeper.proxies_have_it()).await.is_err());
    }
}
