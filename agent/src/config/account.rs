//! Users and groups of this machine, by name or number.

use std::fs;
use std::io;

use serde::Deserialize;

/// As it is written: a number, or a name of `/etc/passwd` or `/etc/group`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Account {
    Number(u32),
    Name(String),
}

/// What a name may be of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Group,
    User,
}

impl Account {
    /// Its number.
    ///
    /// # Errors
    ///
    /// What is wrong, for people.
    pub(super) fn number(&self, kind: Kind) -> Result<u32, String> {
        let name = match self {
            Self::Number(number) => return Ok(*number),
            Self::Name(name) => name,
        };
        if let Ok(number) = name.parse() {
            return Ok(number);
        }
        let (file, what) = match kind {
            Kind::Group => ("/etc/group", "group"),
            Kind::User => ("/etc/passwd", "user"),
        };
        let text = fs::read(file).map_err(|error: io::Error| format!("`{file}` cannot be read: {error}"))?;
        find(&String::from_utf8_lossy(&text), name).ok_or_else(|| {
            format!("`{name}` is no {what} of `{file}`; one of another directory is given by its number")
        })
    }
}

/// The number of a name. Both files have it in the third field of a line.
fn find(text: &str, name: &str) -> Option<u32> {
    let mut lines = text.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_that_of_a_whole_field() {
        let text = "root:x:0:0:root:/root:/bin/sh\n# nginx\nnginx:x:101:102::/:\nbroken:x\n";
        for (name, want) in
            [("root", Some(0)), ("nginx", Some(101)), ("ngin", None), ("x", None), ("broken", None), ("", None)]
        {
            assert_eq!(find(text, name), want, "{name}");
        }
    }

    #[test]
    fn numbers_stand_for_themselves_and_names_are_looked_up() {
        let name = |name: &str| Account::Name(name.to_owned());
        assert_eq!(Account::Number(7).number(Kind::User), Ok(7));
        assert_eq!(name("8").number(Kind::Group), Ok(8));
        assert_eq!((name("root").number(Kind::User), name("root").number(Kind::Group)), (Ok(0), Ok(0)));
        let error = name("nobody-of-that-name").number(Kind::User).expect_err("nobody");
        assert!(error.contains("`nobody-of-that-name` is no user of `/etc/passwd`"), "{error}");
    }
}
