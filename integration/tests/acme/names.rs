//! One name of several that is not accepted: which one it is, found out before an order where that can be.

use portcullis::issuer::acme::AcmeError;
use portcullis::issuer::acme::Settings;
use portcullis_integration::environment::Knot;
use portcullis_integration::environment::PebbleSettings;
use portcullis_integration::environment::chain as causes;

use crate::support::Scene;
use crate::support::issue;
use crate::support::request;

fn at_fault(error: &AcmeError) -> Vec<String> {
    error.names_at_fault().into_iter().map(|failure| failure.name).collect()
}

#[tokio::test]
async fn a_name_that_the_ca_does_not_issue_for_is_told_from_the_others() {
    let blocked = vec!["blocked.acme.example"];
    let scene = Scene::with(&PebbleSettings { blocked, ..PebbleSettings::default() }).await;
    let acme = scene.acme(scene.settings());
    let names = ["a.acme.example", "blocked.acme.example", "b.acme.example"];
    let error = issue(&acme, &request(&names), None).await.expect_err("one is blocked");
    assert_eq!(at_fault(&error), ["blocked.acme.example"], "{}", causes(&error));
    assert!(error.to_string().contains("`blocked.acme.example`"), "{error}");
    issue(&acme, &request(&["a.acme.example", "b.acme.example"]), None).await.expect("the others are good");
}

#[tokio::test]
async fn a_name_without_an_address_is_found_out_before_an_order() {
    let knot = Knot::start().await.unwrap_or_else(|error| panic!("{}", causes(&error)));
    let scene = Scene::new().await;
    let acme = scene.acme(Settings { resolver: Some(knot.address()), ..scene.settings() });
    // The CA's own DNS knows both, the resolver only one.
    let error = issue(&acme, &request(&["ns.acme.example", "gone.acme.example"]), None).await.expect_err("one is gone");
    assert!(matches!(error, AcmeError::Names { .. }) && !error.is_final(), "{error:?}");
    assert_eq!(at_fault(&error), ["gone.acme.example"], "{}", causes(&error));
    assert_eq!((scene.pebble.accounts(), scene.pebble.orders()), (0, 0), "nobody was asked");
    let wanted = request(&["ns.acme.example"]);
    let (chain, _) = issue(&acme, &wanted, None).await.unwrap_or_else(|error| panic!("{}", causes(&error)));
    scene.verify(0, &chain, &wanted).await;
}

#[tokio::test]
async fn a_resolver_that_does_not_answer_says_nothing() {
    let scene = Scene::new().await;
    let nobody = portcullis_integration::environment::free_port().unwrap();
    let acme = scene.acme(Settings { resolver: Some(nobody), ..scene.settings() });
    issue(&acme, &request(&["a.acme.example"]), None).await.unwrap_or_else(|error| panic!("{}", causes(&error)));
}
