//! What is revoked, by operators and by lists of authorities, as the command line and the status tell it; what proxies make
//! of it is told with a real one.

use std::io::Write as _;
use std::process::Output;
use std::process::Stdio;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertificateRevocationListParams;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyIdMethod;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::RevokedCertParams;
use rcgen::SerialNumber;

use crate::support;
use crate::support::Desk;
use crate::support::stderr;

const LISTS: &str = "certificates: []\nrevocation:\n  lists: [{ name: corp, ca: corp-ca.pem, file: corp.crl }]\n";

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// An authority that is not the agent's.
struct Corp(Issuer<'static, KeyPair>);

impl Corp {
    /// Its certificate is put on the desk.
    fn at(desk: &Desk) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        desk.write("corp-ca.pem", &params.self_signed(&key).expect("signed").pem());
        Self(Issuer::new(params, key))
    }

    /// A list of so many certificates, made now.
    fn list(&self, number: u64, count: u64) -> String {
        let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(Timestamp::now().as_second().unsigned_abs());
        let revoked = |serial: u64| RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: now,
            next_update: now + Duration::from_secs(3600),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: (1..=count).map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).expect("signed").pem().expect("text")
    }
}

#[test]
fn a_list_is_followed_and_a_bad_one_changes_nothing() {
    let desk = Desk::new(LISTS);
    let corp = Corp::at(&desk);
    let mut agent = desk.start();
    // Without any list it is not known who is revoked.
    let status = desk.until(&mut agent, "stale", |status| status.reasons.iter().any(|why| why.contains("`corp`")));
    assert!(!status.ready && status.reasons[0].contains("none was ever taken"), "{:?}", status.reasons);

    desk.write("corp.crl", &corp.list(1, 2));
    desk.until(&mut agent, "taken", |status| status.ready && status.revocations.keys == 2);
    for (name, text, word) in [
        ("garbage", "<html>404</html>".to_owned(), "not a certificate revocation list"),
        ("older", corp.list(0, 5), "older than the one in force"),
        ("emptied", corp.list(2, 0), "may_be_empty"),
    ] {
        desk.write("corp.crl", &text);
        let status = desk.until(&mut agent, name, |status| {
            status.revocations.lists[0].last_error.as_ref().is_some_and(|error| error.contains(word))
        });
        assert_eq!(status.revocations.keys, 2, "{name}");
    }
    desk.until_audit("told", |line| {
        line["event"] == "alarm" && line["cause"].as_str().is_some_and(|cause| cause.contains("may_be_empty"))
    });
    assert!(agent.terminate().success());

    let mut agent = desk.start();
    let status = desk.until(&mut agent, "started with a bad file", |status| status.revocations.keys == 2);
    assert!(status.revocations.lists[0].last_error.is_some());
    desk.write("corp.crl", &corp.list(3, 3));
    desk.until(&mut agent, "the next", |status| {
        status.revocations.keys == 3 && status.revocations.lists[0].last_error.is_none()
    });
    desk.until_audit("taken", |line| {
        line["event"] == "list_taken" && line["cause"].as_str().is_some_and(|cause| cause.contains("3 entries"))
    });
    assert_eq!(desk.count("list_taken"), 2);
}

#[test]
fn the_command_line_revokes_and_takes_back() {
    let desk = Desk::new("certificates: []\n");
    let mut agent = desk.start();
    desk.until(&mut agent, "started", |_| true);
    let spiffe = "spiffe://acme.example/laptop";
    stdout(&desk.run(&["issue", "--client", "--spiffe", spiffe, "--out", "laptop"]));
    let chain = desk.path("laptop/fullchain.pem").display().to_string();
    let told = stdout(&desk.run(&["revoke", "--certificate", &chain, "--reason", "lost", "--dry-run"]));
    assert!(told.contains("1 would be revoked; nothing was changed") && told.contains(spiffe), "{told}");
    assert_eq!(stdout(&desk.run(&["revocations"])), "nothing is revoked\n");

    let told = stdout(&desk.run(&["revoke", "--certificate", &chain, "--identity", spiffe, "--reason", "lost"]));
    assert!(told.starts_with("2 revoked; no filter is configured") && told.contains(spiffe), "{told}");
    let serial = support::serial(&desk.path("laptop/fullchain.pem")).expect("a certificate");
    stdout(&desk.run(&["revoke", "--serial", &serial, "--reason", "lost"]));
    stdout(&desk.run(&["distrust", "--issued-before", "now", "--reason", "the key lay open"]));
    let listed = stdout(&desk.run(&["revocations"]));
    for part in
        ["identity spiffe://acme.example/laptop", "serial ", "certificate ", "issued before ", "the key lay open"]
    {
        assert!(listed.contains(part), "{part} in {listed}");
    }
    let told = stdout(&desk.run(&["unrevoke", "--identity", spiffe, "--identity", "dns:b", "--reason", "found"]));
    assert!(told.starts_with("1 believed again, 1 not revoked"), "{told}");
    let status = desk.until(&mut agent, "taken back", |status| status.revocations.keys == 2);
    assert_eq!(status.revocations.brakes, 1);
    desk.until_audit("told", |line| line["event"] == "unrevoked" && line["cause"] == "found");
    assert_eq!(desk.count("revoked"), 3);
}

