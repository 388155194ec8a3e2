//! What a consumer logs in with.

use crate::secret::Secret;

/// A secret, with the account that it is for where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Material {
    /// Who logs in; none where the secret alone says so, as a bearer token does.
    pub account: Option<String>,
    /// What for.
    pub secret: Secret,
}
