//! YAML as people write it, turned into JSON values, and the way back from a path such as `rules[2].paths[0]` to a line.
//!
//! One document, no name twice in a mapping, no tags, aliases only in small measure: a text says one thing or is refused.
//! JSON is YAML, so this reads it too.

mod node;
mod scalar;

use std::fmt;
use std::fs;
use std::io;
use std::io::Read as _;
use std::path::Path;
use std::path::PathBuf;

use serde_json::Value;

use node::Node;

/// The largest file that is read, in bytes: several times a policy of 100,000 rules.
const MAX_LENGTH: u64 = 64 * 1024 * 1024;

/// A line and a column, both from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Place {
    /// Where a text begins.
    const START: Self = Self { line: 1, column: 1 };
}

/// The text of a file, kept to show what an error is about.
#[derive(Clone, Debug)]
pub struct Source {
    file: PathBuf,
    text: String,
}

/// Why a file could not be read as text.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It could not be opened or read.
    #[error("cannot read `{}`", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It holds bytes that are not UTF-8.
    #[error("`{}` is not UTF-8 from byte {offset} on", file.display())]
    NotUtf8 {
        /// The file.
        file: PathBuf,
        /// The first byte that is not.
        offset: usize,
    },
    /// It is too large.
    #[error("`{}` has more than {MAX_LENGTH} bytes", file.display())]
    TooLong {
        /// The file.
        file: PathBuf,
    },
}

/// Why a text is not a document, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct YamlError {
    place: Place,
    problem: YamlProblem,
}

/// Why a text is not a document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum YamlProblem {
    /// An alias inside its own anchor.
    #[error("an alias that stands for itself")]
    Alias,
    /// A name twice in one mapping. Which of the two would be meant, programs disagree about.
    #[error("`{0}` is given twice")]
    Duplicate(String),
    /// Nothing but comments.
    #[error("the document is empty")]
    Empty,
    /// A name in a mapping that is not a plain text.
    #[error("the name of a field is a text, without tag or anchor")]
    Name,
    /// A number that JSON does not have, or none that fits into 64 bits.
    #[error("`{0}` does not fit into a number: put it in quotes if it is a text")]
    Number(String),
    /// A second document after `---`.
    #[error("a second document begins here: only one is read")]
    SecondDocument,
    /// Not YAML.
    #[error("not YAML: {0}")]
    Syntax(String),
    /// A tag, such as `!!str`.
    #[error("tags are not read: put a text in quotes instead")]
    Tag,
    /// Lists in lists in lists.
    #[error("nested too deeply")]
    TooDeep,
    /// Aliases that multiply.
    #[error("aliases stand for too many values")]
    TooManyAliased,
}

impl Source {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// [`ReadError`], with the file's name in it.
    pub fn read(file: &Path) -> Result<Self, ReadError> {
        let io = |source| ReadError::Io { file: file.to_owned(), source };
        let mut bytes = Vec::new();
        fs::File::open(file).and_then(|opened| opened.take(MAX_LENGTH + 1).read_to_end(&mut bytes)).map_err(io)?;
        if bytes.len() as u64 > MAX_LENGTH {
            return Err(ReadError::TooLong { file: file.to_owned() });
        }
        let not_utf8 = |error: std::string::FromUtf8Error| error.utf8_error().valid_up_to();
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self::new(file, text)),
            Err(error) => Err(ReadError::NotUtf8 { file: file.to_owned(), offset: not_utf8(error) }),
        }
    }

    /// A text that came from `file`.
    pub fn new(file: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self { file: file.into(), text: text.into() }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What relative paths in the document begin at.
    pub fn directory(&self) -> &Path {
        self.file.parent().unwrap_or_else(|| Path::new(""))
    }

    /// What the document says.
    ///
    /// # Errors
    ///
    /// The first place where the text is not a document.
    pub fn value(&self) -> Result<Value, Located> {
        match Node::parse(&self.text) {
            Ok(node) => Ok(node.into_value()),
            Err(error) => Err(self.located(error.place, "", &error.problem.to_string())),
        }
    }

    /// An error about the value at `path`, such as `rules[2].paths[0]`; the empty path is the whole document.
    ///
    /// If the message says that a field is unknown, the place is the field's name.
    pub fn error_at(&self, path: &str, message: &str) -> Located {
        // Parsed again, and only now: places of values that nobody complains about are not worth their memory.
        let Ok(node) = Node::parse(&self.text) else {
            return self.located(Place::START, path, message);
        };
        let Some(unknown) = UnknownField::find(message) else {
            return self.located(node.locate(path), path, message);
        };
        let parent = path.strip_suffix(unknown.name).unwrap_or(path).trim_end_matches('.');
        let place = node.locate_key(parent, unknown.name).unwrap_or_else(|| node.locate(path));
        match unknown.nearest() {
            Some(near) => self.located(place, path, &format!("{message}; did you mean `{near}`?")),
            None => self.located(place, path, message),
        }
    }

    fn located(&self, place: Place, path: &str, message: &str) -> Located {
        // A line ends where YAML says so (§5.4), a lone carriage return included.
        let text = self.text.replace("\r\n", "\n");
        let line = text.split(['\n', '\r']).nth(place.line - 1).unwrap_or_default();
        Located {
            file: self.file.clone(),
            place,
            path: path.to_owned(),
            message: message.to_owned(),
            line: line.to_owned(),
        }
    }
}

