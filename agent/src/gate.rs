//! What the filter is given: the policy in force, and what is revoked, as one configuration.
//!
//! Either changes without the other: a revocation does not wait until a policy is compiled, nor for the keys that one waits
//! for, and a policy that a proxy refuses takes no revocation with it: what is revoked goes out again, beside the last policy
//! that was taken.

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
use crate::ca::Authority;
use crate::config;
use crate::errors::chain;
use crate::leaf;
use crate::policy_file::Compiled;
use crate::resource::Body;
use crate::resource::Resource;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::Version;
use crate::xds::Publisher;

/// Where the store has the last policy that a proxy took.
const STORE_KEY: &str = "policy-taken";

/// The way of policies and revocations to the proxies. Clones share one state.
#[derive(Clone)]
pub struct Gate {
    state: Arc<Mutex<State>>,
    store: Arc<dyn Store>,
    publisher: Publisher,
    board: Board,
}

#[derive(Default)]
struct State {
    /// How many have begun.
    turns: u64,
    filter: Option<config::Filter>,
    /// The one that is wanted.
    policy: Option<Arc<Compiled>>,
    /// A proxy refused that one.
    is_refused: bool,
    /// The last one that a proxy took and none refused.
    good: Option<Arc<Compiled>>,
    /// Of the good one in the store.
    kept: Option<Version>,
    revocations: Arc<Revocations>,
    /// As pushed, and its version.
    sent: Option<(Arc<Compiled>, String)>,
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
    /// Nothing is in force yet. The last policy that a proxy took is in the store.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn open(publisher: Publisher, board: Board, store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let found = store.read(STORE_KEY)?;
        let kept = found.as_ref().map(|found| found.version);
        // One that another agent wrote in another form is as good as none: the next that is taken replaces it.
        let good = found.and_then(|found| serde_json::from_slice(&found.value).ok()).map(Arc::new);
        let state = State { good, kept, ..State::default() };
        Ok(Self { state: Arc::new(Mutex::new(state)), store, publisher, board })
    }

    /// Begins to say which policy this filter has. Whoever did before is not listened to any more.
    pub fn begin(&self, filter: &config::Filter) -> Turn {
        let mut state = self.state();
        self.heed_in(&mut state);
        state.turns += 1;
        state.filter = Some(filter.clone());
        (state.policy, state.is_refused) = (None, false);
        Turn(state.turns)
    }

    /// Puts a policy in force.
    pub fn policy(&self, turn: Turn, policy: &Compiled) {
        let mut state = self.state();
        if turn == Turn(state.turns) {
            self.heed_in(&mut state);
            // What was refused is not better for being said again.
            state.is_refused &= state.policy.as_ref().is_some_and(|before| before.version == policy.version);
            state.policy = Some(Arc::new(policy.clone()));
            self.push(&mut state);
        }
    }

    /// Puts what is revoked in force.
    pub fn revoked(&self, revocations: Arc<Revocations>) {
        let mut state = self.state();
        self.heed_in(&mut state);
        state.revocations = revocations;
        self.push(&mut state);
    }

    /// Takes up what proxies answered since: if the policy was refused, what is revoked goes out beside the last good one.
    /// Call it after every answer; extra calls do nothing.
    pub fn heed(&self) {
        self.heed_in(&mut self.state());
    }

    /// Whether the policy that is wanted names an authority: as one of its anchors, or as the issuer of somebody.
    pub(crate) fn names(&self, authority: &Authority) -> bool {
        let Some(policy) = self.state().policy.clone() else { return false };
        #[derive(Deserialize)]
        struct Anchors {
            #[serde(default)]
            anchors: Vec<Anchor>,
        }
        #[derive(Deserialize)]
        struct Anchor {
            pem: String,
        }
        let anchors = serde_json::from_str::<Anchors>(&policy.configuration).map(|document| document.anchors);
        let is_anchor = |anchor: &Anchor| {
            leaf::chain(&anchor.pem).is_ok_and(|chain| chain.first().is_some_and(|der| der == authority.der()))
        };
        anchors.is_ok_and(|anchors| anchors.iter().any(is_anchor))
            || policy.configuration.contains(&authority.leaf().sha256)
    }

    /// Whether the policy that was last sent has a token key of that name. What is taken of it, [`Gate::taken`] says.
    pub(crate) fn holds(&self, kid: &str) -> bool {
        let Ok(quoted) = serde_json::to_string(kid) else { return false };
        self.state().sent.as_ref().is_some_and(|(policy, _)| policy.configuration.contains(&quoted))
    }

    /// Whether a proxy refused the policy that is wanted, and the one before is in force.
    pub fn is_back(&self) -> bool {
        self.state().is_refused
    }

    /// There is no filter any more.
    pub fn close(&self) {
        let mut state = self.state();
        state.turns += 1;
        (state.filter, state.policy, state.sent) = (None, None, None);
        (state.is_refused, state.is_held_back) = (false, false);
    }

    /// Waits until every proxy took what is in force now, those included who are on their way back to an agent that was
    /// started a moment ago, or for as long as `patience`.
    pub async fn taken(&self, patience: Duration) -> Taken {
        let mut activity = self.publisher.activity();
        let answered = async {
            loop {
                // Marked before it is looked at: what happens after the look wakes.
                activity.mark_unchanged();
                if let Some(taken) = self.look() {
                    return taken;
                }
                if activity.changed().await.is_err() {
                    return Taken::NotYet;
                }
            }
        };
        tokio::time::timeout(patience, answered).await.unwrap_or(Taken::NotYet)
    }

    /// What the proxies made of it so far, if they all said.
    fn look(&self) -> Option<Taken> {
        let mut state = self.state();
        self.heed_in(&mut state);
        let Some(filter) = &state.filter else { return Some(Taken::NoFilter) };
        let answer = match &state.sent {
            _ if state.is_held_back => return Some(Taken::NotSent),
            Some((_, version)) => self.answer(filter, version),
            None => Some(Taken::NoFilter),
        };
        // Who is on its way back decides by what it had until it is there.
        answer.filter(|taken| *taken == Taken::Refused || !self.publisher.is_expecting())
    }

    fn answer(&self, filter: &config::Filter, version: &str) -> Option<Taken> {
        let names = filter.names();
        if names.iter().any(|name| self.publisher.is_refused(name, version)) {
            return Some(Taken::Refused);
        }
        match self.publisher.all_acknowledged(&names) {
            None => Some(Taken::Nobody),
            Some(true) => Some(Taken::By { proxies: self.publisher.proxies().len() }),
            Some(false) => None,
        }
    }

    fn heed_in(&self, state: &mut State) {
        let (Some(filter), Some((sent, version))) = (&state.filter, &state.sent) else { return };
        if state.good.as_ref().is_some_and(|good| good.version == sent.version) {
            return;
        }
        let answer = self.answer(filter, version);
        if matches!(answer, Some(Taken::By { .. })) {
            let good = Arc::clone(sent);
            self.keep(state, &good);
            state.good = Some(good);
        } else if answer == Some(Taken::Refused) && state.good.is_some() {
            tracing::error!(
                filter = filter.name,
                version,
                "a proxy refused the policy; what is revoked goes out beside the one before"
            );
            state.is_refused = true;
            self.push(state);
        }
    }

    /// So that a start with a policy that is refused has one to go back to.
    fn keep(&self, state: &mut State, good: &Compiled) {
        let value = serde_json::to_vec(good).expect("a policy is made of strings");
        match self.store.swap(STORE_KEY, state.kept, &value, &[]) {
            Ok(version) => state.kept = Some(version),
            Err(error) => tracing::error!(error = chain(&error), "the policy is in force and was not kept"),
        }
    }

    fn push(&self, state: &mut State) {
        let policy = if state.is_refused { &state.good } else { &state.policy };
        let (Some(filter), Some(policy)) = (&state.filter, policy) else { return };
        let policy = Arc::clone(policy);
        let (configuration, version) = revocation::join(&policy.configuration, &policy.version, &state.revocations);
        // By the clock, so that it is another one after a restart too.
        state.pushed = Timestamp::now().as_millisecond().max(state.pushed + 1);
        let mut published = Ok(());
        for protocol in KINDS {
            let (name, kind) = (filter.name_for(protocol), kind(protocol));
            let root_id = format!("{kind}:{name}-{}", state.pushed);
            let module = filter.wasm.display().to_string();
            let body = Body::WasmFilter { protocol, module, configuration: configuration.clone(), root_id };
            let resource = Resource { name, version: version.clone(), body };
            // Each is tried, whatever became of the other.
            let one = self.publisher.publish(resource);
            published = published.and(one);
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
        state.sent = Some((policy, version));
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
    use crate::store::LocalStore;
    use crate::xds::Proxy;

    fn compiled(rule: &str) -> Compiled {
        let text = format!(r#"{{"version": 1, "rules": [{{"id": "{rule}", "allow": "any"}}]}}"#);
        let policy = Policy::from_json(text.as_bytes()).expect("a policy");
        Compiled { version: policy.version().to_owned(), configuration: policy.to_json(), text: None }
    }

    /// A gate with a module that can be pushed.
    struct Scene {
        _directory: tempfile::TempDir,
        filter: config::Filter,
        publisher: Publisher,
        board: Board,
        store: Arc<dyn Store>,
    }

    impl Scene {
        fn new() -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            let wasm = directory.path().join("filter.wasm");
            std::fs::write(&wasm, "\0asm\u{1}\0\0\0").expect("written");
            let store = LocalStore::open(&directory.path().join("store.redb")).expect("a store").store;
            let filter = config::Filter { name: "filter".to_owned(), wasm };
            Self {
                _directory: directory,
                filter,
                publisher: Publisher::new(),
                board: Board::new(),
                store: Arc::new(store),
            }
        }

        fn gate(&self) -> Gate {
            Gate::open(self.publisher.clone(), self.board.clone(), Arc::clone(&self.store)).expect("a gate")
        }

        fn version(&self) -> String {
            self.board.watch().borrow().policy.version.clone().unwrap_or_default()
        }
    }

    fn revoked(name: &str) -> Arc<Revocations> {
        Arc::new(Revocations::new(vec![Key::of_identity(name)], Vec::new(), Freshness::default()))
    }

    fn joined(policy: &Compiled, name: &str) -> String {
        format!("{}+{}", policy.version, revoked(name).version())
    }

    #[tokio::test]
    async fn a_policy_that_is_refused_takes_no_revocation_with_it() {
        let scene = Scene::new();
        let (gate, mut proxy) = (scene.gate(), Proxy::connect(&scene.publisher, "filter"));
        let (one, bad, three) = (compiled("one"), compiled("bad"), compiled("three"));
        let likes = |version: &str| !version.starts_with(&bad.version);
        gate.revoked(revoked("a"));
        let turn = gate.begin(&scene.filter);
        gate.policy(turn, &one);
        assert_eq!(proxy.answer(likes), [joined(&one, "a")]);
        gate.heed();

        // On its way, and not answered, when the policy comes.
        gate.revoked(revoked("b"));
        gate.policy(turn, &bad);
        assert_eq!(proxy.answer(likes), [joined(&bad, "b"), joined(&one, "a")], "refused, and back");
        assert_eq!(gate.taken(Duration::ZERO).await, Taken::NotYet);
        assert_eq!(proxy.answer(likes), [joined(&one, "b")], "with what was revoked since");
        assert_eq!((gate.taken(Duration::ZERO).await, gate.is_back()), (Taken::By { proxies: 1 }, true));
        gate.revoked(revoked("c"));
        assert_eq!(proxy.answer(likes), [joined(&one, "c")], "not joined to what was refused");
        gate.policy(turn, &bad);
        assert_eq!(proxy.answer(likes), [""; 0], "the same again");

        // A start with the same bad policy knows what to go back to.
        let gate = scene.gate();
        let turn = gate.begin(&scene.filter);
        gate.revoked(revoked("d"));
        gate.policy(turn, &bad);
        assert_eq!(proxy.answer(likes), [joined(&bad, "d"), joined(&one, "c")]);
        gate.heed();
        assert_eq!(proxy.answer(likes), [joined(&one, "d")]);

        gate.policy(turn, &three);
        assert_eq!(proxy.answer(likes), [joined(&three, "d")]);
        assert_eq!((gate.taken(Duration::ZERO).await, gate.is_back()), (Taken::By { proxies: 1 }, false));
    }

    #[tokio::test]
    async fn a_set_that_is_refused_with_a_good_policy_is_said_to_be() {
        let scene = Scene::new();
        let (gate, mut proxy) = (scene.gate(), Proxy::connect(&scene.publisher, "filter"));
        let one = compiled("one");
        let turn = gate.begin(&scene.filter);
        gate.policy(turn, &one);
        assert_eq!(proxy.answer(|_| true), [one.version.as_str()]);
        gate.revoked(revoked("a"));
        assert_eq!(proxy.answer(|version| !version.contains('+')), [joined(&one, "a"), one.version.clone()]);
        assert_eq!(gate.taken(Duration::ZERO).await, Taken::Refused);
    }

    #[tokio::test]
    async fn those_who_are_back_after_a_restart_are_not_all() {
        let scene = Scene::new();
        let (gate, one, publisher) = (scene.gate(), compiled("one"), &scene.publisher);
        publisher.expect_back();
        let turn = gate.begin(&scene.filter);
        gate.policy(turn, &one);
        gate.revoked(revoked("a"));
        assert_eq!(gate.taken(Duration::ZERO).await, Taken::NotYet, "nobody is back");
        let mut proxy = Proxy::connect(publisher, "filter");
        assert_eq!(proxy.answer(|_| true), [joined(&one, "a")]);
        assert_eq!(gate.taken(Duration::ZERO).await, Taken::NotYet, "the first one is back");

        let had_time = async { publisher.expect_no_more() };
        let (taken, ()) = tokio::join!(biased; gate.taken(Duration::from_secs(60)), had_time);
        assert_eq!(taken, Taken::By { proxies: 1 });
        proxy.leave();
        assert_eq!(gate.taken(Duration::ZERO).await, Taken::Nobody);

        publisher.expect_back();
        assert_eq!(Proxy::connect(publisher, "filter").answer(|_| false).len(), 1);
        assert_eq!(gate.taken(Duration::ZERO).await, Taken::Refused, "whoever else comes");
    }

    #[tokio::test]
    async fn policy_and_revocations_change_without_each_other() {
        let scene = Scene::new();
        let (gate, filter) = (scene.gate(), &scene.filter);
        let version = || scene.version();

        gate.revoked(revoked("a"));
        assert_eq!(gate.taken(Duration::ZERO).await, Taken::NoFilter);
        let first = gate.begin(filter);
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

        let second = gate.begin(filter);
        gate.policy(second, &two);
        gate.policy(first, &one);
        assert_eq!(version(), two.version, "whoever said it before is not listened to");
    }
}
