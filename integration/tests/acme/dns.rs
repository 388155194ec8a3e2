//! Names that are proven by changes to a zone, at a real DNS server.

use std::net::SocketAddr;
use std::time::Duration;

use portcullis::issuer::acme::AcmeError;
use portcullis::issuer::acme::AcmeOrder;
use portcullis::issuer::acme::Challenge;
use portcullis::issuer::acme::Check;
use portcullis::issuer::acme::DnsError;
use portcullis::issuer::acme::Tsig;
use portcullis::issuer::acme::TsigAlgorithm;
use portcullis::issuer::acme::Update;
use portcullis::secret::Secret;
use portcullis_integration::environment::Knot;
use portcullis_integration::environment::PebbleSettings;
use portcullis_integration::environment::chain as causes;
use portcullis_integration::environment::free_port;
use portcullis_integration::environment::knot::KEY;
use portcullis_integration::environment::wait;

use crate::support::Scene;
use crate::support::issue;
use crate::support::journal;
use crate::support::request;

const SOON: Duration = Duration::from_secs(60);

async fn scene() -> (Knot, Scene) {
    let knot = Knot::start().await.unwrap_or_else(|error| panic!("{}", causes(&error)));
    let scene = Scene::with(&PebbleSettings { dns: Some(knot.address()), ..PebbleSettings::default() }).await;
    (knot, scene)
}

fn update(server: SocketAddr, zone: &str, secret: &str) -> Update {
    let secret = Secret::new(secret.to_owned());
    let tsig = Tsig { name: KEY.0.to_owned(), algorithm: TsigAlgorithm::HmacSha256, secret };
    Update { server, zone: zone.to_owned(), tsig: Some(tsig), resolver: None }
}

fn good(knot: &Knot, zone: &str, check: Check) -> Challenge {
    Challenge::Dns01Update { update: update(knot.address(), zone, KEY.1), check }
}

#[tokio::test]
async fn names_and_wildcards_are_proven_by_signed_changes_that_are_taken_back() {
    let (knot, scene) = scene().await;
    let acme = scene.acme(scene.settings_for(good(&knot, "acme.example", Check::OfZone(SOON))));
    let wanted = request(&["*.acme.example", "acme.example", "a.acme.example"]);
    let (chain, _) = issue(&acme, &wanted, None).await.unwrap_or_else(|error| panic!("{}", causes(&error)));
    scene.verify(0, &chain, &wanted).await;
    for name in ["_acme-challenge.acme.example", "_acme-challenge.a.acme.example"] {
        assert_eq!(knot.texts(name).await.unwrap(), 0, "{name}: {}", knot.log());
    }
}

#[tokio::test]
async fn an_alias_is_followed_to_where_the_record_belongs() {
    let (knot, scene) = scene().await;
    let acme = scene.acme(scene.settings_for(good(&knot, "acme.example", Check::OfZone(SOON))));
    let wanted = request(&["alias.acme.example"]);
    let (chain, _) = issue(&acme, &wanted, None).await.unwrap_or_else(|error| panic!("{}", causes(&error)));
    scene.verify(0, &chain, &wanted).await;
    assert_eq!(knot.texts("alias.dynamic.acme.example").await.unwrap(), 0, "{}", knot.log());
}

#[tokio::test]
async fn an_alias_leads_to_another_zone_and_no_other_is_changed() {
    let (knot, scene) = scene().await;
    let acme = scene.acme(scene.settings_for(good(&knot, "validation.example", Check::OfZone(SOON))));
    let error = issue(&acme, &request(&["far.acme.example"]), None).await.expect_err("this CA follows no alias");
    assert!(matches!(error, AcmeError::Invalid { .. }), "seen in place, and the CA was asked: {}", causes(&error));
    assert!(knot.log().contains("[validation.example.] DDNS, finished"), "{}", knot.log());
    assert!(!knot.log().contains("[acme.example.] DDNS"), "{}", knot.log());
    assert_eq!(knot.texts("far.validation.example").await.unwrap(), 0, "taken away");
    let error = issue(&acme, &request(&["a.acme.example"]), None).await.expect_err("no alias");
    assert!(matches!(error, AcmeError::Names { .. }), "before anything is ordered: {error:?}");
    assert!(causes(&error).contains("is not in the zone `validation.example`"), "{}", causes(&error));
}

