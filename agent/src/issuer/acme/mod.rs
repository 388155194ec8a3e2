//! Certificates from a CA that speaks ACME (RFC 8555), and when it wants them renewed (RFC 9773).
//!
//! Absent: when to ask, and whether the chain that comes is one to serve; that is the rotation's. An order is advanced in
//! steps, and everything about it but its URL is at the CA: a step that was cut off is taken again, and an order that is
//! `valid` is downloaded and never made again.

/// Asks again for as long as the CA does nothing but refuse the nonce (RFC 8555 §6.5). The library itself tries a few times
/// each.
macro_rules! patiently {
    ($attempt:expr) => {{
        let mut left = $crate::issuer::acme::NONCES;
        loop {
            match $attempt.await {
                Err(instant_acme::Error::Api(problem)) if left > 0 && $crate::issuer::acme::is_bad_nonce(&problem) => {
                    left -= 1;
                }
                outcome => break outcome,
            }
        }
    }};
}

mod account;
mod chain;
mod challenge;
mod error;
mod fatigue;
mod headers;
mod ledger;
mod lost;
mod order;
mod problem;
mod rehearsal;
mod renewal;
mod settings;
mod transport;

use std::sync::Arc;

use hyper::StatusCode;
use instant_acme::Account;
use instant_acme::Identifier;
use instant_acme::NewOrder;
use serde::Deserialize;
use serde::Serialize;

pub use challenge::DnsError;
pub use error::AcmeError;
pub use error::RenewalProblem;
pub use problem::Failure;
pub use problem::Problem;
pub use rehearsal::Rehearsed;
pub use renewal::Suggested;
pub use settings::Challenge;
pub use settings::Check;
pub use settings::Directory;
pub use settings::ExternalAccount;
pub use settings::Limits;
pub use settings::Patience;
pub use settings::Settings;
pub use settings::SettingsError;
pub use settings::Staging;
pub use settings::Tsig;
pub use settings::TsigAlgorithm;
pub use settings::Update;

use super::Progress;
use super::Request;
use crate::leaf;
use crate::names::Names;
use crate::rotation::failpoint;
use crate::store::Store;
use account::Accounts;
use challenge::Challenger;
use challenge::TxtRecord;
use fatigue::Fatigue;
use fatigue::Remedy;
use ledger::Ledger;
use ledger::NameSet;
use lost::Asked;
use order::Open;
use transport::Conversation;
use transport::Transport;

/// Times that the library's own tries are repeated.
const NONCES: usize = 12;

/// One CA. Orders may be advanced at the same time.
pub struct Acme {
    name: String,
    settings: Arc<Settings>,
    transport: Arc<Transport>,
    accounts: Accounts,
    ledger: Ledger,
    challenger: Arc<Challenger>,
    asked: Asked,
    fatigue: Fatigue,
    /// Where whole orders are tried of which nothing is taken into use.
    staging: Option<Box<Self>>,
}

/// What is kept of an order at the server; the default is one that was not made yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AcmeOrder {
    url: Option<String>,
    /// Whether the CA may have made it although its URL was never heard.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_asked: bool,
    /// The directory of the CA that it is at: the name of an issuer may come to mean another.
    #[serde(skip_serializing_if = "Option::is_none")]
    directory: Option<String>,
    /// The certificate that the CA took it to replace (RFC 9773 §5).
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces: Option<String>,
    /// To be taken out of the DNS, whatever becomes of the order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    records: Vec<TxtRecord>,
}

/// What an order is to be made of.
struct Wanted<'a> {
    request: &'a Request,
    identifiers: &'a [Identifier],
    names: &'a NameSet,
    replaced: Option<&'a str>,
}

impl AcmeOrder {
    /// Where it is at the CA, once it was made.
    pub fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// The certificate that the CA took it to replace, as RFC 9773 §4.1 names it.
    pub fn replaces(&self) -> Option<&str> {
        self.replaces.as_deref()
    }
}

impl Acme {
    /// A CA that is known under this name in the store.
    ///
    /// # Errors
    ///
    /// [`AcmeError`], for settings that no client can be made of.
    pub fn new(name: String, settings: Settings, store: Arc<dyn Store>) -> Result<Self, AcmeError> {
        let challenger = Arc::new(Challenger::new(&settings.challenge));
        let staging = match settings.for_staging() {
            Some(of) => {
                Some(Box::new(Self::with(format!("{name}/staging"), of, Arc::clone(&store), &challenger, None)?))
            }
            None => None,
        };
        Self::with(name, settings, store, &challenger, staging)
    }

