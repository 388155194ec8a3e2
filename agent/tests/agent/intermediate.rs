//! Intermediates follow each other by themselves, or by the hand of whoever has the root's key; whatever kills the agent on the way.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;

use portcullis::status::IntermediateStatus;
use portcullis::status::Status;
use portcullis::succession;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertificateSigningRequestParams;
use rcgen::DistinguishedName;
use rcgen::DnType;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyIdMethod;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::ring;
use rustls::pki_types::UnixTime;
use rustls::server::ParsedCertificate;

use crate::support::Desk;
use crate::support::poll;
use crate::support::proxy::Proxy;
use crate::support::stderr;

const FILES: &str = "certificates:\n  - { name: gateway, dns: [localhost], usage: [server, client], lifetime: 1h, files: { directory: tls } }\n";

/// A configuration whose `ca` says more.
fn desk(ca: &str, rest: &str) -> Desk {
    let desk = Desk::new("");
    say(&desk, ca, rest);
    desk
}

fn say(desk: &Desk, ca: &str, rest: &str) {
    desk.configure(rest);
    let text = fs::read_to_string(desk.path("portcullis.yaml")).expect("a configuration");
    let ca = format!("ca: {{ trust_domain: acme.example, {ca} }}");
    desk.write("portcullis.yaml", &text.replace("ca: { trust_domain: acme.example }", &ca));
}

fn is_settled(status: &Status) -> bool {
    let ca = &status.ca;
    status.ready && ca.roots.len() == 1 && ca.intermediate.as_ref().is_some_and(|one| one.waits_for.is_none())
}

fn signs(status: &Status) -> IntermediateStatus {
    status.ca.intermediate.clone().expect("an intermediate")
}

fn done(desk: &Desk, arguments: &[&str]) -> String {
    let output = desk.run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn refused(desk: &Desk, arguments: &[&str], why: &str) {
    let output = desk.run(arguments);
    assert!(!output.status.success() && stderr(&output).contains(why), "{arguments:?}: {}", stderr(&output));
}

/// What readers of the files have leads from the leaf over one intermediate to the one root that they have. Serial of the
/// intermediate.
fn chain_in_files(desk: &Desk) -> String {
    let read = |name: &str| fs::read_to_string(desk.path("tls").join(name)).expect(name);
    let roots = portcullis::leaf::chain(&read("ca.crt")).expect("roots");
    assert_eq!(roots.len(), 1, "the root alone");
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots);
    let chain = portcullis::leaf::chain(&read("tls.crt")).expect("a chain");
    assert_eq!(chain.len(), 2, "the leaf and the intermediate");
    let leaf = ParsedCertificate::try_from(&chain[0]).expect("a certificate");
    let algorithms = ring::default_provider().signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&leaf, &store, &chain[1..], UnixTime::now(), algorithms)
        .expect("a peer with the root believes it");
    let ends = |at: usize| portcullis::leaf::Leaf::from_der(&chain[at]).expect("a certificate");
    assert!(ends(0).validity.not_after <= ends(1).validity.not_after, "no leaf outlives its intermediate");
    ends(1).serial
}

