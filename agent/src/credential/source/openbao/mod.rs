//! The engines of OpenBao or HashiCorp Vault that give credentials.
//!
//! What is lent ends with the login that it is lent to, whatever its lease says: the login is renewed first, and a lease is never
//! said to live longer.

mod database;
mod kv;

use jiff::SignedDuration;
use jiff::Timestamp;
use portcullis_policy::UnixTime;
use reqwest::Method;
use reqwest::StatusCode;
use serde_json::Value;

pub(super) use database::Database;
pub(super) use database::Static;
pub use kv::Field;
pub(super) use kv::Kv;

use super::SourceError;
use crate::openbao::Answer;
use crate::openbao::BaoError;
use crate::openbao::OpenBao;
use crate::openbao::Server;
use crate::secret::Secret;

/// As long as a secret may be.
const LONGEST: usize = 64 * 1024;

/// One engine, and what is asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaoSettings {
    /// Where it is and how to get in.
    pub server: Server,
    /// Where the engine is mounted.
    pub mount: String,
    /// The role, or the path of a key-value pair.
    pub name: String,
}

/// An engine that can be asked.
struct Engine {
    /// The server, and the namespace on it.
    place: String,
    bao: OpenBao,
    mount: String,
    name: String,
}

impl Engine {
    fn new(settings: BaoSettings) -> Result<Self, SourceError> {
        let BaoSettings { server, mount, name } = settings;
        let place = match &server.namespace {
            Some(namespace) => format!("{} {namespace}", server.address),
            None => server.address.to_string(),
        };
        Ok(Self { place, bao: OpenBao::new(server).map_err(SourceError::Bao)?, mount, name })
    }

    /// `MOUNT/PART/NAME`.
    fn path(&self, part: &str) -> String {
        format!("{}/{part}/{}", self.mount, self.name)
    }

    async fn read(&self, path: &str) -> Result<Answer, SourceError> {
        self.bao.ask(Method::GET, path, None).await.map_err(|error| refusal(path, error))
    }

    /// The same, for what is lent to the login.
    async fn hold(&self, path: &str) -> Result<Answer, SourceError> {
        self.bao.ask_holding(Method::GET, path, None).await.map_err(|error| refusal(path, error))
    }
}

fn refusal(path: &str, error: BaoError) -> SourceError {
    match error {
        BaoError::Refused { status: StatusCode::NOT_FOUND, words, .. } => {
            SourceError::Absent { path: path.to_owned(), words }
        }
        error => SourceError::Bao(error),
    }
}

/// A text of an answer.
fn text(answer: &Value, pointer: &str, path: &str, wanted: &'static str) -> Result<String, SourceError> {
    let text = answer.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
    text.map(str::to_owned).ok_or_else(|| SourceError::Malformed { place: path.to_owned(), wanted })
}

/// A text that is a secret.
fn secret(text: String, path: &str) -> Result<Secret, SourceError> {
    if text.len() > LONGEST {
        return Err(SourceError::TooLong { place: path.to_owned(), limit: LONGEST });
    }
    Ok(Secret::new(text))
}

/// So many seconds from then; an end that no clock holds is none.
fn after(since: Timestamp, seconds: u64) -> Option<Timestamp> {
    since.checked_add(SignedDuration::from_secs(i64::try_from(seconds).ok()?)).ok()
}

/// The earlier of two ends, of which either may not be there.
fn earlier(one: Option<Timestamp>, other: Option<UnixTime>) -> Option<Timestamp> {
    let other = other.and_then(|other| Timestamp::from_second(other.0).ok());
    [one, other].into_iter().flatten().min()
}
