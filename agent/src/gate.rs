//! What the filter is given: the policy in force, and what is revoked, as one configuration.
//!
//! Either changes without the other: a revocation does not wait until a policy is compiled, nor for the keys that one waits
//! for.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use jiff::Timestamp;
use portcullis_policy::Protocol;
use portcullis_policy::revocation;
use portcullis_policy::revocation::Revocations;
use serde::Deserialize;
use serde::Serialize;

use crate::board::Board;
use crate::config;
use crate::errors::chain;
use crate::policy_file::Compiled;
use crate::resource::Body;
use crate::resource::Resource;
use crate::xds::Publisher;

/// The way of policies and revocations to the proxies. Clones share one state.
#[derive(Clone)]
pub struct Gate {
    state: Arc<Mutex<State>>,
    publisher: Publisher,
    board: Board,
}

#[derive(Default)]
struct State {
    /// How many have begun.
    turns: u64,
    filter: Option<config::Filter>,
    policy: Option<Compiled>,
    revocations: Arc<Revocations>,
    /// As pushed.
    version: Option<String>,
    /// The newest could not be pushed, and what was pushed is older.
    is_held_back: bool,
    /// Milliseconds since 1970 of the last push, or one more than that of the push before: no two have the same.
    pushed: i64,
}

/// The right to say which policy is in force, until somebody else begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn(u64);

/// The kinds of filters that a proxy can ask for.
const KINDS: [Protocol; 2] = [Protocol::Http, Protocol::Tcp];

/// The name that a proxy asks for: that of the configuration, with an ending for the one in chains of network filters.
fn name(filter: &config::Filter, protocol: Protocol) -> String {
    match protocol {
        Protocol::Http => filter.name.clone(),
        Protocol::Tcp => format!("{}-tcp", filter.name),
    }
}

/// How the filter knows what it is: see its `host::protocol`.
fn kind(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "http",
        Protocol::Tcp => "tcp",
    }
}

/// What the proxies made of the newest configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Taken {
    /// Every connected proxy that has the filter decides by it.
    By {
        /// How many proxies are connected.
        proxies: usize,
    },
    /// There is no filter in the configuration, or no policy for it yet.
    NoFilter,
    /// No proxy that has the filter is connected; the next one gets it first of all.
    Nobody,
    /// A proxy did not answer yet.
    NotYet,
    /// A proxy refused it; the status says why.
    Refused,
    /// It could not be sent to any proxy, for the module cannot be read; the log says why.
    NotSent,
}

impl Gate {
    /// Nothing is in force yet.
    pub fn new(publisher: Publisher, board: Board) -> Self {
        Self { state: Arc::default(), publisher, board }
    }

    /// Begins to say which policy this filter has. Whoever did before is not listened to any more.
    pub fn begin(&self, filter: &config::Filter) -> Turn {
        let mut state = self.state();
        state.turns += 1;
        state.filter = Some(filter.clone());
        state.policy = None;
        Turn(state.turns)
    }

    /// Puts a policy in force.
    pub fn policy(&self, turn: Turn, policy: &Compiled) {
        let mut state = self.state();
        if turn == Turn(state.turns) {
            state.policy = Some(policy.clone());
            self.push(&mut state);
        }
    }

    /// Puts what is revoked in force.
    pub fn revoked(&self, revocations: Arc<Revocations>) {
        let mut state = self.state();
        state.revocations = revocations;
        self.push(&mut state);
    }

    /// There is no filter any more.
    pub fn close(&self) {
        let mut state = self.state();
        state.turns += 1;
        (state.filter, state.policy, state.version, state.is_held_back) = (None, None, None, false);
    }

