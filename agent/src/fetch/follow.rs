//! Fetches one document again and again, for as long as somebody wants it.

use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use jiff::Timestamp;
use reqwest::Client;
use reqwest::Url;
use tokio_util::sync::CancellationToken;

use super::FetchError;
use super::Fetcher;

/// After so many failures in a row the client is made anew: what it remembers of names and connections may be stale.
const FRESH_CLIENT: u32 = 5;
/// The clock is looked at this often while waiting.
const STEP: Duration = Duration::from_secs(60);

/// A document that is followed.
pub(crate) trait Followed {
    /// Why there is no new one.
    type Error: From<FetchError>;

    /// How it is fetched, and where from.
    fn source(&self) -> (&Fetcher, &Url);

    /// Asks once, and says for how long the answer is good.
    fn refresh(&mut self, client: &Client) -> impl Future<Output = Result<Duration, Self::Error>> + Send;

    /// Counts a failure, and says how long to wait.
    fn failed(&mut self, error: &Self::Error) -> Duration;

    /// Failures in a row.
    fn failures(&self) -> u32;

    /// When it will be asked for again.
    fn announce(&mut self, _next: Option<Timestamp>) {}
}

/// Fetches until the end.
pub(crate) async fn follow(mut followed: impl Followed, end: CancellationToken) {
    let mut client = None;
    loop {
        let fetched = async {
            let failures = followed.failures();
            if client.is_none() || failures > 0 && failures.is_multiple_of(FRESH_CLIENT) {
                let (fetcher, url) = followed.source();
                client = Some(fetcher.client(url)?);
            }
            followed.refresh(client.as_ref().expect("made above")).await
        };
        let wait = tokio::select! {
            () = end.cancelled() => return,
            fetched = fetched => match fetched {
                Ok(fresh) => fresh,
                Err(error) => followed.failed(&error),
            },
        };
        followed.announce(Timestamp::now().checked_add(wait).ok());
        tokio::select! {
            () = end.cancelled() => return,
            () = pause(wait) => {}
        }
    }
}

/// Waits, by whichever clock is faster: the one that waits go by stands still while a machine sleeps.
async fn pause(wait: Duration) {
    let (from, since) = (Instant::now(), SystemTime::now());
    loop {
        let gone = from.elapsed().max(since.elapsed().unwrap_or_default());
        let left = wait.saturating_sub(gone);
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(STEP)).await;
    }
}
