//! One xDS stream as a state machine: requests go in, responses come out, nothing else happens.
//!
//! Absent here: sockets, Protobuf, the clock (`now` is an argument).
//!
//! One resource travels in each response, so that an answer names what it answers, in both protocols. At most one
//! version of a resource is on its way on a stream; when its answer comes, whatever is newest then goes next. So a slow
//! reader costs no memory and never sees a version that was overtaken while it waited.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::catalogue::Catalogue;
use super::catalogue::Kind;
use super::catalogue::Published;

/// Most names one stream may ask for. The shipped configuration asks for one a stream.
const MAX_NAMES: usize = 4096;

/// A request of either protocol, without what belongs to the transport.
#[derive(Debug, Default)]
pub(super) struct Request {
    /// Nonce of the response that this answers; empty for a pure change of subscription.
    pub(super) nonce: String,
    /// The proxy's words, if it refuses.
    pub(super) error: Option<String>,
    pub(super) change: Change,
}

/// How a request changes what is subscribed to.
#[derive(Debug)]
pub(super) enum Change {
    /// State of the world: exactly these, and the version that the proxy took last on any stream.
    Exactly { names: Vec<String>, version: String },
    /// Delta: these more, those no more, and what the proxy brings from an earlier stream.
    Delta { subscribe: Vec<String>, unsubscribe: Vec<String>, versions: HashMap<String, String> },
}

impl Default for Change {
    fn default() -> Self {
        Self::Delta { subscribe: Vec::new(), unsubscribe: Vec::new(), versions: HashMap::new() }
    }
}

/// One resource, or the news that there is none.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) nonce: String,
    pub(super) item: Item,
}

#[derive(Debug)]
pub(super) enum Item {
    /// Only delta can say so. Said when the proxy waits for a name that nobody published, never to take away.
    Absent(String),
    Present(Arc<Published>),
}

/// What a request told about a resource.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Acknowledged { name: String, version: String },
    Refused { name: String, version: String, detail: String },
}

/// The proxy asks for more names than a stream may carry.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {MAX_NAMES} resource names on one stream")]
pub(super) struct TooManyNames;

/// The server's side of one stream.
#[derive(Debug)]
pub(super) struct Subscription {
    kind: Kind,
    /// State of the world has no way to say that a resource is absent.
    can_say_absent: bool,
    greeted: bool,
    nonces: u64,
    names: BTreeMap<String, Progress>,
}

#[derive(Debug)]
struct Progress {
    held: Held,
    in_flight: Option<InFlight>,
}

/// What the proxy has.
#[derive(Debug, PartialEq, Eq)]
enum Held {
    /// Nothing, and it was told that there is nothing.
    Nothing,
    /// The version before is in force, but the refused one lies in its store: Envoy then also refuses whatever is used
    /// together with it, such as the trust bundle of the same listener, until it is sent a good version again.
    Spoiled,
    /// Not known: it waits.
    Unknown,
    Version(String),
}

#[derive(Debug)]
struct InFlight {
    nonce: String,
    /// None: the news of absence.
    version: Option<String>,
}

impl Subscription {
    pub(super) fn state_of_the_world(kind: Kind) -> Self {
        Self { kind, can_say_absent: false, greeted: false, nonces: 0, names: BTreeMap::new() }
    }

