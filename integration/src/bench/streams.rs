//! What open streams cost: Envoy's processor time while they lie idle, and while all of them are judged again.
//!
//! Requests whose bodies never end, over a few HTTP/2 connections: Envoy's buffer filter keeps them from the router, so no
//! service behind it adds noise. The policy comes by ECDS from a file, and is replaced as an edit replaces it.

use std::convert::Infallible;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use hyper::Request;
use hyper::body::Body;
use hyper::body::Frame;
use hyper::client::conn::http2;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use serde_json::json;
use tokio::task::JoinSet;

use super::BenchError;
use super::CORES;
use super::config;
use super::numbers::Spread;
use super::numbers::thousands;
use super::variant;
use crate::environment;
use crate::environment::Client;
use crate::environment::Credentials;
use crate::environment::EnvironmentError;
use crate::environment::Envoy;
use crate::environment::EnvoyCommand;
use crate::environment::Protocol;
use crate::environment::chain;
use crate::environment::client::HOST_NAME;
use crate::environment::programs;
use crate::environment::standalone;
use crate::environment::wait;

/// How many streams are open, row by row.
const COUNTS: [usize; 4] = [0, 1_000, 10_000, 50_000];
/// Streams of one connection.
const STREAMS: usize = 1_000;

/// Between two looks of the filter.
const TICK: Duration = Duration::from_millis(100);
/// One measurement of what lies idle, and how many there are.
const IDLE: Duration = Duration::from_secs(2);
const IDLES: usize = 5;
/// Longer than it takes to judge all: eight thousand at a tick.
const JUDGING: Duration = Duration::from_secs(4);
/// Longer than anything takes that is not broken.
const PATIENCE: Duration = Duration::from_secs(120);

/// Measures, and writes a table of its own. `directory` holds the certificates.
pub(super) async fn measure(
    directory: &Path,
    own: &Credentials,
    out: &mut dyn Write,
    progress: &mut dyn Write,
) -> Result<(), BenchError> {
    let [address, admin] = [environment::free_port()?, environment::free_port()?];
    push(directory, 0)?;
    let file = directory.join("streams.json");
    environment::write(&file, &bootstrap(directory, address, admin).to_string())?;
    let mut envoy = Envoy::start(&EnvoyCommand {
        program: programs::envoy()?,
        config: file,
        beside: None,
        admin,
        log: directory.join("streams.log"),
        concurrency: 1,
        core: Some(CORES[0]),
        base_id: None,
    })?;
    envoy.ready().await?;
    let client = Client::new(address, &own.ca_pem, Some(own), Protocol::Http2)?;
    let clock = envoy.process().cpu_clock();
    let (mut senders, mut open) = (Vec::new(), JoinSet::new());
    let mut pushes = 0;
    let mut push_alone = None;
    writeln!(out, "| open streams | µs of Envoy's CPU a tick | a push, ms of CPU | of it to judge one stream, µs |")?;
    writeln!(out, "|--:|--:|--:|--:|")?;
    for count in COUNTS {
        while open.len() < count {
            senders.push(connect(&client, &mut open).await?);
        }
        counted(&envoy, "portcullis.requests.allowed", count as u64).await?;
        writeln!(progress, "{count} streams are open")?;
        tokio::time::sleep(IDLE).await;
        let mut idle = Vec::with_capacity(IDLES);
        for _ in 0..IDLES {
            let before = clock.now();
            tokio::time::sleep(IDLE).await;
            idle.push(clock.now().saturating_sub(before).as_secs_f64() * 1e6 * TICK.as_secs_f64() / IDLE.as_secs_f64());
        }
        let idle = Spread::of(idle).ok_or_else(|| BenchError::Driver("nothing was measured".to_owned()))?;

        let before = clock.now();
        pushes += 1;
        push(directory, pushes)?;
        tokio::time::sleep(JUDGING).await;
        let used = clock.now().saturating_sub(before).as_secs_f64() * 1e3;
        let meanwhile = idle.median * 1e-3 * JUDGING.as_secs_f64() / TICK.as_secs_f64();
        let push = used - meanwhile;
        let alone = *push_alone.get_or_insert(push);
        let each = if count == 0 { String::new() } else { format!("{:.1}", (push - alone) * 1e3 / count as f64) };
        writeln!(out, "| {} | {} | {push:.0} | {each} |", thousands(count), idle.show(1))?;
        let ended = envoy.stats("portcullis.streams.ended").await?;
        if ended.values().any(|count| *count > 0) || open.try_join_next().is_some() {
            return Err(BenchError::Driver("a stream ended".to_owned()));
        }
    }
    Ok(())
}

