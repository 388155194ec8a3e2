//! `not-served`: an Envoy whose certificate is in its own configuration takes no new one, whatever is delivered. The agent says
//! where, tries again, tells those who are to be told, and goes back to the certificate that is in use.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use super::CHECKOUT;
use super::alone::Alone;
use crate::environment::Agent;
use crate::environment::Ask;
use crate::environment::Client;
use crate::environment::Credentials;
use crate::environment::DocumentServer;
use crate::environment::EnvironmentError;
use crate::environment::Load;
use crate::environment::Plan;
use crate::environment::Process;
use crate::environment::Protocol::Http1;
use crate::environment::chain;
use crate::environment::free_port;
use crate::environment::programs;
use crate::environment::wait;
use crate::environment::write;
use crate::report::Report;
use crate::report::StoryError;

/// Until what has to happen happened; each attempt waits for the listener.
const PATIENCE: Duration = Duration::from_secs(120);
/// The server's certificate in the listener of `envoy.yaml`.
const PLACE: &str =
    "/static_resources/listeners/0/filter_chains/0/transport_socket/typed_config/common_tls_context/tls_certificates";

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    let alone = Alone::set().await?;
    let root = alone.directory().join("agent");
    let file = |source| EnvironmentError::File { doing: "create", path: root.clone(), source };
    fs::create_dir(&root).map_err(file)?;
    let pager = DocumentServer::start("text/plain", None).await?;
    write(&root.join("portcullis.yaml"), &config(&alone, &root, &pager)?)?;
    let mut agent = Agent::new(programs::agent()?, root.join("portcullis.yaml"), root.join("agent.log"));
    agent.start().await?;
    let files = root.join("tls");
    wait::until(
        "files to begin with",
        PATIENCE,
        async || {
            if files.join("ca.crt").exists() { Ok(()) } else { Err("none") }
        },
    )
    .await?;
    report.step("an Envoy begins with the certificate's files in its own configuration, and not over SDS");
    let at = |name: &str| json!({ "filename": files.join(name) });
    let pair = json!([{ "certificate_chain": at("tls.crt"), "private_key": at("tls.key") }]);
    let policy = json!({ "version": 1, "rules": [{ "id": "all", "allow": "any", "paths": ["/**"] }] });
    let _envoy = alone.start_with(&policy, &[(PLACE.to_owned(), pair)]).await?;
    let story = Story { agent, alone, root, pager };
    let outcome = story.climbs_the_ladder(report).await;
    if outcome.is_err() {
        report.line(format!("--- agent\n{}", story.agent.process().map(Process::last_words).unwrap_or_default()));
    }
    outcome
}

