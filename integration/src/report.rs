//! What a story saw: lines for whoever watches, kept for whoever reads the failure.

use std::fmt::Display;
use std::io;
use std::io::Write as _;
use std::time::Instant;

use crate::environment::ClientError;
use crate::environment::EnvironmentError;

/// Why a story does not hold.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoryError {
    /// A claim of the story is false.
    #[error("it does not hold that {claim}: saw {seen}")]
    Claim {
        /// What should be.
        claim: String,
        /// What is.
        seen: String,
    },
    /// The story could not be told: its parts did not run.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// One of the ways to decide is not there.
    #[error("cannot decide {way}")]
    Way {
        /// Which.
        way: &'static str,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A request of the story's own got no answer.
    #[error("{doing}")]
    Request {
        /// What the request was for.
        doing: String,
        /// The cause.
        #[source]
        source: ClientError,
    },
}

/// A story's record of what it saw.
#[derive(Debug)]
pub struct Report {
    watched: bool,
    began: Instant,
    lines: Vec<String>,
}

impl Report {
    /// Prints each line at once.
    pub fn watched() -> Self {
        Self { watched: true, began: Instant::now(), lines: Vec::new() }
    }

    /// Keeps the lines for a failure.
    pub fn quiet() -> Self {
        Self { watched: false, began: Instant::now(), lines: Vec::new() }
    }

    /// What is told, and how it ended.
    pub fn title(&mut self, what: impl Display) {
        self.line(what.to_string());
    }

    /// What happens now.
    pub fn step(&mut self, what: impl Display) {
        let at = self.began.elapsed().as_secs_f32();
        self.line(format!("{at:6.2} s  {what}"));
    }

    /// Something that was seen and that proves nothing by itself, as a figure.
    pub fn saw(&mut self, what: impl Display) {
        self.line(format!("          · {what}"));
    }

    /// Makes a claim of the story and shows what it rests on.
    ///
    /// # Errors
    ///
    /// [`StoryError::Claim`], if it is false.
    pub fn holds(&mut self, claim: &str, true_: bool, seen: impl Display) -> Result<(), StoryError> {
        let seen = seen.to_string();
        if true_ {
            self.line(format!("        ✓ {claim}{}{seen}", if seen.is_empty() { "" } else { ": " }));
            return Ok(());
        }
        self.line(format!("        ✗ {claim}: saw {seen}"));
        Err(StoryError::Claim { claim: claim.to_owned(), seen })
    }

    /// Everything so far.
    pub fn text(&self) -> String {
        self.lines.join("\n")
    }

    /// Anything else, as it is.
    pub fn line(&mut self, line: String) {
        if self.watched {
            // Whoever closed the pipe does not want to know.
            let _ = writeln!(io::stdout().lock(), "{line}");
        }
        self.lines.push(line);
    }
}
