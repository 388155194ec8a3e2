//! `portcullis policy` as people and scripts use it: the built program, its streams and its exit status.

use std::fs;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

const POLICY: &str = r#"
version: 1
trust_domain: acme.example
roles:
  checkout: [ { spiffe: "spiffe://acme.example/ns/pay/sa/checkout" } ]
  reader:
    - spiffe: "spiffe://acme.example/ns/{ns}/sa/*"
rules:
  - { id: read-orders, allow: [checkout, reader], methods: [GET, HEAD], paths: ["/orders/{id}"] }
  - { id: no-debug, deny: any, paths: ["/debug/**"] }
tests:
  - { name: checkout reads, peer: { spiffe: "spiffe://acme.example/ns/pay/sa/checkout" }, request: "GET /orders/42", expect: { allow: read-orders } }
"#;

const CHECKOUT: &str = "spiffe://acme.example/ns/pay/sa/checkout";

/// A directory with a policy in it.
struct Desk(TempDir);

impl Desk {
    fn new(policy: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        fs::write(directory.path().join("policy.yaml"), policy).expect("the policy can be written");
        Self(directory)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.current_dir(&self.0).arg("policy").args(args);
        command
    }

    fn run(&self, args: &[&str], input: &[u8]) -> Output {
        let mut command = self.command(args);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program was built");
        let mut stdin = child.stdin.take().expect("it is piped");
        let input = input.to_vec();
        // The program may refuse to read: then the write fails, and its status says so.
        let writer = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().expect("it ends");
        let _ = writer.join();
        output
    }

