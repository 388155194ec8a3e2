//! Certificates from the real OpenBao: every way to log in, and what is said when it refuses.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use portcullis::command::Usage;
use portcullis::errors::chain;
use portcullis::issuer::Request;
use portcullis::issuer::openbao::Login;
use portcullis::issuer::openbao::OpenBao;
use portcullis::issuer::openbao::Settings;
use portcullis::keys::PrivateKey;
use portcullis::leaf;
use portcullis::names::Names;
use portcullis_integration::certificates::Authority;
use portcullis_integration::environment;
use rcgen::DnType;
use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::UnixTime;
use rustls::server::ParsedCertificate;

fn settings(bao: &environment::OpenBao, login: Login) -> Settings {
    let pem = fs::read_to_string(bao.server_ca()).expect("its CA");
    Settings {
        address: bao.address().parse().expect("a URL"),
        server_roots: Some(leaf::chain(&pem).expect("certificates")),
        namespace: None,
        mount: "pki_int".to_owned(),
        role: "gateway".to_owned(),
        login,
    }
}

fn request(dns: &[&str], ip: &[&str]) -> Request {
    let names = Names::new(
        Some("spiffe://acme.example/gateway".to_owned()),
        dns.iter().map(|name| (*name).to_owned()).collect(),
        ip.iter().map(|ip| ip.parse().expect("an address")).collect(),
        vec![Usage::Server, Usage::Client],
        "acme.example",
    );
    Request { key: PrivateKey::generate().expect("a key"), names: names.expect("names"), lifetime: 3_600 }
}

/// As a client would, with the root and nothing else.
fn verify(chain_pem: &str, root_pem: &str) {
    let chain = leaf::chain(chain_pem).expect("a chain");
    assert_eq!(chain.len(), 2, "leaf and intermediate; peers have the root");
    let mut roots = RootCertStore::empty();
    roots.add(leaf::chain(root_pem).expect("a root").remove(0)).expect("a root");
    let end = ParsedCertificate::try_from(&chain[0]).expect("a leaf");
    let provider = rustls::crypto::ring::default_provider();
    let algorithms = provider.signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&end, &roots, &chain[1..], UnixTime::now(), algorithms)
        .expect("a chain to the root");
}

