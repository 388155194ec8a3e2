//! A proxy for tests: asks for one resource, and answers whatever is sent to it as it is told.

use super::Publisher;
use super::StreamId;
use super::catalogue::Kind;
use super::subscription::Change;
use super::subscription::Item;
use super::subscription::Request;
use super::subscription::Subscription;

/// A connected proxy.
pub(crate) struct Proxy {
    publisher: Publisher,
    id: StreamId,
}

impl Proxy {
    /// Connects, and asks for a filter.
    pub(crate) fn connect(publisher: &Publisher, filter: &str) -> Self {
        Self::ask(publisher, Kind::Filter, filter)
    }

    fn ask(publisher: &Publisher, kind: Kind, name: &str) -> Self {
        let id = publisher.open(Subscription::delta(kind), None);
        let change = Change::Delta {
            subscribe: vec![name.to_owned()],
            unsubscribe: Vec::new(),
            versions: std::collections::HashMap::new(),
        };
        let proxy = Self { publisher: publisher.clone(), id };
        proxy.receive(Request { change, ..Request::default() });
        proxy
    }

    /// Takes what it likes of what is sent to it now, and refuses the rest; the versions, in their order.
    pub(crate) fn answer(&mut self, likes: impl Fn(&str) -> bool) -> Vec<String> {
        let mut versions = Vec::new();
        while let Some(response) = self.publisher.poll(self.id) {
            let Item::Present(published) = &response.item else { continue };
            let version = published.resource.version.clone();
            let error = (!likes(&version)).then(|| "no".to_owned());
            self.receive(Request { nonce: response.nonce, error, change: Change::default() });
            versions.push(version);
        }
        versions
    }

    fn receive(&self, request: Request) {
        self.publisher.receive(self.id, Some("proxy".to_owned()), request).expect("one name");
    }
}
