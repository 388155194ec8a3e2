//! What is published: for each name the newest version, whether a proxy refused it, and what to go back to.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::resource::Body;
use crate::resource::Resource;

/// The discovery service that a resource belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// ECDS.
    Filter,
    /// SDS.
    Secret,
}

impl Kind {
    pub(super) fn of(body: &Body) -> Self {
        match body {
            Body::GenericSecret { .. }
            | Body::SessionTicketKeys { .. }
            | Body::TlsCertificate { .. }
            | Body::ValidationContext { .. } => Self::Secret,
            Body::WasmFilter { .. } => Self::Filter,
        }
    }
}

/// A resource that passed the checks.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) resource: Resource,
    /// Last second at which it may be sent; none if it does not expire.
    pub(super) not_after: Option<Timestamp>,
}

impl Published {
    fn usable(&self, now: Timestamp) -> bool {
        self.not_after.is_none_or(|not_after| now.as_second() <= not_after.as_second())
    }
}

#[derive(Debug)]
struct Entry {
    kind: Kind,
    newest: Arc<Published>,
    /// A proxy refused the newest: it is offered to nobody.
    refused: bool,
    /// A proxy took the newest: it can be gone back to.
    taken: bool,
    /// The newest version before that a proxy took and none refused.
    previous: Option<Arc<Published>>,
}

/// All published resources, by name.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    entries: BTreeMap<String, Entry>,
}

impl Catalogue {
    /// Replaces the newest version. False if it is the newest already, refused or not.
    pub(super) fn publish(&mut self, published: Published) -> bool {
        let kind = Kind::of(&published.resource.body);
        let Some(entry) = self.entries.get_mut(&published.resource.name) else {
            let name = published.resource.name.clone();
            let entry = Entry { kind, newest: Arc::new(published), refused: false, taken: false, previous: None };
            self.entries.insert(name, entry);
            return true;
        };
        if entry.newest.resource.says_the_same(&published.resource) {
            return false;
        }
        let before = std::mem::replace(&mut entry.newest, Arc::new(published));
        if entry.taken && !entry.refused {
            entry.previous = Some(before);
        }
        if entry.kind != kind {
            entry.previous = None;
        }
        entry.kind = kind;
        entry.refused = false;
        entry.taken = false;
        true
    }

    /// Forgets the resource.
    pub(super) fn remove(&mut self, name: &str) {
        self.entries.remove(name);
    }

    /// What a subscriber should have now; none if there is nothing that is neither refused nor expired.
    pub(super) fn offered(&self, kind: Kind, name: &str, now: Timestamp) -> Option<&Arc<Published>> {
        let entry = self.entries.get(name).filter(|entry| entry.kind == kind)?;
        let candidate = if entry.refused { entry.previous.as_ref()? } else { &entry.newest };
        candidate.usable(now).then_some(candidate)
    }

    /// The version that the agent wants in force, and its service.
    pub(super) fn newest(&self, name: &str) -> Option<(Kind, &str)> {
        self.entries.get(name).map(|entry| (entry.kind, entry.newest.resource.version.as_str()))
    }

    /// Whether the newest version was refused.
    pub(super) fn is_refused(&self, name: &str) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.refused)
    }

    /// A proxy took this version.
    pub(super) fn take(&mut self, name: &str, version: &str) {
        if let Some(entry) = self.entries.get_mut(name)
            && entry.newest.resource.version == version
        {
            entry.taken = true;
        }
    }

    /// A proxy refused this version: it is offered to nobody any more.
    pub(super) fn refuse(&mut self, name: &str, version: &str) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        if entry.newest.resource.version == version {
            entry.refused = true;
        }
        if entry.previous.as_ref().is_some_and(|previous| previous.resource.version == version) {
            entry.previous = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use portcullis_policy::Protocol;

    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_000, 0);

    fn version(version: &str) -> Published {
        let body = Body::WasmFilter {
            protocol: Protocol::Http,
            module: "m".to_owned(),
            configuration: version.to_owned(),
            root_id: version.to_owned(),
        };
        Published {
            resource: Resource { name: "r".to_owned(), version: version.to_owned(), body },
            not_after: Some(Timestamp::constant(1_000, 0)),
        }
    }

    fn offered(catalogue: &Catalogue) -> Option<&str> {
        catalogue.offered(Kind::Filter, "r", NOW).map(|published| published.resource.version.as_str())
    }

    #[test]
    fn a_refused_version_gives_way_to_the_last_one_taken() {
        let mut catalogue = Catalogue::default();
        catalogue.publish(version("1"));
        catalogue.take("r", "1");
        catalogue.publish(version("2"));
        assert_eq!(offered(&catalogue), Some("2"), "newest first");
        catalogue.refuse("r", "2");
        assert_eq!(offered(&catalogue), Some("1"), "back to the one before");
        assert!(!catalogue.publish(version("2")), "the refused version is not new");
        assert_eq!(offered(&catalogue), Some("1"), "still the one before");
        catalogue.publish(version("3"));
        assert_eq!(offered(&catalogue), Some("3"), "a new version is offered");
        catalogue.refuse("r", "3");
        assert_eq!(offered(&catalogue), Some("1"), "the refused second one is skipped");
        catalogue.refuse("r", "1");
        assert_eq!(offered(&catalogue), None, "nothing good is left");
    }

    #[test]
    fn what_is_pushed_once_more_is_no_news() {
        let again = |number: &str| {
            let mut published = version("1");
            if let Body::WasmFilter { root_id, .. } = &mut published.resource.body {
                number.clone_into(root_id);
            }
            published
        };
        let mut catalogue = Catalogue::default();
        assert!(catalogue.publish(again("1")));
        catalogue.take("r", "1");
        assert!(!catalogue.publish(again("2")), "a number alone is no news");
        assert!(catalogue.publish(version("2")));
        assert!(catalogue.publish(again("3")), "what comes back is");
    }

    #[test]
    fn nothing_expired_is_offered() {
        let mut catalogue = Catalogue::default();
        catalogue.publish(version("1"));
        assert!(catalogue.offered(Kind::Filter, "r", NOW).is_some(), "its last second counts");
        assert!(catalogue.offered(Kind::Filter, "r", Timestamp::constant(1_001, 0)).is_none());
    }

    #[test]
    fn a_name_is_unknown_to_the_other_service() {
        let mut catalogue = Catalogue::default();
        catalogue.publish(version("1"));
        assert!(catalogue.offered(Kind::Secret, "r", NOW).is_none());
    }
}
