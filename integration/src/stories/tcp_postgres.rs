//! `tcp-postgres`: a database behind the gate. Who may not connect never reaches it, and an open session ends with its
//! certificate, with the role that let it in, and with its revocation; those beside it go on.

use std::net::SocketAddr;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use portcullis_policy::Leaf;
use tokio::io::AsyncReadExt as _;

use super::within;
use crate::environment::ClientError;
use crate::environment::Credentials;
use crate::environment::Environment;
use crate::environment::EnvironmentError;
use crate::environment::Postgres;
use crate::environment::Session;
use crate::environment::Settings;
use crate::environment::Sidecar;
use crate::environment::free_port;
use crate::environment::wait;
use crate::report::Report;
use crate::report::StoryError;

/// What is promised is a second; a machine that builds something else at the same time may take longer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Long enough to begin a session, short enough to wait for.
const SHORT_LIVED: &str = "20s";

/// Everything that it takes to connect.
struct Stage {
    postgres: Postgres,
    /// Where the database's clients come in.
    gate: SocketAddr,
}

/// Somebody in a session, by way of a sidecar with their certificate.
struct Person {
    own: Credentials,
    sidecar: Sidecar,
    session: Session,
}

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    report.step("starting PostgreSQL");
    let stage = Stage { postgres: Postgres::start().await?, gate: free_port()? };
    let port = |address: SocketAddr| format!("port_value: {}", address.port());
    let places = vec![("port_value: 10432", port(stage.gate)), ("port_value: 5432", port(stage.postgres.address()))];
    let settings = Settings {
        policy: Some(policy(stage.gate, "any")),
        beside: Some(("postgres.yaml", places)),
        ..Settings::default()
    };
    within(settings, report, async |environment, report| {
        who_connects(&stage, environment, report).await?;
        let mut neighbour = Person::new("neighbour", "1h", &stage, environment).await?;
        revoked(&stage, environment, report, &mut neighbour).await?;
        expired(&stage, environment, report, &mut neighbour).await?;
        edited(&stage, environment, report, &mut neighbour).await?;
        let ended = environment.envoy.stats("connections.ended").await?.values().sum::<u64>();
        report.holds("the gate counted each session that it ended", ended == 5, ended)
    })
    .await
}

