//! What a CA says, and what is made of it.

use super::*;
use crate::issuer::acme::problem::ERRORS;
use crate::issuer::acme::problem::LONGEST;

const UNTIL: UnixTime = UnixTime(1_000);

fn of(status: u16, body: &str) -> AcmeError {
    let status = StatusCode::from_u16(status).expect("a status");
    AcmeError::of("ca.example", status, Problem::parse(body.as_bytes()), Some(UNTIL))
}

#[test]
fn a_refusal_is_told_apart_by_what_one_does_about_it() {
    let acme = |kind: &str, detail: &str| format!(r#"{{"type":"{ERRORS}{kind}","detail":"{detail}"}}"#);
    for (name, status, body, want, until, is_final) in [
        ("too much", 429, acme("rateLimited", "too many certificates"), "too much was asked for", Some(UNTIL), false),
        (
            "paused",
            429,
            acme("rateLimited", "Your account is temporarily prevented ... https://ca.example/sfe/v1/unpause?jwt=a.b"),
            "https://ca.example/sfe/v1/unpause?jwt=a.b",
            None,
            false,
        ),
        ("overloaded", 503, "<html>later</html>".to_owned(), "overloaded", Some(UNTIL), false),
        ("overloaded, in ACME", 503, acme("serverInternal", "Service busy"), "overloaded", Some(UNTIL), false),
        ("no account", 400, acme("accountDoesNotExist", "who?"), "does not know the account: who?", None, false),
        ("a bad key", 400, acme("badCSR", "weak"), "refuses (400 Bad Request): weak (badCSR)", None, true),
        ("nothing that can be read", 500, "oops".to_owned(), "answered 500", None, false),
        ("nothing at all", 502, String::new(), "answered 502", None, false),
        ("json of something else", 404, r#"{"error":"x"}"#.to_owned(), "answered 404", None, false),
    ] {
        let error = of(status, &body);
        assert!(error.to_string().contains(want), "{name}: {error}");
        assert_eq!((error.retry_after(), error.is_final()), (until, is_final), "{name}");
    }
}

#[test]
fn who_has_to_agree_is_told_where() {
    let body = r#"{
        "type": "urn:ietf:params:acme:error:userActionRequired",
        "detail": "Terms of service have changed",
        "instance": "https://example.com/acme/agreement/?token=W8Ih3PswD-8"
    }"#;
    let error = of(403, body);
    assert!(matches!(&error, AcmeError::ActionRequired { link: Some(link), .. } if link.ends_with("W8Ih3PswD-8")));
    assert!(error.to_string().ends_with("(see https://example.com/acme/agreement/?token=W8Ih3PswD-8)"), "{error}");
}

/// The example of RFC 8555 §6.7.1.
#[test]
fn the_names_at_fault_are_said() {
    let body = r#"{
        "type": "urn:ietf:params:acme:error:malformed",
        "detail": "Some of the identifiers requested were rejected",
        "subproblems": [
            {
                "type": "urn:ietf:params:acme:error:malformed",
                "detail": "Invalid underscore in DNS name \"_example.org\"",
                "identifier": { "type": "dns", "value": "_example.org" }
            },
            {
                "type": "urn:ietf:params:acme:error:rejectedIdentifier",
                "detail": "This CA will not issue for \"example.net\"",
                "identifier": { "type": "dns", "value": "example.net" }
            }
        ]
    }"#;
    let error = of(400, body).to_string();
    for words in ["were rejected", "`_example.org`: Invalid", "`example.net`: This CA will not", "rejectedIdentifier"] {
        assert!(error.contains(words), "{words}: {error}");
    }
}

#[test]
fn the_words_of_a_ca_are_one_line_of_a_bounded_length() {
    let detail = format!("\\u001b[2Jred\\nalert{}", "x".repeat(1 << 16));
    let error = of(400, &format!(r#"{{"detail":"{detail}"}}"#)).to_string();
    assert!(!error.contains(char::is_control), "{error}");
    assert!(error.len() < LONGEST + 200, "{}", error.len());
}
