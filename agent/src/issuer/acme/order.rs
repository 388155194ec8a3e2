//! One order from its URL to its chain (RFC 8555 §7.4). What is known of it is at the CA: each step begins by asking, so that
//! it may be taken again at any time.

use std::time::Duration;

use hyper::StatusCode;
use instant_acme::Account;
use instant_acme::AuthorizationStatus;
use instant_acme::ChallengeStatus;
use instant_acme::ChallengeType;
use instant_acme::Order;
use instant_acme::OrderStatus;
use rcgen::CertificateParams;
use rcgen::DistinguishedName;
use tokio::time::Instant;

use super::Acme;
use super::AcmeOrder;
use super::chain;
use super::challenge;
use super::challenge::Before;
use super::challenge::Proof;
use super::error::AcmeError;
use super::headers;
use super::ledger::NameSet;
use super::problem::Failure;
use super::problem::Problem;
use super::problem::clean;
use super::transport::Conversation;
use crate::issuer::Progress;
use crate::issuer::Request;
use crate::leaf;
use crate::rotation::failpoint;

/// Between two looks, at first and at most, where the CA does not say.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// For the names of an order that is over.
const SETTLE: Duration = Duration::from_secs(10);
/// Media type of a chain (RFC 8555 §9.1).
const CHAIN: &str = "application/pem-certificate-chain";

/// An order that the CA has, and what is needed to go on with it.
pub(super) struct Open<'a> {
    pub(super) acme: &'a Acme,
    pub(super) conversation: &'a Conversation,
    pub(super) account: &'a Account,
    pub(super) request: &'a Request,
    pub(super) names: &'a NameSet,
    pub(super) noted: &'a AcmeOrder,
}

/// What an authorization says.
enum Outlook {
    Proven,
    ToProve(Box<Proof>),
    Failed(Failure),
    Unsupported { name: String, offered: String },
}

