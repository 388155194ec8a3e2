//! Roles: names to numbers, members to conditions, the order in which they depend on each other.

use super::member;
use super::value;
use crate::anchor::Anchors;
use crate::document::Lists;
use crate::document::RoleNames;
use crate::error::PolicyError;
use crate::error::PolicyProblem;
use crate::pattern::Patterns;
use crate::pattern::Step;
use crate::roles::Condition;
use crate::roles::Member;
use crate::roles::Members;
use crate::roles::RoleId;
use crate::strings::Strings;
use crate::strings::Symbol;
use crate::token::claim::ClaimTest;
use crate::token::provider::Providers;

/// Arrangements of wildcards among the SPIFFE patterns of a policy.
const MAX_ARRANGEMENTS: usize = 1024;

/// The roles of a policy. They are interned before all other words, in the order of their names, so that a role's number
/// is that of its name's symbol, and [`RoleId::ANY`] that of the empty word.
#[derive(Debug)]
pub(crate) struct RoleTable {
    count: u32,
    /// For each role, by number: the names that its captures may bind, sorted.
    captures: Vec<Box<[Symbol]>>,
}

impl RoleTable {
    /// Names the roles.
    fn new(roles: &RoleNames<'_>, strings: &mut Strings) -> Result<Self, PolicyError> {
        let mut names = Vec::with_capacity(roles.0.len());
        for name in &roles.0 {
            let place = || format!("roles.{}", value::shown(name.as_str()));
            let name = value::name(name.as_str()).map_err(|problem| PolicyError::new(place(), problem))?;
            if name == "any" {
                return Err(PolicyError::new(place(), PolicyProblem::Reserved(name.to_owned())));
            }
            names.push(name);
        }
        names.sort_unstable();
        for (one, other) in names.iter().zip(names.iter().skip(1)) {
            if one == other {
                let problem = PolicyProblem::Duplicate { what: "role", name: (*one).to_owned() };
                return Err(PolicyError::new(format!("roles.{one}"), problem));
            }
        }
        names.iter().for_each(|name| {
            strings.intern(name);
        });
        Ok(Self { count: names.len() as u32, captures: Vec::new() })
    }

    /// The role of a name.
    pub(crate) fn find(&self, name: &str, strings: &Strings) -> Result<RoleId, PolicyProblem> {
        let number = strings.find(name).number();
        if (1..=self.count).contains(&number) {
            return Ok(RoleId(number));
        }
        if name == "any" {
            return Err(PolicyProblem::Reserved(name.to_owned()));
        }
        let names = self.all().map(|role| self.name(role, strings));
        let nearest = names.map(|known| (distance(name, known), known)).min();
        let nearest =
            nearest.filter(|(distance, _)| *distance <= 1 + name.len() / 4).map(|(_, known)| known.to_owned());
        Err(PolicyProblem::UnknownRole { name: value::shown(name), nearest })
    }

    /// Every role, in the order of their names.
    pub(crate) fn all(&self) -> impl Iterator<Item = RoleId> + use<> {
        (1..=self.count).map(RoleId)
    }

    pub(crate) fn name<'s>(&self, role: RoleId, strings: &'s Strings) -> &'s str {
        strings.text(Symbol::of_number(role.0))
    }

    /// The names that a role's captures may bind, sorted.
    pub(crate) fn captures(&self, role: RoleId) -> &[Symbol] {
        self.captures.get(role.0 as usize).map_or(&[][..], |names| names)
    }
}

/// Compiles the roles of a document.
pub(super) fn compile(
    names: RoleNames<'_>,
    written: Lists<'_>,
    anchors: &Anchors,
    providers: &Providers,
    strings: &mut Strings,
    patterns: &mut Patterns,
) -> Result<(RoleTable, Members), PolicyError> {
    let mut table = RoleTable::new(&names, strings)?;
    // The names are strings of the policy now; their list is not needed beside them.
    drop(names);
    let mut members = Vec::with_capacity(table.count as usize);
    written.each_role(&mut |(name, ways)| {
        let place = || format!("roles.{}", name.as_str());
        let role = table.find(name.as_str(), strings).map_err(|problem| PolicyError::new(place(), problem))?;
        if ways.is_empty() {
            return Err(PolicyError::new(place(), PolicyProblem::EmptyList));
        }
        for (position, way) in ways.iter().enumerate() {
            let member = member::compile(role, way, &table, anchors, providers, strings, patterns).map_err(
                |(field, problem)| {
                    let field = if field.is_empty() { field } else { format!(".{field}") };
                    PolicyError::new(format!("{}[{position}]{field}", place()), problem)
                },
            )?;
            members.push(member);
        }
        Ok(())
    })?;
    // Stable: the members of one role keep their order.
    members.sort_by_key(|member| member.role);
    let order = order(&table, &members, strings)?;
    table.captures = captures(&order, &members, patterns);
    let mut ranks = vec![0; order.len() + 1];
    for (rank, role) in (0..).zip(&order) {
        if let Some(place) = ranks.get_mut(role.0 as usize) {
            *place = rank;
        }
    }
    let members = Members::new(members, ranks, patterns);
    if members.arrangements() > MAX_ARRANGEMENTS {
        let what = "arrangements of wildcards in SPIFFE IDs";
        return Err(PolicyError::new("roles", PolicyProblem::TooMany { what, limit: MAX_ARRANGEMENTS }));
    }
    Ok((table, members))
}

