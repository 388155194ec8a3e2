//! Why a step of a credential was not taken.

use std::time::Duration;

use jiff::Timestamp;

use super::form::FormError;
use super::made::MakeError;
use super::seal::SealError;
use super::source::SourceError;
use super::target::TargetError;
use crate::generation::GenerationError;
use crate::hook::HookError;
use crate::remedy::Failure;
use crate::store::StoreError;
use crate::xds::PublishError;

/// Why a step was not taken. What was good before still is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// A source gave what ends at once.
    #[error("what the source gave ends at {until}, before everybody could have it; have it give longer ones")]
    EndsTooSoon {
        /// The end.
        until: Timestamp,
    },
    /// The files.
    #[error("the files were not replaced")]
    Files(#[source] GenerationError),
    /// Filters decide by a policy without the key.
    #[error("no policy in force has the key `{kid}`; name its file as the `jwks: {{file: …}}` of a provider")]
    FilterWithout {
        /// The key.
        kid: String,
    },
    /// Filters have not answered yet.
    #[error("not every filter took the policy with the key `{kid}` within {after:?}")]
    FilterUnanswered {
        /// The key.
        kid: String,
        /// How long was waited.
        after: Duration,
    },
    /// A place that cannot hold it.
    #[error("`{place}` cannot hold it")]
    Form {
        /// The file, or `sds`.
        place: String,
        /// Why.
        source: FormError,
    },
    /// Who reads it was not told.
    #[error("a consumer was not told")]
    Hook(#[source] HookError),
    /// Nothing to sign with.
    #[error("`{signed_by}` has no key to sign with yet")]
    NoSigningKey {
        /// The credential that is the key.
        signed_by: String,
    },
    /// Nothing was made.
    #[error("no new value was made")]
    Make(#[source] MakeError),
    /// It is not pushed at all.
    #[error("it is not published")]
    Publish(#[source] PublishError),
    /// The record lacks what its step needs.
    #[error("the record does not hold what `{step}` needs")]
    Record {
        /// The step.
        step: &'static str,
    },
    /// A proxy said no.
    #[error("a proxy refused it; its log says why")]
    Refused,
    /// The record cannot be sealed or opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The source.
    #[error("the source gave none")]
    Source(#[source] SourceError),
    /// The store.
    #[error("the step cannot be written down")]
    Store(#[source] StoreError),
    /// Who checks it.
    #[error("the target did not do it")]
    Target(#[source] TargetError),
    /// A proxy said nothing.
    #[error("not every proxy took it within {0:?}")]
    Unanswered(Duration),
}

impl CredentialError {
    /// The class that remedies are told of.
    pub(super) const fn class(&self) -> Failure {
        match self {
            Self::Files(_)
            | Self::FilterWithout { .. }
            | Self::FilterUnanswered { .. }
            | Self::Hook(_)
            | Self::Publish(_)
            | Self::Refused
            | Self::Unanswered(_) => Failure::DeliveryFailed,
            Self::EndsTooSoon { .. } | Self::Form { .. } | Self::NoSigningKey { .. } | Self::Source(_) => {
                Failure::SourceFailed
            }
            Self::Make(_) | Self::Record { .. } | Self::Seal(_) | Self::Store(_) => Failure::NotTried,
            Self::Target(TargetError::Login { .. }) => Failure::LoginFailed,
            Self::Target(TargetError::Another { .. }) => Failure::TwoAgents,
            Self::Target(_) => Failure::TargetFailed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::keys::KeyError;

    fn of_target(error: TargetError) -> CredentialError {
        CredentialError::Target(error)
    }

    #[test]
    fn each_failure_is_told_as_what_it_is() {
        let place = || "db.example".to_owned();
        let account = || "orders".to_owned();
        let words = || "no".to_owned();
        let source = || io::Error::from(io::ErrorKind::NotFound);
        let second = Duration::from_secs(1);
        for (error, want) in [
            (CredentialError::EndsTooSoon { until: Timestamp::UNIX_EPOCH }, Failure::SourceFailed),
            (
                CredentialError::Files(GenerationError::OpenToOthers { path: "secrets".into(), mode: 0o777 }),
                Failure::DeliveryFailed,
            ),
            (CredentialError::FilterWithout { kid: "k".to_owned() }, Failure::DeliveryFailed),
            (CredentialError::FilterUnanswered { kid: "k".to_owned(), after: second }, Failure::DeliveryFailed),
            (CredentialError::Form { place: "sds".to_owned(), source: FormError::Empty }, Failure::SourceFailed),
            (CredentialError::Hook(HookError::Missing { path: "hook".into() }), Failure::DeliveryFailed),
            (CredentialError::NoSigningKey { signed_by: "keys".to_owned() }, Failure::SourceFailed),
            (CredentialError::Make(MakeError::Key(KeyError::Random)), Failure::NotTried),
            (CredentialError::Publish(PublishError::EmptyBundle { name: "b".to_owned() }), Failure::DeliveryFailed),
            (CredentialError::Record { step: "obtain" }, Failure::NotTried),
            (CredentialError::Refused, Failure::DeliveryFailed),
            (CredentialError::Seal(SealError::NotOurs { name: "db".to_owned() }), Failure::NotTried),
            (
                CredentialError::Source(SourceError::Absent { path: "kv/db".to_owned(), words: words() }),
                Failure::SourceFailed,
            ),
            (CredentialError::Store(StoreError::Conflict { key: "db".to_owned() }), Failure::NotTried),
            (CredentialError::Unanswered(second), Failure::DeliveryFailed),
            (
                of_target(TargetError::Administrator { place: place(), user: "agent".to_owned(), words: words() }),
                Failure::TargetFailed,
            ),
            (of_target(TargetError::Another { account: account(), owner: None, remedy: words() }), Failure::TwoAgents),
            (of_target(TargetError::Busy { account: account() }), Failure::TargetFailed),
            (of_target(TargetError::Forgotten { account: account() }), Failure::TargetFailed),
            (
                of_target(TargetError::Login { place: place(), account: account(), words: words() }),
                Failure::LoginFailed,
            ),
            (
                of_target(TargetError::Lost { place: place(), doing: "set", source: Box::new(source()) }),
                Failure::TargetFailed,
            ),
            (of_target(TargetError::NoAccount { place: place(), account: account() }), Failure::TargetFailed),
            (
                of_target(TargetError::NotAllowed {
                    place: place(),
                    user: "agent".to_owned(),
                    doing: "set a password",
                    words: words(),
                }),
                Failure::TargetFailed,
            ),
            (of_target(TargetError::OwnAccount { account: account() }), Failure::TargetFailed),
            (of_target(TargetError::Persist { place: place(), words: words() }), Failure::TargetFailed),
            (of_target(TargetError::Policy { place: place(), words: words() }), Failure::TargetFailed),
            (
                of_target(TargetError::Program { path: "set".into(), action: "set", how: words(), said: None }),
                Failure::TargetFailed,
            ),
            (of_target(TargetError::ProgramUnusable(HookError::Missing { path: "set".into() })), Failure::TargetFailed),
            (of_target(TargetError::Read { path: "password".into(), source: source() }), Failure::TargetFailed),
            (of_target(TargetError::Refused { place: place(), doing: "set", words: words() }), Failure::TargetFailed),
            (of_target(TargetError::TimedOut { place: place(), doing: "set", after: second }), Failure::TargetFailed),
            (of_target(TargetError::Tls { place: place(), source: source() }), Failure::TargetFailed),
            (of_target(TargetError::Unavailable { place: place(), words: words() }), Failure::TargetFailed),
            (of_target(TargetError::Unfit { why: "too long" }), Failure::TargetFailed),
            (of_target(TargetError::Unreachable { place: place(), source: source() }), Failure::TargetFailed),
        ] {
            assert_eq!(error.class(), want, "{error:?}");
        }
    }
}
