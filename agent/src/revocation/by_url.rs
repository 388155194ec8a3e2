//! One list behind a URL: fetched again and again, before the one in force ends.
//!
//! Plain http is as good as https: a list is signed, and older than the one before it is not taken (RFC 5280 §4.2.1.13, §8).
//! Whoever stands between can only keep new ones away, which the end of the last one makes known.

use std::time::Duration;

use reqwest::Client;
use reqwest::Url;

use super::ListError;
use super::keeper::Keeper;
use super::list;
use crate::errors::chain;
use crate::fetch::FetchError;
use crate::fetch::Fetcher;
use crate::fetch::Followed;
use crate::fetch::Plain;
use crate::fetch::Wanted;
use crate::fetch::schedule;
use crate::leaf;

/// A list, and where one may come from.
pub(crate) const WANTED: Wanted = Wanted {
    accept: "application/pkix-crl, application/x-pem-file, */*;q=0.1",
    max_length: list::MAX_LENGTH,
    whole: Duration::from_secs(60),
    plain: Plain::Taken,
};

/// A list that is followed.
pub(super) struct ByUrl {
    keeper: Keeper,
    fetcher: Fetcher,
    url: Url,
    /// Of the list in force, once it was fetched.
    etag: Option<String>,
    failures: u32,
}

/// Why a server gives no list.
#[derive(Debug, thiserror::Error)]
pub(super) enum UrlError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("the answer is refused")]
    Refused(#[source] ListError),
}

impl UrlError {
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Fetch(error) => error.code(),
            Self::Refused(error) => error.code(),
        }
    }
}

impl ByUrl {
    /// Nothing is fetched yet.
    pub(super) fn open(keeper: Keeper, url: Url) -> Self {
        let fetcher = keeper.revoker().context.fetcher.clone();
        Self { keeper, fetcher, url, etag: None, failures: 0 }
    }

    fn draw(&self) -> u32 {
        (self.keeper.revoker().context.draw)().unwrap_or_default()
    }
}

impl Followed for ByUrl {
    type Error = UrlError;

    fn source(&self) -> (&Fetcher, &Url) {
        (&self.fetcher, &self.url)
    }

    async fn refresh(&mut self, client: &Client) -> Result<Duration, UrlError> {
        let answer = self.fetcher.fetch(client, &self.url, self.etag.as_deref()).await?;
        match answer.document {
            Some(bytes) => {
                let read = self.keeper.reader();
                let parsed = tokio::task::spawn_blocking(move || (read(&bytes), bytes)).await;
                let (list, bytes) = parsed.expect("reading a list does not panic");
                self.keeper.take(&bytes, list.map_err(UrlError::Refused)?);
                self.etag = answer.etag;
            }
            None => self.keeper.confirm(),
        }
        self.failures = 0;
        let fresh = schedule::fresh_for(answer.cache_control.as_deref(), answer.age.as_deref(), self.draw());
        let end = self.keeper.last().map_or(0, |list| list.next_update.0);
        let left = u64::try_from(end.saturating_sub(leaf::now().0)).unwrap_or_default();
        Ok(schedule::before_end(fresh, Duration::from_secs(left)))
    }

    fn failed(&mut self, error: &UrlError) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let text = format!("cannot take a list from `{}`: {}", self.keeper.source(), chain(error));
        self.keeper.refuse(text, error.code());
        let asked = if let UrlError::Fetch(error) = error { error.retry_after() } else { None };
        schedule::back_off(self.failures, asked, self.draw())
    }

    fn failures(&self) -> u32 {
        self.failures
    }
}
