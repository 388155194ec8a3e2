//! Roles that nobody can hold. Only what is certain is reported: no certificate fulfils all conditions.

use super::Finding;
use crate::policy::Policy;
use crate::samples::Holder;
use crate::samples::Words;
use crate::samples::holder;
use crate::time::UnixTime;

/// A role if none of its members can be held, else each member that cannot.
pub(super) fn find(policy: &Policy, findings: &mut Vec<Finding>) {
    for role in policy.roles.all() {
        let name = policy.roles.name(role, &policy.strings);
        let members = policy.members.of(role);
        let mut nobody = Vec::new();
        for (position, member) in members.iter().enumerate() {
            // A lone condition contradicts nothing.
            if member.conditions.len() + usize::from(member.requires.is_some()) < 2 {
                continue;
            }
            if let Holder::Nobody(field) = holder(policy, member, &Words::default(), UnixTime(0)) {
                nobody.push((position, field));
            }
        }
        let all = nobody.len() == members.len();
        for (position, field) in nobody.into_iter().take(if all { 1 } else { usize::MAX }) {
            let path = if all { format!("roles.{name}") } else { format!("roles.{name}[{position}]") };
            findings.push(Finding::Impossible { path, role: name.to_owned(), field });
        }
    }
}