    /// The answers to requests, one value each, and the exit status.
    fn decide(&self, requests: &[Value]) -> (Vec<Value>, Option<i32>) {
        let input: String = requests.iter().map(|request| format!("{request}\n")).collect();
        let output = self.run(&["decide", "--policy", "policy.yaml"], input.as_bytes());
        let answers = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        (answers.map(|line| serde_json::from_slice(line).expect("an answer is JSON")).collect(), output.status.code())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A certificate with one URI, valid in 2026.
fn certificate(uri: &str) -> String {
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names = vec![rcgen::SanType::URI(uri.try_into().expect("ASCII"))];
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2027, 1, 1);
    let key = rcgen::KeyPair::generate().expect("a key can be made");
    params.self_signed(&key).expect("the certificate can be signed").pem()
}

fn request(uri: &str) -> Value {
    json!({
        "id": "1", "now": "2026-11-22T10:00:00Z", "peer": {"certificate": certificate(uri), "validated": true},
        "tls": {"version": "TLSv1.3", "sni": "orders.acme.example"}, "source": "10.0.0.7",
        "method": "GET", "authority": "orders.acme.example", "path": "/orders/1?x=1",
        "headers": [["authorization", "Bearer x"], ["x-raw", {"base64": "w6k="}]],
    })
}

/// `request` with some fields set, and those that are null left out.
fn with(request: &Value, changes: Value) -> Value {
    let mut request = request.clone();
    for (field, value) in changes.as_object().expect("changes are fields") {
        request[field] = value.clone();
    }
    request
}

#[test]
fn each_line_is_answered_in_the_documented_form() {
    let desk = Desk::new(POLICY);
    let checkout = request(CHECKOUT);
    let line = checkout.to_string();
    let output = desk.run(&["decide", "--policy", "policy.yaml"], line.as_bytes());
    assert_eq!(
        stdout(&output),
        concat!(
            r#"{"id":"1","decision":"allow","status":200,"reason":"rule_matched","rule":"read-orders","#,
            r#""identity":"spiffe://acme.example/ns/pay/sa/checkout","roles":["checkout","reader"]}"#,
            "\n"
        ),
        "{}",
        stderr(&output)
    );
    assert_eq!(output.status.code(), Some(0));

    let deny = |status: u16, reason: &str| json!({"decision": "deny", "status": status, "reason": reason});
    let nobody = json!({"identity": null, "roles": []});
    let cases = [
        ("another method", json!({"method": "POST"}), deny(403, "no_rule_matched"), json!({})),
        ("a deny rule", json!({"path": "/debug/x"}), deny(403, "deny_rule_matched"), json!({"rule": "no-debug"})),
        ("no certificate", json!({"peer": null}), deny(401, "no_certificate"), nobody.clone()),
        ("a path of two readings", json!({"path": "/orders/../x"}), deny(400, "path_dot_segment"), json!({})),
        ("an identifier that is a number", json!({"id": 7, "method": "PUT"}), deny(403, "no_rule_matched"), json!({})),
        ("after the end", json!({"now": "2027-06-01T00:00:00+02:00"}), deny(401, "certificate_expired"), json!({})),
        ("before the beginning", json!({"now": 0}), deny(401, "certificate_not_yet_valid"), json!({})),
        (
            "not validated",
            json!({"peer": {"certificate": checkout["peer"]["certificate"], "validated": false}}),
            deny(401, "certificate_not_validated"),
            json!({}),
        ),
        (
            "not a certificate",
            json!({"peer": {"certificate": "x", "validated": true}}),
            deny(401, "certificate_unreadable"),
            nobody,
        ),
        ("bytes in a header", json!({"headers": [["x", {"base64": "/w=="}]]}), deny(400, "header_not_utf8"), json!({})),
        ("a NUL in a header", json!({"headers": [["x", "a\0"]]}), deny(400, "header_malformed"), json!({})),
        ("a header without a name", json!({"headers": [["", "a"]]}), deny(400, "header_malformed"), json!({})),
        ("two hosts", json!({"headers": [["Host", "a.example"]]}), deny(400, "host_ambiguous"), json!({})),
        ("a path twice", json!({"headers": [[":path", "/orders/1"]]}), deny(400, "header_duplicated"), json!({})),
    ];
    let requests: Vec<_> = cases.iter().map(|(_, changes, ..)| with(&checkout, changes.clone())).collect();
    let (answers, status) = desk.decide(&requests);
    assert_eq!(status, Some(0));
    assert_eq!(answers.len(), cases.len());
    for (((name, _, want, more), request), answer) in cases.iter().zip(&requests).zip(&answers) {
        assert_eq!(answer["id"], request["id"], "{name}");
        for (field, want) in want.as_object().into_iter().chain(more.as_object()).flatten() {
            assert_eq!(&answer[field], want, "{name}: `{field}` of {answer}");
        }
        assert_eq!(answer.get("rule").is_some(), *name == "a deny rule", "{name}");
    }
}

#[test]
fn an_identifier_comes_back_as_it_was_written() {
    let desk = Desk::new(POLICY);
    let ids = [
        "\"a\\u00e9\"",
        "7",
        "1.0",
        "-0",
        "12345678901234567890123",
        "0.1234567890123456789",
        "1e400",
        "1E+2",
        "null",
        "true",
        "[1, 2e999]",
        "{\"b\":1,\"a\" :{}}",
    ];
    let lines = ids.map(|id| [format!("{{\"id\":{id},\"path\":\"/\"}}\n"), format!("{{\"id\":{id},\"x\":1}}\n")]);
    for command in ["decide", "explain"] {
        let output = desk.run(&[command, "--policy", "policy.yaml"], lines.as_flattened().concat().as_bytes());
        let answers = stdout(&output);
        let answers: Vec<&str> = answers.lines().collect();
        assert_eq!(answers.len(), 2 * ids.len(), "{command}: {}", stderr(&output));
        for (id, answers) in ids.iter().zip(answers.chunks(2)) {
            assert!(
                answers[0].starts_with(&format!("{{\"id\":{id},\"decision\":\"deny\"")),
                "{command}: {}",
                answers[0]
            );
            assert!(answers[1].starts_with("{\"error\":\"unknown field `x`"), "{command}: {}", answers[1]);
            assert!(answers[1].ends_with(&format!(",\"id\":{id}}}")), "{command}: {}", answers[1]);
        }
    }
}

/// What a proxy called `by` writes of a peer with this name into `x-forwarded-client-cert`.
fn element(by: &str, uri: &str) -> String {
    let escapes = [('\n', "%0A"), (' ', "%20"), ('+', "%2B"), ('/', "%2F"), ('=', "%3D")];
    let escaped = escapes.iter().fold(certificate(uri), |text, (character, escape)| text.replace(*character, escape));
    format!("By={by};Cert=\"{escaped}\";URI={uri}")
}

#[test]
fn a_client_behind_a_forwarder_is_the_one_who_asks() {
    const EDGE: &str = "spiffe://acme.example/edge";
    let forwarding = format!("forwarders: [{{ spiffe: \"{EDGE}\" }}]\nroles:");
    let desk = Desk::new(&POLICY.replace("roles:", &forwarding));
    let header = element(EDGE, CHECKOUT);
    let headers = |name: &str, value: &str| json!({"headers": [[name, value]]});
    let edge = request(EDGE);
    let stranger = request(CHECKOUT);
    let requests = [
        with(&edge, headers("X-Forwarded-Client-Cert", &header)),
        with(&edge, headers("x-forwarded-client-cert", &header.replace("sa/checkout", "sa/other"))),
        with(&edge, json!({"headers": []})),
        with(&stranger, headers("x-forwarded-client-cert", &header)),
    ];
    let (answers, status) = desk.decide(&requests);
    assert_eq!(status, Some(0));
    assert_eq!(
        answers[0],
        json!({
            "id": "1", "decision": "allow", "status": 200, "reason": "rule_matched", "rule": "read-orders",
            "identity": CHECKOUT, "forwarder": EDGE, "roles": ["checkout", "reader"],
        })
    );
    let reasons = ["rule_matched", "forwarded_names_mismatch", "no_certificate", "forwarder_untrusted"];
    let identities = [json!(CHECKOUT), json!(null), json!(null), json!(CHECKOUT)];
    for ((answer, reason), identity) in answers.iter().zip(reasons).zip(identities) {
        assert_eq!((&answer["reason"], &answer["identity"]), (&json!(reason), &identity), "{answer}");
    }
}

#[test]
fn what_the_proxy_itself_wrote_is_the_peer_where_nothing_else_tells() {
    const GATEWAY: &str = "spiffe://acme.example/gateway";
    const EDGE: &str = "spiffe://acme.example/edge";
    let forwarding = format!("own_xfcc: true\nforwarders: [{{ spiffe: \"{EDGE}\" }}]\nroles:");
    let trusting = Desk::new(&POLICY.replace("roles:", &forwarding));
    let own = element(GATEWAY, CHECKOUT);
    let behind = format!("{},{}", element(EDGE, CHECKOUT), element(GATEWAY, EDGE));
    let request = |headers: Value| {
        let mut request = with(&request(CHECKOUT), json!({"headers": headers}));
        request.as_object_mut().expect("a request is an object").remove("peer");
        request
    };
    let xfcc = |value: &str| json!([["x-forwarded-client-cert", value]]);
    let told = with(&request(xfcc(&own)), json!({"peer": {"certificate": certificate(EDGE), "validated": true}}));
    let requests = [request(xfcc(&own)), request(xfcc(&behind)), request(xfcc("x")), request(json!([])), told];
    let short = |answer: &Value| {
        let text = |field: &str| answer[field].as_str().unwrap_or("-").to_owned();
        [text("reason"), text("identity"), text("forwarder")]
    };
    let (answers, _) = trusting.decide(&requests);
    let expected = [
        ["rule_matched", CHECKOUT, "-"],
        ["rule_matched", CHECKOUT, EDGE],
        ["certificate_unreadable", "-", "-"],
        ["no_certificate", "-", "-"],
        // Of two answers to who the peer is neither is taken.
        ["forwarded_hash_mismatch", "-", EDGE],
    ];
    assert_eq!(answers.iter().map(short).collect::<Vec<_>>(), expected);
    // Without that word in the policy a client could have written it.
    let (answers, _) = Desk::new(POLICY).decide(&requests[..1]);
    assert_eq!(short(&answers[0]), ["forwarder_untrusted", "-", "-"]);
}

#[test]
fn an_explanation_names_what_each_rule_lacked() {
    let desk = Desk::new(POLICY);
    let checkout = request(CHECKOUT);
    let requests = [
        checkout.clone(),
        with(&checkout, json!({"method": "POST"})),
        with(&checkout, json!({"path": "/../x"})),
        json!({"id": "1", "x": 1}),
    ];
    let input: String = requests.iter().map(|request| format!("{request}\n")).collect();
    let output = desk.run(&["explain", "--policy", "policy.yaml"], input.as_bytes());
    assert_eq!(output.status.code(), Some(1), "the last line is no request");
    let answers: Vec<Value> = stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();

    let candidate = |answer: &Value, rule: &str| {
        let candidates = answer["candidates"].as_array().expect("an explanation has candidates");
        candidates.iter().find(|candidate| candidate["rule"] == rule).cloned()
    };
    assert_eq!(answers[0]["decision"], "allow");
    assert_eq!(candidate(&answers[0], "read-orders"), Some(json!({"rule": "read-orders", "failed": null})));
    assert_eq!(answers[1]["reason"], "no_rule_matched");
    let lacked = candidate(&answers[1], "read-orders").expect("the rule is about this path");
    assert_eq!(lacked["failed"], "method");
    assert!(lacked["because"].as_str().is_some_and(|because| because.contains("`POST`")), "{lacked}");
    assert_eq!(answers[2]["candidates"], json!([]), "no rule is asked about a path of two readings");
    assert!(answers[3]["error"].is_string());
    // The verdict is the one that `decide` gives, field by field.
    let (decided, _) = desk.decide(&requests);
    for (mut explained, decided) in answers.into_iter().zip(decided) {
        explained.as_object_mut().expect("an answer is an object").remove("candidates");
        assert_eq!(explained, decided);
    }
}

#[test]
fn other_verdicts_are_told_only_where_they_differ() {
    let candidate = r#"
candidate:
  version: 1
  rules: [ { id: all, allow: any } ]
"#;
    let shadow = r#"  - { id: closing, deny: [checkout], paths: ["/orders/42"], shadow: true }"#;
    let policy = POLICY.replace("tests:", &format!("{shadow}\ntests:"));
    let desk = Desk::new(&format!("{policy}{candidate}"));
    let checkout = request(CHECKOUT);
    let paths = ["/orders/42", "/debug/x", "//"];
    let requests: Vec<_> = paths.iter().map(|path| with(&checkout, json!({"path": path}))).collect();
    let (answers, status) = desk.decide(&requests);
    assert_eq!(status, Some(0));
    let all = json!({"decision": "allow", "status": 200, "reason": "rule_matched", "rule": "all"});
    let closing = json!({"decision": "deny", "status": 403, "reason": "deny_rule_matched", "rule": "closing"});
    let told: Vec<_> = answers.iter().map(|answer| [answer.get("shadow"), answer.get("candidate")]).collect();
    assert_eq!(told, [[Some(&closing), Some(&all)], [None, Some(&all)], [None, None]]);
    assert_eq!(answers[0]["rule"], "read-orders");
}

#[test]
fn anchors_are_read_from_beside_the_policy() {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "Portcullis clients");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let key = rcgen::KeyPair::generate().expect("a key can be made");
    let authority = params.self_signed(&key).expect("an authority can be made");
    let issuer = rcgen::Issuer::new(params, key);
    let leaf = |issuer: Option<&rcgen::Issuer<'_, rcgen::KeyPair>>| {
        let mut params = rcgen::CertificateParams::default();
        params.subject_alt_names = vec![rcgen::SanType::URI(CHECKOUT.try_into().expect("it is ASCII"))];
        let key = rcgen::KeyPair::generate().expect("a key can be made");
        let leaf = issuer.map_or_else(|| params.self_signed(&key), |issuer| params.signed_by(&key, issuer));
        leaf.expect("a leaf can be signed").pem()
    };

    let desk = Desk::new(&format!("{POLICY}anchors: [ {{ file: clients.pem }} ]\n"));
    let output = desk.run(&["check", "policy.yaml"], b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("policy.yaml:13:20: anchors[0].file: cannot read `clients.pem`"),
        "{}",
        stderr(&output)
    );

    fs::write(desk.0.path().join("clients.pem"), authority.pem()).expect("the file can be written");
    let asked = |pem: String| with(&request(CHECKOUT), json!({"peer": {"certificate": pem, "validated": true}}));
    let (answers, _) = desk.decide(&[asked(leaf(Some(&issuer))), asked(leaf(None))]);
    assert_eq!(answers[0]["decision"], "allow");
    assert_eq!(answers[1]["reason"], "certificate_issuer_unknown");
    let rendered = stdout(&desk.run(&["render", "--policy", "policy.yaml"], b""));
    assert!(rendered.contains("BEGIN CERTIFICATE") && !rendered.contains("clients.pem"), "{rendered}");
}

