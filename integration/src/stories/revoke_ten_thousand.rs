//! `revoke-ten-thousand`: ten thousand open streams, a thousand of which end by one command, beside very many who were revoked
//! before.

use std::time::Duration;
use std::time::Instant;

use portcullis::gate::Taken;
use portcullis::leaf::serial_hex;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::open_streams::ended_by;
use super::open_streams::leaf;
use super::open_streams::settings;
use super::open_streams::spiffe;
use super::revoke::BATCH;
use super::revoke::batch;
use super::revoke::changed;
use super::within;
use crate::environment;
use crate::environment::Ask;
use crate::environment::Client;
use crate::environment::ClientError;
use crate::environment::Connection;
use crate::environment::Environment;
use crate::environment::Open;
use crate::environment::Protocol::Http2;
use crate::environment::endless;
use crate::report::Report;
use crate::report::StoryError;

/// What is promised is a second; a machine that builds something else at the same time may take longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Connections, each with a certificate of its own, and streams on each, as many as the shipped configuration lets one have.
const CONNECTIONS: usize = 100;
const STREAMS: usize = 100;
/// Every how-manieth connection is of somebody who is revoked.
const REVOKED_EVERY: usize = 10;
/// Revoked before.
const BEFORE: u32 = 100_000;

/// A connection that keeps its streams alive.
struct Held {
    is_revoked: bool,
    connection: Connection,
    streams: Vec<Open>,
}

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    let settings = settings("explicit_http_config: { http2_protocol_options: {} }");
    within(settings, report, async |environment, report| ten_thousand(environment, report).await).await
}

async fn ten_thousand(environment: &Environment, report: &mut Report) -> Result<(), StoryError> {
    report.step(format_args!("{BEFORE} certificates of others are revoked"));
    let before = revoke(environment, "before.txt", &batch(BEFORE)).await?;
    report.holds("they are in force", before.0 == BEFORE as usize, format_args!("{} ms", before.1.as_millis()))?;

    report.step(format_args!("{CONNECTIONS} people open {STREAMS} silent streams each"));
    let mut opening = JoinSet::new();
    let mut serials = String::new();
    for number in 0..CONNECTIONS {
        let own = environment.agent.issue(&spiffe(&number.to_string()), "1h").await?;
        let client = environment.client_with(Some(&own), Http2)?;
        let is_revoked = number % REVOKED_EVERY == 0;
        if is_revoked {
            serials.push_str(&format!("serial {}\n", serial_hex(leaf(&own)?.serial())));
        }
        opening.spawn(async move { open_silent(&client, is_revoked).await });
    }
    let mut all = Vec::new();
    while let Some(opened) = opening.join_next().await {
        let opened =
            opened.map_err(|error| StoryError::Claim { claim: "streams open".into(), seen: error.to_string() })?;
        all.push(opened.map_err(|source| StoryError::Request { doing: "open streams".to_owned(), source })?);
    }

    report.step("every tenth of them is revoked, with one command");
    let revoked = STREAMS * CONNECTIONS / REVOKED_EVERY;
    let (over, mut going_on): (Vec<_>, Vec<_>) = all.into_iter().partition(|held| held.is_revoked);
    let mut ends = JoinSet::new();
    let mut connections = Vec::new();
    for held in over {
        connections.push(held.connection);
        for stream in held.streams {
            ends.spawn(async move { timeout(PATIENCE, stream.ended()).await });
        }
    }
    let began = Instant::now();
    let told = revoke(environment, "now.txt", &serials).await?;
    report.holds(
        "the command is answered when the proxy took it",
        told.0 == CONNECTIONS / REVOKED_EVERY,
        format_args!("{} people, {} ms", told.0, told.1.as_millis()),
    )?;
    let mut after = Vec::new();
    while let Some(ended) = ends.join_next().await {
        // Whatever is open after all that time is not counted.
        if let Ok(Ok(instant)) = ended {
            after.push(instant.saturating_duration_since(began));
        }
    }
    after.sort_unstable();
    let at = |share: usize| after.get((after.len().saturating_sub(1)) * share / 100).map_or(0, Duration::as_millis);
    report.saw(format_args!(
        "after the command began, streams ended: the first {} ms, half of them {} ms, the last {} ms",
        at(0),
        at(50),
        at(100)
    ));
    if at(100) > 1000 {
        report.saw("that is more than the second that is promised: is this machine busy?");
    }
    let mut open = 0;
    for stream in going_on.iter_mut().flat_map(|held| &mut held.streams) {
        // Nothing to hear: it goes on.
        open += usize::from(timeout(Duration::ZERO, stream.next()).await.is_err());
    }
    drop(connections);
    let rest = STREAMS * CONNECTIONS - revoked;
    report.holds(
        "exactly those of the revoked end",
        (after.len(), open) == (revoked, rest),
        format_args!("{} ended, {open} open", after.len()),
    )?;
    ended_by(environment, report, "certificate_revoked", revoked).await
}

/// Revokes what a file names; how many that were, and how long the answer took.
async fn revoke(environment: &Environment, name: &str, lines: &str) -> Result<(usize, Duration), StoryError> {
    let file = environment.directory().join(name);
    environment::write(&file, lines)?;
    let began = Instant::now();
    let file = file.display().to_string();
    let told = changed(environment, &["revoke", "--from", &file, "--reason", "stolen", "--timeout", BATCH]).await?;
    match told.taken {
        Some(Taken::By { proxies: 1 }) => Ok((told.changed, began.elapsed())),
        taken => Err(StoryError::Claim { claim: "the proxy took it".to_owned(), seen: format!("{taken:?}") }),
    }
}

async fn open_silent(client: &Client, is_revoked: bool) -> Result<Held, ClientError> {
    let mut connection = client.connect().await?;
    let mut streams = Vec::with_capacity(STREAMS);
    for _ in 0..STREAMS {
        let mut open = connection.open(&Ask::get(endless::SILENT)).await?;
        if open.next().await.is_none() || open.status() != hyper::StatusCode::OK {
            return Err(ClientError::Silent);
        }
        streams.push(open);
    }
    Ok(Held { is_revoked, connection, streams })
}
