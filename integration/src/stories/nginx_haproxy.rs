//! `nginx-haproxy`: proxies that know nothing of xDS, with the configurations of `examples/`. The agent writes files, has them
//! read again by a hook and by a signal, and believes nothing but the handshake.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use super::CHECKOUT;
use super::REPORTING;
use super::rotation::see;
use crate::environment::Agent;
use crate::environment::Ask;
use crate::environment::Client;
use crate::environment::DocumentServer;
use crate::environment::EnvironmentError;
use crate::environment::Haproxy;
use crate::environment::Load;
use crate::environment::Nginx;
use crate::environment::Plan;
use crate::environment::Process;
use crate::environment::Protocol::Http1;
use crate::environment::chain;
use crate::environment::copy;
use crate::environment::free_port;
use crate::environment::programs;
use crate::environment::programs::Unpacked;
use crate::environment::wait;
use crate::report::Report;
use crate::report::StoryError;

/// How many rotations each proxy goes through.
const ROTATIONS: usize = 10;
/// Until what has to happen happened.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    report.step("nginx, told by a hook that runs `nginx -s reload`");
    let program = programs::nginx()?;
    let site = Site::set("nginx", &program).await?;
    let nginx = Nginx::start(&program, &site.place("nginx.conf"), site.gate, site.place("nginx.log")).await?;
    let outcome = site.rotates(report, "hook `/bin/sh` ended well").await;
    site.explain(outcome, nginx.process(), report)?;
    let outcome = site.finds_a_hook_without_effect(report).await;
    site.explain(outcome, nginx.process(), report)?;
    drop((site, nginx));

    report.step("HAProxy, told by SIGUSR2 to its master process");
    let program = programs::haproxy()?;
    let site = Site::set("haproxy", &program).await?;
    let haproxy = Haproxy::start(&program, &site.place("haproxy.cfg"), site.gate, site.place("haproxy.log")).await?;
    let proof = format!("SIGUSR2 was sent to process {}", haproxy.process().id());
    let outcome = site.rotates(report, &proof).await;
    site.explain(outcome, haproxy.process(), report)
}

/// The agent with the configuration of an example, a service, and a place for the proxy between clients and service.
struct Site {
    agent: Agent,
    gate: SocketAddr,
    _service: DocumentServer,
    // Last, so that it goes after those who write to it.
    directory: TempDir,
}

impl Site {
    /// Copies the example, starts the agent, and waits until there are files for the proxy to begin with.
    async fn set(example: &str, program: &Unpacked) -> Result<Self, StoryError> {
        let directory = tempfile::Builder::new().prefix("portcullis-").tempdir().map_err(|source| {
            EnvironmentError::File { doing: "create a directory in", path: std::env::temp_dir(), source }
        })?;
        let [gate, metrics] = [free_port()?, free_port()?];
        let service = DocumentServer::start("application/json", None).await?;
        service.publish("{}");
        let root = directory.path();
        let shipped = programs::checkout().join("examples").join(example);
        let place = |from: &str, to: &str| (from.to_owned(), root.join(to).display().to_string());
        let exe = ("/usr/sbin/".to_owned() + example, program.run.display().to_string());
        let pid = place(&format!("/run/{example}.pid"), "pid");
        let mut agent_config = vec![
            place("/var/lib/portcullis", "state"),
            place("/run/portcullis", "run"),
            place("/etc/portcullis", "etc"),
            ("127.0.0.1:10443".to_owned(), gate.to_string()),
            ("127.0.0.1:9464".to_owned(), metrics.to_string()),
            pid.clone(),
        ];
        let mut config = vec![
            pid,
            place("/etc/portcullis", "etc"),
            ("127.0.0.1:10443".to_owned(), gate.to_string()),
            ("127.0.0.1:8080".to_owned(), service.address().to_string()),
        ];
        let file = if example == "nginx" {
            agent_config.extend([exe, place("/etc/nginx/nginx.conf", "nginx.conf")]);
            config.push(place("/var/log/nginx", ""));
            // Where it was built to keep them, it may not write.
            let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
            let paths = kinds.map(|kind| format!("\n    {kind}_temp_path {};", root.join(kind).display())).concat();
            config.push(("http {".to_owned(), format!("http {{{paths}")));
            "nginx.conf"
        } else {
            agent_config.push((exe.0, program.exe.display().to_string()));
            config.push(place("/run/haproxy.sock", "stats.sock"));
            "haproxy.cfg"
        };
        copy(&shipped.join("portcullis.yaml"), &root.join("portcullis.yaml"), &agent_config)?;
        copy(&shipped.join(file), &root.join(file), &config)?;
        let mut agent = Agent::new(programs::agent()?, root.join("portcullis.yaml"), root.join("agent.log"));
        agent.start().await?;
        let site = Self { agent, gate, _service: service, directory };
        // The links are made one after the other, this one last.
        let last = if example == "nginx" { "etc/site/ca.crt" } else { "etc/site/combined.pem" };
        let first = site.place(last);
        wait::until("files to begin with", PATIENCE, async || {
            if first.exists() { Ok(()) } else { Err(format!("no `{}`", first.display())) }
        })
        .await?;
        Ok(site)
    }

