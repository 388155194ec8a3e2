//! Distinguished names (RFC 5280 §4.1.2.4): attributes as comparable text.

use std::fmt;
use std::fmt::Write as _;

use super::der;
use super::der::Element;
use super::oid;

/// A subject or an issuer: attributes in the certificate's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DistinguishedName {
    attributes: Vec<Attribute>,
}

/// One attribute of a [`DistinguishedName`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    oid: String,
    text: Option<String>,
    encoded: Box<[u8]>,
    /// Which relative distinguished name it belongs to, from 0.
    group: usize,
    multi_valued: bool,
}

impl DistinguishedName {
    /// Parses the DER of a `Name`.
    pub(super) fn parse(name: Element<'_>) -> Option<Self> {
        let mut attributes = Vec::new();
        let mut groups = (name.tag == der::SEQUENCE).then(|| name.reader())?;
        let mut group = 0;
        while !groups.rest().is_empty() {
            let mut members = groups.take(der::SET)?.reader();
            let first = attributes.len();
            while !members.rest().is_empty() {
                let mut fields = members.take(der::SEQUENCE)?.reader();
                let oid = oid::dotted(fields.take(der::OBJECT_IDENTIFIER)?.contents)?;
                let value = fields.any()?;
                fields.finish()?;
                attributes.push(Attribute {
                    oid,
                    text: text(value),
                    encoded: value.encoded.into(),
                    group,
                    multi_valued: false,
                });
            }
            let members = attributes.get_mut(first..)?;
            if members.is_empty() {
                return None;
            }
            let multi_valued = members.len() > 1;
            members.iter_mut().for_each(|attribute| attribute.multi_valued = multi_valued);
            group += 1;
        }
        Some(Self { attributes })
    }

    /// A name that is only thought of: each attribute, by dotted object identifier, on its own.
    pub(super) fn synthetic(attributes: Vec<(String, String)>) -> Self {
        let attribute = |(group, (oid, text))| Attribute {
            oid,
            text: Some(text),
            encoded: Box::default(),
            group,
            multi_valued: false,
        };
        Self { attributes: attributes.into_iter().enumerate().map(attribute).collect() }
    }

    /// Whether there is no attribute at all.
    pub fn is_empty(&self) -> bool {
        self.attributes.is_empty()
    }

    /// Every attribute, in the certificate's order.
    pub fn attributes(&self) -> &[Attribute] {
        &self.attributes
    }

    /// The dotted object identifier of an attribute type, given as such or by its short name; `None` if it is neither.
    pub fn attribute_oid(attribute: &str) -> Option<&str> {
        match TYPES.iter().find(|(_, short, _)| *short == attribute) {
            Some((oid, ..)) => Some(oid),
            None => oid::is_dotted(attribute).then_some(attribute),
        }
    }

    /// The dotted object identifier of an attribute type, given as such or by its name in text (`emailAddress`, of any case).
    pub(super) fn written_oid(name: &str) -> Option<&str> {
        match TYPES.iter().find(|(_, _, written)| written.eq_ignore_ascii_case(name)) {
            Some((oid, ..)) => Some(oid),
            None => oid::is_dotted(name).then_some(name),
        }
    }

    /// The text of an attribute that occurs exactly once, alone in its relative distinguished name.
    ///
    /// `attribute` is a dotted object identifier or a short name (`cn`, `ou`). `None` if it is absent, occurs twice, shares its
    /// relative distinguished name, or is not text: then there is no saying which value somebody else would read.
    pub fn single(&self, attribute: &str) -> Option<&str> {
        let oid = Self::attribute_oid(attribute)?;
        let mut found = self.attributes.iter().filter(|attribute| attribute.oid == oid);
        match (found.next(), found.next()) {
            (Some(only), None) if !only.multi_valued => only.text(),
            _ => None,
        }
    }
}

