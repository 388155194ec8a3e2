use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::fetch::Server;
use crate::hook::When;
use crate::store::LocalStore;

const PATIENCE: Duration = Duration::from_secs(60);

struct World {
    directory: TempDir,
    store: Arc<dyn Store>,
    noted: Arc<Notify>,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let store = LocalStore::open(&directory.path().join("store.redb")).expect("a store").store;
        Self { directory, store: Arc::new(store), noted: Arc::default() }
    }

    fn remedies(&self, remedies: &[Remedy]) -> Remedies {
        Remedies::new(Arc::clone(&self.store), Arc::clone(&self.noted), remedies)
    }

    /// What the audit log will say, when there are so many lines.
    async fn notes(&self, wanted: usize) -> Vec<String> {
        let all = async {
            loop {
                let notes = self.store.notes().expect("notes");
                if notes.len() >= wanted {
                    return notes.iter().map(|note| String::from_utf8_lossy(&note.text).into_owned()).collect();
                }
                self.noted.notified().await;
            }
        };
        tokio::time::timeout(PATIENCE, all).await.expect("noted in time")
    }
}

/// Writes down what it is told.
fn writing(file: &Path, on: &[Failure]) -> Remedy {
    let script = format!("cat >> {0}; echo >> {0}", file.display());
    let hook = Hook {
        program: "/bin/sh".into(),
        arguments: vec!["-c".to_owned(), script],
        timeout: PATIENCE,
        when: When::Installed,
    };
    Remedy { on: on.iter().copied().collect(), action: Action::Run(hook) }
}

fn report(failure: Failure, failures: u32) -> Report {
    Report {
        failure,
        name: "gateway".to_owned(),
        identity: "spiffe://acme.example/gateway".to_owned(),
        step: "prove",
        error: "prove failed".to_owned(),
        failures,
        tried: vec!["handed over again".to_owned()],
        next_attempt: Some(Timestamp::UNIX_EPOCH),
        outage_at: None,
    }
}

#[tokio::test]
async fn a_series_is_told_once_and_then_less_and_less_often() {
    let world = World::new();
    let file = world.directory.path().join("told");
    let remedies = world.remedies(&[writing(&file, &[Failure::NotServed])]);
    let mut told = 0;
    for failures in 1..=9 {
        remedies.tell(report(Failure::NotServed, failures));
        told += usize::from(failures.is_power_of_two());
        world.notes(told).await;
        let running = || remedies.locked(|state| !state.running.is_empty());
        while running() {
            tokio::task::yield_now().await;
        }
    }
    let lines = std::fs::read_to_string(&file).expect("it was told");
    let failures: Vec<u64> = lines
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).expect("json")["failures"].as_u64().expect("a number")
        })
        .collect();
    assert_eq!(failures, [1, 2, 4, 8]);
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().expect("a line")).expect("json");
    assert_eq!((&first["failure"], &first["tried"][0]), (&"not_served".into(), &"handed over again".into()));
    assert_eq!(first["next_attempt"], "1970-01-01T00:00:00Z");
}

#[tokio::test]
async fn one_that_still_runs_is_told_the_newest_afterwards() {
    let world = World::new();
    let file = world.directory.path().join("told");
    let remedies = world.remedies(&[writing(&file, &[])]);
    // Nothing runs before this task waits.
    for failure in [Failure::NotServed, Failure::DeliveryFailed, Failure::RolledBack] {
        remedies.tell(report(failure, 2));
    }
    let notes = world.notes(2).await;
    let told: Vec<_> =
        ["not_served", "rolled_back"].iter().zip(&notes).map(|(want, note)| note.contains(want)).collect();
    assert_eq!((notes.len(), told), (2, vec![true, true]), "{notes:?}");
}

#[tokio::test]
async fn another_failure_and_another_series_are_told_at_once_and_only_what_is_asked_for() {
    let world = World::new();
    let file = world.directory.path().join("told");
    let remedies = world.remedies(&[writing(&file, &[Failure::NotServed, Failure::DeliveryFailed])]);
    remedies.tell(report(Failure::IssuerFailed, 1));
    remedies.tell(report(Failure::NotServed, 3));
    world.notes(1).await;
    while remedies.locked(|state| !state.running.is_empty()) {
        tokio::task::yield_now().await;
    }
    remedies.tell(report(Failure::NotServed, 5));
    remedies.is_well("gateway");
    remedies.tell(report(Failure::NotServed, 3));
    let notes = world.notes(2).await;
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes.iter().all(|note| note.contains("remedied") && note.contains("not_served: hook")), "{notes:?}");
}

#[tokio::test]
async fn a_server_is_told_and_what_it_answers_is_noted_without_more_than_the_server() {
    // As the program does at its beginning; another test may have done it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let world = World::new();
    let server = Server::default();
    let url = server.start("/services/s3cret?token=secret").await;
    let post = Post { url: WANTED.parse(&url).expect("a url"), timeout: PATIENCE };
    let remedies = world.remedies(&[Remedy { on: BTreeSet::new(), action: Action::Post(post) }]);
    for (failures, status, want) in [(1, 204, "answered 204"), (2, 503, "answered 503")] {
        server.say(status, &[], "");
        remedies.tell(report(Failure::NotTried, failures));
        let notes = world.notes(failures as usize).await;
        let last = notes.last().expect("noted");
        assert!(last.contains(want) && !last.contains("secret") && !last.contains("s3cret"), "{last}");
        while remedies.locked(|state| !state.running.is_empty()) {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(server.asked_with().len(), 2);
}