#[test]
fn remarks_are_shown_and_do_not_make_a_policy_bad() {
    let policy = POLICY
        .replace("tests:", "  - { id: again, allow: [checkout], methods: [GET], paths: [\"/orders/{id}\"] }\ntests:");
    let output = Desk::new(&policy).run(&["check", "policy.yaml"], b"");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.starts_with("policy.yaml:11:5: rules[2]: shadowed: `again` "), "{text}");
    assert!(text.contains("3 rules, 1 tests passed, 1 remarks"), "{text}");
}

#[test]
fn keys_that_verify_nothing_are_remarked_on_unless_the_agent_fetches_them() {
    let policy = r#"
version: 1
tokens:
  fetched: { issuer: "https://a.example", audience: [a], jwks: { url: "https://a.example/keys" } }
  none: { issuer: "https://b.example", audience: [a], jwks: { keys: [] } }
  file: { issuer: "https://d.example", audience: [a], jwks: { file: keys.json } }
  some:
    issuer: "https://c.example"
    audience: [a]
    jwks:
      keys:
        - { kty: EC, crv: P-256, x: f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU, y: x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0 }
        - { kty: EC, crv: P-256, x: f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU, y: f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU }
        - kty: EC
          crv: P-256
          x: f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU
          y: x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0
          d: jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI
rules:
  - { id: read, allow: any, scopes: [read] }
  - { id: once, allow: any, paths: ["/once"], times: [{ until: "2020-01-01T00:00:00Z" }] }
"#;
    let desk = Desk::new(policy);
    let [x, y] = ["f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"];
    let keys = json!({ "keys": [
        { "kty": "oct", "k": "c2VjcmV0" },
        { "kty": "EC", "crv": "P-256", "x": x, "y": y },
    ] });
    fs::write(desk.path("keys.json"), keys.to_string()).expect("the keys can be written");
    let output = desk.run(&["check", "policy.yaml"], b"");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    let expected = [
        (21, "rules[1].times: over: nothing is left of these times of `once`, which end at 2020-01-01T00:00:00Z"),
        (5, "tokens.none.jwks.keys: no_keys: `none` has no key"),
        (13, "tokens.some.jwks.keys[1]: key_left_out: this key is left out: its `x` and `y` are no point on its curve"),
        (14, "tokens.some.jwks.keys[2]: private_key: this key has its private half with it"),
        (6, "tokens.file.jwks.file.keys[0]: key_left_out: this key is left out: its `kty` or `crv` is none"),
        (6, "tokens.file.jwks.file.keys[0]: private_key: this key has its private half with it"),
    ];
    assert!(text.contains("2 rules, 0 tests passed, 6 remarks"), "{text}");
    for (line, remark) in expected {
        let place = format!("policy.yaml:{line}:");
        assert!(
            text.lines().any(|shown| shown.starts_with(&place) && shown.contains(remark)),
            "{line}: {remark}: {text}"
        );
    }
}

