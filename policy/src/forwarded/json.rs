//! The JSON form of `x-forwarded-client-cert` (`format: JSON` in Envoy's `set_current_client_cert_details`): a list of
//! objects, one for each proxy, with the keys of the text form in small letters. Unknown keys, keys that occur twice and
//! `null` are malformed.

use std::borrow::Cow;

use serde::Deserialize;

use super::Element;
use super::MAX_ELEMENTS;
use super::Malformed;
use super::xfcc;
use crate::document::objects;
use crate::document::present;

#[derive(Deserialize)]
#[serde(transparent)]
struct Header<'a>(#[serde(borrow, deserialize_with = "objects")] Vec<Object<'a>>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Object<'a> {
    #[serde(borrow, default)]
    by: Vec<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    hash: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "present")]
    cert: Option<String>,
    #[serde(default, deserialize_with = "present")]
    chain: Option<Vec<String>>,
    #[serde(borrow, default, deserialize_with = "present")]
    subject: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    issuer: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    uri: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow, default, deserialize_with = "present")]
    dns: Option<Vec<Cow<'a, str>>>,
}

/// Reads a whole header.
pub(super) fn parse(text: &str) -> Result<Vec<Element<'_>>, Malformed> {
    let Header(objects) = serde_json::from_str(text).map_err(|_| Malformed)?;
    if objects.is_empty() || objects.len() > MAX_ELEMENTS {
        return Err(Malformed);
    }
    objects.into_iter().map(Object::element).collect()
}

impl<'a> Object<'a> {
    fn element(self) -> Result<Element<'a>, Malformed> {
        let mut names = self.by.iter().chain(self.uri.iter().flatten()).chain(self.dns.iter().flatten());
        if names.any(|name| name.is_empty()) {
            return Err(Malformed);
        }
        Ok(Element {
            by: self.by,
            hash: self.hash.map(|digits| xfcc::hash(&digits)).transpose()?,
            cert: self.cert.map(String::into_bytes),
            chain: self.chain.map(|chain| chain.concat().into_bytes()),
            subject: self.subject,
            issuer: self.issuer,
            uri: self.uri,
            dns: self.dns,
        })
    }
}
