//! One question to the HTTP API, and its answer with bounds.

use portcullis_policy::UnixTime;
use reqwest::Client;
use reqwest::Method;
use reqwest::StatusCode;
use reqwest::header::RETRY_AFTER;
use serde_json::Value;

use super::BaoError;
use super::Server;
use crate::leaf;
use crate::secret::Secret;

/// A chain of some certificates has a few thousand.
const MAX_BYTES: usize = 256 * 1024;
/// Of what the server says for people.
const MAX_WORDS: usize = 500;
/// Nobody stays away longer on a server's word.
const LONGEST_AWAY: i64 = 86_400;

/// Asks `/v1/PATH`.
pub(super) async fn ask(
    server: &Server,
    client: &Client,
    token: Option<&Secret>,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Value, BaoError> {
    let base = server.address.as_str().trim_end_matches('/');
    let mut request = client.request(method, format!("{base}/v1/{path}")).header("X-Vault-Request", "true");
    if let Some(token) = token {
        let mut value = reqwest::header::HeaderValue::from_str(token.expose())
            .map_err(|_| BaoError::Malformed { path: path.to_owned(), wanted: "a token that a header can hold" })?;
        value.set_sensitive(true);
        request = request.header("X-Vault-Token", value);
    }
    if let Some(namespace) = &server.namespace {
        request = request.header("X-Vault-Namespace", namespace);
    }
    if let Some(body) = body {
        request = request.json(body);
    }
    let failed = |source: reqwest::Error| BaoError::Connect { address: base.to_owned(), source: source.without_url() };
    let mut response = request.send().await.map_err(failed)?;
    let status = response.status();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = retry_after.and_then(|value| value.trim().parse::<i64>().ok());
    let retry_after = retry_after.map(|seconds| UnixTime(leaf::now().0 + seconds.clamp(0, LONGEST_AWAY)));
    let mut text = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if text.len() + chunk.len() > MAX_BYTES {
            return Err(BaoError::TooLong { path: path.to_owned(), limit: MAX_BYTES });
        }
        text.extend_from_slice(&chunk);
    }
    let answer: Option<Value> = serde_json::from_slice(&text).ok();
    if !status.is_success() {
        let words = answer.as_ref().map(words).unwrap_or_default();
        return Err(BaoError::Refused { path: path.to_owned(), status, words, retry_after });
    }
    if status == StatusCode::NO_CONTENT {
        return Ok(Value::Null);
    }
    answer.ok_or_else(|| BaoError::Malformed { path: path.to_owned(), wanted: "JSON" })
}

/// What `errors` says, in one line of visible characters.
fn words(answer: &Value) -> String {
    let errors = answer.get("errors").and_then(Value::as_array).cloned().unwrap_or_default();
    let text: Vec<&str> = errors.iter().filter_map(Value::as_str).collect();
    let line = text.join("; ");
    line.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(MAX_WORDS).collect()
}