#[test]
fn a_policy_is_asked_with_what_is_revoked() {
    let desk = Desk::new("certificates: []\n");
    let mut agent = desk.start();
    desk.until(&mut agent, "started", |_| true);
    let policy = r#"{"version": 1, "rules": [{"id": "all", "allow": "any", "paths": ["/**"]}]}"#;
    desk.write("policy.json", policy);
    let mut requests = String::new();
    for name in ["lost", "kept"] {
        let spiffe = format!("spiffe://acme.example/{name}");
        stdout(&desk.run(&["issue", "--client", "--spiffe", &spiffe, "--out", name]));
        let pem = std::fs::read_to_string(desk.path(&format!("{name}/fullchain.pem"))).expect("a certificate");
        let peer = serde_json::json!({ "certificate": pem, "validated": true });
        let now = Timestamp::now().to_string();
        let request = serde_json::json!({ "id": name, "now": now, "peer": peer, "method": "GET", "path": "/" });
        requests.push_str(&format!("{request}\n"));
    }
    desk.write("requests", &requests);
    let ask = |command: &str, file: &str| {
        desk.run(&["policy", command, "--policy", "policy.json", "--revocations", file, "requests"])
    };
    desk.write("nobody.json", &stdout(&desk.run(&["revocations", "-o", "json"])));
    let answers = stdout(&ask("decide", "nobody.json"));
    assert_eq!(answers.matches("\"allow\"").count(), 2, "{answers}");

    let serial = support::serial(&desk.path("lost/fullchain.pem")).expect("a certificate");
    stdout(&desk.run(&["revoke", "--serial", &serial, "--reason", "lost"]));
    desk.write("one.json", &stdout(&desk.run(&["revocations", "-o", "json"])));
    for command in ["decide", "explain"] {
        let answers = stdout(&ask(command, "one.json"));
        let [lost, kept] = answers.lines().collect::<Vec<_>>()[..] else { panic!("{answers}") };
        assert!(lost.contains("certificate_revoked") && kept.contains("\"allow\""), "{command}: {answers}");
    }

    for (name, text, word) in [
        ("no JSON", "revoked", "portcullis revocations -o json"),
        ("another answer", "{}", "no `set`"),
        ("no set", r#"{"set": {"keys": "!"}}"#, "revocations"),
    ] {
        desk.write("bad.json", text);
        let output = ask("decide", "bad.json");
        let complaint = stderr(&output);
        assert!(!output.status.success() && complaint.contains("bad.json"), "{name}: {complaint}");
        assert!(complaint.contains(word), "{name}: {complaint}");
    }
    let twice = r#"{"version": 1, "rules": [], "revocations": {"keys": "AAAAAAAAAAAAAAAAAAAAAA=="}}"#;
    desk.write("policy.json", twice);
    assert!(stderr(&ask("decide", "one.json")).contains("leave out one"));
}

#[test]
fn a_command_line_that_names_nothing_says_what_is_wrong() {
    let desk = Desk::new("certificates: []\n");
    let mut agent = desk.start();
    desk.until(&mut agent, "started", |_| true);
    for (name, arguments, input, code, word) in [
        ("no reason", &["revoke", "--identity", "dns:a"][..], "", 2, "--reason"),
        ("nothing", &["revoke", "--reason", "x"], "", 1, "--identity"),
        ("nobody", &["revoke", "--identity", "laptop", "--reason", "x"], "", 1, "spiffe://"),
        ("no hash", &["revoke", "--sha256", "ab", "--reason", "x"], "", 1, "64 hexadecimal"),
        ("no file", &["revoke", "--certificate", "none.pem", "--reason", "x"], "", 1, "none.pem"),
        ("a line", &["revoke", "--from", "-", "--reason", "x"], "# all\nidentity dns:a\nhash ab\n", 1, "line 3"),
        (
            "the future",
            &["distrust", "--issued-before", "2999-01-01T00:00:00Z", "--reason", "x"],
            "",
            1,
            "has not come",
        ),
    ] {
        let mut command = desk.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("started");
        // Whoever does not read it may have ended already.
        let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
        let output = child.wait_with_output().expect("ended");
        assert_eq!(output.status.code(), Some(code), "{name}: {}", stderr(&output));
        assert!(stderr(&output).contains(word), "{name}: {}", stderr(&output));
    }
    assert_eq!(stdout(&desk.run(&["revocations"])), "nothing is revoked\n");
}
