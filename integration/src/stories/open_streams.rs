//! `open-streams`: what stays open is judged again. A stream ends with its certificate, with the role that let it in, and
//! with its revocation; those beside it go on.

use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use portcullis_policy::Leaf;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::within;
use crate::environment::Ask;
use crate::environment::Connection;
use crate::environment::Credentials;
use crate::environment::Environment;
use crate::environment::Open;
use crate::environment::Protocol;
use crate::environment::Protocol::Http1;
use crate::environment::Protocol::Http2;
use crate::environment::Settings;
use crate::environment::endless;
use crate::environment::wait;
use crate::report::Report;
use crate::report::StoryError;

/// What is promised is a second; a machine that builds something else at the same time may take longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Somebody without the role.
const GUEST: &str = "spiffe://acme.example/guests/one";

/// Long enough to open every kind of stream, short enough to wait for.
const SHORT_LIVED: &str = "20s";

/// Less than the time between two words, so that only what lies ready is read.
const QUIET: Duration = Duration::from_millis(10);

/// The kinds of streams that outlive a request.
const KINDS: [(&str, Protocol); 4] =
    [("chunked HTTP/1.1", Http1), ("HTTP/2", Http2), ("gRPC", Http2), ("WebSocket", Http1)];

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    // A WebSocket to a service that speaks HTTP/2 takes RFC 8441 there.
    let settings = settings("explicit_http_config: { http_protocol_options: {} }");
    within(settings, report, async |environment, report| each_kind(environment, report).await).await
}

/// A gate for streams, which speaks to the service in this way.
pub(super) fn settings(protocols: &'static str) -> Settings {
    Settings {
        policy: Some(policy(&[], &[])),
        envoy: vec![
            // A route of streams has no end by the clock.
            ("timeout: 15s # Default, written down.", "timeout: 0s"),
            (
                "stream_idle_timeout: 300s",
                "upgrade_configs: [{ upgrade_type: websocket }]\n                stream_idle_timeout: 300s",
            ),
            ("auto_config: {}", protocols),
            // 1,024 by default.
            (
                "connect_timeout: 5s",
                "connect_timeout: 5s\n      circuit_breakers: { thresholds: [{ max_requests: 20000 }] }",
            ),
        ],
        ..Settings::default()
    }
}

/// Whoever has a SPIFFE ID below `/streams` may open streams; but for these, and but for these certificates.
fn policy(without: &[&str], revoked: &[String]) -> String {
    let member = |name: &str| json!({ "spiffe": spiffe(name) });
    let mut rules = vec![json!({ "id": "streams", "allow": ["streamer"], "paths": ["/streams/**"] })];
    let mut roles = json!({ "streamer": [{ "spiffe": "spiffe://acme.example/streams/*" }] });
    if !without.is_empty() {
        roles["out"] = without.iter().map(|name| member(name)).collect();
        rules.push(json!({ "id": "out", "deny": ["out"], "paths": ["/**"] }));
    }
    json!({
        "version": 1,
        "trust_domain": "acme.example",
        "roles": roles,
        "rules": rules,
        "revoked": { "sha256": revoked },
    })
    .to_string()
}

/// The policy with another role.
fn with_guests() -> String {
    let mut document: serde_json::Value = serde_json::from_str(&policy(&[], &[])).unwrap_or_default();
    document["roles"]["guest"] = json!([{ "spiffe": GUEST }]);
    document["rules"][0]["allow"] = json!(["streamer", "guest"]);
    document.to_string()
}

/// Somebody who may open streams.
pub(super) fn spiffe(name: &str) -> String {
    format!("spiffe://acme.example/streams/{name}")
}

/// A stream of somebody, with the connection that it runs over.
struct Stream {
    kind: &'static str,
    _connection: Connection,
    open: Open,
}

