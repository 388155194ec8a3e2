//! The key-value engine, version 2.

use serde_json::Value;

use super::BaoSettings;
use super::Engine;
use super::secret;
use super::text;
use crate::credential::material::Material;
use crate::credential::source::Obtained;
use crate::credential::source::SourceError;

const WANTED: &str = "key-value data of version 2 (`data.data`, `data.metadata`)";

/// What of a pair is the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// All of it, as JSON.
    Everything,
    /// One field, and the one that names the account where there is one.
    One {
        /// The field with the secret.
        secret: String,
        /// The field with the account.
        account: Option<String>,
    },
}

/// A pair that somebody else writes.
pub(in super::super) struct Kv {
    engine: Engine,
    field: Field,
}

impl Kv {
    pub(in super::super) fn new(settings: BaoSettings, field: Field) -> Result<Self, SourceError> {
        Ok(Self { engine: Engine::new(settings)?, field })
    }

    pub(in super::super) async fn obtain(&self) -> Result<Obtained, SourceError> {
        let path = self.engine.path("data");
        let answer = self.engine.read(&path).await?.body;
        let malformed = |wanted| SourceError::Malformed { place: path.clone(), wanted };
        let data = answer.pointer("/data/data").filter(|data| data.is_object()).ok_or_else(|| malformed(WANTED))?;
        let part = |name: &str, wanted| {
            let part = data.get(name).and_then(Value::as_str).filter(|part| !part.is_empty());
            part.map(str::to_owned).ok_or_else(|| malformed(wanted))
        };
        let (secret_text, account) = match &self.field {
            Field::Everything => (data.to_string(), None),
            Field::One { secret, account } => {
                let account = account.as_ref().map(|name| part(name, "a text in the field of the account"));
                (part(secret, "a text in the field of the secret")?, account.transpose()?)
            }
        };
        let material = Material { account, secret: secret(secret_text, &path)? };
        Ok(Obtained { material, not_after: None, lease: None, id: version(&answer, &path)? })
    }

    pub(in super::super) async fn current_id(&self) -> Result<String, SourceError> {
        let path = self.engine.path("data");
        version(&self.engine.read(&path).await?.body, &path)
    }
}

/// The version, and when it was made: a pair that was removed for good begins again at version 1.
fn version(answer: &Value, path: &str) -> Result<String, SourceError> {
    let number = answer.pointer("/data/metadata/version").and_then(Value::as_u64);
    let number = number.ok_or_else(|| SourceError::Malformed { place: path.to_owned(), wanted: WANTED })?;
    let made = text(answer, "/data/metadata/created_time", path, WANTED)?;
    Ok(format!(
        "version {number} of {}",
        made.chars().filter(|letter| !letter.is_control()).take(40).collect::<String>()
    ))
}