#[test]
fn remarks_are_about_the_candidate_too() {
    let candidate = r#"
candidate:
  version: 1
  roles: { a: [ { dns: a.acme.example } ] }
  rules:
    - { id: all, allow: [a] }
    - { id: again, allow: [a], paths: ["/x"] }
"#;
    let output = Desk::new(&format!("{POLICY}{candidate}")).run(&["check", "policy.yaml"], b"");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    let line = text.lines().find(|line| line.contains("candidate.rules[1]")).unwrap_or_default();
    assert!(line.contains("shadowed: `again` never decides"), "{text}");
    let place: Vec<&str> = line.split(':').collect();
    let named = format!("{POLICY}{candidate}").lines().position(|line| line.contains("id: again")).map(|line| line + 1);
    assert_eq!(place[1].parse().ok(), named, "{text}");
}

#[test]
fn the_time_may_be_written_in_several_ways() {
    let desk = Desk::new(POLICY);
    let checkout = request(CHECKOUT);
    let times = [
        json!("2026-11-22T10:00:00Z"),
        json!("2026-11-22T11:00:00.999999999+01:00"),
        json!(1_795_341_600),
        json!(1_795_341_600.75),
        json!(null),
    ];
    let requests: Vec<_> = times.iter().map(|now| with(&checkout, json!({"now": now}))).collect();
    let (answers, status) = desk.decide(&requests);
    assert_eq!(status, Some(0));
    // The last one is decided by the clock, which no test knows.
    for (now, answer) in times.iter().zip(&answers).take(4) {
        assert_eq!(answer["decision"], "allow", "{now}");
    }
    assert!(answers[4].get("error").is_none());
}

