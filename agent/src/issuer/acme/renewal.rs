//! When the CA wants a certificate renewed (RFC 9773).

use jiff::Timestamp;
use portcullis_policy::UnixTime;
use serde::Deserialize;

use super::error::AcmeError;
use super::error::RenewalProblem;
use super::problem::clean;
use super::transport::Conversation;
use crate::leaf;

/// RFC 9773 §4.3 lets clients bound how often they ask.
const LEAST: i64 = 60;
const MOST: i64 = 86_400;

/// When the CA wants a certificate renewed. Choose a time within, once, and keep it; a window that is past means now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggested {
    /// Begin of the window.
    pub start: UnixTime,
    /// Its end, not before its begin.
    pub end: UnixTime,
    /// When to ask again: between a minute and a day from when this was said.
    pub ask_again: UnixTime,
    /// Where the CA explains it.
    pub explanation: Option<String>,
}

/// Asks. None where the CA has no such information.
pub(super) async fn ask(
    conversation: &Conversation,
    directory: &str,
    chain_pem: &str,
) -> Result<Option<Suggested>, AcmeError> {
    #[derive(Deserialize)]
    struct Directory {
        #[serde(rename = "renewalInfo")]
        renewal_info: Option<String>,
    }
    let host = conversation.host();
    let answer = conversation.get(directory).await?;
    if !answer.status.is_success() {
        return Err(answer.refusal(&host));
    }
    let directory: Directory = serde_json::from_slice(&answer.body)
        .map_err(|source| AcmeError::Answer { host: host.clone(), source: Box::new(source.into()) })?;
    let Some(url) = directory.renewal_info else { return Ok(None) };
    let refused = |why| AcmeError::RenewalInfo { host: host.clone(), why };
    let identifier = identifier(chain_pem).ok_or_else(|| refused(RenewalProblem::Anonymous))?;
    let answer = conversation.get(&format!("{}/{identifier}", url.trim_end_matches('/'))).await?;
    match answer.status.as_u16() {
        200 => parse(&answer.body, answer.retry_after(), answer.at).map(Some).map_err(refused),
        404 => Err(refused(RenewalProblem::UnknownCertificate)),
        _ => Err(answer.refusal(&host)),
    }
}

/// How RFC 9773 §4.1 names the leaf of a chain; none if it does not say who signed it.
pub(super) fn identifier(chain_pem: &str) -> Option<String> {
    let chain = leaf::chain(chain_pem).ok()?;
    instant_acme::CertificateIdentifier::try_from(chain.first()?).ok().map(|identifier| identifier.to_string())
}

fn parse(body: &[u8], retry_after: Option<UnixTime>, now: UnixTime) -> Result<Suggested, RenewalProblem> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Document {
        suggested_window: Window,
        #[serde(rename = "explanationURL")]
        explanation: Option<String>,
    }
    #[derive(Deserialize)]
    struct Window {
        start: Timestamp,
        end: Timestamp,
    }
    let document: Document = serde_json::from_slice(body).map_err(|_| RenewalProblem::Unreadable)?;
    let [start, end] = [document.suggested_window.start, document.suggested_window.end];
    if end < start {
        return Err(RenewalProblem::Backwards);
    }
    let ask_again = retry_after.ok_or(RenewalProblem::NoRetryAfter)?;
    Ok(Suggested {
        start: UnixTime(start.as_second()),
        end: UnixTime(end.as_second()),
        ask_again: ask_again.clamp(UnixTime(now.0.saturating_add(LEAST)), UnixTime(now.0.saturating_add(MOST))),
        explanation: document.explanation.as_deref().map(clean).filter(|url| url.starts_with("https://")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime(1_735_000_000);
    const LATER: Option<UnixTime> = Some(UnixTime(NOW.0 + 21_600));

    /// The example of RFC 9773 §4.2.
    #[test]
    fn a_window_is_read() {
        let body = br#"{
            "suggestedWindow": { "start": "2025-01-02T04:00:00Z", "end": "2025-01-03T04:00:00Z" },
            "explanationURL": "https://acme.example.com/docs/ari"
        }"#;
        let want = Suggested {
            start: UnixTime(1_735_790_400),
            end: UnixTime(1_735_876_800),
            ask_again: UnixTime(NOW.0 + 21_600),
            explanation: Some("https://acme.example.com/docs/ari".to_owned()),
        };
        assert_eq!(parse(body, LATER, NOW), Ok(want));
    }

    #[test]
    fn what_is_of_no_use_is_said_and_nothing_is_guessed() {
        let window = |start: &str, end: &str| format!(r#"{{"suggestedWindow":{{"start":"{start}","end":"{end}"}}}}"#);
        let (early, late) = ("2025-01-02T04:00:00Z", "2025-01-03T04:00:00Z");
        for (name, body, retry_after, want) in [
            ("backwards", window(late, early), LATER, RenewalProblem::Backwards),
            ("no time to ask again", window(early, late), None, RenewalProblem::NoRetryAfter),
            ("empty", String::new(), LATER, RenewalProblem::Unreadable),
            ("not an object", "[]".to_owned(), LATER, RenewalProblem::Unreadable),
            ("no window", "{}".to_owned(), LATER, RenewalProblem::Unreadable),
            (
                "no end",
                r#"{"suggestedWindow":{"start":"2025-01-02T04:00:00Z"}}"#.to_owned(),
                LATER,
                RenewalProblem::Unreadable,
            ),
            ("not a time", window("soon", late), LATER, RenewalProblem::Unreadable),
            ("a year that no calendar has", window(early, "99999-01-01T00:00:00Z"), LATER, RenewalProblem::Unreadable),
        ] {
            assert_eq!(parse(body.as_bytes(), retry_after, NOW), Err(want), "{name}");
        }
    }

    #[test]
    fn a_window_of_no_length_and_one_that_is_past_are_windows() {
        let body = br#"{"suggestedWindow":{"start":"1970-01-02T00:00:00Z","end":"1970-01-02T01:00:00+01:00"}}"#;
        let got = parse(body, LATER, NOW).expect("a window");
        assert_eq!((got.start, got.end), (UnixTime(86_400), UnixTime(86_400)));
    }

    #[test]
    fn asking_again_is_bounded() {
        let body = br#"{"suggestedWindow":{"start":"2025-01-02T04:00:00Z","end":"2025-01-03T04:00:00Z"}}"#;
        for (asked, want) in [(0, LEAST), (30, LEAST), (3_600, 3_600), (172_800, MOST)] {
            let got = parse(body, Some(UnixTime(NOW.0 + asked)), NOW).expect("a window");
            assert_eq!(got.ask_again, UnixTime(NOW.0 + want), "{asked}");
        }
    }
}
