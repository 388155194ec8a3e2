//! Which rules match everything that a pattern matches: for the check of a policy, not for requests.

use super::Index;
use super::Terminal;
use super::Trie;
use super::trie::NodeId;
use crate::pattern::Step;
use crate::roles::RoleId;
use crate::rule::RuleId;

/// Steps and whether `**` follows.
type Shape<'a> = (&'a [Step], bool);

impl Index {
    /// Calls `found` with each rule that, whatever is captured, matches all requests for these hosts and paths of whoever
    /// holds `role`, if they fulfil what the rule requires beside that. Rules that earlier rules of one list leave nothing to are not among them.
    pub(crate) fn covering(
        &self,
        host: Option<Shape<'_>>,
        path: Shape<'_>,
        role: RoleId,
        found: &mut impl FnMut(RuleId),
    ) {
        self.covering_paths(self.any_host, path, role, found);
        if let Some((steps, rest)) = host {
            self.hosts.covering(self.host_root, steps, rest, &mut |terminal| {
                if let Some(&root) = self.path_roots.get(terminal.0 as usize) {
                    self.covering_paths(root, path, role, found);
                }
            });
        }
    }

    /// Calls `list` with the rules of each list that a role has, terminal by terminal.
    pub(crate) fn lists(&self, list: &mut impl FnMut(Terminal, RoleId, &mut dyn Iterator<Item = RuleId>)) {
        for terminal in (0..self.paths.terminals()).map(Terminal) {
            for (position, group) in self.groups_of(terminal).iter().enumerate() {
                list(terminal, group.role, &mut self.entries_of(terminal, position).iter().map(|entry| entry.rule));
            }
        }
    }

    fn covering_paths(&self, root: NodeId, (steps, rest): Shape<'_>, role: RoleId, found: &mut impl FnMut(RuleId)) {
        self.paths.covering(root, steps, rest, &mut |terminal| {
            let groups = self.groups_of(terminal);
            for wanted in [RoleId::ANY, role] {
                if let Ok(position) = groups.binary_search_by_key(&wanted, |group| group.role) {
                    let free = self.entries_of(terminal, position).iter().filter(|entry| entry.constraint == 0);
                    free.for_each(|entry| found(entry.rule));
                }
            }
        });
    }
}

impl Trie {
    /// Calls `found` with each terminal whose patterns match everything that these steps match.
    fn covering(&self, root: NodeId, steps: &[Step], rest: bool, found: &mut impl FnMut(Terminal)) {
        let after = if rest { self.rest_takes() } else { 0 };
        if let Some(terminal) = self.rest_of(root)
            && steps.len() + after >= self.rest_takes()
        {
            found(terminal);
        }
        let Some((&step, below)) = steps.split_first() else {
            if let Some(terminal) = self.exact_of(root)
                && !rest
            {
                found(terminal);
            }
            return;
        };
        if let Step::Literal(word) = step
            && let Some(child) = self.literal_child(root, word)
        {
            self.covering(child, below, rest, found);
        }
        if step != Step::Literal(crate::strings::Symbol::EMPTY)
            && let Some(child) = self.wildcard_child(root)
        {
            self.covering(child, below, rest, found);
        }
    }
}
