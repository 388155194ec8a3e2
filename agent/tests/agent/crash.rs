//! Whatever kills the agent, wherever: the next one goes on, issues nothing twice, and no reader sees half a pair.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::Arc;

use portcullis::rotation::failpoint;
use portcullis::store::LocalStore;
use portcullis::store::Store as _;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::sign::CertifiedKey;

use crate::support;
use crate::support::Desk;
use crate::support::serial;

const FILES: &str = "certificates:\n  \
    - { name: gateway, dns: [localhost], usage: [server, client], lifetime: 24h, files: { directory: tls, keep: 2 } }\n";

/// Chain and key as a reader finds them: absent, or a pair.
fn assert_whole(desk: &Desk, name: &str) -> bool {
    let directory = desk.path("tls");
    let Ok(current) = fs::read_link(directory.join("..data")) else {
        return false;
    };
    let read = |file: &str| fs::read_to_string(directory.join(&current).join(file)).expect(file);
    let chain = portcullis::leaf::chain(&read("fullchain.pem")).expect("a chain");
    let key = PrivateKeyDer::from_pem_slice(read("privkey.pem").as_bytes()).expect("a key");
    let key = ring::default_provider().key_provider.load_private_key(key).expect("a key for TLS");
    CertifiedKey::new(chain, Arc::clone(&key))
        .keys_match()
        .unwrap_or_else(|error| panic!("{name}: torn pair: {error}"));
    true
}

#[test]
fn death_at_any_edge_is_resumed_with_one_certificate() {
    for failpoint in failpoint::of_rotation() {
        let desk = Desk::new(FILES);
        let ended = desk.start_with(Some(&failpoint)).ended();
        assert_eq!(ended.signal(), Some(6), "{failpoint}: dies there: {ended}");
        assert_whole(&desk, &failpoint);

        let mut agent = desk.start();
        let status = desk.until(&mut agent, &format!("{failpoint}: served"), |status| {
            status.ready && status.certificates.iter().all(|certificate| certificate.rotations == 1)
        });
        let stored = status.certificates[0].stored.clone().expect("stored").serial;
        assert_eq!(serial(&desk.path("tls/tls.crt")), Some(stored.clone()), "{failpoint}");
        assert!(assert_whole(&desk, &failpoint), "{failpoint}");
        assert!(agent.terminate().success(), "{failpoint}");

        // A third start finds everything good and leaves it alone.
        let mut agent = desk.start();
        let status = desk.until(&mut agent, &format!("{failpoint}: good"), |status| status.ready);
        assert_eq!(status.certificates[0].stored.clone().expect("stored").serial, stored, "{failpoint}");
        assert!(agent.terminate().success(), "{failpoint}");
        for (event, times) in [("ca_created", 1), ("certificate_issued", 1), ("served", 1), ("agent_started", 0)] {
            let count = desk.count(event);
            assert!(if times == 0 { count >= 2 } else { count == times }, "{failpoint}: {event} is told {count} times");
        }
        let verified = desk.run(&["audit", "verify"]);
        assert!(verified.status.success(), "{failpoint}: {}", support::stderr(&verified));
    }
}

#[test]
fn death_during_a_renewal_keeps_the_old_pair_until_the_new_one_is_whole() {
    for failpoint in ["journal", "obtain-done", "check-done", "stage", "stage-done", "rename", "install-done"] {
        let desk = Desk::new(FILES);
        let mut agent = desk.start();
        let first = desk.until(&mut agent, "served", |status| {
            status.ready && status.certificates.iter().all(|certificate| certificate.rotations == 1)
        });
        let first = first.certificates[0].stored.clone().expect("stored").serial;
        assert!(agent.terminate().success());

        // More names: due at the next start, which dies.
        desk.configure(&FILES.replace("[localhost]", "[localhost, other]"));
        let ended = desk.start_with(Some(failpoint)).ended();
        assert_eq!(ended.signal(), Some(6), "{failpoint}: dies there: {ended}");
        assert!(assert_whole(&desk, failpoint), "{failpoint}: there is always a pair");

        let mut agent = desk.start();
        desk.until(&mut agent, failpoint, |status| status.ready && status.certificates[0].rotations == 2);
        let second = serial(&desk.path("tls/tls.crt")).expect("a certificate");
        assert_ne!(second, first, "{failpoint}");
        assert!(agent.terminate().success());
        assert_eq!(desk.count("certificate_issued"), 2, "{failpoint}");
    }
}

