//! What a token endpoint answers (RFC 6749 §5, RFC 8693 §2.2).

use std::time::SystemTime;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::SignedDuration;
use jiff::Timestamp;
use reqwest::Response;
use reqwest::StatusCode;
use reqwest::header::RETRY_AFTER;
use serde_json::Value;
use zeroize::Zeroizing;

use super::Grant;
use super::Oauth;
use crate::credential::material::Material;
use crate::credential::source::Obtained;
use crate::credential::source::SourceError;
use crate::secret::Secret;

/// Tokens with many claims have a few thousand.
const MAX_BYTES: usize = 128 * 1024;
/// As long as a secret may be.
const LONGEST: usize = 64 * 1024;
/// Of what the server says for people.
const MAX_WORDS: usize = 300;
/// Nobody stays away longer on a server's word.
const LONGEST_AWAY: SignedDuration = SignedDuration::from_hours(24);
/// A token that is said to live longer is asked for anew by then.
const LONGEST_LIFE: i64 = 366 * 86_400;

/// Reads an answer, with bounds.
pub(super) async fn read(
    oauth: &Oauth,
    mut response: Response,
    since: Timestamp,
    told: &[Secret],
) -> Result<Obtained, SourceError> {
    let status = response.status();
    let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = header.and_then(|value| retry_after(value, Timestamp::now()));
    let mut text = Zeroizing::new(Vec::new());
    while let Some(chunk) = response.chunk().await.map_err(|source| oauth.failed(source))? {
        if text.len() + chunk.len() > MAX_BYTES {
            return Err(SourceError::TooLong { place: oauth.host(), limit: MAX_BYTES });
        }
        text.extend_from_slice(&chunk);
    }
    let answer: Option<Value> = serde_json::from_slice(&text).ok().filter(Value::is_object);
    if status == StatusCode::OK {
        let answer = answer.ok_or_else(|| malformed(oauth, "JSON"))?;
        return token(oauth, &answer, since);
    }
    let host = oauth.host();
    let word = |name: &str| answer.as_ref()?.get(name)?.as_str().map(str::to_owned);
    match word("error") {
        None => Err(SourceError::Status { host, status, retry_after }),
        Some(error) => Err(SourceError::Refused {
            host,
            status,
            error: quotable(&error, told),
            description: word("error_description").map(|words| quotable(&words, told)),
            retry_after,
        }),
    }
}

fn token(oauth: &Oauth, answer: &Value, since: Timestamp) -> Result<Obtained, SourceError> {
    let text = |name: &str| answer.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let token = text("access_token").ok_or_else(|| malformed(oauth, "a token in `access_token`"))?;
    if token.len() > LONGEST {
        return Err(SourceError::TooLong { place: oauth.host(), limit: LONGEST });
    }
    // RFC 6750 §2.1: what a header can hold.
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(malformed(oauth, "a token of visible characters"));
    }
    let given = text("token_type").ok_or_else(|| malformed(oauth, "`token_type`"))?;
    // RFC 8693 §2.2.1: `N_A` for what is no access token.
    let is_exchange = matches!(oauth.0.grant, Grant::TokenExchange { .. });
    let is_usable = given.eq_ignore_ascii_case("Bearer") || is_exchange && given.eq_ignore_ascii_case("N_A");
    if !is_usable {
        return Err(SourceError::TokenType { host: oauth.host(), given: quotable(given, &[]) });
    }
    if is_exchange && text("issued_token_type").is_none() {
        return Err(malformed(oauth, "`issued_token_type`"));
    }
    let not_after = match answer.get("expires_in") {
        None | Some(Value::Null) => None,
        Some(said) => {
            let seconds = seconds(said).ok_or_else(|| malformed(oauth, "seconds in `expires_in`"))?;
            if seconds < 1 {
                return Err(SourceError::Expired { place: oauth.host() });
            }
            since.checked_add(SignedDuration::from_secs(seconds.min(LONGEST_LIFE))).ok()
        }
    };
    let material = Material { account: None, secret: Secret::new(token.to_owned()) };
    let id = jti(token).map_or_else(|| format!("asked for at {since}"), |jti| format!("jti {jti}"));
    Ok(Obtained { material, not_after, lease: None, id })
}

