//! The agent as a proxy meets it that does not simply take what it is sent.
//!
//! One that refuses a certificate is sent another one, never the same bytes again, and keeps the last good one.

use std::collections::BTreeSet;
use std::fs;

use portcullis::status::Status;
use rustix::process::Signal;

use crate::support::Desk;
use crate::support::outsider::DAY;
use crate::support::outsider::Outsider;
use crate::support::outsider::put;
use crate::support::proxy::Proxy;
use crate::support::serial;

const ONE: &str = "certificates:\n  - { name: gateway, dns: [localhost] }\n";

#[test]
fn a_refused_certificate_is_replaced_and_never_sent_again() {
    let desk = Desk::new(ONE);
    let mut agent = desk.start();
    desk.until(&mut agent, "issued", |status| status.certificates.iter().any(|one| one.stored.is_some()));
    let mut proxy = Proxy::connect(&desk);
    let good = proxy.next();
    proxy.answer(None);
    desk.until(&mut agent, "ready", |status| status.ready);

    let renewal = std::thread::scope(|scope| {
        let renewal = scope.spawn(|| desk.renew("gateway"));
        let refused = proxy.next();
        assert_ne!(refused, good);
        proxy.answer(Some("KEY_VALUES_MISMATCH"));
        (refused, renewal.join().unwrap())
    });
    let (first, answer) = renewal;
    let error = answer.expect_err("refused").to_string();
    assert!(error.contains("install failed") && error.contains("KEY_VALUES_MISMATCH"), "{error}");

    // What the proxy is sent from now on: the last good one, and new ones, each once.
    let mut refused = BTreeSet::from([first]);
    while refused.len() < 4 {
        let version = proxy.next();
        if version == good {
            proxy.answer(None);
            continue;
        }
        assert!(refused.insert(version.clone()), "{version} was sent again after its refusal");
        proxy.answer(Some("KEY_VALUES_MISMATCH"));
    }
    let status = desk.until(&mut agent, "the last good one is stored", |status| status.certificates[0].failures == 4);
    let gateway = &status.certificates[0];
    assert_eq!(gateway.stored.as_ref().map(|leaf| leaf.serial.as_str()), Some(good.as_str()));
    assert_eq!(gateway.installed.as_deref(), Some(good.as_str()));
    assert!(!status.ready);

    // A restart does not forget it either.
    drop(proxy);
    agent.signal(Signal::KILL);
    agent.ended();
    let mut agent = desk.start();
    desk.until(&mut agent, "started", |_| true);
    let mut proxy = Proxy::connect(&desk);
    let version = loop {
        let version = proxy.next();
        assert!(!refused.contains(&version), "{version} was sent again after a restart");
        proxy.answer(None);
        if version != good {
            break version;
        }
    };
    let status = desk.until(&mut agent, "well again", |status| status.ready);
    assert_eq!(status.certificates[0].stored.as_ref().map(|leaf| leaf.serial.clone()), Some(version));
    assert_eq!(status.certificates[0].failures, 0);
}

#[test]
fn a_proxy_that_refuses_what_another_took_gets_another_certificate() {
    let desk = Desk::new(ONE);
    let mut agent = desk.start();
    desk.until(&mut agent, "issued", |status| status.certificates.iter().any(|one| one.stored.is_some()));
    let mut one = Proxy::connect(&desk);
    let first = one.next();
    one.answer(None);
    desk.until(&mut agent, "ready", |status| status.ready);
    let mut other = Proxy::connect(&desk);
    assert_eq!(other.next(), first);
    other.answer(Some("too short a key"));
    let second = one.next();
    assert_ne!(second, first);
    one.answer(None);
    assert_eq!(other.next(), second, "not the one that it refused");
    other.answer(None);
    let status = desk.until(&mut agent, "well again", |status| status.ready);
    assert_eq!(status.certificates[0].stored.as_ref().map(|leaf| leaf.serial.clone()), Some(second));
}

