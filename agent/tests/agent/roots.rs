//! One root of the built-in CA follows another, whatever kills the agent on the way; what would lock somebody out is refused.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;

use portcullis::status::CaStatus;
use portcullis::status::Status;
use portcullis::succession;
use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::ring;
use rustls::pki_types::UnixTime;
use rustls::server::ParsedCertificate;

use crate::support::Agent;
use crate::support::Desk;
use crate::support::stderr;

const FILES: &str = "certificates:\n  \
    - { name: gateway, dns: [localhost], usage: [server, client], lifetime: 24h, files: { directory: tls, keep: 2 } }\n";

fn signs(ca: &CaStatus) -> Option<String> {
    ca.roots.iter().find(|root| root.signs).map(|root| root.sha256.clone())
}

fn step(status: &Status) -> Option<&str> {
    status.ca.succession.as_ref().map(|succession| succession.step.as_str())
}

fn is_settled(status: &Status) -> bool {
    status.ready && status.ca.roots.len() == 1 && status.ca.succession.is_none()
}

/// What readers of the files have leads to the roots that they have.
fn roots_in_files(desk: &Desk) -> usize {
    let read = |name: &str| fs::read_to_string(desk.path("tls").join(name)).expect(name);
    let roots = portcullis::leaf::chain(&read("ca.crt")).expect("roots");
    let (count, mut store) = (roots.len(), RootCertStore::empty());
    store.add_parsable_certificates(roots);
    let chain = portcullis::leaf::chain(&read("tls.crt")).expect("a chain");
    let leaf = ParsedCertificate::try_from(&chain[0]).expect("a certificate");
    let algorithms = ring::default_provider().signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&leaf, &store, &chain[1..], UnixTime::now(), algorithms)
        .expect("the files are of one root");
    count
}

fn refused(desk: &Desk, arguments: &[&str], why: &str) {
    let output = desk.run(arguments);
    assert!(!output.status.success() && stderr(&output).contains(why), "{arguments:?}: {}", stderr(&output));
}