#[test]
fn death_anywhere_is_resumed_and_ends_with_one_new_intermediate() {
    for failpoint in succession::INTERMEDIATE_FAILPOINTS {
        let desk = desk("intermediate: { lifetime: 30d }", FILES);
        let mut agent = desk.start();
        let first = signs(&desk.until(&mut agent, "served", is_settled));
        assert_eq!(chain_in_files(&desk), first.serial);
        assert!(agent.terminate().success(), "{failpoint}");

        let mut agent = desk.start_with(Some(failpoint));
        desk.until(&mut agent, "served again", is_settled);
        // It may die before it answers.
        desk.run(&["ca", "rotate", "--intermediate"]);
        let ended = agent.ended();
        assert_eq!(ended.signal(), Some(6), "{failpoint}: dies there: {ended}");

        let mut agent = desk.start();
        let status = desk.until(&mut agent, failpoint, is_settled);
        // Nothing was written down before these: who asked is told that the agent is gone, and asks again.
        if ["intermediate-make", "intermediate-key"].contains(&failpoint) {
            assert_eq!(signs(&status).serial, first.serial, "{failpoint}");
            done(&desk, &["ca", "rotate", "--intermediate"]);
        }
        let second = signs(
            &desk.until(&mut agent, failpoint, |status| is_settled(status) && signs(status).serial != first.serial),
        );
        done(&desk, &["renew", "gateway"]);
        assert_eq!(chain_in_files(&desk), second.serial, "{failpoint}");
        assert!(agent.terminate().success(), "{failpoint}");
        for (event, times) in [("ca_created", 1), ("intermediate_made", 2), ("intermediate_switched", 1)] {
            assert_eq!(desk.count(event), times, "{failpoint}: {event}: {:#?}", desk.audit());
        }
        let kept = |name: &str| desk.path("state/ca/intermediates").join(name).exists();
        assert!(kept("1.key") && kept("2.key") && !kept("3.key"), "{failpoint}: one key each, until it has ended");
        done(&desk, &["audit", "verify"]);
    }
}

#[test]
fn another_one_does_not_sign_while_proxies_are_on_their_way_back() {
    let desk = desk("intermediate: { lifetime: 30d }", &format!("{FILES}bundles: [{{ name: peers }}]\n"));
    let connect = || {
        let mut proxy = Proxy::asking(&desk, "peers");
        proxy.next();
        proxy.answer(None);
        proxy
    };
    let mut agent = desk.start();
    desk.until(&mut agent, "listening", |_| true);
    let proxy = connect();
    let first = signs(&desk.until(&mut agent, "served", is_settled));
    assert!(agent.terminate().success());
    drop(proxy);

    let mut agent = desk.start();
    desk.until(&mut agent, "listening", |_| true);
    done(&desk, &["ca", "rotate", "--intermediate"]);
    let waits = |one: &IntermediateStatus| one.waits_for.as_deref() == Some("one bundle to be taken by every proxy");
    let status =
        desk.until(&mut agent, "the proxy is waited for", |status| status.ca.intermediate.as_ref().is_some_and(waits));
    assert_eq!(signs(&status).serial, first.serial);
    let _proxy = connect();
    let second =
        signs(&desk.until(&mut agent, "the proxy is back", |status| {
            is_settled(status) && signs(status).serial != first.serial
        }));
    done(&desk, &["renew", "gateway"]);
    assert_eq!(chain_in_files(&desk), second.serial);
}

#[test]
fn one_follows_another_by_itself_and_the_old_key_is_destroyed() {
    let short = FILES.replace("1h", "60s");
    let desk = desk("intermediate: { lifetime: 80s, rotate_after: 0.2 }", &short);
    let mut agent = desk.start();
    let first = signs(&desk.until(&mut agent, "served", is_settled));
    desk.until(&mut agent, "another one", |status| is_settled(status) && signs(status).serial != first.serial);
    poll(
        || (desk.count("intermediate_switched") >= 3).then_some(()),
        || format!("again and again, by itself: {:#?}", desk.audit()),
    );
    assert!(desk.path("state/ca/intermediates/1.key").exists(), "what is under it is not over yet");
    desk.until_audit("the end of the first", |line| {
        line["event"] == "intermediate_removed" && line["old"] == first.serial
    });
    assert!(!desk.path("state/ca/intermediates/1.key").exists());
    assert_ne!(chain_in_files(&desk), first.serial);
}

#[test]
fn a_root_without_room_below_it_signs_itself_until_another_follows() {
    let desk = Desk::new(FILES);
    let mut agent = desk.start();
    desk.until(&mut agent, "served", |status| status.ready);
    assert!(agent.terminate().success());
    say(&desk, "intermediate: {}", FILES);
    let mut agent = desk.start();
    desk.until(&mut agent, "served", |status| status.ready && status.ca.roots.len() == 1);
    refused(&desk, &["ca", "rotate", "--intermediate"], "the root allows no authority below it");
    done(&desk, &["ca", "rotate", "--timeout", "60s"]);
    desk.until(&mut agent, "an intermediate", is_settled);
    chain_in_files(&desk);
}

