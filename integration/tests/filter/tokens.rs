//! Bearer tokens: who verifies them, what is remembered, what a client is told.

use portcullis_integration::tokens::ALGORITHMS;
use portcullis_integration::tokens::TokenIssuer;
use portcullis_integration::tokens::bound_to;
use portcullis_integration::tokens::table;
use portcullis_integration::tokens::table::Counts;
use portcullis_integration::tokens::table::Verifier;
use portcullis_integration::wasm_host::Connection;
use portcullis_integration::wasm_host::Outcome;
use portcullis_integration::wasm_host::Vm;
use portcullis_policy::UnixTime;
use serde_json::Value;
use serde_json::json;

use crate::gate::CHECKOUT;
use crate::gate::NOW;
use crate::gate::answer;
use crate::gate::bare;
use crate::gate::gate_with;
use crate::gate::leaf;
use crate::gate::peer;
use crate::gate::policy;
use crate::gate::request_with;

const VERIFIED: &str = "portcullis.tokens.verified";
const CACHED: &str = "portcullis.tokens.cached";
const REFUSED: &str = "portcullis.tokens.refused";
const INTERNAL_FAILURE: i32 = 10;

/// The policy of the other stories, with tokens of these issuers and a rule that asks for a scope.
fn with_tokens(issuers: &[&TokenIssuer], binding: &str) -> Value {
    let mut policy = policy();
    let keys: Vec<Value> = issuers.iter().map(|issuer| issuer.jwk()).collect();
    policy["tokens"] = json!({ "corp": {
        "issuer": "https://login.acme.example", "audience": ["orders"], "binding": binding, "jwks": { "keys": keys },
    } });
    let rules = policy["rules"].as_array_mut().expect("rules");
    rules.push(json!({ "id": "refund", "allow": "any", "paths": ["/refunds/{id}"], "scopes": ["refund"] }));
    rules.push(json!({ "id": "own", "allow": "any", "paths": ["/tenants/{t}"], "claims": { "tenant": "{t}" } }));
    policy
}

fn claims() -> Value {
    json!({
        "iss": "https://login.acme.example", "aud": "orders", "exp": NOW.0 + 600, "scope": "refund read", "tenant": ["a"],
    })
}

fn send(vm: &mut Vm, connection: &Connection, path: &str, token: &str) -> Outcome {
    let value = format!("Bearer {token}");
    vm.request(connection, request_with("GET", path, &[("authorization", value.as_bytes())]))
}

/// Status and code, as the table of tokens has them.
fn told(outcome: &Outcome) -> String {
    let (status, code) = answer(outcome);
    format!("{status} {code}").trim_end().to_owned()
}

fn challenge(outcome: &Outcome) -> Option<String> {
    outcome.reply()?.headers.single("www-authenticate").map(str::to_owned)
}

