//! The xDS server: pushes secrets (SDS) and the filter (ECDS) to proxies over a Unix socket and reads their answers.
//!
//! Absent here: the contents of certificates, the policy, the schedule. What is pushed comes in as a [`Resource`];
//! what a proxy said goes out as an [`Outcome`].
//!
//! [`Publisher`] is the handle that the daemon keeps; [`serve`] is the server that proxies connect to. Inside, the
//! catalogue knows what is published, a subscription is the state of one stream, and neither does any I/O.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::sync::broadcast;
use tokio::sync::watch;

use crate::resource::Outcome;
use crate::resource::Resource;
use crate::status::ProxyStatus;

pub use capabilities::CAPABILITIES;
pub use check::PublishError;
pub(crate) use check::TICKET_KEY;
pub use check::check_module;
pub use server::ServeError;
pub use server::serve;

mod capabilities;
mod catalogue;
mod check;
mod encode;
#[cfg(test)]
mod proxy;
mod server;
mod subscription;

#[cfg(test)]
pub(crate) use proxy::Proxy;

use catalogue::Catalogue;
use subscription::Answer;
use subscription::Request;
use subscription::Response;
use subscription::Subscription;
use subscription::TooManyNames;

/// Streams at once. A proxy that learns of certificates by server name opens one for each name that it was asked for.
const MAX_STREAMS: usize = 65_536;
/// Answers kept for a receiver that is slow to take them.
const OUTCOMES: usize = 1024;

