//! The alerts that are shipped: Prometheus' own tool takes them, they fire when they should, and they ask for nothing that an
//! agent does not export.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use portcullis::metrics::Metrics;
use portcullis::metrics::RotationResult;
use portcullis::resource::Outcome;
use portcullis::status::Status;
use serde_json::json;

use crate::support::Desk;

const FOLDER: &str = "../examples/prometheus";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn promtool(arguments: &[&str]) {
    let ours = repository().join(".tools/promtool");
    let program = env::var_os("PROMTOOL").map_or(ours, PathBuf::from);
    assert!(
        program.is_file(),
        "promtool is missing: no file `{}`; run `./just install`, or set `PROMTOOL` to where it is",
        program.display()
    );
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER);
    let output = Command::new(program).args(arguments).current_dir(folder).output().expect("it runs");
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
}

#[test]
fn prometheus_takes_the_alerts() {
    promtool(&["check", "rules", "portcullis.rules.yaml"]);
    promtool(&["check", "config", "--syntax-only", "scrape.yaml"]);
}

#[test]
fn the_alerts_fire_when_they_should_and_not_before() {
    promtool(&["test", "rules", "portcullis.test.yaml", "portcullis.days.test.yaml"]);
}

/// Every name in a text that begins as our metrics do.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    words.filter(|word| word.starts_with("portcullis_")).map(str::to_owned).collect()
}

/// The names in an exposition. Families without a series are not in it.
fn exported(exposition: &str) -> BTreeSet<String> {
    let samples = exposition.lines().filter(|line| line.starts_with("portcullis_"));
    samples.filter_map(|line| line.split(['{', ' ']).next().map(str::to_owned)).collect()
}

/// What a running agent exports.
fn scrape(address: &str) -> BTreeSet<String> {
    let mut stream = TcpStream::connect(address).expect("the agent listens");
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    exported(&answer)
}

/// What an agent exports of which there is one of everything, and to which everything has happened once.
fn of_everything() -> BTreeSet<String> {
    let leaf = json!({ "serial": "1", "sha256": "ab", "not_before": "2026-01-01T00:00:00Z", "not_after": "2026-02-01T00:00:00Z" });
    let status: Status = serde_json::from_value(json!({
        "ready": true, "reasons": [],
        "certificates": [{
            "name": "a", "identity": "a", "issuer": "i", "state": "served", "stored": leaf, "installed": "1",
            "chain": [["ef", "2027-01-01T00:00:00Z"]],
            "served": [{ "address": "a:1", "sni": null, "leaf": leaf, "current": true, "error": null, "checked_at": null }],
            "next_attempt": "2026-01-20T00:00:00Z", "renew_at": "2026-01-20T00:00:00Z", "last_error": null,
            "rotations": 1, "failures": 0, "issued_to_served_ms": 1,
        }],
        "bundles": [{ "name": "b", "entries": [["ab", "2026-02-01T00:00:00Z"]], "not_before": { "ab": "2026-01-01T00:00:00Z" },
            "version": "1", "acknowledged": true }],
        "policy": { "file": "p", "version": "1", "acknowledged": true, "error": null },
        "providers": [{ "name": "p", "source": "s", "keys": 1, "fetched_at": "2026-01-01T00:00:00Z", "next_attempt": null,
            "failures": 0, "last_error": null }],
        "revocations": { "version": null, "keys": 0, "brakes": 0, "lists": [{ "name": "l", "source": "s", "entries": 1,
            "this_update": null, "next_update": null, "last_error": null }] },
        "proxies": [],
        "credentials": [{
            "name": "c", "consumers": ["s"], "source": "password", "state": "served", "id": "1", "account": null,
            "since": "2026-01-01T00:00:00Z", "extended_at": "2026-01-02T00:00:00Z", "not_after": "2026-02-01T00:00:00Z",
            "rotate_at": "2026-01-20T00:00:00Z", "next_attempt": "2026-01-20T00:00:00Z", "waits_for": "rotation",
            "proven_at": "2026-01-01T00:00:00Z", "overlap_until": "2026-01-03T00:00:00Z", "published": [],
            "is_on_demand": false, "rotations": 1, "failures": 0, "last_error": null,
        }],
        "ca": {
            "roots": [{ "sha256": "ab", "not_before": "2026-01-01T00:00:00Z", "not_after": "2036-01-01T00:00:00Z",
                "signs": true, "others_until": "2026-02-01T00:00:00Z" }],
            "succession": { "step": "spread", "by": "operator", "begun": "2026-01-01T00:00:00Z", "waits_for": "a proxy",
                "until": null },
            "next": "2034-01-01T00:00:00Z",
            "intermediate": { "serial": "1", "sha256": "cd", "not_before": "2026-01-01T00:00:00Z",
                "not_after": "2026-04-01T00:00:00Z", "next": null, "waits_for": null },
            "wanted": "a signature",
        },
    }))
    .expect("a status");
    let metrics = Metrics::new();
    metrics.update(&status);
    metrics.rotation("a", "retire", RotationResult::Success);
    metrics.credential("c", "prove", true);
    let (node, name, version, detail) = ("n".to_owned(), "a".to_owned(), "1".to_owned(), "no".to_owned());
    metrics.outcome(&Outcome::Refused { node, name, version, detail });
    exported(&metrics.encode())
}

#[test]
fn the_alerts_ask_for_what_an_agent_exports() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").to_string();
    let desk = Desk::new("");
    desk.write(
        "portcullis.yaml",
        &format!(
            "version: 1\nstate_dir: state\nlisten: {{ xds: run/xds.sock, control: run/control.sock, metrics: \"{free}\" }}\n\
             ca: {{ trust_domain: acme.example }}\n\
             certificates: [{{ name: gateway, dns: [localhost], files: {{ directory: tls }} }}]\n\
             bundles: [{{ name: clients, ca: built-in }}]\n"
        ),
    );
    let mut agent = desk.start();
    desk.until(&mut agent, "issued", |status| status.certificates[0].stored.is_some());
    let (running, everything) = (scrape(&free), of_everything());
    let others: Vec<&String> =
        running.iter().filter(|name| !name.ends_with("_info") && !everything.contains(*name)).collect();
    assert_eq!(others, Vec::<&String>::new(), "a running agent exports what the test knows");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER);
    for file in ["portcullis.rules.yaml", "portcullis.test.yaml", "portcullis.days.test.yaml"] {
        let asked = names(&fs::read_to_string(folder.join(file)).expect("it is there"));
        // Those are there as soon as there is a certificate.
        let own: Vec<&String> = asked
            .iter()
            .filter(|name| name.starts_with("portcullis_certificate_") && !name.contains("served"))
            .collect();
        assert!(own.iter().all(|name| running.contains(*name)), "{own:?} in {running:#?}");
        assert!(asked.len() > 4, "{asked:?}");
        let missing: Vec<&String> = asked.difference(&everything).collect();
        assert_eq!(missing, Vec::<&String>::new(), "{file} asks for what is not exported: {everything:#?}");
    }
}
