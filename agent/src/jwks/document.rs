//! Where a policy's document says that keys are, and the document with the keys in it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::io::Read as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use portcullis_policy::token::Algorithm;
use serde_json::Map;
use serde_json::Value;

use super::Keys;
use super::Remote;
use super::WANTED;
use crate::errors::chain;
use crate::yaml::Located;
use crate::yaml::Source;

/// The providers of a document whose keys are elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Providers {
    /// Behind a URL.
    pub remote: Vec<Remote>,
    /// In a file, with the name of the provider.
    pub files: Vec<(String, PathBuf, Vec<Algorithm>)>,
}

impl Providers {
    /// Finds them. What is malformed is left for the compiler to complain about, apart from URLs: those it never sees.
    ///
    /// # Errors
    ///
    /// A URL that nothing is fetched from, at its place.
    pub fn find(document: &Value, source: &Source, base: &Path) -> Result<Self, Located> {
        let mut found = Self::default();
        for (name, provider) in document.get("tokens").and_then(Value::as_object).into_iter().flatten() {
            let Some(jwks) = provider.get("jwks").and_then(Value::as_object).filter(|jwks| jwks.len() == 1) else {
                continue;
            };
            let algorithms = algorithms(provider);
            if let Some(url) = jwks.get("url").and_then(Value::as_str) {
                let at = || format!("tokens.{name}.jwks.url");
                let url = WANTED.parse(url).map_err(|problem| source.error_at(&at(), &format!("`{url}` {problem}")))?;
                found.remote.push(Remote { provider: name.clone(), url, algorithms });
            } else if let Some(file) = jwks.get("file").and_then(Value::as_str) {
                found.files.push((name.clone(), base.join(file), algorithms));
            }
        }
        Ok(found)
    }

    /// Puts the keys into the document: those of files as they are now, those behind URLs as they are known. A provider
    /// of whom nothing is known yet has none, so that none of its tokens is taken.
    ///
    /// # Errors
    ///
    /// A file without keys, at the place where it is named.
    pub fn fill(
        &self,
        document: &mut Value,
        source: &Source,
        known: &BTreeMap<Remote, Arc<Keys>>,
    ) -> Result<(), Located> {
        for remote in &self.remote {
            let keys = known.get(remote).map(|keys| keys.values().to_vec()).unwrap_or_default();
            put(document, &remote.provider, keys);
        }
        for (name, file, algorithms) in &self.files {
            let bad = |problem: String| {
                source.error_at(&format!("tokens.{name}.jwks.file"), &format!("`{}`: {problem}", file.display()))
            };
            let text = read(file).map_err(|error| bad(format!("cannot be read: {error}")))?;
            let keys = Keys::read(&text, algorithms).map_err(|error| bad(chain(&error)))?;
            put(document, name, keys.values().to_vec());
        }
        Ok(())
    }
}

/// A key set's file; no more of it than is read from a URL.
pub(super) fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    fs::File::open(file)?.take(WANTED.max_length + 1).read_to_end(&mut text)?;
    Ok(text)
}

fn put(document: &mut Value, provider: &str, keys: Vec<Value>) {
    let slot = document.get_mut("tokens").and_then(|tokens| tokens.get_mut(provider));
    if let Some(jwks) = slot.and_then(|provider| provider.get_mut("jwks")) {
        *jwks = Value::Object(Map::from_iter([("keys".to_owned(), Value::Array(keys))]));
    }
}

/// As the compiler reads them; all of them if none are given.
fn algorithms(provider: &Value) -> Vec<Algorithm> {
    match provider.get("algorithms").and_then(Value::as_array) {
        None => Algorithm::ALL.to_vec(),
        Some(names) => names.iter().filter_map(|name| Algorithm::parse(name.as_str()?)).collect(),
    }
}
