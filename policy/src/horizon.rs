//! How long a verdict holds if nothing changes but the clock: what is still open then has to be judged again.

use std::iter;

use crate::certificate::Leaf;
use crate::decide::Peer;
use crate::decide::Request;
use crate::forwarded::Forwarded;
use crate::policy::Policy;
use crate::requirement::Requirement;
use crate::requirement::Window;
use crate::rule::Rules;
use crate::time::UnixTime;
use crate::token::Bearer;

/// Different windows that are looked at one by one. A policy with more of them is asked every second.
const WINDOWS_MAX: usize = 64;

/// The windows of time that the rules of a policy name, each once.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    each: Vec<Window>,
    /// There are more than are kept.
    more: bool,
}

impl Windows {
    /// Those of all rules, shadow rules too.
    pub(crate) fn of<'r>(lists: impl IntoIterator<Item = &'r Rules>) -> Self {
        let mut windows = Self::default();
        for rules in lists {
            for (_, rule) in rules.iter() {
                windows.add(rules.requirements(rule));
            }
        }
        windows
    }

    fn add(&mut self, requirements: &[Requirement]) {
        for requirement in requirements {
            match requirement {
                Requirement::Times(times) => {
                    for window in times.iter().filter(|window| !self.each.contains(window)).collect::<Vec<_>>() {
                        if self.each.len() < WINDOWS_MAX {
                            self.each.push(*window);
                        } else {
                            self.more = true;
                        }
                    }
                }
                Requirement::Not(inner) => self.add(inner),
                _ => {}
            }
        }
    }

    /// The first second after `now` at which one of them may open or close.
    fn change_after(&self, now: UnixTime) -> Option<UnixTime> {
        if self.more {
            return Some(UnixTime(now.0.saturating_add(1)));
        }
        self.each.iter().filter_map(|window| window.change_after(now)).min()
    }
}

impl Policy {
    /// The first second after `request.now` at which the same request may be decided otherwise, by the same policy and about
    /// the same certificates and token; `None` if time changes nothing. Never later than the first second at which it is.
    pub fn reconsider_at(&self, request: &Request<'_>) -> Option<UnixTime> {
        let now = request.now;
        let peer = match request.peer {
            Peer::Presented { subject, .. } => Some(subject.leaf()),
            Peer::Absent | Peer::Unreadable(_) => None,
        };
        let client = match request.forwarded {
            Forwarded::Certificate(subject) => Some(subject.leaf()),
            Forwarded::Nothing | Forwarded::Refused(_) => None,
        };
        let dates = peer.into_iter().chain(client).flat_map(dates);
        let token = match request.token {
            Bearer::Verified(token) => {
                self.providers.get(token.provider()).map(|provider| token.claims().dates(&provider.expected))
            }
            Bearer::Absent | Bearer::Refused(_) => None,
        };
        dates
            .chain(token.into_iter().flatten())
            .chain(self.standing().fresh_until.map(after))
            .chain(self.revocations().fresh_until().map(after))
            .filter(|instant| *instant > now)
            .chain(self.windows.change_after(now))
            .min()
    }
}

/// The first second of a certificate, the first one after its last, and the same of those who signed it.
fn dates(leaf: &Leaf) -> impl Iterator<Item = UnixTime> {
    let issuers = leaf.provenance().validities();
    iter::once((leaf.not_before(), leaf.not_after())).chain(issuers).flat_map(|(from, to)| [from, after(to)])
}

fn after(instant: UnixTime) -> UnixTime {
    UnixTime(instant.0.saturating_add(1))
}