fn done(desk: &Desk, arguments: &[&str]) -> String {
    let output = desk.run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn death_at_any_edge_is_resumed_and_ends_with_the_new_root_alone() {
    for failpoint in succession::failpoints() {
        let desk = Desk::new(FILES);
        let mut agent = desk.start_with(Some(&failpoint));
        let first = signs(&desk.until(&mut agent, "served", is_settled).ca);
        // It may die before it answers.
        desk.run(&["ca", "rotate", "--no-wait"]);
        let ended = agent.ended();
        assert_eq!(ended.signal(), Some(6), "{failpoint}: dies there: {ended}");
        roots_in_files(&desk);

        let mut agent = desk.start();
        let status = desk.until(&mut agent, &failpoint, |status| is_settled(status) && signs(&status.ca) != first);
        assert_eq!(roots_in_files(&desk), 1, "{failpoint}");
        assert!(agent.terminate().success(), "{failpoint}");
        let kept = |name: &str| desk.path(name).exists();
        assert!(!kept("state/ca/root.key") && !kept("state/ca/root.pem"), "{failpoint}: the old root is destroyed");
        assert!(kept("state/ca/2/root.key") && !kept("state/ca/3"), "{failpoint}");
        for (event, times) in [
            ("ca_created", 2),
            ("root_added", 1),
            ("root_switched", 1),
            ("root_unused", 1),
            ("root_removed", 1),
            // At first, with both roots, under the new one, with that alone.
            ("certificate_issued", 4),
            ("repaired", 0),
        ] {
            assert_eq!(desk.count(event), times, "{failpoint}: {event}: {:#?}", desk.audit());
        }
        done(&desk, &["audit", "verify"]);
        assert_eq!(done(&desk, &["ca", "show"]).matches("BEGIN").count(), 1, "{failpoint}");

        let mut agent = desk.start();
        let again = desk.until(&mut agent, &format!("{failpoint}: good"), is_settled);
        assert_eq!(signs(&again.ca), signs(&status.ca), "{failpoint}");
    }
}

fn issued(desk: &Desk, out: &str, lifetime: &str) -> usize {
    let out = desk.path(out).display().to_string();
    done(desk, &["issue", "--client", "--spiffe", "spiffe://acme.example/x", "--lifetime", lifetime, "--out", &out]);
    fs::read_to_string(format!("{out}/ca.crt")).expect("the roots").matches("BEGIN").count()
}

/// A root that follows, and waits for those who may not know it.
fn waiting(desk: &Desk) -> (Agent, String, String) {
    let mut agent = desk.start();
    let first = signs(&desk.until(&mut agent, "served", is_settled).ca).expect("a root");
    assert_eq!(issued(desk, "before", "1h"), 1);
    done(desk, &["ca", "rotate", "--no-wait"]);
    let status = desk.until(&mut agent, "two roots", |status| {
        let until = status.ca.succession.as_ref().and_then(|succession| succession.until);
        step(status) == Some("spread") && until.is_some()
    });
    let second = status.ca.roots.iter().find(|root| !root.signs).expect("another").sha256.clone();
    assert_eq!(roots_in_files(desk), 2);
    (agent, first, second)
}

#[test]
fn an_unsafe_order_is_refused_with_its_reason() {
    let desk = Desk::new(FILES);
    let (mut agent, first, _) = waiting(&desk);
    refused(&desk, &["ca", "rotate"], "another root is on its way already (step `spread`)");
    refused(&desk, &["ca", "remove", &first], "leaves are signed by it");
    refused(&desk, &["ca", "remove", "zz"], "there is no root `zz`");
    refused(&desk, &["ca", "rotate", "--timeout", "0s"], "another root is on its way already");
    let shown = done(&desk, &["ca"]);
    assert!(shown.contains("step `spread`, waits for the end of what others were issued before"), "{shown}");
    let table = done(&desk, &["status"]);
    assert!(table.contains("ca ") && table.contains("another root follows, step `spread`"), "{table}");
    assert_eq!(issued(&desk, "both", "1h"), 2, "who comes now is told of both");

    done(&desk, &["ca", "switch"]);
    let others = |status: &Status| {
        let waits = status.ca.succession.as_ref().and_then(|succession| succession.waits_for.clone());
        step(status) == Some("wait") && waits.is_some_and(|waits| waits.contains("under the old root"))
    };
    desk.until(&mut agent, "signed by the new one", others);
    refused(&desk, &["ca", "remove", &first], "certificates that others were issued lead to it until");
    refused(&desk, &["ca", "switch"], "no other root is on its way");
    assert_eq!(roots_in_files(&desk), 2);
    let json: CaStatus = serde_json::from_str(&done(&desk, &["ca", "-o", "json"])).expect("a status");
    assert_ne!(signs(&json), Some(first));
}

#[test]
fn a_reader_of_files_who_cannot_be_told_holds_up_the_new_root() {
    let desk = Desk::new("certificates: []\n");
    let good = desk.path("good").display().to_string();
    let hook = format!("hooks: [{{ run: [cat, \"{good}\"] }}]");
    desk.configure(&FILES.replace("keep: 2 } }", &format!("keep: 2 }}, {hook} }}")));
    desk.write("good", "");
    let mut agent = desk.start();
    let first = signs(&desk.until(&mut agent, "served", is_settled).ca);
    fs::remove_file(desk.path("good")).expect("removed");
    done(&desk, &["ca", "rotate", "--no-wait"]);
    let status = desk.until(&mut agent, "the hook fails, and that is waited for", |status| {
        let waits = status.ca.succession.as_ref().and_then(|succession| succession.waits_for.clone());
        status.certificates[0].failures > 1
            && step(status) == Some("spread")
            && waits.is_some_and(|waits| waits == "the files of `gateway` do not have it yet")
    });
    assert!(!status.ready && signs(&status.ca) == first, "{status:#?}");
    // They are in their place; nobody knows whether they were read.
    assert_eq!((roots_in_files(&desk), desk.count("root_added")), (2, 0));
    // An operator vouches for others, and not for what is known to be behind.
    done(&desk, &["ca", "switch"]);
    assert_eq!(signs(&desk.status().expect("a status").ca), first);
    desk.write("good", "");
    let status =
        desk.until(&mut agent, "the new root alone", |status| is_settled(status) && signs(&status.ca) != first);
    assert_eq!((roots_in_files(&desk), status.certificates[0].failures), (1, 0));
}

#[test]
fn a_root_that_signs_nothing_yet_can_be_taken_back() {
    let desk = Desk::new(FILES);
    let (mut agent, first, second) = waiting(&desk);
    done(&desk, &["ca", "remove", &second[..16]]);
    let status = desk.until(&mut agent, "as before", is_settled);
    assert_eq!(signs(&status.ca), Some(first));
    assert_eq!(roots_in_files(&desk), 1);
    assert!(!desk.path("state/ca/2").exists());
}

#[test]
fn a_lost_store_removes_no_root_that_somebody_may_need() {
    let desk = Desk::new(FILES);
    let (mut agent, first, _) = waiting(&desk);
    assert!(agent.terminate().success());
    desk.write("state/store.redb", &"unreadable ".repeat(10_000));
    let mut agent = desk.start();
    let status = desk.until(&mut agent, "two roots", |status| {
        let until = status.ca.succession.as_ref().and_then(|succession| succession.until);
        status.ready && step(status) == Some("spread") && until.is_some()
    });
    assert_eq!((status.ca.roots.len(), signs(&status.ca)), (2, Some(first)));
    let until = status.ca.succession.and_then(|succession| succession.until).expect("an end");
    assert!(until.as_second() > jiff::Timestamp::now().as_second() + 397 * 86_400, "nobody knows better: {until}");
}

#[test]
fn one_command_waits_for_the_end_and_says_how_far_it_is() {
    let desk = Desk::new(FILES);
    let mut agent = desk.start();
    let first = signs(&desk.until(&mut agent, "served", is_settled).ca);
    let output = desk.run(&["ca", "rotate", "--timeout", "60s"]);
    let said = stderr(&output);
    assert!(output.status.success() && output.stdout.is_empty() && said.contains("spread"), "{said}");
    let status = desk.status().expect("a status");
    assert!(status.ca.roots.len() == 1 && signs(&status.ca) != first, "{status:?}");

    assert_eq!(issued(&desk, "before", "1h"), 1);
    let output = desk.run(&["ca", "rotate", "--timeout", "1s"]);
    assert!(!output.status.success() && stderr(&output).contains("it goes on: `portcullis ca`"), "{}", stderr(&output));
}

#[test]
fn a_root_that_is_taken_back_meanwhile_is_no_success() {
    let desk = Desk::new(FILES);
    let (mut agent, _, second) = waiting(&desk);
    done(&desk, &["ca", "remove", &second]);
    desk.until(&mut agent, "as before", is_settled);
    // Who is still waiting for it is told: what was issued before keeps it at the same step.
    let mut rotate = desk.command(&["ca", "rotate"]).stderr(std::process::Stdio::piped()).spawn().expect("started");
    let status = desk.until(&mut agent, "another one", |status| {
        step(status) == Some("spread") && status.ca.succession.as_ref().is_some_and(|one| one.until.is_some())
    });
    // It has to have seen that somebody is on the way.
    let mut said = String::new();
    let mut stderr = rotate.stderr.take().expect("a pipe");
    while !said.contains("spread: waits for the end") {
        let mut some = [0; 512];
        let read = std::io::Read::read(&mut stderr, &mut some).expect("read");
        assert!(read > 0, "{said}");
        said.push_str(&String::from_utf8_lossy(&some[..read]));
    }
    let third = status.ca.roots.iter().find(|root| !root.signs).expect("another").sha256.clone();
    done(&desk, &["ca", "remove", &third]);
    assert_eq!(rotate.wait().expect("our child").code(), Some(1));
    std::io::Read::read_to_string(&mut stderr, &mut said).expect("read");
    assert!(said.contains("was taken back"), "{said}");
}

#[test]
fn who_was_dropped_while_the_agent_was_away_is_waited_for() {
    let both = FILES.to_owned() + "  - { name: gone, dns: [localhost], lifetime: 1h, files: { directory: gone } }\n";
    let desk = Desk::new(&both);
    let mut agent = desk.start();
    let first = signs(&desk.until(&mut agent, "served", is_settled).ca).expect("a root");
    assert!(agent.terminate().success());
    desk.configure(FILES);
    let mut agent = desk.start();
    let status = desk.until(&mut agent, "served", is_settled);
    assert!(status.ca.roots[0].others_until.is_some(), "it goes on somewhere: {:?}", status.ca);
    done(&desk, &["ca", "rotate", "--no-wait"]);
    desk.until(&mut agent, "added", |status| step(status) == Some("spread"));
    done(&desk, &["ca", "switch"]);
    desk.until(&mut agent, "waits for its end", |status| {
        let waits = status.ca.succession.as_ref().and_then(|succession| succession.waits_for.clone());
        step(status) == Some("wait") && waits.is_some_and(|waits| waits.contains("under the old root"))
    });
    refused(&desk, &["ca", "remove", &first], "certificates that others were issued lead to it until");
}

#[test]
fn who_is_dropped_by_a_reload_is_waited_for() {
    let both = FILES.to_owned() + "  - { name: gone, dns: [localhost], lifetime: 1h, files: { directory: gone } }\n";
    let desk = Desk::new(&both);
    let mut agent = desk.start();
    desk.until(&mut agent, "served", is_settled);
    desk.configure(FILES);
    agent.signal(rustix::process::Signal::HUP);
    desk.until(&mut agent, "one is left", |status| {
        status.certificates.len() == 1 && status.ca.roots[0].others_until.is_some()
    });
}

#[test]
fn the_schedule_has_another_root_follow() {
    let desk = Desk::new("");
    let text = fs::read_to_string(desk.path("portcullis.yaml")).expect("a configuration");
    let ca = "ca: { trust_domain: acme.example, root_lifetime: 60s, rotate_root_after: 0.2 }";
    let text = text.replace("ca: { trust_domain: acme.example }", ca) + &FILES.replace("24h", "60s");
    desk.write("portcullis.yaml", &text);
    let _agent = desk.start();
    desk.until_audit("a root is removed on the schedule's word", |line| {
        line["event"] == "root_removed" && line["by"] == "schedule"
    });
}

#[test]
fn a_policy_that_names_the_old_root_alone_holds_up_the_new_one() {
    let desk = Desk::new(FILES);
    let mut agent = desk.start();
    let first = signs(&desk.until(&mut agent, "served", is_settled).ca);
    assert!(agent.terminate().success());
    let indented = |pem: &str| pem.lines().map(|line| format!("      {line}\n")).collect::<String>();
    let policy = |roots: &[String]| {
        let anchors: String = roots.iter().map(|pem| format!("  - pem: |\n{}", indented(pem))).collect();
        desk.write("policy.new", &format!("version: 1\ntrust_domain: acme.example\nrules: []\nanchors:\n{anchors}"));
        fs::rename(desk.path("policy.new"), desk.path("policy.yaml")).expect("in its place");
    };
    let old = done(&desk, &["ca", "show"]);
    policy(std::slice::from_ref(&old));
    desk.write("portcullis.wasm", "\0asm\u{1}\0\0\0");
    desk.configure(&format!("policy: policy.yaml\nfilter: {{ name: portcullis, wasm: portcullis.wasm }}\n{FILES}"));
    let mut agent = desk.start();
    let in_force = |status: &Status| status.policy.version.is_some() && status.ca.roots.len() == 1;
    desk.until(&mut agent, "the policy", in_force);
    done(&desk, &["ca", "rotate", "--no-wait"]);
    desk.until(&mut agent, "waits for the policy", |status| {
        let waits = status.ca.succession.as_ref().and_then(|succession| succession.waits_for.clone());
        step(status) == Some("spread") && waits.is_some_and(|waits| waits == NAMES_THE_OLD)
    });
    let both = done(&desk, &["ca", "show"]);
    policy(&[old.clone(), both.replace(&old, "")]);
    desk.until(&mut agent, "the new root alone", |status| {
        status.ca.succession.is_none() && status.ca.roots.len() == 1 && signs(&status.ca) != first
    });
}

const NAMES_THE_OLD: &str = "the policy names the old root (`anchors`, `issuer`) and not the new one: add it there, \
    `portcullis ca show` prints it";