/// RFC 4514: the last attribute first, special characters escaped, types without a name in dotted form with their DER.
impl fmt::Display for DistinguishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for group in self.attributes.chunk_by(|one, other| one.group == other.group).rev() {
            for (position, attribute) in group.iter().enumerate() {
                match (first, position) {
                    (true, _) => first = false,
                    (false, 0) => f.write_char(',')?,
                    (false, _) => f.write_char('+')?,
                }
                write!(f, "{attribute}")?;
            }
        }
        Ok(())
    }
}

impl Attribute {
    /// The type, as a dotted object identifier.
    pub fn oid(&self) -> &str {
        &self.oid
    }

    /// The value, if it is a string without control characters: decoded, so that equal texts are equal whatever the string
    /// type.
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// The value's DER.
    pub(super) fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// Which relative distinguished name it belongs to, from 0.
    pub(super) fn group(&self) -> usize {
        self.group
    }

    /// Whether it shares its relative distinguished name with another attribute.
    pub fn is_multi_valued(&self) -> bool {
        self.multi_valued
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = TYPES.iter().find(|(oid, ..)| *oid == self.oid).map(|(_, _, name)| name);
        let (Some(name), Some(text)) = (name, &self.text) else {
            write!(f, "{}=#", self.oid)?;
            return self.encoded.iter().try_for_each(|byte| write!(f, "{byte:02x}"));
        };
        write!(f, "{name}=")?;
        let last = text.chars().count().saturating_sub(1);
        for (position, character) in text.chars().enumerate() {
            let escaped = match character {
                '"' | '+' | ',' | ';' | '<' | '>' | '\\' => true,
                ' ' => position == 0 || position == last,
                '#' => position == 0,
                _ => false,
            };
            if escaped {
                f.write_char('\\')?;
            }
            f.write_char(character)?;
        }
        Ok(())
    }
}

/// Attribute types with a name: identifier, name in a policy, name in text (RFC 4514 §3 and two that everybody writes).
const TYPES: &[(&str, &str, &str)] = &[
    ("2.5.4.3", "cn", "CN"),
    ("2.5.4.5", "serial_number", "serialNumber"),
    ("2.5.4.6", "c", "C"),
    ("2.5.4.7", "l", "L"),
    ("2.5.4.8", "st", "ST"),
    ("2.5.4.9", "street", "STREET"),
    ("2.5.4.10", "o", "O"),
    ("2.5.4.11", "ou", "OU"),
    ("0.9.2342.19200300.100.1.1", "uid", "UID"),
    ("0.9.2342.19200300.100.1.25", "dc", "DC"),
    ("1.2.840.113549.1.9.1", "email", "emailAddress"),
];

/// A string of any ASN.1 type as text; `None` for other types, bad encodings and control characters.
pub(super) fn text(value: Element<'_>) -> Option<String> {
    let bytes = value.contents;
    let text = match value.tag {
        // UTF8String.
        0x0c => str::from_utf8(bytes).ok()?.to_owned(),
        // NumericString, PrintableString, IA5String, VisibleString: all within ASCII. Which of its characters each may hold is
        // not checked: issuers that put `@` or `*` into a PrintableString are many, and nothing depends on it.
        0x12 | 0x13 | 0x16 | 0x1a => str::from_utf8(bytes).ok().filter(|text| text.is_ascii())?.to_owned(),
        // TeletexString: by the letter T.61, in practice Latin-1.
        0x14 => bytes.iter().copied().map(char::from).collect(),
        // UniversalString: UTF-32, big-endian.
        0x1c => units(bytes, u32::from_be_bytes)?.map(char::from_u32).collect::<Option<_>>()?,
        // BMPString: UTF-16, big-endian, without surrogates.
        0x1e => units(bytes, u16::from_be_bytes)?.map(|unit| char::from_u32(unit.into())).collect::<Option<_>>()?,
        _ => return None,
    };
    (!text.chars().any(char::is_control)).then_some(text)
}

/// `bytes` as numbers of `N` bytes each; `None` if they do not divide.
fn units<const N: usize, T>(bytes: &[u8], from_bytes: fn([u8; N]) -> T) -> Option<impl Iterator<Item = T>> {
    let (units, rest) = bytes.as_chunks::<N>();
    rest.is_empty().then(|| units.iter().copied().map(from_bytes))
}
