//! `sessions`: a certificate loses its standing while connections stay open and sessions can be resumed.
//!
//! The proxy looks at a client's certificate in a full handshake only. Envoy as shipped resumes no session; for one that
//! does, it is the filter that looks each time.

use std::time::Duration;

use portcullis_policy::Leaf;

use super::CHECKOUT;
use super::seconds_left;
use super::within;
use crate::environment;
use crate::environment::Ask;
use crate::environment::Client;
use crate::environment::ClientError;
use crate::environment::Connection;
use crate::environment::Credentials;
use crate::environment::Environment;
use crate::environment::Protocol::Http1;
use crate::environment::Protocol::Http2;
use crate::environment::Settings;
use crate::environment::wait;
use crate::report::Report;
use crate::report::StoryError;

const PATIENCE: Duration = Duration::from_secs(40);
/// Enough to meet every worker, as good as surely.
const CONNECTIONS: usize = 16;
/// Long enough to be let in at first, even where the machine is busy.
const SHORT_LIFE: &str = "10s";

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    within(Settings::default(), report, async |environment, report| {
        report.step("Envoy as shipped");
        for protocol in [Http1, Http2] {
            let client = environment.client(CHECKOUT, protocol).await?.resuming();
            let [_, again] = twice(&client).await?;
            report.holds(&format!("a client with a ticket proves itself anew, {protocol}"), !again.is_resumed(), "")?;
        }
        Ok(())
    })
    .await?;
    let settings = Settings {
        envoy: vec![
            ("disable_stateless_session_resumption: true", "disable_stateless_session_resumption: false"),
            ("disable_stateful_session_resumption: true", "disable_stateful_session_resumption: false"),
        ],
        ..Settings::default()
    };
    within(settings, report, async |environment, report| {
        for protocol in [Http1, Http2] {
            report.step(format_args!("an Envoy that resumes sessions, over {protocol}: a certificate is revoked"));
            let own = environment.agent.issue(CHECKOUT, "1h").await?;
            let client = environment.client_with(Some(&own), protocol)?.resuming();
            let hash = sha256(&own)?;
            let edit = format!("\nrevoked: {{ sha256: [\"{hash}\"] }}\n");
            falls(environment, report, &client, &edit, "401 certificate_revoked").await?;

            report.step("everything that was issued until now is distrusted");
            let own = environment.agent.issue(CHECKOUT, "1h").await?;
            let client = environment.client_with(Some(&own), protocol)?.resuming();
            let tomorrow = jiff::Timestamp::now() + Duration::from_secs(86_400);
            let edit = format!("\ndistrust: [{{ issued_before: \"{tomorrow:.0}\" }}]\n");
            falls(environment, report, &client, &edit, "401 certificate_distrusted").await?;

            report.step("a certificate expires");
            let own = environment.agent.issue(CHECKOUT, SHORT_LIFE).await?;
            let client = environment.client_with(Some(&own), protocol)?.resuming();
            let [_, mut open] = twice(&client).await?;
            report.holds("while it is valid its session is resumed", open.is_resumed(), "")?;
            wait::until("the certificate to expire", PATIENCE, async || match seconds_left(&own) {
                left if left < 0 => Ok(()),
                left => Err(format!("{left} s left")),
            })
            .await?;
            refused(environment, report, &client, &mut open, "401 certificate_expired").await?;
        }
        Ok(())
    })
    .await
}

/// Two connections of a client that is let in, the second opened after the first.
async fn twice(client: &Client) -> Result<[Connection; 2], StoryError> {
    let open = async || -> Result<Connection, ClientError> {
        let mut connection = client.connect().await?;
        let answer = connection.ask(&Ask::get("/orders/42")).await?;
        if answer.status == 200 { Ok(connection) } else { Err(ClientError::Silent) }
    };
    let failed = |source| StoryError::Request { doing: "open a connection and be let in".to_owned(), source };
    Ok([open().await.map_err(failed)?, open().await.map_err(failed)?])
}

/// The edit of the policy takes a client its standing.
async fn falls(
    environment: &Environment,
    report: &mut Report,
    client: &Client,
    edit: &str,
    code: &str,
) -> Result<(), StoryError> {
    let [_, mut open] = twice(client).await?;
    report.holds("before, it is let in and its session is resumed", open.is_resumed(), "")?;
    let shipped = environment::shipped("policy.yaml")?;
    environment.save_policy(&format!("{shipped}{edit}"))?;
    // Not over the open connection: a request that is under way when it is forbidden would take it along.
    by_every_worker(client, "refused", code).await?;
    let outcome = refused(environment, report, client, &mut open, code).await;
    environment.save_policy(&shipped)?;
    by_every_worker(client, "let in again", "200 ").await?;
    outcome
}

/// Waits until every worker answers a client like this.
async fn by_every_worker(client: &Client, what: &str, code: &str) -> Result<(), StoryError> {
    wait::until(&format!("every worker to have the client {what}"), PATIENCE, async || {
        for _ in 0..CONNECTIONS {
            let mut fresh = client.connect().await.map_err(|error| error.kind())?;
            let seen = status(&mut fresh).await;
            if seen != code {
                return Err(seen);
            }
        }
        Ok(())
    })
    .await?;
    Ok(())
}

async fn refused(
    environment: &Environment,
    report: &mut Report,
    client: &Client,
    open: &mut Connection,
    code: &str,
) -> Result<(), StoryError> {
    environment.upstream.take_seen();
    let seen = status(open).await;
    report.holds("the open connection is refused", seen == code, &seen)?;
    let opened = client.connect().await;
    let mut resumed =
        opened.map_err(|source| StoryError::Request { doing: "resume the session".to_owned(), source })?;
    let seen = status(&mut resumed).await;
    report.holds("so is the session that is resumed", resumed.is_resumed() && seen == code, &seen)?;
    let reached = environment.upstream.take_seen().len();
    report.holds("and nothing of it reached the service", reached == 0, reached)
}

async fn status(connection: &mut Connection) -> String {
    match connection.ask(&Ask::get("/orders/42")).await {
        Ok(answer) => format!("{} {}", answer.status.as_u16(), answer.code()),
        Err(error) => error.kind(),
    }
}

fn sha256(own: &Credentials) -> Result<String, environment::EnvironmentError> {
    let leaf = Leaf::from_pem(own.chain_pem.as_bytes()).map_err(|error| environment::EnvironmentError::Unreadable {
        what: "a certificate that was just issued".to_owned(),
        text: error.to_string(),
    })?;
    Ok(leaf.sha256().iter().map(|byte| format!("{byte:02x}")).collect())
}
