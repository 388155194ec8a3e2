//! When the CA wants a certificate renewed, and what it is told that it replaces (RFC 9773).

use portcullis::issuer::acme::AcmeError;
use portcullis::issuer::acme::Limits;
use portcullis::issuer::acme::RenewalProblem;
use portcullis::issuer::acme::Settings;
use portcullis::leaf;
use portcullis_integration::environment::chain as causes;

use crate::support::Scene;
use crate::support::issue;
use crate::support::request;

#[tokio::test]
async fn the_ca_says_when_to_renew_and_can_change_its_mind() {
    let scene = Scene::new().await;
    let acme = scene.acme(scene.settings());
    let (chain, _) = issue(&acme, &request(&["a.acme.example"]), None).await.unwrap();
    let validity = leaf::Leaf::from_der(&leaf::chain(&chain).unwrap()[0]).unwrap().validity;
    let said = acme.renewal_info(&chain).await.unwrap_or_else(|error| panic!("{}", causes(&error))).expect("a window");
    assert!(validity.not_before < said.start && said.start <= said.end && said.end < validity.not_after, "{said:?}");
    assert!(said.ask_again > leaf::now() && said.ask_again.0 <= leaf::now().0 + 86_400, "{said:?}");

    let now = r#"{"suggestedWindow":{"start":"2020-01-01T00:00:00Z","end":"2020-01-02T00:00:00Z"},"explanationURL":"https://ca.example/why"}"#;
    scene.pebble.set_renewal_info(&leaf_of(&chain), now).await.unwrap();
    let said = acme.renewal_info(&chain).await.unwrap().expect("a window");
    assert!(said.end < leaf::now(), "{said:?}");
    assert_eq!(said.explanation.as_deref(), Some("https://ca.example/why"));
}

#[tokio::test]
async fn a_window_that_is_of_no_use_is_an_error_and_nothing_else() {
    let scene = Scene::new().await;
    let acme = scene.acme(scene.settings());
    let (chain, _) = issue(&acme, &request(&["a.acme.example"]), None).await.unwrap();
    let backwards = r#"{"suggestedWindow":{"start":"2030-01-02T00:00:00Z","end":"2030-01-01T00:00:00Z"}}"#;
    for (text, want) in [
        (backwards, RenewalProblem::Backwards),
        ("[1]", RenewalProblem::Unreadable),
        (r#"{"suggestedWindow":null}"#, RenewalProblem::Unreadable),
        (r#"{"suggestedWindow":{"start":"never","end":"ever"}}"#, RenewalProblem::Unreadable),
    ] {
        scene.pebble.set_renewal_info(&leaf_of(&chain), text).await.unwrap();
        let error = acme.renewal_info(&chain).await.expect_err(text);
        assert!(matches!(error, AcmeError::RenewalInfo { why, .. } if why == want), "{text}: {error:?}");
        assert!(!error.is_final(), "{text}");
    }
    // A certificate of somebody else.
    let other = Scene::new().await;
    let error = other.acme(other.settings()).renewal_info(&chain).await.expect_err("not theirs");
    assert!(matches!(error, AcmeError::Refused { .. }) && !error.is_final(), "{error:?}");
}

#[tokio::test]
async fn what_is_replaced_is_said_and_a_replacement_that_is_refused_is_an_order_all_the_same() {
    let scene = Scene::new().await;
    let limits = Limits { certificates: 10, ..Limits::default() };
    let acme = scene.acme(Settings { limits, ..scene.settings() });
    let wanted = request(&["a.acme.example"]);
    let (first, order) = issue(&acme, &wanted, None).await.unwrap();
    assert_eq!(order.replaces(), None);

    let (_, order) = issue(&acme, &wanted, Some(&first)).await.unwrap_or_else(|error| panic!("{}", causes(&error)));
    assert!(order.replaces().is_some_and(|replaced| replaced.contains('.')), "{order:?}");

    // It was replaced already.
    let (chain, order) = issue(&acme, &wanted, Some(&first)).await.unwrap_or_else(|error| panic!("{}", causes(&error)));
    assert_eq!(order.replaces(), None);
    scene.verify(0, &chain, &wanted).await;

    // One of another CA.
    let other = Scene::new().await;
    let (foreign, _) = issue(&other.acme(other.settings()), &wanted, None).await.unwrap();
    let (chain, order) =
        issue(&acme, &wanted, Some(&foreign)).await.unwrap_or_else(|error| panic!("{}", causes(&error)));
    assert_eq!(order.replaces(), None);
    scene.verify(0, &chain, &wanted).await;

    // Something that is no certificate at all.
    issue(&acme, &wanted, Some("nonsense")).await.unwrap();
    assert_eq!((scene.pebble.orders(), scene.pebble.issued()), (5, 5));
}

fn leaf_of(chain: &str) -> String {
    leaf::pem("CERTIFICATE", &leaf::chain(chain).unwrap()[0])
}
