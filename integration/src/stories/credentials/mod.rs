//! Credentials that rotate: the stories about them, and what those share.

mod consumer;
pub(super) mod credential_faults;
mod database;
pub(super) mod injected_token;
pub(super) mod just_in_time;
pub(super) mod openbao_leases;
pub(super) mod postgres_rotation;
pub(super) mod redis_rotation;
pub(super) mod session_tickets;
pub(super) mod signing_keys;
mod token_keys;

use std::time::Duration;

use portcullis::status::CredentialStatus;
use serde_json::Value;

use crate::environment;
use crate::environment::Environment;
use crate::environment::EnvironmentError;
use crate::environment::wait;
use crate::report::StoryError;

/// Longer than anything takes that is not broken; an overlap may be as long as a token's life and a minute.
const PATIENCE: Duration = Duration::from_secs(120);

/// Everything in the audit log, oldest first.
fn audit_events(environment: &Environment) -> Result<Vec<Value>, StoryError> {
    let path = environment.directory().join("state/audit.jsonl");
    let file = |source| EnvironmentError::File { doing: "read", path: path.clone(), source };
    let text = std::fs::read_to_string(&path).map_err(file)?;
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// A credential of the status.
async fn credential(environment: &Environment, name: &str) -> Result<CredentialStatus, EnvironmentError> {
    let status = environment.agent.status().await?;
    let found = status.credentials.into_iter().find(|credential| credential.name == name);
    found.ok_or_else(|| EnvironmentError::Unreadable { what: format!("the status of `{name}`"), text: String::new() })
}

/// Waits until nothing of before is good any more.
async fn wait_until_retired(environment: &Environment, name: &str) -> Result<(), StoryError> {
    wait::until(&format!("what `{name}` was before to be retired"), PATIENCE, async || {
        match credential(environment, name).await {
            Ok(found) if found.state == "retired" && found.overlap_until.is_none() => Ok(()),
            Ok(found) => Err(format!("{found:?}")),
            Err(error) => Err(environment::chain(&error)),
        }
    })
    .await?;
    Ok(())
}

/// Waits until a rotation that was under way is over.
async fn wait_until_settled(environment: &Environment, name: &str) -> Result<(), StoryError> {
    wait::until(&format!("the rotation of `{name}` to end"), PATIENCE, async || {
        match credential(environment, name).await {
            Ok(found) if matches!(found.state.as_str(), "served" | "retired") && found.failures == 0 => Ok(()),
            Ok(found) => Err(format!("{found:?}")),
            Err(error) => Err(environment::chain(&error)),
        }
    })
    .await?;
    Ok(())
}

/// Has a credential rotated now.
async fn rotate(environment: &Environment, name: &str) -> Result<(), StoryError> {
    environment.agent.run(&["credential", "rotate", name]).await?;
    Ok(())
}

/// Starts the agent, which dies at this place of a rotation that is asked for.
async fn rotate_to_die(environment: &mut Environment, name: &str, place: &str) -> Result<(), StoryError> {
    // It may die before it answers, of what was under way.
    if environment.agent.start_with(&[("PORTCULLIS_FAILPOINT", place)]).await.is_ok() {
        let _ = environment.agent.run(&["credential", "rotate", name]).await;
    }
    environment.agent.dies(PATIENCE).await?;
    Ok(())
}
