//! `credential-faults`: two agents on one account, values that no place can hold, a database that refuses: told apart, told to
//! those who can help, and the one before is good all the while.

use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::consumer::Login;
use super::credential;
use super::database;
use super::database::file_of;
use super::rotate;
use crate::environment::Environment;
use crate::environment::EnvironmentError;
use crate::environment::OpenBao;
use crate::environment::wait;
use crate::report::Report;
use crate::report::StoryError;
use crate::stories::within;

const NAME: &str = "shop";
const INJECTED: &str = "injected";
const PATIENCE: Duration = Duration::from_secs(60);

pub(in crate::stories) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    report.step("starting PostgreSQL and OpenBao");
    let server = database::postgres(&[NAME.to_owned()]).await?;
    let bao = OpenBao::start().await?;
    bao.put("api", json!({ "key": "good" })).await?;
    let (role_id, secret_id) = bao.app_role().await?;
    let (held, password) = database::secret_file(&format!("{}\n", database::PASSWORD))?;
    let told = held.path().join("told.jsonl");
    let credentials = format!(
        "{}  - name: {INJECTED}
    source:
      openbao_kv:
        path: api
        field: key
        address: \"{}\"
        server_ca: \"{}\"
        login: {{ approle: {{ role_id: \"{role_id}\", secret_id_file: \"{}\" }} }}
    sds: {{}}
remedies:
  - {{ run: [sh, -c, \"cat >> {told}; echo >> {told}\"] }}
",
        database::alternating(NAME, &server, &password, "overlap: 1s"),
        bao.address(),
        bao.server_ca().display(),
        secret_id.display(),
        told = told.display(),
    );
    within(database::settings(&credentials, &[]), report, async |environment, report| {
        let file = file_of(environment, NAME);
        let read =
            || Login::read(&file).map_err(|seen| StoryError::Claim { claim: "a login is there".to_owned(), seen });
        report.step("another agent begins to set the same accounts' passwords");
        for account in ["shop_a", "shop_b"] {
            server.ask(&format!("COMMENT ON ROLE {account} IS '[portcullis:0123456789abcdef]'")).await?;
        }
        let before = read()?;
        let refused = environment.agent.run(&["credential", "rotate", NAME]).await;
        let shown = credential(environment, NAME).await?.last_error.unwrap_or_default();
        report.holds(
            "nothing is set, and both are named",
            refused.is_err() && shown.contains("0123456789abcdef"),
            &shown,
        )?;
        let let_in = before.to_postgres(server.address()).await;
        report.holds("what is published gets in", let_in.is_ok() && read()? == before, format_args!("{let_in:?}"))?;
        until_told(&told, "two_agents").await?;
        report.holds("who can help was told", true, "two_agents")?;
        for account in ["shop_a", "shop_b"] {
            server.ask(&format!("COMMENT ON ROLE {account} IS NULL")).await?;
        }
        until_well(environment, NAME).await?;
        report.holds("alone again, it goes on by itself", read()? != before, "")?;

        report.step("somebody changes the password that is in use");
        let before = read()?;
        server.ask(&format!("ALTER ROLE {} PASSWORD 'somebody else'", before.account)).await?;
        wait::until("a login that gets in", PATIENCE, async || {
            let login = Login::read(&file)?;
            if login == before { Err("the same".to_owned()) } else { login.to_postgres(server.address()).await }
        })
        .await?;
        report.holds("the agent sees that it does not get in, and makes another one", true, "login_refused")?;

        report.step("the administrator is locked out");
        server.ask(&format!("ALTER ROLE {} NOLOGIN", database::ADMINISTRATOR)).await?;
        let before = read()?;
        let refused = environment.agent.run(&["credential", "rotate", NAME]).await;
        let shown = credential(environment, NAME).await?.last_error.unwrap_or_default();
        let let_in = before.to_postgres(server.address()).await;
        report.holds("consumers do not notice", refused.is_err() && let_in.is_ok() && read()? == before, &shown)?;
        server.ask(&format!("ALTER ROLE {} LOGIN", database::ADMINISTRATOR)).await?;
        until_well(environment, NAME).await?;

        report.step("values come that no header can hold");
        for (name, bad) in [("a line's end", "two\nlines"), ("a zero byte", "a\u{0}b"), ("nothing", "")] {
            let id = credential(environment, INJECTED).await?.id;
            bao.put("api", json!({ "key": bad })).await?;
            let complaint = wait::until("a complaint", PATIENCE, async || {
                let now = credential(environment, INJECTED).await.map_err(|error| error.to_string())?;
                now.last_error.ok_or_else(|| "none".to_owned())
            })
            .await?;
            let now = credential(environment, INJECTED).await?.id;
            let is_silent = bad.is_empty() || !complaint.contains(bad);
            report.holds(
                &format!("{name} is refused, and the one before stays"),
                now == id && is_silent,
                &complaint,
            )?;
            bao.put("api", json!({ "key": "good" })).await?;
            until_well(environment, INJECTED).await?;
        }
        rotate(environment, NAME).await?;
        let metrics = metrics(environment).await?;
        let counted = metrics.lines().any(|line| {
            line.starts_with("portcullis_credential_rotation_total") && line.contains("failure") && line.contains(NAME)
        });
        report.holds("the metrics count what failed", counted, "")
    })
    .await
}

async fn metrics(environment: &Environment) -> Result<String, EnvironmentError> {
    let asked = async {
        let mut stream = TcpStream::connect(environment.metrics).await?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\nhost: localhost\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map(|_| answer)
    };
    asked.await.map_err(|source| EnvironmentError::Socket { doing: "ask for the metrics", source })
}

async fn until_well(environment: &Environment, name: &str) -> Result<(), StoryError> {
    wait::until(&format!("`{name}` to be well again"), PATIENCE, async || {
        let now = credential(environment, name).await.map_err(|error| error.to_string())?;
        if now.failures == 0 && now.last_error.is_none() { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await?;
    Ok(())
}

async fn until_told(file: &std::path::Path, what: &str) -> Result<(), StoryError> {
    wait::until(&format!("somebody to be told of `{what}`"), PATIENCE, async || {
        let told = std::fs::read_to_string(file).unwrap_or_default();
        if told.contains(what) { Ok(()) } else { Err(told) }
    })
    .await?;
    Ok(())
}