/// A client's certificate for the login, in files.
fn client(directory: &Path) -> (PathBuf, PathBuf, String) {
    let leaf = Authority::new("Agents").leaf().subject(DnType::CommonName, "agent").issue();
    let (certificate, key) = (directory.join("agent.pem"), directory.join("agent.key"));
    let pem = leaf.pem().to_owned();
    fs::write(&certificate, &pem).expect("written");
    fs::write(&key, leaf.key_pem()).expect("written");
    (certificate, key, pem)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_login_gets_a_certificate_that_peers_accept() {
    let bao = environment::OpenBao::start().await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let (role_id, secret_id) = bao.app_role().await.expect("a role");
    let (certificate, key, pem) = client(bao.directory());
    bao.trust_client(&pem).await.expect("trusted");
    let logins = [
        ("a token", Login::Token { file: bao.token_file("1h").await.expect("a token") }),
        ("AppRole", Login::AppRole { mount: "approle".to_owned(), role_id, secret_id }),
        ("a certificate", Login::Certificate { mount: "cert".to_owned(), role: None, certificate, key }),
    ];
    for (name, login) in logins {
        let issuer = OpenBao::new(settings(&bao, login)).expect("an issuer");
        for _ in 0..2 {
            let request = request(&["orders.acme.example", "localhost"], &["127.0.0.1"]);
            let answer = issuer.sign(&request).await.unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
            verify(&answer, bao.root_pem());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_names_the_path_and_its_words_and_no_secret() {
    let bao = environment::OpenBao::start().await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let token = bao.token_file("1h").await.expect("a token");
    let secret = fs::read_to_string(&token).expect("a file").trim().to_owned();
    let login = Login::Token { file: token.clone() };
    let good = settings(&bao, login.clone());
    let issuer = Arc::new(OpenBao::new(good.clone()).expect("an issuer"));
    let refused = |settings: Settings, dns: &'static str| async move {
        let issuer = OpenBao::new(settings).expect("an issuer");
        let error = issuer.sign(&request(&[dns], &[])).await.expect_err("refused");
        chain(&error)
    };

    let other_names = refused(good.clone(), "elsewhere.example").await;
    assert!(other_names.contains("pki_int/sign/gateway") && other_names.contains("400"), "{other_names}");
    assert!(other_names.contains("elsewhere.example"), "its own words: {other_names}");
    let no_role = refused(Settings { role: "nobody".to_owned(), ..good.clone() }, "localhost").await;
    assert!(no_role.contains("pki_int/sign/nobody") && no_role.contains("403"), "{no_role}");
    let strange = refused(Settings { server_roots: None, ..good.clone() }, "localhost").await;
    assert!(strange.contains("cannot reach"), "a server that nobody vouches for: {strange}");

    issuer.sign(&request(&["localhost"], &[])).await.expect("signed");
    bao.seal().await.expect("sealed");
    let sealed = issuer.sign(&request(&["localhost"], &[])).await.expect_err("sealed");
    assert!(chain(&sealed).contains("503"), "{}", chain(&sealed));
    bao.unseal().await.expect("unsealed");
    issuer.sign(&request(&["localhost"], &[])).await.expect("signed again");

    fs::remove_file(&token).expect("removed");
    let missing = refused(good, "localhost").await;
    assert!(missing.contains(&token.display().to_string()), "{missing}");
    for text in [other_names, no_role, strange, chain(&sealed), missing] {
        assert!(!text.contains(&secret), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_ends_is_begun_again() {
    let bao = environment::OpenBao::start().await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let (role_id, secret_id) = bao.app_role().await.expect("a role");
    let login = Login::AppRole { mount: "approle".to_owned(), role_id, secret_id };
    let issuer = OpenBao::new(settings(&bao, login)).expect("an issuer");
    issuer.sign(&request(&["localhost"], &[])).await.expect("signed");
    // All tokens of the role at once.
    let prefix = "sys/leases/revoke-prefix/auth/approle/login";
    bao.ask(reqwest::Method::PUT, prefix, None).await.expect("revoked");
    let answer = tokio::time::timeout(Duration::from_secs(20), issuer.sign(&request(&["localhost"], &[]))).await;
    answer.expect("in time").unwrap_or_else(|error| panic!("{}", chain(&error)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_whose_secret_is_revoked_is_begun_again_when_the_file_has_another_one() {
    let bao = environment::OpenBao::start().await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let (role_id, secret_id) = bao.app_role().await.expect("a role");
    let login = Login::AppRole { mount: "approle".to_owned(), role_id, secret_id: secret_id.clone() };
    let issuer = OpenBao::new(settings(&bao, login)).expect("an issuer");
    issuer.sign(&request(&["localhost"], &[])).await.expect("signed");
    let secret = fs::read_to_string(&secret_id).expect("a file").trim().to_owned();
    let destroy = "auth/approle/role/agent/secret-id/destroy";
    let body = serde_json::json!({ "secret_id": secret });
    bao.ask(reqwest::Method::POST, destroy, Some(body)).await.expect("destroyed");
    bao.end_logins().await.expect("ended");
    for _ in 0..2 {
        let error = issuer.sign(&request(&["localhost"], &[])).await.expect_err("nobody lets it in");
        let text = chain(&error);
        assert!(text.contains("auth/approle/login") && text.contains("400") && !text.contains(&secret), "{text}");
    }
    // Writes another one to the same file.
    let (_, again) = bao.app_role().await.expect("a role");
    assert_eq!(again, secret_id);
    let request = request(&["localhost"], &[]);
    let answer = issuer.sign(&request).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    verify(&answer, bao.root_pem());
}
