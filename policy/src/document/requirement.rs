//! What a rule requires beside method, path, host and role.

use serde::Deserialize;

use super::text::Text;
use super::text::list;

/// These fields of a rule, or those of its `not`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Requirements<'a> {
    #[serde(borrow, default, deserialize_with = "list")]
    pub(crate) sources: Option<Vec<Text<'a>>>,
}
