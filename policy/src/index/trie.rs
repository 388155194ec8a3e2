//! A trie over words: which patterns match a sequence of segments.
//!
//! One trie serves paths, hosts (labels from the right) and SPIFFE IDs. A node has literal children, at most one child
//! for "any one non-empty word" and, where patterns end, a terminal for "exactly here" and one for "and anything below".
//!
//! **Bound.** A node at depth *d* is reached by one choice, at each of *d* steps, between literal and wildcard, so a walk
//! visits no more nodes than the policy has different arrangements of wildcards (over all depths). That number does not
//! grow with the number of patterns, and patterns that would raise it over the trie's limit are refused.

use std::collections::BTreeSet;

use hashbrown::HashTable;

use crate::pages::Pages;
use crate::pattern::Step;
use crate::strings::Symbol;
use crate::strings::mix;

/// The most segments that a pattern may have. A sequence may be longer: it is cut, nothing matches so deep but `**`.
pub(crate) const MAX_STEPS: usize = 32;

/// A node of one trie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeId(u32);

/// Where patterns end; numbered from 0 in order of insertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Terminal(pub(crate) u32);

/// See the module.
#[derive(Debug)]
pub(crate) struct Trie {
    nodes: Pages<Node>,
    /// Literal children but for the first of each node.
    edges: HashTable<Edge>,
    terminals: u32,
    /// What `**` takes at least: 0 or 1 words.
    rest_takes: usize,
    /// Depth and wildcard positions of every node.
    arrangements: BTreeSet<(usize, u32)>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    wildcard: u32,
    exact: u32,
    rest: u32,
    /// The first literal child, which most nodes have no second to: found without another look into memory.
    word: Symbol,
    child: u32,
}

const EMPTY: Node = Node { wildcard: NONE, exact: NONE, rest: NONE, word: Symbol::UNKNOWN, child: NONE };

#[derive(Clone, Copy, Debug)]
struct Edge {
    from: u32,
    word: Symbol,
    to: u32,
}

const NONE: u32 = u32::MAX;

impl Trie {
    /// A trie without a root; `rest_takes` is how many words `**` takes at least.
    pub(crate) fn new(rest_takes: usize) -> Self {
        Self {
            nodes: Pages::default(),
            edges: HashTable::new(),
            terminals: 0,
            rest_takes,
            arrangements: BTreeSet::new(),
        }
    }

    /// A new, empty root.
    pub(crate) fn root(&mut self) -> NodeId {
        NodeId(self.add())
    }

    /// Number of terminals.
    pub(crate) fn terminals(&self) -> u32 {
        self.terminals
    }

    /// Number of different arrangements of wildcards: the bound of a walk from one root.
    pub(crate) fn arrangements(&self) -> usize {
        self.arrangements.len()
    }

    /// The terminal of a pattern; equal patterns (names of captures aside) have the same.
    pub(crate) fn insert(&mut self, root: NodeId, steps: impl Iterator<Item = Step>, rest: bool) -> Terminal {
        let mut at = root.0;
        let mut wildcards = 0_u32;
        for (depth, step) in steps.enumerate() {
            wildcards <<= 1;
            let next = match step {
                Step::Literal(word) => self.child(at, word),
                Step::Capture(_) | Step::One => {
                    wildcards |= 1;
                    self.node(at).wildcard
                }
            };
            if next != NONE {
                at = next;
                continue;
            }
            let new = self.add();
            self.arrangements.insert((depth, wildcards));
            match step {
                Step::Literal(word) => match self.nodes.get_mut(at) {
                    Some(node) if node.child == NONE => (node.word, node.child) = (word, new),
                    _ => {
                        let edge = Edge { from: at, word, to: new };
                        self.edges.insert_unique(edge_hash(at, word), edge, |edge| edge_hash(edge.from, edge.word));
                    }
                },
                Step::Capture(_) | Step::One => {
                    if let Some(node) = self.nodes.get_mut(at) {
                        node.wildcard = new;
                    }
                }
            }
            at = new;
        }
        let next = self.terminals;
        let Some(node) = self.nodes.get_mut(at) else { return Terminal(NONE) };
        let terminal = if rest { &mut node.rest } else { &mut node.exact };
        if *terminal == NONE {
            *terminal = next;
            self.terminals += 1;
        }
        Terminal(*terminal)
    }

    /// Calls `found` with each terminal whose pattern matches the words.
    pub(crate) fn walk(&self, root: NodeId, words: &[Symbol], found: &mut impl FnMut(Terminal)) {
        self.visit(root.0, words, found);
    }

    pub(crate) fn shrink(&mut self) {
        self.nodes.shrink();
        self.edges.shrink_to_fit(|edge| edge_hash(edge.from, edge.word));
    }

    /// What `**` takes at least.
    pub(super) fn rest_takes(&self) -> usize {
        self.rest_takes
    }

    pub(super) fn exact_of(&self, node: NodeId) -> Option<Terminal> {
        some(self.node(node.0).exact).map(Terminal)
    }

    pub(super) fn rest_of(&self, node: NodeId) -> Option<Terminal> {
        some(self.node(node.0).rest).map(Terminal)
    }

    pub(super) fn wildcard_child(&self, node: NodeId) -> Option<NodeId> {
        some(self.node(node.0).wildcard).map(NodeId)
    }

    pub(super) fn literal_child(&self, node: NodeId, word: Symbol) -> Option<NodeId> {
        some(self.child(node.0, word)).map(NodeId)
    }

    // No deeper than the deepest pattern, which is at most `MAX_STEPS`.
    fn visit(&self, at: u32, words: &[Symbol], found: &mut impl FnMut(Terminal)) {
        let node = self.node(at);
        if node.rest != NONE && words.len() >= self.rest_takes {
            found(Terminal(node.rest));
        }
        let Some((&word, below)) = words.split_first() else {
            if node.exact != NONE {
                found(Terminal(node.exact));
            }
            return;
        };
        if word != Symbol::UNKNOWN {
            let child = self.child(at, word);
            if child != NONE {
                self.visit(child, below, found);
            }
        }
        if node.wildcard != NONE && word != Symbol::EMPTY {
            self.visit(node.wildcard, below, found);
        }
    }

    fn add(&mut self) -> u32 {
        self.nodes.push(EMPTY)
    }

    fn node(&self, at: u32) -> Node {
        self.nodes.get(at).copied().unwrap_or(EMPTY)
    }

    fn child(&self, from: u32, word: Symbol) -> u32 {
        let node = self.node(from);
        if node.word == word || node.child == NONE {
            return node.child;
        }
        self.edges
            .find(edge_hash(from, word), |edge| edge.from == from && edge.word == word)
            .map_or(NONE, |edge| edge.to)
    }
}

fn some(number: u32) -> Option<u32> {
    (number != NONE).then_some(number)
}

fn edge_hash(from: u32, word: Symbol) -> u64 {
    mix(u64::from(from) << 32 | u64::from(word.number()))
}
