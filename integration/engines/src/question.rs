//! Questions about a policy, drawn at random, and their right answers.

use crate::policy::METHODS;
use crate::policy::Path;
use crate::policy::Policy;
use crate::policy::Rule;
use crate::policy::is_second_suspended;
use crate::policy::lead;
use crate::policy::second;

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// SPIFFE ID of who asks.
    pub(crate) client: String,
    pub(crate) method: &'static str,
    /// Without a query, and as every engine reads it: no empty segment, nothing to decode.
    pub(crate) path: String,
    /// The right answer.
    pub(crate) allowed: bool,
}

/// Draws so many questions. The same ones for the same policy: kinds take turns, so that however few of them an engine
/// gets to, it has had each about as often as the others have.
pub(crate) fn draw(policy: &Policy, count: usize) -> Vec<Question> {
    let mut dice = Dice(0x5eed_0f00_dd1c_e000);
    (0..count).filter_map(|number| one(policy, number, &mut dice)).collect()
}

fn one(policy: &Policy, kind: usize, dice: &mut Dice) -> Option<Question> {
    let mut number = dice.below(policy.rules.len());
    // Whoever is suspended asks for what the role may.
    let suspended = kind % 5 == 4;
    if suspended {
        number = (0..policy.rules.len())
            .map(|step| (number + step) % policy.rules.len())
            .find(|number| policy.rules.get(*number).is_some_and(|rule| is_second_suspended(rule.role)))?;
    }
    let rule = policy.rules.get(number)?;
    let good = Question {
        client: if suspended { second(rule.role) } else { lead(rule.role) },
        method: rule.method,
        path: path(rule, dice),
        allowed: kind % 5 < 2,
    };
    Some(match kind % 5 {
        // Somebody else, something else.
        2 => Question { client: lead((rule.role + 1) % policy.allowed_roles()), ..good },
        3 if dice.below(2) == 0 => {
            Question { method: METHODS.into_iter().find(|method| *method != rule.method)?, ..good }
        }
        3 => Question { path: good.path.replace("/service-", "/other-"), ..good },
        _ => good,
    })
}

/// A path that the rule is about.
fn path(rule: &Rule, dice: &mut Dice) -> String {
    let id = dice.below(1_000_000);
    match rule.path {
        Path::Files(service) => format!("/service-{service}/files/a/{id}/b"),
        Path::Items(service) => format!("/service-{service}/orders/{id}/items"),
        Path::Order(service) => format!("/service-{service}/orders/{id}"),
    }
}

/// Splitmix64: enough to scatter questions over a policy.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let limit = limit.max(1) as u64;
        ((mixed ^ (mixed >> 31)) % limit) as usize
    }
}