/// A connection with its streams, for as long as what it returns is kept.
async fn connect(client: &Client, open: &mut JoinSet<()>) -> Result<http2::SendRequest<Endless>, BenchError> {
    let broken = |error: &dyn std::error::Error| BenchError::Driver(chain(error));
    let tls = client.connect_tls().await.map_err(|error| broken(&error))?;
    let handshake = http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(tls));
    let (mut sender, connection) = handshake.await.map_err(|error| broken(&error))?;
    tokio::spawn(connection);
    for _ in 0..STREAMS {
        sender.ready().await.map_err(|error| broken(&error))?;
        let request = Request::get(format!("https://{HOST_NAME}/service-0/orders/42")).body(Endless);
        let request = request.map_err(|error| broken(&error))?;
        let answer = sender.send_request(request);
        // There is none as long as the stream is open.
        open.spawn(async move { drop(answer.await) });
    }
    Ok(sender)
}

/// A body that does not come.
struct Endless;

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

/// Waits until the filter has counted so many.
async fn counted(envoy: &Envoy, name: &str, count: u64) -> Result<(), EnvironmentError> {
    wait::until("the streams to open", PATIENCE, async || {
        let stats = envoy.stats(name).await.map_err(|error| error.to_string())?;
        match stats.values().next() {
            Some(seen) if *seen == count => Ok(()),
            None if count == 0 => Ok(()),
            seen => Err(format!("{seen:?} of {count}")),
        }
    })
    .await
}

/// Where Envoy reads filter and policy.
const FILTER_FILE: &str = "filter.json";

/// Replaces the policy by the next one, which says the same of everybody: it has one more role that nobody uses.
fn push(directory: &Path, number: u32) -> Result<(), BenchError> {
    let mut policy: Value = serde_json::from_str(&variant::policy(1)).expect("it is written as JSON");
    policy["roles"][format!("push-{number}")] = json!([{ "dns": "nobody.example" }]);
    let filter = standalone::filter(&policy.to_string())?;
    let response = json!({
        "version_info": number.to_string(),
        "resources": [{
            "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            "name": "portcullis",
            "typed_config": filter["typed_config"]
        }]
    });
    let (draft, file) = (directory.join("filter.new"), directory.join(FILTER_FILE));
    environment::write(&draft, &response.to_string())?;
    fs::rename(&draft, &file).map_err(BenchError::Write)
}

/// The benchmark's Envoy for HTTP/2, with the filter by ECDS and nothing behind it that answers.
fn bootstrap(directory: &Path, listener: std::net::SocketAddr, admin: std::net::SocketAddr) -> Value {
    let filter = json!({
        "name": "portcullis",
        "config_discovery": {
            "config_source": {
                "resource_api_version": "V3",
                "path_config_source": { "path": directory.join(FILTER_FILE) }
            },
            "type_urls": ["type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"]
        }
    });
    let buffer = json!({
        "name": "buffer",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer",
            "max_request_bytes": 1024
        }
    });
    let mut config = config::bootstrap(directory, listener, admin, Some(filter), None);
    // Envoy takes nothing by xDS without a name.
    config["node"] = json!({ "id": "bench", "cluster": "bench" });
    let chain = &mut config["static_resources"]["listeners"][0]["filter_chains"][0];
    chain["transport_socket"]["typed_config"]["common_tls_context"]["alpn_protocols"] = json!(["h2"]);
    let manager = &mut chain["filters"][0]["typed_config"];
    manager["http2_protocol_options"] = json!({ "max_concurrent_streams": STREAMS });
    manager["stream_idle_timeout"] = json!("0s");
    if let Some(filters) = manager["http_filters"].as_array_mut() {
        filters.insert(1, buffer);
    }
    config
}
