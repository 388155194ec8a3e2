//! `acme-down`: the CA is gone for a simulated day. The certificate that it issued comes near its end, the fallback takes over
//! while there is margin, and when the CA is back, it is the issuer again. Requests go on all the time.
//!
//! An hour of the story is a second: a certificate of two days is one of 48 seconds, and what the agent computes from
//! lifetimes (renewal, back-off, the fallback's turn) shrinks with it.

use std::time::Duration;
use std::time::Instant;

use portcullis::leaf;
use portcullis::status::CertificateStatus;
use portcullis_policy::UnixTime;
use serde_json::Value;

use super::rotation::carry;
use super::within;
use crate::environment;
use crate::environment::Ask;
use crate::environment::Barrier;
use crate::environment::Client;
use crate::environment::ClientError;
use crate::environment::Environment;
use crate::environment::EnvironmentError;
use crate::environment::Load;
use crate::environment::Pebble;
use crate::environment::PebbleSettings;
use crate::environment::Plan;
use crate::environment::Protocol::Http1;
use crate::environment::Protocol::Http2;
use crate::environment::Settings;
use crate::environment::wait;
use crate::report::Report;
use crate::report::StoryError;

/// Hours, that is seconds, that a certificate of the CA lives.
const LIFETIME: u32 = 48;
/// For so many the CA is gone.
const GONE: Duration = Duration::from_secs(24);
/// So many it asks to stay away for, while it is.
const RETRY_AFTER: Duration = Duration::from_secs(4);
/// Until something happens that has to; an agent that finds nothing to do does it by then.
const PATIENCE: Duration = Duration::from_secs(90);
const NAME: &str = "gateway";
const CLIENT: &str = "spiffe://acme.example/ns/shop/sa/checkout";

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    report.step("an hour of this story is a second; starting Pebble, and a way to it that can be closed");
    let pebble = Pebble::start(&PebbleSettings { lifetime: Some(LIFETIME), ..PebbleSettings::default() }).await?;
    let barrier = Barrier::before(pebble.address(), pebble.ca_pem()).await?;
    let folder = tempfile::tempdir().map_err(|source| EnvironmentError::File {
        doing: "create a directory in",
        path: std::env::temp_dir(),
        source,
    })?;
    let (roots, server_ca) = (folder.path().join("roots.pem"), folder.path().join("server-ca.pem"));
    let root = leaf::pem("CERTIFICATE", &pebble.root(0).await?);
    environment::write(&roots, &root)?;
    environment::write(&server_ca, barrier.ca_pem())?;
    let issuers = format!(
        "issuers:\n  - name: public\n    roots: {roots}\n    acme:\n      directory: https://{address}/dir\n      \
         server_ca: {server_ca}\n      profile: shortlived\n      challenge: {{ http01: \"{http}\" }}\n",
        roots = roots.display(),
        address = barrier.address(),
        server_ca = server_ca.display(),
        http = pebble.http(),
    );
    let shipped = "    spiffe: spiffe://acme.example/gateway\n    dns: [orders.acme.example, localhost]\n    \
                   ip: [127.0.0.1]\n    usage: [server]\n    lifetime: 24h\n";
    let ours = "    issuer: public\n    fallback: { issuer: built-in, below: 0.7 }\n    \
                dns: [orders.acme.example]\n    usage: [server]\n    lifetime: 60s\n    renew_after: 0.45\n";
    let settings = Settings {
        agent_config: vec![("\ncertificates:\n", format!("\n{issuers}\ncertificates:\n")), (shipped, ours.to_owned())],
        ..Settings::default()
    };
    within(settings, report, async |environment, report| outage(environment, report, &pebble, &barrier, &root).await)
        .await
}

