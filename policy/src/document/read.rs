//! JSON to [`Document`], errors with their place.

use serde::Deserialize;
use serde_json::error::Category;

use super::Document;
use super::MAX_DOCUMENT;
use super::Peer;
use super::object::Object;
use crate::error::PolicyError;
use crate::error::PolicyProblem;

/// Reads a document.
///
/// # Errors
///
/// What is not JSON, with line and column; what is not shaped like a policy, with its path.
pub(crate) fn read(text: &[u8]) -> Result<Document<'_>, PolicyError> {
    if text.len() > MAX_DOCUMENT {
        return Err(PolicyError::new("", PolicyProblem::TooLong { length: text.len(), limit: MAX_DOCUMENT }));
    }
    let Object(document) = whole(text)?;
    Ok(document)
}

/// Reads the peer of a test that stands alone.
///
/// # Errors
///
/// As [`read`].
pub(crate) fn read_peer(text: &str) -> Result<Peer, PolicyError> {
    whole(text.as_bytes())
}

fn whole<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, PolicyError> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        refusal(if path == "." { "" } else { &path }, &error.into_inner())
    })?;
    json.end().map_err(|error| refusal("", &error))?;
    Ok(value)
}

fn refusal(path: &str, error: &serde_json::Error) -> PolicyError {
    // The place of valid JSON is its path: a line of the JSON form means nothing to who wrote YAML.
    let message = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let message = message.strip_suffix(&place).unwrap_or(&message).to_owned();
    let problem = match error.classify() {
        Category::Data => PolicyProblem::Shape(message),
        Category::Eof | Category::Io | Category::Syntax => {
            PolicyProblem::Syntax { line: error.line(), column: error.column(), message }
        }
    };
    PolicyError::new(path, problem)
}
