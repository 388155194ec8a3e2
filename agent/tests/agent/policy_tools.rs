//! The tools for people around a policy: who reaches a path, what somebody reaches, what an edit changes, and the filter's
//! records decided again. The built program, its streams and its exit status.

use std::fs;
use std::io::Write as _;
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
  tenant: [ { spiffe: "spiffe://acme.example/ns/{ns}/sa/*" } ]
  ops: [ { dns: "*.ops.acme.example" } ]
rules:
  - { id: read-orders, allow: [checkout, ops], methods: [GET, HEAD], paths: ["/orders/{id}"] }
  - { id: own-tenant, allow: [tenant], paths: ["/tenants/{ns}/**"] }
  - { id: no-debug, deny: any, paths: ["/debug/**"] }
tests:
  - { name: checkout reads, peer: { spiffe: "spiffe://acme.example/ns/pay/sa/checkout" }, request: "GET /orders/42", expect: { allow: read-orders } }
"#;

const CHECKOUT: &str = "spiffe://acme.example/ns/pay/sa/checkout";

/// A directory with a policy in it, and perhaps its next version.
struct Desk(TempDir);

impl Desk {
    fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        for (name, text) in files {
            fs::write(directory.path().join(name), text).expect("the file can be written");
        }
        Self(directory)
    }

    fn run(&self, args: &[&str], input: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.current_dir(&self.0).arg("policy").args(args);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program was built");
        // It may end without reading.
        let _ = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
        child.wait_with_output().expect("it ends")
    }

    /// What it prints, having succeeded.
    fn text(&self, args: &[&str]) -> String {
        let output = self.run(args, "");
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).expect("it prints UTF-8")
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.text(&[args, &["-o", "json"]].concat())).expect("it prints JSON")
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The cells of each line, which are two spaces apart at least.
fn cells(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()).collect()
}

#[test]
fn who_can_make_a_request_is_told_with_examples() {
    let desk = Desk::new(&[("policy.yaml", POLICY)]);
    let text = desk.text(&["who", "--policy", "policy.yaml", "GET /orders/42"]);
    assert_eq!(
        cells(&text),
        [
            vec!["DECISION", "BY", "ROLE", "IDENTITY"],
            vec!["allow", "read-orders", "checkout", CHECKOUT],
            vec!["allow", "read-orders", "ops", "dns:x.ops.acme.example"],
        ]
    );
    let blue = desk.json(&["who", "--policy", "policy.yaml", "PUT /tenants/blue/x"]);
    assert_eq!(blue["who"][0]["identity"], "spiffe://acme.example/ns/blue/sa/x");
    assert_eq!(blue["who"][0]["rule"], "own-tenant");
    let debug = desk.text(&["who", "--policy", "policy.yaml", "GET /debug"]);
    assert!(debug.contains("deny") && debug.contains("anybody") && debug.contains("no certificate"), "{debug}");
    let cases = [
        ("GET /elsewhere", "nobody: no rule is about this request\n"),
        ("GET /orders/../x", "nobody: such a request is refused as path_dot_segment\n"),
    ];
    for (request, want) in cases {
        assert_eq!(desk.text(&["who", "--policy", "policy.yaml", request]), want);
    }
    assert_eq!(desk.run(&["who", "--policy", "policy.yaml", "/orders"], "").status.code(), Some(2));
}

#[test]
fn what_somebody_reaches_is_told_with_their_own_paths() {
    let desk = Desk::new(&[("policy.yaml", POLICY)]);
    let text = desk.text(&["what", "--policy", "policy.yaml", CHECKOUT]);
    assert_eq!(
        cells(&text),
        [
            vec![CHECKOUT],
            vec!["roles: checkout, tenant"],
            vec![],
            vec!["DECISION", "RULE", "METHODS", "HOST", "PATH", "REFUSED BY"],
            vec!["allow", "read-orders", "GET,HEAD", "any", "/orders/{id}"],
            vec!["allow", "own-tenant", "any", "any", "/tenants/pay/**"],
            vec!["deny", "no-debug", "any", "any", "/debug/**"],
        ]
    );
    let named = desk.json(&["what", "--policy", "policy.yaml", "{ dns: a.ops.acme.example }"]);
    assert_eq!(named["roles"], json!(["ops"]));
    assert_eq!(named["what"][0]["path"], "/orders/{id}");
    let nobody = desk.json(&["what", "--policy", "policy.yaml", "none"]);
    assert_eq!((&nobody["identity"], &nobody["what"][0]["rule"]), (&Value::Null, &json!("no-debug")));

    let key = rcgen::KeyPair::generate().expect("a key can be made");
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names = vec![rcgen::SanType::URI(CHECKOUT.try_into().expect("ASCII"))];
    let pem = params.self_signed(&key).expect("the certificate can be signed").pem();
    fs::write(desk.0.path().join("client.pem"), pem).expect("the file can be written");
    let owner = desk.json(&["what", "--policy", "policy.yaml", "--certificate", "client.pem"]);
    assert_eq!((&owner["identity"], &owner["what"][1]["path"]), (&json!(CHECKOUT), &json!("/tenants/pay/**")));

    for (somebody, want) in [
        ("spiffe://ACME/x", "SOMEBODY:1:1: spiffe: "),
        ("{ dns: [a.example], spifee: x }", "SOMEBODY:1:21: spifee: unknown field `spifee`"),
        ("somebody", "SOMEBODY:1:1: "),
    ] {
        let output = desk.run(&["what", "--policy", "policy.yaml", somebody], "");
        assert_eq!(output.status.code(), Some(1), "{somebody}");
        assert!(stderr(&output).starts_with(want) && stderr(&output).ends_with("^\n"), "{}", stderr(&output));
    }
    assert_eq!(desk.run(&["what", "--policy", "policy.yaml"], "").status.code(), Some(2));
}