/// What is wrong with a file, and where. `{}` is one line; `{:#}` adds the line of the file with a mark under the place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Located {
    file: PathBuf,
    place: Place,
    path: String,
    message: String,
    line: String,
}

impl Located {
    /// The place.
    pub fn place(&self) -> Place {
        self.place
    }
}

impl fmt::Display for Located {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { line, column } = self.place;
        write!(f, "{}:{line}:{column}: ", self.file.display())?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        if !f.alternate() {
            return Ok(());
        }
        // A tab under a tab keeps the mark in its place, whatever a tab's width.
        let indent = self.line.chars().take(column - 1).map(|character| if character == '\t' { '\t' } else { ' ' });
        let margin = line.to_string().len();
        let indent: String = indent.collect();
        write!(f, "\n{:margin$} |\n{line} | {}\n{:margin$} | {indent}^", "", self.line, "")
    }
}

/// What serde says of a field that it does not know.
struct UnknownField<'m> {
    name: &'m str,
    expected: Vec<&'m str>,
}

impl<'m> UnknownField<'m> {
    fn find(message: &'m str) -> Option<Self> {
        let mut quoted = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
        Some(Self { name: quoted.next()?, expected: quoted.collect() })
    }

    /// The known field that is two slips of the finger away at most.
    fn nearest(&self) -> Option<&'m str> {
        let near = self.expected.iter().map(|expected| (distance(self.name, expected), *expected));
        near.min().filter(|(distance, _)| *distance <= 2).map(|(_, expected)| expected)
    }
}

