//! What the server says of its users.

use std::collections::HashMap;

use ::redis::FromRedisValue as _;
use ::redis::Value;

/// An ACL user.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct User {
    /// Whether anybody gets in as it (`nopass`).
    pub(super) is_open: bool,
    /// SHA-256 of each password, hex.
    pub(super) passwords: Vec<String>,
}

impl User {
    /// Reads an answer of `ACL GETUSER`; none where there is no such user.
    pub(super) fn read(answer: Option<HashMap<String, Value>>) -> Option<Self> {
        let mut answer = answer?;
        let mut list =
            |name: &str| -> Option<Vec<String>> { Vec::<String>::from_redis_value(answer.remove(name)?).ok() };
        let (flags, passwords) = (list("flags")?, list("passwords")?);
        Some(Self { is_open: flags.iter().any(|flag| flag == "nopass"), passwords })
    }
}

/// How many clients of `CLIENT LIST` are this user's, but for our own.
pub(super) fn sessions(list: &str, account: &str, own: u64) -> u64 {
    let of_account = |line: &&str| {
        let mut fields = line.split(' ').filter_map(|field| field.split_once('='));
        let field = |name: &str| fields.clone().find(|(key, _)| *key == name).map(|(_, value)| value);
        let is_own = field("id").and_then(|id| id.parse::<u64>().ok()) == Some(own);
        !is_own && fields.any(|(key, value)| key == "user" && value == account)
    };
    list.lines().filter(of_account).count() as u64
}

/// Whether these words say that the server has no file for its users.
pub(super) fn has_no_file(words: &str) -> bool {
    words.contains("not configured to use an ACL file") || words.contains("without a config file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_counted_by_their_user() {
        let list = "id=3 addr=127.0.0.1:1 name= user=shop resp=2\nid=4 name=user=shop user=other\n\
                    id=5 user=shop\nid=6 user=shop-2\n";
        assert_eq!(sessions(list, "shop", 5), 1);
        assert_eq!(sessions(list, "shop", 99), 2);
        assert_eq!(sessions(list, "nobody", 5), 0);
    }
}
