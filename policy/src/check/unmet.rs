//! What rules require and no request can fulfil: tokens that nobody takes, times that are over, what their own `not` excludes.

use super::Finding;
use crate::policy::Policy;
use crate::requirement::Requirement;
use crate::requirement::Window;
use crate::rule::Effect;
use crate::rule::Rules;
use crate::time::UnixTime;

/// Rule by rule, of a list of the document.
pub(super) fn find(list: &str, rules: &Rules, policy: &Policy, now: UnixTime, findings: &mut Vec<Finding>) {
    for (id, rule) in rules.iter() {
        let requirements = rules.requirements(rule);
        let name = || policy.strings.text(rule.id).to_owned();
        let place = |field: &str| format!("{list}[{}].{field}", id.0);
        if policy.providers.is_empty()
            && let Some(asks) = requirements.iter().find(|requirement| is_about_tokens(requirement))
        {
            findings.push(Finding::NoTokens { path: place(asks.field()), rule: name() });
        }
        for requirement in requirements {
            let Requirement::Not(inner) = requirement else {
                over(requirement, &place("times"), &name, now, findings);
                continue;
            };
            inner.iter().for_each(|inner| over(inner, &place("not.times"), &name, now, findings));
            let required = |excluded: &Requirement| {
                // A deny rule requires one value of a header, and its `not` speaks of all.
                let same_question = rule.effect == Effect::Allow || !matches!(excluded, Requirement::Headers(_));
                same_question && requirements.contains(excluded)
            };
            if let Some(first) = inner.first().filter(|_| inner.iter().all(required)) {
                findings.push(Finding::Contradictory { path: place("not"), rule: name(), field: first.field() });
            }
        }
    }
}

/// Whether it never holds where no token is taken. What is unknown stays so within a `not`, unless something beside it is
/// known.
fn is_about_tokens(requirement: &Requirement) -> bool {
    match requirement {
        Requirement::Claims(_) | Requirement::Scopes(_) => true,
        Requirement::Not(inner) => inner.iter().all(is_about_tokens),
        _ => false,
    }
}

/// The windows in which no instant is left, together if that is all of them.
fn over(requirement: &Requirement, place: &str, rule: &dyn Fn() -> String, now: UnixTime, findings: &mut Vec<Finding>) {
    let Requirement::Times(windows) = requirement else { return };
    let ends: Vec<(usize, UnixTime)> =
        windows.iter().enumerate().filter_map(|(number, window)| Some((number, end_of(window, now)?))).collect();
    if ends.len() == windows.len() {
        let last = ends.iter().map(|(_, until)| *until).max();
        findings.extend(last.map(|until| Finding::Over { path: place.to_owned(), rule: rule(), until }));
        return;
    }
    let one = |(number, until)| Finding::Over { path: format!("{place}[{number}]"), rule: rule(), until };
    findings.extend(ends.into_iter().map(one));
}

/// The end of a window in which no instant is left.
fn end_of(window: &Window, now: UnixTime) -> Option<UnixTime> {
    let left = Window { from: window.from.max(Some(now)), ..*window };
    if left.first().is_some() { None } else { window.until }
}
