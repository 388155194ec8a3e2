//! `injected-token`: an application that holds no token asks a service that wants one. Envoy puts it in, the agent makes a new
//! one every few seconds, and the gate in front of the service never meets one that is over.

use std::collections::BTreeSet;
use std::time::Duration;

use super::PATIENCE;
use super::token_keys;
use super::wait_until_retired;
use crate::environment::Application;
use crate::environment::EnvironmentError;
use crate::environment::wait;
use crate::report::Report;
use crate::report::StoryError;
use crate::stories::within;

/// What the issue asks for.
const A_MINUTE: Duration = Duration::from_secs(60);
const LIFETIME: &str = "5s";

pub(in crate::stories) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    let (way_out, settings) = token_keys::settings(LIFETIME)?;
    within(settings, report, async |environment, report| {
        let application = Application::new(way_out);
        let (status, seen) = asked(application.ask("/orders/42", &[]).await)?;
        let seen = seen.map(|seen| seen.values("authorization").join(" ")).unwrap_or_default();
        let is_token = seen.starts_with("Bearer ey") && seen.split('.').count() == 3;
        report.holds(
            "the application asks without a token, and the service sees one",
            status == 200 && is_token,
            status,
        )?;
        let own = [("authorization", "Bearer of.my.own"), ("authorization", "Basic bWU6bWU=")];
        for own in own {
            let (status, seen) = asked(application.ask("/orders/42", &[own]).await)?;
            let seen = seen.map(|seen| seen.values("authorization").join(" ")).unwrap_or_default();
            let claim = "one that the application brings along does not get through";
            report.holds(claim, status == 200 && !seen.contains(own.1), status)?;
        }
        let (status, _) = asked(application.ask("/admin", &[]).await)?;
        report.holds("a token of few rights opens few doors", status == 403, status)?;

        report.step(format_args!("a minute of requests; a token lives {LIFETIME}; the key that signs them changes"));
        environment.upstream.take_seen();
        let work = application.work("/orders/42", 3, Duration::from_millis(30));
        let before = keys(environment)?;
        super::rotate(environment, token_keys::KEY).await?;
        let between = keys(environment)?;
        report.holds(
            "the key set has the new key and the old one",
            before.len() == 1 && between.len() == 2 && between.is_superset(&before),
            between.len(),
        )?;
        tokio::time::sleep(A_MINUTE).await;
        wait_until_retired(environment, token_keys::KEY).await?;
        let answers = work.stop().await;
        let all: u64 = answers.values().sum();
        let tokens: BTreeSet<String> = environment
            .upstream
            .take_seen()
            .iter()
            .flat_map(|seen| seen.values("authorization").into_iter().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        report.saw(format_args!("{all} requests with {} different tokens", tokens.len()));
        report.holds("every request was let in", answers.keys().eq(["200"]), format_args!("{answers:?}"))?;
        report.holds("a token never outlived its five seconds by being used", tokens.len() >= 12, tokens.len())?;
        let after = keys(environment)?;
        report.holds(
            "the old key is gone when nothing that it signed is good any more",
            after.len() == 1 && after.is_disjoint(&before),
            after.len(),
        )?;

        report.step("the agent is away for longer than a token lives");
        environment.agent.kill();
        wait::until("an application that is refused", PATIENCE, async || {
            match application.ask("/orders/42", &[]).await {
                Ok((401, _)) => Ok(()),
                Ok((status, _)) => Err(status.to_string()),
                Err(seen) => Err(seen),
            }
        })
        .await?;
        report.holds("an old token opens nothing, and nothing gets through without one", true, 401)?;
        environment.agent.start().await?;
        environment.ready().await?;
        // Envoy takes its time before it connects again.
        wait::until("an application that is let in", PATIENCE, async || {
            match application.ask("/orders/42", &[]).await {
                Ok((200, _)) => Ok(()),
                Ok((status, _)) => Err(status.to_string()),
                Err(seen) => Err(seen),
            }
        })
        .await?;
        report.holds("with the agent the next token is there", true, "")?;
        let audit = environment.agent.run(&["audit", "verify"]).await?;
        report.holds("the audit log is whole", true, audit.trim())?;
        let log = std::fs::read_to_string(environment.directory().join("state/audit.jsonl")).unwrap_or_default();
        let shown = tokens.iter().filter_map(|token| token.rsplit('.').next()).any(|signature| log.contains(signature));
        report.holds("and no token is in it", !log.is_empty() && !shown, format_args!("{} bytes", log.len()))
    })
    .await
}

fn keys(environment: &crate::environment::Environment) -> Result<BTreeSet<String>, StoryError> {
    let path = environment.directory().join("token-keys/jwks.json");
    let file = |source| EnvironmentError::File { doing: "read", path: path.clone(), source };
    let text = std::fs::read_to_string(&path).map_err(file)?;
    let set: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let keys = set["keys"].as_array().cloned().unwrap_or_default();
    Ok(keys.iter().filter_map(|key| key["kid"].as_str().map(str::to_owned)).collect())
}

fn asked<T>(answer: Result<T, String>) -> Result<T, StoryError> {
    answer.map_err(|seen| StoryError::Claim { claim: "the application gets an answer".to_owned(), seen })
}