/// The offline machine.
fn elsewhere(desk: &Desk, more: &[&str]) -> String {
    let out = desk.path("vault").display().to_string();
    let mut arguments = vec!["ca", "make-root", "--trust-domain", "acme.example", "--out", &out];
    arguments.extend(more);
    done(desk, &arguments)
}

fn sign(desk: &Desk, request: &str, lifetime: &str) -> String {
    desk.write("request.pem", request);
    let keyed = ["--root-key", "vault/root.key", "--root-cert", "vault/root.pem"];
    let mut arguments = vec!["ca", "sign", "--lifetime", lifetime];
    arguments.extend(keyed);
    arguments.push("request.pem");
    done(desk, &arguments)
}

#[test]
fn an_offline_root_signs_what_the_agent_asks_for_and_its_key_is_never_here() {
    let desk = desk("root: offline, intermediate: { rotate_after: 0.2 }", FILES);
    refused(&desk, &["run"], "`portcullis ca request` here");
    elsewhere(&desk, &["--dns", "localhost"]);
    refused(&desk, &["ca", "make-root", "--trust-domain", "acme.example", "--out", "vault"], "is there already");
    let chain = sign(&desk, &done(&desk, &["ca", "request"]), "60s");
    desk.write("chain.pem", &chain);
    done(&desk, &["ca", "install", "chain.pem"]);

    let mut agent = desk.start();
    let first = signs(&desk.until(&mut agent, "served", |status| status.ready && status.ca.intermediate.is_some()));
    assert_eq!(chain_in_files(&desk), first.serial);
    assert!(!desk.path("state/ca/root.key").exists());
    refused(&desk, &["ca", "rotate"], "the root's key is kept elsewhere");
    // A leaf that would outlive it is cut short.
    let out = desk.path("short").display().to_string();
    done(&desk, &["issue", "--client", "--spiffe", "spiffe://acme.example/x", "--lifetime", "1h", "--out", &out]);

    let wanted = |status: &Status| status.ca.wanted.is_some();
    let status = desk.until(&mut agent, "asks for another one in time", wanted);
    let left = signs(&status).not_after.as_second() - jiff::Timestamp::now().as_second();
    assert!(left > 10, "ahead of its end: {left}");
    desk.until_audit("an alarm", |line| line["event"] == "alarm" && line["name"] == "ca");
    let shown = done(&desk, &["status"]);
    assert!(shown.contains("`portcullis ca request` here"), "{shown}");
    refused(&desk, &["ca", "install", "chain.pem"], "has to be signed for the newest request");

    // While it runs; the same request, however often it is asked for.
    let request = done(&desk, &["ca", "request"]);
    let chain = sign(&desk, &request, "24h");
    desk.write("chain.pem", &chain);
    done(&desk, &["ca", "install", "chain.pem"]);
    let second = signs(&desk.until(&mut agent, "the second one", |status| {
        is_settled(status) && signs(status).serial != first.serial && status.ca.wanted.is_none()
    }));
    desk.until_audit("it is over", |line| line["event"] == "alarm_cleared" && line["name"] == "ca");
    done(&desk, &["renew", "gateway"]);
    assert_eq!(chain_in_files(&desk), second.serial);
    let serial = second.serial.clone();
    assert!(agent.terminate().success());
    let mut agent = desk.start();
    let again = desk.until(&mut agent, "the same after a start", is_settled);
    assert_eq!(signs(&again).serial, serial);
}

