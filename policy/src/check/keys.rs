//! Keys of token providers from which nothing can be verified, and those that nobody should see.

use super::Finding;
use crate::policy::Policy;
use crate::token::Key;
use crate::token::KeySet;
use crate::token::MAX_CANDIDATES;

/// Provider by provider; of each, key by key and kind by kind.
pub(super) fn find(policy: &Policy, findings: &mut Vec<Finding>) {
    for provider in &policy.providers.list {
        let place = format!("tokens.{}.jwks.keys", provider.name);
        let at = |position: usize| format!("{place}[{position}]");
        let keys = &provider.keys;
        // Where all are left out, the policy is refused.
        if keys.keys().is_empty() {
            findings.push(Finding::NoKeys { path: place.clone(), provider: provider.name.to_string() });
        }
        findings.extend(of_set(&place, keys));
        let never_tried = keys.never_tried().map(Key::position);
        let limit = MAX_CANDIDATES;
        findings.extend(never_tried.map(|position| Finding::KeyNeverTried { path: at(position), limit }));
    }
}

/// See [`Finding::of_keys`].
pub(super) fn of_set(place: &str, set: &KeySet) -> Vec<Finding> {
    let at = |position: usize| format!("{place}[{position}]");
    let left_out = set.left_out().iter().map(|(position, why)| Finding::KeyLeftOut { path: at(*position), why: *why });
    let private = set.private().iter().map(|position| Finding::PrivateKey { path: at(*position) });
    left_out.chain(private).collect()
}
