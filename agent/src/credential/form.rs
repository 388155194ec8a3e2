//! How a credential is written down for those who read it: alone, as `.pgpass`, as environment variables, by a template.
//!
//! Every form either holds the value so that its reader gets exactly that, or refuses it.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// What is written down.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Who logs in.
    pub account: Option<&'a str>,
    /// What for.
    pub secret: &'a Secret,
    /// What it is called.
    pub id: &'a str,
    /// When it ends.
    pub not_after: Option<Timestamp>,
    /// Public keys of a ring, a JWK Set.
    pub key_set: Option<&'a Value>,
}

/// A form of a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// The secret and nothing else, no line's end either.
    Raw,
    /// A line of libpq's password file (PostgreSQL documentation, "The Password File").
    Pgpass {
        /// The database's host, or the directory of its socket.
        host: String,
        /// Its port, or `*`.
        port: String,
        /// Its name, or `*`.
        database: String,
    },
    /// `NAME="value"`, a line each, as shells and `EnvironmentFile=` read it.
    Dotenv {
        /// Variable of the account.
        account: Option<String>,
        /// Variable of the secret.
        secret: String,
    },
    /// A JSON document; placeholders are replaced inside of its strings.
    Json(Value),
    /// A text with placeholders.
    Template(Template),
    /// The public keys of a signing key's ring (RFC 7517 §5).
    Jwks,
}

/// How a proxy uses a secret in a header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InHeader {
    /// Account and secret in Base64 (RFC 7617 §2); the proxy puts `Basic ` before it.
    Basic,
    /// As it is.
    #[default]
    Secret,
}

/// A text with `{account}`, `{secret}`, `{id}` and `{not_after}` in it; `{{` and `}}` are braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Account,
    Secret,
    Id,
    NotAfter,
}

/// Why a form cannot hold a credential, or is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormError {
    /// Nothing there.
    #[error("the secret is empty")]
    Empty,
    /// Nobody to name.
    #[error("it names the account, and this credential has none")]
    NoAccount,
    /// No end to name.
    #[error("it names the end, and this credential has none")]
    NoEnd,
    /// Not of a ring of keys.
    #[error("only a signing key has a key set")]
    NoKeySet,
    /// A brace that is not closed.
    #[error("`{{` at character {0} is not closed; write `{{{{` for the brace itself")]
    Open(usize),
    /// A brace that was not opened.
    #[error("`}}` at character {0} was not opened; write `}}}}` for the brace itself")]
    Stray(usize),
    /// A placeholder that nobody knows.
    #[error("`{{{0}}}` is not known; there are `{{account}}`, `{{secret}}`, `{{id}}` and `{{not_after}}`")]
    Unknown(String),
    /// The value has a character that the form cannot hold.
    #[error("{0} has a line's end, a zero byte or another control character, which this form cannot hold")]
    Control(&'static str),
    /// A user name with a colon would be read as part of the password (RFC 7617 §2).
    #[error("the account has a colon, which basic authentication cannot tell from its own")]
    Colon,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    ///
    /// [`FormError`]: the first thing that is wrong.
    pub fn parse(text: &str) -> Result<Self, FormError> {
        let (mut parts, mut literal) = (Vec::new(), String::new());
        let mut rest = text.chars().enumerate().peekable();
        while let Some((at, character)) = rest.next() {
            match character {
                '{' | '}' if rest.peek().is_some_and(|(_, next)| *next == character) => {
                    rest.next();
                    literal.push(character);
                }
                '}' => return Err(FormError::Stray(at + 1)),
                '{' => {
                    let mut name = String::new();
                    loop {
                        match rest.next() {
                            None => return Err(FormError::Open(at + 1)),
                            Some((_, '}')) => break,
                            Some((_, next)) => name.push(next),
                        }
                    }
                    if !literal.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut literal)));
                    }
                    parts.push(match name.as_str() {
                        "account" => Part::Account,
                        "secret" => Part::Secret,
                        "id" => Part::Id,
                        "not_after" => Part::NotAfter,
                        _ => return Err(FormError::Unknown(name)),
                    });
                }
                other => literal.push(other),
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self(parts))
    }

    fn fill(&self, facts: &Facts<'_>) -> Result<Zeroizing<String>, FormError> {
        let mut text = Zeroizing::new(String::new());
        for part in &self.0 {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Account => text.push_str(facts.account.ok_or(FormError::NoAccount)?),
                Part::Secret => text.push_str(facts.secret.expose()),
                Part::Id => text.push_str(facts.id),
                Part::NotAfter => {
                    let end = facts.not_after.ok_or(FormError::NoEnd)?;
                    let _ = write!(text, "{end}");
                }
            }
        }
        Ok(text)
    }
}

