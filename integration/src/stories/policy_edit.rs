//! `policy-edit`: a saved edit is in force at once; a broken one changes nothing, and the status says where it is broken.

use std::time::Duration;
use std::time::Instant;

use super::REPORTING;
use super::within;
use crate::environment;
use crate::environment::Ask;
use crate::environment::Connection;
use crate::environment::Environment;
use crate::environment::Protocol::Http2;
use crate::environment::Settings;
use crate::environment::wait;
use crate::report::Report;
use crate::report::StoryError;

/// What the issue promises is a second; a machine that builds something else at the same time may take longer.
const PATIENCE: Duration = Duration::from_secs(15);

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    within(Settings::default(), report, async |environment, report| {
        let shipped = environment::shipped("policy.yaml")?;
        let added = shipped.replacen(
            "rules:\n",
            "rules:\n  - { id: read-reports, allow: [reporting], methods: [GET], paths: [\"/reports/{day}\"] }\n",
            1,
        );
        let client = environment.client(REPORTING, Http2).await?;
        let failed = |source| StoryError::Request { doing: "open a connection".to_owned(), source };
        // One connection throughout: an edit is in force on connections that are open. Over HTTP/2, where a request that is
        // under way when it is forbidden does not take its connection along.
        let mut connection = client.connect().await.map_err(failed)?;

        let before = status_of(&mut connection).await;
        report.holds("no rule lets reporting read a report yet", before == "403 no_rule_matched", &before)?;

        edit(environment, report, &mut connection, &added, "200", "a rule is added").await?;

        let line = 1 + added.lines().position(|line| line.contains("id: read-reports")).unwrap_or_default();
        let typo = added.replacen("allow: [reporting], methods", "alow: [reporting], methods", 1);
        break_it(environment, report, &mut connection, &typo, "an unknown field", &[&place(line), "alow"]).await?;

        let path = added.replacen("/reports/{day}", "/reports//{day}", 1);
        break_it(environment, report, &mut connection, &path, "an impossible path", &[&place(line), "paths[0]"])
            .await?;

        let syntax = added.replacen("rules:\n", "rules: [\n", 1);
        break_it(environment, report, &mut connection, &syntax, "broken YAML", &["policy.yaml:"]).await?;

        let test = added.replacen("expect: { allow: read-orders }", "expect: { allow: write-orders }", 1);
        let named = "checkout reads an order";
        break_it(environment, report, &mut connection, &test, "a policy that fails its own test", &[named]).await?;

        edit(environment, report, &mut connection, &shipped, "403 no_rule_matched", "the rule is taken out again")
            .await?;
        let status = environment.agent.status().await?;
        report.holds("after the repair the status has no error", status.policy.error.is_none(), "none")
    })
    .await
}

fn place(line: usize) -> String {
    format!("policy.yaml:{line}")
}

/// Saves a policy and waits until it decides.
async fn edit(
    environment: &Environment,
    report: &mut Report,
    connection: &mut Connection,
    text: &str,
    want: &str,
    what: &str,
) -> Result<(), StoryError> {
    report.step(what);
    let saved = Instant::now();
    environment.save_policy(text)?;
    wait::until(what, PATIENCE, async || {
        let seen = status_of(connection).await;
        if seen == want { Ok(()) } else { Err(seen) }
    })
    .await?;
    let took = saved.elapsed();
    report.saw(format_args!("in force {} ms after it was saved", took.as_millis()));
    if took > Duration::from_secs(1) {
        report.saw("that is more than the second that is promised: is this machine busy?");
    }
    report.holds("the saved edit decides, on the connection that was open before", true, want)
}

/// Saves a broken policy and checks that it is named and changes nothing.
async fn break_it(
    environment: &Environment,
    report: &mut Report,
    connection: &mut Connection,
    text: &str,
    what: &str,
    named: &[&str],
) -> Result<(), StoryError> {
    report.step(format_args!("saved: {what}"));
    let before = environment.agent.status().await?.policy;
    environment.save_policy(text)?;
    let status = wait::until("the status to name what is wrong", PATIENCE, async || {
        let status = environment.agent.status().await.map_err(|error| environment::chain(&error))?;
        match &status.policy.error {
            error if *error == before.error => Err("the error of the edit before".to_owned()),
            Some(error) if named.iter().all(|part| error.contains(part)) => Ok(status),
            Some(error) => Err(error.clone()),
            None => Err("no error".to_owned()),
        }
    })
    .await?;
    report.holds("the status says what and where", true, status.policy.error.as_deref().unwrap_or_default())?;
    report.holds("the policy in force is the one before", status.policy.version == before.version, "same version")?;
    let seen = status_of(connection).await;
    report.holds("and it goes on deciding", seen == "200", &seen)
}

async fn status_of(connection: &mut Connection) -> String {
    match connection.ask(&Ask::get("/reports/monday")).await {
        Ok(answer) => format!("{} {}", answer.status.as_u16(), answer.code()).trim().to_owned(),
        Err(error) => error.kind(),
    }
}