    /// Waits until every proxy took what is in force now, or for as long as `patience`.
    pub async fn taken(&self, patience: Duration) -> Taken {
        let mut activity = self.publisher.activity();
        let (names, version) = {
            let state = self.state();
            match (&state.filter, &state.version) {
                _ if state.is_held_back => return Taken::NotSent,
                (Some(filter), Some(version)) => (KINDS.map(|protocol| name(filter, protocol)), version.clone()),
                _ => return Taken::NoFilter,
            }
        };
        let answered = async {
            loop {
                // Marked before it is looked at: what happens after the look wakes.
                activity.mark_unchanged();
                if names.iter().any(|name| self.publisher.is_refused(name, &version)) {
                    return Taken::Refused;
                }
                let answers = names.iter().filter_map(|name| self.publisher.acknowledged(name));
                match answers.reduce(|one, other| one && other) {
                    None => return Taken::Nobody,
                    Some(true) => return Taken::By { proxies: self.publisher.proxies().len() },
                    Some(false) => {}
                }
                if activity.changed().await.is_err() {
                    return Taken::NotYet;
                }
            }
        };
        tokio::time::timeout(patience, answered).await.unwrap_or(Taken::NotYet)
    }

    fn push(&self, state: &mut State) {
        let (Some(filter), Some(policy)) = (&state.filter, &state.policy) else { return };
        let (configuration, version) = revocation::join(&policy.configuration, &policy.version, &state.revocations);
        // By the clock, so that it is another one after a restart too.
        state.pushed = Timestamp::now().as_millisecond().max(state.pushed + 1);
        let mut published = Ok(());
        for protocol in KINDS {
            let (name, kind) = (name(filter, protocol), kind(protocol));
            let root_id = format!("{kind}:{name}-{}", state.pushed);
            let module = filter.wasm.display().to_string();
            let body = Body::WasmFilter { protocol, module, configuration: configuration.clone(), root_id };
            let resource = Resource { name, version: version.clone(), body };
            published = published.and(self.publisher.publish(resource));
        }
        state.is_held_back = published.is_err();
        if let Err(error) = published {
            tracing::error!(
                filter = filter.name,
                error = chain(&error),
                "not published; the one before stays in force"
            );
            return;
        }
        self.board.policy(|policy| policy.version = Some(version.clone()));
        state.version = Some(version);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Held for moments and never across an await. A panic inside leaves whole values only.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use portcullis_policy::Policy;
    use portcullis_policy::revocation::Freshness;
    use portcullis_policy::revocation::Key;

    use super::*;

    fn compiled(rule: &str) -> Compiled {
        let text = format!(r#"{{"version": 1, "rules": [{{"id": "{rule}", "allow": "any"}}]}}"#);
        let policy = Policy::from_json(text.as_bytes()).expect("a policy");
        Compiled { version: policy.version().to_owned(), configuration: policy.to_json(), text: None }
    }

    #[tokio::test]
    async fn policy_and_revocations_change_without_each_other() {
        let directory = tempfile::tempdir().expect("a directory");
        let wasm = directory.path().join("filter.wasm");
        std::fs::write(&wasm, "\0asm\u{1}\0\0\0").expect("written");
        let filter = config::Filter { name: "filter".to_owned(), wasm };
        let board = Board::new();
        let gate = Gate::new(Publisher::new(), board.clone());
        let version = || board.watch().borrow().policy.version.clone().unwrap_or_default();
        let revoked =
            |name: &str| Arc::new(Revocations::new(vec![Key::of_identity(name)], Vec::new(), Freshness::default()));

        gate.revoked(revoked("a"));
        assert_eq!(gate.taken(Duration::ZERO).await, Taken::NoFilter);
        let first = gate.begin(&filter);
        let (one, two) = (compiled("one"), compiled("two"));
        gate.policy(first, &one);
        assert_eq!(version(), format!("{}+{}", one.version, revoked("a").version()));
        gate.revoked(revoked("b"));
        assert_eq!(version(), format!("{}+{}", one.version, revoked("b").version()));
        // A module that is not there, while it is replaced.
        std::fs::remove_file(&filter.wasm).expect("removed");
        gate.revoked(revoked("c"));
        assert_eq!(gate.taken(Duration::ZERO).await, Taken::NotSent);
        assert_eq!(version(), format!("{}+{}", one.version, revoked("b").version()), "what is in force");
        std::fs::write(&filter.wasm, "\0asm\u{1}\0\0\0").expect("written");
        gate.revoked(Arc::default());
        assert_eq!(version(), one.version);
        assert_eq!(gate.taken(Duration::ZERO).await, Taken::Nobody);

        let second = gate.begin(&filter);
        gate.policy(second, &two);
        gate.policy(first, &one);
        assert_eq!(version(), two.version, "whoever said it before is not listened to");
    }
}