/// How many characters to insert, remove or replace (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (line, left) in one.chars().enumerate() {
        let mut diagonal = line;
        row[0] = line + 1;
        for (column, right) in other.chars().enumerate() {
            let replaced = diagonal + usize::from(left != right);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const POLICY: &str = "\
version: 1
roles:
  reader: [ { dns: a.example } ]
  read.write: [ { dns: b.example } ]
rules:
  - { id: one, allow: [reader], paths: [\"/a\", \"/b\"] }
  - id: two
    allow: [reader]
    pathes:
      - /c
";

    fn source(text: &str) -> Source {
        Source::new("policy.yaml", text)
    }

    #[test]
    fn a_document_is_the_value_that_it_says() {
        let text =
            "# a comment\n---\na: 1\nb: [x, 'y', \"z\\u00e9\", true, ~]\nc: { d: '1', 2: e }\nf: |\n  g\n  h\n...\n";
        let want = json!({"a": 1, "b": ["x", "y", "z\u{e9}", true, null], "c": {"d": "1", "2": "e"}, "f": "g\nh\n"});
        assert_eq!(source(text).value(), Ok(want));
        let json = r#"{"a":{"b":[1,-2.5e3,"c\/\n",null]},"d":{}}"#;
        assert_eq!(source(json).value().unwrap(), serde_json::from_str::<Value>(json).unwrap());
    }

    #[test]
    fn a_text_that_does_not_say_one_thing_is_refused_at_its_place() {
        let bomb: String =
            (1..12).map(|n| format!("a{n}: &a{n} [{}]\n", [&*format!("*a{}", n - 1); 9].join(","))).collect();
        let bomb = format!("a0: &a0 [1,2,3,4,5,6,7,8,9]\n{bomb}");
        let deep = "[".repeat(100);
        let cases: &[(&str, &str, &str)] = &[
            ("nothing", "", "policy.yaml:1:1: the document is empty"),
            ("only a comment", "# x\n", "policy.yaml:1:1: the document is empty"),
            ("a name twice", "a: 1\nb:\n  c: 1\n  c: 2\n", "policy.yaml:4:3: `c` is given twice"),
            ("a name twice, once in quotes", "a: 1\n'a': 2\n", "policy.yaml:2:1: `a` is given twice"),
            ("two documents", "a: 1\n---\na: 2\n", "policy.yaml:2:1: a second document begins here: only one is read"),
            ("a tag", "a: !!str 1\n", "policy.yaml:1:4: tags are not read: put a text in quotes instead"),
            ("a list as name", "? [a]\n: b\n", "policy.yaml:1:3: the name of a field is a text, without tag or anchor"),
            ("itself", "a: &a [*a]\n", "policy.yaml:1:8: an alias that stands for itself"),
            (
                "a serial number without quotes",
                "a: 123456789012345678901\n",
                "policy.yaml:1:4: `123456789012345678901` does not fit into a number: put it in quotes if it is a text",
            ),
            ("aliases of aliases", &bomb, "policy.yaml:5:10: aliases stand for too many values"),
            ("brackets in brackets", &deep, "policy.yaml:1:66: nested too deeply"),
        ];
        for (name, text, want) in cases {
            assert_eq!(source(text).value().unwrap_err().to_string(), *want, "{name}");
        }
        for (name, text, place) in
            [("a bracket that does not end", "a: [1\n", "policy.yaml:"), ("a stray quote", "a: \"b\n", "policy.yaml:")]
        {
            let error = source(text).value().unwrap_err().to_string();
            assert!(error.starts_with(place) && error.contains("not YAML: "), "{name}: {error}");
        }
    }

    #[test]
    fn an_alias_is_what_its_anchor_was() {
        let text = "a: &methods [GET, HEAD]\nb: *methods\n";
        assert_eq!(source(text).value(), Ok(json!({"a": ["GET", "HEAD"], "b": ["GET", "HEAD"]})));
    }

    #[test]
    fn a_path_leads_to_a_line_and_a_column() {
        let cases = [
            ("", 1, 1),
            ("version", 1, 10),
            ("roles.reader[0].dns", 3, 20),
            ("roles.read.write[0].dns", 4, 24),
            ("rules[0].paths[1]", 6, 47),
            ("rules[1]", 7, 5),
            ("rules[1].allow[0]", 8, 13),
            ("rules[1].allow[9].x", 8, 12),
            ("rules[7]", 6, 3),
            ("no.such", 1, 1),
        ];
        for (path, line, column) in cases {
            assert_eq!(source(POLICY).error_at(path, "wrong").place(), Place { line, column }, "{path}");
        }
    }

    #[test]
    fn an_error_shows_the_line_and_the_place_in_it() {
        let error = source(POLICY).error_at("rules[0].paths[1]", "no such path");
        assert_eq!(error.to_string(), "policy.yaml:6:47: rules[0].paths[1]: no such path");
        let want = "\
policy.yaml:6:47: rules[0].paths[1]: no such path
  |
6 |   - { id: one, allow: [reader], paths: [\"/a\", \"/b\"] }
  |                                               ^";
        assert_eq!(format!("{error:#}"), want);
    }

    #[test]
    fn the_line_that_is_shown_is_the_one_that_yaml_counts() {
        for (name, text) in
            [("carriage returns", "a: 1\rb: 2\r"), ("both", "a: 1\r\nb: 2\r\n"), ("feeds", "a: 1\nb: 2\n")]
        {
            let error = format!("{:#}", source(text).error_at("b", "wrong"));
            assert!(error.starts_with("policy.yaml:2:4: ") && error.contains("\n2 | b: 2\n"), "{name}: {error}");
        }
    }

    #[test]
    fn an_unknown_field_is_shown_at_its_name_with_the_one_that_was_meant() {
        let message = "unknown field `pathes`, expected one of `id`, `allow`, `paths`";
        for path in ["rules[1]", "rules[1].pathes"] {
            let error = source(POLICY).error_at(path, message);
            assert_eq!(error.to_string(), format!("policy.yaml:9:5: {path}: {message}; did you mean `paths`?"));
        }
        let far = "unknown field `pathes`, expected `nothing`";
        let error = source(POLICY).error_at("rules[1]", far);
        assert_eq!(error.to_string(), format!("policy.yaml:9:5: rules[1]: {far}"));
    }

    #[test]
    fn files_are_named_in_errors() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("policy.yaml");
        assert!(matches!(Source::read(&file), Err(ReadError::Io { .. })));
        fs::write(&file, b"a: \xff").unwrap();
        assert!(matches!(Source::read(&file), Err(ReadError::NotUtf8 { offset: 3, .. })));
        fs::write(&file, "a: 1").unwrap();
        assert_eq!(Source::read(&file).unwrap().value(), Ok(json!({"a": 1})));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[ -~\n\t]{0,60}") {
            if let Err(error) = source(&text).value() {
                let shown = format!("{error:#}");
                prop_assert!(shown.starts_with("policy.yaml:"), "{}", shown);
            }
            let _ = source(&text).error_at("a[0].b", "wrong").to_string();
        }

        #[test]
        fn json_is_read_as_json(texts in proptest::collection::vec("[ -~\u{e9}\u{4e2d}\n]{0,12}", 0..6), number: i64) {
            let value = json!({"texts": texts, "number": number, "nested": {"list": [[], {}, number]}});
            prop_assert_eq!(source(&value.to_string()).value(), Ok(value.clone()));
            prop_assert_eq!(source(&serde_json::to_string_pretty(&value).unwrap()).value(), Ok(value));
        }
    }
}
