//! Problem documents: a CA's own words (RFC 8555 §6.7). Pure.

use std::fmt;

use serde::Deserialize;

/// Prefix of the types of problems (RFC 8555 §6.7).
pub(super) const ERRORS: &str = "urn:ietf:params:acme:error:";
/// The longest text of a CA that is repeated: a link in it may be long.
pub(super) const LONGEST: usize = 2_000;

/// What a CA says of something that it does not do (RFC 8555 §6.7).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// Its type without the prefix that all have, as in `rateLimited`.
    pub kind: String,
    /// What it says to people.
    pub detail: String,
    /// What it says of single names.
    pub of_names: Vec<Failure>,
    /// Where one reads more, or agrees.
    pub link: Option<String>,
}

/// What a CA says of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The name.
    pub name: String,
    /// The problem's type.
    pub kind: String,
    /// The CA's words.
    pub detail: String,
}

impl Problem {
    /// Reads a problem document (RFC 7807). None if it is none.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Document {
            r#type: Option<String>,
            detail: Option<String>,
            instance: Option<String>,
            #[serde(default)]
            subproblems: Vec<Part>,
        }
        #[derive(Deserialize)]
        struct Part {
            r#type: Option<String>,
            detail: Option<String>,
            identifier: Option<Name>,
        }
        #[derive(Deserialize)]
        struct Name {
            value: Option<String>,
        }
        let document: Document = serde_json::from_slice(body).ok()?;
        if document.r#type.is_none() && document.detail.is_none() {
            return None;
        }
        let of_names = document.subproblems.into_iter().take(100).map(|part| Failure {
            name: clean(&part.identifier.and_then(|name| name.value).unwrap_or_default()),
            kind: kind(part.r#type.as_deref()),
            detail: clean(&part.detail.unwrap_or_default()),
        });
        Some(Self {
            kind: kind(document.r#type.as_deref()),
            detail: clean(&document.detail.unwrap_or_default()),
            of_names: of_names.collect(),
            link: document.instance.as_deref().map(clean).filter(|link| link.starts_with("https://")),
        })
    }

    /// Takes the names out of the words, if it is about names and says which in words only.
    pub(super) fn find_names(&mut self, names: &[String]) {
        if !self.of_names.is_empty() || !matches!(self.kind.as_str(), "rejectedIdentifier" | "unsupportedIdentifier") {
            return;
        }
        let detail = self.detail.to_ascii_lowercase();
        let is_of_name = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.' | '*' | ':');
        let words: Vec<&str> =
            detail.split(|char| !is_of_name(char)).map(|word| word.trim_end_matches(['.', ':'])).collect();
        let found = names.iter().filter(|name| words.contains(&name.as_str()));
        let failure =
            |name: &String| Failure { name: name.clone(), kind: self.kind.clone(), detail: self.detail.clone() };
        self.of_names = found.map(failure).collect();
    }

    /// As the library read it, of one name.
    pub(super) fn failure(name: String, problem: Option<&instant_acme::Problem>) -> Failure {
        let Some(problem) = problem else {
            return Failure { name, kind: String::new(), detail: String::new() };
        };
        let words = problem.detail.as_deref().unwrap_or_default();
        Failure { name, kind: kind(problem.r#type.as_deref()), detail: clean(words) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.detail.is_empty() { "it does not say why" } else { &self.detail })?;
        if !self.kind.is_empty() {
            write!(f, " ({})", self.kind)?;
        }
        if !self.of_names.is_empty() {
            write!(f, "; {}", failures_of(&self.of_names))?;
        }
        if let Some(link) = &self.link {
            write!(f, " (see {link})")?;
        }
        Ok(())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let detail = if self.detail.is_empty() { "it does not say why" } else { &self.detail };
        write!(f, "`{}`: {detail}", self.name)?;
        if self.kind.is_empty() { Ok(()) } else { write!(f, " ({})", self.kind) }
    }
}

/// A text from elsewhere as it may be shown: one line, of a bounded length.
pub(super) fn clean(text: &str) -> String {
    let text = text.chars().map(|char| if char.is_control() { ' ' } else { char });
    text.take(LONGEST).collect()
}

fn kind(of: Option<&str>) -> String {
    let of = of.unwrap_or_default();
    clean(of.strip_prefix(ERRORS).unwrap_or(of))
}

pub(super) fn failures_of(failures: &[Failure]) -> String {
    if failures.is_empty() {
        return "the order, and does not say which name is at fault".to_owned();
    }
    failures.iter().map(Failure::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_the_words_of_a_refusal_as_whole_words() {
        let names = ["a.example", "b.a.example", "*.c.example", "10.0.0.1"].map(str::to_owned);
        for (kind, detail, want) in [
            ("rejectedIdentifier", "forbidden by policy: \"B.A.example\"", vec!["b.a.example"]),
            ("rejectedIdentifier", "Cannot issue for *.c.example, 10.0.0.1.", vec!["*.c.example", "10.0.0.1"]),
            ("rejectedIdentifier", "Cannot issue for x-a.example: it is not yours", vec![]),
            ("unauthorized", "a.example is yours, the account is not", vec![]),
        ] {
            let mut problem = Problem { kind: kind.to_owned(), detail: detail.to_owned(), ..Problem::default() };
            problem.find_names(&names);
            let found: Vec<&str> = problem.of_names.iter().map(|failure| failure.name.as_str()).collect();
            assert_eq!(found, want, "{detail}");
        }
    }
}
