//! `drain`: a policy that says so tells clients that their certificate is about to end. One that listens comes back with its
//! new certificate, over HTTP/1.1 and HTTP/2, and sees no failed request; nobody else notices.

use std::time::Duration;

use hyper::StatusCode;
use portcullis_policy::Leaf;

use super::CHECKOUT;
use super::seconds_left;
use super::within;
use crate::environment::Answer;
use crate::environment::Ask;
use crate::environment::Client;
use crate::environment::Connection;
use crate::environment::Credentials;
use crate::environment::Environment;
use crate::environment::Protocol;
use crate::environment::Protocol::Http1;
use crate::environment::Protocol::Http2;
use crate::environment::Settings;
use crate::environment::shipped;
use crate::environment::wait;
use crate::report::Report;
use crate::report::StoryError;

const EXPIRES: &str = "x-portcullis-certificate-expires";

/// Longer than an edit takes to be in force, and than a connection takes to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// A certificate that is in use until its end, and the time before the end from which on its holder is told.
const SHORT_LIVED: &str = "20s";
const BEFORE: &str = "10s";

/// Between two requests of somebody who asks all the time.
const PAUSE: Duration = Duration::from_millis(20);

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    // What is in the shipped file for this, and commented out.
    let settings = Settings { envoy: vec![("#~ ", "")], ..Settings::default() };
    within(settings, report, async |environment, report| {
        told_or_not(environment, report).await?;
        through_the_end(environment, report).await
    })
    .await
}

async fn told_or_not(environment: &Environment, report: &mut Report) -> Result<(), StoryError> {
    report.step("somebody whose certificate lives for ten minutes more, and a policy without `drain`");
    let short = environment.agent.issue(CHECKOUT, "10m").await?;
    let long = environment.agent.issue(CHECKOUT, "1h").await?;
    for protocol in [Http1, Http2] {
        let mut connection = connect(environment, &short, protocol).await?;
        let answer = ask(&mut connection).await?;
        let is_silent = !answer.headers.contains_key(EXPIRES) && !answer.headers.contains_key("connection");
        report.holds(&format!("is told nothing over {protocol}"), is_silent, format_args!("{:?}", answer.headers))?;
        ask(&mut connection).await?;
        report.holds("and keeps the connection", !connection.is_closed(), "")?;
    }
    warned(environment, report, 0).await?;

    report.step("the same with `drain: { before: 15m }`");
    environment.save_policy(&draining("15m")?)?;
    in_force(environment, &short, true).await?;
    for protocol in [Http1, Http2] {
        let mut connection = connect(environment, &short, protocol).await?;
        let answer = ask(&mut connection).await?;
        let told = answer.headers.get(EXPIRES).and_then(|value| value.to_str().ok()).unwrap_or_default();
        report.holds(&format!("is told over {protocol} when it ends"), told == end(&short)?, told)?;
        if protocol == Http1 {
            let closes = answer.headers.get("connection").is_some_and(|value| value == "close");
            report.holds("and that the connection does (`connection: close`)", closes, "")?;
        }
        wait::until("the connection to end", PATIENCE, async || {
            if connection.is_closed() { Ok(()) } else { Err("it is open".to_owned()) }
        })
        .await?;
        report.holds("and it does", true, "")?;
        let mut other = connect(environment, &long, protocol).await?;
        let answer = ask(&mut other).await?;
        ask(&mut other).await?;
        let is_silent = !answer.headers.contains_key(EXPIRES) && !other.is_closed();
        report.holds("a certificate for an hour is not spoken of", is_silent, "")?;
    }
    Ok(())
}