/// Who holds the role gets through; nobody else reaches the database.
async fn who_connects(stage: &Stage, environment: &Environment, report: &mut Report) -> Result<(), StoryError> {
    let mut person = Person::new("one", "1h", stage, environment).await?;
    let seen = person.session.ask("select 40 + 2").await?;
    report.holds("who holds the role is in a session", seen == "42", &seen)?;

    let before = stage.postgres.connections();
    let guest = "spiffe://acme.example/guests/one";
    let own = environment.agent.issue(guest, "1h").await?;
    let sidecar = stage.sidecar(&own, environment).await?;
    let refused = stage.postgres.session(sidecar.address())?.ask("select 1").await;
    report.holds("who does not hold it gets no session", refused.is_err(), shown(&refused))?;
    let mut silent = environment.client_to(stage.gate, Some(&own))?.connect_tls().await.map_err(failed)?;
    let now = stage.postgres.connections();
    report.holds("and the database never hears of them", now == before, format!("{before} connections, then {now}"))?;
    drop(sidecar);

    let nobody = environment.client_to(stage.gate, None)?.refusal().await.map_err(failed)?;
    report.holds("without a certificate there is no handshake", nobody.is_some(), format!("{nobody:?}"))?;

    let record = environment.envoy.process().log();
    let record = record.lines().find(|line| line.contains(guest)).unwrap_or_default();
    let told = record.contains(r#""protocol":"tcp""#) && record.contains(r#""reason":"no_rule_matched""#);
    report.holds("the refusal left a decision record", told, record)?;
    // Nothing was decided about who says nothing, so nothing came back.
    let quiet = tokio::time::timeout(Duration::from_millis(100), silent.read_u8()).await.is_err();
    report.holds("who shook hands and says nothing is not answered", quiet, "")
}

/// One session is idle, one waits for an answer, one reads rows without end.
async fn revoked(
    stage: &Stage,
    environment: &Environment,
    report: &mut Report,
    neighbour: &mut Person,
) -> Result<(), StoryError> {
    // A flow of rows that nobody stops would never let the proxy finish what it has begun to write.
    let endless = "\\copy (select repeat('x', 1000) from generate_series(1, 1000000000)) to '/dev/null'";
    for (name, statement) in [("idle", None), ("busy", Some("select pg_sleep(600)")), ("flooded", Some(endless))] {
        report.step(format_args!("somebody is revoked whose session is {name}"));
        let mut person = Person::new(name, "1h", stage, environment).await?;
        let seen = person.session.ask("select 1").await?;
        report.holds("they are in a session", seen == "1", &seen)?;
        let identity = identity(name);
        let began = SystemTime::now();
        let command = ["revoke", "--identity", &identity, "--reason", "they left the company"];
        match statement {
            None => {
                environment.agent.run(&command).await?;
            }
            Some(statement) => {
                let (answer, told) = tokio::join!(person.session.ask(statement), environment.agent.run(&command));
                told?;
                report.holds("the statement is not answered", answer.is_err(), shown(&answer))?;
            }
        }
        let ended = person.sidecar.end(PATIENCE).await?;
        report.saw(format_args!("{} to the end", elapsed("the command", began, ended)));
        over(stage, environment, report, person, neighbour).await?;
    }
    Ok(())
}

async fn expired(
    stage: &Stage,
    environment: &Environment,
    report: &mut Report,
    neighbour: &mut Person,
) -> Result<(), StoryError> {
    report.step("a certificate ends while its session is idle");
    let mut person = Person::new("brief", SHORT_LIVED, stage, environment).await?;
    let seen = person.session.ask("select 1").await?;
    report.holds("they are in a session", seen == "1", &seen)?;
    let leaf = Leaf::from_pem(person.own.chain_pem.as_bytes());
    let end = leaf.map_or(0, |leaf| leaf.not_after().0);
    let not_after = UNIX_EPOCH + Duration::from_secs(u64::try_from(end).unwrap_or_default());
    let left = not_after.duration_since(SystemTime::now()).unwrap_or_default();
    let ended = person.sidecar.end(left + PATIENCE).await?;
    let late = ended.duration_since(not_after);
    report.holds("it does not end before", late.is_ok(), format!("{late:?}"))?;
    report.saw(format_args!("{} to that of the session", elapsed("the certificate's end", not_after, ended)));
    over(stage, environment, report, person, neighbour).await
}

async fn edited(
    stage: &Stage,
    environment: &Environment,
    report: &mut Report,
    neighbour: &mut Person,
) -> Result<(), StoryError> {
    report.step("the policy is edited, and takes the role away");
    let mut person = Person::new("edited", "1h", stage, environment).await?;
    let seen = person.session.ask("select 1").await?;
    report.holds("they are in a session", seen == "1", &seen)?;
    let began = SystemTime::now();
    environment.save_policy(&policy(stage.gate, "edited"))?;
    let ended = person.sidecar.end(PATIENCE).await?;
    report.saw(format_args!("{} to the end", elapsed("the save", began, ended)));
    over(stage, environment, report, person, neighbour).await
}

/// A session has ended for good, and the one beside it has not.
async fn over(
    stage: &Stage,
    environment: &Environment,
    report: &mut Report,
    mut person: Person,
    neighbour: &mut Person,
) -> Result<(), StoryError> {
    let next = person.session.ask("select 2").await;
    report.holds("psql is told that the connection was closed", next.is_err(), shown(&next))?;
    // PostgreSQL notices when it next looks at the connection; what was asked before, it may finish.
    let idle = wait::until("the database to have nobody but the neighbour", PATIENCE, async || {
        let query = "select count(*) from pg_stat_activity where client_port > 0 and state = 'idle'";
        match stage.postgres.ask(query).await {
            Ok(count) if count == "1" => Ok(count),
            Ok(count) => Err(format!("{count} idle sessions")),
            Err(error) => Err(error.to_string()),
        }
    })
    .await?;
    report.holds("the database has no idle session but the neighbour's", true, idle)?;
    let sidecar = stage.sidecar(&person.own, environment).await?;
    let again = stage.postgres.session(sidecar.address())?.ask("select 3").await;
    report.holds("and the same certificate gets no other one", again.is_err(), shown(&again))?;
    let seen = neighbour.session.ask("select 40 + 2").await?;
    report.holds("the neighbour's session goes on", seen == "42" && neighbour.sidecar.ended() == 0, &seen)
}

impl Stage {
    async fn sidecar(&self, own: &Credentials, environment: &Environment) -> Result<Sidecar, EnvironmentError> {
        Sidecar::start(environment.client_to(self.gate, Some(own))?).await
    }
}

impl Person {
    async fn new(
        name: &str,
        lifetime: &str,
        stage: &Stage,
        environment: &Environment,
    ) -> Result<Self, EnvironmentError> {
        let own = environment.agent.issue(&identity(name), lifetime).await?;
        let sidecar = stage.sidecar(&own, environment).await?;
        let session = stage.postgres.session(sidecar.address())?;
        Ok(Self { own, sidecar, session })
    }
}

fn elapsed(since: &str, from: SystemTime, to: SystemTime) -> String {
    format!("{} ms from {since}", to.duration_since(from).unwrap_or_default().as_millis())
}

fn identity(name: &str) -> String {
    format!("spiffe://acme.example/people/{name}")
}

/// Everybody may connect but who is `without`.
fn policy(gate: SocketAddr, without: &str) -> String {
    format!(
        r#"version: 1
trust_domain: acme.example
roles:
  people: [{{ spiffe: "spiffe://acme.example/people/*" }}]
  gone: [{{ spiffe: "spiffe://acme.example/people/{without}" }}]
rules: []
tcp:
  - {{ id: orders-db, allow: [people], listeners: [":{port}"], tls: {{ min_version: "1.2" }} }}
  - {{ id: gone, deny: [gone] }}
tests:
  - name: people connect
    peer: {{ spiffe: "spiffe://acme.example/people/somebody" }}
    connection: "{gate}"
    tls: "1.3"
    expect: {{ allow: orders-db }}
"#,
        port = gate.port()
    )
}

fn shown(answer: &Result<String, EnvironmentError>) -> String {
    match answer {
        Ok(answer) => format!("answered `{answer}`"),
        Err(error) => error.to_string(),
    }
}

fn failed(source: ClientError) -> StoryError {
    StoryError::Request { doing: "cannot shake hands".to_owned(), source }
}
