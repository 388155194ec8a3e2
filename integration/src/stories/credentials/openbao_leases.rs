//! `openbao-leases`: accounts that OpenBao lends are extended, replaced before they end, and given back; a value that somebody
//! writes there is everywhere a moment later; sealed, OpenBao gives nothing, and what there is goes on.

use std::time::Duration;

use serde_json::json;

use super::consumer::Consumers;
use super::consumer::Login;
use super::consumer::Server;
use super::credential;
use super::database;
use super::database::file_of;
use super::rotate;
use super::wait_until_retired;
use crate::environment::Environment;
use crate::environment::OpenBao;
use crate::environment::wait;
use crate::report::Report;
use crate::report::StoryError;
use crate::stories::within;

const LENT: &str = "lent";
const VALUE: &str = "value";
const PATIENCE: Duration = Duration::from_secs(60);

pub(in crate::stories) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    report.step("starting PostgreSQL, and OpenBao in front of it");
    let server = database::postgres(&[]).await?;
    let bao = OpenBao::start().await?;
    bao.database(server.address(), database::ADMINISTRATOR, database::PASSWORD).await?;
    bao.lend("reader", "8s", "20s").await?;
    bao.put("api", json!({ "key": "first" })).await?;
    let (role_id, secret_id) = bao.app_role().await?;
    let login = format!(
        "address: \"{}\", server_ca: \"{}\", login: {{ approle: {{ role_id: \"{role_id}\", secret_id_file: \"{}\" }} }}",
        bao.address(),
        bao.server_ca().display(),
        secret_id.display(),
    );
    let credentials = format!(
        "  - name: {LENT}
    source: {{ openbao_database: {{ role: reader, {login} }} }}
    overlap: 3s
{}  - name: {VALUE}
    source: {{ openbao_kv: {{ path: api, field: key, {login} }} }}
    files: {{ directory: logins/{VALUE}, write: [{{ name: key }}] }}
",
        database::login_file(LENT),
    );
    within(database::settings(&credentials, &[]), report, async |environment, report| {
        let file = file_of(environment, LENT);
        report.step("a lease of eight seconds, of twenty at most; a service logs in all the time");
        let consumers = Consumers::begin(&Server::Postgres(server.address()), vec![file.clone(), file.clone()]);
        // From look to look: the first may be of one that is extended no more.
        let mut last = credential(environment, LENT).await?;
        wait::until("the lease to be extended", PATIENCE, async || {
            let now = credential(environment, LENT).await.map_err(|error| error.to_string())?;
            let is_extended = now.id == last.id && now.not_after > last.not_after;
            last = now;
            if is_extended { Ok(()) } else { Err(format!("{last:?}")) }
        })
        .await?;
        report.holds("it is extended before it ends", true, "")?;
        let before = Login::read(&file).map_err(claim)?;
        wait::until("another account", PATIENCE, async || {
            let now = credential(environment, LENT).await.map_err(|error| error.to_string())?;
            let is_another = now.account.as_ref().is_some_and(|account| *account != before.account);
            if is_another { Ok(()) } else { Err(format!("{now:?}")) }
        })
        .await?;
        report.holds("and replaced when it cannot be extended any more", true, "")?;
        wait_until_retired(environment, LENT).await?;
        let over = before.to_postgres(server.address()).await;
        report.holds(
            "the account before is given back: there is no such account",
            over.is_err(),
            format_args!("{over:?}"),
        )?;

        report.step("OpenBao is sealed when a rotation is asked for");
        bao.seal().await?;
        let refused = environment.agent.run(&["credential", "rotate", LENT]).await;
        let shown = credential(environment, LENT).await?.last_error.unwrap_or_default();
        report.holds("it fails, visibly", refused.is_err() && shown.contains("failed"), &shown)?;
        bao.unseal().await?;
        wait::until("the rotation to succeed after all", PATIENCE, async || {
            let now = credential(environment, LENT).await.map_err(|error| error.to_string())?;
            if now.failures == 0 && now.last_error.is_none() { Ok(()) } else { Err(format!("{now:?}")) }
        })
        .await?;
        let outcomes = consumers.stop().await;
        report.holds(
            "no login failed all the while",
            outcomes.keys().eq(["logged in"]),
            format_args!("{outcomes:?}"),
        )?;

        report.step("somebody writes another value");
        let seen = key(environment);
        report.holds("the first one is there", seen == "first", &seen)?;
        bao.put("api", json!({ "key": "second" })).await?;
        until(environment, "second").await?;
        report.holds("the second one came by itself", true, "")?;
        for (name, bad) in
            [("an empty one", json!("")), ("one of 65 KiB", json!("x".repeat(65 * 1024))), ("none", json!(7))]
        {
            bao.put("api", json!({ "key": bad })).await?;
            let complaint = wait::until("a complaint", PATIENCE, async || {
                let now = credential(environment, VALUE).await.map_err(|error| error.to_string())?;
                now.last_error.ok_or_else(|| "none".to_owned())
            })
            .await?;
            report.holds(
                &format!("{name} is refused, and the one before stays"),
                key(environment) == "second",
                &complaint,
            )?;
            bao.put("api", json!({ "key": "second" })).await?;
            environment.ready().await?;
        }
        rotate(environment, LENT).await?;
        let audit = environment.agent.run(&["audit", "verify"]).await?;
        report.holds("the audit log is whole", true, audit.trim())
    })
    .await
}

fn key(environment: &Environment) -> String {
    std::fs::read_to_string(environment.directory().join(format!("logins/{VALUE}/key"))).unwrap_or_default()
}

async fn until(environment: &Environment, want: &str) -> Result<(), StoryError> {
    wait::until(&format!("`{want}`"), PATIENCE, async || {
        let seen = key(environment);
        if seen == want { Ok(()) } else { Err(seen) }
    })
    .await?;
    Ok(())
}

fn claim(seen: String) -> StoryError {
    StoryError::Claim { claim: "a consumer finds its login".to_owned(), seen }
}
