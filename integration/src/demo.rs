//! The main job, to watch: agent, Envoy and a service behind it, certificates that live a minute, and clients of every
//! kind. Ends at Ctrl-C, or after one rotation of every certificate, and leaves nothing behind.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io;
use std::io::IsTerminal as _;
use std::io::Write as _;
use std::time::Duration;
use std::time::Instant;

use comfy_table::Cell;
use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use hyper::Method;
use jiff::Timestamp;
use portcullis::status::Status;

use crate::certificates::Authority;
use crate::environment::Ask;
use crate::environment::Client;
use crate::environment::Credentials;
use crate::environment::Environment;
use crate::environment::EnvironmentError;
use crate::environment::Load;
use crate::environment::Plan;
use crate::environment::Protocol::Http1;
use crate::environment::Protocol::Http2;
use crate::environment::Settings;
use crate::environment::Tally;
use crate::environment::client::HOST_NAME;
use crate::environment::wait;
use crate::environment::write;
use crate::report::StoryError;
use crate::stories::CHECKOUT;
use crate::stories::REPORTING;
use crate::stories::seconds_left;

/// Lifetime of the demo's certificates.
const LIFETIME: &str = "60s";
/// Two thirds of that, and patience.
const ROTATION: Duration = Duration::from_secs(150);
/// How often the status line is drawn.
const BEAT: Duration = Duration::from_millis(500);
/// How often it is printed where it cannot be drawn over.
const PIPE_BEAT: Duration = Duration::from_secs(10);

/// When the demo ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// When somebody ends it.
    Interrupted,
    /// When every certificate has been replaced and proven served once.
    Rotated,
}

/// Runs the demo.
///
/// # Errors
///
/// [`StoryError`], if what clients saw or the rotation is not what it should be.
pub async fn run(until: Until) -> Result<(), StoryError> {
    say("starting: the agent with its own CA, Envoy with the filter, a service behind it; all mTLS");
    say("          (Envoy compiles the filter first, which takes some seconds)");
    let began = Instant::now();
    let settings = Settings { lifetime: Some(LIFETIME), ..Settings::default() };
    let environment = Environment::start(&settings).await?;
    say(format_args!(
        "ready after {:.1} s: certificates of {LIFETIME}, each proven served\n",
        began.elapsed().as_secs_f32()
    ));

    let clients = [environment.client(CHECKOUT, Http1).await?, environment.client(REPORTING, Http2).await?];
    visitors(&environment, &clients).await?;
    how_to_join_in(&environment).await?;

    let plan = Plan { kept: 2, fresh: 2, every: Duration::from_millis(100), ask: Ask::get("/orders/42") };
    let load = Load::start(&clients, &plan);
    let outcome = watch(&environment, &load, until).await;
    let tally = load.stop().await;
    if outcome.is_err() {
        say(environment.last_words());
    }
    outcome?;
    if until == Until::Rotated {
        claim("no request failed meanwhile", tally.failures() == 0, &tally)?;
        let audit = environment.agent.run(&["audit", "verify"]).await?;
        claim("the audit log verifies", true, audit.trim())?;
    }
    Ok(())
}

