//! What policies may not say of tokens: where, and in which words.

use serde_json::Value;
use serde_json::json;

use super::issuer::Issuer;
use super::*;

fn refusal(document: &Value) -> (String, String) {
    match Policy::from_json(document.to_string().as_bytes()) {
        Ok(_) => ("accepted".to_owned(), String::new()),
        Err(error) => (error.path().to_owned(), error.to_string()),
    }
}

/// Sets the value at a JSON Pointer whose parent is there; `null` removes it.
fn set(document: &mut Value, pointer: &str, value: Value) {
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    let parent = document.pointer_mut(parent).expect("a parent").as_object_mut().expect("a map");
    match value {
        Value::Null => parent.remove(name),
        value => parent.insert(name.to_owned(), value),
    };
}

#[test]
fn what_is_wrong_with_tokens_is_named_with_its_place_and_remedy() {
    let jwk = Issuer::new("k").jwk();
    let provider = json!({ "issuer": "https://a.example", "audience": ["a"], "jwks": { "keys": [jwk] } });
    let base = json!({
        "version": 1,
        "tokens": { "a": provider },
        "roles": { "r": [{ "token": { "provider": "a", "claims": { "x": "y" }, "scopes": ["s"] } }] },
        "rules": [{ "id": "r", "allow": ["r"], "scopes": ["s"], "claims": { "x": "{x}" }, "paths": ["/{x}"] }],
    });
    assert_eq!(refusal(&base).0, "accepted");
    let same_issuer = json!({ "a": provider, "b": provider });
    let mut waived = provider.clone();
    waived["waive"] = json!(["iss"]);
    waived["issuer"] = json!("https://b.example");
    let symmetric = json!({ "kty": "oct", "k": "c2VjcmV0", "alg": "HS256" });
    let long = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>();
    let many: Value = (0..33).map(|number| (number.to_string(), json!("x"))).collect::<serde_json::Map<_, _>>().into();
    let cases = [
        ("no map", "/tokens", json!([]), "tokens", "expected a map"),
        ("unknown field", "/tokens/a/iss", json!("x"), "tokens.a.iss", "unknown field `iss`, expected one of `issuer`"),
        ("name", "/tokens/a b", provider.clone(), "tokens.a b", "is not a name"),
        ("no issuer", "/tokens/a/issuer", Value::Null, "tokens.a", "needs `issuer`, or `iss` in `waive`"),
        ("empty issuer", "/tokens/a/issuer", json!(""), "tokens.a.issuer", "text that a token could hold"),
        ("no audience", "/tokens/a/audience", Value::Null, "tokens.a", "needs `audience`, or `aud` in `waive`"),
        ("audience of nobody", "/tokens/a/audience", json!([]), "tokens.a.audience", "an empty list matches nothing"),
        ("audience as text", "/tokens/a/audience", json!("a"), "tokens.a.audience", "expected a list"),
        ("no keys", "/tokens/a/jwks", Value::Null, "tokens.a", "missing field `jwks`"),
        ("keys from nowhere", "/tokens/a/jwks", json!({}), "tokens.a.jwks", "exactly one of `file`, `url` and `keys`"),
        ("keys from two places", "/tokens/a/jwks/url", json!("https://a"), "tokens.a.jwks", "exactly one of"),
        ("a file", "/tokens/a/jwks", json!({ "file": "a.json" }), "tokens.a.jwks.file", "`portcullis policy render`"),
        ("a URL", "/tokens/a/jwks", json!({ "url": "https://a" }), "tokens.a.jwks.url", "`portcullis policy render`"),
        (
            "no good key",
            "/tokens/a/jwks/keys",
            json!([symmetric]),
            "tokens.a.jwks.keys",
            "none of 1 keys is a public key",
        ),
        ("no key at all", "/tokens/a/jwks/keys", json!([]), "accepted", ""),
        ("a key that is none", "/tokens/a/jwks/keys", json!(["k"]), "tokens.a.jwks.keys", "of objects"),
        (
            "another algorithm",
            "/tokens/a/algorithms",
            json!(["RS256"]),
            "tokens.a.jwks.keys",
            "for the provider's algorithms",
        ),
        ("HMAC", "/tokens/a/algorithms", json!(["HS256"]), "tokens.a.algorithms[0]", "known are `ES256`"),
        ("none", "/tokens/a/algorithms", json!(["ES256", "none"]), "tokens.a.algorithms[1]", "known are `ES256`"),
        ("no algorithm", "/tokens/a/algorithms", json!([]), "tokens.a.algorithms", "an empty list"),
        ("binding", "/tokens/a/binding", json!("never"), "tokens.a.binding", "known are `required`"),
        ("waiver", "/tokens/a/waive", json!(["nbf"]), "tokens.a.waive[0]", "known are `iss`, `aud` and `exp`"),
        (
            "skew without unit",
            "/tokens/a/clock_skew",
            json!("60"),
            "tokens.a.clock_skew",
            "a length of time of at most",
        ),
        ("negative skew", "/tokens/a/clock_skew", json!("-1s"), "tokens.a.clock_skew", "a length of time of at most"),
        ("endless skew", "/tokens/a/clock_skew", json!("1h"), "tokens.a.clock_skew", "at most 15 minutes"),
        ("scope claim", "/tokens/a/scope_claim", json!("a..b"), "tokens.a.scope_claim", "names with dots between them"),
        ("one issuer twice", "/tokens", same_issuer, "tokens.b.issuer", "is already defined"),
        ("no iss among several", "/tokens/b", waived, "tokens.b.waive", "since there are several providers"),
        (
            "unknown provider",
            "/roles/r",
            json!([{ "token": { "provider": "b" } }]),
            "roles.r[0].token.provider",
            "the names under `tokens`",
        ),
        (
            "no provider",
            "/roles/r",
            json!([{ "token": { "scopes": ["s"] } }]),
            "roles.r[0].token",
            "missing field `provider`",
        ),
        (
            "a capture under a member's not",
            "/roles/r",
            json!([{ "dns": "a.t", "not": { "token": { "provider": "a", "claims": { "x": "{x}" } } } }]),
            "roles.r[0].not.token.claims",
            "`not` takes no `{capture}`",
        ),
        ("a list for a token", "/roles/r", json!([{ "token": ["a"] }]), "roles.r[0].token", "expected a map"),
        (
            "a scope with a space",
            "/rules/0/scopes",
            json!(["a b"]),
            "rules[0].scopes[0]",
            "several scopes are several elements",
        ),
        ("no scope", "/rules/0/scopes", json!([]), "rules[0].scopes", "an empty list"),
        ("no claim", "/rules/0/claims", json!({}), "rules[0].claims", "an empty list"),
        ("no value", "/rules/0/claims", json!({ "x": [] }), "rules[0].claims.x", "an empty list"),
        ("null", "/rules/0/claims", json!({ "x": null }), "rules[0].claims.x", "invalid type: null"),
        (
            "a map",
            "/rules/0/claims",
            json!({ "x": { "y": "z" } }),
            "rules[0].claims.x",
            "expected text, a whole number",
        ),
        ("a fraction", "/rules/0/claims", json!({ "x": 1.5 }), "rules[0].claims.x", "expected text, a whole number"),
        ("anything", "/rules/0/claims", json!({ "x": "*" }), "rules[0].claims.x", "is no condition"),
        ("part of a text", "/rules/0/claims", json!({ "x": "a{y}" }), "rules[0].claims.x", "stand for a whole segment"),
        (
            "a capture among values",
            "/rules/0/claims",
            json!({ "x": ["a", "{y}"] }),
            "rules[0].claims.x",
            "stands alone",
        ),
        ("a bad capture", "/rules/0/claims", json!({ "x": "{1}" }), "rules[0].claims.x", "does not name a capture"),
        ("a claim without a name", "/rules/0/claims", json!({ "": "y" }), "rules[0].claims.", "the name of a claim"),
        ("a bad pointer", "/rules/0/claims", json!({ "/a~2": "y" }), "rules[0].claims./a~2", "a JSON Pointer"),
        (
            "deep",
            "/rules/0/claims",
            json!({ "a.b.c.d.e.f.g.h.i": "y" }),
            "rules[0].claims.a.b.c.d.e.f.g.h.i",
            "the name of a claim",
        ),
        ("many claims", "/rules/0/claims", many, "rules[0].claims", "more than 32 claims"),
        ("many values", "/rules/0/claims", json!({ "x": long(257) }), "rules[0].claims.x", "more than 256 values"),
        (
            "a capture under not",
            "/rules/0/not",
            json!({ "claims": { "x": "{x}" } }),
            "rules[0].not.claims",
            "`not` takes no `{capture}`",
        ),
        (
            "a test's provider",
            "/tests",
            json!([{ "name": "t", "peer": "none", "token": { "provider": "b" }, "request": "GET /", "expect": { "allow": "r" } }]),
            "tests[0].token.provider",
            "the names under `tokens`",
        ),
    ];
    let mut wrong = Vec::new();
    for (name, pointer, value, place, text) in cases {
        let mut document = base.clone();
        set(&mut document, pointer, value);
        let (path, message) = refusal(&document);
        if path != place || !message.contains(text) {
            wrong.push(format!("{name}: `{path}`: {message}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_claim_that_is_written_twice_is_refused() {
    let text = r#"{"version": 1, "rules": [{"id": "r", "allow": "any", "claims": {"x": "a", "x": "b"}}]}"#;
    let error = Policy::from_json(text.as_bytes()).unwrap_err();
    assert_eq!((error.path(), error.to_string().as_str()), ("rules[0].claims.x", "claim `x` is already defined"));
}

/// What an issuer keeps to itself has no place in a proxy's configuration.
#[test]
fn of_a_key_only_what_is_public_is_kept() {
    let mut key = Issuer::new("k").jwk();
    key["d"] = json!("c2VjcmV0");
    key["x5c"] = json!(["c2VjcmV0"]);
    let secret = json!({ "kty": "oct", "k": "c2VjcmV0" });
    let document = json!({ "version": 1, "rules": [], "tokens": {
        "a": { "issuer": "a", "audience": ["a"], "jwks": { "keys": [key, secret] } },
    } });
    let policy = policy(&document.to_string());
    assert!(!policy.to_json().contains("c2VjcmV0"), "{}", policy.to_json());
    assert!(!format!("{policy:?}").contains("c2VjcmV0"));
}
