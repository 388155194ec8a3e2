//! Which host calls and callbacks the configuration permits (Envoy's `capability_restriction_config`).

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use serde_json::Value;

/// The names that a module may call and that it is called by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capabilities {
    /// Every one, as in an Envoy without a restriction.
    All,
    /// These, and every other is refused.
    Only(BTreeSet<String>),
}

/// Why a configuration tells nothing about capabilities.
#[derive(Debug, thiserror::Error)]
pub enum CapabilityError {
    /// The file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The Envoy configuration.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not YAML.
    #[error("`{}` is not YAML", path.display())]
    Parse {
        /// The Envoy configuration.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<serde_saphyr::Error>,
    },
    /// The file restricts nothing: a module in it could call everything.
    #[error("`{}` has no `capability_restriction_config`", path.display())]
    Unrestricted {
        /// The Envoy configuration.
        path: PathBuf,
    },
}

impl Capabilities {
    /// Reads the list from an Envoy configuration, wherever in it that is.
    ///
    /// # Errors
    ///
    /// [`CapabilityError`], also if the configuration has no list.
    pub fn from_envoy_config(path: &Path) -> Result<Self, CapabilityError> {
        let text =
            fs::read_to_string(path).map_err(|source| CapabilityError::Read { path: path.to_owned(), source })?;
        let document: Value = serde_saphyr::from_str(&text)
            .map_err(|source| CapabilityError::Parse { path: path.to_owned(), source: Box::new(source) })?;
        let allowed = restriction(&document).ok_or_else(|| CapabilityError::Unrestricted { path: path.to_owned() })?;
        Ok(Self::Only(allowed))
    }

    pub(crate) fn permit(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(name),
        }
    }
}

fn restriction(document: &Value) -> Option<BTreeSet<String>> {
    match document {
        Value::Object(fields) => {
            let allowed = fields
                .get("capability_restriction_config")
                .and_then(|config| config.get("allowed_capabilities"))
                .and_then(Value::as_object);
            match allowed {
                Some(allowed) => Some(allowed.keys().cloned().collect()),
                None => fields.values().find_map(restriction),
            }
        }
        Value::Array(items) => items.iter().find_map(restriction),
        _ => None,
    }
}
