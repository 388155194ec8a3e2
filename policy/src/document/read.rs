//! JSON to [`Document`], errors with their place.

use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::DeserializeSeed;
use serde_json::error::Category;
use serde_path_to_error::Deserializer;
use serde_path_to_error::Track;

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

/// Reads something again of a document that was taken; errors are placed within `part` of it.
pub(super) fn seeded<'a, S: DeserializeSeed<'a>>(
    text: &'a [u8],
    part: Option<&str>,
    seed: S,
) -> Result<S::Value, PolicyError> {
    tracked(&mut serde_json::Deserializer::from_slice(text), part, seed)
}

fn whole<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, PolicyError> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let value = tracked(&mut json, None, PhantomData)?;
    json.end().map_err(|error| refusal("", &error))?;
    Ok(value)
}

fn tracked<'a, S: DeserializeSeed<'a>>(
    json: &mut Json<'a>,
    part: Option<&str>,
    seed: S,
) -> Result<S::Value, PolicyError> {
    let mut track = Track::new();
    seed.deserialize(Deserializer::new(json, &mut track)).map_err(|error| {
        let path = track.path().to_string();
        let within = part.and_then(|part| path.strip_prefix(part)).unwrap_or(&path);
        refusal(within.trim_start_matches('.'), &error)
    })
}

type Json<'a> = serde_json::Deserializer<serde_json::de::SliceRead<'a>>;

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