    /// Ten new certificates under load.
    async fn rotates(&self, report: &mut Report, proof: &str) -> Result<(), StoryError> {
        self.ready().await?;
        report.step("the first certificate is proven served");
        let clients = [self.client(CHECKOUT).await?, self.client(REPORTING).await?];
        let anonymous = Client::new(self.gate, &self.ca().await?, None, Http1)?;
        let refused = match anonymous.ask(&Ask::get("/")).await {
            Ok(answer) => (answer.status.is_client_error(), answer.status.to_string()),
            // In TLS 1.3 the connection may end before the alert is read.
            Err(error) => (true, error.kind()),
        };
        report.holds("who has no certificate does not get in", refused.0, refused.1)?;

        // A connection that is kept may be closed by an old worker just when a request is on its way: every request has its own.
        let plan = Plan { kept: 0, fresh: 6, every: Duration::from_millis(25), ask: Ask::get("/") };
        let load = Load::start(&clients, &plan);
        let mut slowest = 0;
        for _ in 0..ROTATIONS {
            let renewed = self.agent.renew("site").await?;
            if renewed.old_serial.as_ref() == Some(&renewed.new_serial) {
                report.holds("a renewal brings a new serial", false, &renewed.new_serial)?;
            }
            see(&clients[0], &renewed.new_serial).await?;
            slowest = slowest.max(renewed.issued_to_served_ms.unwrap_or_default());
            let before = load.tally().fresh;
            wait::until("requests with the new certificate", PATIENCE, async || {
                let now = load.tally();
                if now.fresh > before { Ok(()) } else { Err(format!("no more than {now}")) }
            })
            .await?;
        }
        report.saw(format_args!("{ROTATIONS} rotations, at most {slowest} ms from issued to served"));
        let tally = load.stop().await;
        report.holds("no request failed", tally.failures() == 0, &tally)?;
        let audit = fs::read_to_string(self.place("state/audit.jsonl")).unwrap_or_default();
        let told = audit.lines().filter(|line| line.contains("\"installed\"") && line.contains(proof)).count();
        report.holds("the audit log says how the proxy was told", told >= ROTATIONS, format_args!("{told} × {proof}"))
    }

    /// A hook that does nothing, and says that all went well.
    async fn finds_a_hook_without_effect(&self, report: &mut Report) -> Result<(), StoryError> {
        let config = self.place("portcullis.yaml");
        let file = |source| EnvironmentError::File { doing: "read", path: config.clone(), source };
        let good = fs::read_to_string(&config).map_err(file)?;
        let Some(run) = good.lines().find(|line| line.contains("run: [/bin/sh")) else {
            return report.holds("the example has a hook", false, good);
        };
        report.step("the hook is replaced by one that does nothing and ends well");
        self.reconfigure(&good.replace(run, "      - run: [/bin/true]")).await?;
        let refused = self.agent.renew("site").await.err().map(|error| chain(&error)).unwrap_or_default();
        report.holds("that is no success", refused.contains("goes on serving serial"), &refused)?;
        let status = self.agent.status().await?;
        report.holds("the agent is not ready, and says so", !status.ready, status.reasons.join("; "))?;
        let issued = self.issued();
        self.reconfigure(&good).await?;
        self.ready().await?;
        let served = self.agent.status().await?.certificates.pop().and_then(|site| site.stored);
        let serial = served.map(|leaf| leaf.serial).unwrap_or_default();
        see(&self.client(CHECKOUT).await?, &serial).await?;
        let same = issued == self.issued();
        report.holds("with the right hook it is served by itself, and nothing is issued again", same, serial)
    }

    /// Saves a configuration and waits until it is in force.
    async fn reconfigure(&self, text: &str) -> Result<(), StoryError> {
        let config = self.place("portcullis.yaml");
        let file = |source| EnvironmentError::File { doing: "write", path: config.clone(), source };
        let taken = || self.audit("\"configuration\"");
        let before = taken();
        fs::write(&config, text).map_err(file)?;
        self.agent.reload()?;
        wait::until("the configuration to be taken", PATIENCE, async || {
            if taken() > before { Ok(()) } else { Err("nothing".to_owned()) }
        })
        .await?;
        Ok(())
    }

    async fn ready(&self) -> Result<(), EnvironmentError> {
        wait::until("the agent to find everything served", PATIENCE, async || match self.agent.status().await {
            Ok(status) if status.ready => Ok(()),
            Ok(status) => Err(status.reasons.join("; ")),
            Err(error) => Err(chain(&error)),
        })
        .await
    }

    async fn client(&self, spiffe: &str) -> Result<Client, EnvironmentError> {
        let own = self.agent.issue(spiffe, "1h").await?;
        Client::new(self.gate, &own.ca_pem, Some(&own), Http1)
    }

    async fn ca(&self) -> Result<String, EnvironmentError> {
        Ok(self.agent.issue("spiffe://acme.example/lab", "10m").await?.ca_pem)
    }

    fn issued(&self) -> usize {
        self.audit("\"certificate_issued\"")
    }

    /// Lines of the audit log that say this.
    fn audit(&self, word: &str) -> usize {
        let log = fs::read_to_string(self.place("state/audit.jsonl")).unwrap_or_default();
        log.lines().filter(|line| line.contains(word)).count()
    }

    fn place(&self, name: &str) -> PathBuf {
        Path::join(self.directory.path(), name)
    }

    /// Adds the last words of the programs to what failed.
    fn explain(&self, outcome: Result<(), StoryError>, proxy: &Process, report: &mut Report) -> Result<(), StoryError> {
        if outcome.is_err() {
            let agent = self.agent.process().map(Process::last_words).unwrap_or_default();
            let errors = fs::read_to_string(self.place("error.log")).unwrap_or_default();
            report.line(format!("--- agent\n{agent}\n--- proxy\n{}\n{errors}", proxy.last_words()));
        }
        outcome
    }
}