    /// Proofs of both servers of a name come from one place: they cannot listen at one port each.
    fn with(
        name: String,
        settings: Settings,
        store: Arc<dyn Store>,
        challenger: &Arc<Challenger>,
        staging: Option<Box<Self>>,
    ) -> Result<Self, AcmeError> {
        let settings = Arc::new(settings);
        Ok(Self {
            transport: Arc::new(Transport::new(Arc::clone(&settings))?),
            accounts: Accounts::new(Arc::clone(&store), &name),
            ledger: Ledger::new(store, &name),
            challenger: Arc::clone(challenger),
            asked: Asked::default(),
            fatigue: Fatigue::default(),
            staging,
            settings,
            name,
        })
    }

    /// The name in the store.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Seconds that the CA's clock was ahead of ours when it answered last (RFC 9110 §6.6.1); none before it did.
    pub fn clock_offset(&self) -> Option<i64> {
        self.transport.clock_offset()
    }

    /// Asks for the directory, and says by how many seconds the CA's clock is ahead of ours; none if it does not say.
    ///
    /// # Errors
    ///
    /// [`AcmeError::Network`].
    pub async fn ask_clock(&self) -> Result<Option<i64>, AcmeError> {
        let answer = Conversation::new(Arc::clone(&self.transport)).get(self.settings.directory.url().as_str()).await?;
        Ok(headers::date(&answer.headers).map(|date| date.0 - answer.at.0))
    }

    /// One step: makes the order, or goes on with it as far as it goes. `replaced` is the chain of the certificate that it is
    /// to replace, for CAs that want to know.
    ///
    /// May be taken again with the same arguments after a crash: that an order is asked for was returned to be written down
    /// before it is, and nothing is sent for it before its URL was. One whose answer was lost is looked for where the CA lists
    /// its orders (RFC 8555 §7.1.2.1); a CA that does not list them either returns the same one again, or keeps one that
    /// nobody goes on with.
    ///
    /// # Errors
    ///
    /// [`AcmeError`]: see there when to try again, and whether with the same order.
    pub async fn advance(
        &self,
        request: &Request,
        order: &AcmeOrder,
        replaced: Option<&str>,
    ) -> Result<Progress<AcmeOrder>, AcmeError> {
        let directory = self.settings.directory.url().as_str();
        if order.directory.as_deref().is_some_and(|noted| noted != directory) {
            let (host, detail) = (self.settings.directory.host().to_owned(), "it was made elsewhere".to_owned());
            return Err(AcmeError::Gone { host, detail });
        }
        let identifiers = identifiers(&request.names)?;
        let names = NameSet::new(identifiers.iter().map(challenge::name_of));
        let of_set = order.url.is_none().then_some(&names);
        if let Some(until) = self.ledger.not_before(of_set, leaf::now()).await? {
            return Err(AcmeError::Waiting { host: self.settings.directory.host().to_owned(), until });
        }
        let outcome = self.step(request, &identifiers, &names, order, replaced).await;
        let outcome = match outcome.map_err(|error| error.about(&request.names.labels())) {
            // An order goes with its account; a new one does not wait.
            Err(AcmeError::NoAccount { .. }) if order.url.is_none() => {
                self.step(request, &identifiers, &names, order, replaced).await
            }
            Err(AcmeError::NoAccount { host, detail }) => Err(AcmeError::Gone { host, detail }),
            outcome => outcome,
        };
        // What is only to be written down says nothing of the CA.
        let is_of_ca = !matches!(&outcome, Ok(Progress::Journal(noted)) if noted.url.is_none());
        let remedies = if is_of_ca { self.fatigue.after(outcome.as_ref().err()) } else { Vec::new() };
        for remedy in remedies {
            match remedy {
                Remedy::Connections => self.transport.renew(),
                Remedy::Account => self.accounts.forget(&Conversation::new(Arc::clone(&self.transport))).await?,
            }
        }
        // Limits are of names, closed doors are for everybody.
        match &outcome {
            Err(AcmeError::RateLimited { until: Some(until), .. }) => {
                self.ledger.stay_away(Some(&names), *until).await?;
            }
            Err(AcmeError::Busy { until: Some(until), .. }) => self.ledger.stay_away(None, *until).await?,
            Err(AcmeError::Paused { detail, .. }) => self.ledger.pause(&names, Some(detail.clone())).await?,
            Ok(Progress::Journal(made)) if order.url.is_none() && made.url.is_some() => {
                self.ledger.pause(&names, None).await?;
            }
            _ => {}
        }
        outcome
    }