    pub(super) fn delta(kind: Kind) -> Self {
        Self { can_say_absent: true, ..Self::state_of_the_world(kind) }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Takes a request. Afterwards call [`Subscription::poll`] until it has no more.
    ///
    /// Answers with a nonce that is not on its way are stale and change nothing.
    pub(super) fn receive(&mut self, request: Request, catalogue: &mut Catalogue) -> Result<Vec<Answer>, TooManyNames> {
        let mut answers = Vec::new();
        answers.extend(self.settle(&request.nonce, request.error));
        let first = !std::mem::replace(&mut self.greeted, true);
        match request.change {
            Change::Exactly { names, version } => self.subscribe_exactly(names, first, version),
            Change::Delta { subscribe, unsubscribe, versions } => {
                self.subscribe_delta(subscribe, &unsubscribe, if first { versions } else { HashMap::new() });
            }
        }
        if self.names.len() > MAX_NAMES {
            return Err(TooManyNames);
        }
        if first {
            // What it brings along counts as taken: a new agent learns so that its proxies are up to date.
            for (name, progress) in &self.names {
                if let (Held::Version(held), Some((kind, newest))) = (&progress.held, catalogue.newest(name))
                    && kind == self.kind
                    && held == newest
                {
                    answers.push(Answer::Acknowledged { name: name.clone(), version: held.clone() });
                }
            }
        }
        for answer in &answers {
            match answer {
                Answer::Acknowledged { name, version } => catalogue.take(name, version),
                Answer::Refused { name, version, .. } => catalogue.refuse(name, version),
            }
        }
        Ok(answers)
    }

    /// The next response to send; none until a request comes or the catalogue changes.
    #[must_use]
    pub(super) fn poll(&mut self, catalogue: &Catalogue, now: Timestamp) -> Option<Response> {
        for (name, progress) in &mut self.names {
            if progress.in_flight.is_some() {
                continue;
            }
            // A filter that took the newest keeps it, though another refused it: the one before knows less of who is revoked.
            let is_newest = |(kind, newest): (Kind, &str)| kind == self.kind && progress.holds(newest);
            if self.kind == Kind::Filter && catalogue.newest(name).is_some_and(is_newest) {
                continue;
            }
            let item = match catalogue.offered(self.kind, name, now) {
                Some(published) if progress.holds(&published.resource.version) => continue,
                Some(published) => Item::Present(Arc::clone(published)),
                None if self.can_say_absent && progress.held == Held::Unknown => Item::Absent(name.clone()),
                None => continue,
            };
            self.nonces += 1;
            let nonce = self.nonces.to_string();
            let version = match &item {
                Item::Absent(_) => None,
                Item::Present(published) => Some(published.resource.version.clone()),
            };
            progress.in_flight = Some(InFlight { nonce: nonce.clone(), version });
            return Some(Response { nonce, item });
        }
        None
    }

    /// Whether the proxy asked for the resource.
    pub(super) fn asks_for(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Whether the proxy has this version; none if it did not ask for the resource.
    pub(super) fn holds(&self, name: &str, version: &str) -> Option<bool> {
        self.names.get(name).map(|progress| progress.holds(version))
    }

    /// Makes the resource be sent again, whatever the proxy has.
    pub(super) fn forget(&mut self, name: &str) {
        if let Some(progress) = self.names.get_mut(name) {
            *progress = Progress::new(None);
        }
    }

    /// Books the answer to the response with this nonce.
    fn settle(&mut self, nonce: &str, error: Option<String>) -> Option<Answer> {
        let (name, progress) = self
            .names
            .iter_mut()
            .find(|(_, progress)| progress.in_flight.as_ref().is_some_and(|sent| sent.nonce == nonce))?;
        let name = name.clone();
        let version = progress.in_flight.take()?.version;
        match (version, error) {
            (None, _) => {
                progress.held = Held::Nothing;
                None
            }
            (Some(version), None) => {
                progress.held = Held::Version(version.clone());
                Some(Answer::Acknowledged { name, version })
            }
            (Some(version), Some(detail)) => {
                if matches!(progress.held, Held::Version(_)) {
                    progress.held = Held::Spoiled;
                }
                Some(Answer::Refused { name, version, detail })
            }
        }
    }

    fn subscribe_exactly(&mut self, names: Vec<String>, first: bool, version: String) {
        // The version belongs to one resource; with several names nobody knows to which.
        let held = (first && names.len() == 1 && !version.is_empty()).then_some(version);
        self.names.retain(|name, _| names.contains(name));
        for name in names {
            self.names.entry(name).or_insert_with(|| Progress::new(held.clone()));
        }
    }

    fn subscribe_delta(
        &mut self,
        subscribe: Vec<String>,
        unsubscribe: &[String],
        mut versions: HashMap<String, String>,
    ) {
        for name in unsubscribe {
            self.names.remove(name);
        }
        for name in subscribe {
            // Asked for again means that it lost it: whatever was known or on its way is void.
            let held = versions.remove(&name);
            self.names.insert(name, Progress::new(held));
        }
    }
}

impl Progress {
    fn new(held: Option<String>) -> Self {
        Self { held: held.map_or(Held::Unknown, Held::Version), in_flight: None }
    }

    fn holds(&self, version: &str) -> bool {
        matches!(&self.held, Held::Version(held) if held == version)
    }
}

#[cfg(test)]
mod tests;