#[test]
fn an_ask_for_a_certificate_that_a_reload_removed_is_answered() {
    let desk = Desk::new(ONE);
    let mut agent = desk.start();
    desk.until(&mut agent, "issued", |status| status.certificates.iter().any(|one| one.stored.is_some()));
    let mut proxy = Proxy::connect(&desk);
    proxy.next();
    proxy.answer(None);
    desk.until(&mut agent, "ready", |status| status.ready);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| desk.renew("gateway"));
        // It is waited for the proxy's answer, which does not come.
        proxy.next();
        let second = scope.spawn(|| desk.renew("gateway"));
        desk.status().expect("the second one was taken before this");
        desk.configure("certificates: []\n");
        agent.signal(Signal::HUP);
        let error = first.join().unwrap().expect_err("not answered by the proxy").to_string();
        assert!(error.contains("not every proxy took it"), "{error}");
        let error = second.join().unwrap().expect_err("removed").to_string();
        assert!(error.contains("left the configuration") || error.contains("no certificate is called"), "{error}");
    });
    desk.until(&mut agent, "nothing left to do", |status| status.ready && status.certificates.is_empty());
}

/// The step of one root on its way to take the place of another, and what that waits for.
fn succession(status: &Status) -> Option<(&str, &str)> {
    let succession = status.ca.succession.as_ref()?;
    Some((succession.step.as_str(), succession.waits_for.as_deref().unwrap_or_default()))
}

fn signs(status: &Status) -> Option<&str> {
    status.ca.roots.iter().find(|root| root.signs).map(|root| root.sha256.as_str())
}

#[test]
fn no_root_follows_another_while_a_proxy_refuses_the_bundle_with_both() {
    let desk = Desk::new(
        &format!("{ONE}bundles: [{{ name: peers }}]\n")
            .replace("[localhost]", "[localhost], files: { directory: tls }"),
    );
    let mut agent = desk.start();
    desk.until(&mut agent, "issued", |status| status.certificates.iter().any(|one| one.stored.is_some()));
    let mut proxy = Proxy::asking(&desk, "peers");
    let alone = proxy.next();
    proxy.answer(None);
    let status = desk.until(&mut agent, "ready", |status| status.ready);
    let first = signs(&status).expect("a root").to_owned();

    assert!(desk.run(&["ca", "rotate", "--no-wait"]).status.success());
    let both = proxy.next();
    assert_ne!(both, alone);
    proxy.answer(Some("not that one"));
    assert_eq!(proxy.next(), alone, "back to the one it took");
    proxy.answer(None);
    desk.until_audit("its words", |line| {
        line["event"] == "nack"
            && line["name"] == "peers"
            && line["cause"] == "not that one"
            && line["new"] == both.as_str()
    });
    let behind = Some(("spread", "bundle `peers` was not taken by every proxy yet"));
    let status = desk.until(&mut agent, "that alone is waited for", |status| succession(status) == behind);
    assert!(!status.ready && status.reasons.iter().any(|reason| reason.contains("`peers`")), "{:?}", status.reasons);
    assert_eq!((signs(&status), desk.count("root_added")), (Some(first.as_str()), 0));

    // Who takes it back loses nothing, and the next one is another.
    let second = status.ca.roots.iter().find(|root| !root.signs).expect("another").sha256.clone();
    assert!(desk.run(&["ca", "remove", &second]).status.success());
    desk.until(&mut agent, "as before", |status| status.ready && status.ca.succession.is_none());
    assert!(desk.run(&["ca", "rotate", "--no-wait"]).status.success());
    let others = proxy.next();
    assert!(others != both && others != alone);
    proxy.answer(None);
    desk.until_audit("everybody knows it", |line| line["event"] == "root_added");
}

