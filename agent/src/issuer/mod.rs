//! Who signs certificates: the built-in CA, an ACME server, OpenBao or Vault, or somebody who puts them into a directory.
//! One order at a time, each step of it written down by the caller before the next is taken, so that a crash never orders twice.
//!
//! Absent: when to issue, and what becomes of the answer; nobody here trusts an answer, which is checked as a peer would.

pub mod acme;
mod csr;
pub mod directory;
pub mod openbao;
mod order;
mod roots;
mod shelf;
mod spell;

use std::path::Path;
use std::sync::Arc;

use portcullis_policy::UnixTime;
use tokio::time::Instant;

use crate::ca::Authorities;
use crate::ca::CaError;
use crate::errors::chain;
use crate::keys::KeyError;
use crate::keys::PrivateKey;
use crate::leaf::Leaf;
use crate::names::Names;

pub use csr::CsrError;
pub use order::Order;
pub use order::Progress;
pub use order::Request;
pub use roots::Roots;
pub use roots::RootsError;
pub use shelf::Issuers;
pub use shelf::IssuersError;

use acme::Acme;
use acme::AcmeError;
use acme::AcmeOrder;
use acme::Rehearsed;
use acme::Suggested;
use directory::Awaited;
use directory::Directory;
use directory::DirectoryError;
use openbao::OpenBao;
use openbao::SignError;
use spell::Spell;

/// The name of the built-in CA among the issuers.
pub const BUILT_IN: &str = "built-in";

/// Somebody who signs.
pub struct Issuer {
    name: String,
    /// Of the built-in CA, its authorities know.
    roots: Arc<Roots>,
    kind: Kind,
    spell: Spell,
}

enum Kind {
    Acme(Box<Acme>),
    BuiltIn(Authorities),
    Directory(Box<Directory>),
    OpenBao(Box<OpenBao>),
}