/// Lets clients of every kind ask, and shows what each one saw.
async fn visitors(environment: &Environment, clients: &[Client; 2]) -> Result<(), StoryError> {
    let [checkout, reporting] = clients;
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_header(["who", "asks for", "sees", ""]);
    let mut all_good = true;
    let mut row = |who: &str, what: &str, seen: String, expected: &str| {
        let good = seen == expected;
        all_good &= good;
        let mark = if good { "✓".to_owned() } else { format!("✗ expected {expected}") };
        table.add_row([Cell::new(who), Cell::new(what), Cell::new(seen), Cell::new(mark)]);
    };

    let write = Ask::new(Method::POST, "/orders");
    row("checkout, HTTP/1.1", "GET /orders/42", answer(checkout, &Ask::get("/orders/42")).await, "200");
    row("checkout", "POST /orders", answer(checkout, &write).await, "200");
    row("reporting, HTTP/2", "GET /orders/42", answer(reporting, &Ask::get("/orders/42")).await, "200");
    row("reporting", "POST /orders", answer(reporting, &write).await, "403 no_rule_matched");
    row("checkout", "GET /debug/vars", answer(checkout, &Ask::get("/debug/vars")).await, "403 deny_rule_matched");
    row("checkout", "GET /orders//42", answer(checkout, &Ask::get("/orders//42")).await, "400 path_empty_segment");

    let nobody = environment.client_with(None, Http1)?;
    row("nobody: no certificate", "a handshake", handshake(&nobody).await, "refused: CertificateRequired");
    let authority = Authority::new("somebody else's");
    let leaf = authority.leaf().uri(CHECKOUT).issue();
    let own = Credentials { chain_pem: leaf.pem(), key_pem: leaf.key_pem().to_owned(), ca_pem: authority.pem() };
    let stranger = environment.client_with(Some(&own), Http1)?;
    row("checkout of another CA", "a handshake", handshake(&stranger).await, "refused: UnknownCA");

    // One certificate that ends soon, shown twice: on a connection that stays open, and to a new one.
    let own = environment.agent.issue(CHECKOUT, "3s").await?;
    let late = environment.client_with(Some(&own), Http1)?;
    let opening = |source| StoryError::Request { doing: "cannot open a connection".to_owned(), source };
    let mut connection = late.connect().await.map_err(opening)?;
    let first = connection.ask(&Ask::get("/orders/42")).await.map_err(opening)?;
    row("checkout, 3 s before its end", "GET /orders/42", first.status.as_u16().to_string(), "200");
    wait::until("a certificate of three seconds to expire", Duration::from_secs(15), async || {
        let left = seconds_left(&own);
        if left < 0 { Ok(()) } else { Err(format!("{left} s left")) }
    })
    .await?;
    let then = connection.ask(&Ask::get("/orders/42")).await.map_err(opening)?;
    let seen = format!("{} {}", then.status.as_u16(), then.code());
    row("the same connection, expired", "GET /orders/42", seen, "401 certificate_expired");
    row("checkout, expired", "a handshake", handshake(&late).await, "refused: CertificateExpired");

    say(format_args!("{table}\n"));
    claim("clients saw what they should", all_good, "the table above")
}

async fn answer(client: &Client, ask: &Ask) -> String {
    match client.ask(ask).await {
        Ok(answer) => format!("{} {}", answer.status.as_u16(), answer.code()).trim().to_owned(),
        Err(error) => error.kind(),
    }
}

async fn handshake(client: &Client) -> String {
    match client.refusal().await {
        Ok(Some(alert)) => format!("refused: {alert:?}"),
        Ok(None) => "accepted".to_owned(),
        Err(error) => error.kind(),
    }
}

/// Leaves a client certificate in the demo's directory, and says what can be tried with it.
async fn how_to_join_in(environment: &Environment) -> Result<(), EnvironmentError> {
    let own = environment.agent.issue(CHECKOUT, "1h").await?;
    let directory = environment.directory();
    write(&directory.join("client.crt"), &own.chain_pem)?;
    write(&directory.join("client.key"), &own.key_pem)?;
    write(&directory.join("ca.crt"), &own.ca_pem)?;
    let port = environment.gate.port();
    let at = directory.display();
    say("join in from another terminal:");
    say(format_args!(
        "  curl --cacert {at}/ca.crt --cert {at}/client.crt --key {at}/client.key \\\n       --connect-to {HOST_NAME}:{port}:127.0.0.1:{port} https://{HOST_NAME}:{port}/orders/42"
    ));
    say(format_args!("  dist/portcullis --config {} status", environment.agent.config().display()));
    say(format_args!("  $EDITOR {}\n", environment.policy().display()));
    Ok(())
}

