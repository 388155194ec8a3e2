//! `revoke`: who is revoked is refused with the next request, on connections that are open, and in the handshake where Envoy
//! can know; everybody else goes on.

mod lists;

use std::time::Duration;
use std::time::Instant;

use portcullis::gate::Taken;
use portcullis::leaf::hex;
use portcullis::leaf::serial_hex;
use portcullis::revocation::Changed;
use portcullis_policy::Leaf;
use sha2::Digest as _;
use sha2::Sha256;

use super::CHECKOUT;
use super::within;
use crate::environment;
use crate::environment::Ask;
use crate::environment::Client;
use crate::environment::Connection;
use crate::environment::Credentials;
use crate::environment::Environment;
use crate::environment::Protocol::Http2;
use crate::environment::Settings;
use crate::environment::wait;
use crate::report::Report;
use crate::report::StoryError;

/// What the issue promises is a second; a machine that builds something else at the same time may take longer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Revoked beside the one that matters.
const MANY: u32 = 100_000;
/// For the answer to so many: seconds where nothing else is done.
pub(super) const BATCH: &str = "120s";

/// Somebody with a certificate and a connection. Over HTTP/2: a request that is under way when it is forbidden ends, and over
/// HTTP/1.1 its connection with it.
struct Tenant {
    tenant: &'static str,
    own: Credentials,
    leaf: Leaf,
    connection: Connection,
}

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    within(Settings::default(), report, async |environment, report| {
        distrust(environment, report).await?;

        let client = environment.client(CHECKOUT, Http2).await?;
        let mut neighbour = client.connect().await.map_err(connecting)?;
        one_by_one(environment, report, &mut neighbour).await?;
        many(environment, report, &mut neighbour).await?;
        restart(environment, report, &mut neighbour).await
    })
    .await?;
    lists::tell(report).await
}

/// An authority's certificates up to a date, and back again.
async fn distrust(environment: &Environment, report: &mut Report) -> Result<(), StoryError> {
    report.step("what the CA issued before an instant is distrusted");
    let mut old = Tenant::new(environment, "old", "24h").await?;
    // Backdated by a second less, so that it begins after the other, though both are made in one second.
    let mut new = Tenant::new(environment, "new", "290s").await?;
    let instant = jiff::Timestamp::from_second(old.leaf.not_before().0 + 1).unwrap_or_default().to_string();
    for client in [&mut old, &mut new] {
        let seen = client.ask().await;
        report.holds("both get in", seen == "200", &seen)?;
    }
    let command = ["distrust", "--issued-before", &instant, "--reason", "the CA's key lay open"];
    carry_out(environment, report, &command, &mut old, "401 certificate_distrusted").await?;
    let seen = new.ask().await;
    report.holds("the one that was issued later gets in", seen == "200", &seen)?;
    let command = ["unrevoke", "--issued-before", &instant, "--reason", "it did not"];
    environment.agent.run(&command).await?;
    wait::until("the old one to get in again", PATIENCE, async || is("200", old.ask().await)).await?;
    report.holds("what is taken back is believed again", true, "200")
}

/// Every way of naming one certificate.
async fn one_by_one(
    environment: &Environment,
    report: &mut Report,
    neighbour: &mut Connection,
) -> Result<(), StoryError> {
    let reason = ["--reason", "its key was in a backup"];
    for tenant in ["serial", "certificate", "sha256", "spki-sha256", "identity"] {
        report.step(format_args!("revoked by {tenant}"));
        let mut client = Tenant::new(environment, tenant, "1h").await?;
        let seen = client.ask().await;
        report.holds("it gets in", seen == "200", &seen)?;
        let option = format!("--{tenant}");
        let value = match tenant {
            "serial" => serial_hex(client.leaf.serial()),
            "certificate" => {
                let file = environment.directory().join("revoked.pem");
                environment::write(&file, &client.own.chain_pem)?;
                file.display().to_string()
            }
            "sha256" => hex(client.leaf.sha256()),
            "spki-sha256" => hex(client.leaf.spki_sha256()),
            _ => client.leaf.identity().to_owned(),
        };
        let command = [&["revoke", &option, &value][..], &reason].concat();

        let dry = [&command[..], &["--dry-run"]].concat();
        let told = changed(environment, &dry).await?;
        let ends: Vec<&str> = told.ends.iter().map(|ended| ended.identity.as_str()).collect();
        report.holds("a dry run names it and nobody else", ends == [client.leaf.identity()], ends.join(", "))?;
        let seen = client.ask().await;
        report.holds("and changes nothing", seen == "200", &seen)?;

        carry_out(environment, report, &command, &mut client, "401 certificate_revoked").await?;
        // Envoy itself knows lists of serial numbers, and nothing else.
        let want = if tenant == "serial" { lists::REFUSED } else { "401 certificate_revoked" };
        wait::until("a new connection to be refused", PATIENCE, async || is(want, client.reconnect(environment).await))
            .await?;
        report.holds("a new connection is no way around it", true, want)?;
        goes_on(report, neighbour).await?;
        let fresh = environment.client(CHECKOUT, Http2).await?;
        let seen = ask(&mut fresh.connect().await.map_err(connecting)?, "/orders/1").await;
        report.holds("and another comes in over a new one", seen == "200", &seen)?;
    }
    let audit = environment.agent.run(&["audit", "verify"]).await?;
    report.holds("the audit log is whole", true, audit.trim())
}

/// So many lines of a file to revoke from.
pub(super) fn batch(count: u32) -> String {
    (0..count).map(|number| format!("sha256 {}\n", hex(&Sha256::digest(number.to_le_bytes())))).collect()
}