async fn each_kind(environment: &Environment, report: &mut Report) -> Result<(), StoryError> {
    report.step("a neighbour opens a stream of each kind, and leaves them open");
    let neighbour = environment.agent.issue(&spiffe("neighbour"), "1h").await?;
    let mut neighbours = open_each(environment, &neighbour).await?;

    report.step(format_args!("somebody with a certificate for {SHORT_LIVED} opens one of each"));
    let short = environment.agent.issue(&spiffe("short"), SHORT_LIVED).await?;
    let streams = open_each(environment, &short).await?;
    let end = leaf(&short)?.not_after().0;
    // Read in this order, so that a pause between them makes an end seem late and never early.
    let from = Instant::now();
    let since = SystemTime::now();
    let left = Duration::from_secs(u64::try_from(end).unwrap_or_default())
        .saturating_sub(since.duration_since(UNIX_EPOCH).unwrap_or_default());
    for (kind, after) in ends(streams, from, PATIENCE + left).await? {
        let late = after.saturating_sub(left);
        told(report, kind, "ends with its certificate", late)?;
        // The second of `notAfter` is part of the certificate's life; what is before it is too early.
        report.holds(
            "and not before",
            after >= left,
            format_args!("{} ms left then", left.saturating_sub(after).as_millis()),
        )?;
    }

    report.step("a policy that lets guests in, for as long as it is in force");
    let guest = environment.agent.issue(GUEST, "1h").await?;
    environment.save_policy(&with_guests())?;
    let probe = environment.client_with(Some(&guest), Http1)?;
    wait::until("guests to be let in", PATIENCE, async || {
        let opened = probe.connect().await.map_err(|error| error.kind())?.open(&Ask::get(endless::SILENT)).await;
        match opened.map(|open| open.status().as_u16()) {
            Ok(200) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let streams = open_each(environment, &guest).await?;
    // The very text that was in force before: the neighbour's streams have kept alive what the proxy made of it.
    environment.save_policy(&policy(&[], &[]))?;
    for (kind, after) in ends(streams, Instant::now(), PATIENCE).await? {
        told(report, kind, "ends when the policy before comes back", after)?;
    }

    report.step("somebody loses the role by an edit of the policy");
    let removed = environment.agent.issue(&spiffe("removed"), "1h").await?;
    let streams = open_each(environment, &removed).await?;
    environment.save_policy(&policy(&["removed"], &[]))?;
    for (kind, after) in ends(streams, Instant::now(), PATIENCE).await? {
        told(report, kind, "ends with the role", after)?;
    }

    report.step("somebody's certificate is revoked");
    let revoked = environment.agent.issue(&spiffe("revoked"), "1h").await?;
    let streams = open_each(environment, &revoked).await?;
    environment.save_policy(&policy(&["removed"], &[sha256(&revoked)?]))?;
    for (kind, after) in ends(streams, Instant::now(), PATIENCE).await? {
        told(report, kind, "ends with the certificate's revocation", after)?;
    }

    report.step("all the while the neighbour");
    for stream in &mut neighbours {
        // What was under way before is no sign of life: all of it is read, and then a new word.
        let alive = timeout(PATIENCE, async {
            while let Ok(word) = timeout(QUIET, stream.open.next()).await {
                if word.is_none() {
                    return false;
                }
            }
            stream.open.next().await.is_some()
        });
        let alive = alive.await.unwrap_or(false);
        report.holds(&format!("keeps the stream over {}", stream.kind), alive, "")?;
    }
    ended_by(environment, report, "certificate_expired", KINDS.len()).await?;
    ended_by(environment, report, "no_rule_matched", KINDS.len()).await?;
    ended_by(environment, report, "deny_rule_matched", KINDS.len()).await?;
    ended_by(environment, report, "certificate_revoked", KINDS.len()).await
}

async fn open_each(environment: &Environment, own: &Credentials) -> Result<Vec<Stream>, StoryError> {
    let mut streams = Vec::new();
    for (kind, protocol) in KINDS {
        let path = format!("{}{}", endless::PREFIX, "one");
        let ask = match kind {
            "gRPC" => {
                Ask::new(hyper::Method::POST, &path).with("content-type", "application/grpc").with("te", "trailers")
            }
            "WebSocket" => Ask::get(&path)
                .with("connection", "upgrade")
                .with("upgrade", "websocket")
                .with("sec-websocket-version", "13")
                .with("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            _ => Ask::get(&path),
        };
        let failed = |source| StoryError::Request { doing: format!("open a stream over {kind}"), source };
        let mut connection = environment.client_with(Some(own), protocol)?.connect().await.map_err(failed)?;
        let mut open = connection.open(&ask).await.map_err(failed)?;
        let status = open.status().as_u16();
        if !matches!(status, 200 | 101) || open.next().await.is_none() {
            let claim = format!("a stream opens over {kind}");
            return Err(StoryError::Claim { claim, seen: status.to_string() });
        }
        streams.push(Stream { kind, _connection: connection, open });
    }
    Ok(streams)
}

/// When each of the streams ends, from now.
async fn ends(
    streams: Vec<Stream>,
    from: Instant,
    within: Duration,
) -> Result<Vec<(&'static str, Duration)>, StoryError> {
    let mut waiting = JoinSet::new();
    for Stream { kind, _connection, open } in streams {
        waiting.spawn(async move {
            let ended = timeout(within, open.ended()).await;
            (kind, ended.map(|instant| instant.saturating_duration_since(from)))
        });
    }
    let mut ends = Vec::new();
    while let Some(ended) = waiting.join_next().await {
        let still = |seen: String| StoryError::Claim { claim: "the stream ends".to_owned(), seen };
        let (kind, ended) = ended.map_err(|error| still(error.to_string()))?;
        ends.push((kind, ended.map_err(|_| still(format!("the one over {kind} is open after {within:?}")))?));
    }
    Ok(ends)
}

fn told(report: &mut Report, kind: &str, how: &str, late: Duration) -> Result<(), StoryError> {
    if late > Duration::from_secs(1) {
        report.saw("that is more than the second that is promised: is this machine busy?");
    }
    report.holds(&format!("the stream over {kind} {how}"), true, format_args!("{} ms later", late.as_millis()))
}

/// Waits until so many streams were ended for a reason, and not one more.
pub(super) async fn ended_by(
    environment: &Environment,
    report: &mut Report,
    reason: &str,
    count: usize,
) -> Result<(), StoryError> {
    let name = format!("wasmcustom.portcullis.ended.{reason}");
    let count = count as u64;
    wait::until("the streams to end", PATIENCE, async || {
        let stats = environment.envoy.stats(&name).await.map_err(|error| error.to_string())?;
        match stats.get(&name) {
            Some(ended) if *ended == count => Ok(()),
            ended => Err(format!("{ended:?} of {count}")),
        }
    })
    .await?;
    report.holds(&format!("`{name}` counts them"), true, count)
}

pub(super) fn leaf(own: &Credentials) -> Result<Leaf, StoryError> {
    let claim = || "the agent issues certificates".to_owned();
    Leaf::from_pem(own.chain_pem.as_bytes())
        .map_err(|error| StoryError::Claim { claim: claim(), seen: error.to_string() })
}

fn sha256(own: &Credentials) -> Result<String, StoryError> {
    Ok(leaf(own)?.sha256().iter().map(|byte| format!("{byte:02x}")).collect())
}