#[test]
fn a_line_that_is_no_request_is_answered_and_fails_the_run() {
    let desk = Desk::new(POLICY);
    let checkout = request(CHECKOUT);
    let bad = |changes| with(&checkout, changes).to_string();
    let cases = [
        ("not JSON", "{".to_owned(), Value::Null),
        ("a list", "[]".to_owned(), Value::Null),
        ("an unknown field", bad(json!({"id": "a", "methode": "GET"})), json!("a")),
        (
            "an unknown field of the peer",
            bad(json!({"peer": {"certificate": "x", "validated": true, "x": 1}})),
            json!("1"),
        ),
        ("nobody says whether it is valid", bad(json!({"peer": {"certificate": "x"}})), json!("1")),
        ("a peer that is a list", bad(json!({"peer": ["x", true]})), json!("1")),
        ("base64 that is a list", bad(json!({"path": ["Lw=="]})), json!("1")),
        ("a time that is none", bad(json!({"now": "yesterday"})), json!("1")),
        ("a time without a zone", bad(json!({"now": "2026-11-22T10:00:00"})), json!("1")),
        ("an address that is none", bad(json!({"source": "example"})), json!("1")),
        ("a header of three parts", bad(json!({"headers": [["a", "b", "c"]]})), json!("1")),
        ("base64 that is none", bad(json!({"headers": [["a", {"base64": "?"}]]})), json!("1")),
        ("a number for a path", bad(json!({"path": 1})), json!("1")),
        ("a field twice", r#"{"id":"b","path":"/","path":"/debug"}"#.to_owned(), json!("b")),
    ];
    for (name, line, id) in cases {
        let input = format!("{line}\n\n{checkout}\n");
        let output = desk.run(&["decide", "--policy", "policy.yaml"], input.as_bytes());
        assert_eq!(output.status.code(), Some(1), "{name}");
        let lines: Vec<Value> = stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2, "{name}");
        assert_eq!(lines[0]["id"], id, "{name}");
        assert!(lines[0]["error"].is_string() && lines[0].as_object().unwrap().len() == 2, "{name}: {}", lines[0]);
        assert_eq!(lines[1]["decision"], "allow", "{name}: the next line is answered");
    }
}

