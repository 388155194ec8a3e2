//! Decisions as a caller sees them: a policy in JSON, a certificate in DER, a request.

use crate::Forwarded;
use crate::Head;
use crate::Leaf;
use crate::Peer;
use crate::Policy;
use crate::Protocol;
use crate::Reason;
use crate::Request;
use crate::Tls;
use crate::UnixTime;
use crate::token::Bearer;

const POLICY: &str = r#"{
    "version": 1,
    "trust_domain": "acme.example",
    "roles": {
        "checkout": [{"spiffe": "spiffe://acme.example/ns/pay/sa/checkout"}],
        "reader": [{"spiffe": "spiffe://acme.example/ns/{ns}/sa/*"}, {"dns": "*.reader.acme.example"}],
        "operator": [{"role": "checkout"}]
    },
    "rules": [
        {"id": "read-orders", "allow": ["checkout", "reader"], "methods": ["GET", "HEAD"], "paths": ["/orders/{id}", "/orders/{id}/items/**"]},
        {"id": "write-orders", "allow": ["operator"], "methods": ["POST"], "paths": ["/orders"]},
        {"id": "own-tenant", "allow": ["reader"], "paths": ["/tenants/{ns}/**"]},
        {"id": "public", "allow": "any", "paths": ["/public/**"]},
        {"id": "host", "allow": "any", "hosts": ["{t}.acme.example"], "paths": ["/of/{t}"]},
        {"id": "no-debug", "deny": "any", "paths": ["/debug/**", "/public/debug"]}
    ]
}"#;

fn leaf(name: rcgen::SanType) -> Leaf {
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names = vec![name];
    let key = rcgen::KeyPair::generate().unwrap();
    Leaf::from_der(params.self_signed(&key).unwrap().der()).unwrap()
}

#[test]
fn requests_are_decided_by_role_method_path_and_host() {
    let policy = Policy::from_json(POLICY.as_bytes()).unwrap_or_else(|error| panic!("{}: {error}", error.path()));
    let uri = |text: &str| Some(policy.subject(leaf(rcgen::SanType::URI(text.try_into().unwrap()))));
    let dns = |text: &str| Some(policy.subject(leaf(rcgen::SanType::DnsName(text.try_into().unwrap()))));
    let checkout = uri("spiffe://acme.example/ns/pay/sa/checkout");
    let reader = uri("spiffe://acme.example/ns/web/sa/x");
    let named = dns("a.reader.acme.example");
    let stranger = uri("spiffe://acme.example/other");
    let nobody = None;
    let cases = [
        ("role and path", &checkout, "GET", "/orders/42", Reason::RuleMatched, Some("read-orders")),
        ("another method", &checkout, "DELETE", "/orders/42", Reason::NoRuleMatched, None),
        ("a role through a role", &checkout, "POST", "/orders?x=1", Reason::RuleMatched, Some("write-orders")),
        ("without the role", &reader, "POST", "/orders", Reason::NoRuleMatched, None),
        ("a capture that agrees", &reader, "GET", "/tenants/web/a/b", Reason::RuleMatched, Some("own-tenant")),
        ("a capture that does not", &reader, "GET", "/tenants/pay/a", Reason::NoRuleMatched, None),
        ("a member that binds no tenant", &named, "GET", "/tenants/pay/a", Reason::NoRuleMatched, None),
        ("no role", &stranger, "GET", "/orders/42", Reason::NoRuleMatched, None),
        ("anybody", &stranger, "GET", "/public/x", Reason::RuleMatched, Some("public")),
        ("nobody", &nobody, "GET", "/public/x", Reason::RuleMatched, Some("public")),
        ("nobody elsewhere", &nobody, "GET", "/orders/42", Reason::NoCertificate, None),
        ("denied", &checkout, "GET", "/debug/x", Reason::DenyRuleMatched, Some("no-debug")),
        ("denied although allowed", &nobody, "GET", "/public/debug", Reason::DenyRuleMatched, Some("no-debug")),
        ("host and path agree", &nobody, "GET", "/of/shop", Reason::RuleMatched, Some("host")),
        ("host and path differ", &nobody, "GET", "/of/shed", Reason::NoCertificate, None),
        ("a path that is refused", &checkout, "GET", "/orders//42", Reason::PathEmptySegment, None),
    ];
    for (name, subject, method, path, reason, rule) in cases {
        let request = Request {
            token: &Bearer::Absent,
            now: UnixTime(1_800_000_000),
            peer: subject.as_ref().map_or(Peer::Absent, |subject| Peer::Presented { subject, validated: true }),
            forwarded: &Forwarded::Nothing,
            tls: Tls::default(),
            source: None,
            listener: None,
            protocol: Protocol::Http,
            head: Head {
                method: Some(method.as_bytes()),
                authority: Some(b"Shop.acme.example:443"),
                path: Some(path.as_bytes()),
                ..Head::default()
            },
        };
        let decision = policy.decide(&request);
        assert_eq!((decision.reason(), decision.rule()), (reason, rule), "{name}");
    }
    let decision_roles = |subject: &Option<crate::Subject>| {
        let request = Request {
            token: &Bearer::Absent,
            now: UnixTime(0),
            peer: Peer::Presented { subject: subject.as_ref().unwrap(), validated: false },
            forwarded: &Forwarded::Nothing,
            tls: Tls::default(),
            source: None,
            listener: None,
            protocol: Protocol::Http,
            head: Head::default(),
        };
        policy.decide(&request).roles().join(",")
    };
    assert_eq!(decision_roles(&checkout), "checkout,operator,reader");
}

#[test]
fn the_canonical_form_is_the_same_policy() {
    let policy = Policy::from_json(POLICY.as_bytes()).unwrap();
    let again = Policy::from_json(policy.to_json().as_bytes()).unwrap();
    assert_eq!(again.to_json(), policy.to_json());
    assert_eq!(again.version(), policy.version());
}
