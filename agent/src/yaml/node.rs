//! From text to a tree in which every value knows its place.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::HashSet;

use saphyr_parser::Event;
use saphyr_parser::Marker;
use saphyr_parser::Parser;
use saphyr_parser::ScalarStyle;
use saphyr_parser::ScanError;
use saphyr_parser::StrInput;
use serde_json::Map;
use serde_json::Value;

use super::Place;
use super::YamlError;
use super::YamlProblem;
use super::scalar;

/// Deeper than any document that people write, and far from the end of the stack.
const MAX_DEPTH: usize = 64;

/// Values that aliases may add to a document: enough to share a few lists, too few to make a large document of a small one.
const MAX_ALIASED: usize = 10_000;

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    place: Place,
    tree: Tree,
}

#[derive(Clone, Debug)]
enum Tree {
    Scalar(Value),
    Sequence(Vec<Node>),
    Mapping(Vec<(Key, Node)>),
}

#[derive(Clone, Debug)]
struct Key {
    text: String,
    place: Place,
}

impl Node {
    /// Parses a text of exactly one document.
    pub(super) fn parse(text: &str) -> Result<Self, YamlError> {
        let mut builder =
            Builder { parser: Parser::new_from_str(text), anchors: HashMap::new(), aliased: 0, last: Place::START };
        loop {
            match builder.next()?.0 {
                Event::StreamStart | Event::DocumentStart(_) => {}
                Event::StreamEnd => return Err(YamlError { place: Place::START, problem: YamlProblem::Empty }),
                event => {
                    let place = builder.last;
                    let node = builder.node(event, place, 0)?;
                    return builder.end().map(|()| node);
                }
            }
        }
    }

    /// The same without places.
    pub(super) fn into_value(self) -> Value {
        match self.tree {
            Tree::Scalar(value) => value,
            Tree::Sequence(items) => items.into_iter().map(Self::into_value).collect(),
            Tree::Mapping(entries) => Value::Object(
                entries.into_iter().map(|(key, node)| (key.text, node.into_value())).collect::<Map<_, _>>(),
            ),
        }
    }

    /// The place of the value that `path` leads to, or of the last one on the way to it.
    ///
    /// A path that ends with the name of a field leads to the value; [`Node::locate_key`] leads to the name.
    pub(super) fn locate(&self, path: &str) -> Place {
        self.walk(path).0.place
    }

    /// The place of the name `key` in the mapping that `path` leads to.
    pub(super) fn locate_key(&self, path: &str, key: &str) -> Option<Place> {
        match (&self.walk(path).0.tree, self.walk(path).1) {
            (Tree::Mapping(entries), "") => {
                entries.iter().find(|(candidate, _)| candidate.text == key).map(|(key, _)| key.place)
            }
            _ => None,
        }
    }

    /// The last value on the way, and what is left of the path there.
    fn walk<'p>(&self, path: &'p str) -> (&Self, &'p str) {
        let mut node = self;
        let mut rest = path;
        while let Some((child, after)) = node.step(rest) {
            node = child;
            rest = after;
        }
        (node, rest)
    }

    fn step<'p>(&self, path: &'p str) -> Option<(&Self, &'p str)> {
        match &self.tree {
            Tree::Scalar(_) => None,
            Tree::Sequence(items) => {
                let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
                Some((items.get(index.parse::<usize>().ok()?)?, rest))
            }
            // Names may hold dots and brackets themselves: the longest one that fits is meant.
            Tree::Mapping(entries) => {
                let path = path.strip_prefix('.').unwrap_or(path);
                entries
                    .iter()
                    .filter(|(key, _)| {
                        let rest = path.strip_prefix(key.text.as_str());
                        !key.text.is_empty() && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
                    })
                    .max_by_key(|(key, _)| key.text.len())
                    .map(|(key, node)| (node, &path[key.text.len()..]))
            }
        }
    }

    fn size(&self) -> usize {
        1 + match &self.tree {
            Tree::Scalar(_) => 0,
            Tree::Sequence(items) => items.iter().map(Self::size).sum(),
            Tree::Mapping(entries) => entries.iter().map(|(_, node)| node.size()).sum(),
        }
    }
}

