//! `postgres-rotation`: two hundred new passwords under a constant load of real logins, none of which fails; the agent dies in
//! the middle, and so does the database.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::audit_events;
use super::consumer::Consumers;
use super::consumer::Login;
use super::consumer::Server;
use super::credential;
use super::database;
use super::database::file_of;
use super::rotate;
use super::rotate_to_die;
use super::wait_until_retired;
use crate::environment::wait;
use crate::report::Report;
use crate::report::StoryError;
use crate::stories::within;

/// Passwords that rotate side by side, and how often each does.
const PASSWORDS: usize = 20;
const ROTATIONS: usize = 10;
/// What a consumer has between reading its file and logging in, on a machine that is busy with other things too.
const OVERLAP: &str = "overlap: 3s";
/// So long after it, what waits for nobody is gone.
const BEYOND: Duration = Duration::from_secs(3);
/// One that waits for its consumers.
const PATIENT: &str = "patient";
const PATIENCE: Duration = Duration::from_secs(60);

pub(in crate::stories) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    report.step("starting PostgreSQL, which asks everybody for a password");
    let names: Vec<String> = (0..PASSWORDS).map(|number| format!("shop{number}")).collect();
    let mut server = database::postgres(&[names.as_slice(), &[PATIENT.to_owned()]].concat()).await?;
    let (_held, password) = database::secret_file(&format!("{}\n", database::PASSWORD))?;
    let credentials = names.iter().map(|name| database::alternating(name, &server, &password, OVERLAP));
    let patient = database::alternating(PATIENT, &server, &password, &format!("{OVERLAP}\n    retire: when_moved"));
    let settings = database::settings(&format!("{}{patient}", credentials.collect::<String>()), &[]);
    within(settings, report, async |environment, report| {
        let files: Vec<_> = names.iter().map(|name| file_of(environment, name)).collect();
        report.step(format_args!(
            "{PASSWORDS} services log in all the time; each password is replaced {ROTATIONS} times"
        ));
        let consumers = Consumers::begin(&Server::Postgres(server.address()), files.clone());
        let mut seen = BTreeSet::new();
        let all = names.iter().map(async |name| {
            for _ in 0..ROTATIONS {
                rotate(environment, name).await?;
            }
            Ok::<(), StoryError>(())
        });
        futures::future::try_join_all(all).await?;
        let outcomes = consumers.stop().await;
        let logins: u64 = outcomes.values().sum();
        report.holds("every login succeeded", outcomes.keys().eq(["logged in"]), format_args!("{outcomes:?}"))?;
        let mut rotations = 0;
        for name in &names {
            rotations += credential(environment, name).await?.rotations;
            seen.insert(Login::read(&file_of(environment, name)).map_err(claim)?.secret);
        }
        report.saw(format_args!("{rotations} rotations, {logins} logins"));
        let wanted = u64::try_from(PASSWORDS * ROTATIONS).unwrap_or(u64::MAX);
        report.holds("two hundred passwords were replaced", rotations >= wanted, rotations)?;

        let name = names[0].as_str();
        let before = Login::read(&file_of(environment, name)).map_err(claim)?;
        rotate(environment, name).await?;
        wait_until_retired(environment, name).await?;
        let after = Login::read(&file_of(environment, name)).map_err(claim)?;
        let old = before.to_postgres(server.address()).await;
        report.holds(
            "the one before no longer gets in",
            old.is_err() && before.account != after.account,
            format_args!("{old:?}"),
        )?;

        report.step("somebody stays in a session of the account that is replaced");
        let file = file_of(environment, PATIENT);
        let before = Login::read(&file).map_err(claim)?;
        let session = before.stay(server.address()).await.map_err(claim)?;
        rotate(environment, PATIENT).await?;
        wait::until("the overlap to be over", PATIENCE, async || {
            let found = credential(environment, PATIENT).await.map_err(|error| error.to_string())?;
            let over = found.overlap_until.is_some_and(|until| until + BEYOND < Timestamp::now());
            if over { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await?;
        let old = before.to_postgres(server.address()).await;
        report.holds("beyond the overlap it is good while somebody stays", old.is_ok(), format_args!("{old:?}"))?;
        drop(session);
        wait_until_retired(environment, PATIENT).await?;
        let old = before.to_postgres(server.address()).await;
        report.holds("and ends when they have moved", old.is_err(), format_args!("{old:?}"))?;

        report.step("the agent is killed before and after a password is set, tried, switched and published");
        let consumers = Consumers::begin(&Server::Postgres(server.address()), vec![file_of(environment, name)]);
        environment.agent.kill();
        let edges = ["journal-done", "obtain", "obtain-done", "check", "stage", "stage-done", "install-done", "prove"];
        for edge in edges {
            rotate_to_die(environment, name, &format!("credential-{edge}")).await?;
            environment.agent.start().await?;
            super::wait_until_settled(environment, name).await?;
            let now = Login::read(&file_of(environment, name)).map_err(claim)?;
            let outcome = now.to_postgres(server.address()).await;
            report.holds(&format!("dead at `{edge}`, it went on"), outcome.is_ok(), format_args!("{outcome:?}"))?;
            environment.agent.stop().await?;
        }
        let outcomes = consumers.stop().await;
        report.holds("no login failed", outcomes.keys().eq(["logged in"]), format_args!("{outcomes:?}"))?;
        environment.agent.start().await?;
        environment.ready().await?;

        report.step("the database is killed in the middle of it");
        let served = Login::read(&file_of(environment, name)).map_err(claim)?;
        server.crash().await?;
        let refused = environment.agent.run(&["credential", "rotate", name]).await;
        let status = credential(environment, name).await?;
        let shown = status.last_error.clone().unwrap_or_default();
        let claimed = "the rotation fails, visibly, with the next attempt";
        report.holds(claimed, refused.is_err() && status.next_attempt.is_some() && !shown.is_empty(), &shown)?;
        let now = Login::read(&file_of(environment, name)).map_err(claim)?;
        report.holds("nothing is published that was not set", now == served, "")?;
        server.start_again().await?;
        wait::until("the rotation to succeed after all", PATIENCE, async || {
            let is_new = Login::read(&file_of(environment, name)).is_ok_and(|now| now != served);
            match credential(environment, name).await {
                Ok(found) if is_new && found.failures == 0 && found.last_error.is_none() => Ok(()),
                Ok(found) => Err(format!("{found:?}")),
                Err(error) => Err(error.to_string()),
            }
        })
        .await?;
        let now = Login::read(&file_of(environment, name)).map_err(claim)?;
        let outcome = now.to_postgres(server.address()).await;
        report.holds(
            "when it is back, so is the rotation",
            outcome.is_ok() && now != served,
            format_args!("{outcome:?}"),
        )?;

        seen.insert(now.secret);
        let log = server.log();
        let said = seen.iter().any(|secret| log.contains(secret.as_str()));
        report.holds(
            "the database's log, with every statement, has no password",
            !said && log.contains("ALTER ROLE"),
            "",
        )?;
        let owners = audit_events(environment)?.iter().filter(|event| event["event"] == "credential_set").count();
        report.holds("the audit log has each one that was set", owners > PASSWORDS * ROTATIONS, owners)?;
        let audit = environment.agent.run(&["audit", "verify"]).await?;
        report.holds("and is whole", true, audit.trim())
    })
    .await
}

fn claim(seen: String) -> StoryError {
    StoryError::Claim { claim: "a consumer finds its login".to_owned(), seen }
}
