//! Orders that were asked for and whose answer nobody heard: looked for where the CA lists the orders of an account, so that
//! a crash just then does not order twice.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::PoisonError;

use hyper::StatusCode;
use instant_acme::Account;
use instant_acme::Identifier;
use serde::Deserialize;
use sha2::Digest as _;
use sha2::Sha256;

use super::challenge::name_of;
use super::error::AcmeError;
use super::headers;
use super::transport::Conversation;
use crate::issuer::Request;
use crate::leaf;

/// Orders that are looked at, the newest first.
const MOST: usize = 30;
/// Parts of a list that are read.
const PAGES: usize = 20;

/// What this process has asked for.
#[derive(Default)]
pub(super) struct Asked {
    /// Keys of requests that are about to be sent for the first time.
    begun: Mutex<HashSet<String>>,
    /// URLs of orders that belong to somebody.
    known: Mutex<HashSet<String>>,
}

/// An order that belongs to nobody.
pub(super) struct Found {
    pub(super) url: String,
    pub(super) replaces: Option<String>,
}

/// An account object (RFC 8555 §7.1.2), as far as it matters here.
#[derive(Deserialize)]
struct OfAccount {
    orders: Option<String>,
}

/// A part of the list of its orders (RFC 8555 §7.1.2.1).
#[derive(Deserialize)]
struct List {
    orders: Vec<String>,
}

/// An order object (RFC 8555 §7.1.3), as far as it matters here.
#[derive(Deserialize)]
struct Listed {
    status: String,
    identifiers: Vec<Named>,
    replaces: Option<String>,
}

#[derive(Deserialize)]
struct Named {
    value: String,
}

impl Asked {
    /// The order for this request is about to be asked for.
    pub(super) fn begin(&self, request: &Request) {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).insert(key_of(request));
    }

    /// Whether the order for this request was never asked for before. Says so once.
    pub(super) fn is_first(&self, request: &Request) -> bool {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).remove(&key_of(request))
    }

    /// This order belongs to somebody. Whether that is new.
    pub(super) fn is_known(&self, url: &str) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(url.to_owned())
    }

    /// The newest open order for these names that belongs to nobody here; none where the CA does not list orders. It belongs to
    /// who asked from here on.
    pub(super) async fn look(
        &self,
        conversation: &Conversation,
        account: &Account,
        identifiers: &[Identifier],
    ) -> Result<Option<Found>, AcmeError> {
        let Some(own) = ask::<OfAccount>(conversation, account, account.id()).await? else { return Ok(None) };
        let mut next = own.orders;
        let mut urls = Vec::new();
        for _ in 0..PAGES {
            let Some(page) = next.take() else { break };
            let Some(list) = ask::<List>(conversation, account, &page).await? else { break };
            urls.extend(list.orders);
            let links = conversation.last().map(|answer| headers::links(&answer.headers, "next")).unwrap_or_default();
            next = links.into_iter().next();
        }
        let mut wanted: Vec<String> = identifiers.iter().map(name_of).collect();
        wanted.sort();
        // Nobody says in which order they are listed; what was made last is commonly the last.
        for url in urls.into_iter().rev().take(MOST) {
            if self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(&url) {
                continue;
            }
            let Some(listed) = ask::<Listed>(conversation, account, &url).await? else { continue };
            // Two may have looked at it at the same time.
            if listed.is_open() && listed.names() == wanted && self.is_known(&url) {
                return Ok(Some(Found { url, replaces: listed.replaces }));
            }
        }
        Ok(None)
    }
}

impl Listed {
    fn is_open(&self) -> bool {
        // One that is finalized was asked for with another key.
        matches!(self.status.as_str(), "pending" | "ready")
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.identifiers.iter().map(|named| named.value.to_ascii_lowercase()).collect();
        names.sort();
        names
    }
}

/// Asks for a resource of the account. None for one that this CA does not have, or writes in another way.
async fn ask<T: for<'de> Deserialize<'de>>(
    conversation: &Conversation,
    account: &Account,
    url: &str,
) -> Result<Option<T>, AcmeError> {
    // The library asks for orders only, and finds that this is none; the answer is what is wanted.
    let outcome = patiently!(account.order(url.to_owned())).map(drop);
    if let Some(answer) = conversation.last().filter(|answer| answer.status == StatusCode::OK) {
        return Ok(serde_json::from_slice(&answer.body).ok());
    }
    match outcome.map_err(|error| conversation.error(error)) {
        Err(error @ (AcmeError::Network { .. } | AcmeError::Busy { .. } | AcmeError::RateLimited { .. })) => Err(error),
        Ok(()) | Err(_) => Ok(None),
    }
}

fn key_of(request: &Request) -> String {
    // The key itself stays where it is.
    leaf::hex(&Sha256::digest(request.key.pem().as_bytes()))
}
