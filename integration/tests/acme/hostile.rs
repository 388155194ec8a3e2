//! CAs that are overloaded, slow, broken or full of words: every answer leads to an error that says what to do, and none to a
//! hang, a panic or a storm.

use std::net::Ipv6Addr;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use portcullis::issuer::Progress;
use portcullis::issuer::acme::Acme;
use portcullis::issuer::acme::AcmeError;
use portcullis::issuer::acme::AcmeOrder;
use portcullis::issuer::acme::Challenge;
use portcullis::issuer::acme::Directory;
use portcullis::issuer::acme::Patience;
use portcullis::issuer::acme::RenewalProblem;
use portcullis::issuer::acme::Settings;
use portcullis::leaf;
use portcullis_integration::certificates::Authority;
use portcullis_integration::environment::PebbleSettings;
use portcullis_integration::environment::chain as causes;
use portcullis_integration::environment::free_port;
use serde_json::Value;
use serde_json::json;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::prelude::FromDer as _;

use crate::fake::Fake;
use crate::fake::Reply;
use crate::support::Scene;
use crate::support::install_provider;
use crate::support::issue;
use crate::support::request;
use crate::support::step;
use crate::support::store;

#[tokio::test]
async fn refused_nonces_are_asked_for_again_and_a_ca_that_is_slow_is_waited_for() {
    let settings = PebbleSettings { bad_nonces: 60, retry_after: Some(1), ..PebbleSettings::default() };
    let scene = Scene::with(&settings).await;
    let wanted = request(&["a.acme.example", "b.acme.example"]);
    let (chain, _) =
        issue(&scene.acme(scene.settings()), &wanted, None).await.unwrap_or_else(|error| panic!("{}", causes(&error)));
    scene.verify(0, &chain, &wanted).await;
    assert_eq!((scene.pebble.accounts(), scene.pebble.orders()), (1, 1));
}

#[tokio::test]
async fn an_overloaded_ca_is_left_alone_by_everybody_until_it_said_also_after_a_restart() {
    let (store, _directory) = store();
    let fake = Fake::start().await;
    fake.say(
        "/dir",
        Reply { status: 503, body: b"<html>later".to_vec(), ..Reply::default() }.with("Retry-After", "3600"),
    );
    let before = leaf::now();
    let error = refused(&fake.acme(&store), &["a.acme.example"]).await;
    assert!(matches!(error, AcmeError::Busy { .. }), "{error:?}");
    let until = error.retry_after().expect("a time");
    assert!((before.0 + 3_600..=leaf::now().0 + 3_600).contains(&until.0), "{until:?}");
    let asked = fake.asked_in_all();
    let error = refused(&fake.acme(&store), &["b.acme.example"]).await;
    assert!(matches!(error, AcmeError::Waiting { .. }) && error.retry_after() == Some(until), "{error:?}");
    assert_eq!(fake.asked_in_all(), asked, "it was left alone");
}

#[tokio::test]
async fn a_limit_is_one_of_its_names_only() {
    let (store, _directory) = store();
    let fake = Fake::start().await;
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    let limited = Reply::problem(429, "rateLimited", "too many certificates (5) already issued for this exact set");
    fake.say("/order", limited.with("Date", date).with("Retry-After", "Sun, 06 Nov 1994 09:49:37 GMT"));
    let before = leaf::now();
    let error = refused(&fake.acme(&store), &["a.acme.example"]).await;
    assert!(matches!(error, AcmeError::RateLimited { .. }), "{error:?}");
    assert!(error.to_string().contains("this exact set"), "{error}");
    let until = error.retry_after().expect("a time");
    assert!((before.0 + 3_600..=leaf::now().0 + 3_600).contains(&until.0), "{until:?}");

    let error = refused(&fake.acme(&store), &["a.acme.example"]).await;
    assert!(matches!(error, AcmeError::Waiting { .. }), "{error:?}");
    assert_eq!(fake.asked("/order").len(), 1);
    let error = refused(&fake.acme(&store), &["b.acme.example"]).await;
    assert!(matches!(error, AcmeError::RateLimited { .. }), "{error:?}");
    assert_eq!(fake.asked("/order").len(), 2);
    assert_eq!(fake.asked("/account").len(), 1);
}