/// The order in which roles can be worked out: those that are required come first.
fn order(table: &RoleTable, members: &[Member], strings: &Strings) -> Result<Vec<RoleId>, PolicyError> {
    let required = |role: RoleId| {
        let start = members.partition_point(|member| member.role < role);
        let own = members.get(start..).unwrap_or_default().iter().take_while(move |member| member.role == role);
        own.filter_map(|member| member.requires)
    };
    let mut order = Vec::new();
    let mut done = vec![false; table.count as usize + 1];
    let is_done = |done: &[bool], role: RoleId| done.get(role.0 as usize).copied().unwrap_or(true);
    for start in table.all() {
        // The roles that are being looked at, each required by the one before it. No recursion: chains may be long.
        let mut trail = Vec::new();
        if !is_done(&done, start) {
            trail.push((start, required(start)));
        }
        while let Some((role, rest)) = trail.last_mut() {
            let role = *role;
            let Some(next) = rest.next() else {
                if let Some(place) = done.get_mut(role.0 as usize) {
                    *place = true;
                }
                order.push(role);
                trail.pop();
                continue;
            };
            if is_done(&done, next) {
                continue;
            }
            if let Some(position) = trail.iter().position(|(role, _)| *role == next) {
                let circle = trail.iter().skip(position).map(|(role, _)| *role).chain([next]);
                let names: Vec<String> = circle.map(|role| format!("`{}`", table.name(role, strings))).collect();
                let path = format!("roles.{}", table.name(next, strings));
                return Err(PolicyError::new(path, PolicyProblem::RoleCycle(names.join(" requires "))));
            }
            trail.push((next, required(next)));
        }
    }
    Ok(order)
}

/// For each role, by number: the names that its captures may bind, those of the roles that it requires included.
fn captures(order: &[RoleId], members: &[Member], patterns: &Patterns) -> Vec<Box<[Symbol]>> {
    let mut captures = vec![Box::default(); order.len() + 1];
    for &role in order {
        let mut names: Vec<Symbol> = Vec::new();
        let start = members.partition_point(|member| member.role < role);
        for member in members.get(start..).unwrap_or_default().iter().take_while(|member| member.role == role) {
            if let Some(required) = member.requires {
                names.extend(captures.get(required.0 as usize).into_iter().flatten());
            }
            for condition in &member.conditions {
                match condition {
                    Condition::Spiffe(pattern) => {
                        names.extend(patterns.steps(*pattern).iter().filter_map(|step| match step {
                            Step::Capture(name) => Some(*name),
                            Step::Literal(_) | Step::One => None,
                        }));
                    }
                    Condition::Token(wanted) => names.extend(wanted.claims.iter().filter_map(ClaimTest::capture)),
                    _ => {}
                }
            }
            // Kept short as it grows: many members bind the same few names.
            names.sort_unstable();
            names.dedup();
        }
        if let Some(place) = captures.get_mut(role.0 as usize) {
            *place = names.into();
        }
    }
    captures
}

/// How many letters have to be changed, added or removed to make one word from the other.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, byte) in one.bytes().enumerate() {
        let mut diagonal = line;
        let mut left = line + 1;
        for (place, known) in row.iter_mut().zip(std::iter::once(None).chain(other.bytes().map(Some))) {
            let above = *place;
            let cost = match known {
                None => line + 1,
                Some(known) => (diagonal + usize::from(known != byte)).min(above + 1).min(left + 1),
            };
            diagonal = above;
            left = cost;
            *place = cost;
        }
    }
    row.last().copied().unwrap_or(0)
}
