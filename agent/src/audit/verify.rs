//! Whether a log is as it was written.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use super::Head;
use super::Kind;
use super::Line;
use super::hash;
use super::head_path;

/// A log that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Number of lines.
    pub lines: u64,
    /// Whether the head stood beside it; without it, lines missing at the end are not found.
    pub with_head: bool,
}

/// The first thing that is wrong with a log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The log or its head.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A line is not one of ours.
    #[error("line {line} is not a line of an audit log")]
    Unreadable {
        /// From 1.
        line: u64,
    },
    /// The numbers do not follow: lines are missing, repeated or in another order.
    #[error("line {line} calls itself line {found}: lines are missing, repeated or in another order")]
    Order {
        /// From 1.
        line: u64,
        /// Its own number.
        found: u64,
    },
    /// A hash does not fit.
    #[error("line {line} was changed: line {} holds the hash of another", line + 1)]
    Changed {
        /// The line that was changed.
        line: u64,
    },
    /// The head does not fit the last line.
    #[error("line {line} was changed: the log's head holds the hash of another")]
    HeadDiffers {
        /// The last line.
        line: u64,
    },
    /// Lines at the end are gone.
    #[error("the log ends with line {line}, and line {expected} was written: lines are missing at the end")]
    Truncated {
        /// The last line there is.
        line: u64,
        /// The last line that was written.
        expected: u64,
    },
}

/// Reads the log and its head, and finds the first line that was changed, is missing or is out of order.
///
/// # Errors
///
/// [`VerifyError`].
pub fn verify(path: &Path) -> Result<Verified, VerifyError> {
    let read = |path: &Path| fs::read(path).map_err(|source| VerifyError::Read { path: path.to_owned(), source });
    // The head first: a running agent appends to the log before it moves the head on.
    let head = match fs::read(head_path(path)) {
        Ok(head) => serde_json::from_slice::<Head>(&head).ok(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(VerifyError::Read { path: head_path(path), source }),
    };
    let text = read(path)?;
    lines(&text, head.as_ref())
}

fn lines(text: &[u8], head: Option<&Head>) -> Result<Verified, VerifyError> {
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let complete = body.len() < text.len();
    let all: Vec<&[u8]> = if body.is_empty() { Vec::new() } else { body.split(|byte| *byte == b'\n').collect() };
    let mut previous = hash(b"");
    for (at, bytes) in all.iter().enumerate() {
        let number = at as u64 + 1;
        match serde_json::from_slice::<Line>(bytes) {
            Ok(line) => {
                if line.line != number {
                    return Err(VerifyError::Order { line: number, found: line.line });
                }
                if line.previous != previous {
                    return Err(VerifyError::Changed { line: number - 1 });
                }
            }
            // What a crash tore is closed by the line after it, or is the last and not closed yet.
            Err(_) if at + 1 == all.len() && !complete => {}
            Err(_) if all.get(at + 1).is_some_and(|next| closes(next)) => {}
            Err(_) => return Err(VerifyError::Unreadable { line: number }),
        }
        previous = hash(bytes);
        if let Some(head) = head
            && head.line == number
            && head.sha256 != previous
        {
            return Err(VerifyError::HeadDiffers { line: number });
        }
    }
    let last = all.len() as u64;
    match head {
        Some(head) if head.line > last => Err(VerifyError::Truncated { line: last, expected: head.line }),
        _ => Ok(Verified { lines: last, with_head: head.is_some() }),
    }
}

fn closes(line: &[u8]) -> bool {
    serde_json::from_slice::<Line>(line).is_ok_and(|line| line.event.event == Kind::LogClosed)
}
