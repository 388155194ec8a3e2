//! Why a target did not do what it was asked.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::hook::HookError;

/// Of what a server says for people.
const MAX_WORDS: usize = 300;
/// What a server refuses where it is not the secret that is wrong.
pub(super) const LETTING_IN: &str = "let the account in";

/// Why a target did not do what it was asked. No secret is ever in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// The agent's own login was refused.
    #[error("`{place}` refuses the administrator `{user}`: {words}")]
    Administrator {
        /// Where.
        place: String,
        /// Who the agent is there.
        user: String,
        /// The server's words.
        words: String,
    },
    /// Somebody else sets the account's secrets.
    #[error("{} sets the secrets of `{account}` too; {remedy}", owner.as_deref().map_or_else(|| "somebody else".to_owned(), |owner| format!("`{owner}`")))]
    Another {
        /// The account.
        account: String,
        /// The other agent, where it left its name.
        owner: Option<String>,
        /// How to take the account over.
        remedy: String,
    },
    /// Somebody else sets it at this moment.
    #[error("`{account}` is being changed by somebody else at this moment")]
    Busy {
        /// The account.
        account: String,
    },
    /// The account has no secret that this agent knows: it was reset, or the server forgot it in a restart.
    #[error("`{account}` does not have the secret that it keeps; set it again before another one is taken off")]
    Forgotten {
        /// The account.
        account: String,
    },
    /// The new secret does not let in.
    #[error("`{place}` refuses the login of `{account}`: {words}")]
    Login {
        /// Where.
        place: String,
        /// Who logged in.
        account: String,
        /// The server's words.
        words: String,
    },
    /// The connection ended in the middle, so that nobody knows whether it was done.
    #[error("`{place}` ended the connection ({doing})")]
    Lost {
        /// Where.
        place: String,
        /// What was under way.
        doing: &'static str,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no such account; the agent makes none.
    #[error("`{place}` has no account `{account}`; create it")]
    NoAccount {
        /// Where.
        place: String,
        /// Its name.
        account: String,
    },
    /// The administrator may log in and not do this.
    #[error("`{place}` does not allow `{user}` to {doing}: {words}")]
    NotAllowed {
        /// Where.
        place: String,
        /// Who the agent is there.
        user: String,
        /// What it may not.
        doing: &'static str,
        /// The server's words.
        words: String,
    },
    /// The account that the agent itself logs in with.
    #[error("`{account}` is the administrator that sets secrets; it would lock itself out")]
    OwnAccount {
        /// The account.
        account: String,
    },
    /// It was set, and would be forgotten when the server starts again.
    #[error("`{place}` has the secret, but does not keep it over a restart: {words}")]
    Persist {
        /// Where.
        place: String,
        /// The server's words, or what to do.
        words: String,
    },
    /// The server's rules for secrets.
    #[error("`{place}` does not take this secret: {words}")]
    Policy {
        /// Where.
        place: String,
        /// The server's words.
        words: String,
    },
    /// The program said that it did not work.
    #[error("`{}` ({action}) ended with {how}{}", path.display(), said.as_deref().map(|said| format!(": {said}")).unwrap_or_default())]
    Program {
        /// The program.
        path: PathBuf,
        /// What it was asked.
        action: &'static str,
        /// `exit status: 3`.
        how: String,
        /// The last line that it printed.
        said: Option<String>,
    },
    /// The program cannot be run.
    #[error("nobody is there to be told of a new secret")]
    ProgramUnusable(#[source] HookError),
    /// A file of the agent's own login is missing.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The server says no, and why.
    #[error("`{place}` refuses to {doing}: {words}")]
    Refused {
        /// Where.
        place: String,
        /// What it was asked.
        doing: &'static str,
        /// Its words.
        words: String,
    },
    /// Not in time, so that nobody knows whether it was done.
    #[error("`{place}` did not {doing} within {after:?}")]
    TimedOut {
        /// Where.
        place: String,
        /// What was under way.
        doing: &'static str,
        /// How long it had.
        after: Duration,
    },
    /// There is no TLS to be had.
    #[error("no tls with `{place}`; check `server_ca`, and that its certificate names it")]
    Tls {
        /// Where.
        place: String,
        /// The cause.
        source: io::Error,
    },
    /// It is there and says that it cannot now: it starts, ends, follows another one or is full.
    #[error("`{place}` cannot do it now: {words}")]
    Unavailable {
        /// Where.
        place: String,
        /// Its words.
        words: String,
    },
    /// The target cannot hold such a secret, or the account's name. Nothing was sent.
    #[error("not for this target: {why}")]
    Unfit {
        /// What is wrong with it.
        why: &'static str,
    },
    /// No connection.
    #[error("cannot reach `{place}`")]
    Unreachable {
        /// Where.
        place: String,
        /// The cause.
        source: io::Error,
    },
}

impl TargetError {
    /// The stable code, a label of the metrics.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Administrator { .. } => "administrator",
            Self::Another { .. } => "another",
            Self::Busy { .. } => "busy",
            Self::Forgotten { .. } => "forgotten",
            Self::Login { .. } => "login",
            Self::Lost { .. } => "lost",
            Self::NoAccount { .. } => "no_account",
            Self::NotAllowed { .. } => "not_allowed",
            Self::OwnAccount { .. } => "own_account",
            Self::Persist { .. } => "persist",
            Self::Policy { .. } => "policy",
            Self::Program { .. } => "program",
            Self::ProgramUnusable(_) => "program_unusable",
            Self::Read { .. } => "read",
            Self::Refused { .. } => "refused",
            Self::TimedOut { .. } => "timed_out",
            Self::Tls { .. } => "tls",
            Self::Unavailable { .. } => "unavailable",
            Self::Unfit { .. } => "unfit",
            Self::Unreachable { .. } => "unreachable",
        }
    }

    /// Whether time alone may mend it: the same secret is worth trying again.
    pub const fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Busy { .. }
                | Self::Lost { .. }
                | Self::TimedOut { .. }
                | Self::Unavailable { .. }
                | Self::Unreachable { .. }
        )
    }

    /// Whether it is certain that nothing was changed.
    pub const fn is_before(&self) -> bool {
        matches!(
            self,
            Self::Administrator { .. }
                | Self::Another { .. }
                | Self::Busy { .. }
                | Self::NoAccount { .. }
                | Self::OwnAccount { .. }
                | Self::ProgramUnusable(_)
                | Self::Read { .. }
                | Self::Tls { .. }
                | Self::Unfit { .. }
                | Self::Unreachable { .. }
        )
    }
}

/// A server's words, in one line of visible characters.
pub(super) fn line(words: &str) -> String {
    words.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(MAX_WORDS).collect()
}
