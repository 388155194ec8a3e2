//! Orders from nothing to a chain, also for those who are killed on the way.

use std::net::TcpListener;
use std::sync::Arc;

use portcullis::issuer::Progress;
use portcullis::issuer::acme::Acme;
use portcullis::issuer::acme::AcmeError;
use portcullis::issuer::acme::AcmeOrder;
use portcullis::issuer::acme::ExternalAccount;
use portcullis::issuer::acme::Limits;
use portcullis::issuer::acme::Settings;
use portcullis::leaf;
use portcullis_integration::environment::PebbleSettings;
use portcullis_integration::environment::chain as causes;

use crate::support::Scene;
use crate::support::go_on;
use crate::support::issue;
use crate::support::journal;
use crate::support::request;
use crate::support::step;
use crate::support::until_free;

#[tokio::test]
async fn a_chain_is_issued_for_every_name() {
    let scene = Scene::new().await;
    let acme = scene.acme(scene.settings());
    let wanted = request(&["a.acme.example", "b.acme.example", "127.0.0.1"]);
    let (chain, order) = issue(&acme, &wanted, None).await.unwrap_or_else(|error| panic!("{}", causes(&error)));
    scene.verify(0, &chain, &wanted).await;
    assert!(order.url().is_some_and(|url| url.starts_with("https://")));
    assert!(acme.clock_offset().is_some_and(|offset| offset.abs() < 60), "{:?}", acme.clock_offset());
    // Nobody listens any more.
    until_free(scene.pebble.http()).await;
}

#[tokio::test]
async fn one_account_serves_all_orders_and_every_restart() {
    let scene = Scene::new().await;
    let acme = Arc::new(scene.acme(scene.settings()));
    let orders = ["a", "b", "c"].map(|name| {
        let acme = Arc::clone(&acme);
        tokio::spawn(async move {
            let wanted = request(&[&format!("{name}.acme.example")]);
            issue(&acme, &wanted, None).await.map(|(chain, _)| (wanted, chain))
        })
    });
    for order in orders {
        let (wanted, chain) = order.await.unwrap().unwrap_or_else(|error| panic!("{}", causes(&error)));
        scene.verify(0, &chain, &wanted).await;
    }
    drop(acme);
    // As after a restart, with another contact.
    let contact = vec!["mailto:somebody@acme.example".to_owned()];
    let acme = scene.acme(Settings { contact, ..scene.settings() });
    issue(&acme, &request(&["d.acme.example"]), None).await.unwrap();
    assert_eq!(scene.pebble.accounts(), 1, "{}", scene.pebble.log());
}

#[tokio::test]
async fn an_order_that_was_cut_off_is_gone_on_with_and_never_made_again() {
    let scene = Scene::new().await;
    let wanted = request(&["a.acme.example"]);
    let noted = journal(&scene.acme(scene.settings()), &wanted, &AcmeOrder::default()).await;

    // Killed while nothing was validated.
    let (chain, order) = go_on(&scene.acme(scene.settings()), &wanted, noted.clone(), None).await.unwrap();
    scene.verify(0, &chain, &wanted).await;
    assert_eq!(order, noted, "nothing more was to be written down");

    // Killed after the certificate was issued, and before anybody heard of it: downloaded, with nobody listening.
    let occupied = TcpListener::bind(scene.pebble.http()).unwrap();
    let (again, _) = go_on(&scene.acme(scene.settings()), &wanted, noted, None).await.unwrap();
    assert_eq!(again, chain);
    drop(occupied);
    assert_eq!((scene.pebble.orders(), scene.pebble.issued()), (1, 1));
}

