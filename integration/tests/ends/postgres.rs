//! Passwords of PostgreSQL's roles.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::Timestamp;
use portcullis::credential::target::InUse;
use portcullis::credential::target::Place;
use portcullis::credential::target::Postgres;
use portcullis::credential::target::Setting;
use portcullis::credential::target::Target;
use portcullis::credential::target::TargetError;
use portcullis::credential::target::Tls;
use portcullis::credential::target::Verify;
use portcullis_integration::certificates::Authority;
use portcullis_integration::environment;
use portcullis_integration::environment::chain;
use portcullis_integration::environment::free_port;
use portcullis_integration::environment::wait;
use rcgen::ExtendedKeyUsagePurpose;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::support::FIRST;
use super::support::LIMIT;
use super::support::SECOND;
use super::support::SHORT;
use super::support::at;
use super::support::file;
use super::support::refused;
use super::support::secret;
use super::support::set;
use super::support::set_by;
use super::support::silent;

const ADMINISTRATOR: &str = "keeper of the tests";

/// A database with an administrator who is no superuser, and accounts `shop` and `shop "2"`.
struct Place1 {
    server: environment::Postgres,
    target: Postgres,
    directory: TempDir,
}

async fn started() -> Place1 {
    let server = environment::Postgres::start_with_passwords().await;
    let server = server.unwrap_or_else(|error| panic!("{}", chain(&error)));
    for statement in [
        format!("CREATE ROLE keeper LOGIN CREATEROLE PASSWORD '{ADMINISTRATOR}'"),
        "SET ROLE keeper; CREATE ROLE shop LOGIN; CREATE ROLE \"shop \"\"2\"\"\" LOGIN".to_owned(),
        "CREATE ROLE other LOGIN".to_owned(),
    ] {
        server.ask(&statement).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    }
    let directory = tempfile::tempdir().expect("a directory");
    let target = Postgres {
        place: at(server.address()),
        database: "postgres".to_owned(),
        user: "keeper".to_owned(),
        password: Some(file(directory.path(), "keeper", &format!("{ADMINISTRATOR}\n"))),
        test_database: None,
        timeout: LIMIT,
    };
    Place1 { server, target, directory }
}

