//! What is wrong with a policy, and where.

/// Why a policy was refused. `path` is where, in the form `rules[2].paths[0]`; empty for the whole document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PolicyError {
    path: String,
    message: String,
}

impl PolicyError {
    /// Where in the document, in the form `rules[2].paths[0]`.
    pub fn path(&self) -> &str {
        &self.path
    }
}