#[test]
fn an_answer_does_not_wait_for_the_next_request() {
    let desk = Desk::new(POLICY);
    let mut command = desk.command(&["decide", "--policy", "policy.yaml"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program was built");
    let mut requests = child.stdin.take().expect("it is piped");
    let mut answers = BufReader::new(child.stdout.take().expect("it is piped"));
    for id in 1..=3 {
        writeln!(requests, "{}", json!({"id": id, "path": "/"})).expect("the program reads");
        let mut answer = String::new();
        answers.read_line(&mut answer).expect("the program answers");
        assert!(answer.starts_with(&format!("{{\"id\":{id},\"decision\":\"deny\"")), "{answer}");
    }
    drop(requests);
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn requests_may_come_from_files() {
    let desk = Desk::new(POLICY);
    fs::write(desk.path("a.jsonl"), json!({"id": "a", "path": "/"}).to_string()).unwrap();
    fs::write(desk.path("b.jsonl"), json!({"id": "b", "path": "/"}).to_string()).unwrap();
    let output = desk.run(&["decide", "--policy", "policy.yaml", "a.jsonl", "b.jsonl"], b"");
    let ids: Vec<_> = stdout(&output).lines().map(|line| line[..9].to_owned()).collect();
    assert_eq!(ids, [r#"{"id":"a""#, r#"{"id":"b""#]);

    let output = desk.run(&["decide", "--policy", "policy.yaml", "c.jsonl"], b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot read `c.jsonl`"), "{}", stderr(&output));
}

#[test]
fn a_good_policy_passes_in_yaml_and_in_json() {
    let desk = Desk::new(POLICY);
    let rendered = desk.run(&["render", "policy.yaml"], b"");
    assert_eq!(rendered.status.code(), Some(0), "{}", stderr(&rendered));
    fs::write(desk.path("policy.json"), &rendered.stdout).unwrap();
    let version = |output: &Output| stdout(output).rsplit("version ").next().map(str::to_owned);

    let yaml = desk.run(&["check", "policy.yaml"], b"");
    let json = desk.run(&["check", "--policy", "policy.json"], b"");
    for output in [&yaml, &json] {
        assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
        assert!(stdout(output).contains("good: 2 rules, 1 tests passed, 0 remarks"), "{}", stdout(output));
    }
    assert_eq!(version(&yaml), version(&json));
    let tested = desk.run(&["test", "policy.yaml"], b"");
    assert_eq!((stdout(&tested).as_str(), tested.status.code()), ("1 passed, 0 failed\n", Some(0)));
}

#[test]
fn a_bad_policy_is_refused_with_file_line_and_field() {
    let cases = [
        (
            "a field that does not exist",
            POLICY.replace("paths: [\"/debug", "pathes: [\"/debug"),
            "policy.yaml:10:32: rules[1]",
        ),
        (
            "a role that does not exist",
            POLICY.replace("[checkout, reader]", "[checkout, nobody]"),
            "policy.yaml:9:42: rules[0].allow[1]: ",
        ),
        (
            "a pattern that cannot match",
            POLICY.replace("/orders/{id}\"]", "/orders/../{id}\"]"),
            "policy.yaml:9:81: rules[0].paths[0]: ",
        ),
        ("a name twice", POLICY.replace("  reader:", "  checkout:"), "policy.yaml:6:3: `checkout` is given twice"),
        ("a test that fails", POLICY.replace("GET /orders/42", "POST /orders/42"), "policy.yaml:12:5: tests[0]: "),
        ("not YAML", POLICY.replace("roles:", "roles: ["), "policy.yaml:"),
    ];
    for (name, policy, place) in cases {
        let desk = Desk::new(&policy);
        for command in ["check", "test", "render"] {
            let output = desk.run(&[command, "policy.yaml"], b"");
            assert_eq!(output.status.code(), Some(1), "{name}: {command}");
            let text = stderr(&output);
            assert!(text.starts_with(place), "{name}: {command}: {text}");
            assert!(text.ends_with("^\n"), "{name}: {command}: {text}");
        }
    }
}

#[test]
fn wrong_usage_and_missing_files_have_their_own_status() {
    let desk = Desk::new(POLICY);
    let cases: [(&str, &[&str], i32); 6] = [
        ("no subcommand", &[], 2),
        ("no policy", &["check"], 2),
        ("the policy twice", &["check", "--policy", "policy.yaml", "policy.yaml"], 2),
        ("an unknown option", &["check", "--polcy", "policy.yaml"], 2),
        ("requests without a policy", &["decide"], 2),
        ("a file that is not there", &["check", "no.yaml"], 1),
    ];
    for (name, args, status) in cases {
        let output = desk.run(args, b"");
        assert_eq!(output.status.code(), Some(status), "{name}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "{name}");
    }
    assert!(stderr(&desk.run(&["check", "no.yaml"], b"")).contains("cannot read `no.yaml`: "));
}
