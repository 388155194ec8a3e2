//! `clock-step`: somebody sets the clock of agent and Envoy, ahead and back, under open streams and new requests. What has
//! ended by the clock is refused, who is revoked stays out, and nothing is issued anew.

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use super::within;
use crate::environment;
use crate::environment::Ask;
use crate::environment::Connection;
use crate::environment::Credentials;
use crate::environment::Environment;
use crate::environment::Open;
use crate::environment::Protocol::Http2;
use crate::environment::Settings;
use crate::environment::SteppedClock;
use crate::environment::endless;
use crate::environment::wait;
use crate::report::Report;
use crate::report::StoryError;

const HOUR: i64 = 3_600;

/// A tenth of a second is promised; a machine that builds something else at the same time may take longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What has not ended by then goes on: ten looks of the filter.
const QUIET: Duration = Duration::from_secs(1);

const REVOKED: &str = "401 certificate_revoked";

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    let clock = SteppedClock::new()?;
    let policy = json!({
        "version": 1,
        "trust_domain": "acme.example",
        "roles": { "anyone": [{ "spiffe": "spiffe://acme.example/clock/*" }] },
        "rules": [{ "id": "all", "allow": ["anyone"], "paths": ["/**"] }],
    });
    let settings = Settings {
        policy: Some(policy.to_string()),
        // A route of streams has no end by the clock.
        envoy: vec![("timeout: 15s # Default, written down.", "timeout: 0s")],
        clock: Some(clock.clone()),
        ..Settings::default()
    };
    within(settings, report, async |environment, report| step(environment, &clock, report).await).await
}

/// Somebody with a certificate and a stream that is open.
struct Somebody {
    name: &'static str,
    own: Credentials,
    connection: Connection,
    stream: Open,
}

async fn step(environment: &Environment, clock: &SteppedClock, report: &mut Report) -> Result<(), StoryError> {
    report.step("people open streams, and one of them is revoked");
    let mut long = Somebody::new(environment, "long", "24h").await?;
    let short = Somebody::new(environment, "short", "30m").await?;
    let gone = Somebody::new(environment, "gone", "24h").await?;
    let late = Somebody::new(environment, "late", "24h").await?;
    let served = long.connection.leaf().clone();
    let gone = gone.revoked(environment, report).await?;

    report.step("the clock is set an hour ahead");
    clock.step(HOUR)?;
    short.ends(report, "whose certificate ends within the hour").await?;
    long.goes_on(report).await?;
    is_let_in(environment, report, &long.own).await?;
    is_kept_out(environment, report, &gone, REVOKED).await?;
    let late = late.revoked(environment, report).await?;

    report.step("the clock is right again");
    step_back(environment, clock, 0).await?;
    long.goes_on(report).await?;
    is_let_in(environment, report, &long.own).await?;
    for own in [&gone, &late] {
        is_kept_out(environment, report, own, REVOKED).await?;
    }
    let next = Somebody::new(environment, "next", "24h").await?.revoked(environment, report).await?;

    report.step("the clock is set an hour back, to before the certificates");
    step_back(environment, clock, -HOUR).await?;
    long.ends(report, "whose certificate has not begun").await?;
    for own in [&gone, &late, &next] {
        // Envoy itself refuses what has not begun, in the handshake.
        is_kept_out(environment, report, own, "").await?;
    }

    report.step("the clock is right again");
    clock.step(0)?;
    let long = Somebody::new(environment, "long", "24h").await?;
    for own in [&gone, &late, &next] {
        is_kept_out(environment, report, own, REVOKED).await?;
    }
    environment.ready().await?;
    let same = *long.connection.leaf() == served;
    report.holds("agent and proxy are in order, with the certificate that they had", same, "")
}

impl Somebody {
    async fn new(environment: &Environment, name: &'static str, lifetime: &str) -> Result<Self, StoryError> {
        let own = environment.agent.issue(&format!("spiffe://acme.example/clock/{name}"), lifetime).await?;
        let client = environment.client_with(Some(&own), Http2)?;
        let opened = wait::until("a stream to open", PATIENCE, async || {
            let mut connection = client.connect().await.map_err(|error| environment::chain(&error))?;
            let mut stream = connection.open(&Ask::get(endless::SILENT)).await.map_err(|error| error.kind())?;
            // Its first word, and its last.
            match stream.next().await {
                Some(_) if stream.status() == hyper::StatusCode::OK => Ok((connection, stream)),
                word => Err(format!("{} {word:?}", stream.status())),
            }
        });
        let (connection, stream) = opened.await?;
        Ok(Self { name, own, connection, stream })
    }

    /// Revokes them; their certificate.
    async fn revoked(self, environment: &Environment, report: &mut Report) -> Result<Credentials, StoryError> {
        let identity = format!("spiffe://acme.example/clock/{}", self.name);
        environment.agent.run(&["revoke", "--identity", &identity, "--reason", "a story"]).await?;
        let own = self.own.clone();
        self.ends(report, "who is revoked").await?;
        is_kept_out(environment, report, &own, REVOKED).await?;
        Ok(own)
    }

    async fn ends(self, report: &mut Report, who: &str) -> Result<(), StoryError> {
        let ended = timeout(PATIENCE, self.stream.ended()).await.is_ok();
        report.holds(&format!("the stream of `{}` ends, {who}", self.name), ended, "")
    }

    async fn goes_on(&mut self, report: &mut Report) -> Result<(), StoryError> {
        let word = timeout(QUIET, self.stream.next()).await;
        let seen = word.map_or_else(|_| String::new(), |word| format!("{word:?}"));
        report.holds(&format!("the stream of `{}` goes on", self.name), seen.is_empty(), &seen)
    }
}

async fn is_let_in(environment: &Environment, report: &mut Report, own: &Credentials) -> Result<(), StoryError> {
    let seen = ask(environment, own).await?;
    report.holds("a new connection of the same person gets in", seen == "200", &seen)
}

/// Whoever it is gets no 200, and this answer, if one is expected.
async fn is_kept_out(
    environment: &Environment,
    report: &mut Report,
    own: &Credentials,
    want: &str,
) -> Result<(), StoryError> {
    let seen = ask(environment, own).await?;
    let is_out = seen != "200" && (want.is_empty() || seen == want);
    report.holds("who was revoked stays out", is_out, &seen)
}

async fn ask(environment: &Environment, own: &Credentials) -> Result<String, StoryError> {
    Ok(match environment.client_with(Some(own), Http2)?.ask(&Ask::get("/orders/1")).await {
        Ok(answer) => format!("{} {}", answer.status.as_u16(), answer.code()).trim().to_owned(),
        Err(error) => error.kind(),
    })
}

/// Sets the clock back, and waits until the filter says so.
async fn step_back(environment: &Environment, clock: &SteppedClock, to: i64) -> Result<(), StoryError> {
    let said = || environment.envoy.process().log().matches("the clock went back by").count();
    let before = said();
    clock.step(to)?;
    let waited = wait::until("the filter to see the clock go back", PATIENCE, async || {
        let now = said();
        if now > before { Ok(()) } else { Err(now.to_string()) }
    });
    Ok(waited.await?)
}