/// Handle on what is pushed. Clones share one state; every method returns at once.
#[derive(Clone, Debug)]
pub struct Publisher {
    hub: Arc<Mutex<Hub>>,
    outcomes: broadcast::Sender<Outcome>,
    /// A proxy came, asked, answered or left.
    activity: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Hub {
    catalogue: Catalogue,
    streams: BTreeMap<StreamId, Stream>,
    /// Refusals by proxy, as long as it is connected.
    nacks: BTreeMap<Peer, u64>,
    opened: u64,
    /// When the newest of the proxies came.
    joined: Option<Instant>,
    /// Those who were connected when the agent ended may not be back yet.
    expects: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct StreamId(u64);

#[derive(Debug)]
struct Stream {
    subscription: Subscription,
    /// Something changed that it asks for: poll it again.
    wake: Arc<Notify>,
    pid: Option<i32>,
    /// `node.id`; only a stream's first request is sure to carry it.
    node: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Peer {
    node: String,
    pid: Option<i32>,
}

/// A proxy asks for one resource a stream, one after the other.
const FILLING: Duration = Duration::from_secs(5);
/// How long a proxy may take to come back: all have to, after the agent was started again.
pub(crate) const COMING: Duration = Duration::from_secs(10);

/// More streams than a proxy needs.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {MAX_STREAMS} streams")]
struct TooManyStreams;

impl Stream {
    fn peer(&self) -> Option<Peer> {
        Some(Peer { node: self.node.clone()?, pid: self.pid })
    }
}

impl Default for Publisher {
    fn default() -> Self {
        Self::new()
    }
}

impl Publisher {
    /// Nothing published, nobody connected.
    pub fn new() -> Self {
        Self { hub: Arc::default(), outcomes: broadcast::Sender::new(OUTCOMES), activity: watch::Sender::new(()) }
    }

    /// Replaces the resource of that name and pushes it to all who subscribe to it. Names are shared by SDS and ECDS.
    /// The version that is already published is not pushed again: see [`Publisher::push_again`].
    ///
    /// A proxy that has this version from an earlier connection is reported as [`Outcome::Acknowledged`] at once.
    ///
    /// # Errors
    ///
    /// [`PublishError`], if no proxy could do any good with it. What was published before stays.
    pub fn publish(&self, resource: Resource) -> Result<(), PublishError> {
        let published = check::check(resource, Timestamp::now())?;
        let (name, version) = (published.resource.name.clone(), published.resource.version.clone());
        let mut hub = self.hub();
        if !hub.catalogue.publish(published) {
            return Ok(());
        }
        let holders: Vec<String> = hub
            .subscribers(&name)
            .filter(|stream| stream.subscription.holds(&name, &version) == Some(true))
            .filter_map(|stream| stream.node.clone())
            .collect();
        if !holders.is_empty() {
            hub.catalogue.take(&name, &version);
        }
        hub.wake(&name);
        drop(hub);
        for node in holders {
            self.report(Outcome::Acknowledged { node, name: name.clone(), version: version.clone() });
        }
        Ok(())
    }

    /// Pushes the published version again to all, also to those who have it. One that was refused stays refused: then
    /// it is the version before that is pushed.
    pub fn push_again(&self, name: &str) {
        let mut hub = self.hub();
        for stream in hub.streams.values_mut() {
            stream.subscription.forget(name);
        }
        hub.wake(name);
    }

    /// Whether a proxy refused this version and nothing newer was published.
    pub fn is_refused(&self, name: &str, version: &str) -> bool {
        let hub = self.hub();
        hub.catalogue.is_refused(name) && hub.catalogue.newest(name).is_some_and(|(_, newest)| newest == version)
    }

    /// Whether this version is the one that is wanted in force.
    pub fn is_newest(&self, name: &str, version: &str) -> bool {
        self.hub().catalogue.newest(name).is_some_and(|(_, newest)| newest == version)
    }

    /// Forgets the resource. Proxies keep using what they have: removal revokes nothing.
    pub fn remove(&self, name: &str) {
        self.hub().catalogue.remove(name);
    }

    /// What proxies answer from now on. A receiver that falls behind by a thousand answers loses the oldest.
    pub fn outcomes(&self) -> broadcast::Receiver<Outcome> {
        self.outcomes.subscribe()
    }

    /// Changes whenever a proxy comes, asks, answers or leaves, and when none is expected back any more: after that
    /// [`Publisher::proxies`] and [`Publisher::acknowledged`] may say something else.
    pub fn activity(&self) -> watch::Receiver<()> {
        self.activity.subscribe()
    }

    /// Who is connected, by node and process.
    pub fn proxies(&self) -> Vec<ProxyStatus> {
        let hub = self.hub();
        let proxies = hub.nacks.iter();
        proxies.map(|(peer, &nacks)| ProxyStatus { node: peer.node.clone(), pid: peer.pid, nacks }).collect()
    }

    /// An agent ran here before: until [`serve`] has given those a moment who were connected to it, that nobody is there does not
    /// say that there is nobody, nor are those who are there all.
    pub fn expect_back(&self) {
        self.hub().expects = true;
    }

    /// Those who were there before have had their moment.
    pub(crate) fn expect_no_more(&self) {
        self.hub().expects = false;
        self.activity.send_replace(());
    }

    /// Whether some who were there before may not be back yet.
    pub(crate) fn is_expecting(&self) -> bool {
        self.hub().expects
    }

    /// Waits until those are back who were there before, or had the time to be.
    pub(crate) async fn all_back(&self) {
        let mut activity = self.activity();
        while self.is_expecting() && activity.changed().await.is_ok() {}
    }

    /// Whether a proxy may not have asked yet for all that it needs: it came a moment ago, or is on its way back.
    pub(crate) fn is_filling(&self) -> bool {
        let hub = self.hub();
        hub.expects || hub.joined.is_some_and(|joined| joined.elapsed() < FILLING)
    }

    /// Whether every proxy took the newest of each of these that it asked for; `None` if none asked for any.
    pub fn all_acknowledged(&self, names: &[String]) -> Option<bool> {
        names.iter().filter_map(|name| self.acknowledged(name)).reduce(|one, other| one && other)
    }

    /// Whether all who subscribe to the resource hold its newest version; none if nobody subscribes.
    pub fn acknowledged(&self, name: &str) -> Option<bool> {
        let hub = self.hub();
        let (_, version) = hub.catalogue.newest(name)?;
        let taken = hub.subscribers(name).map(|stream| stream.subscription.holds(name, version) == Some(true));
        let all = taken.reduce(|all, one| all && one)?;
        Some(all && !hub.catalogue.is_refused(name))
    }

    /// A new stream, and what wakes whoever carries it.
    fn open(&self, subscription: Subscription, pid: Option<i32>) -> Result<(StreamId, Arc<Notify>), TooManyStreams> {
        let mut hub = self.hub();
        if hub.streams.len() >= MAX_STREAMS {
            return Err(TooManyStreams);
        }
        hub.opened += 1;
        let id = StreamId(hub.opened);
        let wake = Arc::new(Notify::new());
        hub.streams.insert(id, Stream { subscription, wake: Arc::clone(&wake), pid, node: None });
        Ok((id, wake))
    }

    fn close(&self, id: StreamId) {
        let mut hub = self.hub();
        let closed = hub.streams.remove(&id);
        if let Some(peer) = closed.and_then(|stream| stream.peer())
            && !hub.streams.values().any(|stream| stream.peer().as_ref() == Some(&peer))
        {
            hub.nacks.remove(&peer);
            tracing::info!(node = peer.node, pid = peer.pid, "proxy disconnected");
        }
        drop(hub);
        self.activity.send_replace(());
    }

    fn receive(&self, id: StreamId, node: Option<String>, request: Request) -> Result<(), TooManyNames> {
        let mut guard = self.hub();
        let hub = &mut *guard;
        let Some(stream) = hub.streams.get_mut(&id) else { return Ok(()) };
        if stream.node.is_none() {
            stream.node = Some(node.unwrap_or_default());
        }
        let answers = stream.subscription.receive(request, &mut hub.catalogue)?;
        let Some(peer) = stream.peer() else { return Ok(()) };
        let refused = answers.iter().filter_map(|answer| match answer {
            Answer::Refused { name, .. } => Some(name.clone()),
            Answer::Acknowledged { .. } => None,
        });
        let refused: Vec<String> = refused.collect();
        let connected =
            hub.nacks.insert(peer.clone(), hub.nacks.get(&peer).map_or(0, |nacks| nacks + refused.len() as u64));
        // Others may have to go back as well.
        refused.iter().for_each(|name| hub.wake(name));
        if connected.is_none() {
            hub.joined = Some(Instant::now());
        }
        drop(guard);

        if connected.is_none() {
            tracing::info!(node = peer.node, pid = peer.pid, "proxy connected");
        }
        for answer in answers {
            let node = peer.node.clone();
            self.report(match answer {
                Answer::Acknowledged { name, version } => Outcome::Acknowledged { node, name, version },
                Answer::Refused { name, version, detail } => Outcome::Refused { node, name, version, detail },
            });
        }
        self.activity.send_replace(());
        Ok(())
    }

    fn poll(&self, id: StreamId) -> Option<Response> {
        let mut guard = self.hub();
        let hub = &mut *guard;
        hub.streams.get_mut(&id)?.subscription.poll(&hub.catalogue, Timestamp::now())
    }

    fn report(&self, outcome: Outcome) {
        match &outcome {
            Outcome::Acknowledged { node, name, version } => {
                tracing::debug!(node, resource = name, version, "resource acknowledged");
            }
            Outcome::Refused { node, name, version, detail } => {
                tracing::warn!(node, resource = name, version, detail, "resource refused");
            }
        }
        // Nobody may be listening.
        let _ = self.outcomes.send(outcome);
    }

    fn hub(&self) -> MutexGuard<'_, Hub> {
        // Held for moments and never across an await. A panic inside leaves whole values only.
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hub {
    /// Has those streams polled that ask for the resource. Of thousands, each of one name, the others sleep on.
    fn wake(&self, name: &str) {
        for stream in self.streams.values().filter(|stream| stream.subscription.asks_for(name)) {
            stream.wake.notify_one();
        }
    }

    /// The streams that ask for the resource at the service that it belongs to.
    fn subscribers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Stream> {
        let kind = self.catalogue.newest(name).map(|(kind, _)| kind);
        self.streams.values().filter(move |stream| {
            Some(stream.subscription.kind()) == kind && stream.subscription.holds(name, "").is_some()
        })
    }
}

#[cfg(test)]
mod tests {
    use portcullis_policy::Protocol;
    use tokio::time::timeout;

    use super::*;
    use crate::resource::Body;
    use catalogue::Kind;
    use subscription::Change;

    fn ask(publisher: &Publisher, name: &str) -> Arc<Notify> {
        let (id, wake) = publisher.open(Subscription::delta(Kind::Filter), None).unwrap();
        let change = Change::Delta {
            subscribe: vec![name.to_owned()],
            unsubscribe: Vec::new(),
            versions: std::collections::HashMap::new(),
        };
        publisher.receive(id, Some("proxy".to_owned()), Request { change, ..Request::default() }).unwrap();
        wake
    }

    async fn is_woken(wake: &Notify) -> bool {
        timeout(Duration::ZERO, wake.notified()).await.is_ok()
    }

    #[tokio::test]
    async fn only_who_asks_for_a_resource_is_woken_by_it() {
        let publisher = Publisher::new();
        let (one, other) = (ask(&publisher, "one"), ask(&publisher, "other"));
        let module = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(module.path(), b"\0asm").unwrap();
        let body = Body::WasmFilter {
            protocol: Protocol::Http,
            module: module.path().display().to_string(),
            configuration: String::new(),
            root_id: String::new(),
        };
        publisher.publish(Resource { name: "one".to_owned(), version: "1".to_owned(), body }).unwrap();
        assert!(is_woken(&one).await && !is_woken(&other).await);
        publisher.push_again("one");
        assert!(is_woken(&one).await && !is_woken(&other).await);
    }

    #[test]
    fn streams_are_bounded() {
        let publisher = Publisher::new();
        let open = || publisher.open(Subscription::delta(Kind::Secret), None);
        let all: Vec<_> = (0..MAX_STREAMS).map(|_| open().unwrap()).collect();
        assert_eq!(open().err(), Some(TooManyStreams));
        publisher.close(all[0].0);
        assert!(open().is_ok(), "one was closed");
    }
}
