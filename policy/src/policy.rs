//! A compiled policy.

use crate::certificate::Leaf;
use crate::decide::Decision;
use crate::decide::Request;
use crate::error::PolicyError;

/// A compiled policy: immutable, indexed, ready to decide.
#[derive(Debug)]
pub struct Policy {
    version: String,
}

/// A leaf with what one policy says of it (its roles), worked out once. Used with another policy it is worked out anew.
#[derive(Clone, Debug)]
pub struct Subject {
    leaf: Leaf,
}

/// One of the policy's own `tests:` that did not come out as expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("test `{name}`: expected {expected}, got {got}")]
pub struct TestFailure {
    /// The test's name.
    pub name: String,
    /// Its place, `tests[3]`.
    pub path: String,
    /// What the test expects.
    pub expected: String,
    /// What the policy decides.
    pub got: String,
}

impl Policy {
    /// Parses and compiles a policy document in JSON. Its `tests:` are not run: see [`Policy::run_tests`].
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, with its place.
    pub fn from_json(text: &[u8]) -> Result<Self, PolicyError> {
        let _ = text;
        Ok(Self { version: String::new() })
    }

    /// Runs the policy's own tests and returns those that fail.
    pub fn run_tests(&self) -> Vec<TestFailure> {
        Vec::new()
    }

    /// SHA-256 (hex) of the canonical document: equal policies have equal versions.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Number of rules.
    pub fn rule_count(&self) -> usize {
        0
    }

    /// Every how-manieth allowed request leaves a decision record; `None` is never.
    pub fn record_allow_every(&self) -> Option<u64> {
        None
    }

    /// Works out what this policy says of a certificate. Cache the answer by certificate hash.
    pub fn subject(&self, leaf: Leaf) -> Subject {
        Subject { leaf }
    }

    /// Decides one request. The cost does not grow with the number of rules.
    pub fn decide<'p>(&'p self, request: &Request<'p>) -> Decision<'p> {
        Decision::unimplemented(self, request)
    }
}

impl Subject {
    /// The certificate.
    pub fn leaf(&self) -> &Leaf {
        &self.leaf
    }
}
