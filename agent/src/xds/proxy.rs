//! A proxy for tests: asks for one resource, and answers whatever is sent to it as it is told.

use super::Publisher;
use super::StreamId;
use super::catalogue::Kind;
use super::subscription::Change;
use super::subscription::Item;
use super::subscription::Request;
use super::subscription::Subscription;
use crate::resource::Resource;

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

    /// Connects, and asks for a secret.
    pub(crate) fn of_secrets(publisher: &Publisher, name: &str) -> Self {
        Self::ask(publisher, Kind::Secret, name)
    }

    /// Takes everything that is sent to it now.
    pub(crate) fn take(&mut self) -> Vec<Resource> {
        self.receive_all(|_| true)
    }

    /// Goes away.
    pub(crate) fn leave(self) {
        self.publisher.close(self.id);
    }

    fn ask(publisher: &Publisher, kind: Kind, name: &str) -> Self {
        let (id, _) = publisher.open(Subscription::delta(kind), None).expect("one stream");
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
        self.receive_all(likes).into_iter().map(|resource| resource.version).collect()
    }

    fn receive_all(&mut self, likes: impl Fn(&str) -> bool) -> Vec<Resource> {
        let mut resources = Vec::new();
        while let Some(response) = self.publisher.poll(self.id) {
            let Item::Present(published) = &response.item else {
                self.receive(Request { nonce: response.nonce, ..Request::default() });
                continue;
            };
            let resource = published.resource.clone();
            let error = (!likes(&resource.version)).then(|| "no".to_owned());
            self.receive(Request { nonce: response.nonce, error, change: Change::default() });
            resources.push(resource);
        }
        resources
    }

    fn receive(&self, request: Request) {
        self.publisher.receive(self.id, Some("proxy".to_owned()), request).expect("one name");
    }
}
