//! `portcullis.yaml`: parsed into types that need no second look.
//!
//! Every error names the file, the line and the column, and says what would be right. Paths are resolved against the
//! file's own directory.

mod check;
mod raw;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use portcullis_policy::schedule::Share;
use serde_saphyr::Location;

use crate::names::Names;
use crate::proof::ServedAt;

pub(crate) use check::parse_duration;

/// The whole configuration, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The file it was read from, absolute.
    pub file: PathBuf,
    /// Store, CA and audit log.
    pub state_dir: PathBuf,
    /// The policy, if there is a filter to give it to.
    pub policy: Option<PathBuf>,
    /// Sockets.
    pub listen: Listen,
    /// The built-in CA.
    pub ca: Ca,
    /// What rotates.
    pub certificates: Vec<Certificate>,
    /// What is trusted.
    pub bundles: Vec<Bundle>,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ca {
    /// SPIFFE trust domain; every SPIFFE ID that it signs is of it.
    pub trust_domain: String,
    /// How long a root lives that is made now, in seconds.
    pub root_lifetime: i64,
}

/// A certificate that the agent keeps valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Certificate {
    /// Its name, and that of the SDS resource.
    pub name: String,
    /// What it is issued for.
    pub names: Names,
    /// Seconds that it lives.
    pub lifetime: i64,
    /// Share of the lifetime after which it is renewed.
    pub renew_after: Share,
    /// Files to be written beside the delivery over xDS.
    pub files: Option<Files>,
    /// Listeners that serve it.
    pub served_at: Vec<ServedAt>,
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
}

/// A trust bundle that proxies validate peers with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// Name of the SDS resource.
    pub name: String,
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

/// A place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: u64,
    /// From 1.
    pub column: u64,
}

/// Why the configuration was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read `{}`; `portcullis init` writes one to begin with, `--config` names another", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Not YAML, a key that does not exist, or a value of another type.
    #[error("{}{}: {message}", path.display(), at(place))]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where.
        place: Option<Place>,
        /// The parser's words.
        message: String,
    },
    /// A value that cannot be used.
    #[error("{}{}: {field}: {message}", path.display(), at(place))]
    Value {
        /// The file.
        path: PathBuf,
        /// Where.
        place: Option<Place>,
        /// Which, as in `certificates[0].lifetime`.
        field: String,
        /// What is wrong, and what would be right.
        message: String,
    },
}

fn at(place: &Option<Place>) -> String {
    place.map_or_else(String::new, |place| format!(":{}:{}", place.line, place.column))
}

impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], the first thing that is wrong.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read { path: path.to_owned(), source };
        let file = std::path::absolute(path).map_err(read)?;
        let text = fs::read_to_string(&file).map_err(read)?;
        Self::parse(&file, &text)
    }

    /// Checks the text of a file; `file` is absolute and gives relative paths their base.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], the first thing that is wrong.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let document: raw::Document = serde_saphyr::from_str(text).map_err(|error| ConfigError::Syntax {
            path: file.to_owned(),
            place: error.location().as_ref().and_then(Place::of),
            message: parser_words(&error),
        })?;
        check::Check { file, base: file.parent().unwrap_or_else(|| Path::new("/")) }.document(document)
    }

    /// The certificate of that name.
    pub fn certificate(&self, name: &str) -> Option<&Certificate> {
        self.certificates.iter().find(|certificate| certificate.name == name)
    }
}

impl Place {
    fn of(location: &Location) -> Option<Self> {
        (location.line() > 0).then(|| Self { line: location.line(), column: location.column() })
    }
}

/// The parser's message without its own rendering of the place and the excerpt: one line.
fn parser_words(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
    line.split(" at line ").next().unwrap_or(line).to_owned()
}
