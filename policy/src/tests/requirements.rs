//! What rules require beside method, path, host and role.

use super::*;

/// Whether an allow rule that requires this, and a deny rule that does, match a request.
fn matches(requirement: &str, ask: &Request<'_>) -> [bool; 2] {
    ["allow", "deny"].map(|effect| {
        let policy =
            policy(&format!(r#"{{"version": 1, "rules": [{{"id": "r", "{effect}": "any", {requirement}}}]}}"#));
        let again = super::policy(&policy.to_json());
        assert_eq!(again.to_json(), policy.to_json(), "{requirement}");
        assert_eq!(again.version(), policy.version(), "{requirement}");
        policy.decide(ask).rule() == Some("r")
    })
}

fn from(source: Option<&str>) -> Request<'static> {
    Request { source: source.map(|source| source.parse().unwrap()), ..request(Peer::Absent, "GET", None, "/") }
}

fn refusal(requirement: &str) -> (String, String) {
    let text = format!(r#"{{"version": 1, "rules": [{{"id": "r", "allow": "any", {requirement}}}]}}"#);
    let error = Policy::from_json(text.as_bytes()).unwrap_err();
    (error.path().to_owned(), error.to_string())
}

#[test]
fn sources_are_networks_of_the_peers_address() {
    let cases = [
        ("within", r#""sources": ["10.0.0.0/8"]"#, Some("10.255.255.255"), true),
        ("just before", r#""sources": ["10.0.0.0/8"]"#, Some("9.255.255.255"), false),
        ("just after", r#""sources": ["10.0.0.0/8"]"#, Some("11.0.0.0"), false),
        ("the second of two", r#""sources": ["192.0.2.1", "10.0.0.0/8"]"#, Some("10.0.0.1"), true),
        ("one address", r#""sources": ["192.0.2.1"]"#, Some("192.0.2.1"), true),
        ("its neighbour", r#""sources": ["192.0.2.1"]"#, Some("192.0.2.11"), false),
        ("IPv6", r#""sources": ["2001:db8::/32"]"#, Some("2001:db8:ffff::1"), true),
        ("not that IPv6", r#""sources": ["2001:db8::/32"]"#, Some("2001:db9::1"), false),
        ("every IPv4", r#""sources": ["0.0.0.0/0"]"#, Some("203.0.113.9"), true),
        ("IPv6 is no IPv4", r#""sources": ["0.0.0.0/0"]"#, Some("::1"), false),
        ("IPv4 is no IPv6", r#""sources": ["::/0"]"#, Some("203.0.113.9"), false),
        ("IPv4 on a socket for both", r#""sources": ["10.0.0.0/8"]"#, Some("::ffff:10.0.0.7"), true),
        ("that is IPv4 and no IPv6", r#""sources": ["::/0"]"#, Some("::ffff:10.0.0.7"), false),
        ("nobody knows from where", r#""sources": ["0.0.0.0/0", "::/0"]"#, None, false),
        ("not from there", r#""not": {"sources": ["10.0.0.0/8"]}"#, Some("192.0.2.1"), true),
        ("from there after all", r#""not": {"sources": ["10.0.0.0/8"]}"#, Some("10.0.0.7"), false),
        ("not from there, in IPv6", r#""not": {"sources": ["10.0.0.0/8"]}"#, Some("::ffff:10.0.0.7"), false),
        ("not, and nobody knows", r#""not": {"sources": ["10.0.0.0/8"]}"#, None, false),
        (
            "within, but not within",
            r#""sources": ["10.0.0.0/8"], "not": {"sources": ["10.1.0.0/16"]}"#,
            Some("10.1.0.1"),
            false,
        ),
        (
            "within, and not within",
            r#""sources": ["10.0.0.0/8"], "not": {"sources": ["10.1.0.0/16"]}"#,
            Some("10.2.0.1"),
            true,
        ),
    ];
    for (name, requirement, source, want) in cases {
        assert_eq!(matches(requirement, &from(source)), [want, want], "{name}");
    }
}

#[test]
fn what_could_not_be_required_is_refused_with_its_place() {
    let many = format!(r#""sources": ["{}"]"#, vec!["10.0.0.7"; 257].join("\", \""));
    let cases = [
        ("no source", r#""sources": []"#, "rules[0].sources", "an empty list matches nothing"),
        ("null", r#""sources": null"#, "rules[0].sources", "invalid type: null"),
        ("bits left", r#""sources": ["10.0.0.1/8"]"#, "rules[0].sources[0]", "bits after the prefix are zero"),
        ("mapped", r#""sources": ["::ffff:10.0.0.0/104"]"#, "rules[0].sources[0]", "IPv4 is written as such"),
        ("a name", r#""sources": ["localhost"]"#, "rules[0].sources[0]", "`localhost` is not an IP address"),
        ("too many", &many, "rules[0].sources", "more than 256 values of one condition"),
        ("not nothing", r#""not": {}"#, "rules[0].not", "an empty list matches nothing"),
        ("not a map", r#""not": [["10.0.0.0/8"]]"#, "rules[0].not", "expected a map"),
        ("not an unknown field", r#""not": {"source": ["10.0.0.7"]}"#, "rules[0].not.source", "unknown field `source`"),
        ("not not", r#""not": {"not": {}}"#, "rules[0].not.not", "unknown field `not`"),
        ("not a bad value", r#""not": {"sources": ["x"]}"#, "rules[0].not.sources[0]", "`x` is not an IP address"),
    ];
    for (name, requirement, path, part) in cases {
        let (at, message) = refusal(requirement);
        assert!(at == path && message.contains(part), "{name}: `{at}`: {message}");
    }
}

/// A rule that requires more than its list says decides only what fulfils it, whatever comes before or after it.
#[test]
fn a_rule_that_requires_something_covers_nothing_else() {
    let policy = policy(
        r#"{"version": 1, "rules": [
            {"id": "near", "allow": "any", "paths": ["/x"], "sources": ["10.0.0.0/8"]},
            {"id": "nearer", "allow": "any", "paths": ["/x"], "sources": ["10.1.0.0/16"]},
            {"id": "far", "allow": "any", "paths": ["/x"]},
            {"id": "stranger", "deny": "any", "paths": ["/x"], "sources": ["192.0.2.0/24"]},
            {"id": "never", "allow": "any", "paths": ["/x"], "sources": ["203.0.113.0/24"]}
        ]}"#,
    );
    let decide = |source| {
        let ask = Request { source: Some(std::net::IpAddr::from(source)), ..request(Peer::Absent, "GET", None, "/x") };
        policy.decide(&ask).rule().map(str::to_owned)
    };
    assert_eq!(decide([10, 1, 0, 1]).as_deref(), Some("near"));
    assert_eq!(decide([10, 2, 0, 1]).as_deref(), Some("near"));
    assert_eq!(decide([203, 0, 113, 1]).as_deref(), Some("far"));
    assert_eq!(decide([192, 0, 2, 1]).as_deref(), Some("stranger"));
    let found: Vec<String> = policy.check().iter().map(|finding| format!("{} {finding}", finding.code())).collect();
    assert_eq!(found, ["shadowed `never` never decides: `far` matches all of it first"]);
}

#[test]
fn an_explanation_says_what_was_required() {
    let policy = policy(
        r#"{"version": 1, "rules": [
            {"id": "a", "allow": "any", "sources": ["10.0.0.0/8", "2001:DB8::/32"]},
            {"id": "b", "deny": "any", "not": {"sources": ["192.0.2.0/24"]}}
        ]}"#,
    );
    let outcomes = |source| -> Vec<(&'static str, String)> {
        let rules = policy.explain(&from(source)).rules;
        let failed = rules.iter().filter_map(|rule| rule.failed.as_ref());
        failed.map(|failed| (failed.code(), failed.to_string())).collect()
    };
    assert_eq!(
        outcomes(Some("192.0.2.1")),
        [
            ("sources", r#"the request does not fulfil `sources: ["10.0.0.0/8","2001:db8::/32"]`"#.to_owned()),
            ("not", r#"the request does not fulfil `not: {"sources":["192.0.2.0/24"]}`"#.to_owned()),
        ]
    );
    assert_eq!(
        outcomes(None),
        [
            ("sources", r#"what `sources: ["10.0.0.0/8","2001:db8::/32"]` asks about is missing"#.to_owned()),
            ("not", r#"what `not: {"sources":["192.0.2.0/24"]}` asks about is missing"#.to_owned()),
        ]
    );
}
