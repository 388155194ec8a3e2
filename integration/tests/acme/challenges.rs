//! The other ways to prove a name.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use portcullis::issuer::acme::AcmeError;
use portcullis::issuer::acme::AcmeOrder;
use portcullis::issuer::acme::Challenge;
use portcullis::issuer::acme::Limits;
use portcullis_integration::environment::chain as causes;
use portcullis_integration::environment::free_port;
use portcullis_integration::environment::wait;
use serde_json::json;

use crate::fake::Fake;
use crate::fake::Reply;
use crate::support::Scene;
use crate::support::go_on;
use crate::support::issue;
use crate::support::journal;
use crate::support::request;
use crate::support::store;
use crate::support::until_free;

/// Changes the DNS that Pebble asks, and remembers what it was called with.
const HOOK: &str = r#"
import json, sys, urllib.request

management, log, action, name, value = sys.argv[1:]
path, body = ("set-txt", {"host": name + ".", "value": value}) if action == "present" else ("clear-txt", {"host": name + "."})
urllib.request.build_opener(urllib.request.ProxyHandler({})).open(management + "/" + path, json.dumps(body).encode())
with open(log, "a") as file:
    print(action, name, value, file=file)
"#;

#[tokio::test]
async fn names_and_addresses_are_proven_by_a_handshake() {
    let scene = Scene::new().await;
    let acme = scene.acme(scene.settings_for(Challenge::TlsAlpn01 { listen: scene.pebble.tls() }));
    let wanted = request(&["a.acme.example", "b.acme.example", "127.0.0.1"]);
    let (chain, _) = issue(&acme, &wanted, None).await.unwrap_or_else(|error| panic!("{}", causes(&error)));
    scene.verify(0, &chain, &wanted).await;
    until_free(scene.pebble.tls()).await;
}

#[tokio::test]
async fn a_port_of_handshakes_that_is_taken_is_found_out_before_anything_is_sent() {
    let scene = Scene::new().await;
    let _occupied = TcpListener::bind(scene.pebble.tls()).unwrap();
    let acme = scene.acme(scene.settings_for(Challenge::TlsAlpn01 { listen: scene.pebble.tls() }));
    let error = issue(&acme, &request(&["a.acme.example"]), None).await.expect_err("nobody can listen");
    assert!(matches!(error, AcmeError::Listen { .. }), "{error:?}");
    assert_eq!((scene.pebble.accounts(), scene.pebble.orders()), (0, 0));
}

#[tokio::test]
async fn a_proof_that_somebody_else_answers_is_not_sent_to_the_ca_and_is_no_failure_of_the_name() {
    let (store, _directory) = store();
    let fake = Fake::start().await;
    // Two proofs of one name, of which one answer alone can be at the place that both are looked for at.
    let authorization = |number: usize| {
        let challenge = json!({
            "type": "tls-alpn-01", "status": "pending", "token": format!("token-{number}"),
            "url": fake.url(&format!("/challenge/{number}")),
        });
        let identifier = json!({ "type": "dns", "value": "a.acme.example" });
        Reply::json(200, &json!({ "status": "pending", "identifier": identifier, "challenges": [challenge] }))
    };
    fake.say("/authorization/1", authorization(1));
    fake.say("/authorization/2", authorization(2));
    fake.say("/challenge", Reply::problem(403, "malformed", "it was asked"));
    let order = |numbers: &[usize]| {
        let urls: Vec<String> = numbers.iter().map(|number| fake.url(&format!("/authorization/{number}"))).collect();
        let mut order = fake.order("pending");
        order["authorizations"] = json!(urls);
        Reply::json(201, &order).with("Location", fake.url("/order/1"))
    };
    let acme = fake.acme_proving(&store, Challenge::TlsAlpn01 { listen: free_port().unwrap() });
    let wanted = request(&["a.acme.example"]);
    // More often than a name may fail.
    for round in 0..Limits::default().failures + 2 {
        fake.say("/order", order(&[1, 2]));
        fake.say("/order/1", order(&[1, 2]));
        let error = issue(&acme, &wanted, None).await.expect_err("another answers");
        assert!(matches!(error, AcmeError::SelfCheck { .. }) && !error.is_final(), "{round}: {error:?}");
        assert!(error.to_string().contains("another answers there"), "{}", causes(&error));
    }
    assert!(fake.asked("/challenge/1").is_empty() && fake.asked("/challenge/2").is_empty(), "no validation");
    // With its own answer there, the CA is asked.
    fake.say("/order", order(&[1]));
    fake.say("/order/1", order(&[1]));
    let error = issue(&acme, &wanted, None).await.expect_err("refused");
    assert!(error.to_string().contains("it was asked"), "{}", causes(&error));
    assert_eq!(fake.asked("/challenge/1").len(), 1);
}

