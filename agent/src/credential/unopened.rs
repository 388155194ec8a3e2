//! Credentials of the configuration that cannot be looked after, for the store does not let us, or what asks their source cannot be
//! made: in the status with the reason, and tried again.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Context;
use super::asked::Ask;
use super::error::CredentialError;
use super::keeper::Keeper;
use crate::command::CommandError;
use crate::config;
use crate::errors::chain;
use crate::rotation::Series;

/// What it takes to look after one.
pub(super) struct Unopened {
    pub(super) context: Arc<Context>,
    pub(super) every: Duration,
    /// Told of a reload, which may be what it waited for.
    pub(super) reloaded: Arc<Notify>,
    pub(super) stop: CancellationToken,
}

impl Unopened {
    /// Tries until it can be looked after; none if `stop` comes first. Whoever asks meanwhile is told why not.
    pub(super) async fn open(
        self,
        mut error: CredentialError,
        inbox: &mut mpsc::Receiver<Ask>,
        configs: &mut watch::Receiver<Arc<config::Credential>>,
    ) -> Option<Keeper> {
        let mut series = Series::default();
        loop {
            let config = Arc::clone(&configs.borrow_and_update());
            let pause = self.tell(&config.name, &error, &mut series);
            let again = Instant::now() + pause;
            loop {
                tokio::select! {
                    () = self.stop.cancelled() => return None,
                    () = tokio::time::sleep_until(again) => break,
                    () = self.reloaded.notified() => break,
                    Some(ask) = inbox.recv() => ask.refuse(&not_looked_after()),
                }
            }
            let config = Arc::clone(&configs.borrow_and_update());
            let name = config.name.clone();
            match Keeper::open(Arc::clone(&self.context), config, self.every).await {
                Ok(keeper) => {
                    tracing::info!(credential = name, "looked after again");
                    series.end(&self.context.agent, &name);
                    return Some(keeper);
                }
                Err(another) => error = another,
            }
        }
    }

    /// Says that it cannot be looked after. Gives how long to wait.
    fn tell(&self, name: &str, error: &CredentialError, series: &mut Series) -> Duration {
        let text = chain(error);
        tracing::error!(credential = name, error = text, "not looked after; it is tried again");
        let pause = series.fail(&self.context.agent, name, &text);
        let next = Timestamp::now().checked_add(pause).ok();
        self.context.agent.board.credential_failed(name, &format!("not looked after: {text}"), next);
        pause
    }
}

fn not_looked_after() -> CommandError {
    let cause = "it cannot be looked after now; `portcullis status` says why, and when that is tried again".to_owned();
    CommandError::Failed { step: "handing the command over".to_owned(), cause }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering;

    use tokio_util::task::TaskTracker;

    use super::super::Asker;
    use super::super::Credentials;
    use super::super::Rings;
    use super::super::Seal;
    use super::*;
    use crate::board::Board;
    use crate::gate::Gate;
    use crate::room;
    use crate::rotation::tests::advice::Failing;
    use crate::rotation::tests::context;
    use crate::xds::Publisher;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn what_cannot_be_looked_after_is_in_the_status_and_tried_again_without_a_reload() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut agent = context(directory.path(), room::at);
        let fails = Arc::new(AtomicBool::new(true));
        let own = Arc::get_mut(&mut agent).expect("nobody else has it");
        let gate = Gate::open(Publisher::new(), Board::new(), Arc::clone(&own.store)).expect("a gate");
        own.store = Arc::new(Failing { inner: Arc::clone(&own.store), fails: Arc::clone(&fails) });
        let file = directory.path().join("portcullis.yaml");
        let text = "version: 1\nca: { trust_domain: acme.example }\ncertificates: []\n\
            credentials: [{ name: db, source: { password: {} }, sds: {} }]\n";
        std::fs::write(&file, text).expect("written");
        let config = config::Config::load(&file).expect("a configuration");
        let seal = Seal::open(None, &directory.path().join("seal.key")).expect("a key");
        let context = Arc::new(Context { agent: Arc::clone(&agent), seal, gate, rings: Rings::default() });
        let shutdown = CancellationToken::new();
        let credentials = Credentials::begin(context, &config, TaskTracker::new(), shutdown.clone()).await;

        let mut board = agent.board.watch();
        let said = board.wait_for(|status| status.credentials[0].last_error.is_some());
        let said = tokio::time::timeout(PATIENCE, said).await.expect("said").expect("a board").credentials[0].clone();
        assert!(said.last_error.is_some_and(|error| error.contains("not looked after")));
        assert!(said.failures == 1 && said.next_attempt.is_some() && said.id.is_none());
        let asker = Asker { who: "a test".to_owned(), why: None };
        let error = credentials.handle().read("db".to_owned(), asker).await.expect_err("nobody has it");
        assert!(error.to_string().contains("`portcullis status` says why"), "{error}");

        fails.store(false, Ordering::Relaxed);
        let made = board.wait_for(|status| status.credentials[0].id.is_some() && status.ready);
        tokio::time::timeout(PATIENCE, made).await.expect("made").expect("a board");
        let notes = agent.store.notes().expect("notes");
        let told = |kind: &str| {
            notes.iter().filter(|note| String::from_utf8_lossy(&note.text).contains(&format!("\"{kind}\""))).count()
        };
        assert_eq!((told("alarm"), told("alarm_cleared")), (1, 1), "the store did not take the alarm at first");
        shutdown.cancel();
    }
}