#[tokio::test]
async fn changes_with_another_key_are_refused_and_no_secret_is_told() {
    let (knot, scene) = scene().await;
    let secret = "YW5vdGhlciBzZWNyZXQgb2Ygc29tZWJvZHkgZWxzZQ==";
    let update = update(knot.address(), "acme.example", secret);
    let acme = scene.acme(scene.settings_for(Challenge::Dns01Update { update, check: Check::OfZone(SOON) }));
    let error = issue(&acme, &request(&["a.acme.example"]), None).await.expect_err("another key");
    let text = causes(&error);
    let is_of_key = |source: &DnsError| matches!(source, DnsError::Signature { .. });
    assert!(matches!(&error, AcmeError::Dns { source, .. } if is_of_key(source)), "{error:?}");
    assert!(!error.is_final(), "the key may be put right, and the order gone on with");
    assert!(
        text.contains("another secret for the key `agent`") && text.contains(&knot.address().to_string()),
        "{text}"
    );
    assert!(!format!("{error:?} {text}").contains(secret));
    assert!(!scene.pebble.log().contains("Attempting to validate"), "nothing was sent to the CA");
}

#[tokio::test]
async fn the_ca_is_not_asked_before_every_server_shows_the_record() {
    let (knot, scene) = scene().await;
    // Pebble's own DNS knows nothing of it.
    let servers = vec![knot.address(), scene.pebble.dns().dns()];
    let check = Check::Servers(servers, Duration::from_secs(1));
    let acme = scene.acme(scene.settings_for(good(&knot, "acme.example", check)));
    let error = issue(&acme, &request(&["a.acme.example"]), None).await.expect_err("one does not");
    let text = causes(&error);
    assert!(text.contains(&scene.pebble.dns().dns().to_string()) && text.contains("does not show"), "{text}");
    assert!(!scene.pebble.log().contains("Attempting to validate"), "nothing was sent to the CA");
    assert_eq!(knot.texts("_acme-challenge.a.acme.example").await.unwrap(), 0, "and it is taken away");
}

#[tokio::test]
async fn each_way_of_being_refused_has_its_own_remedy() {
    let (knot, scene) = scene().await;
    let nobody = free_port().unwrap();
    let with = |name: &str, server, zone: &str| {
        let update = update(server, zone, KEY.1);
        Update { tsig: update.tsig.map(|tsig| Tsig { name: name.to_owned(), ..tsig }), ..update }
    };
    let unsigned = Update { tsig: None, ..update(knot.address(), "acme.example", KEY.1) };
    for (name, update, want) in [
        (
            "a key that nobody knows there",
            with("stranger", knot.address(), "acme.example"),
            "does not take the key `stranger`",
        ),
        (
            "a zone that is not there",
            with(KEY.0, knot.address(), "example"),
            "not the primary server of the zone `example`",
        ),
        ("no key", unsigned, "somebody without a key"),
        ("nobody there", with(KEY.0, nobody, "acme.example"), "does not answer"),
    ] {
        let acme = scene.acme(scene.settings_for(Challenge::Dns01Update { update, check: Check::Off }));
        let error = issue(&acme, &request(&["b.acme.example"]), None).await.expect_err(name);
        assert!(causes(&error).contains(want), "{name}: {}", causes(&error));
    }
    assert_eq!(knot.texts("_acme-challenge.b.acme.example").await.unwrap(), 0);
    assert!(!scene.pebble.log().contains("Attempting to validate"), "nothing was sent to the CA");
}