/// A number, or the text of one, as some servers say it.
fn seconds(said: &Value) -> Option<i64> {
    let number = said.as_f64().or_else(|| said.as_str()?.trim().parse().ok()).filter(|number| number.is_finite())?;
    // Whatever is too much for a clock is too much for a token.
    Some(number.clamp(-1.0, LONGEST_LIFE as f64) as i64)
}

/// What a token calls itself, if it is a JWT that does. Nobody's word for anything but the audit log.
fn jti(token: &str) -> Option<String> {
    let payload = token.split('.').nth(1).filter(|_| token.split('.').count() == 3)?;
    let payload: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    let jti = payload.get("jti")?.as_str()?;
    let is_plain = (1..=100).contains(&jti.len()) && jti.bytes().all(|byte| byte.is_ascii_graphic());
    is_plain.then(|| jti.to_owned())
}

/// Seconds or a date (RFC 9110 §10.2.3).
fn retry_after(value: &str, now: Timestamp) -> Option<Timestamp> {
    let value = value.trim();
    let away = match value.parse::<u64>() {
        Ok(seconds) => SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX)),
        Err(_) if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => LONGEST_AWAY,
        Err(_) => {
            let date = httpdate::parse_http_date(value).ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
            let date = Timestamp::from_second(i64::try_from(date.as_secs()).ok()?).ok()?;
            date.duration_since(now)
        }
    };
    now.checked_add(away.clamp(SignedDuration::ZERO, LONGEST_AWAY)).ok()
}

/// A server's words in one line; nothing of a text that has one of our secrets in it.
fn quotable(words: &str, told: &[Secret]) -> String {
    if told.iter().any(|secret| words.contains(secret.expose())) {
        return "what it says holds a secret and is not repeated".to_owned();
    }
    words.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(MAX_WORDS).collect()
}

fn malformed(oauth: &Oauth, wanted: &'static str) -> SourceError {
    SourceError::Malformed { place: oauth.host(), wanted }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_life_is_read_however_it_is_written() {
        for (name, said, want) in [
            ("seconds", json!(3600), Some(3600)),
            ("a text", json!("60"), Some(60)),
            ("with a fraction", json!(59.9), Some(59)),
            ("none", json!(0), Some(0)),
            ("less than none", json!(-5), Some(-1)),
            ("absurd", json!(1e300), Some(LONGEST_LIFE)),
            ("longer than a number", json!("99999999999999999999"), Some(LONGEST_LIFE)),
            ("words", json!("soon"), None),
            ("nothing of the kind", json!([1]), None),
            ("infinite", json!("inf"), None),
        ] {
            assert_eq!(seconds(&said), want, "{name}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_never_more_than_a_day() {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().expect("an instant");
        let at = |text: &str| Some(text.parse::<Timestamp>().expect("an instant"));
        for (name, value, want) in [
            ("seconds", "120", at("2026-11-23T12:02:00Z")),
            ("absurd", "99999999999999999999999", at("2026-11-24T12:00:00Z")),
            ("a date", "Mon, 23 Nov 2026 12:05:00 GMT", at("2026-11-23T12:05:00Z")),
            ("a date that is over", "Mon, 23 Nov 2020 12:05:00 GMT", at("2026-11-23T12:00:00Z")),
            ("words", "later", None),
            ("nothing", "", None),
        ] {
            assert_eq!(retry_after(value, now), want, "{name}");
        }
    }

    #[test]
    fn words_with_a_secret_are_not_repeated() {
        let told = [Secret::new("s3cret".to_owned())];
        assert_eq!(quotable("unknown client", &told), "unknown client");
        assert!(!quotable("the secret s3cret is wrong", &told).contains("s3cret"));
        assert_eq!(quotable("a\r\nb", &told), "a  b");
    }

    #[test]
    fn only_a_plain_jti_is_taken() {
        let token = |payload: Value| format!("e30.{}.x", BASE64_URL_SAFE_NO_PAD.encode(payload.to_string()));
        assert_eq!(jti(&token(json!({ "jti": "a-1" }))).as_deref(), Some("a-1"));
        assert_eq!(jti(&token(json!({ "jti": "a\nb" }))), None);
        assert_eq!(jti(&token(json!({}))), None);
        assert_eq!(jti("opaque"), None);
    }
}
