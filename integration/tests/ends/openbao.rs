//! Credentials of OpenBao's engines, with a real PostgreSQL behind them.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::Timestamp;
use portcullis::credential::source::BaoSettings;
use portcullis::credential::source::Field;
use portcullis::credential::source::Obtained;
use portcullis::credential::source::Settings;
use portcullis::credential::source::Source;
use portcullis::credential::source::SourceError;
use portcullis::credential::target::Postgres;
use portcullis::credential::target::Target;
use portcullis::leaf;
use portcullis::openbao::Login;
use portcullis::openbao::Server;
use portcullis_integration::environment;
use portcullis_integration::environment::chain;
use portcullis_integration::environment::wait;
use serde_json::json;

use super::support::LIMIT;
use super::support::at;
use super::support::refused;

const KEEPER: &str = "keeper-of-the-tests";

struct Started {
    bao: environment::OpenBao,
    postgres: environment::Postgres,
    role_id: String,
    secret_id: PathBuf,
}

async fn bao() -> environment::OpenBao {
    environment::OpenBao::start().await.unwrap_or_else(|error| panic!("{}", chain(&error)))
}

async fn started() -> Started {
    let bao = bao().await;
    let postgres = environment::Postgres::start_with_passwords().await;
    let postgres = postgres.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let keeper = format!("CREATE ROLE keeper LOGIN CREATEROLE PASSWORD '{KEEPER}'");
    for statement in [keeper.as_str(), "SET ROLE keeper; CREATE ROLE shop LOGIN"] {
        postgres.ask(statement).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    }
    bao.database(postgres.address(), "keeper", KEEPER).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let (role_id, secret_id) = bao.app_role().await.expect("a role");
    Started { bao, postgres, role_id, secret_id }
}

impl Started {
    fn login(&self) -> Login {
        let (role_id, secret_id) = (self.role_id.clone(), self.secret_id.clone());
        Login::AppRole { mount: "approle".to_owned(), role_id, secret_id }
    }

    fn source(&self, role: &str) -> Source {
        Source::new(Settings::OpenbaoDatabase(settings(&self.bao, self.login(), "database", role))).expect("a source")
    }

    /// Whether PostgreSQL lets in with what was obtained.
    async fn lets_in(&self, obtained: &Obtained) -> bool {
        let target = Target::Postgres(Postgres {
            place: at(self.postgres.address()),
            database: "postgres".to_owned(),
            user: "keeper".to_owned(),
            password: None,
            test_database: None,
            timeout: LIMIT,
        });
        let account = obtained.material.account.as_deref().expect("an account");
        match target.test(account, &obtained.material.secret).await {
            Ok(()) => true,
            refusal => {
                assert_eq!(refused(refusal), "login");
                false
            }
        }
    }
}

fn settings(bao: &environment::OpenBao, login: Login, mount: &str, name: &str) -> BaoSettings {
    let pem = fs::read_to_string(bao.server_ca()).expect("its CA");
    let server = Server {
        address: bao.address().parse().expect("a URL"),
        roots: Some(leaf::chain(&pem).expect("certificates")),
        namespace: None,
        login,
    };
    BaoSettings { server, mount: mount.to_owned(), name: name.to_owned() }
}

fn code<T>(answer: Result<T, SourceError>) -> &'static str {
    let error = answer.err().expect("refused");
    error.code()
}

async fn obtain(source: &Source) -> Obtained {
    source.obtain().await.unwrap_or_else(|error| panic!("{}", chain(&error)))
}