impl Open<'_> {
    /// Goes on until the chain is there, or something has to be written down first.
    pub(super) async fn go_on(&self, url: &str) -> Result<Progress<AcmeOrder>, AcmeError> {
        failpoint::hit("acme-order-kept");
        let outcome = self.to_the_end(url).await;
        if outcome.as_ref().is_err_and(AcmeError::is_final) {
            self.acme.ledger.no_certificate(self.names, url).await?;
        }
        outcome
    }

    async fn to_the_end(&self, url: &str) -> Result<Progress<AcmeOrder>, AcmeError> {
        let found = patiently!(self.account.order(url.to_owned()));
        let mut order = found.map_err(|error| self.gone(error))?;
        let mut is_finalized = false;
        // What an attempt before this one put into the DNS is of no use once the CA has its verdict.
        let mut is_clean = false;
        loop {
            let status = order.state().status;
            if status != OrderStatus::Pending && !is_clean {
                self.acme.challenger.clean_up(&self.noted.records).await;
                is_clean = true;
            }
            match status {
                OrderStatus::Pending => {
                    if let Some(noted) = self.prove(&mut order).await? {
                        return Ok(Progress::Journal(noted));
                    }
                    is_clean = true;
                }
                OrderStatus::Ready if !is_finalized => {
                    self.finalize(&mut order).await?;
                    is_finalized = true;
                }
                OrderStatus::Ready | OrderStatus::Processing => {
                    self.wait(&mut order, "the certificate", |status| {
                        !matches!(status, OrderStatus::Ready | OrderStatus::Processing)
                    })
                    .await?;
                }
                OrderStatus::Valid => {
                    failpoint::hit("acme-valid");
                    let chain = self.chain(&mut order).await?;
                    failpoint::hit("acme-downloaded");
                    return Ok(Progress::Issued(chain));
                }
                OrderStatus::Invalid => return Err(self.why(&mut order).await),
            }
        }
    }

    /// Has the CA validate whatever it has not yet. Returns what has to be written down first, if there is something.
    async fn prove(&self, order: &mut Order) -> Result<Option<AcmeOrder>, AcmeError> {
        let kind = self.acme.challenger.kind();
        let outlooks = patiently!(outlooks(order, &kind)).map_err(|error| self.conversation.error(error))?;
        let mut proofs = Vec::new();
        let mut failures = Vec::new();
        for outlook in outlooks {
            match outlook {
                Outlook::Proven => {}
                Outlook::ToProve(proof) => proofs.push(*proof),
                Outlook::Failed(failure) => failures.push(failure),
                Outlook::Unsupported { name, offered } => {
                    let wanted = self.acme.challenger.word();
                    return Err(AcmeError::NoChallenge { host: self.conversation.host(), name, wanted, offered });
                }
            }
        }
        if !failures.is_empty() {
            return Err(self.invalid(order.url(), failures).await);
        }
        let records = self.acme.challenger.records(&proofs);
        let (known, new): (Vec<_>, Vec<_>) =
            records.iter().cloned().partition(|record| self.noted.records.contains(record));
        if !new.is_empty() {
            let records = self.noted.records.iter().cloned().chain(new).collect();
            return Ok(Some(AcmeOrder { records, ..self.noted.clone() }));
        }
        let others: Vec<_> = self.noted.records.iter().filter(|record| !known.contains(record)).cloned().collect();
        self.acme.challenger.clean_up(&others).await;
        failpoint::hit("acme-present");
        let limits = &self.acme.settings.limits;
        let has_failed = self.acme.ledger.has_failed(self.names, limits, leaf::now()).await?;
        let before = if has_failed { Before::Looked } else { Before::Unseen };
        let presented = self.acme.challenger.present(&proofs, before).await?;
        failpoint::hit("acme-presented");
        let outcome = self.validate(order, &kind).await;
        failpoint::hit("acme-validated");
        presented.remove().await;
        outcome.map(|()| None)
    }

    /// Tells the CA that everything is in place, and waits for its verdict.
    async fn validate(&self, order: &mut Order, kind: &ChallengeType) -> Result<(), AcmeError> {
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(|error| self.conversation.error(error))?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let Some(mut challenge) = authorization.challenge(kind.clone()) else { continue };
            if challenge.status != ChallengeStatus::Pending {
                continue;
            }
            if let Err(error) = patiently!(challenge.set_ready()) {
                // A success that speaks of a failure is what the order will say as well, and in whole.
                let is_verdict = self.conversation.last().is_some_and(|answer| answer.status.is_success());
                if !(is_verdict && matches!(error, instant_acme::Error::Api(_))) {
                    return Err(self.conversation.error(error));
                }
            }
        }
        failpoint::hit("acme-validating");
        self.wait(order, "validating", |status| status != OrderStatus::Pending).await?;
        if order.state().status == OrderStatus::Invalid {
            self.settle(order.url(), kind).await;
        }
        Ok(())
    }

    /// One name ends an order while the CA still looks at others: they are not to fail because nobody answers any more.
    async fn settle(&self, url: &str, kind: &ChallengeType) {
        let deadline = Instant::now() + SETTLE;
        let mut pause = FIRST_PAUSE;
        while Instant::now() < deadline {
            let Ok(mut order) = patiently!(self.account.order(url.to_owned())) else { return };
            let Ok(outlooks) = patiently!(outlooks(&mut order, kind)) else { return };
            if !outlooks.iter().any(|outlook| matches!(outlook, Outlook::ToProve(_))) {
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn finalize(&self, order: &mut Order) -> Result<(), AcmeError> {
        let csr = self.csr()?;
        // First: what is not counted could be asked for without end.
        let limits = self.acme.settings.limits;
        self.acme.ledger.certificate(self.names, order.url(), limits, leaf::now()).await?;
        failpoint::hit("acme-finalize");
        patiently!(order.finalize_csr(&csr)).map_err(|error| self.conversation.error(error))?;
        failpoint::hit("acme-finalized");
        Ok(())
    }

    fn csr(&self) -> Result<Vec<u8>, AcmeError> {
        let names = &self.request.names;
        let names = names.dns().iter().cloned().chain(names.ip().iter().map(ToString::to_string));
        let mut params = CertificateParams::new(names.collect::<Vec<_>>()).map_err(AcmeError::Csr)?;
        params.distinguished_name = DistinguishedName::new();
        let pair = self.request.key.pair().map_err(AcmeError::Key)?;
        let csr = params.serialize_request(&pair).map_err(AcmeError::Csr)?;
        Ok(csr.der().to_vec())
    }

    /// Asks until the status is one that `is_over` likes.
    async fn wait(
        &self,
        order: &mut Order,
        what: &'static str,
        is_over: impl Fn(OrderStatus) -> bool + Send,
    ) -> Result<(), AcmeError> {
        // From now on: until here, a hook may have had to wait for the DNS.
        let deadline = Instant::now() + self.acme.settings.patience.work;
        let mut pause = FIRST_PAUSE;
        loop {
            patiently!(order.refresh()).map_err(|error| self.conversation.error(error))?;
            if is_over(order.state().status) {
                return Ok(());
            }
            let until = self.conversation.retry_after();
            let asked =
                until.map(|until| until.0.saturating_sub(leaf::now().0)).and_then(|wait| u64::try_from(wait).ok());
            let wait = asked.map_or(pause, |asked| Duration::from_secs(asked).max(FIRST_PAUSE));
            if Instant::now() + wait > deadline {
                return Err(AcmeError::Unfinished { host: self.conversation.host(), what, until });
            }
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Downloads the chain that is preferred, or the first.
    async fn chain(&self, order: &mut Order) -> Result<String, AcmeError> {
        let first = patiently!(order.certificate()).map_err(|error| self.gone(error))?;
        let first = first.ok_or_else(|| self.not_a_chain())?;
        let alternates = self.conversation.last().map(|answer| headers::links(&answer.headers, "alternate"));
        let mut taken = first;
        if let Some(preferred) = &self.acme.settings.preferred_chain
            && !chain::leads_to(&taken, preferred)
        {
            let mut found = None;
            for url in alternates.unwrap_or_default() {
                let other = self.alternate(&url).await?;
                if chain::leads_to(&other, preferred) {
                    found = Some(other);
                    break;
                }
            }
            match found {
                Some(other) => taken = other,
                None => tracing::warn!(
                    ca = self.conversation.host(),
                    preferred,
                    "the CA offers no chain to the preferred root; its first one is taken"
                ),
            }
        }
        chain::without_root(&taken).map_err(|_| self.not_a_chain())
    }

    /// Downloads a chain that the CA offers beside the first.
    async fn alternate(&self, url: &str) -> Result<String, AcmeError> {
        // The library asks for orders only, and finds that this is none; the answer is what is wanted.
        let outcome = patiently!(self.account.order(url.to_owned())).map(drop);
        let answer = self.conversation.last();
        let is_chain = |answer: &super::transport::Answer| {
            let found = headers::text(&answer.headers, &hyper::header::CONTENT_TYPE).unwrap_or_default();
            answer.status == StatusCode::OK && found.starts_with(CHAIN)
        };
        match answer.filter(is_chain) {
            Some(answer) => String::from_utf8(answer.body.to_vec()).map_err(|_| self.not_a_chain()),
            None => Err(outcome.map_or_else(|error| self.conversation.error(error), |()| self.not_a_chain())),
        }
    }

    /// Why an order is over.
    async fn why(&self, order: &mut Order) -> AcmeError {
        let of_order = order.state().error.clone();
        let url = order.url().to_owned();
        // Not as it was before the CA's verdict.
        let fresh = patiently!(self.account.order(url.clone()));
        let kind = self.acme.challenger.kind();
        let outlooks = match fresh {
            Ok(mut fresh) => patiently!(outlooks(&mut fresh, &kind)).unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        let mut failures: Vec<Failure> = outlooks
            .into_iter()
            .filter_map(|outlook| if let Outlook::Failed(failure) = outlook { Some(failure) } else { None })
            .collect();
        if let Some(problem) = of_order.filter(|_| failures.is_empty()) {
            failures.extend(problem.subproblems.iter().map(|part| {
                let name = part.identifier.as_ref().map(challenge::name_of).unwrap_or_default();
                let problem = instant_acme::Problem {
                    r#type: part.r#type.clone(),
                    detail: part.detail.clone(),
                    status: None,
                    subproblems: Vec::new(),
                };
                Problem::failure(clean(&name), Some(&problem))
            }));
            if failures.is_empty() {
                failures.push(Problem::failure(self.request.names.label(), Some(&problem)));
            }
        }
        self.invalid(&url, failures).await
    }

    /// This order is over: writes down which names are at fault.
    async fn invalid(&self, order: &str, failures: Vec<Failure>) -> AcmeError {
        let failed = failures.iter().map(|failure| failure.name.clone()).collect();
        let limits = self.acme.settings.limits;
        let noted = self.acme.ledger.failures(self.names, order, failed, limits, leaf::now()).await;
        let host = self.conversation.host();
        noted.map_or_else(|error| error, |()| AcmeError::Invalid { host, failures })
    }

    /// An order, or a certificate, that the CA does not have, or not for this account, is over.
    fn gone(&self, error: instant_acme::Error) -> AcmeError {
        match self.conversation.error(error) {
            AcmeError::Refused { host, status: StatusCode::NOT_FOUND | StatusCode::GONE, problem } => {
                AcmeError::Gone { host, detail: problem.to_string() }
            }
            AcmeError::Refused { host, problem, .. } if problem.kind == "unauthorized" => {
                AcmeError::Gone { host, detail: problem.to_string() }
            }
            AcmeError::Status { host, status: status @ (StatusCode::NOT_FOUND | StatusCode::GONE) } => {
                AcmeError::Gone { host, detail: status.to_string() }
            }
            error => error,
        }
    }

    fn not_a_chain(&self) -> AcmeError {
        AcmeError::Chain { host: self.conversation.host() }
    }
}

/// What the authorizations of an order say.
async fn outlooks(order: &mut Order, kind: &ChallengeType) -> Result<Vec<Outlook>, instant_acme::Error> {
    let mut outlooks = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        let identifier = authorization.identifier();
        let (name, identifier) = (clean(&identifier.to_string()), identifier.identifier.clone());
        let failed = |problem| Outlook::Failed(Problem::failure(name.clone(), problem));
        outlooks.push(match authorization.status {
            AuthorizationStatus::Valid => Outlook::Proven,
            AuthorizationStatus::Pending => {
                let offered = authorization.challenges.iter().map(|challenge| challenge::word(&challenge.r#type));
                let offered = clean(&offered.collect::<Vec<_>>().join(", "));
                match authorization.challenge(kind.clone()) {
                    Some(challenge) => {
                        let key_authorization = challenge.key_authorization();
                        Outlook::ToProve(Box::new(Proof {
                            identifier,
                            token: challenge.token.clone(),
                            digest: key_authorization.digest().as_ref().to_vec(),
                            dns_value: key_authorization.dns_value(),
                            key_authorization: key_authorization.as_str().to_owned(),
                        }))
                    }
                    None => Outlook::Unsupported { name, offered },
                }
            }
            AuthorizationStatus::Invalid => {
                failed(authorization.challenges.iter().find_map(|challenge| challenge.error.as_ref()))
            }
            AuthorizationStatus::Revoked | AuthorizationStatus::Expired | AuthorizationStatus::Deactivated => {
                failed(None)
            }
        });
    }
    Ok(outlooks)
}
