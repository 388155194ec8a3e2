//! What a hook prints: read to the end, kept in part, quoted with care.

use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;

use rustix::io::retry_on_intr;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

/// Bytes that are kept, the last ones; the rest is read and forgotten.
const KEPT: usize = 64 * 1024;
/// Reads of what is left when the program has ended; more than a pipe holds.
const LAST_READS: usize = 64;
/// Characters of a line that are worth repeating.
const LINE: usize = 200;
/// Characters of a line of a key that tell something of it.
const TELLING: usize = 16;

pub(crate) struct Output {
    pipe: pipe::Receiver,
    kept: Vec<u8>,
    buffer: Box<[u8; 16 * 1024]>,
}

impl Output {
    pub(super) fn new(reader: OwnedFd) -> io::Result<Self> {
        let pipe = pipe::Receiver::from_owned_fd(reader)?;
        Ok(Self { pipe, kept: Vec::new(), buffer: Box::new([0; 16 * 1024]) })
    }

    /// Reads for as long as it is polled.
    pub(super) async fn read(&mut self) -> Infallible {
        loop {
            match self.pipe.read(self.buffer.as_mut_slice()).await {
                Ok(0) | Err(_) => std::future::pending().await,
                Ok(length) => keep(&mut self.kept, &self.buffer[..length]),
            }
        }
    }

    /// The last line that the program printed, among what was kept. No line of `key` is in it.
    pub(super) fn last_line(self, key: &str) -> Option<String> {
        quotable(&self.text(), key)
    }

    /// What was kept. Who repeats any of it looks for secrets first.
    pub(crate) fn text(mut self) -> String {
        // Asked for itself: what came last may be news to the runtime.
        if let Ok(pipe) = self.pipe.into_nonblocking_fd() {
            for _ in 0..LAST_READS {
                match retry_on_intr(|| rustix::io::read(&pipe, self.buffer.as_mut_slice())) {
                    Ok(0) | Err(_) => break,
                    Ok(length) => keep(&mut self.kept, &self.buffer[..length]),
                }
            }
        }
        String::from_utf8_lossy(&self.kept).into_owned()
    }
}

/// Keeps the end: what a program says last is why it ended.
fn keep(kept: &mut Vec<u8>, more: &[u8]) {
    kept.extend_from_slice(more);
    kept.drain(..kept.len().saturating_sub(KEPT));
}

/// The last line that says something, on one line. Nothing of a text with a key in it is repeated.
fn quotable(text: &str, key: &str) -> Option<String> {
    let mut of_key = key.lines().map(str::trim).filter(|line| line.len() >= TELLING && !line.starts_with("-----"));
    if text.contains("PRIVATE KEY-----") || of_key.any(|line| text.contains(line)) {
        return Some("what it printed holds a private key and is not repeated".to_owned());
    }
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    let plain = line.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    Some(plain.take(LINE).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_quoted_on_one_line_and_never_a_key() {
        let key = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqG\nabc=\n-----END PRIVATE KEY-----\n";
        let long = "x".repeat(1_000);
        let withheld = "what it printed holds a private key and is not repeated";
        for (name, text, want) in [
            ("nothing", "", None),
            ("blank lines", " \n\n", None),
            ("the last line", "first\nlast \n\n", Some("last")),
            ("controls", "a\x1b[31mb\r\n", Some("a [31mb")),
            ("a long line", long.as_str(), Some(&long[..LINE])),
            ("a whole key", key, Some(withheld)),
            ("a line of the key", "MIGHAgEAMBMGByqGSM49AgEGCCqG\nfine", Some(withheld)),
            ("somebody else's key", "-----BEGIN RSA PRIVATE KEY-----\nx", Some(withheld)),
        ] {
            assert_eq!(quotable(text, key).as_deref(), want, "{name}");
        }
    }
}