#[test]
fn a_certificate_is_held_back_while_a_proxy_refuses_the_bundle_it_is_judged_by() {
    let [known, next, more] = [(); 3].map(|()| Outsider::new());
    let desk = Desk::new("certificates: []\n");
    desk.write("roots.pem", &(known.pem.clone() + &next.pem));
    desk.write("also.pem", &known.pem);
    fs::create_dir(desk.path("live")).expect("made");
    desk.configure(
        "issuers:\n  - { name: outsider, roots: roots.pem, directory: { path: live } }\ncertificates:\n  \
         - { name: web, issuer: outsider, dns: [web.example], files: { directory: tls }, trusted_by: [peers] }\n\
         bundles: [{ name: peers, also: [also.pem] }]\n",
    );
    let in_files = || serial(&desk.path("tls/tls.crt"));
    let first = known.make("web.example", 10, DAY);
    put(&desk, &first);
    let mut agent = desk.start();
    desk.until(&mut agent, "listening", |_| true);
    let mut proxy = Proxy::asking(&desk, "peers");
    let good = proxy.next();
    proxy.answer(None);
    desk.until(&mut agent, "ready", |status| status.ready && status.certificates[0].rotations == 1);

    desk.write("also.pem", &(known.pem.clone() + &next.pem));
    agent.signal(Signal::HUP);
    assert_ne!(proxy.next(), good);
    proxy.answer(Some("not that one"));
    assert_eq!(proxy.next(), good, "back to the one it took");
    proxy.answer(None);
    let second = next.make("web.example", 0, DAY);
    put(&desk, &second);
    let status = desk.until(&mut agent, "held back", |status| {
        let error = status.certificates[0].last_error.as_deref().unwrap_or_default();
        status.certificates[0].failures > 1 && error.contains("not every proxy took bundle `peers` as it is now")
    });
    assert!(!status.ready && status.certificates[0].installed == Some(first.serial()), "{status:#?}");
    assert_eq!((in_files(), desk.count("installed")), (Some(first.serial()), 1));

    // Another bundle is another question.
    desk.write("also.pem", &(known.pem.clone() + &next.pem + &more.pem));
    agent.signal(Signal::HUP);
    proxy.next();
    proxy.answer(None);
    desk.until(&mut agent, "delivered", |status| status.ready && status.certificates[0].rotations == 2);
    assert_eq!(in_files(), Some(second.serial()));
}

#[test]
fn an_administration_that_does_not_answer_is_no_outage_and_is_told_of() {
    let closed = "127.0.0.1:1";
    let desk = Desk::new(&format!("{ONE}envoy: {{ admin: \"{closed}\" }}\n"));
    let mut agent = desk.start();
    desk.until(&mut agent, "issued", |status| status.certificates.iter().any(|one| one.stored.is_some()));
    let mut proxy = Proxy::connect(&desk);
    proxy.next();
    proxy.answer(None);
    desk.until(&mut agent, "ready", |status| status.ready && status.certificates[0].failures == 0);
    // What it proves without it is less, and that is what is written down.
    desk.until_audit("the proof", |line| line["event"] == "served" && line["proof"] == "acknowledged by every proxy");
    assert!(agent.log().contains("Envoy could not be asked") && agent.log().contains(closed), "{}", agent.log());
    assert_eq!(desk.count("alarm"), 0);
}

#[test]
fn a_certificate_of_another_name_takes_nothing_from_those_who_have_the_one_before() {
    let of = |name: &str, directory: &str| {
        format!("certificates:\n  - {{ name: {name}, dns: [localhost], files: {{ directory: {directory} }} }}\n")
    };
    let desk = Desk::new(&of("gateway", "tls"));
    let mut agent = desk.start();
    let is_there = |name: &'static str| {
        move |status: &Status| status.certificates.iter().any(|one| one.name == name && one.state == "retired")
    };
    desk.until(&mut agent, "the first", is_there("gateway"));
    let mut proxy = Proxy::connect(&desk);
    let first = proxy.next();
    proxy.answer(None);

    // With files of its own, those of before are left as they are.
    desk.configure(&of("edge", "edge"));
    agent.signal(Signal::HUP);
    desk.until(&mut agent, "the second", is_there("edge"));
    let second = serial(&desk.path("edge/tls.crt"));
    assert_eq!(serial(&desk.path("tls/tls.crt")), Some(first.clone()));
    assert_ne!(second, Some(first.clone()));

    // In the same files, it takes their place when it is there, and never sooner.
    desk.configure(&of("door", "edge"));
    agent.signal(Signal::HUP);
    desk.until(&mut agent, "the third", is_there("door"));
    assert!(serial(&desk.path("edge/tls.crt")).is_some_and(|third| Some(&third) != second.as_ref()));

    // The proxy heard nothing of all this; the name that comes back is what it was.
    desk.configure(&of("gateway", "tls"));
    agent.signal(Signal::HUP);
    desk.until(&mut agent, "the first again", |status| is_there("gateway")(status) && status.ready);
    assert_eq!((desk.count("certificate_issued"), serial(&desk.path("tls/tls.crt"))), (3, Some(first.clone())));
    std::thread::scope(|scope| {
        let renewal = scope.spawn(|| desk.renew("gateway"));
        let heard = proxy.hear();
        assert!(heard.removed_resources.is_empty(), "{heard:?}");
        proxy.answer(None);
        let renewed = renewal.join().expect("answered").expect("renewed");
        assert_eq!((renewed.old_serial, renewed.new_serial), (Some(first), heard.resources[0].version.clone()));
    });
}
