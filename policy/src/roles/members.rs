//! The members of all roles, and the index by which a certificate's are found.

use std::collections::BTreeMap;

use super::Binding;
use super::Condition;
use super::Held;
use super::RoleId;
use super::condition;
use super::condition::RARER_THAN_SPIFFE;
use crate::certificate::Leaf;
use crate::index::MAX_STEPS;
use crate::index::NodeId;
use crate::index::Terminal;
use crate::index::Trie;
use crate::pattern::Patterns;
use crate::strings::Strings;
use crate::strings::Symbol;
use crate::token::Token;

/// In how many ways the captures of one role may be bound by one certificate. Beyond it nothing is decided for that
/// certificate: it takes a policy in which roles multiply each other's captures to get there.
const MAX_BINDINGS: usize = 256;

/// One way to hold a role: conditions of which all must hold.
#[derive(Debug)]
pub(crate) struct Member {
    /// The role that it gives.
    pub(crate) role: RoleId,
    /// A role that must be held as well.
    pub(crate) requires: Option<RoleId>,
    pub(crate) conditions: Box<[Condition]>,
}

/// See the module. Built by [`Members::new`], then only asked.
#[derive(Debug)]
pub(crate) struct Members {
    members: Vec<Member>,
    /// For each role, by number: its place in an order in which roles come after those that they require.
    ranks: Vec<u32>,
    /// Members by the key of their rarest condition, sorted.
    by_key: Vec<(u64, u32)>,
    /// Members by their SPIFFE pattern, sorted.
    by_pattern: Vec<(Terminal, u32)>,
    patterns: Trie,
    root: NodeId,
    /// Members without a key that require a role, sorted by it.
    by_role: Vec<(RoleId, u32)>,
    /// Members without a key that require none.
    tried: Vec<u32>,
    /// Some member asks for a token.
    ask_tokens: bool,
}

/// The captures of one role are bound in more ways than are tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TooManyBindings;

impl Members {
    /// Indexes the members, which are sorted by role. `ranks` orders the roles as described at the field.
    pub(crate) fn new(members: Vec<Member>, ranks: Vec<u32>, patterns: &Patterns) -> Self {
        let mut trie = Trie::new(0);
        let root = trie.root();
        let mut index = Self {
            members,
            ranks,
            by_key: vec![],
            by_pattern: vec![],
            patterns: trie,
            root,
            by_role: vec![],
            tried: vec![],
            ask_tokens: false,
        };
        index.ask_tokens = index.members.iter().any(|member| member.conditions.iter().any(Condition::asks_token));
        for (number, member) in (0_u32..).zip(&index.members) {
            let rarest = member.conditions.iter().filter_map(Condition::key).max_by_key(|(rarity, _)| *rarity);
            let spiffe = member.conditions.iter().find_map(|condition| match condition {
                Condition::Spiffe(pattern) => Some(*pattern),
                _ => None,
            });
            match (rarest, spiffe, member.requires) {
                // A SPIFFE ID is rarer than a name, and commoner than a hash.
                (Some((_, key)), None, _) | (Some((RARER_THAN_SPIFFE.., key)), Some(_), _) => {
                    index.by_key.push((key, number));
                }
                (_, Some(pattern), _) => {
                    let steps = patterns.steps(pattern).iter().copied();
                    index.by_pattern.push((index.patterns.insert(root, steps, pattern.rest), number));
                }
                (None, None, Some(required)) => index.by_role.push((required, number)),
                (None, None, None) => index.tried.push(number),
            }
        }
        index.by_key.sort_unstable();
        index.by_pattern.sort_unstable();
        index.by_role.sort_unstable();
        index.patterns.shrink();
        index
    }

    /// The members of one role, in document order.
    pub(crate) fn of(&self, role: RoleId) -> &[Member] {
        let start = self.members.partition_point(|member| member.role < role);
        let end = self.members.partition_point(|member| member.role <= role);
        self.members.get(start..end).unwrap_or_default()
    }

    /// Number of arrangements of wildcards among the SPIFFE patterns.
    pub(crate) fn arrangements(&self) -> usize {
        self.patterns.arrangements()
    }

    /// Whether roles can depend on a token at all.
    pub(crate) fn ask_tokens(&self) -> bool {
        self.ask_tokens
    }