#[tokio::test]
async fn a_server_that_is_dead_holds_up_nobody_as_long_as_another_shows_the_record() {
    let (knot, scene) = scene().await;
    let dead = free_port().unwrap();
    let two = Check::Servers(vec![dead, knot.address()], SOON);
    let acme = scene.acme(scene.settings_for(good(&knot, "acme.example", two)));
    let wanted = request(&["a.acme.example"]);
    let (chain, _) = issue(&acme, &wanted, None).await.unwrap_or_else(|error| panic!("{}", causes(&error)));
    scene.verify(0, &chain, &wanted).await;
    // Alone it shows nothing.
    let one = Check::Servers(vec![dead], Duration::from_millis(500));
    let acme = scene.acme(scene.settings_for(good(&knot, "acme.example", one)));
    let error = issue(&acme, &request(&["b.acme.example"]), None).await.expect_err("nobody shows it");
    assert!(causes(&error).contains("does not answer"), "{}", causes(&error));
    assert_eq!(knot.texts("_acme-challenge.b.acme.example").await.unwrap(), 0, "and it is taken away");
}

#[tokio::test]
async fn what_an_order_of_long_ago_left_is_no_success_and_stays() {
    let (knot, scene) = scene().await;
    let name = "_acme-challenge.stale.acme.example";
    scene.pebble.dns().set_text(name, "of long ago").await.unwrap();
    // Both have a record, and one of them the new one.
    let both = Check::Servers(vec![knot.address(), scene.pebble.dns().dns()], Duration::from_secs(1));
    let acme = scene.acme(scene.settings_for(good(&knot, "acme.example", both)));
    let error = issue(&acme, &request(&["stale.acme.example"]), None).await.expect_err("one is stale");
    assert!(causes(&error).contains("does not show"), "{}", causes(&error));
    assert!(!scene.pebble.log().contains("Attempting to validate"), "nothing was sent to the CA");
    assert_eq!(knot.texts(name).await.unwrap(), 1, "the old one, which is somebody else's");
    let acme = scene.acme(scene.settings_for(good(&knot, "acme.example", Check::OfZone(SOON))));
    let wanted = request(&["stale.acme.example"]);
    let (chain, _) = issue(&acme, &wanted, None).await.unwrap_or_else(|error| panic!("{}", causes(&error)));
    scene.verify(0, &chain, &wanted).await;
    assert_eq!(knot.texts(name).await.unwrap(), 1);
}

#[tokio::test]
async fn the_record_of_an_order_that_fails_is_taken_away() {
    let knot = Knot::start().await.unwrap_or_else(|error| panic!("{}", causes(&error)));
    // This CA asks a DNS that knows nothing of the record.
    let scene = Scene::new().await;
    let acme = scene.acme(scene.settings_for(good(&knot, "acme.example", Check::OfZone(SOON))));
    let error = issue(&acme, &request(&["a.acme.example"]), None).await.expect_err("the CA sees nothing");
    assert!(matches!(error, AcmeError::Invalid { .. }), "{error:?}");
    assert!(knot.log().contains("[acme.example.] DDNS, finished"), "it was there: {}", knot.log());
    assert_eq!(knot.texts("_acme-challenge.a.acme.example").await.unwrap(), 0);
}

#[tokio::test]
async fn the_record_of_an_agent_that_was_killed_is_taken_away_by_the_next() {
    let (knot, scene) = scene().await;
    let (name, wanted) = ("_acme-challenge.a.acme.example", request(&["a.acme.example"]));
    // The second never shows it: the agent waits until it is killed.
    let both = Check::Servers(vec![knot.address(), scene.pebble.dns().dns()], Duration::from_secs(600));
    let acme = scene.acme(scene.settings_for(good(&knot, "acme.example", both)));
    let made = journal(&acme, &wanted, &AcmeOrder::default()).await;
    let noted = journal(&acme, &wanted, &made).await;
    {
        let mut step = Box::pin(acme.advance(&wanted, &noted, None));
        let there = wait::until("the record", SOON, async || match knot.texts(name).await {
            Ok(1) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        tokio::select! {
            progress = &mut step => panic!("{progress:?}"),
            there = there => there.unwrap_or_else(|error| panic!("{}", causes(&error))),
        }
        // As `kill -9` leaves it: nothing of it is dropped, and nobody tidies up.
        std::mem::forget(step);
    }
    assert_eq!(knot.texts(name).await.unwrap(), 1);
    let next = scene.acme(scene.settings_for(good(&knot, "acme.example", Check::OfZone(SOON))));
    next.abandon(&noted).await;
    assert_eq!(knot.texts(name).await.unwrap(), 0, "by what was written down before it was put there");
}
