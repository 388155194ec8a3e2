//! How a long operation goes on: at a terminal one line on standard error that follows it, elsewhere a line for each change.

use std::io;
use std::io::IsTerminal as _;
use std::io::Stderr;
use std::io::Write;
use std::time::Duration;

use tokio::time::Instant;

use crate::control_client::ControlClient;
use crate::status::CertificateStatus;

/// How often the agent is asked. The answer comes from its memory.
const PERIOD: Duration = Duration::from_millis(200);
/// What is over sooner needs no news.
const QUIET: Duration = Duration::from_millis(500);
/// Back to the line's begin, and all of it gone.
const CLEAR: &str = "\r\u{1b}[K";

/// Where news go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Somebody looks on.
    Terminal,
    /// They are read later, or by a program.
    Pipe,
}

/// The news of one operation.
pub(super) struct Progress<W: Write> {
    out: W,
    place: Place,
    began: Instant,
    last: String,
}

impl Progress<Stderr> {
    /// On standard error, from now on.
    pub(super) fn on_stderr() -> Self {
        let place = if io::stderr().is_terminal() { Place::Terminal } else { Place::Pipe };
        Self::new(io::stderr(), place)
    }
}

impl<W: Write> Progress<W> {
    fn new(out: W, place: Place) -> Self {
        Self { out, place, began: Instant::now(), last: String::new() }
    }

    /// Tells how far it is. Nobody may be there any more to be told.
    pub(super) fn tell(&mut self, state: &str) {
        self.tell_after(self.began.elapsed(), state);
    }

    fn tell_after(&mut self, elapsed: Duration, state: &str) {
        if elapsed < QUIET {
            return;
        }
        let seconds = elapsed.as_secs();
        let _ = match self.place {
            Place::Terminal => write!(self.out, "{CLEAR}{state} ({seconds} s)").and_then(|()| self.out.flush()),
            Place::Pipe if state == self.last => Ok(()),
            Place::Pipe => writeln!(self.out, "{state} ({seconds} s)"),
        };
        state.clone_into(&mut self.last);
    }

    /// Does something while the state of a certificate is told.
    pub(super) async fn of<T>(
        mut self,
        client: &ControlClient,
        name: &str,
        doing: &str,
        work: impl Future<Output = T>,
    ) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(PERIOD) => {}
            }
            tokio::select! {
                done = &mut work => return done,
                // Who does not answer has no news; what is waited for says why.
                Ok(status) = client.status() => {
                    if let Some(found) = status.certificates.iter().find(|certificate| certificate.name == name) {
                        self.tell(&format!("{doing} `{name}`: {}", state(found)));
                    }
                }
            }
        }
    }
}

impl<W: Write> Drop for Progress<W> {
    fn drop(&mut self) {
        if self.place == Place::Terminal && !self.last.is_empty() {
            let _ = write!(self.out, "{CLEAR}").and_then(|()| self.out.flush());
        }
    }
}

/// What is being done, in words.
fn state(certificate: &CertificateStatus) -> String {
    let doing = match certificate.state.as_str() {
        "planned" => "making a key",
        "journalled" => "asking the issuer",
        "obtained" => "checking the answer",
        "checked" => "laying it beside the old one",
        "staged" => "handing it over",
        "installed" => "waiting until it is seen in use",
        "served" => "removing the old one",
        _ => "beginning",
    };
    match (&certificate.last_error, certificate.waits_for.as_deref()) {
        (Some(error), Some("back_off")) => format!("{error}; it is tried again"),
        (_, Some("listener")) => "waiting for a proxy that asks for it".to_owned(),
        _ => doing.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(place: Place) -> String {
        let mut text = Vec::new();
        {
            let mut progress = Progress::new(&mut text, place);
            for (milliseconds, state) in [(100, "too early"), (1_000, "one"), (2_500, "one"), (2_900, "two")] {
                progress.tell_after(Duration::from_millis(milliseconds), state);
            }
        }
        String::from_utf8(text).expect("text")
    }

    #[test]
    fn a_terminal_has_one_line_that_goes_away() {
        let want = format!("{CLEAR}one (1 s){CLEAR}one (2 s){CLEAR}two (2 s){CLEAR}");
        assert_eq!(told(Place::Terminal), want);
    }

    #[test]
    fn a_pipe_has_a_line_for_each_change() {
        assert_eq!(told(Place::Pipe), "one (1 s)\ntwo (2 s)\n");
    }
}