#[test]
fn what_no_peer_would_believe_is_not_installed() {
    let desk = desk("root: offline", FILES);
    elsewhere(&desk, &[]);
    let request = done(&desk, &["ca", "request"]);
    let good = sign(&desk, &request, "24h");
    let parts: Vec<&str> = good.split_inclusive("-----END CERTIFICATE-----\n").collect();
    let request = CertificateSigningRequestParams::from_pem(&request).expect("a request");
    let root = portcullis::leaf::chain(parts[1]).expect("a root").remove(0);
    let key = fs::read_to_string(desk.path("vault/root.key")).expect("a key");
    let root = Issuer::from_ca_cert_der(&root, KeyPair::from_pem(&key).expect("a key")).expect("a root");
    let day = 86_400;
    // What somebody signs who does not use our command.
    let otherwise = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = CertificateParams::default();
        params.distinguished_name = request.params.distinguished_name.clone();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let now = std::time::SystemTime::now();
        params.not_before = now.into();
        params.not_after = (now + std::time::Duration::from_secs(day)).into();
        change(&mut params);
        params.signed_by(&request.public_key, &root).expect("signed").pem() + parts[1]
    };
    let other = {
        let out = desk.path("other").display().to_string();
        done(&desk, &["ca", "make-root", "--trust-domain", "acme.example", "--out", &out])
    };
    for (name, chain, why) in [
        ("empty", String::new(), "not a chain in PEM"),
        ("no root", parts[0].to_owned(), "not a chain in PEM"),
        ("another root", parts[0].to_owned() + &other, "a peer would not believe"),
        ("a leaf", otherwise(&|params| params.is_ca = IsCa::ExplicitNoCa), "path length of 0"),
        (
            "room below it",
            otherwise(&|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            "path length of 0",
        ),
        ("no lists", otherwise(&|params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign]), "revocation lists"),
        (
            "not begun",
            otherwise(&|params| params.not_before += std::time::Duration::from_secs(3_600)),
            "a peer would not believe",
        ),
        (
            "ended",
            otherwise(&|params| {
                params.not_before -= std::time::Duration::from_secs(7_200);
                params.not_after = params.not_before + std::time::Duration::from_secs(3_600);
            }),
            "a peer would not believe",
        ),
        ("outlives its root", otherwise(&|params| params.not_after = rcgen::date_time_ymd(2099, 1, 1)), "outlives"),
        (
            "named as its root",
            otherwise(&|params| {
                params.distinguished_name = DistinguishedName::new();
                params.distinguished_name.push(DnType::OrganizationName, "acme.example");
                params.distinguished_name.push(DnType::CommonName, "Portcullis root CA");
            }),
            "the name of its root",
        ),
    ] {
        desk.write("chain.pem", &chain);
        let output = desk.run(&["ca", "install", "chain.pem"]);
        assert!(!output.status.success() && stderr(&output).contains(why), "{name}: {}", stderr(&output));
        assert!(!desk.path("state/ca/root.pem").exists(), "{name}");
    }
    // What another program signed well is taken, and its lists name its key as that did.
    let foreign = otherwise(&|params| params.key_identifier_method = KeyIdMethod::PreSpecified(vec![7; 20]));
    desk.write("chain.pem", &foreign);
    done(&desk, &["ca", "install", "chain.pem"]);
    let mut agent = desk.start();
    desk.until(&mut agent, "served", |status| status.ready);
    chain_in_files(&desk);
}

#[test]
fn a_key_is_taken_offline_without_a_new_root() {
    let desk = desk("intermediate: { lifetime: 30d }", FILES);
    let mut agent = desk.start();
    let first = signs(&desk.until(&mut agent, "served", is_settled));
    assert!(agent.terminate().success());
    say(&desk, "root: offline", FILES);
    refused(&desk, &["run"], "move it to where the root is kept");
    fs::create_dir(desk.path("vault")).expect("made");
    fs::rename(desk.path("state/ca/root.key"), desk.path("vault/root.key")).expect("moved");
    fs::copy(desk.path("state/ca/root.pem"), desk.path("vault/root.pem")).expect("copied");
    let mut agent = desk.start();
    let again = signs(&desk.until(&mut agent, "served as before", is_settled));
    assert_eq!(again.serial, first.serial);
    desk.write("chain.pem", &sign(&desk, &done(&desk, &["ca", "request"]), "24h"));
    done(&desk, &["ca", "install", "chain.pem"]);
    poll(
        || desk.status().ok().filter(|status| is_settled(status) && signs(status).serial != first.serial),
        || "the one that was signed elsewhere".to_owned(),
    );
}