/// Why an issuer did not issue. What was good before still is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The ACME server, or the way there.
    #[error("the order at the ACME server failed")]
    Acme(#[source] AcmeError),
    /// The built-in CA.
    #[error("the built-in CA did not sign")]
    BuiltIn(#[source] CaError),
    /// Whoever writes into the directory.
    #[error("no certificate can be taken from the directory")]
    Directory(#[source] DirectoryError),
    /// The configuration names it no more.
    #[error("no issuer `{name}` is configured any more")]
    Gone {
        /// Its name.
        name: String,
    },
    /// No key could be made.
    #[error("no key can be made")]
    Key(#[source] KeyError),
    /// It is not asked for anything at a server.
    #[error("orders of `{name}` cannot be rehearsed: only ACME servers have a `staging`")]
    NoRehearsal {
        /// Its name.
        name: String,
    },
    /// OpenBao or Vault, or the way there.
    #[error("OpenBao did not sign")]
    OpenBao(#[source] SignError),
}

impl IssueError {
    /// Until when the issuer asked to be left alone.
    pub fn retry_after(&self) -> Option<UnixTime> {
        match self {
            Self::Acme(error) => error.retry_after(),
            Self::OpenBao(error) => error.retry_after(),
            Self::BuiltIn(_) | Self::Directory(_) | Self::Gone { .. } | Self::Key(_) | Self::NoRehearsal { .. } => None,
        }
    }

    /// Whether the order can never succeed: the next one has a new key.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Acme(error) => error.is_final(),
            Self::Gone { .. } => true,
            Self::BuiltIn(_) | Self::Directory(_) | Self::Key(_) | Self::NoRehearsal { .. } | Self::OpenBao(_) => false,
        }
    }

    /// Whether a server, or the way there, is not as it should be. One that asks to be left alone is.
    fn is_of_server(&self) -> bool {
        match self {
            Self::Acme(error) => !error.is_expected() && error.retry_after().is_none(),
            Self::OpenBao(error) => error.retry_after().is_none(),
            Self::BuiltIn(_) | Self::Directory(_) | Self::Gone { .. } | Self::Key(_) | Self::NoRehearsal { .. } => {
                false
            }
        }
    }

    /// Whether it is about somebody who cannot be asked, and says nothing of what would come of an order elsewhere.
    pub fn says_nothing(&self) -> bool {
        match self {
            Self::Acme(error) => error.says_nothing(),
            _ => true,
        }
    }
}

impl Issuer {
    /// The CA in this process.
    pub fn built_in(authorities: Authorities) -> Self {
        Self::of(BUILT_IN.to_owned(), authorities.roots(), Kind::BuiltIn(authorities))
    }

    /// An ACME server whose certificates lead to `roots`.
    pub fn acme(name: String, roots: Roots, acme: Acme) -> Self {
        Self::of(name, Arc::new(roots), Kind::Acme(Box::new(acme)))
    }

    /// A directory with certificates that lead to `roots`.
    pub fn directory(name: String, roots: Roots, directory: Directory) -> Self {
        Self::of(name, Arc::new(roots), Kind::Directory(Box::new(directory)))
    }

    /// A PKI engine whose certificates lead to `roots`.
    pub fn openbao(name: String, roots: Roots, openbao: OpenBao) -> Self {
        Self::of(name, Arc::new(roots), Kind::OpenBao(Box::new(openbao)))
    }

    fn of(name: String, roots: Arc<Roots>, kind: Kind) -> Self {
        Self { name, roots, kind, spell: Spell::default() }
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its certificates lead to.
    pub fn roots(&self) -> Arc<Roots> {
        match &self.kind {
            Kind::BuiltIn(authorities) => authorities.roots(),
            Kind::Acme(_) | Kind::Directory(_) | Kind::OpenBao(_) => Arc::clone(&self.roots),
        }
    }

    /// Fixes all that is to be signed, a new key included. Asks nobody; write it down before [`Self::advance`].
    ///
    /// # Errors
    ///
    /// [`IssueError`].
    pub fn order(&self, names: Names, lifetime: i64, now: UnixTime) -> Result<Order, IssueError> {
        let issuer = self.name.clone();
        let request = |names| {
            let key = PrivateKey::generate().map_err(IssueError::Key)?;
            Ok(Request { key, names, lifetime })
        };
        Ok(match &self.kind {
            Kind::BuiltIn(authorities) => {
                let authority = authorities.issuing();
                let order = authority.order(names, lifetime, authority.directory(), now);
                Order::BuiltIn(order.map_err(IssueError::BuiltIn)?)
            }
            Kind::Acme(_) => Order::Acme { issuer, request: request(names)?, order: AcmeOrder::default() },
            Kind::Directory(_) => Order::Directory { issuer, awaited: Awaited { names, found: None } },
            Kind::OpenBao(_) => Order::OpenBao { issuer, request: request(names)? },
        })
    }

    /// Takes the next step of an order that this issuer made. Safe to take again after a crash. `replaced` is the chain in PEM
    /// of the certificate that the new one is to replace.
    ///
    /// # Errors
    ///
    /// [`IssueError`].
    pub async fn advance(&self, order: &Order, replaced: Option<&str>) -> Result<Progress<Order>, IssueError> {
        let outcome = self.step(order, replaced).await;
        match &outcome {
            Ok(Progress::Issued(_)) => self.spell.issued(),
            Err(error) if error.is_of_server() => self.spell.failed(),
            Ok(Progress::Journal(_)) | Err(_) => {}
        }
        outcome
    }

    /// Since when it only fails at `now`, if it is a server, issued to this process before, and is asked still.
    fn failing_since(&self, now: Instant) -> Option<Instant> {
        self.spell.failing_since(now)
    }

    async fn step(&self, order: &Order, replaced: Option<&str>) -> Result<Progress<Order>, IssueError> {
        match (&self.kind, order) {
            (Kind::BuiltIn(authorities), Order::BuiltIn(order)) => {
                authorities.issuing().sign(order).map(Progress::Issued).map_err(IssueError::BuiltIn)
            }
            (Kind::Acme(acme), Order::Acme { issuer, request, order }) => {
                let progress = acme.advance(request, order, replaced).await.map_err(IssueError::Acme)?;
                Ok(match progress {
                    Progress::Issued(chain_pem) => Progress::Issued(chain_pem),
                    Progress::Journal(order) => {
                        Progress::Journal(Order::Acme { issuer: issuer.clone(), request: request.clone(), order })
                    }
                })
            }
            (Kind::Directory(directory), Order::Directory { issuer, awaited }) => {
                let progress = directory.advance(awaited, replaced).await.map_err(IssueError::Directory)?;
                Ok(match progress {
                    Progress::Issued(chain_pem) => Progress::Issued(chain_pem),
                    Progress::Journal(awaited) => {
                        Progress::Journal(Order::Directory { issuer: issuer.clone(), awaited })
                    }
                })
            }
            (Kind::OpenBao(openbao), Order::OpenBao { request, .. }) => {
                openbao.sign(request).await.map(Progress::Issued).map_err(IssueError::OpenBao)
            }
            // It has another kind of issuer's name now.
            (_, order) => Err(IssueError::Gone { name: order.issuer().to_owned() }),
        }
    }

    /// Asks by how many seconds its clock is ahead of ours (RFC 9110 §6.6.1); none where there is no clock but ours, nothing is
    /// said, or nobody answers.
    pub async fn ask_clock(&self) -> Option<i64> {
        let asked = match &self.kind {
            Kind::Acme(acme) => acme.ask_clock().await.map_err(IssueError::Acme),
            Kind::BuiltIn(_) | Kind::Directory(_) => Ok(None),
            Kind::OpenBao(openbao) => openbao.ask_clock().await.map_err(IssueError::OpenBao),
        };
        asked.unwrap_or_else(|error| {
            tracing::warn!(issuer = self.name, error = chain(&error), "its clock cannot be asked for");
            None
        })
    }

    /// Whether a whole order can be rehearsed, of which nothing is taken into use.
    pub fn can_rehearse(&self) -> bool {
        matches!(&self.kind, Kind::Acme(acme) if acme.can_rehearse())
    }

    /// Rehearses an order for these names.
    ///
    /// # Errors
    ///
    /// [`IssueError::Acme`], also where there is nowhere to; [`IssueError::NoRehearsal`] where there can be nowhere.
    pub async fn rehearse(&self, names: Names, lifetime: i64) -> Result<Rehearsed, IssueError> {
        let Kind::Acme(acme) = &self.kind else {
            return Err(IssueError::NoRehearsal { name: self.name.clone() });
        };
        let key = PrivateKey::generate().map_err(IssueError::Key)?;
        acme.rehearse(Request { key, names, lifetime }).await.map_err(IssueError::Acme)
    }

    /// Takes away what a rehearsal for these names left elsewhere that was cut off.
    ///
    /// # Errors
    ///
    /// [`IssueError::Acme`].
    pub async fn forget_rehearsal(&self, names: &Names) -> Result<(), IssueError> {
        match &self.kind {
            Kind::Acme(acme) => acme.forget_rehearsal(names).await.map_err(IssueError::Acme),
            Kind::BuiltIn(_) | Kind::Directory(_) | Kind::OpenBao(_) => Ok(()),
        }
    }

    /// Looks whether it would accept these names, as far as one can tell without an order.
    ///
    /// # Errors
    ///
    /// [`IssueError::Acme`], with the names that it would not.
    pub async fn look_at_names(&self, names: &Names) -> Result<(), IssueError> {
        match &self.kind {
            Kind::Acme(acme) => acme.look_at_names(names).await.map_err(IssueError::Acme),
            Kind::BuiltIn(_) | Kind::Directory(_) | Kind::OpenBao(_) => Ok(()),
        }
    }

    /// Has the next order for these names made although the issuer asked to be left alone.
    ///
    /// # Errors
    ///
    /// [`IssueError::Acme`], if that is of no use.
    pub async fn override_wait(&self, names: &Names) -> Result<(), IssueError> {
        match &self.kind {
            Kind::Acme(acme) => acme.override_wait(names).await.map_err(IssueError::Acme),
            Kind::BuiltIn(_) | Kind::Directory(_) | Kind::OpenBao(_) => Ok(()),
        }
    }

    /// Takes note of an order that the journal has, so that nobody else takes it for theirs. To be said of each before any is
    /// gone on with.
    pub fn remember(&self, order: &Order) {
        if let (Kind::Acme(acme), Order::Acme { order, .. }) = (&self.kind, order) {
            acme.remember(order);
        }
    }

    /// Takes away what an order left elsewhere that nobody goes on with.
    pub async fn abandon(&self, order: &Order) {
        if let (Kind::Acme(acme), Order::Acme { order, .. }) = (&self.kind, order) {
            acme.abandon(order).await;
        }
    }

    /// The leaf that somebody offers without being asked, or what is wrong with what they offer; none where one has to ask.
    pub fn offered(&self) -> Option<Result<Leaf, String>> {
        match &self.kind {
            Kind::Directory(directory) => directory.offered(),
            Kind::Acme(_) | Kind::BuiltIn(_) | Kind::OpenBao(_) => None,
        }
    }

    /// The directory that somebody else has to write to, where it is of no use to ask.
    pub fn waits_at(&self) -> Option<&Path> {
        match &self.kind {
            Kind::Directory(directory) => Some(directory.path()),
            Kind::Acme(_) | Kind::BuiltIn(_) | Kind::OpenBao(_) => None,
        }
    }

    /// Whether it says when it wants a certificate renewed.
    pub fn gives_advice(&self) -> bool {
        matches!(self.kind, Kind::Acme(_))
    }

    /// When it wants a certificate renewed, whose chain in PEM this is; none where it does not say.
    ///
    /// # Errors
    ///
    /// [`IssueError::Acme`]: the lifetime says when, then.
    pub async fn advice(&self, chain_pem: &str) -> Result<Option<Suggested>, IssueError> {
        match &self.kind {
            Kind::Acme(acme) => acme.renewal_info(chain_pem).await.map_err(IssueError::Acme),
            Kind::BuiltIn(_) | Kind::Directory(_) | Kind::OpenBao(_) => Ok(None),
        }
    }
}
