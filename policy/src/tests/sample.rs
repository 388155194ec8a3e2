//! A policy with everything in it that a policy can have, as people would write it.

use super::anchors::Authority;
use super::*;
use crate::signature::PureRust;

fn sample(authority: &Authority, listed: &Leaf) -> String {
    let hex = |bytes: &[u8]| crate::hex::Hex(bytes).to_string();
    serde_json::json!({
        "version": 1,
        "trust_domain": "acme.example",
        "forwarders": [],
        "anchors": [{ "pem": authority.pem }],
        "tokens": {
            "corp": {
                "issuer": "https://login.acme.example",
                "audience": ["orders"],
                "jwks": { "keys": [{
                    "kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "1",
                    "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
                    "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"
                }] },
                "algorithms": ["ES256", "RS256"],
                "binding": "required",
                "waive": []
            }
        },
        "roles": {
            "checkout": [{ "spiffe": "spiffe://acme.example/ns/pay/sa/checkout" }],
            "reader": [
                { "spiffe": "spiffe://acme.example/ns/{ns}/sa/*" },
                { "dns": "*.reader.acme.example" },
                { "subject": { "ou": "payments" }, "issuer": { "sha256": authority.sha256 } }
            ],
            "sre": [{ "token": { "provider": "corp", "claims": { "groups": "sre" } } }],
            "operator": [{ "role": "sre" }, { "role": "checkout" }]
        },
        "rules": [
            { "id": "read-orders", "allow": ["checkout", "reader"], "methods": ["GET", "HEAD"], "paths": ["/orders/{id}", "/orders/{id}/items/**"] },
            { "id": "write-orders", "allow": ["checkout"], "methods": ["POST"], "paths": ["/orders"], "scopes": ["orders:write"] },
            { "id": "own-tenant", "allow": ["reader"], "paths": ["/tenants/{ns}/**"] },
            { "id": "no-debug", "deny": "any", "paths": ["/debug/**"] }
        ],
        "distrust": [{ "issued_before": "2026-11-01T00:00:00Z", "issuer": { "sha256": authority.sha256 } }],
        "revoked": {
            "serials": [hex(listed.serial())],
            "spki_sha256": [hex(listed.spki_sha256())],
            "sha256": [hex(listed.sha256())],
            "fresh_until": "2027-06-01T00:00:00Z"
        },
        "tests": [
            { "name": "checkout reads", "peer": { "spiffe": "spiffe://acme.example/ns/pay/sa/checkout" }, "request": "GET /orders/42", "expect": { "allow": "read-orders" } }
        ]
    })
    .to_string()
}

#[test]
fn the_policy_that_the_design_shows_is_carried_out() {
    let authority = Authority::new(anchors::named("Acme clients"));
    let issue = |from: (i32, u8, u8), change: &dyn Fn(&mut rcgen::CertificateParams)| {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
        params.not_after = rcgen::date_time_ymd(2028, 1, 1);
        change(&mut params);
        let key = rcgen::KeyPair::generate().unwrap();
        Leaf::from_der(params.signed_by(&key, &authority.issuer).unwrap().der()).unwrap()
    };
    let uri = |id: &'static str| {
        move |params: &mut rcgen::CertificateParams| {
            params.subject_alt_names = vec![rcgen::SanType::URI(id.try_into().unwrap())];
        }
    };
    let unit = |params: &mut rcgen::CertificateParams| {
        params.distinguished_name.push(rcgen::DnType::OrganizationalUnitName, "payments");
    };
    let checkout = uri("spiffe://acme.example/ns/pay/sa/checkout");
    let listed = issue((2026, 12, 1), &checkout);
    let policy = policy(&sample(&authority, &listed));
    assert_eq!(policy.run_tests(), []);
    assert_eq!(super::policy(&policy.to_json()).version(), policy.version());
    let cases = [
        ("checkout", issue((2026, 12, 1), &checkout), "GET", "/orders/42", Reason::RuleMatched),
        ("without a token", issue((2026, 12, 1), &checkout), "POST", "/orders", Reason::TokenMissing),
        ("by unit and issuer", issue((2026, 12, 1), &unit), "HEAD", "/orders/42/items/1", Reason::RuleMatched),
        (
            "the own tenant",
            issue((2026, 12, 1), &uri("spiffe://acme.example/ns/web/sa/a")),
            "GET",
            "/tenants/web/x",
            Reason::RuleMatched,
        ),
        (
            "another tenant",
            issue((2026, 12, 1), &uri("spiffe://acme.example/ns/web/sa/a")),
            "GET",
            "/tenants/pay/x",
            Reason::NoRuleMatched,
        ),
        ("denied", issue((2026, 12, 1), &checkout), "GET", "/debug/x", Reason::DenyRuleMatched),
        ("issued too early", issue((2026, 10, 31), &checkout), "GET", "/orders/42", Reason::CertificateDistrusted),
        ("revoked", listed, "GET", "/orders/42", Reason::CertificateRevoked),
    ];
    for (name, leaf, method, path, reason) in cases {
        let subject = policy.verified_subject(leaf, &mut PureRust);
        assert_eq!(policy.decide(&request(presented(Some(&subject)), method, None, path)).reason(), reason, "{name}");
    }
}