#[tokio::test]
async fn wildcards_are_proven_by_records_that_are_taken_away_again() {
    let scene = Scene::new().await;
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let acme = scene.acme(scene.settings_for(hook(&scene, directory.path(), &log)));
    let wanted = request(&["*.acme.example", "acme.example", "a.acme.example"]);
    let (chain, order) = issue(&acme, &wanted, None).await.unwrap_or_else(|error| panic!("{}", causes(&error)));
    scene.verify(0, &chain, &wanted).await;
    let calls = calls(&log);
    let [present, cleanup] = ["present ", "cleanup "].map(|action| {
        let mut called: Vec<_> = calls.iter().filter_map(|call| call.strip_prefix(action)).collect();
        called.sort_unstable();
        called
    });
    assert_eq!(present.len(), 3, "{calls:?}");
    assert_eq!(present.iter().filter(|call| call.starts_with("_acme-challenge.acme.example ")).count(), 2);
    assert_eq!(present, cleanup);

    // Killed when everything was proven and before the records were taken away: they are, and nothing is put there.
    fs::remove_file(&log).unwrap();
    go_on(&acme, &wanted, order, None).await.unwrap();
    let again = self::calls(&log);
    assert_eq!(again.len(), 3, "{again:?}");
    assert!(again.iter().all(|call| call.starts_with("cleanup ")), "{again:?}");
}

#[tokio::test]
async fn records_are_written_down_before_they_are_put_in_place_and_taken_away_when_nobody_waits_any_more() {
    let scene = Scene::new().await;
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let acme = scene.acme(scene.settings_for(hook(&scene, directory.path(), &log)));
    let wanted = request(&["a.acme.example"]);
    let made = journal(&acme, &wanted, &AcmeOrder::default()).await;
    let noted = journal(&acme, &wanted, &made).await;
    assert!(serde_json::to_string(&noted).unwrap().contains("_acme-challenge.a.acme.example"));
    assert!(!log.exists(), "nothing was put in place yet");
    // Nobody waits from when the record is there.
    tokio::select! {
        biased;
        placed = wait::until("the record", Duration::from_secs(20), async || fs::metadata(&log)) => { placed.unwrap(); }
        _ = acme.advance(&wanted, &noted, None) => panic!("the record was there first"),
    }
    let taken = wait::until("the record to be taken away", Duration::from_secs(20), async || {
        let calls = calls(&log);
        let is_last = calls.last().is_some_and(|call| call.starts_with("cleanup "));
        if is_last { Ok(()) } else { Err(format!("{calls:?}")) }
    });
    taken.await.unwrap_or_else(|error| panic!("{}", causes(&error)));
    let (chain, _) = go_on(&acme, &wanted, noted, None).await.unwrap_or_else(|error| panic!("{}", causes(&error)));
    scene.verify(0, &chain, &wanted).await;
}

#[tokio::test]
async fn the_records_of_an_order_that_is_given_up_are_taken_away() {
    let scene = Scene::new().await;
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let acme = scene.acme(scene.settings_for(hook(&scene, directory.path(), &log)));
    let wanted = request(&["a.acme.example"]);
    let made = journal(&acme, &wanted, &AcmeOrder::default()).await;
    let noted = journal(&acme, &wanted, &made).await;
    // Killed when they were in place, and nobody goes on with the order.
    acme.abandon(&noted).await;
    let [call] = calls(&log).try_into().unwrap_or_else(|calls| panic!("{calls:?}"));
    assert!(call.starts_with("cleanup _acme-challenge.a.acme.example "), "{call}");
    acme.abandon(&made).await;
    assert_eq!(calls(&log).len(), 1, "nothing was noted yet");
}

#[tokio::test]
async fn a_wildcard_is_not_proven_by_a_file() {
    let scene = Scene::new().await;
    let acme = scene.acme(scene.settings());
    let error = issue(&acme, &request(&["*.acme.example"]), None).await.expect_err("RFC 8555 has no way");
    assert!(matches!(error, AcmeError::NoChallenge { wanted: "http-01", .. }), "{error:?}");
    assert!(error.to_string().contains("`*.acme.example` by http-01; it offers"), "{error}");
}

#[tokio::test]
async fn a_hook_that_fails_is_heard() {
    let scene = Scene::new().await;
    let argv = ["/bin/sh", "-c", "echo the zone is locked >&2; exit 3"].map(str::to_owned).to_vec();
    let acme = scene.acme(scene.settings_for(Challenge::dns_hook(argv).unwrap()));
    let error = issue(&acme, &request(&["a.acme.example"]), None).await.expect_err("the hook failed");
    let text = causes(&error);
    assert!(text.contains("`_acme-challenge.a.acme.example`") && text.contains("the zone is locked"), "{text}");
    assert!(!error.is_final(), "the order can go on: nothing was sent for it");
    assert!(!scene.pebble.log().contains("Attempting to validate"), "{}", scene.pebble.log());
}

fn hook(scene: &Scene, directory: &Path, log: &Path) -> Challenge {
    let script: PathBuf = directory.join("hook.py");
    fs::write(&script, HOOK).unwrap();
    let [script, log] = [&script, log].map(|path| path.to_str().unwrap().to_owned());
    let management = scene.pebble.dns().management();
    let argv = vec!["/usr/bin/env".to_owned(), "python3".to_owned(), script, management, log];
    Challenge::dns_hook(argv).unwrap()
}

fn calls(log: &Path) -> Vec<String> {
    fs::read_to_string(log).unwrap_or_default().lines().map(str::to_owned).collect()
}