/// The same beside very many others.
async fn many(environment: &Environment, report: &mut Report, neighbour: &mut Connection) -> Result<(), StoryError> {
    report.step(format_args!("{MANY} certificates of others are revoked"));
    let file = environment.directory().join("revoked.txt");
    environment::write(&file, &batch(MANY))?;
    let file = file.display().to_string();
    let began = Instant::now();
    let command = ["revoke", "--from", &file, "--reason", "a whole batch was stolen", "--timeout", BATCH];
    let told = changed(environment, &command).await?;
    report.saw(format_args!("answered after {} ms", began.elapsed().as_millis()));
    let all = told.changed == MANY as usize && matches!(told.taken, Some(Taken::By { proxies: 1 }));
    report.holds("all of them are in force on the proxy", all, format!("{} {:?}", told.changed, told.taken))?;
    goes_on(report, neighbour).await?;

    report.step("one more is revoked");
    let mut client = Tenant::new(environment, "one-more", "1h").await?;
    let seen = client.ask().await;
    report.holds("it gets in", seen == "200", &seen)?;
    let identity = client.leaf.identity().to_owned();
    let command = ["revoke", "--identity", &identity, "--reason", "it was too"];
    carry_out(environment, report, &command, &mut client, "401 certificate_revoked").await?;
    goes_on(report, neighbour).await
}

/// The agent dies, and forgets nothing.
async fn restart(
    environment: &mut Environment,
    report: &mut Report,
    neighbour: &mut Connection,
) -> Result<(), StoryError> {
    report.step("the agent is killed and started again");
    let before = environment.agent.status().await?.revocations;
    environment.agent.kill();
    environment.agent.start().await?;
    environment.ready().await?;
    let after = environment.agent.status().await?.revocations;
    report.holds("it knows who is revoked", after == before, format!("{} keys", after.keys))?;
    goes_on(report, neighbour).await
}

impl Tenant {
    async fn new(environment: &Environment, tenant: &'static str, lifetime: &str) -> Result<Self, StoryError> {
        let own = environment.agent.issue(&format!("spiffe://acme.example/ns/{tenant}/sa/a"), lifetime).await?;
        let leaf =
            Leaf::from_pem(own.chain_pem.as_bytes()).map_err(|error| environment::EnvironmentError::Unreadable {
                what: "a certificate of the agent".to_owned(),
                text: error.to_string(),
            })?;
        let connection = environment.client_with(Some(&own), Http2)?.connect().await.map_err(connecting)?;
        Ok(Self { tenant, own, leaf, connection })
    }

    async fn ask(&mut self) -> String {
        ask(&mut self.connection, &format!("/tenants/{}/a", self.tenant)).await
    }

    /// The same over a connection of its own.
    async fn reconnect(&self, environment: &Environment) -> String {
        match environment.client_with(Some(&self.own), Http2) {
            Ok(client) => once(&client, &format!("/tenants/{}/a", self.tenant)).await,
            Err(error) => environment::chain(&error),
        }
    }
}

/// Carries out a command, and waits until a client sees it on the connection that it has.
async fn carry_out(
    environment: &Environment,
    report: &mut Report,
    command: &[&str],
    client: &mut Tenant,
    want: &str,
) -> Result<(), StoryError> {
    let began = Instant::now();
    let told = changed(environment, command).await?;
    let answered = began.elapsed();
    wait::until("the client to be refused", PATIENCE, async || is(want, client.ask().await)).await?;
    let (answered, refused) = (answered.as_millis(), began.elapsed().as_millis());
    report.saw(format_args!("answered after {answered} ms, refused {refused} ms after the command began"));
    if refused > 1000 {
        report.saw("that is more than the second that is promised: is this machine busy?");
    }
    report.holds(
        "the answer says that the proxy took it",
        matches!(told.taken, Some(Taken::By { proxies: 1 })),
        format!("{:?}", told.taken),
    )?;
    report.holds("its next request is refused, on the connection that was open before", true, want)
}

pub(super) async fn changed(environment: &Environment, command: &[&str]) -> Result<Changed, StoryError> {
    let text = environment.agent.run(&[command, &["-o", "json"]].concat()).await?;
    let unreadable = |error: serde_json::Error| environment::EnvironmentError::Unreadable {
        what: "the answer to a revocation".to_owned(),
        text: format!("{error} in {text}"),
    };
    Ok(serde_json::from_str(&text).map_err(unreadable)?)
}

async fn goes_on(report: &mut Report, neighbour: &mut Connection) -> Result<(), StoryError> {
    let seen = ask(neighbour, "/orders/1").await;
    report.holds("a neighbour goes on, on the same connection", seen == "200", &seen)
}

async fn ask(connection: &mut Connection, path: &str) -> String {
    match connection.ask(&Ask::get(path)).await {
        Ok(answer) => format!("{} {}", answer.status.as_u16(), answer.code()).trim().to_owned(),
        Err(error) => error.kind(),
    }
}

/// What a new connection is good for.
async fn once(client: &Client, path: &str) -> String {
    let asked = match client.connect().await {
        Ok(mut connection) => connection.ask(&Ask::get(path)).await,
        Err(error) => Err(error),
    };
    match asked {
        Ok(answer) => format!("{} {}", answer.status.as_u16(), answer.code()).trim().to_owned(),
        // HTTP/2 hides the alert with which a handshake ends.
        Err(error) => match client.refusal().await {
            Ok(Some(alert)) => format!("tls alert {alert:?}"),
            _ => error.kind(),
        },
    }
}

fn is(want: &str, seen: String) -> Result<(), String> {
    if seen == want { Ok(()) } else { Err(seen) }
}

fn connecting(source: environment::ClientError) -> StoryError {
    StoryError::Request { doing: "open a connection".to_owned(), source }
}