async fn outage(
    environment: &mut Environment,
    report: &mut Report,
    pebble: &Pebble,
    barrier: &Barrier,
    root: &str,
) -> Result<(), StoryError> {
    let first = status(environment).await?;
    report.holds("the CA issued what is served", first.issuer == "public" && is_served(&first), shown(&first))?;
    // Whoever asks trusts both.
    let own = environment.agent.issue(CLIENT, "1h").await?;
    let roots = format!("{}{root}", own.ca_pem);
    let client = |protocol| Client::new(environment.gate, &roots, Some(&own), protocol);
    let plan = Plan { kept: 2, fresh: 2, every: Duration::from_millis(50), ask: Ask::get("/orders/42") };
    let load = Load::start(&[client(Http1)?, client(Http2)?], &plan);
    carry(&load).await?;

    // Pebble's own idea of when to renew leaves a lifetime of seconds no room.
    report.step("the CA wants it renewed in some hours (ARI), and goes before that");
    let now = jiff::Timestamp::now().as_second();
    let [start, end] = [now + 8, now + 10].map(|at| leaf::timestamp(UnixTime(at)));
    let window = format!(r#"{{"suggestedWindow":{{"start":"{start}","end":"{end}"}}}}"#);
    let served = client(Http1)?.leaf().await.map_err(|error| StoryError::from(seen(&error)))?;
    pebble.set_renewal_info(&leaf::pem("CERTIFICATE", &served), &window).await?;
    environment.agent.stop().await?;
    environment.agent.start().await?;
    let planned = wait::until("the new plan", PATIENCE, async || {
        let now = status(environment).await.map_err(|error| error.to_string())?;
        let at = now.renew_at.map_or(0, |at| at.as_second());
        if (start.as_second()..=end.as_second()).contains(&at) { Ok(now) } else { Err(shown(&now)) }
    })
    .await?;
    report.holds("the agent plans for that", true, shown(&planned))?;

    report.step(format_args!("the calendar run ahead, with the CA gone for {} s", GONE.as_secs()));
    let foretold = environment.agent.run(&["simulate", NAME, "--for", "24s", "-o", "json"]).await?;
    let foretold: Value = serde_json::from_str(&foretold).unwrap_or_default();
    let served_by_both = ["built-in", "public"].iter().all(|issuer| {
        let moments = foretold["moments"].as_array().into_iter().flatten();
        moments.into_iter().any(|moment| moment["issuer"] == *issuer && moment["event"] == "served")
    });
    let margin = format!("{} s left at the least", foretold["margin_seconds"]);
    report.holds("it foretells the fallback, and no end", served_by_both && foretold["ends_at"].is_null(), margin)?;

    let began = Instant::now();
    barrier.close(RETRY_AFTER);
    let orders = pebble.orders();
    report.step(format_args!("the CA is gone: 503, and a wish to be left alone for {} h", RETRY_AFTER.as_secs()));
    let mut least = i64::MAX;
    let second = wait::until("the fallback's certificate", PATIENCE, async || {
        let now = status(environment).await.map_err(|error| error.to_string())?;
        if now.issuer == "public" {
            least = least.min(left(&now));
        }
        if now.issuer == "built-in" && is_served(&now) { Ok(now) } else { Err(shown(&now)) }
    })
    .await?;
    report.holds(
        "the fallback issued, and is served",
        second.is_fallback && is_served(&second),
        format_args!(
            "{:.0} h after the CA went, {least} h before the end of {LIFETIME}",
            began.elapsed().as_secs_f32()
        ),
    )?;
    report.holds(
        "while there was margin left",
        least > i64::from(LIFETIME) / 20 && least <= i64::from(LIFETIME) * 7 / 10,
        format_args!("{least} h"),
    )?;
    wait::until("the end of the day", PATIENCE, async || match GONE.checked_sub(began.elapsed()) {
        Some(left) if !left.is_zero() => Err(format!("{} h are left", left.as_secs())),
        _ => Ok(()),
    })
    .await?;
    let attempts = barrier.refused();
    // Each attempt asks for the directory, and no more; one a wish, and two for the draws of the back-off.
    let most = (GONE.as_secs() / RETRY_AFTER.as_secs()) as usize + 2;
    let at = attempts.iter().map(|at| format!("{:.1}", at.duration_since(began).as_secs_f32()));
    let at = at.collect::<Vec<_>>().join(", ");
    report.holds(
        "its wish was heeded, and nobody stormed it",
        !attempts.is_empty() && attempts.len() <= most,
        format_args!("{} requests in {} h, {most} at most, at {at} h", attempts.len(), GONE.as_secs()),
    )?;
    report.holds("it got no orders", pebble.orders() == orders, pebble.orders() - orders)?;

    report.step(format_args!("after {} h the CA is back", GONE.as_secs()));
    barrier.open();
    let third = wait::until("the CA's next certificate", PATIENCE, async || {
        let now = status(environment).await.map_err(|error| error.to_string())?;
        if now.issuer == "public" && is_served(&now) { Ok(now) } else { Err(shown(&now)) }
    })
    .await?;
    let back = !third.is_fallback && third.failures == 0;
    report.holds(
        "it issues again, asked by nobody but the agent, and its certificate is served",
        back,
        shown(&third),
    )?;
    carry(&load).await?;
    let tally = load.stop().await;
    report.holds("no request failed", tally.failures() == 0, &tally)?;

    let history = environment.agent.run(&["history", NAME, "-o", "json"]).await?;
    let history: Value = serde_json::from_str(&history).unwrap_or_default();
    let issued = history
        .as_array()
        .map_or(0, |events| events.iter().filter(|event| event["event"] == "certificate_issued").count());
    let alarms = history.as_array().map_or(0, |events| events.iter().filter(|event| event["event"] == "alarm").count());
    report.holds(
        "the history tells of it",
        issued >= 3 && alarms >= 1,
        format_args!("{issued} issued, {alarms} alarms"),
    )?;
    let audit = environment.agent.run(&["audit", "verify"]).await?;
    report.holds("the audit log is whole", audit.contains("whole"), audit.trim())
}

fn seen(error: &ClientError) -> EnvironmentError {
    EnvironmentError::Refused { what: "a handshake".to_owned(), words: error.kind() }
}

async fn status(environment: &Environment) -> Result<CertificateStatus, EnvironmentError> {
    let status = environment.agent.status().await?;
    let found = status.certificates.into_iter().find(|certificate| certificate.name == NAME);
    found.ok_or_else(|| EnvironmentError::Refused { what: "the status".to_owned(), words: format!("no `{NAME}`") })
}

fn is_served(status: &CertificateStatus) -> bool {
    !status.served.is_empty() && status.served.iter().all(|served| served.current)
}

/// Seconds until the end of what is stored.
fn left(status: &CertificateStatus) -> i64 {
    let now = jiff::Timestamp::now().as_second();
    status.stored.as_ref().map_or(0, |stored| stored.not_after.as_second() - now)
}

fn shown(status: &CertificateStatus) -> String {
    let error = status.last_error.as_deref().map_or_else(String::new, |error| format!(", {error}"));
    format!("{}, of {}, {} h left{error}", status.state, status.issuer, left(status))
}