#[test]
fn a_difference_between_two_policies_is_told_and_counted() {
    let new = POLICY
        .replace("methods: [GET, HEAD]", "methods: [GET]")
        .replace("allow: [tenant]", "allow: [tenant, ops]")
        .replace("\"/debug/**\"", "\"/debug/**\", \"/tenants/pay/secret\"");
    let desk = Desk::new(&[("old.yaml", POLICY), ("new.yaml", &new)]);
    let same = desk.text(&["diff", "old.yaml", "old.yaml", "--exit-code"]);
    assert!(same.ends_with(": 0 deny → allow, 0 allow → deny, 0 another rule, 0 another reason\n"), "{same}");

    let output = desk.run(&["diff", "old.yaml", "new.yaml", "--exit-code"], "");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let rows = cells(&text);
    assert_eq!(rows[0], ["CHANGE", "BEFORE", "AFTER", "METHOD", "HOST", "PATH", "IDENTITY"]);
    for row in [
        vec!["allow → deny", "read-orders", "no_rule_matched", "HEAD", "any", "/orders/id-a", CHECKOUT],
        vec!["allow → deny", "own-tenant", "no-debug", "GET", "any", "/tenants/pay/secret", CHECKOUT],
    ] {
        assert!(rows.contains(&row), "{row:?} in {text}");
    }
    let report = desk.json(&["diff", "old.yaml", "new.yaml", "--limit", "1"]);
    assert_eq!(report["differences"].as_array().map(Vec::len), Some(1));
    assert!(report["changes"]["allow_to_deny"].as_u64() > Some(1), "{report}");
    assert!(report["samples"].as_u64() > Some(10) && report["samples_cut"] == false, "{report}");
    // The peer can be taken over into the policy's tests.
    let all = desk.json(&["diff", "old.yaml", "new.yaml"]);
    let denied = all["differences"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["method"] == "HEAD" && one["path"] == "/orders/id-a");
    assert_eq!(denied.map(|one| &one["peer"]), Some(&json!({"spiffe": CHECKOUT})), "{all}");
}