#[test]
fn an_unreadable_store_is_moved_aside_with_an_alarm_and_nobody_is_let_in_again() {
    let desk = Desk::new(FILES);
    let mut agent = desk.start();
    desk.until(&mut agent, "served", |status| status.ready);
    let identity = "spiffe://acme.example/laptop";
    assert!(desk.run(&["revoke", "--identity", identity, "--reason", "lost"]).status.success());
    assert!(agent.terminate().success());
    let before = serial(&desk.path("tls/tls.crt")).expect("a certificate");
    desk.write("state/store.redb", &"unreadable ".repeat(10_000));
    let mut agent = desk.start();
    desk.until(&mut agent, "served again", |status| status.ready && status.revocations.keys == 1);
    let revoked = desk.run(&["revocations"]);
    assert!(String::from_utf8_lossy(&revoked.stdout).contains(identity), "{revoked:?}");
    assert!(agent.terminate().success());
    assert_ne!(serial(&desk.path("tls/tls.crt")), Some(before));
    assert_eq!((desk.count("alarm"), desk.count("ca_created")), (2, 1), "{:#?}", desk.audit());
    assert!(desk.run(&["audit", "verify"]).status.success());
}

#[test]
fn a_record_that_is_garbage_is_told_of_and_made_anew_while_the_others_stay() {
    let desk = Desk::new(FILES);
    let torn = ["empty", "half", "no-json", "other"];
    let more: String = torn
        .iter()
        .map(|name| format!("  - {{ name: {name}, dns: [localhost], files: {{ directory: {name} }} }}\n"))
        .collect();
    desk.configure(&format!("{FILES}{more}"));
    let mut agent = desk.start();
    desk.until(&mut agent, "served", |status| status.ready && status.certificates.len() == 5);
    assert!(agent.terminate().success());
    let of = |name: &str| serial(&desk.path(&format!("{name}/tls.crt"))).expect("a certificate");
    let before: Vec<String> = torn.iter().map(|name| of(name)).collect();
    let good = of("tls");

    let store = LocalStore::open(&desk.path("state/store.redb")).expect("a store").store;
    for name in torn {
        let key = format!("certificate/{name}");
        let found = store.read(&key).expect("read").expect("a record");
        let value: &[u8] = match name {
            "empty" => b"",
            "half" => &found.value[..found.value.len() / 2],
            "no-json" => &[0, 0xff, 0xfe, 0],
            _ => b"{\"stored\": [1, 2]}",
        };
        store.swap(&key, Some(found.version), value, &[]).expect("torn");
    }
    // Of a certificate that left the configuration.
    store.swap("certificate/gone", None, b"}{", &[]).expect("torn");
    drop(store);

    let mut agent = desk.start();
    desk.until(&mut agent, "all of them", |status| status.ready && status.certificates.len() == 5);
    assert_eq!(of("tls"), good, "it is as it was");
    for (name, before) in torn.iter().zip(before) {
        assert_ne!(of(name), before, "{name}");
        let told =
            |event: &str| desk.audit().iter().filter(|line| line["event"] == event && line["name"] == *name).count();
        assert_eq!((told("alarm"), told("certificate_issued")), (1, 2), "{name}: {:#?}", desk.audit());
    }
    assert!(agent.log().contains("unreadable"), "{}", agent.log());
    assert!(agent.terminate().success());
    assert!(desk.run(&["audit", "verify"]).status.success());
}
