//! Tokens of an authorization server.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;
use portcullis::credential::source::ClientAuth;
use portcullis::credential::source::Grant;
use portcullis::credential::source::OauthSettings;
use portcullis::credential::source::Obtained;
use portcullis::credential::source::Settings;
use portcullis::credential::source::Source;
use portcullis::credential::source::SourceError;
use portcullis_integration::environment::OauthServer;
use portcullis_integration::environment::chain;
use portcullis_integration::environment::free_port;
use portcullis_integration::environment::oauth_server::Mood;
use portcullis_integration::environment::oauth_server::Shows;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::KeyPair;
use rcgen::PKCS_ECDSA_P256_SHA256;
use rcgen::PKCS_ECDSA_P384_SHA384;
use rcgen::PKCS_ED25519;
use rcgen::PublicKeyData as _;
use rustls::pki_types::CertificateDer;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

use super::support::FIRST;
use super::support::LIMIT;
use super::support::SHORT;
use super::support::file;

struct Started {
    server: OauthServer,
    settings: OauthSettings,
    directory: TempDir,
}

/// A server, and a client that shows the secret [`FIRST`] in a header.
async fn started() -> Started {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = OauthServer::start(Shows::Basic(FIRST.to_owned())).await;
    let server = server.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let directory = tempfile::tempdir().expect("a directory");
    let settings = OauthSettings {
        token_endpoint: server.token_endpoint().parse().expect("a URL"),
        roots: Some(vec![CertificateDer::from(server.authority().der().to_vec())]),
        grant: Grant::ClientCredentials,
        client: ClientAuth::Basic { id: "shop".to_owned(), secret: file(directory.path(), "secret", FIRST) },
        scope: None,
        audience: Vec::new(),
        resource: Vec::new(),
        timeout: LIMIT,
    };
    Started { server, settings, directory }
}

async fn obtain(settings: &OauthSettings) -> Result<Obtained, SourceError> {
    Source::new(Settings::Oauth(settings.clone()))?.obtain().await
}

async fn good(settings: &OauthSettings) -> Obtained {
    obtain(settings).await.unwrap_or_else(|error| panic!("{}", chain(&error)))
}

fn refused(answer: Result<Obtained, SourceError>) -> SourceError {
    let error = answer.expect_err("refused");
    let text = format!("{} {error:?}", chain(&error));
    assert!(!text.contains("s3cret"), "a secret is told: {text}");
    error
}