impl Form {
    /// A template for a document, every string of which is one.
    ///
    /// # Errors
    ///
    /// [`FormError`].
    pub fn json(document: Value) -> Result<Self, FormError> {
        map_strings(&document, &mut |text| Template::parse(text).map(|_| Value::Null))?;
        Ok(Self::Json(document))
    }

    /// The file's text.
    ///
    /// # Errors
    ///
    /// [`FormError`], if the form cannot hold the value.
    pub fn write(&self, facts: &Facts<'_>) -> Result<Zeroizing<String>, FormError> {
        let account = || facts.account.ok_or(FormError::NoAccount);
        match self {
            Self::Raw => Ok(Zeroizing::new(facts.secret.expose().to_owned())),
            Self::Pgpass { host, port, database } => {
                let secret = one_line(facts.secret.expose(), "the secret")?;
                let fields = [host, port, database, one_line(account()?, "the account")?, secret];
                let mut line = Zeroizing::new(String::new());
                for (at, field) in fields.into_iter().enumerate() {
                    if at > 0 {
                        line.push(':');
                    }
                    escape(&mut line, field, &[':', '\\']);
                }
                line.push('\n');
                Ok(line)
            }
            Self::Dotenv { account: name, secret } => {
                let mut text = Zeroizing::new(String::new());
                if let Some(name) = name {
                    variable(&mut text, name, one_line(account()?, "the account")?);
                }
                variable(&mut text, secret, one_line(facts.secret.expose(), "the secret")?);
                Ok(text)
            }
            Self::Json(document) => {
                let filled = map_strings(document, &mut |text| {
                    Ok(Value::String(Template::parse(text)?.fill(facts)?.as_str().to_owned()))
                })?;
                Ok(Zeroizing::new(format!("{filled:#}\n")))
            }
            Self::Template(template) => template.fill(facts),
            Self::Jwks => Ok(Zeroizing::new(format!("{:#}\n", facts.key_set.ok_or(FormError::NoKeySet)?))),
        }
    }
}

impl InHeader {
    /// The value of the secret that a proxy gets.
    ///
    /// # Errors
    ///
    /// [`FormError`], if no header can hold it.
    pub fn write(self, account: Option<&str>, secret: &Secret) -> Result<Zeroizing<Vec<u8>>, FormError> {
        let secret = one_line(secret.expose(), "the secret")?;
        match self {
            Self::Secret => Ok(Zeroizing::new(secret.as_bytes().to_vec())),
            Self::Basic => {
                let account = one_line(account.ok_or(FormError::NoAccount)?, "the account")?;
                if account.contains(':') {
                    return Err(FormError::Colon);
                }
                let pair = Zeroizing::new(format!("{account}:{secret}"));
                Ok(Zeroizing::new(STANDARD.encode(pair.as_bytes()).into_bytes()))
            }
        }
    }
}

fn one_line<'a>(text: &'a str, what: &'static str) -> Result<&'a str, FormError> {
    if text.chars().any(char::is_control) { Err(FormError::Control(what)) } else { Ok(text) }
}

fn escape(to: &mut String, text: &str, special: &[char]) {
    for character in text.chars() {
        if special.contains(&character) {
            to.push('\\');
        }
        to.push(character);
    }
}

fn variable(to: &mut String, name: &str, value: &str) {
    to.push_str(name);
    to.push_str("=\"");
    escape(to, value, &['"', '\\', '$', '`']);
    to.push_str("\"\n");
}

