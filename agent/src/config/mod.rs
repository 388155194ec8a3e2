//! `portcullis.yaml`: parsed into types that need no second look.
//!
//! Every error names the file, the line and the column, and says what would be right. Paths are resolved against the
//! file's own directory.

mod account;
mod acme;
mod authorities;
mod calendar;
mod check;
mod credentials;
mod dns;
mod each;
mod ends;
mod issuers;
mod raw;
mod targets;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use portcullis_policy::Protocol;
use portcullis_policy::revocation::WhenStale;
use portcullis_policy::schedule::Share;
use reqwest::Url;
use rustls::pki_types::CertificateDer;

use crate::ca::Constraints;
use crate::calendar::Calendar;
use crate::credential::form::Form;
use crate::hook::Hook;
use crate::names::Names;
use crate::proof::ServedAt;
use crate::reload::Reload;
use crate::remedy::Remedy;
use crate::revocation::Emptied;
use crate::revocation::ListAuthority;
use crate::trust::Handshake;
use crate::yaml::Located;
use crate::yaml::ReadError;
use crate::yaml::Source;

pub use acme::Acme;
pub use authorities::Below;
pub use authorities::RootError;
pub use authorities::RootKey;
pub(crate) use check::parse_duration;
pub use credentials::Credential;
pub use credentials::CredentialFiles;
pub use credentials::Issue;
pub use credentials::Source as CredentialSource;
pub use issuers::Fallback;
pub use issuers::Issuer;
pub use issuers::IssuerKind;

/// The JSON Schema of the file (draft 2020-12), for editors. It says what fields there are; whether a configuration is good is
/// the word of [`Config::load`].
pub(crate) const SCHEMA: &str = include_str!("../../portcullis.schema.json");

/// The whole configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from, absolute.
    pub file: PathBuf,
    /// Its text, for what is found wrong later.
    pub source: Source,
    /// What is allowed and hardly meant, with file and line.
    pub remarks: Vec<Located>,
    /// Store, CA and audit log.
    pub state_dir: PathBuf,
    /// The policy, if there is a filter to give it to.
    pub policy: Option<PathBuf>,
    /// Sockets.
    pub listen: Listen,
    /// The built-in CA.
    pub ca: Ca,
    /// Who signs beside it.
    pub issuers: Vec<Issuer>,
    /// What rotates.
    pub certificates: Vec<Certificate>,
    /// What rotates beside them.
    pub credentials: Vec<Credential>,
    /// The key that they are sealed with at rest; one of the agent's own, if none.
    pub seal_key: Option<PathBuf>,
    /// Who is told of failures.
    pub remedies: Vec<Remedy>,
    /// What is trusted.
    pub bundles: Vec<Bundle>,
    /// What is revoked, beside what operators say.
    pub revocation: Revocation,
    /// The Wasm filter that gets the policy.
    pub filter: Option<Filter>,
    /// Envoy's admin address.
    pub envoy_admin: Option<SocketAddr>,
    /// How often every listener is looked at, whether or not something changed.
    pub verify_every: Duration,
}

/// Where the agent listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Unix socket for proxies.
    pub xds: PathBuf,
    /// Unix socket for the command line.
    pub control: PathBuf,
    /// Loopback address for `/metrics`, `/healthz` and `/readyz`.
    pub metrics: SocketAddr,
}

/// The built-in CA.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ca {
    /// SPIFFE trust domain; every SPIFFE ID that it signs is of it.
    pub trust_domain: String,
    /// How long a root lives that is made now, in seconds.
    pub root_lifetime: i64,
    /// Share of a root's lifetime after which another one follows it; only when it is asked for, if none.
    pub rotate_root_after: Option<Share>,
    /// Where the root's key is.
    pub root: RootKey,
    /// The authorities below the root that sign in its stead; the root signs itself, if none.
    pub intermediate: Option<Below>,
    /// What a root that is made now may be used for.
    pub constraints: Constraints,
}

/// A certificate that the agent keeps valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Certificate {
    /// Its name, and that of the SDS resource.
    pub name: String,
    /// Who issues it.
    pub issuer: String,
    /// Who issues it when the end is near and the issuer still fails.
    pub fallback: Option<Fallback>,
    /// What it is issued for.
    pub names: Names,
    /// What becomes of it when one of several names is not accepted.
    pub when_a_name_fails: WhenNameFails,
    /// Seconds that it lives.
    pub lifetime: i64,
    /// Share of the lifetime after which it is renewed.
    pub renew_after: Share,
    /// When a planned renewal may begin.
    pub calendar: Arc<Calendar>,
    /// Files to be written beside the delivery over xDS.
    pub files: Option<Files>,
    /// Programs that are told of a new one, in their order.
    pub hooks: Vec<Hook>,
    /// A process that is signalled after them.
    pub reload: Option<Reload>,
    /// Attempts in vain to have it served, after which the certificate before takes its place again; never, if none.
    pub roll_back_after: Option<u32>,
    /// Bundles by which peers of it judge it: a new one is not handed over before it leads to an authority of each.
    pub trusted_by: Vec<String>,
    /// Listeners that serve it.
    pub served_at: Vec<ServedAt>,
}