/// A VM whose host verifies signatures, and one whose host does not.
fn both(policy: &Value) -> [(&'static str, Vm); 2] {
    let mut alone = bare();
    alone.break_call("proxy_call_foreign_function", INTERNAL_FAILURE);
    assert!(alone.configure(policy.to_string().as_bytes()), "{:?}", alone.log());
    [("with the host's library", gate_with(policy)), ("alone", alone)]
}

#[test]
fn host_and_module_come_to_the_same_verdicts() {
    let issuers = ALGORITHMS.map(|algorithm| TokenIssuer::new(algorithm, algorithm));
    let strangers = ALGORITHMS.map(|algorithm| TokenIssuer::new(algorithm, algorithm));
    let policy = with_tokens(&issuers.each_ref(), "off");
    let cut = |token: &str, by: usize| token[..token.len() - by].to_owned();
    for (name, mut vm) in both(&policy) {
        let everybody = Connection::tls();
        for (issuer, stranger) in issuers.iter().zip(&strangers) {
            let algorithm = issuer.jwk()["alg"].clone();
            let good = issuer.sign(&claims());
            assert_eq!(send(&mut vm, &everybody, "/refunds/1", &good).status(), Some(200), "{name}, {algorithm}");

            let (signed, _) = good.rsplit_once('.').expect("three parts");
            let (_, other) = issuer
                .sign(&json!({}))
                .rsplit_once('.')
                .map(|(a, b)| (a.to_owned(), b.to_owned()))
                .expect("three parts");
            let mut bad = vec![
                ("of another text", format!("{signed}.{other}")),
                ("zeros", format!("{signed}.{}", "A".repeat(other.len()))),
                // To whole groups of Base64: the rest of a group would be malformed.
                ("cut", cut(&good, 4 + other.len() % 4)),
            ];
            // All RSA issuers have one key.
            if !algorithm.as_str().is_some_and(|name| name.contains('S') && !name.starts_with('E')) {
                bad.push(("of another key", stranger.sign(&claims())));
            }
            for (what, token) in bad {
                let outcome = send(&mut vm, &everybody, "/refunds/1", &token);
                let expected = (401, "token_signature_invalid".to_owned());
                assert_eq!(answer(&outcome), expected, "{name}, {algorithm}, {what}");
            }
        }
        assert_eq!(vm.counter(VERIFIED), Some(ALGORITHMS.len() as u64), "{name}");
        // RSASSA-PSS and Ed25519 are never the host's: three signatures of the one have the right length, four of the other.
        let by_host = vm.counter("portcullis.signatures.by_host");
        assert_eq!(by_host == Some(0), name == "alone", "{name}: {by_host:?}");
        assert!(vm.counter("portcullis.signatures.by_filter") >= Some(6), "{name}");
        assert_eq!(vm.failure(), None);
    }
}

#[test]
fn every_kind_of_token_has_the_answer_that_it_has_in_envoy() {
    let issuers = ALGORITHMS.map(|algorithm| TokenIssuer::new(algorithm, algorithm));
    let cases = table::cases(&issuers, NOW.0);
    let checkout = peer(CHECKOUT);
    for ((name, mut vm), verifier) in both(&table::policy(&issuers)).into_iter().zip([Verifier::Host, Verifier::Filter])
    {
        for case in &cases {
            // Envoy hands several fields of this name over as one.
            let values: Vec<String> = case.tokens.iter().map(|token| format!("Bearer {token}")).collect();
            let value = values.join(",");
            let fields = [("authorization", value.as_bytes())];
            let fields = if values.is_empty() { &[][..] } else { &fields };
            let outcome = vm.request(&checkout, request_with("GET", case.path, fields));
            assert_eq!(told(&outcome), case.expected, "{name}: {}", case.name);
            assert_eq!(challenge(&outcome), case.challenge(), "{name}: {}", case.name);
        }
        vm.tick();
        let count = |counter: &str| vm.counter(counter).unwrap_or_default();
        let counted = Counts {
            verified: count(VERIFIED),
            refused: count(REFUSED),
            by_host: count("portcullis.signatures.by_host"),
            by_filter: count("portcullis.signatures.by_filter"),
        };
        assert_eq!((counted, count(CACHED)), (Counts::of(&cases, verifier), 0), "{name}");
        assert_eq!(vm.failure(), None, "{name}");
    }
}

#[test]
fn a_token_is_bound_by_exactly_one_thumbprint_of_a_certificate() {
    let issuer = TokenIssuer::new("k", "ES256");
    let owner = leaf().uri(CHECKOUT).issue();
    let connection = Connection::mtls(&owner);
    for (name, mut vm) in both(&with_tokens(&[&issuer], "required")) {
        for (what, cnf, expected) in table::confirmations(&owner) {
            let mut claims = claims();
            claims["cnf"] = cnf;
            let token = issuer.sign(&claims);
            // What needs no token is refused too.
            for path in ["/refunds/1", "/healthz"] {
                assert_eq!(told(&send(&mut vm, &connection, path, &token)), expected, "{name}: {what}, {path}");
            }
        }
        let mut bound = claims();
        bound["cnf"] = bound_to(owner.der());
        assert_eq!(told(&send(&mut vm, &connection, "/refunds/1", &issuer.sign(&bound))), "200", "{name}");
    }
}

#[test]
fn a_host_without_the_function_is_named_in_the_log() {
    let issuer = TokenIssuer::new("k", "ES256");
    let [(_, host), (_, alone)] = both(&with_tokens(&[&issuer], "off"));
    let warned = |vm: &Vm| vm.log().iter().any(|line| line.text.contains("the proxy verifies no signatures"));
    assert!(!warned(&host) && warned(&alone));
}

#[test]
fn a_token_is_verified_once_and_not_past_its_end() {
    let issuer = TokenIssuer::new("k", "ES256");
    let mut vm = gate_with(&with_tokens(&[&issuer], "off"));
    let token = issuer.sign(&claims());
    for _ in 0..5 {
        assert_eq!(send(&mut vm, &Connection::tls(), "/refunds/1", &token).status(), Some(200));
    }
    assert_eq!((vm.counter(VERIFIED), vm.counter(CACHED), vm.counter(REFUSED)), (Some(1), Some(4), Some(0)));

    // The clocks may be a minute apart.
    for (offset, expected) in [(659, ""), (660, "token_expired"), (661, "token_expired")] {
        vm.set_time(UnixTime(NOW.0 + offset));
        assert_eq!(answer(&send(&mut vm, &Connection::tls(), "/refunds/1", &token)).1, expected, "{offset}");
    }
    assert_eq!((vm.counter(VERIFIED), vm.counter(REFUSED)), (Some(1), Some(2)));
}

#[test]
fn a_key_that_leaves_the_policy_takes_its_tokens_along() {
    let (old, new) = (TokenIssuer::new("old", "ES256"), TokenIssuer::new("new", "ES256"));
    let (of_old, of_new) = (old.sign(&claims()), new.sign(&claims()));
    let mut vm = gate_with(&with_tokens(&[&old], "off"));
    let ask = |vm: &mut Vm, token: &str| answer(&send(vm, &Connection::tls(), "/refunds/1", token)).1;
    assert_eq!((ask(&mut vm, &of_old), ask(&mut vm, &of_new)), (String::new(), "token_key_unknown".to_owned()));
    assert!(vm.configure(with_tokens(&[&old, &new], "off").to_string().as_bytes()));
    assert_eq!((ask(&mut vm, &of_old), ask(&mut vm, &of_new)), (String::new(), String::new()), "no request is refused");
    assert!(vm.configure(with_tokens(&[&new], "off").to_string().as_bytes()));
    assert_eq!((ask(&mut vm, &of_old), ask(&mut vm, &of_new)), ("token_key_unknown".to_owned(), String::new()));
}

#[test]
fn what_was_verified_outlives_a_configuration_that_says_the_same() {
    let issuer = TokenIssuer::new("k", "ES256");
    let policy = with_tokens(&[&issuer], "off");
    let mut vm = gate_with(&policy);
    let token = issuer.sign(&claims());
    for _ in 0..2 {
        assert_eq!(send(&mut vm, &Connection::tls(), "/refunds/1", &token).status(), Some(200));
        assert!(vm.configure(policy.to_string().as_bytes()));
    }
    assert_eq!(vm.counter(VERIFIED), Some(1));
}

#[test]
fn a_stolen_token_is_of_no_use_with_another_certificate() {
    let issuer = TokenIssuer::new("k", "ES256");
    let mut vm = gate_with(&with_tokens(&[&issuer], "required"));
    let (owner, thief) = (leaf().uri(CHECKOUT).issue(), leaf().uri(CHECKOUT).issue());
    let mut bound = claims();
    bound["cnf"] = bound_to(owner.der());
    let (bound, unbound) = (issuer.sign(&bound), issuer.sign(&claims()));
    let cases = [
        ("the owner", Connection::mtls(&owner), &bound, ""),
        ("the thief", Connection::mtls(&thief), &bound, "token_certificate_mismatch"),
        ("nobody", Connection::tls(), &bound, "token_certificate_missing"),
        ("the owner, not bound", Connection::mtls(&owner), &unbound, "token_not_bound"),
    ];
    for round in 0..2 {
        for (name, connection, token, expected) in &cases {
            let outcome = send(&mut vm, connection, "/refunds/1", token);
            assert_eq!(answer(&outcome).1, *expected, "{name}, round {round}");
            // What needs no token is refused too: who shows a bad one is not trusted with anything.
            assert_eq!(answer(&send(&mut vm, connection, "/healthz", token)).1, *expected, "{name}, round {round}");
        }
    }
    assert_eq!(vm.counter("portcullis.denied.token_certificate_mismatch"), Some(4));
}

#[test]
fn a_client_is_told_what_kind_of_token_would_help() {
    let issuer = TokenIssuer::new("k", "ES256");
    let mut vm = gate_with(&with_tokens(&[&issuer], "off"));
    let mut narrow = claims();
    narrow["scope"] = json!("read");
    let (good, narrow) = (issuer.sign(&claims()), issuer.sign(&narrow));
    let checkout = peer(CHECKOUT);
    let bearer = |token: &str| Some(format!("Bearer {token}"));
    let invalid = Some(r#"Bearer error="invalid_token""#);
    let request = Some(r#"Bearer error="invalid_request""#);
    let scope = Some(r#"Bearer error="insufficient_scope""#);
    let basic = Some("Basic dTpw".to_owned());
    let joined = Some(format!("Basic dTpw, Bearer {good}"));
    let cases = [
        ("none", "/refunds/1", None, (401, "token_missing"), Some("Bearer")),
        ("garbage", "/refunds/1", bearer("x"), (401, "token_malformed"), invalid),
        ("behind another scheme", "/refunds/1", joined, (401, "token_malformed"), invalid),
        ("no scope", "/refunds/1", bearer(&narrow), (403, "scope_missing"), scope),
        ("another tenant", "/tenants/b", bearer(&good), (403, "no_rule_matched"), None),
        ("own tenant", "/tenants/a", bearer(&good), (200, ""), None),
        ("two", "/refunds/1?access_token=x", bearer(&good), (400, "credentials_ambiguous"), request),
        ("two kinds", "/refunds/1?access_token=x", basic, (400, "credentials_ambiguous"), request),
    ];
    for (name, path, value, (status, code), expected) in cases {
        let fields: Vec<(&str, &[u8])> = value.iter().map(|value| ("authorization", value.as_bytes())).collect();
        let outcome = vm.request(&checkout, request_with("GET", path, &fields));
        assert_eq!(answer(&outcome), (status, code.to_owned()), "{name}");
        assert_eq!(challenge(&outcome).as_deref(), expected, "{name}");
    }
}

#[test]
fn a_token_leaves_no_trace_in_the_log() {
    let issuer = TokenIssuer::new("k", "ES256");
    let mut policy = with_tokens(&[&issuer], "off");
    policy["records"] = json!({ "allow_every": 1 });
    let mut vm = gate_with(&policy);
    let mut private = claims();
    private["sub"] = json!("a-private-person");
    let token = issuer.sign(&private);
    let forged = format!("{}A", &token[..token.len() - 1]);
    for (path, token) in [("/refunds/1", &token), ("/tenants/x", &token), ("/refunds/1", &forged)] {
        send(&mut vm, &Connection::tls(), path, token);
    }
    let log = vm.take_log();
    assert!(log.iter().filter(|line| line.text.contains("\"decision\"")).count() >= 3, "{log:?}");
    let (_, payload) = token.split_once('.').expect("three parts");
    for line in log {
        assert!(!line.text.contains(&payload[..40]) && !line.text.contains("a-private-person"), "{}", line.text);
    }
}

#[test]
fn a_flood_of_forgeries_leaves_what_is_remembered_and_the_memory_as_they_are() {
    let (issuer, forger) = (TokenIssuer::new("k", "ES256"), TokenIssuer::new("k", "ES256"));
    let mut vm = gate_with(&with_tokens(&[&issuer], "off"));
    let good = issuer.sign(&claims());
    assert_eq!(send(&mut vm, &Connection::tls(), "/refunds/1", &good).status(), Some(200));
    let forged: Vec<String> = (0..200)
        .map(|number| {
            let mut claims = claims();
            claims["jti"] = json!(number);
            forger.sign(&claims)
        })
        .collect();
    let mut size = 0;
    for (number, token) in forged.iter().enumerate() {
        assert_eq!(answer(&send(&mut vm, &Connection::tls(), "/refunds/1", token)).1, "token_signature_invalid");
        if number == 100 {
            size = vm.memory_size();
        }
    }
    assert_eq!(vm.memory_size(), size, "a hundred more forgeries take no memory");
    assert_eq!(send(&mut vm, &Connection::tls(), "/refunds/1", &good).status(), Some(200));
    vm.tick();
    assert_eq!((vm.counter(VERIFIED), vm.counter(CACHED), vm.counter(REFUSED)), (Some(1), Some(1), Some(200)));
}

#[test]
fn without_tokens_in_the_policy_the_header_is_the_upstreams() {
    let mut vm = gate_with(&policy());
    let outcome = vm.request(&peer(CHECKOUT), request_with("GET", "/orders/1", &[("authorization", b"Bearer  ,")]));
    let Outcome::Forwarded(headers) = outcome else { panic!("{outcome:?}") };
    assert_eq!(headers.single("authorization"), Some("Bearer  ,"));
}