/// The document with every string in it, keys apart, replaced.
fn map_strings(
    document: &Value,
    replace: &mut impl FnMut(&str) -> Result<Value, FormError>,
) -> Result<Value, FormError> {
    match document {
        Value::String(text) => replace(text),
        Value::Array(items) => {
            items.iter().map(|item| map_strings(item, replace)).collect::<Result<_, _>>().map(Value::Array)
        }
        Value::Object(members) => {
            let members = members.iter().map(|(name, member)| Ok((name.clone(), map_strings(member, replace)?)));
            members.collect::<Result<_, _>>().map(Value::Object)
        }
        other => Ok(other.clone()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn written(form: &Form, account: Option<&str>, secret: &str) -> Result<String, FormError> {
        let secret = Secret::new(secret.to_owned());
        let not_after = Some(Timestamp::constant(0, 0));
        let facts = Facts { account, secret: &secret, id: "id1", not_after, key_set: None };
        form.write(&facts).map(|text| text.as_str().to_owned())
    }

    fn pgpass() -> Form {
        Form::Pgpass { host: "::1".to_owned(), port: "5432".to_owned(), database: "*".to_owned() }
    }

    fn dotenv() -> Form {
        Form::Dotenv { account: Some("DB_USER".to_owned()), secret: "DB_PASSWORD".to_owned() }
    }

    #[test]
    fn every_form_holds_the_value_so_that_its_reader_gets_it() {
        let json = Form::json(json!({"user": "{account}", "n": 1, "list": ["{secret}", "{{}}"]})).expect("a template");
        let template =
            Form::Template(Template::parse("{account}/{secret} {id} {not_after} {{x}}").expect("a template"));
        let ugly = r#"a"b\c$d`e:f'g"#;
        let cases = [
            ("raw", &Form::Raw, ugly, ugly.to_owned()),
            ("raw, whatever it is", &Form::Raw, "a\nb\0", "a\nb\0".to_owned()),
            ("pgpass", &pgpass(), ugly, "\\:\\:1:5432:*:me:a\"b\\\\c$d`e\\:f'g\n".to_owned()),
            ("dotenv", &dotenv(), ugly, "DB_USER=\"me\"\nDB_PASSWORD=\"a\\\"b\\\\c\\$d\\`e:f'g\"\n".to_owned()),
            ("template", &template, ugly, format!("me/{ugly} id1 1970-01-01T00:00:00Z {{x}}")),
        ];
        for (name, form, secret, want) in cases {
            assert_eq!(written(form, Some("me"), secret).as_deref(), Ok(want.as_str()), "{name}");
        }
        let document = written(&json, Some("me"), "a\"\n\u{0}ü").expect("a document");
        let document: Value = serde_json::from_str(&document).expect("JSON whatever the secret");
        assert_eq!(document, json!({"user": "me", "n": 1, "list": ["a\"\n\u{0}ü", "{}"]}));
    }

    #[test]
    fn a_shell_reads_the_variables_as_they_are() {
        let ugly = r#"a"b\c$d`e:f'g $(id) \n"#;
        let text = written(&dotenv(), Some("me"), ugly).expect("written");
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join(".env");
        std::fs::write(&file, text).expect("written");
        let mut shell = std::process::Command::new("sh");
        let shell = shell.args(["-c", ". \"$0\" && printf %s \"$DB_PASSWORD\""]).arg(&file);
        let said = shell.output().expect("a shell").stdout;
        assert_eq!(String::from_utf8_lossy(&said), ugly);
    }

    #[test]
    fn what_a_form_cannot_hold_is_refused() {
        let id = Form::Template(Template::parse("{account}").expect("a template"));
        for (name, form, account, secret, want) in [
            ("a line's end in pgpass", &pgpass(), Some("me"), "a\nb", FormError::Control("the secret")),
            ("a zero byte in a variable", &dotenv(), Some("me"), "a\0b", FormError::Control("the secret")),
            ("a line's end in an account", &dotenv(), Some("m\ne"), "ab", FormError::Control("the account")),
            ("no account", &pgpass(), None, "ab", FormError::NoAccount),
            ("no account in a template", &id, None, "ab", FormError::NoAccount),
            ("no ring", &Form::Jwks, None, "ab", FormError::NoKeySet),
        ] {
            let error = written(form, account, secret).expect_err(name);
            assert_eq!(error, want, "{name}");
            assert!(!error.to_string().contains(secret), "{name}");
        }
    }

    #[test]
    fn a_template_that_is_none_is_refused_with_its_place() {
        for (name, text, want) in [
            ("open", "ab{secret", FormError::Open(3)),
            ("stray", "ab}", FormError::Stray(3)),
            ("unknown", "{password}", FormError::Unknown("password".to_owned())),
            ("empty", "{}", FormError::Unknown(String::new())),
        ] {
            assert_eq!(Template::parse(text), Err(want.clone()), "{name}");
            assert_eq!(Form::json(json!([{"a": text}])), Err(want), "{name} in a document");
        }
    }

    #[test]
    fn a_header_gets_what_it_can_hold() {
        let secret = |text: &str| Secret::new(text.to_owned());
        let basic = InHeader::Basic.write(Some("Aladdin"), &secret("open sesame")).expect("written");
        assert_eq!(basic.as_slice(), b"QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "RFC 7617 §2");
        assert_eq!(InHeader::Secret.write(None, &secret("tok")).expect("written").as_slice(), b"tok");
        assert_eq!(InHeader::Secret.write(None, &secret("t\nx")), Err(FormError::Control("the secret")));
        assert_eq!(InHeader::Basic.write(Some("a:b"), &secret("x")), Err(FormError::Colon));
        assert_eq!(InHeader::Basic.write(None, &secret("x")), Err(FormError::NoAccount));
    }
}
