//! `many-names`: one port, a certificate for each of very many server names, more than a proxy has streams by default. Names
//! come while others are served, one rotates, and a name that nobody has is refused at once.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::slice;
use std::time::Duration;
use std::time::Instant;

use portcullis::status::Status;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::CHECKOUT;
use super::rotation::carry;
use super::rotation::see;
use super::within;
use crate::environment::Ask;
use crate::environment::Client;
use crate::environment::ClientError;
use crate::environment::Environment;
use crate::environment::EnvironmentError;
use crate::environment::Load;
use crate::environment::Plan;
use crate::environment::Process;
use crate::environment::Settings;
use crate::environment::free_port;
use crate::environment::wait;
use crate::environment::write;
use crate::report::Report;
use crate::report::StoryError;

/// More than the 1,024 requests that Envoy lets a cluster have if nothing is said: each name is one.
const NAMES: usize = 1_200;
/// Served before the others come.
const FIRST: usize = 2;
/// Each is issued, written down, pushed and proven by a handshake.
const PATIENCE: Duration = Duration::from_secs(300);
/// Clients at once.
const AT_ONCE: usize = 8;

/// The name of this number.
pub(super) fn name(number: usize) -> String {
    format!("shop-{number}.shops.acme.example")
}

/// A list of names beside the shipped configuration, and a port where each is served.
pub(super) struct Names {
    folder: TempDir,
    gate: SocketAddr,
}

impl Names {
    /// The first so many names.
    pub(super) fn new(count: usize) -> Result<Self, EnvironmentError> {
        let path = std::env::temp_dir();
        let folder = tempfile::tempdir().map_err(|source| EnvironmentError::File { doing: "create", path, source })?;
        let names = Self { folder, gate: free_port()? };
        names.list(count)?;
        Ok(names)
    }

    /// Where they are served.
    pub(super) fn gate(&self) -> SocketAddr {
        self.gate
    }

    pub(super) fn settings(&self) -> Settings {
        let (file, gate) = (self.file(), self.gate);
        let entry = format!(
            "certificates:\n  - {{ each: {}, lifetime: 24h, served_at: [{{ address: \"{gate}\" }}] }}\n",
            file.display()
        );
        Settings {
            agent_config: vec![("certificates:\n", entry)],
            beside: Some(("many-names.yaml", vec![("port_value: 10445", format!("port_value: {}", gate.port()))])),
            ..Settings::default()
        }
    }

    /// Writes the list anew.
    fn list(&self, count: usize) -> Result<(), EnvironmentError> {
        let mut text = String::new();
        for number in 0..count {
            // A `String` takes everything.
            let _ = writeln!(text, "{}", name(number));
        }
        write(&self.file(), &text)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("names.txt")
    }
}

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    let names = Names::new(FIRST)?;
    within(names.settings(), report, async |environment, report| {
        let own = environment.agent.issue(CHECKOUT, "1h").await?;
        let client = environment.client_to(names.gate(), Some(&own))?;
        let story = Story { environment, client, names: &names };
        story.unknown(report).await?;
        story.come(report).await?;
        story.rotate(report).await?;
        story.go(report).await
    })
    .await
}

struct Story<'a> {
    environment: &'a Environment,
    client: Client,
    names: &'a Names,
}