    /// This order was written down before: another that is looked for with the same names is not it. To be said of each that
    /// the journal has, before any is gone on with.
    pub fn remember(&self, order: &AcmeOrder) {
        if let Some(url) = &order.url {
            self.asked.is_known(url);
        }
    }

    /// Takes the records out of the DNS that an order may have left there. To be called before the order is forgotten.
    pub async fn abandon(&self, order: &AcmeOrder) {
        self.challenger.clean_up(&order.records).await;
    }

    /// Asks the CA although it asked to be left alone, when the next order for these names is made.
    ///
    /// # Errors
    ///
    /// [`AcmeError::Paused`]: asking is of no use before somebody has said at the CA's that it should go on.
    pub async fn override_wait(&self, names: &Names) -> Result<(), AcmeError> {
        let identifiers = identifiers(names)?;
        let names = NameSet::new(identifiers.iter().map(challenge::name_of));
        if let Some(detail) = self.ledger.paused(&names).await? {
            return Err(AcmeError::Paused { host: self.settings.directory.host().to_owned(), detail });
        }
        self.ledger.override_wait(&names).await
    }

    /// Looks whether the names can be proven, as far as one can tell before an order: whether they have an address, or lead into the
    /// zone that is changed. Who does not answer says nothing.
    ///
    /// # Errors
    ///
    /// [`AcmeError::Names`], with those that cannot.
    pub async fn look_at_names(&self, names: &Names) -> Result<(), AcmeError> {
        self.look_at(&identifiers(names)?).await
    }

    async fn look_at(&self, identifiers: &[Identifier]) -> Result<(), AcmeError> {
        let failures = self.challenger.look_at(identifiers, self.settings.resolver).await;
        if failures.is_empty() {
            return Ok(());
        }
        Err(AcmeError::Names { host: self.settings.directory.host().to_owned(), failures })
    }

    /// When the CA wants a certificate renewed; none where it does not say such things.
    ///
    /// # Errors
    ///
    /// [`AcmeError`]: the lifetime then says when.
    pub async fn renewal_info(&self, chain_pem: &str) -> Result<Option<Suggested>, AcmeError> {
        let conversation = Conversation::new(Arc::clone(&self.transport));
        renewal::ask(&conversation, self.settings.directory.url().as_str(), chain_pem).await
    }

    async fn step(
        &self,
        request: &Request,
        identifiers: &[Identifier],
        names: &NameSet,
        noted: &AcmeOrder,
        replaced: Option<&str>,
    ) -> Result<Progress<AcmeOrder>, AcmeError> {
        let conversation = &Conversation::new(Arc::clone(&self.transport));
        let work = async {
            match &noted.url {
                None => {
                    let of = Wanted { request, identifiers, names, replaced };
                    self.make(conversation, &of, noted).await.map(Progress::Journal)
                }
                Some(url) => {
                    self.asked.is_known(url);
                    let account = &self.accounts.open(conversation, &self.settings).await?;
                    Open { acme: self, conversation, account, request, names, noted }.go_on(url).await
                }
            }
        };
        let outcome = work.await;
        if let Err(AcmeError::NoAccount { .. }) = &outcome {
            self.accounts.forget(conversation).await?;
        }
        outcome
    }

