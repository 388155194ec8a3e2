//! Header maps as Envoy keeps them, and the ABI's serialised form of them.

use super::status::HostResult;
use super::status::Status;

/// Most pairs that Envoy's host takes from a module (`PROXY_WASM_HOST_PAIRS_MAX_COUNT`).
const PAIRS_MAX: usize = 1024;

/// Most bytes of serialised pairs that Envoy's host takes (`PROXY_WASM_HOST_PAIRS_MAX_BYTES`).
const PAIRS_MAX_BYTES: usize = 1024 * 1024;

/// Header fields in order, duplicates kept; names in lower case, values any bytes but NUL, CR and LF, unless a test wants
/// what no codec lets through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(Vec<u8>, Vec<u8>)>);

impl Headers {
    /// The fields of a request as Envoy's codec hands them to filters: names lowered, pseudo-headers first.
    ///
    /// # Panics
    ///
    /// For a field that no codec of Envoy hands on: the test is then not about the filter.
    pub fn from_client<N, V>(fields: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        let mut headers = Self::default();
        for (name, value) in fields {
            let (name, value) = (name.as_ref(), value.as_ref());
            assert!(
                headers.append(name, value).is_ok(),
                "Envoy's codec refuses the field `{}`: `{}` before a filter sees it",
                name.escape_ascii(),
                value.escape_ascii()
            );
        }
        headers.0.sort_by_key(|(name, _)| !name.starts_with(b":"));
        headers
    }

    /// Fields that no codec of Envoy hands on, as they are.
    pub fn of_no_codec<N, V>(fields: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        Self(fields.into_iter().map(|(name, value)| (name.as_ref().to_vec(), value.as_ref().to_vec())).collect())
    }

    /// The fields, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_slice(), value.as_slice()))
    }

    /// Every value of the field, in order.
    pub fn all(&self, name: &str) -> Vec<&[u8]> {
        self.iter().filter(|(field, _)| *field == name.as_bytes()).map(|(_, value)| value).collect()
    }

    /// The field's value as text; `None` where the field is absent, twice there or not UTF-8.
    pub fn single(&self, name: &str) -> Option<&str> {
        match self.all(name).as_slice() {
            [value] => std::str::from_utf8(value).ok(),
            _ => None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn first(&self, name: &[u8]) -> Option<&[u8]> {
        let name = name.to_ascii_lowercase();
        self.iter().find(|(field, _)| *field == name).map(|(_, value)| value)
    }

    pub(crate) fn append(&mut self, name: &[u8], value: &[u8]) -> HostResult<()> {
        self.0.push((checked_name(name)?, checked_value(value)?));
        Ok(())
    }

    /// Replaces the first field of that name and drops the others, as Envoy's `setCopy` does.
    pub(crate) fn replace(&mut self, name: &[u8], value: &[u8]) -> HostResult<()> {
        let (name, value) = (checked_name(name)?, checked_value(value)?);
        let place = self.0.iter().position(|(field, _)| *field == name).unwrap_or(self.0.len());
        self.0.retain(|(field, _)| *field != name);
        self.0.insert(place.min(self.0.len()), (name, value));
        Ok(())
    }

    pub(crate) fn remove(&mut self, name: &[u8]) {
        let name = name.to_ascii_lowercase();
        self.0.retain(|(field, _)| *field != name);
    }

    /// The ABI's form: count, lengths, then each name and value with a NUL behind it. Nothing at all for an empty map.
    pub(crate) fn serialize(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.0.is_empty() {
            return bytes;
        }
        bytes.extend(length(self.0.len()));
        for (name, value) in &self.0 {
            bytes.extend(length(name.len()));
            bytes.extend(length(value.len()));
        }
        for (name, value) in &self.0 {
            for part in [name, value] {
                bytes.extend_from_slice(part);
                bytes.push(0);
            }
        }
        bytes
    }

    /// Reads the ABI's form. Envoy takes what is malformed or beyond its limits for an empty map; here it is an error.
    pub(crate) fn deserialize(bytes: &[u8]) -> HostResult<Self> {
        if bytes.len() > PAIRS_MAX_BYTES {
            return Err(Status::BadArgument);
        }
        let mut headers = Self::default();
        if bytes.is_empty() {
            return Ok(headers);
        }
        let mut lengths = bytes;
        let count = take_length(&mut lengths)?;
        if count > PAIRS_MAX {
            return Err(Status::BadArgument);
        }
        let mut text = lengths.get(count * 8..).ok_or(Status::BadArgument)?;
        for _ in 0..count {
            let name = take_length(&mut lengths)?;
            let value = take_length(&mut lengths)?;
            let name = take_text(&mut text, name)?;
            let value = take_text(&mut text, value)?;
            headers.append(name, value)?;
        }
        if text.is_empty() { Ok(headers) } else { Err(Status::BadArgument) }
    }
}

/// Pseudo-header or RFC 9110 token, lowered.
fn checked_name(name: &[u8]) -> HostResult<Vec<u8>> {
    let token = name.strip_prefix(b":").unwrap_or(name);
    let is_token =
        !token.is_empty() && token.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte));
    if is_token { Ok(name.to_ascii_lowercase()) } else { Err(Status::BadArgument) }
}

fn checked_value(value: &[u8]) -> HostResult<Vec<u8>> {
    if value.iter().any(|byte| b"\0\r\n".contains(byte)) { Err(Status::BadArgument) } else { Ok(value.to_vec()) }
}

fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).expect("a header map is far below 4 GiB").to_le_bytes()
}

fn take_length(bytes: &mut &[u8]) -> HostResult<usize> {
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or(Status::BadArgument)?;
    *bytes = rest;
    usize::try_from(u32::from_le_bytes(*length)).map_err(|_| Status::BadArgument)
}

fn take_text<'a>(bytes: &mut &'a [u8], length: usize) -> HostResult<&'a [u8]> {
    let (text, rest) = bytes.split_at_checked(length).ok_or(Status::BadArgument)?;
    *bytes = rest.strip_prefix(b"\0").ok_or(Status::BadArgument)?;
    Ok(text)
}
