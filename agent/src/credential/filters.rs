//! Whether filters have a signing key: the policy that they decide by holds its public half.

use std::time::Duration;

use super::error::CredentialError;
use crate::gate::Gate;
use crate::gate::Taken;

/// How long a policy with the key may take to be compiled.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long filters may take to take it, also those whose proxies come back to an agent that was started again.
const ANSWER: Duration = Duration::from_secs(20);
/// The policy's file is watched; between two looks whether the policy was compiled with the key.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// Waits until every filter decides by a policy with the key. Where none is connected, the next one gets it first.
pub(super) async fn have(gate: &Gate, kid: &str) -> Result<String, CredentialError> {
    let compiled = async {
        while !gate.holds(kid) {
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    };
    if tokio::time::timeout(PATIENCE, compiled).await.is_err() {
        return Err(CredentialError::FilterWithout { kid: kid.to_owned() });
    }
    match gate.taken(ANSWER).await {
        // The policy may have changed meanwhile.
        Taken::By { proxies } if gate.holds(kid) => Ok(format!("{proxies} proxies decide by it")),
        Taken::Nobody | Taken::NoFilter if gate.holds(kid) => Ok("no filter is connected".to_owned()),
        Taken::Refused | Taken::NotSent => Err(CredentialError::Refused),
        _ => Err(CredentialError::FilterUnanswered { kid: kid.to_owned(), after: ANSWER }),
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;

    use super::*;
    use crate::board::Board;
    use crate::config;
    use crate::policy_file::Compiled;
    use crate::store::LocalStore;
    use crate::xds::Proxy;
    use crate::xds::Publisher;

    #[tokio::test]
    async fn no_key_signs_while_filters_without_it_are_on_their_way_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = LocalStore::open(&directory.path().join("store.redb")).expect("a store").store;
        let publisher = Publisher::new();
        let gate = Gate::open(publisher.clone(), Board::new(), Arc::new(store)).expect("a gate");
        let wasm = directory.path().join("filter.wasm");
        std::fs::write(&wasm, "\0asm\u{1}\0\0\0").expect("written");
        publisher.expect_back();
        let turn = gate.begin(&config::Filter { name: "filter".to_owned(), wasm });
        let configuration = r#"{"kid": "new"}"#.to_owned();
        gate.policy(turn, &Compiled { version: "1".to_owned(), configuration, text: None });
        Proxy::connect(&publisher, "filter").answer(|_| true);

        let mut proof = pin!(have(&gate, "new"));
        assert!(tokio::time::timeout(Duration::ZERO, &mut proof).await.is_err(), "one of them has it");
        publisher.expect_no_more();
        assert_eq!(proof.await.expect("all have it"), "1 proxies decide by it");
    }
}