#[tokio::test]
async fn a_paused_account_and_new_terms_are_shown_with_their_links() {
    let (store, _directory) = store();
    let fake = Fake::start().await;
    let link = "https://ca.example/sfe/v1/unpause?jwt=aaa.bbb.ccc";
    let words = format!("Your account is temporarily prevented from requesting certificates. Please visit: {link}");
    fake.say("/order", Reply::problem(429, "rateLimited", &words));
    let error = refused(&fake.acme(&store), &["a.acme.example"]).await;
    assert!(matches!(error, AcmeError::Paused { .. }), "{error:?}");
    assert!(error.to_string().contains(link), "{error}");

    let terms = json!({
        "type": "urn:ietf:params:acme:error:userActionRequired",
        "detail": "Terms of service have changed",
        "instance": "https://ca.example/terms?token=1",
    });
    fake.say("/order", Reply::json(403, &terms));
    let error = refused(&fake.acme(&store), &["a.acme.example"]).await;
    assert!(matches!(error, AcmeError::ActionRequired { .. }), "{error:?}");
    assert!(error.to_string().contains("https://ca.example/terms?token=1"), "{error}");
}

#[tokio::test]
async fn an_operator_overrides_a_wait_and_not_a_pause() {
    let (store, _directory) = store();
    let fake = Fake::start().await;
    let acme = fake.acme(&store);
    let wanted = request(&["a.acme.example"]);
    fake.say("/order", Reply::problem(429, "rateLimited", "too many").with("Retry-After", "600"));
    assert!(matches!(refused(&acme, &["a.acme.example"]).await, AcmeError::RateLimited { .. }));
    assert!(matches!(refused(&acme, &["a.acme.example"]).await, AcmeError::Waiting { .. }));
    assert_eq!(fake.asked("/order").len(), 1);
    acme.override_wait(&wanted.names).await.expect("an operator may");
    assert!(matches!(refused(&acme, &["a.acme.example"]).await, AcmeError::RateLimited { .. }));
    assert_eq!(fake.asked("/order").len(), 2);

    let words = "Your account is temporarily prevented from requesting certificates: https://ca.example/unpause";
    fake.say("/order", Reply::problem(429, "rateLimited", words));
    acme.override_wait(&wanted.names).await.expect("not paused yet");
    assert!(matches!(refused(&acme, &["a.acme.example"]).await, AcmeError::Paused { .. }));
    // Also after a restart.
    let error = fake.acme(&store).override_wait(&wanted.names).await.expect_err("paused");
    assert!(matches!(&error, AcmeError::Paused { detail, .. } if detail.contains("unpause")), "{error}");
    acme.override_wait(&request(&["b.acme.example"]).names).await.expect("it is paused for others");
    // Somebody said at the CA's that it should go on: asking as always finds that out.
    fake.say("/order", Reply::json(201, &fake.order("pending")).with("Location", fake.url("/order/1")));
    let asked = step(&acme, &wanted, &AcmeOrder::default()).await;
    step(&acme, &wanted, &asked).await;
    acme.override_wait(&wanted.names).await.expect("not any more");
}

