//! What is begun anew after failures in a row, as a restart would.

use portcullis::issuer::acme::AcmeError;
use portcullis::issuer::acme::AcmeOrder;
use portcullis_integration::environment::chain as causes;

use crate::fake::Fake;
use crate::fake::Reply;
use crate::support::issue;
use crate::support::request;
use crate::support::step;
use crate::support::store;

#[tokio::test]
async fn connections_are_made_anew_after_three_failures_in_a_row() {
    let (store, _directory) = store();
    let fake = Fake::start().await;
    fake.say("/order", Reply { status: 500, body: b"<html>sorry".to_vec(), ..Reply::default() });
    let acme = fake.acme(&store);
    let wanted = request(&["a.acme.example"]);
    for _ in 0..3 {
        issue(&acme, &wanted, None).await.expect_err("it is broken");
    }
    let before = fake.connections();
    issue(&acme, &wanted, None).await.expect_err("it is broken still");
    assert_eq!(fake.connections(), before + 1, "not by one that is open since the first of them");
}

#[tokio::test]
async fn an_account_that_may_not_order_any_more_is_replaced_and_kept_aside() {
    let (store, _directory) = store();
    let fake = Fake::start().await;
    fake.say("/order", Reply::problem(401, "unauthorized", "the account is deactivated"));
    let acme = fake.acme(&store);
    let wanted = request(&["a.acme.example"]);
    for _ in 0..3 {
        let error = issue(&acme, &wanted, None).await.expect_err("it may not");
        assert!(matches!(error, AcmeError::Refused { .. }), "{}", causes(&error));
    }
    assert_eq!(fake.asked("/account").len(), 1, "the first one until now");
    fake.say("/order", Reply::json(201, &fake.order("pending")).with("Location", fake.url("/order/1")));
    let asked = step(&acme, &wanted, &AcmeOrder::default()).await;
    let made = step(&acme, &wanted, &asked).await;
    assert_eq!(made.url(), Some(fake.url("/order/1").as_str()));
    assert_eq!(fake.asked("/account").len(), 2, "another one");
    assert!(store.read("acme/fake/account/former").unwrap().is_some(), "in case that the CA was wrong");
}