struct Builder<'t> {
    parser: Parser<'t, StrInput<'t>>,
    /// What the anchors so far stand for. An alias inside its own anchor finds nothing here.
    anchors: HashMap<usize, Node>,
    aliased: usize,
    last: Place,
}

impl<'t> Builder<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Place), YamlError> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => {
                self.last = place(&span.start);
                Ok((event, self.last))
            }
            Some(Err(error)) => Err(syntax(&error)),
            None => Err(YamlError { place: self.last, problem: YamlProblem::Empty }),
        }
    }

    fn node(&mut self, event: Event<'t>, place: Place, depth: usize) -> Result<Node, YamlError> {
        let refuse = |problem| Err(YamlError { place, problem });
        if depth > MAX_DEPTH {
            return refuse(YamlProblem::TooDeep);
        }
        let (anchor, tree) = match event {
            Event::Scalar(_, _, _, Some(_)) | Event::SequenceStart(_, Some(_)) | Event::MappingStart(_, Some(_)) => {
                return refuse(YamlProblem::Tag);
            }
            Event::Scalar(text, style, anchor, None) => (anchor, Tree::Scalar(self.scalar(text, style, place)?)),
            Event::SequenceStart(anchor, None) => (anchor, Tree::Sequence(self.sequence(depth)?)),
            Event::MappingStart(anchor, None) => (anchor, Tree::Mapping(self.mapping(depth)?)),
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return refuse(YamlProblem::Alias);
                };
                self.aliased = self.aliased.saturating_add(node.size());
                if self.aliased > MAX_ALIASED {
                    return refuse(YamlProblem::TooManyAliased);
                }
                // Errors point to where it is used.
                return Ok(Node { place, tree: node.tree.clone() });
            }
            _ => return refuse(YamlProblem::Empty),
        };
        let node = Node { place, tree };
        // 0 is no anchor.
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn scalar(&self, text: Cow<'t, str>, style: ScalarStyle, place: Place) -> Result<Value, YamlError> {
        match style {
            ScalarStyle::Plain => scalar::resolve(&text).map_err(|problem| YamlError { place, problem }),
            _ => Ok(Value::String(text.into_owned())),
        }
    }

    fn sequence(&mut self, depth: usize) -> Result<Vec<Node>, YamlError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, place) => items.push(self.node(event, place, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Vec<(Key, Node)>, YamlError> {
        let mut entries = Vec::new();
        let mut seen = HashSet::new();
        loop {
            let (event, place) = self.next()?;
            let text = match event {
                Event::MappingEnd => return Ok(entries),
                // An anchor on a name would be used by nobody.
                Event::Scalar(text, _, 0, None) => text.into_owned(),
                _ => return Err(YamlError { place, problem: YamlProblem::Name }),
            };
            if !seen.insert(text.clone()) {
                return Err(YamlError { place, problem: YamlProblem::Duplicate(text) });
            }
            let (event, value_place) = self.next()?;
            entries.push((Key { text, place }, self.node(event, value_place, depth + 1)?));
        }
    }

    /// Reads to the end, so that errors behind the document and a second one are found.
    fn end(mut self) -> Result<(), YamlError> {
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(()),
                (Event::DocumentEnd, _) => {}
                (_, place) => return Err(YamlError { place, problem: YamlProblem::SecondDocument }),
            }
        }
    }
}

fn place(marker: &Marker) -> Place {
    Place { line: marker.line(), column: marker.col() + 1 }
}

fn syntax(error: &ScanError) -> YamlError {
    YamlError { place: place(error.marker()), problem: YamlProblem::Syntax(error.info().to_owned()) }
}