#[tokio::test]
async fn a_server_that_stays_silent_is_not_waited_for() {
    let (store, _directory) = store();
    let fake = Fake::start().await;
    fake.say("/order", Reply { silent: true, ..Reply::default() });
    let error = refused(&fake.acme(&store), &["a.acme.example"]).await;
    assert!(matches!(error, AcmeError::Network { .. }), "{error:?}");
    assert!(causes(&error).contains("took too long"), "{}", causes(&error));
    // The next attempt is not held up by the connection that hangs.
    fake.say("/order", Reply::problem(400, "malformed", "heard"));
    let error = refused(&fake.acme(&store), &["a.acme.example"]).await;
    assert!(error.to_string().contains("heard"), "{error}");

    // One that says a byte now and then, of an answer that never ends.
    let drips = Reply { status: 201, body: vec![b' '; 3_600], slow: true, ..Reply::default() };
    fake.say("/order", drips.with("Content-Length", "3600"));
    let error = refused(&fake.acme(&store), &["a.acme.example"]).await;
    assert!(causes(&error).contains("took too long"), "{}", causes(&error));

    // One that does not even begin TLS.
    install_provider();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = Directory::parse(&format!("https://{}/dir", silent.local_addr().unwrap())).unwrap();
    let patience = Patience { connect: Duration::from_millis(200), ..Patience::default() };
    let challenge = Challenge::dns_hook(vec!["/bin/false".to_owned()]).unwrap();
    let settings = Settings { patience, ..Settings::new(directory, challenge) };
    let acme = Acme::new("silent".to_owned(), settings, store).unwrap();
    let error = refused(&acme, &["a.acme.example"]).await;
    assert!(matches!(error, AcmeError::Network { .. }), "{error:?}");
}

#[tokio::test]
async fn answers_that_are_none_are_errors_of_one_line() {
    let (store, _directory) = store();
    let fake = Fake::start().await;
    let endless = vec![b'x'; 10 << 20];
    for (name, place, reply, want) in [
        (
            "a directory without end",
            "/dir",
            Reply { status: 200, body: endless.clone(), ..Reply::default() },
            "more than 1048576 bytes",
        ),
        (
            "a directory of words",
            "/dir",
            Reply { status: 200, body: b"{\"newNonce\": [".to_vec(), ..Reply::default() },
            "not ACME",
        ),
        ("a directory of nothing", "/dir", Reply::json(200, &json!({})), "not ACME"),
        (
            "a redirect",
            "/dir",
            Reply { status: 302, ..Reply::default() }.with("Location", "https://127.0.0.1:1/"),
            "answered 302",
        ),
        (
            "an error of something in between",
            "/dir",
            Reply { status: 502, body: b"<html>".to_vec(), ..Reply::default() },
            "answered 502",
        ),
    ] {
        let fake = Fake::start().await;
        fake.say(place, reply);
        let error = refused(&fake.acme(&store), &["a.acme.example"]).await;
        let text = causes(&error);
        assert!(text.contains(want), "{name}: {text}");
        assert!(!text.contains('\n') && text.len() < 3_000, "{name}: {text}");
        assert!(!error.is_final() && error.retry_after().is_none(), "{name}: {error:?}");
    }
    for (name, reply, want) in [
        ("an order without end", Reply { status: 201, body: endless, ..Reply::default() }, "more than 1048576 bytes"),
        ("an order of words", Reply { status: 201, body: b"made".to_vec(), ..Reply::default() }, "not ACME"),
        ("an order nowhere", Reply::json(201, &fake.order("pending")), "not ACME"),
        ("a refusal in no words", Reply::json(400, &json!({})), "answered 400"),
        ("a name that is refused", rejected(), "`a.acme.example`: not ours (rejectedIdentifier)"),
    ] {
        fake.say("/order", reply);
        let error = refused(&fake.acme(&store), &["a.acme.example"]).await;
        assert!(causes(&error).contains(want), "{name}: {}", causes(&error));
        assert!(!error.is_final(), "{name}: {error:?}");
    }
}