fn claims(obtained: &Obtained) -> Value {
    let payload = obtained.material.secret.expose().split('.').nth(1).expect("a JWT");
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).expect("base64")).expect("claims")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_authentication_gets_a_token() {
    let Started { server, settings, directory } = started().await;
    let key = |name: &str, algorithm| {
        let pair = KeyPair::generate_for(algorithm).expect("a key");
        (file(directory.path(), name, &pair.serialize_pem()), pair.der_bytes().to_vec())
    };
    let jwt =
        |key: PathBuf| ClientAuth::Jwt { id: "shop".to_owned(), key, key_id: Some("k".to_owned()), audience: None };
    let (es256, es256_public) = key("es256", &PKCS_ECDSA_P256_SHA256);
    let (eddsa, eddsa_public) = key("eddsa", &PKCS_ED25519);
    let (p384, _) = key("p384", &PKCS_ECDSA_P384_SHA384);
    let secret = file(directory.path(), "post", FIRST);
    let leaf = server.authority().leaf().dns("shop").usages(&[ExtendedKeyUsagePurpose::ClientAuth]).issue();
    let tls = ClientAuth::Tls {
        id: "shop".to_owned(),
        certificate: file(directory.path(), "shop.crt", &leaf.pem()),
        key: file(directory.path(), "shop.key", leaf.key_pem()),
    };
    let cases = [
        ("client_secret_basic", Shows::Basic(FIRST.to_owned()), settings.client.clone()),
        ("client_secret_post", Shows::Post(FIRST.to_owned()), ClientAuth::Post { id: "shop".to_owned(), secret }),
        ("private_key_jwt, ES256", Shows::Jwt(es256_public), jwt(es256)),
        ("private_key_jwt, EdDSA", Shows::Jwt(eddsa_public), jwt(eddsa)),
        ("tls_client_auth", Shows::Tls, tls),
    ];
    for (name, shows, client) in &cases {
        server.expect(shows.clone());
        let with = OauthSettings { client: client.clone(), ..settings.clone() };
        let source = Source::new(Settings::Oauth(with.clone())).expect("a source");
        // No assertion is good twice, so each question needs another one.
        let mut ids = Vec::new();
        for _ in 0..2 {
            let obtained = source.obtain().await.unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
            let left = obtained.not_after.expect("an end").duration_since(Timestamp::now()).as_secs();
            assert!((280..=300).contains(&left), "{name}: {left}");
            assert_eq!(claims(&obtained)["client_id"], "shop", "{name}");
            let bound = claims(&obtained).pointer("/cnf/x5t#S256").and_then(Value::as_str).map(str::to_owned);
            assert_eq!(bound.is_some(), matches!(shows, Shows::Tls), "{name}: {bound:?}");
            ids.push(obtained.id);
        }
        assert!(ids[0].starts_with("jti token-") && ids[0] != ids[1], "{name}: {ids:?}");
        // Whoever shows something else is nobody.
        for (other, _, client) in cases.iter().filter(|(other, ..)| other != name) {
            let error = refused(obtain(&OauthSettings { client: client.clone(), ..settings.clone() }).await);
            assert!(
                matches!(&error, SourceError::Refused { error, .. } if error == "invalid_client"),
                "{name} for {other}: {error:?}"
            );
            assert!(!error.is_passing());
        }
    }
    let error = refused(obtain(&OauthSettings { client: jwt(p384), ..settings.clone() }).await);
    assert_eq!(error.code(), "client_key", "{error}");
    let junk = jwt(file(directory.path(), "junk", "junk"));
    assert_eq!(refused(obtain(&OauthSettings { client: junk, ..settings.clone() }).await).code(), "client_key");
    let missing = ClientAuth::Basic { id: "shop".to_owned(), secret: "/nowhere".into() };
    assert_eq!(refused(obtain(&OauthSettings { client: missing, ..settings }).await).code(), "read");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_is_told_and_a_token_is_exchanged() {
    let Started { server, settings, directory } = started().await;
    let with = OauthSettings {
        scope: Some("read write".to_owned()),
        audience: vec!["orders".to_owned(), "stock & more".to_owned()],
        resource: vec!["https://orders.acme.example/".to_owned()],
        ..settings.clone()
    };
    let obtained = good(&with).await;
    assert_eq!(claims(&obtained)["aud"], json!(["orders", "stock & more"]));
    assert_eq!(claims(&obtained)["scope"], "read write");
    let form = server.granted().remove(0);
    assert!(form.contains(&("resource".to_owned(), "https://orders.acme.example/".to_owned())), "{form:?}");
    let forbidden = OauthSettings { scope: Some("forbidden".to_owned()), ..settings.clone() };
    let error = refused(obtain(&forbidden).await);
    assert!(matches!(&error, SourceError::Refused { error, .. } if error == "invalid_scope"), "{error:?}");

    let exchange = |token: &str| OauthSettings {
        grant: Grant::TokenExchange {
            subject_token: file(directory.path(), "subject", token),
            subject_token_type: "urn:ietf:params:oauth:token-type:jwt".to_owned(),
            requested_token_type: None,
        },
        ..settings.clone()
    };
    let obtained = good(&exchange(&server.subject_token("jo"))).await;
    assert_eq!(claims(&obtained)["sub"], "jo");
    let error = refused(obtain(&exchange("nobodys-s3cret-token")).await);
    assert!(matches!(&error, SourceError::Refused { error, .. } if error == "invalid_request"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn short_lives_are_told_as_they_are() {
    let Started { server, settings, directory: _directory } = started().await;
    server.lifetime(5);
    for _ in 0..3 {
        let obtained = good(&settings).await;
        let left = obtained.not_after.expect("an end").duration_since(Timestamp::now()).as_secs();
        assert!((0..=5).contains(&left), "{left}");
    }
    for (name, said, want) in [
        ("missing", json!({ "expires_in": null }), None),
        ("a text", json!({ "expires_in": "600" }), Some(590..=600)),
        ("absurd", json!({ "expires_in": 1e18 }), Some(31_000_000..=31_622_400)),
    ] {
        server.be(Mood::With(said));
        let left = good(&settings).await.not_after.map(|end| end.duration_since(Timestamp::now()).as_secs());
        match want {
            None => assert_eq!(left, None, "{name}"),
            Some(range) => assert!(left.is_some_and(|left| range.contains(&left)), "{name}: {left:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_answer_is_told_apart() {
    let Started { server, settings, directory } = started().await;
    let said = |status, text: &str| Mood::Says(status, Vec::new(), text.to_owned());
    let error = |code: &str, words: &str| json!({ "error": code, "error_description": words }).to_string();
    let quick = OauthSettings { timeout: SHORT, ..settings.clone() };
    for (name, mood, settings, want) in [
        ("over at once", Mood::With(json!({ "expires_in": 0 })), &settings, "expired"),
        ("over before", Mood::With(json!({ "expires_in": -1 })), &settings, "expired"),
        ("an end that is none", Mood::With(json!({ "expires_in": "soon" })), &settings, "malformed"),
        ("another type", Mood::With(json!({ "token_type": "DPoP" })), &settings, "token_type"),
        ("no type", Mood::With(json!({ "token_type": null })), &settings, "malformed"),
        ("no token", Mood::With(json!({ "access_token": "" })), &settings, "malformed"),
        ("a token with a newline", Mood::With(json!({ "access_token": "a\nb" })), &settings, "malformed"),
        ("a token of 64 KiB", Mood::With(json!({ "access_token": "a".repeat(65_537) })), &settings, "too_long"),
        ("no JSON", said(200, "<html>"), &settings, "malformed"),
        ("no object", said(200, "[]"), &settings, "malformed"),
        ("too much", said(200, &"x".repeat(1 << 20)), &settings, "too_long"),
        ("a refusal", said(400, &error("invalid_grant", "no")), &settings, "refused"),
        ("a refusal with the secret", said(401, &error("invalid_client", FIRST)), &settings, "refused"),
        ("an error page", said(500, "<html>"), &settings, "status"),
        ("nothing at all", Mood::Silent, &quick, "timed_out"),
    ] {
        server.be(mood);
        assert_eq!(refused(obtain(settings).await).code(), want, "{name}");
    }

    let elsewhere = vec![("location", "https://elsewhere.example/".to_owned())];
    server.be(Mood::Says(307, elsewhere, String::new()));
    let before = server.asked();
    let error = refused(obtain(&settings).await);
    assert!(error.to_string().contains("redirects are not followed"), "{error}");
    assert_eq!(server.asked(), before + 1);

    for (status, text) in [(503, String::new()), (429, json!({ "error": "slow_down" }).to_string())] {
        server.be(Mood::Says(status, vec![("retry-after", "120".to_owned())], text));
        let error = refused(obtain(&settings).await);
        assert!(error.is_passing(), "{error}");
        let away = error.retry_after().expect("an instant").duration_since(Timestamp::now()).as_secs();
        assert!((100..=120).contains(&away), "{away}");
    }

    server.be(Mood::Honest);
    let stranger = OauthSettings { roots: None, ..settings.clone() };
    assert_eq!(refused(obtain(&stranger).await).code(), "connect");
    let nobody = free_port().expect("a port");
    let gone =
        OauthSettings { token_endpoint: format!("https://{nobody}/t").parse().expect("a URL"), ..settings.clone() };
    assert_eq!(refused(obtain(&gone).await).code(), "connect");
    let tls = ClientAuth::Tls {
        id: "shop".to_owned(),
        certificate: file(directory.path(), "crt", "junk"),
        key: file(directory.path(), "key", "junk"),
    };
    assert_eq!(refused(obtain(&OauthSettings { client: tls, ..settings.clone() }).await).code(), "client_key");
    good(&OauthSettings { timeout: Duration::from_secs(20), ..settings }).await;
}
