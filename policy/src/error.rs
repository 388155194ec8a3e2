//! What is wrong with a policy, and where.

/// Why a policy was refused: the first thing that is wrong, and its place in the document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct PolicyError {
    path: String,
    problem: Box<PolicyProblem>,
}

impl PolicyError {
    pub(crate) fn new(path: impl Into<String>, problem: PolicyProblem) -> Self {
        Self { path: path.into(), problem: Box::new(problem) }
    }

    /// The same, of a part of a document that is a document itself.
    pub(crate) fn within(self, part: &str) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        Self { path: format!("{part}{dot}{}", self.path), ..self }
    }

    /// Where in the document, in the form `rules[2].paths[0]`; empty for the whole document.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is wrong there.
    pub fn problem(&self) -> &PolicyProblem {
        &self.problem
    }
}

/// What can be wrong with a policy. The texts name the remedy where there is one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyProblem {
    /// A condition's value is not of the kind that its field takes.
    #[error("`{value}` is not {expected}")]
    BadValue {
        /// What the document says.
        value: String,
        /// What the field takes.
        expected: &'static str,
    },

    /// A certificate that no client's certificate can be believed for the sake of.
    #[error("nothing can be trusted because of this certificate: {why}")]
    BadAnchor {
        /// What is wrong with it.
        why: String,
    },

    /// A pattern that nothing can be matched against.
    #[error("`{pattern}` cannot be matched: {why}")]
    BadPattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },

    /// Both fields, or neither, where exactly one is needed.
    #[error("exactly one of `{first}` and `{second}` is needed")]
    ExactlyOne {
        /// One of the two.
        first: &'static str,
        /// The other.
        second: &'static str,
    },

    /// A name that occurs twice where it must be unique.
    #[error("{what} `{name}` is already defined")]
    Duplicate {
        /// What kind of thing it names.
        what: &'static str,
        /// The name.
        name: String,
    },

    /// A condition that says nothing of a forwarder.
    #[error("a forwarder is known by its certificate; it has no `{0}`")]
    NotOfForwarders(&'static str),

    /// A list without an element. It would match nothing, while a list that is left out matches everything.
    #[error("an empty list matches nothing; leave the field out, or list what it shall match")]
    EmptyList,

    /// A map of conditions without a condition.
    #[error("no condition is given, so this would match every certificate")]
    NoCondition,

    /// A set of keys that tokens cannot be verified with.
    #[error("no keys to verify tokens with: {why}")]
    BadKeys {
        /// What is wrong with them.
        why: String,
    },

    /// A name that could not be written into a header or a log as it is.
    #[error(
        "`{name}` is not a name: 1 to {limit} letters, digits, `-`, `_`, `.`, `:`, `/` or `@`, beginning with a letter or digit"
    )]
    BadName {
        /// The name, shortened and escaped.
        name: String,
        /// Its greatest length in bytes.
        limit: usize,
    },

    /// A word with a meaning of its own where a role's name is expected.
    #[error("`{0}` is reserved: it is not a role's name")]
    Reserved(String),

    /// Something that is missing, and has to be said.
    #[error("{what} needs {needs}")]
    Needs {
        /// What lacks it.
        what: &'static str,
        /// What is missing.
        needs: &'static str,
    },

    /// Roles that are defined by each other.
    #[error("roles are defined in a circle: {0}")]
    RoleCycle(String),

    /// JSON that is valid and not a policy.
    #[error("{0}")]
    Shape(String),

    /// Something that is elsewhere, where a policy must hold it.
    #[error("a compiled policy holds {what} itself; `portcullis policy render` puts it there")]
    NotInline {
        /// What is elsewhere.
        what: &'static str,
    },

    /// Something that cannot be negated: whoever lacks it may lack it for want of an answer, which is no answer.
    #[error("`not` takes no `{what}`; write the conditions themselves")]
    NotWithin {
        /// What.
        what: &'static str,
    },

    /// Not JSON.
    #[error("{message} at line {line}, column {column}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What the parser met.
        message: String,
    },

    /// More of something than the index is made for, so that a decision could become slow.
    #[error("more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },

    /// A document that is not even read.
    #[error("the policy is {length} bytes long; at most {limit} are read")]
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// The greatest length in bytes.
        limit: usize,
    },

    /// A role that no entry of `roles` defines.
    #[error("no role is named `{name}`{}", .nearest.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default())]
    UnknownRole {
        /// The name.
        name: String,
        /// A role with almost this name.
        nearest: Option<String>,
    },

    /// A word that is none of those that a field takes.
    #[error("`{name}` is not known here; known are {known}")]
    UnknownWord {
        /// The word.
        name: String,
        /// Those that are.
        known: &'static str,
    },

    /// Another version of the format.
    #[error("version {0} of the format is not known; this build reads version 1")]
    Version(u64),
}