fn config(alone: &Alone, root: &Path, pager: &DocumentServer) -> Result<String, EnvironmentError> {
    let place = root.display();
    Ok(format!(
        "version: 1
state_dir: state
listen: {{ xds: run/xds.sock, control: run/control.sock, metrics: {metrics} }}
ca: {{ trust_domain: acme.example }}
certificates:
  - name: gateway
    dns: [orders.acme.example]
    files: {{ directory: tls }}
    hooks: [ {{ run: [/bin/sh, -c, \"echo told >> {place}/told\"] }} ]
    roll_back_after: 2
    served_at: [ {{ address: \"{gate}\", sni: orders.acme.example }} ]
remedies:
  - {{ on: [not_served], run: [/bin/sh, -c, \"cat >> {place}/remedy; echo >> {place}/remedy\"] }}
  - {{ url: \"http://{pager}/page?token=secret\" }}
envoy: {{ admin: {admin} }}
",
        metrics = free_port()?,
        gate = alone.gate,
        pager = pager.address(),
        admin = alone.admin(),
    ))
}

/// What was told before the story's own failure.
struct Before {
    readers: usize,
    remedies: usize,
    asked: usize,
}

struct Story {
    agent: Agent,
    alone: Alone,
    root: std::path::PathBuf,
    pager: DocumentServer,
}

impl Story {
    async fn climbs_the_ladder(&self, report: &mut Report) -> Result<(), StoryError> {
        self.ready().await?;
        let first = self.stored().await?;
        report.step(format_args!("the first certificate is proven served: serial {first}"));
        // Envoy may have begun too late for the first attempt.
        let before = Before {
            readers: self.lines("told").len(),
            remedies: self.lines("remedy").len(),
            asked: self.pager.asked(),
        };
        let load = Load::start(
            &[self.client()?],
            &Plan { kept: 2, fresh: 2, every: Duration::from_millis(50), ask: Ask::get("/orders/42") },
        );
        let refused = self.agent.renew("gateway").await.err().map(|error| chain(&error)).unwrap_or_default();
        report.holds("the listener goes on with the old one, and that is no success", refused.contains(&first), "")?;
        let explained = refused.contains("listener `gateway` has its certificate from")
            && refused.contains("tls_certificate_sds_secret_configs: [{ name: gateway");
        report.holds(
            "the error says which listener cannot be given another, and what to write",
            explained,
            &refused,
        )?;

        report.step("it is handed over again, readers are told again, and then the one before takes its place again");
        wait::until("the step back", PATIENCE, async || {
            if self.told("\"rolled_back\"") > 0 { Ok(()) } else { Err(self.reasons().await) }
        })
        .await?;
        self.ready().await?;
        let now = self.stored().await?;
        report.holds("what is stored is what is served", now == first, &now)?;
        let issued = self.told("\"certificate_issued\"");
        report.holds("nothing was issued for it", issued == 2, format_args!("{issued} in all"))?;
        let by_itself = self.lines("state/audit.jsonl").into_iter().find(|line| line.contains("\"rolled_back\""));
        let by_itself = by_itself.unwrap_or_default();
        let alarms = self.told("\"alarm\"");
        report.holds("the audit log has the alarm", alarms >= 1, format_args!("{alarms} lines"))?;
        report.holds("and the step back, by the agent", by_itself.contains("\"by\":\"agent\""), &by_itself)?;
        // Twice in vain, and back.
        let readers = self.lines("told").len() - before.readers;
        report.holds("readers of files were told each time", readers == 3, format_args!("{readers} times"))?;

        self.remedies(report, &before).await?;
        let tally = load.stop().await;
        report.holds("no request failed meanwhile", tally.failures() == 0, &tally)?;
        let audit = self.agent.run(&["audit", "verify"]).await?;
        report.holds("the audit log is whole", true, audit.trim())
    }

    async fn remedies(&self, report: &mut Report, before: &Before) -> Result<(), StoryError> {
        let asked = wait::until("the web hook", PATIENCE, async || match self.pager.asked() - before.asked {
            3 => Ok(3),
            other => Err(format!("asked {other} times")),
        })
        .await?;
        let seen = format!("{asked} times: the first and the second failure, and the step back");
        report.holds("the web hook was told of each", true, seen)?;
        let lines = self.lines("remedy");
        let first: Value =
            lines.get(before.remedies).and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
        let whole = first["failure"] == "not_served"
            && first["failures"] == 1
            && ["next_attempt", "outage_at", "error", "tried"].iter().all(|field| !first[*field].is_null());
        report.holds(
            "the program was told what failed, what was tried, and when the outage would come",
            whole,
            &first,
        )?;
        let noted = self.told("\"remedied\"");
        let secret = self.told("token=secret");
        report.holds("the audit log says so, without secrets", noted >= 4 && secret == 0, format_args!("{noted} lines"))
    }

    async fn ready(&self) -> Result<(), EnvironmentError> {
        wait::until("the agent to find everything served", PATIENCE, async || match self.agent.status().await {
            Ok(status) if status.ready => Ok(()),
            Ok(status) => Err(status.reasons.join("; ")),
            Err(error) => Err(chain(&error)),
        })
        .await
    }

    async fn reasons(&self) -> String {
        self.agent.status().await.map_or_else(|error| chain(&error), |status| status.reasons.join("; "))
    }

    /// Serial of what is stored.
    async fn stored(&self) -> Result<String, EnvironmentError> {
        let stored = self.agent.status().await?.certificates.pop().and_then(|gateway| gateway.stored);
        Ok(stored.map(|leaf| leaf.serial).unwrap_or_default())
    }

    /// Somebody whom the gate lets in, and who trusts the agent's CA.
    fn client(&self) -> Result<Client, EnvironmentError> {
        let leaf = self.alone.own.leaf().uri(CHECKOUT).issue();
        let ca_pem = self.lines("tls/ca.crt").join("\n");
        let own = Credentials { chain_pem: leaf.pem(), key_pem: leaf.key_pem().to_owned(), ca_pem: ca_pem.clone() };
        Client::new(self.alone.gate, &ca_pem, Some(&own), Http1)
    }

    /// Lines of the audit log that say this.
    fn told(&self, word: &str) -> usize {
        self.lines("state/audit.jsonl").iter().filter(|line| line.contains(word)).count()
    }

    fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.root.join(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}
