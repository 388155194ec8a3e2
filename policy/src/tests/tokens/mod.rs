//! Bearer tokens in policies: what is refused whatever the rules say, and what rules and roles may ask of them.

mod asked;

use serde_json::Value;
use serde_json::json;
use sha2::Digest as _;
use sha2::Sha256;

use super::issuer::Issuer;
use super::issuer::bound_to;
use super::*;
use crate::Memory;
use crate::signature::PureRust;

/// Policies about tokens of two issuers, and requests with them.
struct Gate {
    corp: Issuer,
    partner: Issuer,
    policy: Policy,
    memory: Memory,
}

fn provider(name: &str, issuer: &Issuer, binding: &str) -> Value {
    json!({
        "issuer": format!("https://{name}.example"), "audience": ["orders"], "binding": binding,
        "jwks": { "keys": [issuer.jwk()] },
    })
}

/// A certificate with a hash of its own.
fn workload(id: &str) -> Leaf {
    let alternative_names = vec![AlternativeName::Uri(id.to_owned())];
    Synthetic { alternative_names, sha256: Sha256::digest(id).into(), ..unnamed() }.leaf()
}

fn claims(name: &str) -> Value {
    json!({ "iss": format!("https://{name}.example"), "aud": "orders", "exp": NOW.0 + 100 })
}

impl Gate {
    /// `change` makes a document of one whose providers `corp` and `partner` take tokens from anybody.
    fn new(change: impl FnOnce(&mut Value)) -> Self {
        let (corp, partner) = (Issuer::new("c"), Issuer::new("p"));
        let mut document = json!({
            "version": 1,
            "tokens": { "corp": provider("corp", &corp, "off"), "partner": provider("partner", &partner, "off") },
            "rules": [{ "id": "all", "allow": "any" }],
        });
        change(&mut document);
        let policy = policy(&document.to_string());
        let again = super::policy(&policy.to_json());
        assert_eq!(again.to_json(), policy.to_json(), "the canonical form says the same");
        Self { corp, partner, policy, memory: Memory::default() }
    }

    fn ask(&mut self, leaf: Option<Leaf>, path: &str, headers: &[&str]) -> Answer {
        let subject = leaf.map(|leaf| self.policy.subject(leaf));
        let mut request = request(presented(subject.as_ref()), "GET", None, path);
        request.head.fields = headers.iter().map(|value| (&b"authorization"[..], value.as_bytes())).collect();
        let token = self.memory.token(&self.policy, &request.head, NOW, &mut PureRust);
        request.token = &token;
        let decision = self.policy.decide(&request);
        let explained = self.policy.explain(&request);
        let first = |effect| explained.rules.iter().find(|rule| rule.effect == effect && rule.failed.is_none());
        let first = first(crate::Effect::Deny).or_else(|| first(crate::Effect::Allow));
        assert_eq!(first.map(|rule| rule.rule), decision.rule(), "the explanation agrees");
        Answer {
            reason: decision.reason(),
            rule: decision.rule().map(str::to_owned),
            roles: decision.roles().to_vec(),
            challenge: match &decision {
                Decision::Allow(_) => None,
                Decision::Deny(denial) => denial.challenge(),
            },
        }
    }

    /// A request with a token of `corp` that says this as well.
    fn with(&mut self, leaf: Option<Leaf>, path: &str, more: Value) -> Answer {
        let mut all = claims("corp");
        for (name, value) in more.as_object().expect("an object") {
            all[name] = value.clone();
        }
        let token = format!("Bearer {}", self.corp.sign(&all));
        self.ask(leaf, path, &[&token])
    }
}

#[derive(Debug)]
struct Answer {
    reason: Reason,
    rule: Option<String>,
    roles: Vec<String>,
    challenge: Option<&'static str>,
}

