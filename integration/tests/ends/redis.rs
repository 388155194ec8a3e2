//! Passwords of Redis's users.

use portcullis::credential::target::ClientPair;
use portcullis::credential::target::InUse;
use portcullis::credential::target::Persist;
use portcullis::credential::target::Place;
use portcullis::credential::target::Redis;
use portcullis::credential::target::Target;
use portcullis::credential::target::TargetError;
use portcullis::credential::target::Tls;
use portcullis::credential::target::Verify;
use portcullis_integration::certificates::Authority;
use portcullis_integration::certificates::sha256_hex;
use portcullis_integration::environment;
use portcullis_integration::environment::Keeps;
use portcullis_integration::environment::chain;
use portcullis_integration::environment::free_port;
use portcullis_integration::environment::wait;
use rcgen::ExtendedKeyUsagePurpose;
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;

use super::support::FIRST;
use super::support::LIMIT;
use super::support::SECOND;
use super::support::SHORT;
use super::support::at;
use super::support::file;
use super::support::refused;
use super::support::secret;
use super::support::set;
use super::support::silent;

/// A server with a user `shop` that nobody can log in as yet.
async fn started(keeps: Keeps) -> (environment::Redis, Redis, TempDir) {
    let server = environment::Redis::start(keeps).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    server.ask("ACL SETUSER shop on ~shop:* +get +set").await.expect("a user");
    let directory = tempfile::tempdir().expect("a directory");
    let target = Redis {
        place: at(server.address()),
        user: "keeper".to_owned(),
        password: Some(file(directory.path(), "keeper", environment::Redis::PASSWORD)),
        persist: Persist::WhatThereIs,
        timeout: LIMIT,
    };
    (server, target, directory)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_two_passwords_until_one_is_taken_off() {
    let (server, target, _directory) = started(Keeps::AclFile).await;
    let mut monitor = server.converse().await.expect("a conversation");
    monitor.ask("MONITOR").await.expect("told");
    let target = Target::Redis(target);
    assert!(target.keeps_two());
    for _ in 0..2 {
        set(&target, "shop", FIRST, &[]).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    }
    target.test("shop", &secret(FIRST)).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(refused(target.test("shop", &secret(SECOND)).await), "login");
    set(&target, "shop", SECOND, &[FIRST]).await.expect("set");
    for good in [FIRST, SECOND] {
        target.test("shop", &secret(good)).await.expect("both are good");
    }
    for _ in 0..2 {
        target.retire("shop", &secret(FIRST), Some(&secret(SECOND)), "edge-1").await.expect("taken off");
    }
    assert_eq!(refused(target.test("shop", &secret(FIRST)).await), "login");
    target.test("shop", &secret(SECOND)).await.expect("it is kept");
    // The same one is never taken off as the old one of itself.
    target.retire("shop", &secret(SECOND), Some(&secret(SECOND)), "edge-1").await.expect("nothing to do");
    target.test("shop", &secret(SECOND)).await.expect("it is kept");
    target.retire("shop", &secret(SECOND), None, "edge-1").await.expect("taken off");
    assert_eq!(refused(target.test("shop", &secret(SECOND)).await), "login");

    // Whoever watches the server sees hashes.
    server.ask("SET the end").await.expect("set");
    let mut seen = String::new();
    while !seen.contains("\"SET\" \"the\" \"end\"") {
        seen.push_str(&monitor.line().await.expect("a line"));
    }
    assert!(seen.contains("(redacted)"), "{seen}");
    assert!(!seen.contains("s3cret"), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_outlive_the_server_where_it_has_a_file() {
    for (keeps, persist) in [
        (Keeps::AclFile, Persist::AclFile),
        (Keeps::AclFile, Persist::WhatThereIs),
        (Keeps::ConfigFile, Persist::ConfigFile),
        (Keeps::ConfigFile, Persist::WhatThereIs),
    ] {
        let (mut server, target, _directory) = started(keeps).await;
        let target = Target::Redis(Redis { persist, ..target });
        set(&target, "shop", FIRST, &[]).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
        server.kill().expect("killed");
        assert_eq!(refused(set(&target, "shop", SECOND, &[FIRST]).await), "unreachable");
        server.start_again().await.unwrap_or_else(|error| panic!("{}", chain(&error)));
        target.test("shop", &secret(FIRST)).await.unwrap_or_else(|error| panic!("{keeps:?}: {}", chain(&error)));
    }
    for (keeps, persist) in [
        (Keeps::Nothing, Persist::WhatThereIs),
        (Keeps::Nothing, Persist::AclFile),
        (Keeps::Nothing, Persist::ConfigFile),
        (Keeps::ConfigFile, Persist::AclFile),
    ] {
        let (_server, target, _directory) = started(keeps).await;
        let target = Target::Redis(Redis { persist, ..target });
        assert_eq!(refused(set(&target, "shop", FIRST, &[]).await), "persist", "{keeps:?} {persist:?}");
        target.test("shop", &secret(FIRST)).await.expect("it is set all the same");
    }
    let (_server, target, _directory) = started(Keeps::Nothing).await;
    let target = Target::Redis(Redis { persist: Persist::Nowhere, ..target });
    set(&target, "shop", FIRST, &[]).await.expect("as it was told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_of_somebody_elses_is_noticed() {
    let (server, target, _directory) = started(Keeps::AclFile).await;
    let target = Target::Redis(target);
    set(&target, "shop", FIRST, &[]).await.expect("set");
    server.ask("ACL SETUSER shop >somebody-elses").await.expect("set");
    let error = set(&target, "shop", SECOND, &[FIRST]).await.expect_err("another's");
    assert!(matches!(&error, TargetError::Another { owner: None, .. }), "{error}");
    assert!(error.to_string().contains("ACL SETUSER shop !"), "how to take it over: {error}");
    server.ask(&format!("ACL SETUSER shop !{}", sha256_hex(b"somebody-elses"))).await.expect("taken off");
    set(&target, "shop", SECOND, &[FIRST]).await.expect("set");

    // Somebody reset the user: taking off the old one would lock everybody out.
    server.ask("ACL SETUSER shop resetpass").await.expect("reset");
    server.ask(&format!("ACL SETUSER shop #{}", sha256_hex(FIRST.as_bytes()))).await.expect("set");
    assert_eq!(refused(target.retire("shop", &secret(FIRST), Some(&secret(SECOND)), "edge-1").await), "forgotten");
    target.test("shop", &secret(FIRST)).await.expect("as it was");

    // Both at once on one that is nobody's: one of them at most has it.
    server.ask("ACL SETUSER other on").await.expect("a user");
    let (one, two) = tokio::join!(set(&target, "other", FIRST, &[]), set(&target, "other", SECOND, &[]));
    assert!(!(one.is_ok() && two.is_ok()), "{one:?} {two:?}");
    for error in [one.err(), two.err()].into_iter().flatten() {
        assert_eq!(error.code(), "another", "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_counted() {
    let (server, target, _directory) = started(Keeps::AclFile).await;
    let target = Target::Redis(target);
    set(&target, "shop", FIRST, &[]).await.expect("set");
    assert_eq!(target.in_use("shop").await.expect("counted"), InUse::Sessions(0));
    server.ask("ACL SETUSER plain on >plain +ping").await.expect("a user");
    let mut one = server.converse().await.expect("a conversation");
    one.ask("AUTH plain plain").await.expect("logged in");
    let mut two = server.converse().await.expect("a conversation");
    two.ask("AUTH plain plain").await.expect("logged in");
    assert_eq!(target.in_use("plain").await.expect("counted"), InUse::Sessions(2));
    // Connections end a moment after their clients.
    wait::until("the agent not to be counted", LIMIT, async || match target.in_use("keeper").await {
        Ok(InUse::Sessions(0)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await
    .unwrap_or_else(|error| panic!("{}", chain(&error)));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_is_told_apart() {
    let (server, target, directory) = started(Keeps::AclFile).await;
    let with = |change: &dyn Fn(&mut Redis)| {
        let mut changed = target.clone();
        change(&mut changed);
        Target::Redis(changed)
    };
    for command in ["ACL SETUSER open on nopass", "ACL SETUSER weak on >weak-one +acl|getuser"] {
        server.ask(command).await.expect("a user");
    }
    let (wrong, weak) = (file(directory.path(), "wrong", "guessed"), file(directory.path(), "weak", "weak-one"));
    let (_listener, quiet) = silent().await;
    let nobody = free_port().expect("a port");
    for (name, target, account, secret, want) in [
        ("no account", with(&|_| {}), "nobody", FIRST, "no_account"),
        ("everybody gets in", with(&|_| {}), "open", FIRST, "policy"),
        ("its own account", with(&|_| {}), "keeper", FIRST, "own_account"),
        ("a blank", with(&|_| {}), "shop x", FIRST, "unfit"),
        ("empty", with(&|_| {}), "shop", "", "unfit"),
        ("a wrong password", with(&|t| t.password = Some(wrong.clone())), "shop", FIRST, "administrator"),
        ("no such file", with(&|t| t.password = Some("/nowhere".into())), "shop", FIRST, "read"),
        (
            "may not set",
            with(&|t| (t.user, t.password) = ("weak".to_owned(), Some(weak.clone()))),
            "shop",
            FIRST,
            "not_allowed",
        ),
        ("nobody listens", with(&|t| t.place = at(nobody)), "shop", FIRST, "unreachable"),
        ("it says nothing", with(&|t| (t.place, t.timeout) = (at(quiet), SHORT)), "shop", FIRST, "timed_out"),
    ] {
        assert_eq!(refused(set(&target, account, secret, &[]).await), want, "{name}");
    }
    let long = "x".repeat(64 * 1024 + 1);
    assert_eq!(refused(set(&Target::Redis(target.clone()), "shop", &long, &[]).await), "unfit");
    let mut known = Vec::new();
    let awkward = ["a\nb", "a\0b", "a b\r\n", &long[1..]];
    for text in awkward {
        set(&Target::Redis(target.clone()), "shop", text, &known).await.expect("set");
        Target::Redis(target.clone()).test("shop", &secret(text)).await.expect("what it is given, it holds");
        known.push(text);
    }
    // Full: nothing is said of the password.
    set(&Target::Redis(target.clone()), "shop", FIRST, &known).await.expect("set");
    let mut only = server.converse().await.expect("connected");
    only.ask("CONFIG SET maxclients 1").await.expect("set");
    let error = Target::Redis(target.clone()).test("shop", &secret(FIRST)).await.expect_err("full");
    assert!(error.is_passing(), "{}", chain(&error));
    only.ask("CONFIG SET maxclients 100").await.expect("set");
    Target::Redis(target.clone()).test("shop", &secret(FIRST)).await.expect("room again");
    server.ask("ACL SETUSER default resetpass >closed").await.expect("set");
    assert_eq!(refused(set(&with(&|t| t.password = None), "shop", FIRST, &known).await), "administrator");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_and_tls_are_as_good() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (server, target, _directory) = started(Keeps::AclFile).await;
    let target = Redis { place: Place::Unix(server.socket()), ..target };
    set(&Target::Redis(target), "shop", FIRST, &[]).await.expect("set");

    let authority = Authority::new("the cache's");
    let address = "127.0.0.1".parse().expect("an address");
    let leaf = authority.leaf().ip(address).usages(&[ExtendedKeyUsagePurpose::ServerAuth]).issue();
    let client = authority.leaf().dns("keeper").usages(&[ExtendedKeyUsagePurpose::ClientAuth]).issue();
    let port = free_port().expect("a port");
    let server = environment::Redis::start_with(Keeps::AclFile, |directory| {
        let part = |name: &str, text: &str| file(directory, name, text).display().to_string();
        [
            ["--tls-port".to_owned(), port.port().to_string()],
            ["--tls-cert-file".to_owned(), part("tls.crt", &leaf.pem())],
            ["--tls-key-file".to_owned(), part("tls.key", leaf.key_pem())],
            ["--tls-ca-cert-file".to_owned(), part("ca.crt", &authority.pem())],
        ]
        .concat()
    });
    let server = server.await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let directory = server.directory();
    server.ask("ACL SETUSER shop on").await.expect("a user");
    let roots = Some(vec![CertificateDer::from(authority.der().to_vec())]);
    let strangers = Some(vec![CertificateDer::from(Authority::new("a stranger's").der().to_vec())]);
    let pair = ClientPair {
        certificate: file(directory, "client.crt", &client.pem()),
        key: file(directory, "client.key", client.key_pem()),
    };
    let with = |roots: &Option<Vec<CertificateDer<'static>>>, client: Option<ClientPair>| {
        let tls = Some(Tls { roots: roots.clone(), verify: Verify::Full, client });
        Target::Redis(Redis {
            place: Place::Tcp { host: "127.0.0.1".to_owned(), port: port.port(), tls },
            user: "keeper".to_owned(),
            password: Some(file(directory, "keeper", environment::Redis::PASSWORD)),
            persist: Persist::AclFile,
            timeout: LIMIT,
        })
    };
    let good = with(&roots, Some(pair.clone()));
    set(&good, "shop", FIRST, &[]).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    good.test("shop", &secret(FIRST)).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(refused(set(&with(&strangers, Some(pair.clone())), "shop", FIRST, &[]).await), "tls");
    assert_eq!(refused(set(&with(&roots, None), "shop", FIRST, &[]).await), "lost");
    let missing = ClientPair { certificate: "/nowhere".into(), ..pair };
    assert_eq!(refused(set(&with(&roots, Some(missing)), "shop", FIRST, &[]).await), "read");
}
