//! A policy as people write it: from a file to a compiled policy, and every complaint back to a line of the file.
//!
//! Keys of token providers that the document only refers to are put into it before it is compiled: those in files by
//! everybody, those behind URLs by the agent, who fetches them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use portcullis_policy::Policy;
use serde_json::Value;

use crate::jwks::Keys;
use crate::jwks::Providers;
use crate::jwks::Remote;
use crate::yaml::Located;
use crate::yaml::ReadError;
use crate::yaml::Source;

/// A policy with the text that it came from.
#[derive(Debug)]
pub struct PolicySource {
    source: Source,
    providers: Providers,
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

    /// Compiles a text. Providers whose keys are behind a URL have none.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, at its place.
    pub fn compile(source: Source) -> Result<Self, Located> {
        Self::compile_with(source, &BTreeMap::new())
    }

    /// Compiles a text with the keys that are known of its providers.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, at its place.
    pub fn compile_with(source: Source, known: &BTreeMap<Remote, Arc<Keys>>) -> Result<Self, Located> {
        let mut value = source.value()?;
        let providers = Providers::find(&value, &source, source.directory())?;
        providers.fill(&mut value, &source, known)?;
        inline_anchors(&mut value, &source)?;
        let tests = value.get("tests").and_then(|tests| tests.as_array()).map_or(0, Vec::len);
        let configuration = value.to_string();
        match Policy::from_json(configuration.as_bytes()) {
            Ok(policy) => Ok(Self { source, providers, tests, policy }),
            Err(error) => Err(source.error_at(error.path(), &error.to_string())),
        }
    }

    /// The providers of a text, whose keys are not in it.
    ///
    /// # Errors
    ///
    /// The text is not a document, or names a URL that nothing is fetched from.
    pub fn providers_of(source: &Source) -> Result<Providers, Located> {
        Providers::find(&source.value()?, source, source.directory())
    }

    /// The providers whose keys are not in the text.
    pub fn providers(&self) -> &Providers {
        &self.providers
    }

    /// What was compiled.
    pub fn source(&self) -> &Source {
        &self.source
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

/// The largest file with a certificate that is read, in bytes: several times any certificate.
const MAX_ANCHOR: u64 = 256 * 1024;

/// Puts the certificates that `anchors:` names by file into the document: a policy goes to places where those files are not.
/// Names are relative to the policy's own file.
fn inline_anchors(policy: &mut Value, source: &Source) -> Result<(), Located> {
    let anchors = policy.get_mut("anchors").and_then(Value::as_array_mut);
    for (position, anchor) in anchors.into_iter().flatten().enumerate() {
        // Whatever else it has stays, and is refused with its place.
        let Some(file) = anchor.get("file").and_then(Value::as_str).map(PathBuf::from) else { continue };
        let path = format!("anchors[{position}].file");
        let file = source.directory().join(file);
        let refuse = |why: String| source.error_at(&path, &format!("cannot read `{}`: {why}", file.display()));
        let mut text = String::new();
        let read = File::open(&file).and_then(|opened| opened.take(MAX_ANCHOR).read_to_string(&mut text));
        read.map_err(|error| refuse(error.to_string()))?;
        if let Some(fields) = anchor.as_object_mut() {
            fields.remove("file");
            if fields.insert("pem".to_owned(), Value::String(text)).is_some() {
                return Err(source.error_at(&path, "exactly one of `pem` and `file` is needed"));
            }
        }
    }
    Ok(())
}
