//! Tokens, good and bad, each with one thing that is odd about it, and what becomes of them, whoever hosts the filter.

use serde_json::Value;
use serde_json::json;

use super::TokenIssuer;
use super::bound_to;
use crate::certificates::Leaf;
use crate::tokens;

const READ: &str = "/orders/1";
const WRITE: &str = "/ledger/1";

/// Who does the arithmetic of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verifier {
    /// Envoy's library.
    Host,
    /// The filter itself.
    Filter,
}

/// A request with tokens, and what becomes of it.
#[derive(Clone, Debug)]
pub struct Case {
    /// What is odd.
    pub name: String,
    /// What is asked for.
    pub path: &'static str,
    /// One `Authorization` header each.
    pub tokens: Vec<String>,
    /// Status and code.
    pub expected: &'static str,
    /// Who is asked about the signature, where the host may be.
    pub arithmetic: Option<Verifier>,
}

impl Case {
    /// A case.
    pub fn new(
        name: &str,
        path: &'static str,
        tokens: &[String],
        expected: &'static str,
        arithmetic: Option<Verifier>,
    ) -> Self {
        Self { name: name.to_owned(), path, tokens: tokens.to_vec(), expected, arithmetic }
    }

    /// What a client is told (RFC 6750 §3).
    pub fn challenge(&self) -> Option<String> {
        let error = match self.expected {
            "200" => return None,
            "401 token_missing" => return Some("Bearer".to_owned()),
            "400 credentials_ambiguous" => "invalid_request",
            "403 scope_missing" => "insufficient_scope",
            _ => "invalid_token",
        };
        Some(format!(r#"Bearer error="{error}""#))
    }

    /// The reason code of a refusal.
    pub fn code(&self) -> &'static str {
        self.expected.split_once(' ').map_or("", |(_, code)| code)
    }

    /// Whether nothing is wrong with the token as such.
    pub fn is_good(&self) -> bool {
        !self.tokens.is_empty() && !self.code().starts_with("token_")
    }

    /// Whether the answer is about one token and nothing around it.
    pub fn is_alone(&self) -> bool {
        matches!(self.tokens.as_slice(), [token] if !token.contains(' '))
    }
}

/// The policy that the cases are about: of these issuers, with a rule for each path.
pub fn policy(issuers: &[TokenIssuer]) -> Value {
    let issuers: Vec<&TokenIssuer> = issuers.iter().collect();
    json!({
        "version": 1,
        "tokens": { "corp": tokens::provider(&issuers, "off") },
        "rules": [
            { "id": "read", "allow": "any", "scopes": ["read"], "paths": ["/orders/{id}"] },
            { "id": "write", "allow": "any", "scopes": ["write"], "paths": ["/ledger/{id}"] },
        ],
    })
}

/// What the filter counts that was asked every case once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Tokens that were verified.
    pub verified: u64,
    /// Tokens that were refused.
    pub refused: u64,
    /// Signatures that the host looked at.
    pub by_host: u64,
    /// Signatures that the filter looked at itself.
    pub by_filter: u64,
}

impl Counts {
    /// After these cases, with a host that verifies signatures or with one that does not.
    pub fn of(cases: &[Case], verifier: Verifier) -> Self {
        let count = |holds: &dyn Fn(&Case) -> bool| cases.iter().filter(|case| holds(case)).count() as u64;
        let by_host = count(&|case| case.arithmetic == Some(Verifier::Host) && verifier == Verifier::Host);
        Self {
            verified: count(&Case::is_good),
            refused: count(&|case| !case.tokens.is_empty() && !case.is_good()),
            by_host,
            by_filter: count(&|case| case.arithmetic.is_some()) - by_host,
        }
    }
}

/// Every case, signed at `now` (Unix seconds). One issuer for each algorithm, ES256 first.
pub fn cases(issuers: &[TokenIssuer; 7], now: i64) -> Vec<Case> {
    let mut cases = Vec::new();
    for issuer in issuers {
        let algorithm = issuer.algorithm();
        // What Envoy's function can be told has neither RSASSA-PSS nor Ed25519.
        let verifier = if matches!(algorithm, "PS256" | "EdDSA") { Verifier::Filter } else { Verifier::Host };
        let mut claims = tokens::claims(now);
        let mut signed = |id: &str| {
            claims["jti"] = json!(id);
            issuer.sign(&claims)
        };
        let (good, head) = (signed("good"), without_signature(&signed("forged")).to_owned());
        let (_, other) = good.rsplit_once('.').unwrap_or_default();
        let forged = |signature: &str| format!("{head}.{signature}");
        let mut add = |name: &str, token: String, expected| {
            cases.push(Case::new(&format!("{algorithm}, {name}"), READ, &[token], expected, Some(verifier)));
        };
        add("a signature of another token", forged(other), "401 token_signature_invalid");
        add("a signature of zeros", forged(&"A".repeat(other.len())), "401 token_signature_invalid");
        add("a good token", good, "200");
    }
    cases.extend(of_claims(&issuers[0], now));
    cases.extend(of_headers(&issuers[0], &issuers[2], now));
    cases.extend(of_form(&issuers[0], now));
    cases
}