fn in_seconds(end: Option<Timestamp>) -> i64 {
    end.expect("an end").duration_since(Timestamp::now()).as_secs()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_is_read_with_its_version() {
    let bao = bao().await;
    bao.put("shop/db", json!({ "user": "shop", "password": "one", "number": 1 })).await.expect("put");
    let login = Login::Token { file: bao.token_file("1h").await.expect("a token") };
    let source = |name: &str, field| {
        Source::new(Settings::OpenbaoKv(settings(&bao, login.clone(), "secret", name), field)).expect("a source")
    };
    let one = |secret: &str, account: Option<&str>| Field::One {
        secret: secret.to_owned(),
        account: account.map(str::to_owned),
    };
    let password = source("shop/db", one("password", Some("user")));
    let first = obtain(&password).await;
    assert_eq!((first.material.account.as_deref(), first.material.secret.expose()), (Some("shop"), "one"));
    assert!(first.id.starts_with("version 1 of "), "{}", first.id);
    assert_eq!((first.not_after, &first.lease), (None, &None));
    assert_eq!(password.current_id().await.expect("an answer").as_ref(), Some(&first.id));

    bao.put("shop/db", json!({ "user": "shop", "password": "two", "number": 1 })).await.expect("put");
    let now = password.current_id().await.expect("an answer").expect("it changes");
    assert!(now.starts_with("version 2 of "), "{now}");
    let second = obtain(&password).await;
    assert_eq!((second.material.secret.expose(), &second.id), ("two", &now));
    let all = obtain(&source("shop/db", Field::Everything)).await;
    let all: serde_json::Value = serde_json::from_str(all.material.secret.expose()).expect("JSON");
    assert_eq!(all, json!({ "user": "shop", "password": "two", "number": 1 }));

    assert_eq!(code(source("shop/none", Field::Everything).obtain().await), "absent");
    assert_eq!(code(source("shop/db", one("pasword", None)).obtain().await), "malformed");
    assert_eq!(code(source("shop/db", one("number", None)).obtain().await), "malformed");
    bao.put("long", json!({ "x": "y".repeat(64 * 1024 + 1) })).await.expect("put");
    assert_eq!(code(source("long", one("x", None)).obtain().await), "too_long");
    bao.ask(reqwest::Method::DELETE, "secret/data/shop/db", None).await.expect("deleted");
    assert_eq!(code(password.obtain().await), "absent");
    assert_eq!(code(password.current_id().await), "absent");

    bao.seal().await.expect("sealed");
    let sealed = password.obtain().await.expect_err("sealed");
    assert!(sealed.is_passing() && sealed.code() == "refused", "{}", chain(&sealed));
    bao.unseal().await.expect("unsealed");
    bao.put("shop/db", json!({ "user": "shop", "password": "three" })).await.expect("put");
    assert_eq!(obtain(&password).await.material.secret.expose(), "three");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_lent_prolonged_and_given_back() {
    let started = started().await;
    started.bao.lend("reader", "60s", "5m").await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let source = started.source("reader");
    let (first, second) = (obtain(&source).await, obtain(&source).await);
    assert_ne!(first.material, second.material, "one a consumer");
    assert_ne!(first.id, second.id);
    assert_eq!(Some(&first.id), first.material.account.as_ref());
    assert!((40..=60).contains(&in_seconds(first.not_after)), "{:?}", first.not_after);
    assert!(started.lets_in(&first).await && started.lets_in(&second).await);
    assert_eq!(source.current_id().await.expect("an answer"), None);

    let lease = first.lease.clone().expect("a lease");
    assert!(lease.renewable && lease.login.is_some());
    let end = source.renew(&lease).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert!(end >= first.not_after, "{end:?} {:?}", first.not_after);
    for _ in 0..2 {
        source.revoke(&lease).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    }
    assert!(!started.lets_in(&first).await, "it was given back");
    assert!(started.lets_in(&second).await, "the other one was not");
    assert_eq!(code(source.renew(&lease).await), "lease_gone");

    // Another process, as after a restart: it is another login's, and keeps nothing of the first one's.
    let lease = second.lease.clone().expect("a lease");
    let restarted = started.source("reader");
    assert_eq!(restarted.renew(&lease).await.expect("an answer"), None);
    restarted.revoke(&lease).await.expect("given back all the same");
    assert!(!started.lets_in(&second).await);

    assert_eq!(code(started.source("nobody").obtain().await), "refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_lives_no_longer_than_its_login() {
    let started = started().await;
    started.bao.lend("reader", "10m", "1h").await.expect("lent");
    started.bao.logins_last("30s", "1h").await.expect("short logins");
    let source = started.source("reader");
    let first = obtain(&source).await;
    assert!((1..=30).contains(&in_seconds(first.not_after)), "as long as the login: {:?}", first.not_after);
    let lease = first.lease.clone().expect("a lease");
    let end = source.renew(&lease).await.expect("renewed");
    assert!((1..=30).contains(&in_seconds(end)), "{end:?}");

    // The login is ended by somebody: what was lent to it is gone, and the next question begins another one.
    started.bao.end_logins().await.expect("ended");
    wait::until("the account to be gone", Duration::from_secs(20), async || {
        if started.lets_in(&first).await { Err("it lets in") } else { Ok(()) }
    })
    .await
    .expect("what was lent ends with its login");
    match source.renew(&lease).await {
        Ok(None) | Err(SourceError::LeaseGone) => {}
        other => panic!("{other:?}"),
    }
    let next = obtain(&source).await;
    assert!(started.lets_in(&next).await);
    assert_ne!(next.lease.expect("a lease").login, lease.login);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_kept_by_renewal_as_long_as_it_can_be() {
    let started = started().await;
    started.bao.lend("reader", "10m", "1h").await.expect("lent");
    // Renewed after two thirds, again and again: three seconds before its end.
    started.bao.logins_last("9s", "1h").await.expect("short logins");
    let source = started.source("reader");
    let first = obtain(&source).await;
    let lease = first.lease.clone().expect("a lease");
    let end = first.not_after.expect("an end");
    wait::until("the login to have outlived its first end", Duration::from_secs(60), async || {
        match source.renew(&lease).await {
            Ok(Some(_)) if Timestamp::now() > end + SignedDuration::from_secs(1) => Ok(()),
            Ok(Some(_)) => Err("it is as long as it was".to_owned()),
            other => panic!("the login was lost: {other:?}"),
        }
    })
    .await
    .expect("renewed");
    assert!(started.lets_in(&first).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_role_says_when_it_was_rotated() {
    let started = started().await;
    started.bao.rotate("shop", "shop", "1h").await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let settings = settings(&started.bao, started.login(), "database", "shop");
    let source = Source::new(Settings::OpenbaoStatic(settings)).expect("a source");
    let first = obtain(&source).await;
    assert_eq!(first.material.account.as_deref(), Some("shop"));
    assert!((3_500..=3_600).contains(&in_seconds(first.not_after)), "{:?}", first.not_after);
    assert!(started.lets_in(&first).await);
    assert_eq!(source.current_id().await.expect("an answer").as_ref(), Some(&first.id));
    started.bao.ask(reqwest::Method::POST, "database/rotate-role/shop", None).await.expect("rotated");
    let second = obtain(&source).await;
    assert_ne!(first.id, second.id);
    assert_eq!(source.current_id().await.expect("an answer").as_ref(), Some(&second.id));
    assert!(!started.lets_in(&first).await && started.lets_in(&second).await);

    // One that is about to be another one is not handed on.
    started.bao.rotate("shop", "shop", "5s").await.expect("rotated often");
    let mut seen = None;
    wait::until("the end of a period", Duration::from_secs(30), async || match source.obtain().await {
        Err(error @ SourceError::Rotating { .. }) => {
            seen = Some(error);
            Ok(())
        }
        Ok(obtained) if in_seconds(obtained.not_after) >= 1 => Err("it lasts".to_owned()),
        other => Err(format!("{other:?}")),
    })
    .await
    .expect("refused");
    let error = seen.expect("an error");
    assert!(error.is_passing() && error.retry_after().is_some(), "{error}");
}