#[tokio::test]
async fn an_order_whose_answer_was_lost_is_found_in_the_list_of_the_ca() {
    let scene = Scene::new().await;
    // Others before and after it, more than one part of the list has.
    let orders = ["a", "b", "c", "d", "e"].map(|name| request(&[&format!("{name}.acme.example")]));
    let wanted = request(&["lost.acme.example", "also.acme.example"]);
    let asked = step(&scene.acme(scene.settings()), &wanted, &AcmeOrder::default()).await;
    assert_eq!((asked.url(), scene.pebble.orders()), (None, 0), "written down before anything is sent");
    for order in &orders[..2] {
        journal(&scene.acme(scene.settings()), order, &AcmeOrder::default()).await;
    }
    // Killed when the CA had answered, and before that was written down.
    let lost = step(&scene.acme(scene.settings()), &wanted, &asked).await;
    for order in &orders[2..] {
        journal(&scene.acme(scene.settings()), order, &AcmeOrder::default()).await;
    }
    let acme = scene.acme(scene.settings());
    let found = step(&acme, &wanted, &asked).await;
    assert_eq!((found.url(), scene.pebble.orders()), (lost.url(), 6), "{}", scene.pebble.log());
    let (chain, _) = go_on(&acme, &wanted, found, None).await.unwrap_or_else(|error| panic!("{}", causes(&error)));
    scene.verify(0, &chain, &wanted).await;
    // One that is finalized is not somebody else's.
    let again = step(&scene.acme(scene.settings()), &wanted, &asked).await;
    assert_ne!(again.url(), lost.url());
}

#[tokio::test]
async fn an_order_that_was_written_down_is_nobody_elses_with_the_same_names() {
    let scene = Scene::new().await;
    // Two certificates for the same names, each with a key of its own.
    let [first, second] = [request(&["a.acme.example"]), request(&["a.acme.example"])];
    let asked = step(&scene.acme(scene.settings()), &second, &AcmeOrder::default()).await;
    let made = journal(&scene.acme(scene.settings()), &first, &AcmeOrder::default()).await;
    // After a restart, the answer to the second one was lost and the first one's is in the journal.
    let acme = scene.acme(scene.settings());
    acme.remember(&made);
    let own = step(&acme, &second, &asked).await;
    assert!(own.url().is_some() && own.url() != made.url(), "{own:?}");
    for (request, order) in [(&first, made), (&second, own)] {
        let (chain, _) = go_on(&acme, request, order, None).await.unwrap_or_else(|error| panic!("{}", causes(&error)));
        scene.verify(0, &chain, request).await;
    }
    assert_eq!(scene.pebble.orders(), 2);
}

#[tokio::test]
async fn an_order_that_is_found_belongs_to_one_of_two_who_look_for_it() {
    let scene = Scene::new().await;
    let [first, second] = [request(&["a.acme.example"]), request(&["a.acme.example"])];
    let asked = [
        step(&scene.acme(scene.settings()), &first, &AcmeOrder::default()).await,
        step(&scene.acme(scene.settings()), &second, &AcmeOrder::default()).await,
    ];
    let lost = step(&scene.acme(scene.settings()), &first, &asked[0]).await;
    let acme = scene.acme(scene.settings());
    let (one, other) = tokio::join!(step(&acme, &first, &asked[0]), step(&acme, &second, &asked[1]));
    assert_ne!(one.url(), other.url());
    let found = [&one, &other].iter().filter(|order| order.url() == lost.url()).count();
    assert_eq!((found, scene.pebble.orders()), (1, 2));
}

/// Every state in which a kill can leave an order: the step is dropped wherever it just waits, and taken again.
#[tokio::test]
async fn a_step_that_is_dropped_anywhere_is_taken_again() {
    let scene = Scene::new().await;
    let wanted = request(&["a.acme.example"]);
    let mut order = AcmeOrder::default();
    let mut polls = 0;
    let chain = loop {
        // A new process each time: nothing is remembered but the store and what was written down.
        let acme = scene.acme(Settings { limits: plenty(), ..scene.settings() });
        polls += 1;
        match after_polls(polls, acme.advance(&wanted, &order, None)).await {
            None => {}
            Some(Ok(Progress::Journal(noted))) => order = noted,
            Some(Ok(Progress::Issued(chain))) => break chain,
            Some(Err(error)) if !error.is_final() => {}
            // A CA that came to validate while nobody was there: the order is over, and another is made.
            Some(Err(_)) => order = AcmeOrder::default(),
        }
        assert!(polls < 2_000, "no end");
    };
    scene.verify(0, &chain, &wanted).await;
    assert_eq!(scene.pebble.issued(), 1, "{}", scene.pebble.log());
}

