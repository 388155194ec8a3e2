//! Whether filters have a signing key: the policy that they decide by holds its public half.

use std::time::Duration;

use tokio::time::Instant;

use super::error::CredentialError;
use crate::gate::Gate;
use crate::gate::Taken;

/// How long a policy with the key may take to be compiled, and filters to take it.
const PATIENCE: Duration = Duration::from_secs(10);
/// The policy's file is watched; between two looks whether the policy was compiled with the key.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// Waits until every connected filter decides by a policy with the key. Where none comes for a while, the next one gets it first.
pub(super) async fn have(gate: &Gate, kid: &str) -> Result<String, CredentialError> {
    let compiled = async {
        while !gate.holds(kid) {
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    };
    if tokio::time::timeout(PATIENCE, compiled).await.is_err() {
        return Err(CredentialError::FilterWithout { kid: kid.to_owned() });
    }
    // Whoever decides by the policy before may have lost its connection for a moment, as all have when the agent was started again.
    let deadline = Instant::now() + PATIENCE;
    let taken = loop {
        match gate.taken(PATIENCE).await {
            Taken::Nobody if Instant::now() < deadline => tokio::time::sleep(BETWEEN_LOOKS).await,
            taken => break taken,
        }
    };
    match taken {
        // The policy may have changed meanwhile.
        Taken::By { proxies } if gate.holds(kid) => Ok(format!("{proxies} proxies decide by it")),
        Taken::Nobody | Taken::NoFilter if gate.holds(kid) => Ok("no filter is connected".to_owned()),
        Taken::Refused | Taken::NotSent => Err(CredentialError::Refused),
        _ => Err(CredentialError::FilterUnanswered { kid: kid.to_owned(), after: PATIENCE }),
    }
}
