//! A secret that is not a private key: a token, a password. Never in an error, a log or a `Debug`; overwritten when dropped.

use std::fmt;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Read as _;
use std::path::Path;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use zeroize::Zeroizing;

/// Longer is no secret but a mistake.
const MAX_BYTES: u64 = 64 * 1024;

/// One secret. Serialising it is for what is sealed alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

impl Secret {
    /// Takes it.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Reads a file of one line; the end of the line is not part of it.
    ///
    /// # Errors
    ///
    /// The file's, also for an empty one or one that is no text of one line.
    pub fn read(path: &Path) -> io::Result<Self> {
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        // A pipe would wait for somebody to write.
        if !fs::metadata(path)?.is_file() {
            return Err(invalid("not a file"));
        }
        let mut text = Zeroizing::new(String::new());
        if File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)? as u64 > MAX_BYTES {
            return Err(invalid("more than 64 KiB are no secret"));
        }
        let line = text.trim_end_matches(['\r', '\n']);
        if line.is_empty() || line.contains(['\r', '\n', '\0']) {
            return Err(invalid("not one line of text"));
        }
        Ok(Self::new(line.to_owned()))
    }

    /// The secret, to be used at once.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_line_and_shows_nothing_of_itself() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("token");
        for (name, text, want) in [
            ("as it is", "s.abc", Some("s.abc")),
            ("with the end of a line", "s.abc\r\n", Some("s.abc")),
            ("empty", "\n", None),
            ("two lines", "a\nb", None),
            ("a NUL", "a\0b", None),
        ] {
            fs::write(&path, text).expect("written");
            let read = Secret::read(&path);
            assert_eq!(read.as_ref().ok().map(Secret::expose), want, "{name}");
            assert!(!format!("{read:?}").contains("abc"), "{name}");
        }
    }
}