/// Clients that ask without a break from before their certificate's end until after it.
async fn through_the_end(environment: &Environment, report: &mut Report) -> Result<(), StoryError> {
    report.step(format_args!("certificates for {SHORT_LIVED}, and `drain: {{ before: {BEFORE} }}`"));
    let probe = environment.agent.issue(CHECKOUT, "10m").await?;
    environment.save_policy(&draining(BEFORE)?)?;
    in_force(environment, &probe, false).await?;
    let first = environment.agent.issue(CHECKOUT, SHORT_LIVED).await?;
    let (over_1, over_2) =
        tokio::join!(ask_through(environment, &first, Http1), ask_through(environment, &first, Http2));
    for (protocol, asked) in [(Http1, over_1?), (Http2, over_2?)] {
        report.holds(
            &format!("a client that listens sees no failed request over {protocol}"),
            asked.count > 0 && asked.told_with.is_some(),
            format_args!("{} requests, told {} s before the end", asked.count, asked.told_with.unwrap_or_default()),
        )?;
    }
    let late = environment.client_with(Some(&first), Http1)?.ask(&Ask::get("/orders/42")).await;
    let refused = late.as_ref().map_or(true, |answer| answer.status != StatusCode::OK);
    report.holds("one that did not is refused by now", refused, "")
}

/// What somebody saw who asked all the time. One failed request would have been an error.
struct Asked {
    count: u64,
    /// Seconds that were left when they were told.
    told_with: Option<i64>,
}

async fn ask_through(environment: &Environment, first: &Credentials, protocol: Protocol) -> Result<Asked, StoryError> {
    let mut connection = connect(environment, first, protocol).await?;
    let mut asked = Asked { count: 0, told_with: None };
    while seconds_left(first) > -2 {
        let answer = ask(&mut connection).await?;
        asked.count += 1;
        if answer.headers.contains_key(EXPIRES) {
            asked.told_with = Some(seconds_left(first));
            let second = environment.agent.issue(CHECKOUT, "1h").await?;
            connection = connect(environment, &second, protocol).await?;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(asked)
}

/// The shipped policy with `drain`.
fn draining(before: &str) -> Result<String, StoryError> {
    Ok(format!("{}\ndrain: {{ before: {before} }}\n", shipped("policy.yaml")?))
}

/// Waits until the holder of a certificate is told, or is not told any more.
async fn in_force(environment: &Environment, own: &Credentials, is_told: bool) -> Result<(), StoryError> {
    let client = environment.client_with(Some(own), Http1)?;
    wait::until("the edit to be in force", PATIENCE, async || {
        // Each worker takes the edit up by itself, and which one a connection comes to is chance.
        for _ in 0..16 {
            let answer = client.ask(&Ask::get("/orders/42")).await.map_err(|error| error.kind())?;
            if answer.headers.contains_key(EXPIRES) != is_told {
                return Err(format!("{:?}", answer.headers));
            }
        }
        Ok(())
    })
    .await?;
    Ok(())
}

async fn connect(environment: &Environment, own: &Credentials, protocol: Protocol) -> Result<Connection, StoryError> {
    let client: Client = environment.client_with(Some(own), protocol)?;
    client.connect().await.map_err(|source| StoryError::Request { doing: format!("connect over {protocol}"), source })
}

async fn ask(connection: &mut Connection) -> Result<Answer, StoryError> {
    let answer = connection.ask(&Ask::get("/orders/42")).await;
    let answer = answer.map_err(|source| StoryError::Request { doing: "ask".to_owned(), source })?;
    if answer.status == StatusCode::OK {
        return Ok(answer);
    }
    Err(StoryError::Claim {
        claim: "no request fails".to_owned(),
        seen: format!("{} {}", answer.status, answer.code()),
    })
}

async fn warned(environment: &Environment, report: &mut Report, count: u64) -> Result<(), StoryError> {
    let name = "wasmcustom.portcullis.drain.warned";
    let stats = environment.envoy.stats(name).await?;
    report.holds(&format!("`{name}` counts {count}"), stats.get(name) == Some(&count), format_args!("{stats:?}"))
}

/// When a certificate ends, as a header says it.
fn end(own: &Credentials) -> Result<String, StoryError> {
    let unreadable = |seen: String| StoryError::Claim { claim: "the agent issues certificates".to_owned(), seen };
    let leaf = Leaf::from_pem(own.chain_pem.as_bytes()).map_err(|error| unreadable(error.to_string()))?;
    let end = jiff::Timestamp::from_second(leaf.not_after().0).map_err(|error| unreadable(error.to_string()))?;
    let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
    printer.timestamp_to_rfc9110_string(&end).map_err(|error| unreadable(error.to_string()))
}
