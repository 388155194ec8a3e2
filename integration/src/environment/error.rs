//! What can go wrong around a story before the story itself can.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Why the environment is not what a story needs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvironmentError {
    /// A program under test is not there.
    #[error("{what} is missing: no file `{path}`; run `{remedy}`, or set `{variable}` to where it is")]
    ProgramMissing {
        /// What is missing.
        what: &'static str,
        /// Where it was looked for.
        path: PathBuf,
        /// The environment variable that names another place.
        variable: &'static str,
        /// The command that makes it.
        remedy: &'static str,
    },

    /// A file of ours could not be read or written.
    #[error("cannot {doing} `{path}`")]
    File {
        /// `read`, `write`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },

    /// A file under test does not have the text that the environment puts its own ports and directories in place of.
    #[error("`{file}` does not contain `{literal}`, which the environment replaces by its own")]
    LiteralMissing {
        /// The file.
        file: PathBuf,
        /// The text.
        literal: String,
    },

    /// A program did not start.
    #[error("cannot start {program}")]
    Spawn {
        /// The program.
        program: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },

    /// A program ended although it should run.
    #[error("{program} ended with {status}; its last words:\n{log}")]
    Exited {
        /// The program.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// End of its log.
        log: String,
    },

    /// A command of the agent failed.
    #[error("`{command}` ended with {status}: {stderr}")]
    Command {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        stderr: String,
    },

    /// A server said no.
    #[error("{what}: {words}")]
    Refused {
        /// What was asked.
        what: String,
        /// Its words.
        words: String,
    },

    /// Something that had to happen did not.
    #[error("waited {within:?} for {what}, in vain; last seen: {last}")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long.
        within: Duration,
        /// What was there instead.
        last: String,
    },

    /// No port could be had.
    #[error("no free port on 127.0.0.1")]
    NoPort,

    /// An answer is not what its format promises.
    #[error("cannot read {what}: {text}")]
    Unreadable {
        /// What was read.
        what: String,
        /// What it says.
        text: String,
    },

    /// A certificate or key cannot be used for TLS.
    #[error("cannot use {what} for tls")]
    Tls {
        /// Which.
        what: &'static str,
        /// The cause.
        #[source]
        source: rustls::Error,
    },

    /// A socket of ours failed.
    #[error("cannot {doing}")]
    Socket {
        /// What it should do.
        doing: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// An error with all its causes, joined by `: `.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