    /// Makes an order. Whatever can be refused here is refused before.
    async fn make(
        &self,
        conversation: &Conversation,
        wanted: &Wanted<'_>,
        noted: &AcmeOrder,
    ) -> Result<AcmeOrder, AcmeError> {
        let Wanted { request, identifiers, names, replaced } = *wanted;
        if let Some(refusal) = self.ledger.refusal(names, &self.settings.limits, leaf::now()).await? {
            let ledger::Refusal { what, names, count, until } = refusal;
            return Err(AcmeError::Budget { what, names, count, until });
        }
        self.challenger.probe().await?;
        if !noted.is_asked {
            self.look_at(identifiers).await?;
        }
        let account = self.accounts.open(conversation, &self.settings).await?;
        self.check_profile(conversation, &account)?;
        if !noted.is_asked {
            self.asked.begin(request);
            let directory = Some(self.settings.directory.url().to_string());
            return Ok(AcmeOrder { is_asked: true, directory, ..noted.clone() });
        }
        // Otherwise somebody has asked before, and heard nothing.
        if !self.asked.is_first(request)
            && let Some(found) = self.asked.look(conversation, &account, identifiers).await?
        {
            tracing::info!(ca = conversation.host(), "an order whose answer was lost is gone on with");
            return Ok(AcmeOrder { url: Some(found.url), replaces: found.replaces, ..noted.clone() });
        }
        failpoint::hit("acme-order");
        let order = self.order(conversation, &account, identifiers, replaced).await?;
        failpoint::hit("acme-order-made");
        Ok(order)
    }

    /// Asks for an order.
    async fn order(
        &self,
        conversation: &Conversation,
        account: &Account,
        identifiers: &[Identifier],
        replaced: Option<&str>,
    ) -> Result<AcmeOrder, AcmeError> {
        if let Some(replaces) = replaced.and_then(renewal::identifier) {
            match self.send(conversation, account, identifiers, Some(&replaces)).await {
                // Whatever it has against the replacement: a certificate is needed all the same.
                Err(error @ (AcmeError::Refused { .. } | AcmeError::Answer { .. } | AcmeError::Status { .. })) => {
                    let error = crate::errors::chain(&error);
                    tracing::warn!(ca = conversation.host(), error, "ordering without saying what is replaced");
                }
                outcome => return outcome,
            }
        }
        self.send(conversation, account, identifiers, None).await
    }

    async fn send(
        &self,
        conversation: &Conversation,
        account: &Account,
        identifiers: &[Identifier],
        replaces: Option<&str>,
    ) -> Result<AcmeOrder, AcmeError> {
        let mut new = NewOrder::new(identifiers);
        if let Some(profile) = &self.settings.profile {
            new = new.profile(profile);
        }
        if let Some((key, serial)) = replaces.and_then(|replaces| replaces.split_once('.')) {
            let (authority_key_identifier, serial) = (key.into(), serial.into());
            new = new.replaces(instant_acme::CertificateIdentifier { authority_key_identifier, serial });
        }
        let directory = Some(self.settings.directory.url().to_string());
        let url = |url: String| {
            self.asked.is_known(&url);
            AcmeOrder { url: Some(url), is_asked: true, directory: directory.clone(), ..AcmeOrder::default() }
        };
        match patiently!(account.new_order(&new)) {
            Ok(order) => Ok(AcmeOrder { replaces: replaces.map(str::to_owned), ..url(order.into_parts().0) }),
            // Made, but the CA does not say back what is replaced: one order is enough.
            Err(error) => match conversation.last().filter(|answer| answer.status == StatusCode::CREATED) {
                Some(answer) if replaces.is_some() && answer.location().is_some() => {
                    Ok(url(answer.location().unwrap_or_default().to_owned()))
                }
                _ => Err(conversation.error(error)),
            },
        }
    }

    fn check_profile(&self, conversation: &Conversation, account: &Account) -> Result<(), AcmeError> {
        let Some(profile) = &self.settings.profile else { return Ok(()) };
        let mut offered: Vec<&str> = account.profiles().map(|offered| offered.name).collect();
        if offered.contains(&profile.as_str()) {
            return Ok(());
        }
        offered.sort_unstable();
        let offered = if offered.is_empty() { "none".to_owned() } else { problem::clean(&offered.join(", ")) };
        Err(AcmeError::NoProfile { host: conversation.host(), profile: profile.clone(), offered })
    }
}

/// The names as ACME writes them.
fn identifiers(names: &Names) -> Result<Vec<Identifier>, AcmeError> {
    if let Some(id) = names.spiffe() {
        return Err(AcmeError::Spiffe { id: id.to_owned() });
    }
    let dns = names.dns().iter().cloned().map(Identifier::Dns);
    Ok(dns.chain(names.ip().iter().copied().map(Identifier::Ip)).collect())
}

fn is_bad_nonce(problem: &instant_acme::Problem) -> bool {
    problem.r#type.as_deref() == Some("urn:ietf:params:acme:error:badNonce")
}
