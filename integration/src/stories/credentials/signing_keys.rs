//! `signing-keys`: the key that signs tokens is replaced again and again under load. A new one is published, every filter has
//! it, then it signs; no token is refused meanwhile.

use std::time::Duration;

use super::audit_events;
use super::token_keys;
use crate::environment::Application;
use crate::environment::Environment;
use crate::environment::wait;
use crate::report::Report;
use crate::report::StoryError;
use crate::stories::within;

const ROTATIONS: usize = 10;
const PATIENCE: Duration = Duration::from_secs(20);

pub(in crate::stories) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    let (way_out, settings) = token_keys::settings("60s")?;
    within(settings, report, async |environment, report| {
        let application = Application::new(way_out);
        let work = application.work("/orders/42", 3, Duration::from_millis(20));
        report.step(format_args!("constant load; {ROTATIONS} times a new key"));
        for _ in 0..ROTATIONS {
            super::rotate(environment, token_keys::KEY).await?;
        }
        let answers = work.stop().await;
        let all: u64 = answers.values().sum();
        report.holds("every request was let in", answers.keys().eq(["200"]), format_args!("{answers:?}"))?;
        report.saw(format_args!("{all} requests"));

        wait::until("a token to be signed with the last key", PATIENCE, async || {
            let signed = served(environment, "orders-token").map_err(|error| error.to_string())?.len();
            if signed > ROTATIONS { Ok(()) } else { Err(format!("{signed} tokens")) }
        })
        .await?;
        let proofs = served(environment, token_keys::KEY)?;
        // The first one was there before any proxy.
        let at_filters = proofs.iter().filter(|proof| proof.contains("decide by it")).count();
        let seen = format!("{at_filters} of {}, {}", proofs.len(), proofs.last().cloned().unwrap_or_default());
        report.holds("each key signed when the filters decided by it", at_filters >= ROTATIONS, seen)?;

        report.step("the agent dies between publishing a key and signing with it");
        let work = application.work("/orders/42", 3, Duration::from_millis(20));
        environment.agent.kill();
        for place in ["credential-prove", "credential-prove-done", "credential-stage", "credential-stage-done"] {
            super::rotate_to_die(environment, token_keys::KEY, place).await?;
            report.saw(format_args!("dead at `{place}`"));
        }
        environment.agent.start().await?;
        environment.ready().await?;
        let answers = work.stop().await;
        report.holds("nobody noticed", answers.keys().eq(["200"]), format_args!("{answers:?}"))
    })
    .await
}

/// What showed each time that the credential is everywhere.
fn served(environment: &Environment, name: &str) -> Result<Vec<String>, StoryError> {
    let events = audit_events(environment)?;
    let events = events.iter().filter(|event| event["event"] == "served" && event["name"] == name);
    Ok(events.map(|event| event["proof"].as_str().unwrap_or_default().to_owned()).collect())
}