/// What becomes of a certificate when an issuer does not accept one of its names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenNameFails {
    /// It is issued without that name, if that is not the first, until it is good again.
    Drop,
    /// It is tried again with all names.
    #[default]
    Wait,
}

/// Delivery as files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Directory of the generations.
    pub directory: PathBuf,
    /// Generations to keep, the current one included.
    pub keep: usize,
    /// Mode of the files that hold the key.
    pub mode: u32,
    /// Number of the user whom the files belong to, if not the agent's.
    pub owner: Option<u32>,
    /// Number of the group, if not the directory's.
    pub group: Option<u32>,
    /// Whether there is a file with chain and key in one.
    pub combined: bool,
}

/// A trust bundle that proxies validate peers with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// Name of the SDS resource.
    pub name: String,
    /// Authorities that are trusted beside the built-in CA.
    pub also: Vec<CertificateDer<'static>>,
    /// SPIFFE IDs of which a peer must have one; empty for no condition.
    pub spiffe: Vec<String>,
}

/// The Wasm filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Name of the ECDS resource.
    pub name: String,
    /// The module, as the proxy sees it.
    pub wasm: PathBuf,
}

impl Filter {
    /// The names that proxies ask for: in chains of HTTP filters, and in chains of network filters.
    pub fn names(&self) -> [String; 2] {
        [Protocol::Http, Protocol::Tcp].map(|protocol| self.name_for(protocol))
    }

    /// The name that a proxy asks for in a chain of this kind.
    pub fn name_for(&self, protocol: Protocol) -> String {
        match protocol {
            Protocol::Http => self.name.clone(),
            Protocol::Tcp => format!("{}-tcp", self.name),
        }
    }
}

/// Revocation lists, and what becomes of requests without a good one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocation {
    /// When one of the lists is older than it may be.
    pub when_stale: WhenStale,
    /// Whether proxies refuse who is on a list in the handshake already.
    pub handshake: Handshake,
    /// The lists.
    pub lists: Vec<RevocationList>,
}

/// The revocation list of an authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationList {
    /// Its name.
    pub name: String,
    /// Who signs it.
    pub authority: ListAuthority,
    /// Where it is, DER or PEM.
    pub source: ListSource,
    /// Whether one without entries may follow one that has some.
    pub emptied: Emptied,
}

/// Where a revocation list is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListSource {
    /// A file, which somebody else keeps up to date.
    File(PathBuf),
    /// A server, as certificates name it (RFC 5280 §4.2.1.13).
    Url(Url),
}

impl fmt::Display for ListSource {
    /// Without the query, which is nobody's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => file.display().fmt(f),
            Self::Url(url) => f.write_str(url.as_str().split('?').next().unwrap_or_default()),
        }
    }
}

/// Why the configuration was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// There is no file of that name.
    #[error("cannot find `{}`; `portcullis init` writes one to begin with, `--config` names another", .0.display())]
    Missing(PathBuf),
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is not a configuration: where, and what would be right.
    #[error(transparent)]
    Refused(#[from] Located),
}

impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], the first thing that is wrong.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let file = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        match Source::read(&file) {
            Ok(source) => Ok(Self::parse(&file, &source)?),
            Err(ReadError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Err(ConfigError::Missing(file))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Checks the text of a file; `file` is absolute and gives relative paths their base.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub fn parse(file: &Path, source: &Source) -> Result<Self, Located> {
        let document: raw::Document = serde_path_to_error::deserialize(source.value()?)
            .map_err(|error| source.error_at(&error.path().to_string(), &error.inner().to_string()))?;
        let base = file.parent().unwrap_or_else(|| Path::new("/"));
        check::Check { source, file, base }.document(document)
    }

    /// Logs the remarks.
    pub(crate) fn warn(&self) {
        for remark in &self.remarks {
            tracing::warn!("{remark}");
        }
    }

    /// The files with the key sets of signing keys.
    pub fn key_set_files(&self) -> impl Iterator<Item = PathBuf> {
        let files = self.credentials.iter().filter_map(|credential| credential.files.as_ref());
        files.flat_map(|files| {
            let key_sets = files.write.iter().filter(|(_, form)| *form == Form::Jwks);
            key_sets.map(|(name, _)| files.files.directory.join(name))
        })
    }

    /// The credential of that name.
    pub fn credential(&self, name: &str) -> Option<&Credential> {
        self.credentials.iter().find(|credential| credential.name == name)
    }

    /// The certificate of that name.
    pub fn certificate(&self, name: &str) -> Option<&Certificate> {
        self.certificates.iter().find(|certificate| certificate.name == name)
    }
}

#[cfg(test)]
mod tests;