async fn comment(server: &environment::Postgres, role: &str) -> String {
    let ask = format!("SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = '{role}'");
    server.ask(&ask).await.unwrap_or_else(|error| panic!("{}", chain(&error)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_set_tried_replaced_and_taken_off() {
    let Place1 { server, target, directory: _directory } = started().await;
    server.ask("COMMENT ON ROLE shop IS 'the shop''s'").await.expect("commented");
    let target = Target::Postgres(target);
    assert!(!target.keeps_two());
    for account in ["shop", "shop \"2\""] {
        for _ in 0..2 {
            set(&target, account, FIRST, &[]).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
        }
        target.test(account, &secret(FIRST)).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert_eq!(refused(target.test(account, &secret(SECOND)).await), "login");

        set(&target, account, SECOND, &[FIRST]).await.expect("replaced");
        target.test(account, &secret(SECOND)).await.expect("the new one");
        assert_eq!(refused(target.test(account, &secret(FIRST)).await), "login");
        target.retire(account, &secret(FIRST), Some(&secret(SECOND)), "edge-1").await.expect("gone already");
        target.test(account, &secret(SECOND)).await.expect("it is kept");

        target.retire(account, &secret(SECOND), None, "edge-1").await.expect("taken off");
        assert_eq!(refused(target.test(account, &secret(SECOND)).await), "login");
        target.retire(account, &secret(SECOND), None, "edge-1").await.expect("again");
    }
    assert_eq!(comment(&server, "shop").await, "the shop's [portcullis:edge-1]");
    // The server was told to log every statement, and it did.
    let log = server.log();
    assert!(log.contains("SCRAM-SHA-256$4096:"), "{log}");
    for secret in [FIRST, SECOND, "s3cret"] {
        assert!(!log.contains(secret), "the log has a password: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_ends_when_it_is_to() {
    let Place1 { server, target, directory: _directory } = started().await;
    let target = Target::Postgres(target);
    let new = secret(FIRST);
    let until = |hours| Some(Timestamp::now() + SignedDuration::from_hours(hours));
    let setting = Setting { account: "shop", secret: &new, known: &[], until: until(-1), owner: "edge-1" };
    target.set(&setting).await.expect("set");
    assert_eq!(refused(target.test("shop", &new).await), "login");
    target.set(&Setting { until: until(1), ..setting }).await.expect("set");
    target.test("shop", &new).await.expect("valid");
    let left = "SELECT rolvaliduntil > now() AND rolvaliduntil < now() + '2h' FROM pg_roles WHERE rolname = 'shop'";
    assert_eq!(server.ask(left).await.expect("an answer"), "t");
    target.set(&Setting { until: None, ..setting }).await.expect("set");
    let ever = "SELECT rolvaliduntil = 'infinity' FROM pg_roles WHERE rolname = 'shop'";
    assert_eq!(server.ask(ever).await.expect("an answer"), "t");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_agents_on_one_account_are_told_apart() {
    let Place1 { server, target, directory: _directory } = started().await;
    let target = Target::Postgres(target);
    set_by(&target, "edge-1", "shop", FIRST, &[]).await.expect("set");
    let error = set_by(&target, "edge-2", "shop", SECOND, &[]).await.expect_err("another's");
    assert!(matches!(&error, TargetError::Another { owner: Some(owner), .. } if owner == "edge-1"), "{error}");
    assert!(error.to_string().contains("COMMENT ON ROLE"), "how to take it over: {error}");
    assert!(error.is_before() && !error.is_passing());
    target.test("shop", &secret(FIRST)).await.expect("as it was");

    server.ask("COMMENT ON ROLE shop IS NULL").await.expect("commented");
    set_by(&target, "edge-2", "shop", SECOND, &[]).await.expect("taken over");
    assert_eq!(refused(set_by(&target, "edge-1", "shop", FIRST, &[]).await), "another");
    assert_eq!(refused(target.retire("shop", &secret(FIRST), None, "edge-1").await), "another");
    target.test("shop", &secret(SECOND)).await.expect("as it was");

    // Both at once on one that is nobody's: one of them has it, and the other knows.
    let (one, two) = tokio::join!(
        set_by(&target, "edge-1", "shop \"2\"", FIRST, &[]),
        set_by(&target, "edge-2", "shop \"2\"", SECOND, &[]),
    );
    let won = [(&one, "edge-1", FIRST), (&two, "edge-2", SECOND)].into_iter().filter(|(set, ..)| set.is_ok());
    let won: Vec<_> = won.collect();
    assert_eq!(won.len(), 1, "{one:?} {two:?}");
    target.test("shop \"2\"", &secret(won[0].2)).await.expect("the winner's");
    let lost = [one.err(), two.err()].into_iter().flatten().next().expect("a loser");
    assert!(matches!(lost.code(), "busy" | "another"), "{lost}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_locked_is_busy_or_late_and_stays_as_it_was() {
    let Place1 { server, target, directory: _directory } = started().await;
    let hasty = Target::Postgres(Postgres { timeout: Duration::from_secs(1), ..target.clone() });
    let target = Target::Postgres(target);
    set(&target, "shop", FIRST, &[]).await.expect("set");
    let mut session = server.session(server.address()).expect("a session");
    let number = "(SELECT oid::int4 FROM pg_roles WHERE rolname = 'shop')";
    let lock = format!("SELECT pg_advisory_lock({}, {number}) IS NULL", 0x706f_7274);
    session.ask(&lock).await.expect("locked");
    assert_eq!(refused(set(&target, "shop", SECOND, &[FIRST]).await), "busy");
    let unlock = format!("SELECT pg_advisory_unlock({}, {number})", 0x706f_7274);
    session.ask(&unlock).await.expect("unlocked");
    drop(session);
    // Somebody who is no agent changes the role, and takes his time.
    let mut session = server.session(server.address()).expect("a session");
    session.ask("BEGIN; ALTER ROLE shop CONNECTION LIMIT 5; SELECT 1").await.expect("begun");
    assert_eq!(refused(set(&hasty, "shop", SECOND, &[FIRST]).await), "timed_out");
    drop(session);
    target.test("shop", &secret(FIRST)).await.expect("as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_counted() {
    let Place1 { server, target, directory: _directory } = started().await;
    let target = Target::Postgres(target);
    server.ask("GRANT pg_read_all_stats TO keeper").await.expect("granted");
    let there_are = async |wanted: u64| {
        // A session ends a moment after its client.
        let seen = wait::until("so many sessions", LIMIT, async || match target.in_use("postgres").await {
            Ok(InUse::Sessions(sessions)) if sessions == wanted => Ok(()),
            other => Err(format!("{other:?}")),
        });
        seen.await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    };
    there_are(0).await;
    let mut session = server.session(server.address()).expect("a session");
    session.ask("SELECT 1").await.expect("an answer");
    there_are(1).await;
    drop(session);
    there_are(0).await;
    assert_eq!(target.in_use("nobody").await.expect("counted"), InUse::Sessions(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_is_told_apart() {
    let Place1 { mut server, target, directory } = started().await;
    let with = |change: &dyn Fn(&mut Postgres)| {
        let mut changed = target.clone();
        change(&mut changed);
        Target::Postgres(changed)
    };
    let good = Target::Postgres(target.clone());
    let wrong = file(directory.path(), "wrong", "guessed");
    let (listener, quiet) = silent().await;
    let nobody = free_port().expect("a port");
    for (name, target, account, secret, want) in [
        ("no account", with(&|_| {}), "nobody", FIRST, "no_account"),
        ("a name that is cut", with(&|_| {}), "shop\0", FIRST, "unfit"),
        ("its own account", with(&|_| {}), "keeper", FIRST, "own_account"),
        ("not in its keeping", with(&|_| {}), "other", FIRST, "not_allowed"),
        ("a superuser", with(&|_| {}), "postgres", FIRST, "not_allowed"),
        ("empty", with(&|_| {}), "shop", "", "unfit"),
        ("a newline", with(&|_| {}), "shop", "a\nb", "unfit"),
        ("a zero byte", with(&|_| {}), "shop", "a\0b", "unfit"),
        ("a wrong password", with(&|t| t.password = Some(wrong.clone())), "shop", FIRST, "administrator"),
        ("no password", with(&|t| t.password = None), "shop", FIRST, "administrator"),
        ("no such file", with(&|t| t.password = Some("/nowhere".into())), "shop", FIRST, "read"),
        ("no such database", with(&|t| t.database = "nowhere".to_owned()), "shop", FIRST, "administrator"),
        ("nobody listens", with(&|t| t.place = at(nobody)), "shop", FIRST, "unreachable"),
        ("it says nothing", with(&|t| (t.place, t.timeout) = (at(quiet), SHORT)), "shop", FIRST, "timed_out"),
    ] {
        assert_eq!(refused(set(&target, account, secret, &[]).await), want, "{name}");
    }
    drop(listener);

    // Too many connections, and none at all.
    server.ask("ALTER ROLE keeper CONNECTION LIMIT 0").await.expect("altered");
    assert_eq!(refused(set(&good, "shop", FIRST, &[]).await), "unavailable");
    server.ask("ALTER ROLE keeper CONNECTION LIMIT -1").await.expect("altered");
    set(&good, "shop", FIRST, &[]).await.expect("set");
    server.crash().await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(refused(set(&good, "shop", SECOND, &[FIRST]).await), "unreachable");
    server.start_again().await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    set(&good, "shop", SECOND, &[FIRST]).await.expect("the same one, later");
    good.test("shop", &secret(SECOND)).await.expect("it is in force");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_refused_password_is_a_refused_login() {
    let Place1 { server, target, directory: _directory } = started().await;
    server.ask("CREATE DATABASE shop").await.expect("a database");
    let in_shop = Target::Postgres(Postgres { test_database: Some("shop".to_owned()), ..target.clone() });
    let target = Target::Postgres(target);
    set(&target, "shop", FIRST, &[]).await.expect("set");
    in_shop.test("shop", &secret(FIRST)).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let right = secret(FIRST);
    let refusal = async || {
        let error = in_shop.test("shop", &right).await.expect_err("refused");
        assert!(!error.is_passing(), "{error}");
        (error.code(), chain(&error))
    };
    let told = |(code, words): (&'static str, String), want: &str| {
        assert!(code == "refused" && words.contains(want), "{code}: {words}");
    };
    server.ask("REVOKE CONNECT ON DATABASE shop FROM PUBLIC").await.expect("revoked");
    told(refusal().await, "permission denied");
    server.ask("GRANT CONNECT ON DATABASE shop TO PUBLIC").await.expect("granted");
    server.ask("ALTER ROLE shop NOLOGIN").await.expect("altered");
    told(refusal().await, "not permitted to log in");
    server.ask("ALTER ROLE shop LOGIN").await.expect("altered");
    server.ask("DROP DATABASE shop").await.expect("dropped");
    told(refusal().await, "does not exist");
    server.keep_others_out().await.expect("other rules");
    let kept_out = wait::until("nobody to be let in", LIMIT, async || match target.test("shop", &right).await {
        Err(error) => {
            told((error.code(), chain(&error)), "pg_hba.conf");
            Ok(())
        }
        Ok(()) => Err("it is let in"),
    });
    kept_out.await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    server.let_others_in().await.expect("the old rules");
    let let_in = wait::until("everybody to be let in", LIMIT, async || target.test("shop", &right).await);
    let_in.await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(refused(target.test("shop", &secret(SECOND)).await), "login");
}

/// Somebody in front who has a say in passwords, as `passwordcheck` has, which PostgreSQL's package does not bring.
async fn rules_in_front(server: &environment::Postgres) -> std::net::SocketAddr {
    const RULE: &[u8] = b"DO $$ BEGIN RAISE 'password is too short' USING ERRCODE = '22023'; END $$";
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (address, behind) = (listener.local_addr().expect("an address"), server.address());
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut postgres = TcpStream::connect(behind).await?;
                let (mut asked, mut said) = ([0; 8_192], [0; 8_192]);
                loop {
                    tokio::select! {
                        length = tcp.read(&mut asked) => match &mut asked[..length?] {
                            [] => return std::io::Result::Ok(()),
                            part => {
                                // A statement is in one piece, and ends with a zero.
                                if let Some(at) = part.windows(10).position(|words| words == b"ALTER ROLE") {
                                    let end = part[at..].iter().position(|byte| *byte == 0).expect("an end");
                                    part[at..at + end].fill(b' ');
                                    part[at..at + RULE.len()].copy_from_slice(RULE);
                                }
                                postgres.write_all(part).await?;
                            }
                        },
                        length = postgres.read(&mut said) => match &said[..length?] {
                            [] => return Ok(()),
                            part => tcp.write_all(part).await?,
                        },
                    }
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_the_server_has_rules_against_is_told_from_other_refusals() {
    let Place1 { server, target, directory: _directory } = started().await;
    let strict = Target::Postgres(Postgres { place: at(rules_in_front(&server).await), ..target.clone() });
    let target = Target::Postgres(target);
    set(&target, "shop", FIRST, &[]).await.expect("set");
    let error = set(&strict, "shop", SECOND, &[FIRST]).await.expect_err("against the rules");
    assert!(matches!(error, TargetError::Policy { .. }) && !error.is_passing(), "{}", chain(&error));
    assert!(error.to_string().contains("password is too short"), "in the server's words: {error}");
    for target in [&strict, &target] {
        target.test("shop", &secret(FIRST)).await.expect("the one before stays good");
    }
    set(&target, "shop", SECOND, &[FIRST]).await.expect("without the rules");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_server_is_unavailable() {
    let Place1 { server, target, directory: _directory } = started().await;
    // As one that follows another does, after a failover.
    server.ask("ALTER ROLE keeper SET default_transaction_read_only = on").await.expect("altered");
    assert_eq!(refused(set(&Target::Postgres(target), "shop", FIRST, &[]).await), "unavailable");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_is_as_good() {
    let Place1 { server, target, directory: _directory } = started().await;
    let target = Postgres { place: Place::Unix(server.socket()), password: None, ..target };
    set(&Target::Postgres(target.clone()), "shop", FIRST, &[]).await.expect("set");
    let there = Target::Postgres(Postgres { place: Place::Unix("/nowhere/socket".into()), ..target });
    assert_eq!(refused(set(&there, "shop", FIRST, &[]).await), "unreachable");
}

/// PostgreSQL's package has no TLS: somebody in front speaks it, as the server does.
async fn tls_in_front(server: &environment::Postgres, chain_pem: &str, key_pem: &str) -> std::net::SocketAddr {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain_pem.as_bytes()).collect();
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).expect("a key");
    let config = ServerConfig::builder().with_no_client_auth();
    let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(chain.expect("a chain"), key).expect("a pair")));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (address, behind) = (listener.local_addr().expect("an address"), server.address());
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut request = [0; 8];
                tcp.read_exact(&mut request).await?;
                tcp.write_all(b"S").await?;
                let mut tls = acceptor.accept(tcp).await?;
                let mut postgres = TcpStream::connect(behind).await?;
                tokio::io::copy_bidirectional(&mut tls, &mut postgres).await
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_checked_as_it_is_said() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let Place1 { server, target, directory: _directory } = started().await;
    let authority = Authority::new("the database's");
    let usages = [ExtendedKeyUsagePurpose::ServerAuth];
    let named = authority.leaf().ip("127.0.0.1".parse().expect("an address")).usages(&usages).issue();
    let other = authority.leaf().dns("elsewhere.example").usages(&usages).issue();
    let named = tls_in_front(&server, &named.pem(), named.key_pem()).await;
    let other = tls_in_front(&server, &other.pem(), other.key_pem()).await;
    let ours = Some(vec![CertificateDer::from(authority.der().to_vec())]);
    let strangers = Some(vec![CertificateDer::from(Authority::new("a stranger's").der().to_vec())]);
    let with = |address: std::net::SocketAddr, roots: &Option<Vec<CertificateDer<'static>>>, verify| {
        let tls = Some(Tls { roots: roots.clone(), verify, client: None });
        let place = Place::Tcp { host: "127.0.0.1".to_owned(), port: address.port(), tls };
        Target::Postgres(Postgres { place, ..target.clone() })
    };
    for (name, target, is_good) in [
        ("named, full", with(named, &ours, Verify::Full), true),
        ("named, chain", with(named, &ours, Verify::Chain), true),
        ("another's name, full", with(other, &ours, Verify::Full), false),
        ("another's name, chain", with(other, &ours, Verify::Chain), true),
        ("a stranger's, full", with(named, &strangers, Verify::Full), false),
        ("a stranger's, chain", with(named, &strangers, Verify::Chain), false),
        ("no tls there", with(server.address(), &ours, Verify::Full), false),
    ] {
        let answer = set(&target, "shop", FIRST, &[]).await;
        if is_good {
            answer.unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
            target.test("shop", &secret(FIRST)).await.unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
        } else {
            assert_eq!(refused(answer), "tls", "{name}");
        }
    }
}
