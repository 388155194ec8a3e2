//! Where credentials come from that others make: OpenBao, OAuth 2.0 authorization servers.
//!
//! Absent: when to ask. A source remembers its own login and nothing of what it gave.

mod error;
mod oauth;
mod openbao;

use jiff::Timestamp;

use super::material::Material;

pub use error::SourceError;
pub use oauth::ClientAuth;
pub use oauth::Grant;
pub use oauth::OauthSettings;
pub use openbao::BaoSettings;
pub use openbao::Field;

use oauth::Oauth;
use openbao::Database;
use openbao::Kv;
use openbao::Static;

/// A source as the configuration has it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Settings {
    /// An authorization server.
    Oauth(OauthSettings),
    /// The database engine of OpenBao: an account of its own each time.
    OpenbaoDatabase(BaoSettings),
    /// Its key-value engine (version 2).
    OpenbaoKv(BaoSettings, Field),
    /// A static role of its database engine: an account whose password it changes.
    OpenbaoStatic(BaoSettings),
}

/// A source that can be asked.
pub struct Source(Kind);

enum Kind {
    Oauth(Oauth),
    OpenbaoDatabase(Database),
    OpenbaoKv(Kv),
    OpenbaoStatic(Static),
}

/// What a source gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obtained {
    /// The credential.
    pub material: Material,
    /// When it ends, if it does; for a lease the end of the lease as it stands, or of the login that it is lent to if that is earlier.
    pub not_after: Option<Timestamp>,
    /// The lease, where it can be extended and given back.
    pub lease: Option<Lease>,
    /// What tells it from another one, never the secret or a plain hash of it: a version, a lease's end. Goes to the audit log.
    pub id: String,
}

/// What is lent (OpenBao: `lease_id`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its name; no secret, but not to be shown either.
    pub id: String,
    /// Whether its end can be put off.
    pub renewable: bool,
    /// The login that it is lent to, and ends with (OpenBao: the token's accessor).
    pub login: Option<String>,
}

impl Source {
    /// Reads what is needed to ask, and asks nobody.
    ///
    /// # Errors
    ///
    /// [`SourceError`].
    pub fn new(settings: Settings) -> Result<Self, SourceError> {
        Ok(Self(match settings {
            Settings::Oauth(settings) => Kind::Oauth(Oauth::new(settings)?),
            Settings::OpenbaoDatabase(settings) => Kind::OpenbaoDatabase(Database::new(settings)?),
            Settings::OpenbaoKv(settings, field) => Kind::OpenbaoKv(Kv::new(settings, field)?),
            Settings::OpenbaoStatic(settings) => Kind::OpenbaoStatic(Static::new(settings)?),
        }))
    }

    /// Asks for a credential. Each call may make another one; what it gave before stays good until its end.
    ///
    /// # Errors
    ///
    /// [`SourceError`].
    pub async fn obtain(&self) -> Result<Obtained, SourceError> {
        match &self.0 {
            Kind::Oauth(source) => source.obtain().await,
            Kind::OpenbaoDatabase(source) => source.obtain().await,
            Kind::OpenbaoKv(source) => source.obtain().await,
            Kind::OpenbaoStatic(source) => source.obtain().await,
        }
    }

    /// Puts off the end of a lease, and that of the login below it first. None where it ends as it would have: it cannot be put off,
    /// or it was lent to a login that is no more. Then another one is to be obtained.
    ///
    /// # Errors
    ///
    /// [`SourceError`]; [`SourceError::LeaseGone`] if it has ended.
    pub async fn renew(&self, lease: &Lease) -> Result<Option<Timestamp>, SourceError> {
        match &self.0 {
            Kind::OpenbaoDatabase(source) => source.renew(lease).await,
            Kind::Oauth(_) | Kind::OpenbaoKv(_) | Kind::OpenbaoStatic(_) => Ok(None),
        }
    }

    /// Gives a lease back: nobody gets in with it any more. One that has ended is as good.
    ///
    /// # Errors
    ///
    /// [`SourceError`].
    pub async fn revoke(&self, lease: &Lease) -> Result<(), SourceError> {
        match &self.0 {
            Kind::OpenbaoDatabase(source) => source.revoke(lease).await,
            Kind::Oauth(_) | Kind::OpenbaoKv(_) | Kind::OpenbaoStatic(_) => Ok(()),
        }
    }

    /// The [`Obtained::id`] of what there is now, for a source whose credential changes by itself; none for one that makes another
    /// one when it is asked.
    ///
    /// # Errors
    ///
    /// [`SourceError`].
    pub async fn current_id(&self) -> Result<Option<String>, SourceError> {
        match &self.0 {
            Kind::OpenbaoKv(source) => source.current_id().await.map(Some),
            Kind::OpenbaoStatic(source) => source.current_id().await.map(Some),
            Kind::Oauth(_) | Kind::OpenbaoDatabase(_) => Ok(None),
        }
    }

    /// Who lends what it gives, and takes it back; none where nothing is lent.
    pub fn lender(&self) -> Option<&str> {
        match &self.0 {
            Kind::OpenbaoDatabase(source) => Some(source.place()),
            Kind::Oauth(_) | Kind::OpenbaoKv(_) | Kind::OpenbaoStatic(_) => None,
        }
    }

    /// `oauth`, `openbao_database`, `openbao_kv`, `openbao_static`: a label.
    pub const fn kind(&self) -> &'static str {
        match &self.0 {
            Kind::Oauth(_) => "oauth",
            Kind::OpenbaoDatabase(_) => "openbao_database",
            Kind::OpenbaoKv(_) => "openbao_kv",
            Kind::OpenbaoStatic(_) => "openbao_static",
        }
    }
}
