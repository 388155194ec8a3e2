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
fn headers_are_looked_at_one_by_one_and_item_by_item() {
    // What an allow rule asks of all of them, a deny rule asks of any.
    const NONE: [bool; 2] = [false, false];
    const BOTH: [bool; 2] = [true, true];
    const DENY: [bool; 2] = [false, true];
    let one = r#""headers": {"x-env": "prod"}"#;
    let two = r#""headers": {"x-env": ["prod", "test"]}"#;
    let list = r#""headers": {"x-env": "prod, test"}"#;
    let not = r#""not": {"headers": {"x-env": "prod"}}"#;
    type Fields<'a> = &'a [(&'a str, &'a str)];
    let cases: &[(&str, &str, Fields<'_>, [bool; 2])] = &[
        ("the value", one, &[("x-env", "prod")], BOTH),
        ("white space around it", one, &[("x-env", " prod\t")], BOTH),
        ("names have no case", one, &[("X-Env", "prod")], BOTH),
        ("values have", one, &[("x-env", "Prod")], NONE),
        ("a part of the value", one, &[("x-env", "production")], NONE),
        ("empty", one, &[("x-env", "")], NONE),
        ("missing", one, &[("x-other", "prod")], NONE),
        ("twice", one, &[("x-env", "prod"), ("x-env", "prod")], BOTH),
        ("another one after it", one, &[("x-env", "prod"), ("x-env", "test")], DENY),
        ("another one before it", one, &[("x-env", "test"), ("x-env", "prod")], DENY),
        ("another item after it", one, &[("x-env", "prod,test")], DENY),
        ("another item before it", one, &[("x-env", "test , prod")], DENY),
        ("an empty item", one, &[("x-env", "prod,")], DENY),
        ("either of two", two, &[("x-env", "prod"), ("x-env", "test,prod")], BOTH),
        ("either of two, and more", two, &[("x-env", "prod"), ("x-env", "test,dev")], DENY),
        ("a value with a comma", list, &[("x-env", "prod, test")], BOTH),
        ("one with a comma, written otherwise", list, &[("x-env", "prod,test")], DENY),
        ("one with a comma, in two fields", list, &[("x-env", "prod"), ("x-env", "test")], DENY),
        ("half of a value with a comma", list, &[("x-env", "prod")], NONE),
        ("an alias alone", one, &[("x_env", "prod")], DENY),
        ("an alias that agrees", one, &[("x-env", "prod"), ("x_env", "prod")], BOTH),
        ("an alias that does not", one, &[("x-env", "prod"), ("X.ENV", "test")], DENY),
        ("no alias", one, &[("xxenv", "prod")], NONE),
        ("not: it is", not, &[("x-env", "prod")], NONE),
        ("not: it is another", not, &[("x-env", "test")], BOTH),
        ("not: missing", not, &[], NONE),
        ("not: one of two is", not, &[("x-env", "test"), ("x-env", "prod")], DENY),
        ("not: one of two items is", not, &[("x-env", "test,prod")], DENY),
        ("not: an alias is", not, &[("x-env", "test"), ("x_env", "prod")], DENY),
        ("not: only an alias, which is not", not, &[("x_env", "test")], BOTH),
        (
            "all of several headers",
            r#""headers": {"x-env": "prod", "x-b": "1"}"#,
            &[("x-b", "1"), ("x-env", "prod")],
            BOTH,
        ),
        ("only one of several headers", r#""headers": {"x-env": "prod", "x-b": "1"}"#, &[("x-env", "prod")], NONE),
        (
            "not all of several: false beats unknown",
            r#""not": {"headers": {"x-env": "prod", "x-b": "1"}}"#,
            &[("x-env", "test")],
            BOTH,
        ),
    ];
    for (name, requirement, fields, want) in cases {
        let mut ask = request(Peer::Absent, "GET", None, "/");
        ask.head.fields.extend(fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        assert_eq!(matches(requirement, &ask), *want, "{name}");
    }
}

#[test]
fn the_server_name_of_the_handshake_is_compared_label_by_label() {
    let exact = r#""sni": ["Orders.acme.example"]"#;
    let wild = r#""sni": ["x.t", "*.acme.example"]"#;
    let not = r#""not": {"sni": ["*.acme.example"]}"#;
    let cases = [
        ("the name", exact, Some("orders.acme.example"), true),
        ("case", exact, Some("ORDERS.acme.example"), true),
        ("a trailing dot", exact, Some("orders.acme.example."), true),
        ("a name below", exact, Some("a.orders.acme.example"), false),
        ("the name before another", exact, Some("orders.acme.example.evil.example"), false),
        ("one label", wild, Some("orders.acme.example"), true),
        ("two labels", wild, Some("a.orders.acme.example"), false),
        ("no label", wild, Some("acme.example"), false),
        ("an empty label", wild, Some(".acme.example"), false),
        ("a star", wild, Some("*.acme.example"), false),
        ("no name", wild, None, false),
        ("an empty name", wild, Some(""), false),
        ("not that one", not, Some("orders.other.example"), true),
        ("that one", not, Some("orders.acme.example"), false),
        ("not, and no name", not, None, false),
        ("not, and an empty name", not, Some(""), false),
    ];
    for (name, requirement, sni, want) in cases {
        let ask = Request { tls: Tls { version: None, sni }, ..request(Peer::Absent, "GET", None, "/") };
        assert_eq!(matches(requirement, &ask), [want, want], "{name}");
    }
}

#[test]
fn versions_of_tls_are_in_order() {
    let cases = [
        ("the same", "1.2", Some("TLSv1.2"), [true, false]),
        ("later", "1.2", Some("TLSv1.3"), [true, false]),
        ("earlier", "1.2", Some("TLSv1.1"), [false, true]),
        ("the first", "1.2", Some("TLSv1"), [false, true]),
        ("the first is enough", "1.0", Some("TLSv1"), [true, false]),
        ("none", "1.0", None, [false, false]),
        ("one that nobody knows", "1.2", Some("TLSv1.4"), [false, false]),
        ("SSL", "1.0", Some("SSLv3"), [false, false]),
        ("none that is one", "1.0", Some(""), [false, false]),
    ];
    for (name, least, version, want) in cases {
        let ask = Request { tls: Tls { version, sni: None }, ..request(Peer::Absent, "GET", None, "/") };
        let requirement = format!(r#""tls": {{"min_version": "{least}"}}"#);
        let got = [matches(&requirement, &ask), matches(&format!(r#""not": {{{requirement}}}"#), &ask)];
        assert_eq!(got, want.map(|want| [want, want]), "{name}");
    }
}

#[test]
fn windows_begin_with_their_first_second_and_end_before_their_last() {
    let dated = r#""times": [{"from": "2026-11-22T10:00:00Z", "until": "2026-11-22T12:00:00+01:00"}]"#;
    let office = r#""times": [{"days": ["mon", "tue", "wed", "thu", "fri"], "hours": "08:00-18:00"}]"#;
    let night = r#""times": [{"hours": "22:00-24:00"}, {"hours": "00:00-06:00"}]"#;
    let sunday = r#""not": {"times": [{"days": ["sun"]}]}"#;
    let endless = r#""times": [{"until": "9999-12-31T23:59:59Z"}]"#;
    let cases = [
        ("before the first second", dated, "2026-11-22T09:59:59Z", false),
        ("the first second", dated, "2026-11-22T10:00:00Z", true),
        ("the last second", dated, "2026-11-22T10:59:59Z", true),
        ("after the last second", dated, "2026-11-22T11:00:00Z", false),
        ("a Friday", office, "2026-11-20T08:00:00Z", true),
        ("just before work", office, "2026-11-20T07:59:59Z", false),
        ("just after work", office, "2026-11-20T18:00:00Z", false),
        ("a Saturday", office, "2026-11-21T12:00:00Z", false),
        ("a Monday", office, "2026-11-23T17:59:59Z", true),
        ("before midnight", night, "2026-11-22T23:59:59Z", true),
        ("after midnight", night, "2026-11-22T00:00:00Z", true),
        ("in the morning", night, "2026-11-22T06:00:00Z", false),
        ("a Sunday", sunday, "2026-11-22T00:00:00Z", false),
        ("the end of that Sunday", sunday, "2026-11-23T00:00:00Z", true),
        ("before no end", endless, "9999-12-31T23:59:58Z", true),
        ("at the end of all calendars", endless, "9999-12-31T23:59:59Z", false),
        ("the day that time began", r#""times": [{"days": ["thu"]}]"#, "1970-01-01T00:00:00Z", true),
        ("the day before", r#""times": [{"days": ["wed"], "hours": "23:00-24:00"}]"#, "1969-12-31T23:59:59Z", true),
    ];
    for (name, requirement, now, want) in cases {
        let now = UnixTime::parse(now).unwrap();
        let ask = Request { now, ..request(Peer::Absent, "GET", None, "/") };
        assert_eq!(matches(requirement, &ask), [want, want], "{name}");
    }
}

#[test]
fn a_policy_says_which_facts_it_asks_about() {
    let needs = |requirement: &str| {
        policy(&format!(r#"{{"version": 1, "rules": [{{"id": "r", "deny": "any", {requirement}}}]}}"#))
            .needs(Protocol::Http)
    };
    let cases = [
        (r#""paths": ["/"]"#, [false, false, false]),
        (r#""headers": {"x-a": "1"}, "times": [{"days": ["mon"]}]"#, [false, false, false]),
        (r#""sources": ["::1"]"#, [true, false, false]),
        (r#""sni": ["a.t"]"#, [false, true, false]),
        (r#""tls": {"min_version": "1.3"}"#, [false, false, true]),
        (r#""not": {"sni": ["a.t"], "tls": {"min_version": "1.3"}}"#, [false, true, true]),
    ];
    for (requirement, want) in cases {
        let needs = needs(requirement);
        assert_eq!([needs.source, needs.sni, needs.tls_version], want, "{requirement}");
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
        ("no header", r#""headers": {}"#, "rules[0].headers", "an empty list matches nothing"),
        ("no value", r#""headers": {"x-a": []}"#, "rules[0].headers.x-a", "an empty list matches nothing"),
        ("an empty value", r#""headers": {"x-a": ""}"#, "rules[0].headers.x-a[0]", "not empty"),
        ("only commas", r#""headers": {"x-a": ","}"#, "rules[0].headers.x-a[0]", "not empty"),
        ("white space", r#""headers": {"x-a": ["b", "c "]}"#, "rules[0].headers.x-a[1]", "without white space around"),
        ("a control character", r#""headers": {"x-a": "b\tc"}"#, "rules[0].headers.x-a[0]", "control characters"),
        ("no text", r#""headers": {"x-a": 1}"#, "rules[0].headers.x-a", "expected text or a list of texts"),
        ("a name in capitals", r#""headers": {"X-A": "b"}"#, "rules[0].headers.X-A", "in small letters"),
        ("a pseudo-header", r#""headers": {":path": "b"}"#, "rules[0].headers.:path", "in small letters"),
        ("a header twice", r#""headers": {"x-a": "b", "x-a": "c"}"#, "rules[0].headers.x-a", "already defined"),
        ("the host", r#""headers": {"host": "b"}"#, "rules[0].headers.host", "stands under `hosts`"),
        ("a secret", r#""headers": {"authorization": "Bearer x"}"#, "rules[0].headers.authorization", "are secrets"),
        (
            "a forgery",
            r#""headers": {"x-forwarded-client-cert": "x"}"#,
            "rules[0].headers.x-forwarded-client-cert",
            "roles tell",
        ),
        (
            "our own",
            r#""headers": {"x-portcullis-identity": "x"}"#,
            "rules[0].headers.x-portcullis-identity",
            "never taken",
        ),
        ("a pattern", r#""sni": ["a.*.t"]"#, "rules[0].sni[0]", "only the whole first label"),
        ("no version", r#""tls": {}"#, "rules[0].tls", "missing field `min_version`"),
        ("another version", r#""tls": {"min_version": "TLSv1.3"}"#, "rules[0].tls.min_version", "`1.0` to `1.3`"),
        ("no window", r#""times": []"#, "rules[0].times", "an empty list matches nothing"),
        ("an empty window", r#""times": [{}]"#, "rules[0].times[0]", "`from`, `until`, `days` or `hours` is needed"),
        ("no day", r#""times": [{"days": []}]"#, "rules[0].times[0].days", "an empty list matches nothing"),
        (
            "another day",
            r#""times": [{"days": ["mon", "monday"]}]"#,
            "rules[0].times[0].days[1]",
            "`monday` is not known",
        ),
        ("over midnight", r#""times": [{"hours": "22:00-06:00"}]"#, "rules[0].times[0].hours", "the later one last"),
        ("minutes", r#""times": [{"hours": "08:00-08:60"}]"#, "rules[0].times[0].hours", "two times of a day"),
        ("after the day", r#""times": [{"hours": "08:00-24:01"}]"#, "rules[0].times[0].hours", "two times of a day"),
        ("a sign", r#""times": [{"hours": "+8:00-09:00"}]"#, "rules[0].times[0].hours", "two times of a day"),
        ("no time", r#""times": [{"from": "2026-11-22"}]"#, "rules[0].times[0].from", "not a time in whole seconds"),
        (
            "backwards",
            r#""times": [{"from": "2026-11-22T00:00:00Z", "until": "2026-11-22T00:00:00Z"}]"#,
            "rules[0].times[0].until",
            "is not an instant after `from`",
        ),
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
    let found: Vec<String> = policy.check(NOW).iter().map(|finding| format!("{} {finding}", finding.code())).collect();
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
