//! `just-in-time`: an account that exists only while somebody uses it.

use std::time::Duration;

use super::audit_events;
use super::consumer::Login;
use super::credential;
use super::database;
use crate::environment::Environment;
use crate::environment::OpenBao;
use crate::environment::wait;
use crate::report::Report;
use crate::report::StoryError;
use crate::stories::within;

const NAME: &str = "on-call";
const PATIENCE: Duration = Duration::from_secs(60);

pub(in crate::stories) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    report.step("starting PostgreSQL, and OpenBao in front of it");
    let server = database::postgres(&[]).await?;
    let bao = OpenBao::start().await?;
    bao.database(server.address(), database::ADMINISTRATOR, database::PASSWORD).await?;
    bao.lend("reader", "60s", "600s").await?;
    let (role_id, secret_id) = bao.app_role().await?;
    let credentials = format!(
        "  - name: {NAME}
    source:
      openbao_database:
        role: reader
        address: \"{}\"
        server_ca: \"{}\"
        login: {{ approle: {{ role_id: \"{role_id}\", secret_id_file: \"{}\" }} }}
    issue: on_first_use
    idle: 8s
",
        bao.address(),
        bao.server_ca().display(),
        secret_id.display(),
    );
    within(database::settings(&credentials, &[]), report, async |environment, report| {
        let accounts = async || server.ask("select count(*) from pg_roles where rolname like 'v-%'").await;
        let none = accounts().await?;
        report.holds("nobody asked: there is no account", none == "0", &none)?;
        let first = read(environment).await?;
        let let_in = first.to_postgres(server.address()).await;
        report.holds("the first question makes one, which gets in", let_in.is_ok(), format_args!("{let_in:?}"))?;
        let again = read(environment).await?;
        report.holds("the second question gets the same", again == first, "")?;
        wait::until("it to be given back", PATIENCE, async || match credential(environment, NAME).await {
            Ok(found) if found.id.is_none() && found.overlap_until.is_none() => Ok(()),
            Ok(found) => Err(format!("{found:?}")),
            Err(error) => Err(error.to_string()),
        })
        .await?;
        let (over, left) = (first.to_postgres(server.address()).await, accounts().await?);
        report.holds("unused it is given back", over.is_err() && left == "0", format_args!("{over:?}"))?;
        let next = read(environment).await?;
        report.holds("who asks again gets another", next.account != first.account, "")?;
        environment.agent.kill();
        environment.agent.start().await?;
        let kept = read(environment).await?;
        report.holds("the agent's death changes nothing about it", kept == next, "")?;
        let events = audit_events(environment)?;
        let asked = events.iter().filter(|event| event["event"] == "credential_read").count();
        let why = events.iter().any(|event| event["cause"] == "on call" && event["by"].as_str().is_some());
        report.holds("who asked and why is written down", asked >= 3 && why, asked)
    })
    .await
}

async fn read(environment: &Environment) -> Result<Login, StoryError> {
    let said = environment.agent.run(&["credential", "read", NAME, "--why", "on call", "-o", "json"]).await?;
    serde_json::from_str(&said)
        .map_err(|error| StoryError::Claim { claim: "a login is answered".to_owned(), seen: error.to_string() })
}
