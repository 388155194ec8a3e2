//! A policy as people write it: from a file to a compiled policy, and every complaint back to a line of the file.

use std::path::Path;

use portcullis_policy::Policy;

use crate::yaml::Located;
use crate::yaml::ReadError;
use crate::yaml::Source;

/// A policy with the text that it came from.
#[derive(Debug)]
pub struct PolicySource {
    source: Source,
    tests: usize,
    policy: Policy,
}

/// Why a file gives no policy.
#[derive(Debug, thiserror::Error)]
pub enum PolicySourceError {
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is not a policy.
    #[error(transparent)]
    Refused(#[from] Located),
}

impl PolicySource {
    /// Reads and compiles a file, YAML or JSON. The policy's own tests are not run: see [`PolicySource::failures`].
    ///
    /// # Errors
    ///
    /// [`PolicySourceError`], with the file's name, and line and column where there are any.
    pub fn read(file: &Path) -> Result<Self, PolicySourceError> {
        Ok(Self::compile(Source::read(file)?)?)
    }

    /// Compiles a text.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, at its place.
    pub fn compile(source: Source) -> Result<Self, Located> {
        let value = source.value()?;
        let tests = value.get("tests").and_then(|tests| tests.as_array()).map_or(0, Vec::len);
        let configuration = value.to_string();
        match Policy::from_json(configuration.as_bytes()) {
            Ok(policy) => Ok(Self { source, tests, policy }),
            Err(error) => Err(source.error_at(error.path(), &error.to_string())),
        }
    }

    /// The compiled policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// How many tests the policy has.
    pub fn test_count(&self) -> usize {
        self.tests
    }

    /// Runs the policy's own tests and says where each one stands that fails.
    pub fn failures(&self) -> Vec<Located> {
        let failures = self.policy.run_tests();
        failures.iter().map(|failure| self.source.error_at(&failure.path, &failure.to_string())).collect()
    }

    /// A remark about the value at `path`.
    pub fn remark(&self, path: &str, message: &str) -> Located {
        self.source.error_at(path, message)
    }
}