#[tokio::test]
async fn chains_that_are_none_are_not_taken() {
    let (store, _directory) = store();
    let fake = Fake::start().await;
    fake.say("/order/1", Reply::json(200, &fake.order("valid")));
    let noted: AcmeOrder = serde_json::from_value(json!({ "url": fake.url("/order/1") })).unwrap();
    let wanted = request(&["a.acme.example"]);
    for (name, body) in [
        ("nothing", Vec::new()),
        ("a page", b"<html>your certificate".to_vec()),
        ("no text", vec![0xff, 0xfe]),
        ("no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec()),
    ] {
        fake.say("/certificate", Reply { status: 200, body, ..Reply::default() });
        let error = fake.acme(&store).advance(&wanted, &noted, None).await.expect_err(name);
        assert!(matches!(error, AcmeError::Chain { .. } | AcmeError::Answer { .. }), "{name}: {error:?}");
    }
    // Not even parsed: of a chain that is good as far as it goes, or of nothing but its own root.
    let endless = replaced().repeat(10 * 1024 * 1024 / replaced().len());
    fake.say("/certificate", Reply { status: 200, body: endless.into_bytes(), ..Reply::default() });
    let error = fake.acme(&store).advance(&wanted, &noted, None).await.expect_err("without end");
    assert!(matches!(error, AcmeError::Network { .. }), "{error:?}");
    assert!(causes(&error).contains("more than 1048576 bytes") && !error.is_final(), "{}", causes(&error));
    fake.say("/certificate", Reply::problem(404, "malformed", "expired"));
    let error = fake.acme(&store).advance(&wanted, &noted, None).await.expect_err("gone");
    assert!(matches!(error, AcmeError::Gone { .. }) && error.is_final(), "{error:?}");
}

#[tokio::test]
async fn an_order_that_never_ends_is_left_and_found_again() {
    let (store, _directory) = store();
    let fake = Fake::start().await;
    let noted: AcmeOrder = serde_json::from_value(json!({ "url": fake.url("/order/1") })).unwrap();
    let wanted = request(&["a.acme.example"]);
    fake.say("/order/1", Reply::json(200, &fake.order("processing")).with("Retry-After", "600"));
    let error = fake.acme(&store).advance(&wanted, &noted, None).await.expect_err("later");
    assert!(matches!(error, AcmeError::Unfinished { .. }) && !error.is_final(), "{error:?}");
    assert!(error.retry_after().is_some_and(|until| until.0 > leaf::now().0 + 500), "{error}");
    // Nor does one that is ready however often it is finalized.
    fake.say("/order/1", Reply::json(200, &fake.order("ready")));
    fake.say("/finalize", Reply::json(200, &fake.order("ready")));
    let error = fake.acme(&store).advance(&wanted, &noted, None).await.expect_err("later");
    assert!(matches!(error, AcmeError::Unfinished { .. }), "{error:?}");
    assert_eq!(fake.asked("/finalize").len(), 1);
    // A key that the CA does not like is the end of the order.
    fake.say("/finalize", Reply::problem(400, "badCSR", "the key is weak"));
    let error = fake.acme(&store).advance(&wanted, &noted, None).await.expect_err("over");
    assert!(error.is_final() && error.to_string().contains("the key is weak"), "{error:?}");
    // And so is one of which the CA says nothing but that it is over.
    let mut over = fake.order("invalid");
    over["error"] = json!({ "type": "urn:ietf:params:acme:error:caa", "detail": "CAA record forbids" });
    fake.say("/order/1", Reply::json(200, &over));
    let error = fake.acme(&store).advance(&wanted, &noted, None).await.expect_err("over");
    assert!(error.is_final() && error.to_string().contains("`a.acme.example`: CAA record forbids (caa)"), "{error}");
}

#[tokio::test]
async fn orders_that_end_without_a_certificate_do_not_use_up_the_certificates() {
    let (store, _directory) = store();
    let fake = Fake::start().await;
    fake.say("/finalize", Reply::problem(400, "badCSR", "the key is weak"));
    for number in 0..7 {
        let made = Reply::json(201, &fake.order("ready"));
        fake.say("/order", made.with("Location", fake.url(&format!("/order/{number}"))));
        let error = issue(&fake.acme(&store), &request(&["a.acme.example"]), None).await.expect_err("a weak key");
        assert!(error.is_final() && matches!(error, AcmeError::Refused { .. }), "{number}: {error:?}");
    }
    assert_eq!(fake.asked("/finalize").len(), 7);
}

#[tokio::test]
async fn a_request_asks_for_names_and_nothing_else() {
    let (store, _directory) = store();
    let fake = Fake::start().await;
    let made = Reply::json(201, &fake.order("ready")).with("Location", fake.url("/order/1"));
    fake.say("/order", made);
    fake.say("/order/1", Reply::json(200, &fake.order("ready")));
    fake.say("/finalize", Reply::problem(403, "badCSR", "no"));
    issue(&fake.acme(&store), &request(&["a.acme.example", "127.0.0.1"]), None).await.expect_err("refused");
    let asked = fake.asked("/finalize").first().expect("finalized").payload["csr"].clone();
    let der = BASE64_URL_SAFE_NO_PAD.decode(asked.as_str().expect("a request")).expect("base64url");
    let (_, request) = X509CertificationRequest::from_der(&der).expect("a request");
    let asked: Vec<String> = request
        .certification_request_info
        .iter_attributes()
        .filter_map(|attribute| match attribute.parsed_attribute() {
            ParsedCriAttribute::ExtensionRequest(asked) => Some(&asked.extensions),
            _ => None,
        })
        .flatten()
        .map(|extension| extension.oid.to_id_string())
        .collect();
    // subjectAltName: above all no `status_request` (RFC 7633), which CAs without OCSP refuse, or worse, do not.
    assert_eq!(asked, ["2.5.29.17"]);
}

#[tokio::test]
async fn a_ca_that_is_reached_over_ipv6_alone_is_as_good() {
    let (store, _directory) = store();
    let fake = Fake::start_at(Ipv6Addr::LOCALHOST.into()).await;
    fake.say("/order", Reply::problem(400, "malformed", "heard"));
    let error = refused(&fake.acme(&store), &["a.acme.example"]).await;
    assert!(error.to_string().contains("heard"), "{}", causes(&error));
}

#[tokio::test]
async fn a_ca_that_is_not_found_or_not_believed_is_named_with_what_to_look_at() {
    let (store, _directory) = store();
    let fake = Fake::start().await;
    let acme = |directory: &str, ca_pem: &str| {
        let challenge = Challenge::Http01 { listen: free_port().unwrap() };
        let settings = Settings::new(Directory::parse(directory).unwrap(), challenge).trusting(ca_pem).unwrap();
        Acme::new("ca".to_owned(), settings, Arc::clone(&store)).unwrap()
    };
    let other = Authority::new("somebody else's TLS").pem();
    for (directory, host, remedy) in [
        (fake.url("/dir"), "`127.0.0.1`", "`server_ca` is its CA"),
        ("https://ca.invalid/dir".to_owned(), "`ca.invalid`", "the machine's DNS answers"),
    ] {
        let error = refused(&acme(&directory, &other), &["a.acme.example"]).await;
        let said = causes(&error);
        assert!(matches!(error, AcmeError::Network { .. }) && said.contains(host) && said.contains(remedy), "{said}");
        assert!(!error.is_final(), "it is tried again: {said}");
    }
    assert!(fake.connections() > 0 && fake.asked_in_all() == 0, "nothing was asked for, and no order is spent");
    let error =
        refused(&acme(&fake.url("/dir").replace("127.0.0.1", "localhost"), fake.ca_pem()), &["b.example"]).await;
    assert!(causes(&error).contains("`directory` has its name"), "{}", causes(&error));
}

#[tokio::test]
async fn a_replacement_is_left_out_once_where_the_ca_does_not_like_it() {
    let (store, _directory) = store();
    let fake = Fake::start().await;
    let replaced = replaced();
    fake.say("/order", Reply::problem(409, "alreadyReplaced", "somebody was faster"));
    let wanted = request(&["a.acme.example"]);
    let error = issue(&fake.acme(&store), &wanted, Some(&replaced)).await.expect_err("both");
    assert!(error.to_string().contains("somebody was faster"), "{error}");
    let said: Vec<bool> = fake.asked("/order").iter().map(|asked| asked.payload.get("replaces").is_some()).collect();
    assert_eq!(said, [true, false]);

    // A CA that makes the order, and says nothing of the replacement: it is one order.
    let made = Reply::json(201, &fake.order("pending")).with("Location", fake.url("/order/7"));
    fake.say("/order", made);
    let acme = fake.acme(&store);
    let asked = step(&acme, &wanted, &AcmeOrder::default()).await;
    let Ok(Progress::Journal(noted)) = acme.advance(&wanted, &asked, Some(&replaced)).await else {
        panic!("the order was made");
    };
    assert_eq!((noted.url(), noted.replaces()), (Some(fake.url("/order/7").as_str()), None));
    assert_eq!(fake.asked("/order").len(), 3);
}

#[tokio::test]
async fn a_ca_that_does_not_say_when_to_renew_is_no_failure_and_one_that_says_half_of_it_is() {
    let (store, _directory) = store();
    let fake = Fake::start().await;
    let replaced = replaced();
    let window = json!({ "suggestedWindow": { "start": "2030-01-01T00:00:00Z", "end": "2030-01-02T00:00:00Z" } });
    for (name, reply, want) in [
        ("no time to ask again", Reply::json(200, &window), Some(RenewalProblem::NoRetryAfter)),
        ("unknown", Reply { status: 404, ..Reply::default() }, Some(RenewalProblem::UnknownCertificate)),
        ("overloaded", Reply { status: 503, ..Reply::default() }, None),
        ("broken", Reply { status: 500, ..Reply::default() }, None),
    ] {
        fake.say("/renewal", reply);
        let error = fake.acme(&store).renewal_info(&replaced).await.expect_err(name);
        match (&error, want) {
            (AcmeError::RenewalInfo { why, .. }, Some(want)) => assert_eq!(*why, want, "{name}"),
            (AcmeError::Busy { .. } | AcmeError::Status { .. }, None) => {}
            _ => panic!("{name}: {error:?}"),
        }
    }
    fake.say("/renewal", Reply::json(200, &window).with("Retry-After", "10"));
    let said = fake.acme(&store).renewal_info(&replaced).await.unwrap().expect("a window");
    assert!(said.ask_again.0 >= leaf::now().0 + 55, "not every ten seconds: {said:?}");
    let url = |path: &str| fake.url(path);
    let plain = json!({ "newNonce": url("/nonce"), "newAccount": url("/account"), "newOrder": url("/order") });
    fake.say("/dir", Reply::json(200, &plain));
    assert_eq!(fake.acme(&store).renewal_info(&replaced).await.unwrap(), None);
}

async fn refused(acme: &Acme, names: &[&str]) -> AcmeError {
    match issue(acme, &request(names), None).await {
        Ok(_) => panic!("not refused"),
        Err(error) => error,
    }
}

fn rejected() -> Reply {
    let part: Value = json!({
        "type": "urn:ietf:params:acme:error:rejectedIdentifier",
        "detail": "not ours",
        "identifier": { "type": "dns", "value": "a.acme.example" },
    });
    let whole = json!({
        "type": "urn:ietf:params:acme:error:compound",
        "detail": "some names were rejected",
        "subproblems": [part],
    });
    Reply::json(403, &whole)
}

/// A chain of a CA that names the keys of its issuers.
fn replaced() -> String {
    Authority::new("another").leaf().dns("a.acme.example").issue().pem()
}
