//! What the log tells, for people and programs. Whether it is whole is for [`super::verify()`] to say.

use std::fs::File;
use std::io::BufRead as _;
use std::io::BufReader;
use std::path::Path;

use super::Event;
use super::Line;
use super::VerifyError;

/// Events of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// Those that were wanted, in the order of the log.
    pub events: Vec<Event>,
    /// Lines that are none of ours, as a crash leaves one.
    pub unreadable: u64,
}

/// Reads the events that are `wanted`.
///
/// # Errors
///
/// [`VerifyError::Read`].
pub fn events(path: &Path, wanted: impl Fn(&Event) -> bool) -> Result<Events, VerifyError> {
    let failed = |source| VerifyError::Read { path: path.to_owned(), source };
    let file = BufReader::new(File::open(path).map_err(failed)?);
    let mut found = Events::default();
    for line in file.split(b'\n') {
        match serde_json::from_slice::<Line>(&line.map_err(failed)?) {
            Ok(line) if wanted(&line.event) => found.events.push(line.event),
            Ok(_) => {}
            Err(_) => found.unreadable += 1,
        }
    }
    Ok(found)
}