    /// The roles that a certificate and a token hold together, in the order of their numbers.
    ///
    /// # Errors
    ///
    /// [`TooManyBindings`]: then nothing can be said about this certificate.
    pub(crate) fn held(
        &self,
        leaf: Option<&Leaf>,
        token: Option<&Token>,
        patterns: &Patterns,
        strings: &Strings,
    ) -> Result<Vec<Held>, TooManyBindings> {
        let asked = Asked { leaf, token, patterns, strings };
        // Members whose own conditions hold, by the rank of the role that they give: when a rank is looked at, every role
        // that its members may require is complete.
        let mut waiting: BTreeMap<u32, Vec<(&Member, Binding)>> = BTreeMap::new();
        self.candidates(leaf, strings, &mut |number| self.try_member(number, &asked, &mut waiting));

        let mut held: BTreeMap<RoleId, Vec<Binding>> = BTreeMap::new();
        while let Some((_, members)) = waiting.pop_first() {
            for (member, binding) in members {
                let ways = match member.requires {
                    None => vec![binding],
                    Some(required) => {
                        let Some(required) = held.get(&required) else { continue };
                        required.iter().filter_map(|other| other.join(&binding)).collect()
                    }
                };
                for way in ways {
                    let first = !held.contains_key(&member.role);
                    add(held.entry(member.role).or_default(), way)?;
                    if first {
                        let start = self.by_role.partition_point(|(required, _)| *required < member.role);
                        let dependents = self.by_role.get(start..).unwrap_or_default();
                        for (_, number) in dependents.iter().take_while(|(required, _)| *required == member.role) {
                            self.try_member(*number, &asked, &mut waiting);
                        }
                    }
                }
            }
        }
        Ok(held.into_iter().map(|(role, bindings)| Held { role, bindings }).collect())
    }

    fn candidates(&self, leaf: Option<&Leaf>, strings: &Strings, found: &mut impl FnMut(u32)) {
        self.tried.iter().for_each(|number| found(*number));
        let Some(leaf) = leaf else { return };
        let mut keys = Vec::new();
        condition::keys(leaf, &mut |key| keys.push(key));
        // The same key twice (the same name twice) must not find a member twice.
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let start = self.by_key.partition_point(|(known, _)| *known < key);
            let equal = self.by_key.get(start..).unwrap_or_default().iter().take_while(|(known, _)| *known == key);
            equal.for_each(|(_, number)| found(*number));
        }
        if let Some(id) = leaf.spiffe() {
            let words: Vec<Symbol> =
                condition::spiffe_words(id).take(MAX_STEPS + 1).map(|word| strings.find(word)).collect();
            self.patterns.walk(self.root, &words, &mut |terminal| {
                let start = self.by_pattern.partition_point(|(known, _)| *known < terminal);
                let equal = self.by_pattern.get(start..).unwrap_or_default().iter();
                equal.take_while(|(known, _)| *known == terminal).for_each(|(_, number)| found(*number));
            });
        }
    }

    fn try_member<'a>(
        &'a self,
        number: u32,
        asked: &Asked<'_>,
        waiting: &mut BTreeMap<u32, Vec<(&'a Member, Binding)>>,
    ) {
        let Some(member) = self.members.get(number as usize) else { return };
        let mut binding = Binding::default();
        let Asked { leaf, token, patterns, strings } = *asked;
        if member.conditions.iter().all(|condition| condition.holds(leaf, token, patterns, strings, &mut binding)) {
            let rank = self.ranks.get(member.role.0 as usize).copied().unwrap_or(0);
            let ways = member.with_claims(binding, token);
            waiting.entry(rank).or_default().extend(ways.into_iter().map(|way| (member, way)));
        }
    }
}

/// Who asks, and what members' conditions are checked with.
#[derive(Clone, Copy)]
struct Asked<'a> {
    leaf: Option<&'a Leaf>,
    token: Option<&'a Token>,
    patterns: &'a Patterns,
    strings: &'a Strings,
}

impl Member {
    /// The ways in which the captures in claims can be bound beside those that are: a claim that is a list has several.
    fn with_claims(&self, binding: Binding, token: Option<&Token>) -> Vec<Binding> {
        let mut ways = vec![binding];
        let claims = self.conditions.iter().filter_map(|condition| match condition {
            Condition::Token(wanted) => Some(wanted.claims.iter()),
            _ => None,
        });
        let Some(token) = token else { return ways };
        for claim in claims.flatten() {
            let Some(name) = claim.capture() else { continue };
            let all = token.claims().all();
            let mut more: Vec<Binding> = Vec::new();
            for way in ways.iter().flat_map(|way| claim.texts(all).filter_map(|text| way.with(name, text))) {
                // One more than may be: whoever adds them up finds that there are too many.
                if more.len() <= MAX_BINDINGS && !more.contains(&way) {
                    more.push(way);
                }
            }
            ways = more;
        }
        ways
    }
}

/// Adds a way to those known. One that binds less does not include one that binds more: a rule may ask for what it lacks.
fn add(ways: &mut Vec<Binding>, way: Binding) -> Result<(), TooManyBindings> {
    if ways.contains(&way) {
        return Ok(());
    }
    if ways.len() == MAX_BINDINGS {
        return Err(TooManyBindings);
    }
    ways.push(way);
    Ok(())
}
