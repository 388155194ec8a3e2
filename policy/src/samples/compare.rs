//! What two policies say of the same requests.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::hash::DefaultHasher;
use std::hash::Hash as _;
use std::hash::Hasher as _;

use super::SamplePeer;
use super::SampleRequest;
use super::clock;
use super::people;
use super::people::Holder;
use super::requests::requests;
use super::requests::unnamed_method;
use super::words::Words;
use crate::certificate::Synthetic;
use crate::decide::Decision;
use crate::policy::Policy;
use crate::roles::RoleId;
use crate::rule::Rule;
use crate::time::UnixTime;

/// The most verdicts that are compared.
const MAX_VERDICTS: usize = 1_000_000;
/// The most members of one role, in one policy, that certificates are made for.
const MAX_MEMBERS: usize = 16;
/// The most roles whose certificates ask about what everybody may.
const MAX_ROLES: usize = 64;
/// The most ways to fill the captures of one rule.
const MAX_WORDS: usize = 16;

/// How far a comparison went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// How many requests both policies decided.
    pub compared: usize,
    /// There was more to compare than is compared.
    pub cut: bool,
}

/// Has both policies decide samples of every rule of either, and calls `each` with both answers.
///
/// For each rule: requests that it is about and some beside them, made by those who hold its roles in one of the two
/// policies; a rule about everybody is asked about for nobody, for a stranger and for one certificate of each role.
pub fn compare(
    old: &Policy,
    new: &Policy,
    each: &mut dyn FnMut(&SampleRequest, &SamplePeer, &Decision<'_>, &Decision<'_>),
) -> Extent {
    let mut people = People::new(old, new);
    let unnamed = unnamed_method(&[old, new]);
    let mut extent = Extent::default();
    let mut known = BTreeSet::new();
    for side in [Side::Old, Side::New] {
        let policy = people.policy(side);
        for (_, rule) in policy.rules.iter() {
            let asking = people.about(policy, rule);
            let words = people.words(side, rule, &asking);
            for request in requests(policy, rule, &words, &unnamed) {
                for &number in &asking {
                    let Some(person) = people.all.get(number) else { continue };
                    let mut hash = DefaultHasher::new();
                    (&request, number).hash(&mut hash);
                    if !known.insert(hash.finish()) {
                        continue;
                    }
                    if extent.compared == MAX_VERDICTS {
                        extent.cut = true;
                        return extent;
                    }
                    extent.compared += 1;
                    let before = request.by(person.old.peer(), people.now);
                    let after = request.by(person.new.peer(), people.now);
                    each(&request, &person.new, &old.decide(&before), &new.decide(&after));
                }
            }
        }
    }
    extent
}

#[derive(Clone, Copy)]
enum Side {
    Old,
    New,
}

/// One certificate, or none, as each policy sees it.
struct Person {
    old: SamplePeer,
    new: SamplePeer,
}

/// Everybody who asks, made when a role is met first.
struct People<'p> {
    old: &'p Policy,
    new: &'p Policy,
    now: UnixTime,
    all: Vec<Person>,
    roles: BTreeMap<String, Vec<usize>>,
    /// Nobody, a stranger and one of each role.
    anybody: Vec<usize>,
}

impl<'p> People<'p> {
    fn new(old: &'p Policy, new: &'p Policy) -> Self {
        let now = clock(&[old, new]);
        let mut people = Self { old, new, now, all: Vec::new(), roles: BTreeMap::new(), anybody: Vec::new() };
        for leaf in [None, Some(people::stranger(now).leaf())] {
            let person =
                Person { old: SamplePeer::new(old, None, leaf.clone()), new: SamplePeer::new(new, None, leaf) };
            people.anybody.push(people.all.len());
            people.all.push(person);
        }
        let mut names: Vec<&str> = Vec::new();
        for policy in [old, new] {
            names.extend(policy.roles.all().map(|role| policy.roles.name(role, &policy.strings)));
        }
        names.sort_unstable();
        names.dedup();
        for name in names.into_iter().take(MAX_ROLES) {
            let first = people.of_role(name).first().copied();
            people.anybody.extend(first);
        }
        people
    }

    fn policy(&self, side: Side) -> &'p Policy {
        match side {
            Side::Old => self.old,
            Side::New => self.new,
        }
    }

    /// Those who ask for what a rule is about.
    fn about(&mut self, policy: &Policy, rule: &Rule) -> Vec<usize> {
        let roles = policy.rules.roles(rule);
        if roles.is_empty() {
            return self.anybody.clone();
        }
        let names = roles.iter().map(|role| policy.roles.name(*role, &policy.strings));
        names.flat_map(|name| self.of_role(name)).collect()
    }

    /// Those who hold a role of this name in one of the two policies.
    fn of_role(&mut self, name: &str) -> Vec<usize> {
        if let Some(known) = self.roles.get(name) {
            return known.clone();
        }
        let mut made: Vec<Synthetic> = Vec::new();
        for policy in [self.old, self.new] {
            let Ok(role) = policy.roles.find(name, &policy.strings) else { continue };
            for member in policy.members.of(role).iter().take(MAX_MEMBERS) {
                if let Holder::Somebody(synthetic) = people::holder(policy, member, &Words::default(), self.now)
                    && !made.contains(&synthetic)
                {
                    made.push(*synthetic);
                }
            }
        }
        let first = self.all.len();
        self.all.extend(made.into_iter().map(Synthetic::leaf).map(|leaf| Person {
            old: SamplePeer::new(self.old, Some(name), Some(leaf.clone())),
            new: SamplePeer::new(self.new, Some(name), Some(leaf)),
        }));
        let numbers: Vec<usize> = (first..self.all.len()).collect();
        self.roles.insert(name.to_owned(), numbers.clone());
        numbers
    }

    /// What a rule's captures stand for: what they do for those who ask, the usual words, and others.
    fn words(&self, side: Side, rule: &Rule, asking: &[usize]) -> Vec<Words> {
        let policy = self.policy(side);
        let mut words = vec![Words::default(), Words::other()];
        for person in asking.iter().filter_map(|number| self.all.get(*number)) {
            let sample = match side {
                Side::Old => &person.old,
                Side::New => &person.new,
            };
            for bound in sample.words(policy, policy.rules.roles(rule)) {
                if words.len() < MAX_WORDS && !words.contains(&bound) {
                    words.push(bound);
                }
            }
        }
        words
    }
}

impl SamplePeer {
    /// What the captures of these roles stand for in this certificate.
    pub(super) fn words(&self, policy: &Policy, roles: &[RoleId]) -> Vec<Words> {
        let Some(subject) = &self.subject else { return Vec::new() };
        let view = policy.view(subject);
        let held = view.held.iter().filter(|held| roles.contains(&held.role));
        held.flat_map(|held| &held.bindings).map(|binding| Words::of(binding, &policy.strings)).collect()
    }
}
