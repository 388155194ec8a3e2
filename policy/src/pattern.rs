//! Patterns of paths, hosts and SPIFFE IDs: sequences of whole segments, never prefixes of text.
//!
//! `*` and `{name}` stand for one non-empty segment, `**` for the rest (hosts are read from the right, so there it comes
//! first). Absent: wildcards inside a segment, regular expressions, and literals that no request could have, such as `..`;
//! they are refused when the policy is compiled.

use std::borrow::Cow;

use crate::host::Host;
use crate::index::MAX_STEPS;
use crate::pages::Pages;
use crate::path::Normalization;
use crate::path::RequestPath;
use crate::spiffe::SpiffeId;
use crate::strings::Strings;
use crate::strings::Symbol;

/// One segment of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Step {
    /// Exactly this word.
    Literal(Symbol),
    /// Any non-empty word, which gets this name.
    Capture(Symbol),
    /// Any non-empty word.
    One,
}

/// A pattern, its steps being kept in [`Patterns`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pattern {
    start: u32,
    length: u16,
    /// Whether `**` follows.
    pub(crate) rest: bool,
}

/// The steps of all patterns of a policy, one after the other in matching order.
#[derive(Debug, Default)]
pub(crate) struct Patterns {
    steps: Pages<Step>,
}

impl Patterns {
    /// The steps of a pattern in matching order.
    pub(crate) fn steps(&self, pattern: Pattern) -> &[Step] {
        self.steps.slice(pattern.start, usize::from(pattern.length))
    }

    /// Whether one pattern matches everything that the other does, whatever is captured.
    pub(crate) fn covers(&self, wide: Pattern, narrow: Pattern) -> bool {
        let (steps, others) = (self.steps(wide), self.steps(narrow));
        let lengths = if wide.rest { others.len() >= steps.len() } else { others.len() == steps.len() && !narrow.rest };
        lengths
            && steps.iter().zip(others).all(|(step, other)| match (step, other) {
                (Step::Literal(one), Step::Literal(other)) => one == other,
                (Step::Literal(_), Step::Capture(_) | Step::One) => false,
                (Step::Capture(_) | Step::One, other) => *other != Step::Literal(Symbol::EMPTY),
            })
    }

    pub(crate) fn shrink(&mut self) {
        self.steps.shrink();
    }

    /// Takes a path pattern: `/orders/{id}`, `/static/**`.
    ///
    /// # Errors
    ///
    /// Why no request could match it.
    pub(crate) fn path(&mut self, text: &str, strings: &mut Strings) -> Result<Pattern, String> {
        let Some(below) = text.strip_prefix('/') else { return Err("it does not begin with `/`".to_owned()) };
        let (segments, rest) = match below.strip_suffix("**") {
            Some("") => return Ok(self.begin().end(true)),
            Some(before) if before.ends_with('/') => (before.strip_suffix('/').unwrap_or(before), true),
            _ => (below, false),
        };
        let mut building = self.begin();
        let mut segments = segments.split('/').peekable();
        while let Some(segment) = segments.next() {
            let step = match wildcard(segment, strings)? {
                Some(step) => step,
                None if segment.is_empty() && segments.peek().is_none() && !rest => Step::Literal(Symbol::EMPTY),
                None => Step::Literal(strings.intern(&path_literal(segment)?)),
            };
            building.push(step)?;
        }
        Ok(building.end(rest))
    }

    /// Takes a host pattern: `orders.acme.example`, `{tenant}.acme.example`, `**.acme.example`.
    ///
    /// # Errors
    ///
    /// Why no request could match it.
    pub(crate) fn host(&mut self, text: &str, strings: &mut Strings) -> Result<Pattern, String> {
        let (labels, rest) = text.strip_prefix("**.").map_or((text, false), |labels| (labels, true));
        let mut plain: Option<String> = None;
        let mut building = self.begin();
        // An address in brackets is one label.
        for label in labels.rsplit(|c| c == '.' && !labels.starts_with('[')) {
            let step = wildcard(label, strings)?;
            let label = if step.is_some() { "x".to_owned() } else { label.to_ascii_lowercase() };
            building.push(step.unwrap_or_else(|| Step::Literal(strings.intern(&label))))?;
            plain = Some(plain.map_or_else(|| label.clone(), |right| format!("{label}.{right}")));
        }
        let plain = plain.unwrap_or_default();
        match Host::parse(plain.as_bytes()) {
            Ok(host) if host.as_str() == plain => Ok(building.end(rest)),
            Ok(_) => Err("a host is matched without its port and without a dot at the end".to_owned()),
            Err(reason) => Err(format!("a request for this host is refused as `{}`", reason.code())),
        }
    }