fn record(changes: Value) -> String {
    let mut record = json!({
        "type": "decision", "time": "2026-11-22T10:00:00Z", "policy": "0", "decision": "allow", "status": 200,
        "reason": "rule_matched", "rule": "read-orders", "identity": CHECKOUT, "roles": ["checkout", "tenant"],
        "method": "GET", "authority": "orders.acme.example", "path": "/orders/42", "request_id": "7",
        "connection": 1, "certificate": "00".repeat(32),
        "peer": {"spiffe": CHECKOUT, "not_before": "2026-11-22T00:00:00Z", "not_after": "2026-11-23T00:00:00Z"},
    });
    for (field, value) in changes.as_object().expect("changes are fields") {
        record[field] = value.clone();
    }
    // The filter writes its type first, a map of this test does not.
    let rest = record.to_string().replacen(r#""type":"decision","#, "", 1).replacen(r#","type":"decision""#, "", 1);
    format!(
        "[2026-11-22 10:00:00.1][17][info][wasm] [source/wasm.cc:9] wasm log portcullis: {{\"type\":\"decision\",{}",
        &rest[1..]
    )
}

#[test]
fn records_of_the_filter_are_decided_again() {
    let desk = Desk::new(&[("policy.yaml", POLICY)]);
    let answer = |line: &str| -> Value {
        let output = desk.run(&["decide", "--policy", "policy.yaml"], line);
        assert_eq!(output.status.code(), Some(0), "{line}: {}", String::from_utf8_lossy(&output.stdout));
        serde_json::from_slice(&output.stdout).expect("an answer is JSON")
    };
    let same = answer(&record(json!({})));
    assert_eq!(
        same,
        json!({"id": "7", "decision": "allow", "status": 200, "reason": "rule_matched", "rule": "read-orders",
            "identity": CHECKOUT, "roles": ["checkout", "tenant"]})
    );
    let other = answer(&record(json!({"method": "POST"})));
    assert_eq!(other["reason"], "no_rule_matched");
    assert_eq!(other["recorded"]["rule"], "read-orders");
    let expired = answer(&record(json!({"time": "2026-11-24T00:00:00Z"})));
    assert_eq!(expired["reason"], "certificate_expired");
    let escaped = answer(&record(json!({"path": "/orders/\\x0a"})));
    assert_eq!(escaped["reason"], "path_invalid_character");
    let nobody = json!({"decision": "deny", "status": 401, "reason": "no_certificate", "rule": null,
        "identity": null, "roles": [], "peer": null, "certificate": null});
    assert_eq!(answer(&record(nobody))["reason"], "no_certificate");

    let skipped = [
        ("an old record", json!({"peer": null})),
        ("the gate itself failed", json!({"status": 503, "reason": "internal_error", "error": "host call"})),
        ("a long path", json!({"path": format!("/{}", "x".repeat(255))})),
        ("header fields", json!({"decision": "deny", "status": 400, "reason": "header_duplicated", "rule": null})),
    ];
    for (name, changes) in skipped {
        let answer = answer(&record(changes));
        assert!(answer["skipped"].is_string() && answer.get("decision").is_none(), "{name}: {answer}");
        assert!(answer["recorded"].is_object(), "{name}: {answer}");
    }

    // Both kinds of lines in one stream; a record that is none fails the run.
    let request = json!({"id": "a", "path": "/"}).to_string();
    let broken = record(json!({"path": "\\q"}));
    let output = desk.run(&["decide", "--policy", "policy.yaml"], &[request, broken, record(json!({}))].join("\n"));
    assert_eq!(output.status.code(), Some(1));
    let lines: Vec<Value> =
        String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!((&lines[0]["id"], &lines[1]["id"], &lines[2]["id"]), (&json!("a"), &json!("7"), &json!("7")));
    assert!(lines[1]["error"].is_string());
}

#[test]
fn recorded_requests_are_compared_as_well() {
    let new = POLICY.replace("methods: [GET, HEAD]", "methods: [HEAD]");
    let log = [record(json!({})), record(json!({"reason": "header_duplicated", "status": 400, "decision": "deny"}))];
    let desk = Desk::new(&[("old.yaml", POLICY), ("new.yaml", &new), ("envoy.log", &log.join("\n"))]);
    let report = desk.json(&["diff", "old.yaml", "new.yaml", "--requests", "envoy.log"]);
    assert_eq!((&report["requests"], &report["skipped"]), (&json!(1), &json!(1)), "{report}");
    let recorded: Vec<&Value> =
        report["differences"].as_array().unwrap().iter().filter(|one| one.get("id").is_some()).collect();
    assert_eq!(recorded.len(), 1, "{report}");
    assert_eq!((&recorded[0]["path"], &recorded[0]["change"]), (&json!("/orders/42"), &json!("allow_to_deny")));
}

#[test]
fn a_check_can_be_read_by_programs() {
    let policy = POLICY
        .replace("tests:", "  - { id: again, allow: [checkout], methods: [GET], paths: [\"/orders/{id}\"] }\ntests:");
    let checked = Desk::new(&[("policy.yaml", &policy)]).json(&["check", "policy.yaml"]);
    assert_eq!((&checked["rules"], &checked["tests"]), (&json!(4), &json!(1)));
    let remark = &checked["remarks"][0];
    assert_eq!(
        (&remark["code"], &remark["path"], &remark["line"]),
        (&json!("shadowed"), &json!("rules[3]"), &json!(12))
    );
}

#[test]
fn a_mark_stands_under_the_place_whatever_stands_before_it() {
    let wide = POLICY.replace("{ id: no-debug, deny: any,", "{ id: \"größe→日本\", deny: any, nope: 1,");
    let tabbed = POLICY.replace("{ id: no-debug, deny: any,", "{ id: no-debug,\t\tdeny: any,\tnope: 1,");
    for (name, policy) in [("wide characters", wide), ("tabs", tabbed)] {
        let desk = Desk::new(&[("policy.yaml", &policy)]);
        let commands: [&[&str]; 8] = [
            &["check", "policy.yaml"],
            &["test", "policy.yaml"],
            &["render", "policy.yaml"],
            &["decide", "--policy", "policy.yaml"],
            &["explain", "--policy", "policy.yaml"],
            &["diff", "policy.yaml", "policy.yaml"],
            &["who", "--policy", "policy.yaml", "GET /"],
            &["what", "--policy", "policy.yaml", "none"],
        ];
        for command in commands {
            let output = desk.run(command, "");
            assert_eq!(output.status.code(), Some(1), "{name}: {command:?}");
            let text = stderr(&output);
            assert!(text.starts_with("policy.yaml:11:"), "{name}: {command:?}: {text}");
            let (line, mark) =
                text.trim_end().rsplit_once('\n').map(|(before, mark)| (before.lines().last().unwrap(), mark)).unwrap();
            let place = line.chars().take(mark.chars().count() - 1).count();
            let rest: String = line.chars().skip(place).collect();
            assert!(rest.starts_with("nope: 1"), "{name}: {command:?}: `{rest}` in {text}");
        }
    }
}
