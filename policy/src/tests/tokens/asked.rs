//! What rules and roles ask of tokens: scopes, claims, captures, and all of it of one token and one certificate.

use serde_json::Value;
use serde_json::json;

use super::*;

#[test]
fn scopes_are_words_and_all_of_them_are_needed() {
    let rule = |scopes: Value| {
        move |document: &mut Value| document["rules"] = json!([{ "id": "r", "allow": "any", "scopes": scopes }])
    };
    let cases = [
        ("one word", json!({ "scope": "a" }), Reason::ScopeMissing),
        ("both words", json!({ "scope": "b a" }), Reason::RuleMatched),
        ("in any order, with others", json!({ "scope": "c a b" }), Reason::RuleMatched),
        ("spaces to spare", json!({ "scope": " a  b " }), Reason::RuleMatched),
        ("a list", json!({ "scope": ["a", "b"] }), Reason::RuleMatched),
        ("a list of one text", json!({ "scope": ["a b"] }), Reason::ScopeMissing),
        ("under another name", json!({ "scp": ["a", "b"] }), Reason::RuleMatched),
        ("under both names", json!({ "scope": "a b", "scp": ["b", "a"] }), Reason::RuleMatched),
        ("one here and one there", json!({ "scope": "a", "scp": "b" }), Reason::TokenClaimsInvalid),
        ("part of a word", json!({ "scope": "ab ba aa" }), Reason::ScopeMissing),
        ("other case", json!({ "scope": "A B" }), Reason::ScopeMissing),
        ("a comma", json!({ "scope": "a,b" }), Reason::ScopeMissing),
        ("a tab", json!({ "scope": "a\tb" }), Reason::ScopeMissing),
        ("none", json!({}), Reason::ScopeMissing),
        ("empty", json!({ "scope": "" }), Reason::ScopeMissing),
        ("a number", json!({ "scope": 1 }), Reason::TokenClaimsInvalid),
        ("numbers", json!({ "scope": ["a", 1] }), Reason::TokenClaimsInvalid),
        ("null", json!({ "scope": null }), Reason::TokenClaimsInvalid),
    ];
    let mut gate = Gate::new(rule(json!(["a", "b"])));
    for (name, claims, expected) in cases {
        assert_eq!(gate.with(None, "/", claims).reason, expected, "{name}");
    }
    let answer = gate.with(None, "/", json!({ "scope": "a" }));
    assert_eq!((answer.reason.status(), answer.challenge), (403, Some(r#"Bearer error="insufficient_scope""#)));
    let answer = gate.ask(None, "/", &[]);
    assert_eq!((answer.reason, answer.reason.status(), answer.challenge), (Reason::TokenMissing, 401, Some("Bearer")));

    // "admin" is no part of "nonadmin".
    let mut gate = Gate::new(rule(json!(["admin"])));
    assert_eq!(gate.with(None, "/", json!({ "scope": "nonadmin" })).reason, Reason::ScopeMissing);

    let mut gate = Gate::new(|document| {
        document["tokens"]["corp"]["scope_claim"] = json!("ext.rights");
        rule(json!(["a"]))(document);
    });
    assert_eq!(gate.with(None, "/", json!({ "ext": { "rights": "a" } })).reason, Reason::RuleMatched);
    assert_eq!(gate.with(None, "/", json!({ "scope": "a" })).reason, Reason::ScopeMissing);
}

#[test]
fn claims_are_compared_as_a_whole_and_by_type() {
    let cases = [
        ("text", json!({ "x": "a" }), json!({ "x": "a" }), true),
        ("other text", json!({ "x": "a" }), json!({ "x": "ab" }), false),
        ("a list holds it", json!({ "x": "a" }), json!({ "x": ["b", "a"] }), true),
        ("a list does not hold it", json!({ "x": "a" }), json!({ "x": ["ab"] }), false),
        ("an empty list", json!({ "x": "a" }), json!({ "x": [] }), false),
        ("a list in a list", json!({ "x": "a" }), json!({ "x": [["a"]] }), false),
        ("one of several", json!({ "x": ["a", "b"] }), json!({ "x": "b" }), true),
        ("missing", json!({ "x": "a" }), json!({ "y": "a" }), false),
        ("null", json!({ "x": "a" }), json!({ "x": null }), false),
        ("true", json!({ "x": true }), json!({ "x": true }), true),
        ("text is not true", json!({ "x": true }), json!({ "x": "true" }), false),
        ("true is not text", json!({ "x": "true" }), json!({ "x": true }), false),
        ("a number", json!({ "x": 7 }), json!({ "x": 7 }), true),
        ("text is no number", json!({ "x": 7 }), json!({ "x": "7" }), false),
        ("a fraction", json!({ "x": 7 }), json!({ "x": 7.5 }), false),
        ("nested", json!({ "a.b": "x" }), json!({ "a": { "b": ["x"] } }), true),
        ("nested, and not there", json!({ "a.b": "x" }), json!({ "a": "x" }), false),
        ("a name with a dot is not nested", json!({ "a.b": "x" }), json!({ "a.b": "x" }), false),
        ("a name with a dot by pointer", json!({ "/a.b": "x" }), json!({ "a.b": "x" }), true),
        ("a URL by pointer", json!({ "/https:~1~1x~1r": "x" }), json!({ "https://x/r": "x" }), true),
        ("a tilde by pointer", json!({ "/a~0b/c": "x" }), json!({ "a~b": { "c": "x" } }), true),
        ("two, both", json!({ "x": "a", "y": "b" }), json!({ "x": "a", "y": "b" }), true),
        ("two, one of them", json!({ "x": "a", "y": "b" }), json!({ "x": "a" }), false),
    ];
    for (name, wanted, claims, expected) in cases {
        let mut rule =
            Gate::new(|document| document["rules"] = json!([{ "id": "r", "allow": "any", "claims": wanted }]));
        assert_eq!(rule.with(None, "/", claims.clone()).rule.is_some(), expected, "{name}, of a rule");
        let mut member = Gate::new(|document| {
            document["roles"] = json!({ "m": [{ "token": { "provider": "corp", "claims": wanted } }] });
            document["rules"] = json!([{ "id": "r", "allow": ["m"] }]);
        });
        assert_eq!(member.with(None, "/", claims.clone()).rule.is_some(), expected, "{name}, of a member");
        let none = member.ask(None, "/", &[]);
        assert_eq!((none.rule, none.roles.len()), (None, 0), "{name}");
    }
}

#[test]
fn not_over_what_a_token_does_not_say_does_not_match() {
    let mut gate = Gate::new(|document| {
        document["rules"] = json!([
            { "id": "claim", "allow": "any", "paths": ["/claim"], "not": { "claims": { "x": "a" } } },
            { "id": "scope", "allow": "any", "paths": ["/scope"], "not": { "scopes": ["a"] } },
        ]);
    });
    let cases = [
        ("/claim", json!({ "x": "a" }), false),
        ("/claim", json!({ "x": "b" }), true),
        ("/claim", json!({}), false),
        ("/claim", json!({ "x": null }), false),
        ("/scope", json!({ "scope": "a" }), false),
        ("/scope", json!({ "scope": "b" }), true),
        ("/scope", json!({ "scope": "" }), true),
        ("/scope", json!({}), false),
    ];
    for (path, claims, expected) in cases {
        assert_eq!(gate.with(None, path, claims.clone()).rule.is_some(), expected, "{path} {claims}");
    }
    assert!(gate.ask(None, "/claim", &[]).rule.is_none() && gate.ask(None, "/scope", &[]).rule.is_none(), "no token");
}

#[test]
fn a_member_without_what_a_token_says_needs_a_token_that_says_otherwise() {
    let mut gate = Gate::new(|document| {
        document["roles"] = json!({
            "staff": [{ "uri": "https://a", "not": { "token": { "provider": "corp", "claims": { "kind": "intern" } } } }],
        });
        document["rules"] = json!([{ "id": "r", "allow": ["staff"] }]);
    });
    let leaf = || {
        let alternative_names = vec![AlternativeName::Uri("https://a".to_owned())];
        Some(Synthetic { alternative_names, ..unnamed() }.leaf())
    };
    for (claims, expected) in
        [(json!({ "kind": "clerk" }), true), (json!({ "kind": "intern" }), false), (json!({}), false)]
    {
        assert_eq!(gate.with(leaf(), "/", claims.clone()).rule.is_some(), expected, "{claims}");
    }
    assert_eq!(gate.ask(leaf(), "/", &[]).rule, None, "no token");
    let mut of_partner = claims("partner");
    of_partner["kind"] = json!("clerk");
    let token = format!("Bearer {}", gate.partner.sign(&of_partner));
    assert_eq!(gate.ask(leaf(), "/", &[&token]).rule, None, "another provider's token");
    assert_eq!(gate.with(None, "/", json!({ "kind": "clerk" })).rule, None, "no certificate");
}

/// A certificate that fulfils one rule and a token that fulfils another are not a right to either.
#[test]
fn certificate_and_token_have_to_fulfil_one_rule() {
    let id = |name: &str| format!("spiffe://acme.example/{name}");
    let mut gate = Gate::new(|document| {
        document["roles"] = json!({
            "shop": [{ "spiffe": id("shop") }],
            "desk": [{ "spiffe": id("desk") }],
            "sre": [{ "token": { "provider": "corp", "claims": { "groups": "sre" } } }],
            "on-call": [{ "role": "sre", "spiffe": id("desk") }],
            "split": [{ "spiffe": id("shop"), "token": { "provider": "corp", "scopes": ["s"] } }],
        });
        document["rules"] = json!([
            { "id": "shop-a", "allow": ["shop"], "paths": ["/a"], "scopes": ["a"] },
            { "id": "desk-b", "allow": ["desk"], "paths": ["/b"], "scopes": ["b"] },
            { "id": "on-call", "allow": ["on-call"], "paths": ["/on-call"] },
            { "id": "split", "allow": ["split"], "paths": ["/split"] },
            { "id": "sre", "allow": ["sre"], "paths": ["/sre"] },
        ]);
    });
    let shop = || Some(workload(&id("shop")));
    let desk = || Some(workload(&id("desk")));
    let cases = [
        ("own certificate, own scope", shop(), "/a", json!({ "scope": "a" }), Some("shop-a")),
        ("own certificate, scope of the other rule", shop(), "/a", json!({ "scope": "b" }), None),
        ("certificate of the other rule, own scope", desk(), "/a", json!({ "scope": "a" }), None),
        ("both scopes, wrong certificate", shop(), "/b", json!({ "scope": "a b" }), None),
        ("role by the token", None, "/sre", json!({ "groups": ["sre"] }), Some("sre")),
        ("role by the token, with any certificate", shop(), "/sre", json!({ "groups": ["sre"] }), Some("sre")),
        ("role by both", desk(), "/on-call", json!({ "groups": "sre" }), Some("on-call")),
        ("half of it: token", shop(), "/on-call", json!({ "groups": "sre" }), None),
        ("half of it: certificate", desk(), "/on-call", json!({}), None),
        ("one member, both", shop(), "/split", json!({ "scope": "s" }), Some("split")),
        ("one member, certificate", shop(), "/split", json!({ "scope": "t" }), None),
        ("one member, token", desk(), "/split", json!({ "scope": "s" }), None),
        ("one member, token without certificate", None, "/split", json!({ "scope": "s" }), None),
    ];
    for (name, leaf, path, claims, rule) in cases {
        assert_eq!(gate.with(leaf, path, claims).rule.as_deref(), rule, "{name}");
    }
    assert_eq!(gate.with(desk(), "/", json!({ "groups": "sre" })).roles, ["desk", "on-call", "sre"]);

    // The same words of another provider mean nothing to a member.
    let mut other = claims("partner");
    other["groups"] = json!("sre");
    let token = format!("Bearer {}", gate.partner.sign(&other));
    assert_eq!(gate.ask(desk(), "/sre", &[&token]).roles, ["desk"]);
}

#[test]
fn a_token_that_is_remembered_is_judged_with_each_certificate() {
    let id = |name: &str| format!("spiffe://acme.example/{name}");
    let mut gate = Gate::new(|document| {
        document["roles"] = json!({ "r": [{ "spiffe": id("r"), "token": { "provider": "corp" } }] });
        document["rules"] = json!([{ "id": "r", "allow": ["r"] }]);
    });
    let token = format!("Bearer {}", gate.corp.sign(&claims("corp")));
    let leaf = |name: &str, hash: u8| {
        let alternative_names = vec![AlternativeName::Uri(id(name))];
        Some(Synthetic { alternative_names, sha256: [hash; 32], ..unnamed() }.leaf())
    };
    for _ in 0..2 {
        assert_eq!(gate.ask(leaf("other", 5), "/", &[&token]).rule, None);
        assert_eq!(gate.ask(leaf("r", 6), "/", &[&token]).rule.as_deref(), Some("r"));
        assert_eq!(gate.ask(None, "/", &[&token]).rule, None);
    }
}

#[test]
fn captures_join_claims_with_certificate_path_and_host() {
    let id = |name: &str| format!("spiffe://acme.example/ns/{name}/sa/x");
    let mut gate = Gate::new(|document| {
        document["roles"] = json!({
            "workload": [{ "spiffe": "spiffe://acme.example/ns/{ns}/sa/*" }, { "dns": "free.example" }],
            "person": [{ "token": { "provider": "corp", "claims": { "tenants": "{ns}" } } }],
            "both": [{ "spiffe": "spiffe://acme.example/ns/{ns}/sa/*", "token": { "provider": "corp", "claims": { "tenants": "{ns}" } } }],
        });
        document["rules"] = json!([
            { "id": "path", "allow": "any", "paths": ["/path/{t}"], "claims": { "tenants": "{t}" } },
            { "id": "role", "allow": ["workload"], "paths": ["/role"], "claims": { "tenants": "{ns}" } },
            { "id": "all", "allow": ["workload"], "paths": ["/all/{ns}"], "claims": { "tenants": "{ns}" } },
            { "id": "person", "allow": ["person"], "paths": ["/person/{ns}"] },
            { "id": "both", "allow": ["both"], "paths": ["/both/{ns}"] },
            { "id": "two", "allow": "any", "paths": ["/two"], "claims": { "tenants": "{t}", "home": "{t}" } },
            { "id": "one", "allow": "any", "paths": ["/one"], "claims": { "home": "{t}" } },
        ]);
    });
    let free = || {
        let alternative_names = vec![AlternativeName::Dns("free.example".to_owned())];
        Synthetic { alternative_names, ..unnamed() }.leaf()
    };
    let cases = [
        ("the path's", None, "/path/a", json!({ "tenants": "a" }), Some("path")),
        ("not the path's", None, "/path/b", json!({ "tenants": "a" }), None),
        ("one of a list", None, "/path/b", json!({ "tenants": ["a", "b"] }), Some("path")),
        ("no text", None, "/path/1", json!({ "tenants": 1 }), None),
        ("the certificate's", Some(workload(&id("a"))), "/role", json!({ "tenants": ["b", "a"] }), Some("role")),
        ("not the certificate's", Some(workload(&id("c"))), "/role", json!({ "tenants": ["b", "a"] }), None),
        ("a way of the role that binds nothing", Some(free()), "/role", json!({ "tenants": "a" }), None),
        ("all three", Some(workload(&id("a"))), "/all/a", json!({ "tenants": "a" }), Some("all")),
        ("all but the path", Some(workload(&id("a"))), "/all/b", json!({ "tenants": ["a", "b"] }), None),
        ("all but the claim", Some(workload(&id("a"))), "/all/a", json!({ "tenants": "b" }), None),
        ("a role's claim and the path", None, "/person/b", json!({ "tenants": ["a", "b"] }), Some("person")),
        ("a role's claim and another path", None, "/person/c", json!({ "tenants": ["a", "b"] }), None),
        (
            "a role's claim and its certificate",
            Some(workload(&id("b"))),
            "/both/b",
            json!({ "tenants": ["a", "b"] }),
            Some("both"),
        ),
        (
            "a role's claim, not its certificate's",
            Some(workload(&id("b"))),
            "/both/a",
            json!({ "tenants": ["a", "b"] }),
            None,
        ),
        ("two claims with one in common", None, "/two", json!({ "tenants": ["a", "b"], "home": ["b"] }), Some("two")),
        ("two claims with none in common", None, "/two", json!({ "tenants": ["a"], "home": ["b"] }), None),
        ("nothing to join it with", None, "/one", json!({ "home": "x" }), Some("one")),
        ("nothing to join it with, and no text", None, "/one", json!({ "home": [] }), None),
    ];
    for (name, leaf, path, claims, rule) in cases {
        assert_eq!(gate.with(leaf, path, claims).rule.as_deref(), rule, "{name}");
    }
}

#[test]
fn a_deny_rule_about_tokens_beats_every_allow() {
    let mut gate = Gate::new(|document| {
        document["rules"] = json!([
            { "id": "all", "allow": "any" },
            { "id": "intern", "deny": "any", "claims": { "kind": "intern" } },
        ]);
    });
    assert_eq!(gate.with(None, "/", json!({ "kind": "intern" })).rule.as_deref(), Some("intern"));
    assert_eq!(gate.with(None, "/", json!({ "kind": ["clerk", "intern"] })).rule.as_deref(), Some("intern"));
    assert_eq!(gate.with(None, "/", json!({})).rule.as_deref(), Some("all"));
}