    /// Takes a pattern of SPIFFE IDs: `spiffe://acme.example/ns/{ns}/sa/*`. The trust domain is always literal.
    ///
    /// # Errors
    ///
    /// Why no certificate could match it.
    pub(crate) fn spiffe(&mut self, text: &str, strings: &mut Strings) -> Result<Pattern, String> {
        let Some(names) = text.strip_prefix("spiffe://") else {
            return Err("it does not begin with `spiffe://`".to_owned());
        };
        let (names, rest) = names.strip_suffix("/**").map_or((names, false), |names| (names, true));
        let mut plain = "spiffe:/".to_owned();
        let mut building = self.begin();
        for (position, segment) in names.split('/').enumerate() {
            let step = wildcard(segment, strings)?;
            if step.is_some() && position == 0 {
                return Err("the trust domain must be written out".to_owned());
            }
            plain.push('/');
            plain.push_str(if step.is_some() { "x" } else { segment });
            building.push(step.unwrap_or_else(|| Step::Literal(strings.intern(segment))))?;
        }
        if SpiffeId::parse(&plain).is_none() {
            return Err("it is not a SPIFFE ID (lower-case trust domain, segments of letters, digits, `.`, `-`, `_`)"
                .to_owned());
        }
        if !rest && !names.contains('/') {
            return Err("a trust domain alone is nobody's ID; write `/**` after it for everybody in it".to_owned());
        }
        Ok(building.end(rest))
    }

    /// Whether words match a pattern. `**` takes `rest_takes` of them at least. `bind` is called with what each capture
    /// stands for, and says whether it may.
    pub(crate) fn fits<'w>(
        &self,
        pattern: Pattern,
        rest_takes: usize,
        mut words: impl Iterator<Item = &'w str>,
        strings: &Strings,
        bind: &mut impl FnMut(Symbol, &'w str) -> bool,
    ) -> bool {
        let begins = self.steps(pattern).iter().all(|step| match (step, words.next()) {
            (_, None) => false,
            (Step::Literal(literal), Some(word)) => strings.text(*literal) == word,
            (Step::Capture(name), Some(word)) => !word.is_empty() && bind(*name, word),
            (Step::One, Some(word)) => !word.is_empty(),
        });
        begins && if pattern.rest { words.count() >= rest_takes } else { words.next().is_none() }
    }

    /// The text of a path pattern.
    pub(crate) fn path_text(&self, pattern: Pattern, strings: &Strings) -> String {
        self.path_text_with(pattern, strings, &|_| None)
    }

    /// The text of a path pattern, with words in place of those captures that `own` has one for.
    pub(crate) fn path_text_with(
        &self,
        pattern: Pattern,
        strings: &Strings,
        own: &dyn Fn(&str) -> Option<String>,
    ) -> String {
        let mut text = String::new();
        for &step in self.steps(pattern) {
            text.push('/');
            match (step, own_word(step, strings, own)) {
                (_, Some(word)) => escape(&word, &mut text),
                (Step::Literal(word), None) => escape(strings.text(word), &mut text),
                (step, None) => wildcard_text(step, strings, &mut text),
            }
        }
        if pattern.rest {
            text.push_str("/**");
        }
        text
    }

    /// The text of a host pattern.
    pub(crate) fn host_text(&self, pattern: Pattern, strings: &Strings) -> String {
        self.host_text_with(pattern, strings, &|_| None)
    }

    /// The text of a host pattern, with words in place of those captures that `own` has one for.
    pub(crate) fn host_text_with(
        &self,
        pattern: Pattern,
        strings: &Strings,
        own: &dyn Fn(&str) -> Option<String>,
    ) -> String {
        let mut text = if pattern.rest { "**".to_owned() } else { String::new() };
        for &step in self.steps(pattern).iter().rev() {
            if !text.is_empty() {
                text.push('.');
            }
            match own_word(step, strings, own) {
                Some(word) => text.push_str(&word),
                None => wildcard_text(step, strings, &mut text),
            }
        }
        text
    }

