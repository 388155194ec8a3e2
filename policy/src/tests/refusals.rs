//! Policies that are refused: where, and in which words.

use super::*;

fn refusal(text: &str) -> (String, String) {
    match Policy::from_json(text.as_bytes()) {
        Ok(_) => ("accepted".to_owned(), String::new()),
        Err(error) => (error.path().to_owned(), error.to_string()),
    }
}

/// Each case is the part of a policy beside `version`, the place of the error, and a part of its text.
#[test]
fn what_is_wrong_is_named_with_its_place_and_remedy() {
    let roles = r#""roles": {"reader": [{"dns": "a.t"}]}"#;
    let rule = |rest: &str| format!(r#"{roles}, "rules": [{{"id": "r", {rest}}}]"#);
    let member = |rest: &str| format!(r#""roles": {{"reader": [{{{rest}}}]}}, "rules": []"#);
    let forwarder = |text: &str| format!(r#""rules": [], "forwarders": [{text}]"#);
    let test = |rest: &str| {
        format!(r#"{roles}, "rules": [{{"id": "r", "allow": "any"}}], "tests": [{{"name": "t", {rest}}}]"#)
    };
    let cases: Vec<(&str, String, &str, &str)> = vec![
        ("unknown field", r#""rules": [], "role": {}"#.into(), "role", "unknown field `role`, expected one of"),
        ("no rules", r#""roles": {}"#.into(), "", "missing field `rules`"),
        ("field twice", r#""rules": [], "rules": []"#.into(), "", "duplicate field `rules`"),
        ("list for the records", r#""rules": [], "records": [5]"#.into(), "records", "expected a map"),
        ("list for a rule", r#""rules": [["r", "any"]]"#.into(), "rules[0]", "expected a map"),
        ("map for the rules", r#""rules": {}"#.into(), "rules", "expected a sequence"),
        ("list for the roles", r#""rules": [], "roles": []"#.into(), "roles", "expected a map"),
        (
            "number for a member",
            r#""rules": [], "roles": {"a": [{"dns": "a.t"}, 5]}"#.into(),
            "roles.a[1]",
            "a map of conditions",
        ),
        ("list for what is revoked", r#""rules": [], "revoked": [["01"]]"#.into(), "revoked", "expected a map"),
        ("list for a distrust", r#""rules": [], "distrust": [[]]"#.into(), "distrust[0]", "expected a map"),
        ("list for a test", r#""rules": [], "tests": [["t"]]"#.into(), "tests[0]", "expected a map"),
        (
            "list for what is expected",
            test(r#""peer": "none", "request": "GET /", "expect": ["r"]"#),
            "tests[0].expect",
            "expected a map",
        ),
        ("unknown field of a rule", rule(r#""allow": "any", "path": ["/"]"#), "rules[0].path", "unknown field `path`"),
        ("null is not absent", rule(r#""allow": "any", "methods": null"#), "rules[0].methods", "invalid type: null"),
        ("null is no waiver", rule(r#""allow": "any", "scopes": null"#), "rules[0].scopes", "invalid type: null"),
        (
            "null is no list of forwarders",
            r#""rules": [], "forwarders": null"#.into(),
            "forwarders",
            "invalid type: null",
        ),
        ("a word for a list", rule(r#""allow": "reader""#), "rules[0].allow", "expected `any` or a list of roles"),
        ("text for a list", rule(r#""allow": "any", "paths": "/a""#), "rules[0].paths", "expected a list"),
        ("allow and deny", rule(r#""allow": "any", "deny": "any""#), "rules[0]", "exactly one of `allow` and `deny`"),
        ("neither", rule(r#""paths": ["/"]"#), "rules[0]", "exactly one of `allow` and `deny`"),
        (
            "empty list of roles",
            rule(r#""allow": []"#),
            "rules[0].allow",
            "an empty list matches nothing; leave the field out",
        ),
        ("empty list of paths", rule(r#""allow": "any", "paths": []"#), "rules[0].paths", "leave the field out"),
        (
            "unknown role",
            rule(r#""allow": ["raeder"]"#),
            "rules[0].allow[0]",
            "no role is named `raeder`; did you mean `reader`?",
        ),
        ("no role is near", rule(r#""allow": ["x"]"#), "rules[0].allow[0]", "no role is named `x`"),
        ("any in a list", rule(r#""allow": ["reader", "any"]"#), "rules[0].allow[1]", "`any` is reserved"),
        (
            "method in small letters",
            rule(r#""allow": "any", "methods": ["get"]"#),
            "rules[0].methods[0]",
            "capital letters",
        ),
        (
            "relative path",
            rule(r#""allow": "any", "paths": ["/a", "b"]"#),
            "rules[0].paths[1]",
            "does not begin with `/`",
        ),
        (
            "wildcard in a segment",
            rule(r#""allow": "any", "paths": ["/a*"]"#),
            "rules[0].paths[0]",
            "stand for a whole segment",
        ),
        (
            "capture in a segment",
            rule(r#""allow": "any", "paths": ["/v{x}"]"#),
            "rules[0].paths[0]",
            "stand for a whole segment",
        ),
        (
            "capture without a name",
            rule(r#""allow": "any", "paths": ["/{}"]"#),
            "rules[0].paths[0]",
            "does not name a capture",
        ),
        (
            "** in the middle",
            rule(r#""allow": "any", "paths": ["/**/a"]"#),
            "rules[0].paths[0]",
            "`**` stands at the end",
        ),
        (
            "** as a part",
            rule(r#""allow": "any", "paths": ["/a**"]"#),
            "rules[0].paths[0]",
            "stand for a whole segment",
        ),
        ("two slashes", rule(r#""allow": "any", "paths": ["//a"]"#), "rules[0].paths[0]", "path_empty_segment"),
        ("dot segments", rule(r#""allow": "any", "paths": ["/a/../b"]"#), "rules[0].paths[0]", "path_dot_segment"),
        (
            "encoded slash",
            rule(r#""allow": "any", "paths": ["/a%2Fb"]"#),
            "rules[0].paths[0]",
            "path_escaped_separator",
        ),
        (
            "query",
            rule(r#""allow": "any", "paths": ["/a?b"]"#),
            "rules[0].paths[0]",
            "the query of a request is not matched",
        ),
        ("host with port", rule(r#""allow": "any", "hosts": ["a.t:443"]"#), "rules[0].hosts[0]", "without its port"),
        (
            "host with a dot at the end",
            rule(r#""allow": "any", "hosts": ["a.t."]"#),
            "rules[0].hosts[0]",
            "a dot at the end",
        ),
        ("host that is none", rule(r#""allow": "any", "hosts": ["a..t"]"#), "rules[0].hosts[0]", "host_invalid"),
        ("scopes", rule(r#""allow": "any", "scopes": []"#), "rules[0].scopes", "an empty list matches nothing"),
        (
            "id that is no name",
            format!(r#"{roles}, "rules": [{{"id": "a,b", "allow": "any"}}]"#),
            "rules[0].id",
            "`a,b` is not a name",
        ),
        (
            "id twice",
            format!(r#"{roles}, "rules": [{{"id": "a", "allow": "any"}}, {{"id": "a", "deny": "any"}}]"#),
            "rules[1].id",
            "rule `a` is already defined",
        ),
        (
            "role twice",
            r#""roles": {"a": [{"dns": "a.t"}], "a": [{"dns": "b.t"}]}, "rules": []"#.into(),
            "roles.a",
            "role `a` is already defined",
        ),
        (
            "role named any",
            r#""roles": {"any": [{"dns": "a.t"}]}, "rules": []"#.into(),
            "roles.any",
            "`any` is reserved",
        ),
        (
            "role without members",
            r#""roles": {"a": []}, "rules": []"#.into(),
            "roles.a",
            "an empty list matches nothing",
        ),
        ("member without conditions", member(""), "roles.reader[0]", "match every certificate"),
        (
            "unknown condition",
            member(r#""dsn": "a.t""#),
            "roles.reader[0].dsn",
            "unknown field `dsn`, expected one of `spiffe`",
        ),
        ("condition twice", member(r#""dns": "a.t", "dns": "b.t""#), "roles.reader[0]", "duplicate field `dns`"),
        (
            "token",
            member(r#""token": {"provider": "corp"}"#),
            "roles.reader[0].token.provider",
            "the names under `tokens`",
        ),
        (
            "issuer hash",
            member(&format!(r#""issuer": {{"sha256": "{}"}}"#, "00".repeat(32))),
            "roles.reader[0].issuer.sha256",
            "put the issuer's certificate there",
        ),
        ("unknown attribute", member(r#""subject": {"cm": "x"}"#), "roles.reader[0].subject.cm", "known are `cn`"),
        (
            "attribute twice",
            member(r#""subject": {"cn": "x", "2.5.4.3": "y"}"#),
            "roles.reader[0].subject.cn",
            "already defined",
        ),
        ("SPIFFE in capitals", member(r#""spiffe": "spiffe://T/a""#), "roles.reader[0].spiffe", "not a SPIFFE ID"),
        (
            "SPIFFE domain as a wildcard",
            member(r#""spiffe": "spiffe://*/a""#),
            "roles.reader[0].spiffe",
            "trust domain must be written out",
        ),
        ("SPIFFE domain alone", member(r#""spiffe": "spiffe://t""#), "roles.reader[0].spiffe", "write `/**` after it"),
        (
            "DNS wildcard in the middle",
            member(r#""dns": "a.*.t""#),
            "roles.reader[0].dns",
            "only the whole first label",
        ),
        (
            "network with bits left",
            member(r#""ip": "10.0.0.1/8""#),
            "roles.reader[0].ip",
            "bits after the prefix are zero",
        ),
        ("unknown purpose", member(r#""eku": ["client"]"#), "roles.reader[0].eku[0]", "`client` is not known here"),
        ("short hash", member(r#""sha256": "abcd""#), "roles.reader[0].sha256", "64 hexadecimal digits"),
        ("odd serial", member(r#""serial": "abc""#), "roles.reader[0].serial", "two digits a byte"),
        ("text for a forwarder", forwarder(r#""x""#), "forwarders[0]", "expected a map of conditions"),
        ("list for a forwarder", forwarder(r#"["x"]"#), "forwarders[0]", "expected a map of conditions"),
        (
            "map for forwarders",
            r#""rules": [], "forwarders": {"dns": "a.t"}"#.into(),
            "forwarders",
            "expected a sequence",
        ),
        ("forwarder without conditions", forwarder(r#"{"hops": 1}"#), "forwarders[0]", "match every certificate"),
        ("forwarder by a role", forwarder(r#"{"role": "a"}"#), "forwarders[0].role", "it has no `role`"),
        ("unknown field of a forwarder", forwarder(r#"{"dsn": "a.t"}"#), "forwarders[0]", "unknown field `dsn`"),
        ("forwarder's name that is none", forwarder(r#"{"dns": "a..t"}"#), "forwarders[0].dns", "not a DNS name"),
        ("hops twice", forwarder(r#"{"dns": "a.t", "hops": 1, "hops": 1}"#), "forwarders[0]", "duplicate field `hops`"),
        (
            "condition of a forwarder twice",
            forwarder(r#"{"dns": "a.t", "dns": "b.t"}"#),
            "forwarders[0]",
            "duplicate field `dns`",
        ),
        ("no hop", forwarder(r#"{"dns": "a.t", "hops": 0}"#), "forwarders[0].hops", "`0` is not from 1 to 16"),
        (
            "many hops",
            forwarder(r#"{"dns": "a.t", "hops": 17, "by": "a:b"}"#),
            "forwarders[0].hops",
            "not from 1 to 16",
        ),
        ("half a hop", forwarder(r#"{"dns": "a.t", "hops": 1.5}"#), "forwarders[0].hops", "invalid type"),
        ("hops without a name", forwarder(r#"{"dns": "a.t", "hops": 2}"#), "forwarders[0].hops", "more need `by`"),
        ("a name that is none", forwarder(r#"{"dns": "a.t", "by": "edge"}"#), "forwarders[0].by", "not a URI"),
        ("null for a name", forwarder(r#"{"dns": "a.t", "by": null}"#), "forwarders[0].by", "invalid type: null"),
        ("null for keep", forwarder(r#"{"dns": "a.t", "keep": null}"#), "forwarders[0].keep", "invalid type: null"),
        ("a word for own_xfcc", r#""rules": [], "own_xfcc": "yes""#.into(), "own_xfcc", "expected a boolean"),
        (
            "forwarder of a test that is a list",
            test(r#""peer": "none", "forwarded_by": ["a"], "request": "GET /", "expect": {"allow": "r"}"#),
            "tests[0].forwarded_by",
            "expected a map",
        ),
        (
            "forwarder of a test without a SPIFFE ID",
            test(r#""peer": "none", "forwarded_by": {"spiffe": "x"}, "request": "GET /", "expect": {"allow": "r"}"#),
            "tests[0].forwarded_by.spiffe",
            "not a SPIFFE ID",
        ),
        ("trust domain", r#""rules": [], "trust_domain": "Acme""#.into(), "trust_domain", "not a SPIFFE trust domain"),
        (
            "brake without a condition",
            r#""rules": [], "distrust": [{}]"#.into(),
            "distrust[0]",
            "match every certificate",
        ),
        (
            "brake with a date",
            r#""rules": [], "distrust": [{"issued_before": "2026-11-01"}]"#.into(),
            "distrust[0].issued_before",
            "not a time in whole seconds such as",
        ),
        (
            "revoked hash",
            r#""rules": [], "revoked": {"sha256": ["x"]}"#.into(),
            "revoked.sha256[0]",
            "64 hexadecimal digits",
        ),
        (
            "test of an unknown rule",
            test(r#""peer": "none", "request": "GET /", "expect": {"allow": "q"}"#),
            "tests[0].expect.allow",
            "`q` is not known here",
        ),
        (
            "test of an unknown reason",
            test(r#""peer": "none", "request": "GET /", "expect": {"deny": "r"}"#),
            "tests[0].expect.deny",
            "reason codes and the ids of deny rules",
        ),
        (
            "test without a path",
            test(r#""peer": "none", "request": "GET", "expect": {"allow": "r"}"#),
            "tests[0].request",
            "a method and a path",
        ),
        (
            "test without an expectation",
            test(r#""peer": "none", "request": "GET /", "expect": {}"#),
            "tests[0].expect",
            "exactly one of",
        ),
        (
            "test with an unknown name",
            test(r#""peer": {"spife": "x"}, "request": "GET /", "expect": {"allow": "r"}"#),
            "tests[0].peer.spife",
            "unknown field `spife`",
        ),
        (
            "test with no SPIFFE ID",
            test(r#""peer": {"spiffe": "x"}, "request": "GET /", "expect": {"allow": "r"}"#),
            "tests[0].peer.spiffe",
            "not a SPIFFE ID",
        ),
    ];
    let mut wrong = Vec::new();
    for (name, body, path, part) in cases {
        let (at, message) = refusal(&format!(r#"{{"version": 1, {body}}}"#));
        if at != path || !message.contains(part) {
            wrong.push(format!("{name}: `{at}`: {message}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{}",
        wrong.join(
            "
"
        )
    );
}

#[test]
fn what_is_not_json_is_named_with_line_and_column() {
    let (path, message) = refusal("{\"version\": 1,\n  \"rules\": [}");
    assert_eq!((path.as_str(), message.as_str()), ("rules[0]", "expected value at line 2, column 13"));
    let (_, message) = refusal("{\"version\": 1, \"rules\": []");
    assert!(message.starts_with("EOF while parsing"), "{message}");
    let (_, message) = refusal("{\"version\": 1, \"rules\": []} {}");
    assert!(message.starts_with("trailing characters"), "{message}");
    let keys = "[".repeat(100_000);
    let (_, message) = refusal(&format!("{{\"version\": 1, \"tokens\": {{\"a\": {{\"jwks\": {{\"keys\": {keys}"));
    assert!(message.starts_with("recursion limit exceeded"), "nesting without end costs no stack: {message}");
    let (_, message) = refusal(&format!("{{\"version\": 1, \"rules\": {keys}"));
    assert!(message.starts_with("EOF while parsing"), "nor where it is skipped at first: {message}");
    let (path, message) =
        refusal("{\"version\": 1, \"rules\": [\n{\"id\": \"a\", \"allow\": \"any\"},\n{\"id\": \"\\ud800\"}]}");
    assert_eq!((path.as_str(), message.as_str()), ("rules[1].id", "unexpected end of hex escape at line 3, column 15"));
    assert_eq!(refusal("{\"version\": 2, \"rules\": []}").0, "version");
}

#[test]
fn a_document_that_is_too_long_is_not_read() {
    let text = vec![b' '; (32 << 20) + 1];
    let error = Policy::from_json(&text).unwrap_err();
    assert!(matches!(error.problem(), crate::PolicyProblem::TooLong { .. }), "{error}");
}

#[test]
fn a_circle_of_roles_is_named() {
    let text = r#"{"version": 1, "roles": {
        "start": [{"role": "a"}], "a": [{"role": "b"}], "b": [{"dns": "x.t"}, {"role": "c"}], "c": [{"role": "a"}]
    }, "rules": []}"#;
    let (path, message) = refusal(text);
    assert_eq!(path, "roles.a");
    assert_eq!(message, "roles are defined in a circle: `a` requires `b` requires `c` requires `a`");
    let (_, message) = refusal(r#"{"version": 1, "roles": {"a": [{"role": "a"}]}, "rules": []}"#);
    assert_eq!(message, "roles are defined in a circle: `a` requires `a`");
}

#[test]
fn a_long_chain_of_roles_is_not_a_circle() {
    let mut roles = vec![r#""r0": [{"dns": "a.t"}]"#.to_owned()];
    roles.extend((1..20_000).map(|number| format!(r#""r{number}": [{{"role": "r{}"}}]"#, number - 1)));
    let policy = policy(&format!(r#"{{"version": 1, "roles": {{{}}}, "rules": []}}"#, roles.join(",")));
    assert_eq!(policy.subject(dns(&["a.t"])).roles().len(), 20_000);
}