#[test]
fn a_bad_token_is_refused_whatever_the_rules_say() {
    let mut gate = Gate::new(|_| {});
    let good = gate.corp.sign(&claims("corp"));
    let cases = [
        ("no header", vec![], Reason::RuleMatched, None),
        ("a good token", vec![format!("Bearer {good}")], Reason::RuleMatched, None),
        ("another scheme", vec!["Basic YTpi".to_owned()], Reason::RuleMatched, None),
        ("no token", vec!["Bearer".to_owned()], Reason::TokenMalformed, Some(r#"Bearer error="invalid_token""#)),
        (
            "two in one",
            vec![format!("Bearer {good},Bearer {good}")],
            Reason::TokenMalformed,
            Some(r#"Bearer error="invalid_token""#),
        ),
        ("two headers", vec![format!("Bearer {good}"); 2], Reason::HeaderDuplicated, None),
        (
            "a token and something else",
            vec![format!("Bearer {good}"), "Basic YTpi".to_owned()],
            Reason::HeaderDuplicated,
            None,
        ),
        (
            "of the other provider's key",
            vec![format!("Bearer {}", gate.partner.sign(&claims("corp")))],
            Reason::TokenKeyUnknown,
            Some(r#"Bearer error="invalid_token""#),
        ),
    ];
    for (name, headers, reason, challenge) in cases {
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        let answer = gate.ask(None, "/", &headers);
        assert_eq!((answer.reason, answer.challenge), (reason, challenge), "{name}");
    }
}

#[test]
fn a_token_in_the_query_beside_other_credentials_is_ambiguous() {
    let mut gate = Gate::new(|_| {});
    let token = format!("Bearer {}", gate.corp.sign(&claims("corp")));
    let cases: [(&str, &str, &[&str], Reason); 8] = [
        ("beside a token", "/?access_token=x", &[&token], Reason::CredentialsAmbiguous),
        ("beside the scheme alone", "/?access_token=x", &["Bearer"], Reason::CredentialsAmbiguous),
        ("beside another scheme", "/?access_token=x", &["Basic dTpw"], Reason::CredentialsAmbiguous),
        ("beside nothing in the header", "/?access_token=x", &[""], Reason::CredentialsAmbiguous),
        ("twice", "/?access_token=x&access_token=x", &[], Reason::CredentialsAmbiguous),
        ("alone, no token of the gate's", "/?access_token=x", &[], Reason::RuleMatched),
        ("another scheme alone", "/", &["Basic dTpw"], Reason::RuleMatched),
        ("another scheme and a token in one field", "/", &["Basic dTpw, Bearer x"], Reason::TokenMalformed),
    ];
    for (name, path, headers, reason) in cases {
        let answer = gate.ask(None, path, headers);
        assert_eq!(answer.reason, reason, "{name}");
        if reason == Reason::CredentialsAmbiguous {
            let challenge = Some(r#"Bearer error="invalid_request""#);
            assert_eq!((answer.reason.status(), answer.challenge), (400, challenge), "{name}");
        }
    }
}

/// RFC 8705, each way in which the binding fails by its own reason.
#[test]
fn a_bound_token_is_for_one_certificate() {
    let hash = unnamed().sha256;
    let text = bound_to(hash)["x5t#S256"].as_str().expect("text").to_owned();
    let hex = "01".repeat(32);
    let cases = [
        ("its own certificate", Some(bound_to(hash)), true, Ok(())),
        ("no certificate", Some(bound_to(hash)), false, Err(Reason::TokenCertificateMissing)),
        ("another certificate", Some(bound_to([2; 32])), true, Err(Reason::TokenCertificateMismatch)),
        ("not bound", None, true, Err(Reason::TokenNotBound)),
        ("not bound, and no certificate", None, false, Err(Reason::TokenNotBound)),
        ("text", Some(json!("x")), true, Err(Reason::TokenConfirmationInvalid)),
        ("a list", Some(json!([bound_to(hash)])), true, Err(Reason::TokenConfirmationInvalid)),
        ("null", Some(Value::Null), true, Err(Reason::TokenConfirmationInvalid)),
        ("empty", Some(json!({})), true, Err(Reason::TokenConfirmationUnknown)),
        ("another proof", Some(json!({ "jkt": text })), true, Err(Reason::TokenConfirmationUnknown)),
        (
            "another proof as well",
            Some(json!({ "x5t#S256": text, "jkt": text })),
            true,
            Err(Reason::TokenConfirmationUnknown),
        ),
        ("another hash", Some(json!({ "x5t": text })), true, Err(Reason::TokenConfirmationUnknown)),
        ("hexadecimal", Some(json!({ "x5t#S256": hex })), true, Err(Reason::TokenThumbprintInvalid)),
        ("padded", Some(json!({ "x5t#S256": format!("{text}=") })), true, Err(Reason::TokenThumbprintInvalid)),
        ("a digit short", Some(json!({ "x5t#S256": text[1..] })), true, Err(Reason::TokenThumbprintInvalid)),
        (
            "the standard alphabet",
            Some(json!({ "x5t#S256": "+".repeat(43) })),
            true,
            Err(Reason::TokenThumbprintInvalid),
        ),
        (
            "stray bits",
            Some(json!({ "x5t#S256": format!("{}R", &text[..42]) })),
            true,
            Err(Reason::TokenThumbprintInvalid),
        ),
        ("a list of thumbprints", Some(json!({ "x5t#S256": [text] })), true, Err(Reason::TokenThumbprintInvalid)),
        ("an empty thumbprint", Some(json!({ "x5t#S256": "" })), true, Err(Reason::TokenThumbprintInvalid)),
    ];
    for binding in ["required", "when_present", "off"] {
        let mut gate = Gate::new(|document| document["tokens"]["corp"]["binding"] = json!(binding));
        for (name, confirmation, certificate, expected) in &cases {
            let more = confirmation.as_ref().map_or_else(|| json!({}), |cnf| json!({ "cnf": cnf }));
            let expected = match (binding, expected) {
                ("off", _) | ("when_present", Err(Reason::TokenNotBound)) | (_, Ok(())) => Reason::RuleMatched,
                (_, Err(reason)) => *reason,
            };
            let answer = gate.with(certificate.then(|| unnamed().leaf()), "/", more);
            assert_eq!(answer.reason, expected, "{binding}: {name}");
        }
    }
}

#[test]
fn binding_is_required_unless_the_policy_says_otherwise() {
    let mut gate = Gate::new(|document| {
        document["tokens"]["corp"].as_object_mut().expect("a map").remove("binding");
    });
    assert_eq!(gate.with(None, "/", json!({})).reason, Reason::TokenNotBound);
}

#[test]
fn registered_claims_are_demanded_unless_waived_by_name() {
    for (claim, missing) in [
        ("iss", Reason::TokenIssuerMissing),
        ("aud", Reason::TokenAudienceMissing),
        ("exp", Reason::TokenExpiryMissing),
    ] {
        let without = |gate: &mut Gate| {
            let mut claims = claims("corp");
            claims.as_object_mut().expect("an object").remove(claim);
            let token = format!("Bearer {}", gate.corp.sign(&claims));
            gate.ask(None, "/", &[&token]).reason
        };
        assert_eq!(without(&mut Gate::new(|_| {})), missing, "{claim}");
        let mut waived = Gate::new(|document| {
            document["tokens"].as_object_mut().expect("a map").remove("partner");
            document["tokens"]["corp"]["waive"] = json!([claim]);
        });
        assert_eq!(without(&mut waived), Reason::RuleMatched, "{claim}");
        let wrong = if claim == "exp" { json!(1) } else { json!("other") };
        let answer = waived.with(None, "/", json!({ claim: wrong }));
        assert_ne!(answer.reason, Reason::RuleMatched, "{claim}: what is there has to be right");
    }
}

#[test]
fn a_verdict_under_another_policy_than_verified_the_token_is_none() {
    let mut gate = Gate::new(|_| {});
    let value = format!("Bearer {}", gate.corp.sign(&claims("corp")));
    let mut request = request(Peer::Absent, "GET", None, "/");
    request.head.fields = vec![(b"authorization", value.as_bytes())];
    let token = gate.memory.token(&gate.policy, &request.head, NOW, &mut PureRust);
    request.token = &token;
    assert!(gate.policy.decide(&request).is_allowed());
    let other = Gate::new(|_| {});
    assert_eq!(other.policy.decide(&request).reason(), Reason::InternalError);
    let none = policy(r#"{"version":1,"rules":[{"id":"all","allow":"any"}]}"#);
    assert_eq!(none.decide(&request).reason(), Reason::InternalError);
}

#[test]
fn without_tokens_in_the_policy_the_header_is_not_looked_at() {
    let policy = policy(r#"{"version":1,"rules":[{"id":"all","allow":"any","paths":["/a"]}]}"#);
    let mut request = request(Peer::Absent, "GET", None, "/a?access_token=x");
    request.head.fields = vec![(b"authorization", b"Bearer ,,")];
    let token = Memory::default().token(&policy, &request.head, NOW, &mut PureRust);
    request.token = &token;
    assert!(policy.decide(&request).is_allowed());
    request.head.path = Some(b"/b");
    let Decision::Deny(denial) = policy.decide(&request) else { panic!("allowed") };
    assert_eq!((denial.reason(), denial.challenge()), (Reason::NoCertificate, None));
}

#[test]
fn the_policys_own_tests_may_send_a_token() {
    let gate = Gate::new(|document| {
        document["roles"] = json!({ "sre": [{ "token": { "provider": "corp", "claims": { "groups": "sre" } } }] });
        document["rules"] =
            json!([{ "id": "r", "allow": ["sre"], "paths": ["/{t}"], "scopes": ["w"], "claims": { "t": "{t}" } }]);
        let token = json!({ "provider": "corp", "claims": { "groups": ["sre"], "t": "x" }, "scopes": ["w"] });
        let test = |name: &str, path: &str, token: &Value, expect: Value| json!({ "name": name, "peer": "none", "token": token, "request": format!("GET {path}"), "expect": expect });
        document["tests"] = json!([
            test("good", "/x", &token, json!({ "allow": "r" })),
            test("other path", "/y", &token, json!({ "deny": "no_certificate" })),
            test(
                "no scope",
                "/x",
                &json!({ "provider": "corp", "claims": token["claims"] }),
                json!({ "deny": "scope_missing" })
            ),
            test(
                "other provider",
                "/x",
                &json!({ "provider": "partner", "claims": token["claims"] }),
                json!({ "deny": "no_certificate" })
            ),
            test("wrong on purpose", "/x", &token, json!({ "deny": "no_certificate" })),
        ]);
    });
    let failures = gate.policy.run_tests();
    let names: Vec<&str> = failures.iter().map(|failure| failure.name.as_str()).collect();
    assert_eq!(names, ["wrong on purpose"]);
}