/// Draws the status line until it is time to end.
async fn watch(environment: &Environment, load: &Load, until: Until) -> Result<(), StoryError> {
    let terminal = io::stdout().is_terminal();
    let first = environment.agent.status().await?;
    let began = Instant::now();
    let mut printed: Option<(Instant, BTreeMap<String, u64>)> = None;
    loop {
        let status = match environment.agent.status().await {
            Ok(status) => status,
            // Ctrl-C reached the agent first.
            Err(error) => return if until == Until::Interrupted { Ok(()) } else { Err(error.into()) },
        };
        let tally = load.tally();
        let rotations = rotations(&status);
        let line = status_line(&status, &tally);
        if terminal {
            draw(&line);
        } else if printed.as_ref().is_none_or(|(at, before)| at.elapsed() >= PIPE_BEAT || *before != rotations) {
            say(line);
            printed = Some((Instant::now(), rotations.clone()));
        }
        if until == Until::Rotated {
            let before = self::rotations(&first);
            let done = rotations.iter().all(|(name, count)| count > before.get(name).unwrap_or(&0));
            if done && status.ready {
                if terminal {
                    say("");
                }
                return rotated(&first, &status);
            }
            if began.elapsed() > ROTATION {
                let what = "every certificate to be replaced and proven served".to_owned();
                let last = format!("{rotations:?}; {}", status.reasons.join("; "));
                return Err(EnvironmentError::TimedOut { what, within: ROTATION, last }.into());
            }
        }
        tokio::time::sleep(BEAT).await;
    }
}

/// Every certificate is another one, and each that has a listener was seen there.
fn rotated(first: &Status, last: &Status) -> Result<(), StoryError> {
    for (before, after) in first.certificates.iter().zip(&last.certificates) {
        let old = before.stored.as_ref().map(|leaf| leaf.serial.as_str()).unwrap_or_default();
        let new = after.stored.as_ref().map(|leaf| leaf.serial.as_str()).unwrap_or_default();
        let proof = match after.issued_to_served_ms {
            Some(milliseconds) => format!("served {milliseconds} ms after it was issued"),
            None => "in use".to_owned(),
        };
        let served = after.served.iter().all(|served| served.current);
        let seen = format!("serial {} → {}, {proof}", short(old), short(new));
        claim(&format!("`{}` was replaced and is served", after.name), old != new && served, seen)?;
    }
    Ok(())
}

fn rotations(status: &Status) -> BTreeMap<String, u64> {
    status.certificates.iter().map(|certificate| (certificate.name.clone(), certificate.rotations)).collect()
}

fn status_line(status: &Status, tally: &Tally) -> String {
    let now = Timestamp::now();
    let mut parts = vec![if status.ready { "ready".to_owned() } else { "not ready".to_owned() }];
    for certificate in status.certificates.iter().filter(|certificate| certificate.name == "gateway") {
        let Some(leaf) = &certificate.stored else { continue };
        let left = leaf.not_after.as_second() - now.as_second();
        parts.push(format!("gateway {} ends in {left:>2} s", short(&leaf.serial)));
        if let Some(next) = certificate.next_attempt {
            parts.push(format!("next in {:>2} s", (next.as_second() - now.as_second()).max(0)));
        }
        parts.push(format!("{} rotations", certificate.rotations));
        // The first one had to wait for Envoy to start.
        if let Some(milliseconds) = certificate.issued_to_served_ms.filter(|_| certificate.rotations > 1) {
            parts.push(format!("last served after {milliseconds} ms"));
        }
    }
    parts.push(format!("{} requests, {} failed", tally.succeeded() + tally.failures(), tally.failures()));
    if let Some(error) = &status.policy.error {
        parts.push(format!("policy refused: {error}"));
    }
    parts.join(" · ")
}

fn short(serial: &str) -> &str {
    serial.get(..8).unwrap_or(serial)
}

fn claim(what: &str, holds: bool, seen: impl Display) -> Result<(), StoryError> {
    if holds {
        say(format_args!("✓ {what}: {seen}"));
        return Ok(());
    }
    say(format_args!("✗ {what}: {seen}"));
    Err(StoryError::Claim { claim: what.to_owned(), seen: seen.to_string() })
}

/// Prints a line. Whoever closed the pipe does not want to know.
fn say(line: impl Display) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// Draws over the last line.
fn draw(line: &str) {
    let mut out = io::stdout().lock();
    let _ = write!(out, "\r\x1b[2K{line}");
    let _ = out.flush();
}