/// What is wrong with claims, and what they do not allow.
fn of_claims(issuer: &TokenIssuer, now: i64) -> Vec<Case> {
    let with = |name: &str, value: Value| {
        let mut claims = tokens::claims(now);
        claims[name] = value;
        issuer.sign(&claims)
    };
    let without = |name: &str| {
        let mut claims = tokens::claims(now);
        if let Some(claims) = claims.as_object_mut() {
            claims.remove(name);
        }
        issuer.sign(&claims)
    };
    let cheap: [(&str, String, &'static str); 13] = [
        ("expired", with("exp", json!(now - 1)), "401 token_expired"),
        ("without an end", without("exp"), "401 token_expiry_missing"),
        ("an end as text", with("exp", json!((now + 600).to_string())), "401 token_claims_invalid"),
        ("an end beyond all time", with("exp", json!(1e300)), "401 token_claims_invalid"),
        ("not valid yet", with("nbf", json!(now + 3600)), "401 token_not_yet_valid"),
        ("of another issuer", with("iss", json!("https://login.evil.example")), "401 token_issuer_mismatch"),
        (
            "of an issuer that begins alike",
            with("iss", json!("https://login.acme.example/")),
            "401 token_issuer_mismatch",
        ),
        ("of no issuer", without("iss"), "401 token_issuer_missing"),
        ("for somebody else", with("aud", json!("stock")), "401 token_audience_mismatch"),
        ("for several others", with("aud", json!(["stock", "order"])), "401 token_audience_mismatch"),
        ("for nobody", without("aud"), "401 token_audience_missing"),
        ("an audience that is a number", with("aud", json!(1)), "401 token_claims_invalid"),
        ("an issuer that is a list", with("iss", json!([tokens::ISSUER])), "401 token_claims_invalid"),
    ];
    let mut cases: Vec<Case> =
        cheap.into_iter().map(|(name, token, expected)| Case::new(name, READ, &[token], expected, None)).collect();
    let host = Some(Verifier::Host);
    let one_of_two = with("aud", json!(["stock", "orders"]));
    cases.push(Case::new("for several, us among them", READ, &[one_of_two], "200", host));
    cases.push(Case::new("scopes as a list", READ, &[with("scope", json!(["x", "read"]))], "200", host));
    let unread = with("scope", json!("unread reader"));
    cases.push(Case::new("a scope that holds the word and is another", READ, &[unread], "403 scope_missing", host));
    cases.push(Case::new("a scope too few", WRITE, &[with("jti", json!("narrow"))], "403 scope_missing", host));
    cases.push(Case::new("no token", READ, &[], "401 token_missing", None));
    cases
}

/// What a header says of keys and algorithms. `rsa` is another issuer of the same provider.
fn of_headers(issuer: &TokenIssuer, rsa: &TokenIssuer, now: i64) -> Vec<Case> {
    let claims = tokens::claims(now);
    let attacker = TokenIssuer::new("ES256", "ES256");
    let sign = |who: &TokenIssuer, header: Value| who.sign_with_header(&header, &claims);
    let unsigned = |header: Value| format!("{}.", without_signature(&sign(issuer, header)));
    let url = "https://evil.example/jwks";
    let cases = [
        ("no signature", unsigned(json!({ "alg": "none" })), "401 token_algorithm_not_allowed"),
        ("no signature, in odd case", unsigned(json!({ "alg": "nOnE" })), "401 token_algorithm_not_allowed"),
        ("a shared secret", sign(issuer, json!({ "alg": "HS256", "kid": "RS256" })), "401 token_algorithm_not_allowed"),
        ("an algorithm in lower case", sign(issuer, json!({ "alg": "es256" })), "401 token_algorithm_not_allowed"),
        (
            "an algorithm that is not the key's",
            sign(rsa, json!({ "alg": "RS256", "kid": "ES256" })),
            "401 token_algorithm_mismatch",
        ),
        (
            "an RSA key's other algorithm",
            sign(rsa, json!({ "alg": "RS512", "kid": "RS256" })),
            "401 token_algorithm_mismatch",
        ),
        ("no algorithm", sign(issuer, json!({ "kid": "ES256" })), "401 token_header_invalid"),
        ("a key that nobody knows", sign(issuer, json!({ "alg": "ES256", "kid": "other" })), "401 token_key_unknown"),
        (
            "a key id that is a path",
            sign(issuer, json!({ "alg": "ES256", "kid": "../../dev/null" })),
            "401 token_key_unknown",
        ),
        ("a key id that is a number", sign(issuer, json!({ "alg": "ES256", "kid": 1 })), "401 token_header_invalid"),
        (
            "an extension that must be understood",
            sign(issuer, json!({ "alg": "ES256", "crit": ["exp"] })),
            "401 token_critical_header",
        ),
        (
            "a payload that is not encoded",
            sign(issuer, json!({ "alg": "ES256", "b64": false })),
            "401 token_header_invalid",
        ),
        ("a token in a token", sign(issuer, json!({ "alg": "ES256", "cty": "JWT" })), "401 token_nested"),
    ];
    let mut cases: Vec<Case> =
        cases.into_iter().map(|(name, token, expected)| Case::new(name, READ, &[token], expected, None)).collect();
    let host = Some(Verifier::Host);
    let forged = [
        ("the attacker's key in the token", json!({ "alg": "ES256", "kid": "ES256", "jwk": attacker.jwk() })),
        ("the attacker's key in the token, without a name", json!({ "alg": "ES256", "jwk": attacker.jwk() })),
        ("the attacker's key behind a URL", json!({ "alg": "ES256", "kid": "ES256", "jku": url, "x5u": url })),
    ];
    for (name, header) in forged {
        let token = sign(&attacker, header);
        cases.push(Case::new(name, READ, &[token], "401 token_signature_invalid", host));
    }
    let nameless = sign(issuer, json!({ "alg": "ES256" }));
    cases.push(Case::new("no key id, and a key of its algorithm", READ, &[nameless], "200", host));
    cases
}

/// What is no token, or more than one.
fn of_form(issuer: &TokenIssuer, now: i64) -> Vec<Case> {
    let mut claims = tokens::claims(now);
    let mut fresh = |id: &str| {
        claims["jti"] = json!(id);
        issuer.sign(&claims)
    };
    let header = json!({ "alg": "ES256", "kid": "ES256" });
    let written = |payload: &str| issuer.sign_text(&header, payload);
    let twice = r#"{"iss":"https://login.evil.example","iss":"https://login.acme.example"}"#;
    let good = fresh("cut");
    // To whole groups of Base64: the rest of a group would be malformed.
    let cut = good[..good.len() - 6].to_owned();
    let cases = [
        ("one word", vec!["letmein".to_owned()], "401 token_malformed"),
        ("two parts", vec![without_signature(&fresh("two parts")).to_owned()], "401 token_malformed"),
        ("five parts, as an encrypted token has", vec![format!("{}.a.b", fresh("five"))], "401 token_nested"),
        ("padding", vec![format!("{}==", fresh("padding"))], "401 token_malformed"),
        ("a signature that is cut", vec![cut], "401 token_signature_invalid"),
        ("claims that are not JSON", vec![written("exp=1")], "401 token_claims_invalid"),
        ("a claim twice", vec![written(twice)], "401 token_claims_invalid"),
        ("a header that is a list", vec![issuer.sign_text(&json!([]), "{}")], "401 token_header_invalid"),
        ("seventeen kilobytes", vec![written(&"x".repeat(13_000))], "401 token_too_large"),
        ("two tokens", vec![fresh("one"), fresh("other")], "401 token_malformed"),
        ("a token twice", vec![fresh("twice"), fresh("twice")], "401 token_malformed"),
        ("two tokens in one header", vec![format!("{}, Bearer {}", fresh("a"), fresh("b"))], "401 token_malformed"),
    ];
    let mut cases: Vec<Case> =
        cases.into_iter().map(|(name, tokens, expected)| Case::new(name, READ, &tokens, expected, None)).collect();
    let query = "/orders/1?access_token=x";
    let both = [fresh("and in the query")];
    cases.push(Case::new("another in the query", query, &both, "400 credentials_ambiguous", Some(Verifier::Host)));
    cases
}

/// What `cnf` may hold beside exactly one thumbprint of a certificate, here the owner's, and what becomes of the owner.
pub fn confirmations(owner: &Leaf) -> Vec<(&'static str, Value, &'static str)> {
    let thumbprint = bound_to(owner.der());
    let padded = format!("{}=", thumbprint["x5t#S256"].as_str().unwrap_or_default());
    let key = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
    let mut two = thumbprint.clone();
    two["jkt"] = json!(key);
    vec![
        ("in hexadecimal", json!({ "x5t#S256": owner.sha256_hex() }), "401 token_thumbprint_invalid"),
        ("with padding", json!({ "x5t#S256": padded }), "401 token_thumbprint_invalid"),
        ("of a key (RFC 9449)", json!({ "jkt": key }), "401 token_confirmation_unknown"),
        ("of a certificate and a key", two, "401 token_confirmation_unknown"),
        ("of nothing", json!({}), "401 token_confirmation_unknown"),
        ("as text", json!("x5t#S256"), "401 token_confirmation_invalid"),
        ("as a list", json!([thumbprint]), "401 token_confirmation_invalid"),
    ]
}

fn without_signature(token: &str) -> &str {
    token.rsplit_once('.').map_or(token, |(signed, _)| signed)
}