    /// The text of a pattern of SPIFFE IDs.
    pub(crate) fn spiffe_text(&self, pattern: Pattern, strings: &Strings) -> String {
        let mut text = "spiffe:/".to_owned();
        for &step in self.steps(pattern) {
            text.push('/');
            wildcard_text(step, strings, &mut text);
        }
        if pattern.rest {
            text.push_str("/**");
        }
        text
    }

    fn begin(&mut self) -> Building<'_> {
        Building { start: self.steps.keep_together(MAX_STEPS), length: 0, steps: &mut self.steps }
    }
}

/// A pattern whose steps are being added. Those of a refused pattern stay: its policy is refused with it.
struct Building<'a> {
    start: u32,
    length: u16,
    steps: &'a mut Pages<Step>,
}

impl Building<'_> {
    fn push(&mut self, step: Step) -> Result<(), String> {
        if usize::from(self.length) == MAX_STEPS {
            return Err(format!("it has more than {MAX_STEPS} segments"));
        }
        self.steps.push(step);
        self.length += 1;
        Ok(())
    }

    fn end(self, rest: bool) -> Pattern {
        Pattern { start: self.start, length: self.length, rest }
    }
}

/// Whether a segment is a wildcard; one that merely holds a wildcard is refused.
pub(crate) fn wildcard(segment: &str, strings: &mut Strings) -> Result<Option<Step>, String> {
    match segment {
        "*" => return Ok(Some(Step::One)),
        "**" => return Err("`**` stands at the end of a path and at the start of a host, and nowhere else".to_owned()),
        _ => {}
    }
    if let Some(name) = segment.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
        let mut bytes = name.bytes();
        let head = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        if head && name.len() <= 64 && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Ok(Some(Step::Capture(strings.intern(name))));
        }
        return Err(format!(
            "`{segment}` does not name a capture: letters, digits and `_`, not beginning with a digit"
        ));
    }
    if segment.contains(['*', '{', '}']) {
        return Err(format!("`*` and `{{name}}` stand for a whole segment, and `{segment}` has one as a part"));
    }
    Ok(None)
}

/// What a request's segment is after decoding, if its path is accepted at all.
fn path_literal(segment: &str) -> Result<Cow<'_, str>, String> {
    // Most literals are words that mean themselves in every path.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !segment.is_empty() && segment.bytes().all(plain) {
        return Ok(Cow::Borrowed(segment));
    }
    if segment.contains('?') {
        return Err("the query of a request is not matched".to_owned());
    }
    let target = format!("/{segment}/");
    match RequestPath::parse(target.as_bytes(), Normalization::default()) {
        Ok(path) => {
            Ok(Cow::Owned(path.segments().first().map_or_else(String::new, |first| first.clone().into_owned())))
        }
        Err(reason) => Err(format!("a request with `{segment}` in its path is refused as `{}`", reason.code())),
    }
}

/// The word that stands for a capture.
fn own_word(step: Step, strings: &Strings, own: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    if let Step::Capture(name) = step { own(strings.text(name)) } else { None }
}

fn wildcard_text(step: Step, strings: &Strings, text: &mut String) {
    match step {
        Step::Literal(word) => text.push_str(strings.text(word)),
        Step::Capture(name) => {
            text.push('{');
            text.push_str(strings.text(name));
            text.push('}');
        }
        Step::One => text.push('*'),
    }
}

/// The path of a request that has these segments.
pub(crate) fn path_of_words(words: &[String]) -> String {
    let mut path = if words.is_empty() { "/".to_owned() } else { String::new() };
    for word in words {
        path.push('/');
        escape(word, &mut path);
    }
    path
}

/// Writes a decoded segment as a pattern's literal: what is not plain is percent-encoded.
fn escape(word: &str, text: &mut String) {
    for byte in word.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()+,=:@".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push('%');
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from(digit + if digit < 10 { b'0' } else { b'A' - 10 }));
            }
        }
    }
}
