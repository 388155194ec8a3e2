//! What is measured: something that knows a policy and answers questions.

use std::fmt;

use crate::policy::Policy;
use crate::question::Question;

/// One engine with one policy loaded, and with what it may know of the clients before a request: who they are and, where
/// the engine keeps it, which roles they hold.
pub(crate) trait Engine {
    /// Whether the policy allows it. This is what is timed: from the text of method and path to the answer.
    ///
    /// # Errors
    ///
    /// [`EngineError::Refused`] with the engine's own words.
    fn allows(&self, question: &Question) -> Result<bool, EngineError>;
}

/// One of the engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Casbin,
    Cedar,
    Portcullis,
}

impl Name {
    /// All of them, in the order of the table.
    pub(crate) const ALL: [Self; 3] = [Self::Portcullis, Self::Cedar, Self::Casbin];

    /// Loads a policy, and what there is to know about the clients that ask.
    ///
    /// # Errors
    ///
    /// [`EngineError::Refused`] if the engine does not take it.
    pub(crate) fn load(self, policy: &Policy, questions: &[Question]) -> Result<Box<dyn Engine>, EngineError> {
        Ok(match self {
            Self::Casbin => Box::new(crate::casbin::Casbin::load(policy)?),
            Self::Cedar => Box::new(crate::cedar::Cedar::load(policy)?),
            Self::Portcullis => Box::new(crate::ours::Portcullis::load(policy, questions)?),
        })
    }

    /// What an engine says that it cannot do.
    pub(crate) fn refused(self, error: impl fmt::Display) -> EngineError {
        EngineError::Refused { engine: self, message: error.to_string() }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Casbin => "casbin",
            Self::Cedar => "Cedar",
            Self::Portcullis => "Portcullis",
        })
    }
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    /// An engine answers what the question does not call for: the policies are not the same.
    #[error("{engine} answers `{answer}` to {question}, which is the wrong answer")]
    Disagrees { engine: Name, answer: bool, question: String },
    /// The table cannot be written.
    #[error("cannot write: {0}")]
    Write(#[from] std::io::Error),
    /// An engine takes neither the policy nor the question.
    #[error("{engine} refuses: {message}")]
    Refused { engine: Name, message: String },
}