impl Story<'_> {
    fn asking_for(&self, number: usize) -> Client {
        self.client.clone().asking_for(&name(number))
    }

    async fn unknown(&self, report: &mut Report) -> Result<(), StoryError> {
        let (ours, seen) = self.all_their_own(FIRST).await;
        report.holds("each name has its own certificate", ours == FIRST, seen)?;
        let stranger = self.client.clone().asking_for("nobody.shops.acme.example");
        let began = Instant::now();
        let refused = stranger.leaf().await;
        let took = began.elapsed();
        let seen = refused.as_ref().map_or_else(ClientError::kind, |_| "a certificate".to_owned());
        let is_refused = refused.is_err_and(|error| error.alert().is_some());
        report.holds("a name that nobody has fails in the handshake, and is not waited for", is_refused, seen)?;
        report.saw(format_args!("after {} ms", took.as_millis()));
        Ok(())
    }

    async fn come(&self, report: &mut Report) -> Result<(), StoryError> {
        report.step(format_args!("{} names are added while clients use the first", NAMES - FIRST));
        let plan = Plan { kept: 2, fresh: 2, every: Duration::from_millis(50), ask: Ask::get("/orders/42") };
        let load = Load::start(&[self.asking_for(0)], &plan);
        self.names.list(NAMES)?;
        let began = Instant::now();
        self.environment.agent.reload()?;
        self.ready(|status| status.certificates.len() > NAMES).await?;
        report.saw(format_args!(
            "issued and each proven served by a handshake of its own after {:.1} s",
            began.elapsed().as_secs_f32()
        ));
        let began = Instant::now();
        let (ours, seen) = self.all_their_own(NAMES).await;
        report.holds("each of them has its own certificate, on the one port", ours == NAMES, seen)?;
        report.saw(format_args!("{NAMES} handshakes of our own in {:.1} s", began.elapsed().as_secs_f32()));
        let tally = load.stop().await;
        report.holds("no request failed meanwhile", tally.failures() == 0, &tally)?;
        if let Some(bytes) = self.environment.agent.process().and_then(Process::resident) {
            report.saw(format_args!("the agent has {} MiB in memory", bytes >> 20));
        }
        Ok(())
    }

    async fn rotate(&self, report: &mut Report) -> Result<(), StoryError> {
        let number = NAMES / 2;
        report.step(format_args!("{} rotates under load", name(number)));
        let client = self.asking_for(number);
        let plan = Plan { kept: 2, fresh: 2, every: Duration::from_millis(20), ask: Ask::get("/orders/42") };
        let load = Load::start(slice::from_ref(&client), &plan);
        carry(&load).await?;
        let renewed = self.environment.agent.renew(&name(number)).await?;
        see(&client, &renewed.new_serial).await?;
        carry(&load).await?;
        let tally = load.stop().await;
        report.holds("the new one is served, and no request failed", tally.failures() == 0, &tally)?;
        if let Some(milliseconds) = renewed.issued_to_served_ms {
            report.saw(format_args!("{milliseconds} ms from issued to served"));
        }
        Ok(())
    }

    async fn go(&self, report: &mut Report) -> Result<(), StoryError> {
        report.step("the last name is taken out of the list");
        self.names.list(NAMES - 1)?;
        self.environment.agent.reload()?;
        let last = name(NAMES - 1);
        self.ready(|status| status.certificates.iter().all(|certificate| certificate.name != last)).await?;
        let seen = self.asking_for(NAMES - 1).leaf().await;
        let seen = seen.map_or_else(|error| error.kind(), |_| "served".to_owned());
        report.holds("what the proxy has of it goes on being served", seen == "served", seen)?;
        let audit = self.environment.agent.run(&["audit", "verify"]).await?;
        report.holds("the audit log is whole", true, audit.trim())
    }

    async fn ready(&self, holds: impl Fn(&Status) -> bool) -> Result<(), StoryError> {
        wait::until("every name to be served", PATIENCE, async || match self.environment.agent.status().await {
            Ok(status) if status.ready && holds(&status) => Ok(()),
            Ok(status) => Err(status.reasons.join("; ")),
            Err(error) => Err(error.to_string()),
        })
        .await?;
        Ok(())
    }

    /// How many of the first names show a certificate of their own, and what is seen of one that does not.
    async fn all_their_own(&self, count: usize) -> (usize, String) {
        let mut all = JoinSet::new();
        for worker in 0..AT_ONCE {
            let clients: Vec<_> =
                (worker..count).step_by(AT_ONCE).map(|number| (name(number), self.asking_for(number))).collect();
            all.spawn(async move {
                let mut results = Vec::with_capacity(clients.len());
                for (name, client) in clients {
                    let leaf = client.leaf().await;
                    results.push(leaf.map_err(|error| format!("{name}: {}", error.kind())).and_then(|leaf| {
                        if is_of(&leaf, &name) { Ok(()) } else { Err(format!("{name}: the certificate of another")) }
                    }));
                }
                results
            });
        }
        let results = all.join_all().await.concat();
        let bad = results.iter().find_map(|result| result.as_ref().err().cloned());
        let good = results.iter().filter(|result| result.is_ok()).count();
        (good, bad.unwrap_or_else(|| format!("{good} of {count}")))
    }
}

/// Whether the certificate is for this name alone.
fn is_of(der: &[u8], name: &str) -> bool {
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(der) else { return false };
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return false };
    matches!(names.value.general_names.as_slice(), [x509_parser::extensions::GeneralName::DNSName(only)] if *only == name)
}
