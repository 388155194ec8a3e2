//! The policy that all engines get, before any of them has its own form of it.
//!
//! Each rule lets one role do one method on one path of one service; two fixed identities hold each role. One rule in
//! front of all denies: whoever is suspended, everything. Only what all engines can say without a trick is in it.

/// A policy in plain words.
#[derive(Debug)]
pub(crate) struct Policy {
    /// What is allowed.
    pub(crate) rules: Vec<Rule>,
    /// Who holds what.
    pub(crate) roles: Vec<Role>,
}

/// One role is allowed one method on one path.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    /// Number of the role.
    pub(crate) role: usize,
    /// `GET` or `POST`.
    pub(crate) method: &'static str,
    /// Which path.
    pub(crate) path: Path,
}

/// A path of the service with this number.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Path {
    /// `/service-7/files/` and anything below it.
    Files(usize),
    /// `/service-7/orders/{id}/items`.
    Items(usize),
    /// `/service-7/orders/{id}`.
    Order(usize),
}

/// A role and its members, by SPIFFE ID.
#[derive(Clone, Debug)]
pub(crate) struct Role {
    pub(crate) name: String,
    pub(crate) members: Vec<String>,
}

/// The role that is denied everything; the last in the list.
pub(crate) const SUSPENDED: &str = "suspended";

/// The methods of requests: what a rule about every method is about.
pub(crate) const METHODS: [&str; 3] = ["DELETE", "GET", "POST"];

/// Every so many roles, the second member is suspended.
const SUSPENDED_EVERY: usize = 10;

impl Policy {
    /// A policy of so many rules, the denying one included.
    pub(crate) fn of(count: usize) -> Self {
        let allowing = count.saturating_sub(1).max(1);
        let roles = (allowing / 4).max(3);
        let rules = (0..allowing).map(|number| Rule {
            role: number % roles,
            method: if number % 2 == 0 { "GET" } else { "POST" },
            path: match number % 3 {
                0 => Path::Order(number),
                1 => Path::Items(number),
                _ => Path::Files(number),
            },
        });
        let own = (0..roles).map(|role| Role { name: format!("role-{role}"), members: vec![lead(role), second(role)] });
        let suspended = Role {
            name: SUSPENDED.to_owned(),
            members: (0..roles).filter(|role| is_second_suspended(*role)).map(second).collect(),
        };
        Self { rules: rules.collect(), roles: own.chain([suspended]).collect() }
    }

    /// How many roles rules allow something.
    pub(crate) fn allowed_roles(&self) -> usize {
        self.roles.len() - 1
    }
}

/// The first member of a role, whom nothing is denied.
pub(crate) fn lead(role: usize) -> String {
    format!("spiffe://acme.example/ns/team-{role}/sa/lead")
}

/// The second member of a role.
pub(crate) fn second(role: usize) -> String {
    format!("spiffe://acme.example/ns/team-{role}/sa/second")
}

/// Whether the second member of a role is suspended.
pub(crate) fn is_second_suspended(role: usize) -> bool {
    role.is_multiple_of(SUSPENDED_EVERY)
}