/// What comes of a future that is asked so many times, and then dropped.
async fn after_polls<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 {
            return std::task::Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

#[tokio::test]
async fn a_port_that_is_taken_is_found_out_before_anything_is_sent() {
    let scene = Scene::new().await;
    let occupied = TcpListener::bind(scene.pebble.http()).unwrap();
    let acme = scene.acme(scene.settings());
    let wanted = request(&["a.acme.example"]);
    let error = issue(&acme, &wanted, None).await.expect_err("nobody can listen");
    assert!(matches!(error, AcmeError::Listen { address, .. } if address == scene.pebble.http()), "{error:?}");
    assert_eq!((scene.pebble.accounts(), scene.pebble.orders()), (0, 0));
    drop(occupied);
    issue(&acme, &wanted, None).await.unwrap();
}

#[tokio::test]
async fn a_name_that_cannot_be_proven_is_said_in_the_words_of_the_ca_and_not_tried_for_ever() {
    let scene = Scene::new().await;
    scene.pebble.dns().forget_address("gone.acme.example").await.unwrap();
    let limits = Limits { failures: 2, ..Limits::default() };
    let acme = scene.acme(Settings { limits, ..scene.settings() });
    let wanted = request(&["here.acme.example", "gone.acme.example"]);
    for _ in 0..2 {
        let error = issue(&acme, &wanted, None).await.expect_err("one name is gone");
        assert!(error.is_final(), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("`gone.acme.example`: "), "{text}");
        assert!(!text.contains("here.acme.example"), "{text}");
    }
    // Refused here, also after a restart.
    let acme = scene.acme(Settings { limits, ..scene.settings() });
    let error = issue(&acme, &wanted, None).await.expect_err("too many failures");
    let now = leaf::now();
    let until = error.retry_after().expect("a time");
    assert!(until > now && until.0 <= now.0 + limits.failures_within, "{error}");
    assert!(!error.is_final(), "{error}");
    assert_eq!(scene.pebble.orders(), 2);
    until_free(scene.pebble.http()).await;
}

#[tokio::test]
async fn certificates_of_a_set_of_names_are_not_asked_for_beyond_the_limit() {
    let scene = Scene::new().await;
    let limits = Limits { certificates: 2, ..Limits::default() };
    let acme = scene.acme(Settings { limits, ..scene.settings() });
    for _ in 0..2 {
        issue(&acme, &request(&["a.acme.example", "b.acme.example"]), None).await.unwrap();
    }
    let acme = scene.acme(Settings { limits, ..scene.settings() });
    // The same in another order.
    let error = issue(&acme, &request(&["b.acme.example", "a.acme.example"]), None).await.expect_err("enough");
    assert!(matches!(error, AcmeError::Budget { count: 2, .. }), "{error:?}");
    assert!(error.retry_after().is_some_and(|until| until.0 > leaf::now().0 + 6 * 86_400), "{error}");
    issue(&acme, &request(&["a.acme.example"]), None).await.expect("another set");
    assert_eq!(scene.pebble.orders(), 3);
}

#[tokio::test]
async fn an_account_that_the_ca_lost_is_made_again() {
    let before = Scene::new().await;
    issue(&before.acme(before.settings()), &request(&["a.acme.example"]), None).await.unwrap();
    let scene = Scene::new().await;
    // The same CA, which forgot everything, at another port: the record says so.
    let record = before.store.read("acme/ca/account").unwrap().unwrap();
    let record = String::from_utf8(record.value.to_vec()).unwrap();
    let record = record.replace(&before.pebble.origin(), &scene.pebble.origin());
    assert!(record.contains(&scene.pebble.directory()), "the record names its CA");
    scene.store.swap("acme/ca/account", None, record.as_bytes(), &[]).unwrap();
    let acme = scene.acme(scene.settings());
    let wanted = request(&["a.acme.example"]);
    let (chain, _) = issue(&acme, &wanted, None).await.unwrap_or_else(|error| panic!("{}", causes(&error)));
    scene.verify(0, &chain, &wanted).await;
    let former = scene.store.read("acme/ca/account/former").unwrap().expect("kept aside");
    assert_eq!(former.value.as_slice(), record.as_bytes());
}

#[tokio::test]
async fn an_order_that_the_ca_lost_is_over() {
    let before = Scene::new().await;
    let wanted = request(&["a.acme.example"]);
    let noted = journal(&before.acme(before.settings()), &wanted, &AcmeOrder::default()).await;
    let scene = Scene::new().await;
    let url = noted.url().unwrap().replace(&before.pebble.origin(), &scene.pebble.origin());
    let noted: AcmeOrder = serde_json::from_value(serde_json::json!({ "url": url })).unwrap();
    let error = go_on(&scene.acme(scene.settings()), &wanted, noted, None).await.expect_err("no such order");
    assert!(matches!(error, AcmeError::Gone { .. }) && error.is_final(), "{error:?}");
}

#[tokio::test]
async fn an_account_can_be_bound_to_one_elsewhere() {
    const KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let external_account = Some(("kid-1", KEY));
    let scene = Scene::with(&PebbleSettings { external_account, ..PebbleSettings::default() }).await;
    let wanted = request(&["a.acme.example"]);
    let error = issue(&scene.acme(scene.settings()), &wanted, None).await.expect_err("not bound");
    assert!(error.to_string().contains("externalAccountRequired"), "{error}");

    let other = ExternalAccount::new("kid-1".to_owned(), "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0").unwrap();
    let error = issue(&scene.acme(Settings { external_account: Some(other), ..scene.settings() }), &wanted, None).await;
    let error = error.expect_err("bound with another key");
    assert!(!causes(&error).contains("c2VjcmV0"), "{error}");

    let account = ExternalAccount::new("kid-1".to_owned(), KEY).unwrap();
    let acme = scene.acme(Settings { external_account: Some(account), ..scene.settings() });
    let (chain, _) = issue(&acme, &wanted, None).await.unwrap_or_else(|error| panic!("{}", causes(&error)));
    scene.verify(0, &chain, &wanted).await;
}

#[tokio::test]
async fn a_profile_is_asked_for_and_one_that_is_not_there_is_not() {
    let scene = Scene::new().await;
    let wanted = request(&["a.acme.example"]);
    for (profile, days) in [("default", 90), ("shortlived", 6)] {
        let acme = scene.acme(Settings { profile: Some(profile.to_owned()), ..scene.settings() });
        let (chain, _) = issue(&acme, &wanted, None).await.unwrap();
        let leaf = leaf::Leaf::from_der(&leaf::chain(&chain).unwrap()[0]).unwrap();
        assert_eq!((leaf.validity.lifetime() + 3_600) / 86_400, days, "{profile}");
    }
    let acme: Acme = scene.acme(Settings { profile: Some("tlsclient".to_owned()), ..scene.settings() });
    let error = issue(&acme, &wanted, None).await.expect_err("no such profile");
    assert!(error.to_string().contains("no profile `tlsclient`; it offers default, shortlived"), "{error}");
    assert_eq!(scene.pebble.orders(), 2);
}

#[tokio::test]
async fn the_chain_to_the_preferred_root_is_taken() {
    let scene = Scene::with(&PebbleSettings { alternate_roots: 2, ..PebbleSettings::default() }).await;
    let wanted = request(&["a.acme.example"]);
    for root in 0..3 {
        let name = common_name(&scene.pebble.root(root).await.unwrap());
        let acme = scene.acme(Settings { preferred_chain: Some(name), limits: plenty(), ..scene.settings() });
        let (chain, _) = issue(&acme, &wanted, None).await.unwrap_or_else(|error| panic!("{}", causes(&error)));
        scene.verify(root, &chain, &wanted).await;
    }
    let nobody = Some("Nobody's root".to_owned());
    let acme = scene.acme(Settings { preferred_chain: nobody, limits: plenty(), ..scene.settings() });
    let (chain, _) = issue(&acme, &wanted, None).await.unwrap();
    scene.verify(0, &chain, &wanted).await;
}

fn plenty() -> Limits {
    Limits { certificates: 1_000, failures: 1_000, ..Limits::default() }
}

fn common_name(der: &[u8]) -> String {
    use x509_parser::prelude::FromDer as _;

    let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(der).unwrap();
    certificate.subject().iter_common_name().next().unwrap().as_str().unwrap().to_owned()
}
