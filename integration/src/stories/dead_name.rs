//! `dead-name`: a certificate of several names, one of which the CA does not issue for and one that leads nowhere. Where nothing is
//! said it waits and says which they are; where the configuration says `drop` it is issued without them, loudly, and takes back the
//! one that comes to life.

use std::path::Path;
use std::time::Duration;

use portcullis::leaf;
use portcullis::status::CertificateStatus;

use crate::environment;
use crate::environment::Agent;
use crate::environment::EnvironmentError;
use crate::environment::Pebble;
use crate::environment::PebbleSettings;
use crate::environment::free_port;
use crate::environment::programs;
use crate::environment::wait;
use crate::report::Report;
use crate::report::StoryError;

/// Until something happens that has to.
const PATIENCE: Duration = Duration::from_secs(60);
const SHOP: &str = "shop.acme.example";
const BLOCKED: &str = "blocked.acme.example";
const GONE: &str = "gone.acme.example";

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    report.step(format_args!("a CA that does not issue for `{BLOCKED}`, and finds nobody at `{GONE}`"));
    let pebble = Pebble::start(&PebbleSettings { blocked: vec![BLOCKED], ..PebbleSettings::default() }).await?;
    pebble.dns().forget_address(GONE).await?;
    let folder = tempfile::tempdir().map_err(|source| EnvironmentError::File {
        doing: "create a directory in",
        path: std::env::temp_dir(),
        source,
    })?;
    let place = folder.path();
    environment::write(&place.join("roots.pem"), &leaf::pem("CERTIFICATE", &pebble.root(0).await?))?;
    environment::write(&place.join("server-ca.pem"), pebble.ca_pem())?;
    let metrics = free_port()?;
    let config = format!(
        "version: 1\nstate_dir: state\nca: {{ trust_domain: acme.example }}\n\
         listen: {{ xds: run/xds.sock, control: run/control.sock, metrics: \"{metrics}\" }}\n\
         issuers:\n  - name: public\n    roots: roots.pem\n    acme:\n      directory: {directory}\n      \
         server_ca: server-ca.pem\n      profile: shortlived\n      challenge: {{ http01: \"{http}\" }}\n\
         certificates:\n  - {{ name: drops, issuer: public, when_a_name_fails: drop, dns: [{SHOP}, {BLOCKED}, {GONE}], \
         files: {{ directory: drops }} }}\n  - {{ name: waits, issuer: public, dns: [other.acme.example, {BLOCKED}], \
         files: {{ directory: waits }} }}\n",
        directory = pebble.directory(),
        http = pebble.http(),
    );
    environment::write(&place.join("portcullis.yaml"), &config)?;
    let mut agent = Agent::new(programs::agent()?, place.join("portcullis.yaml"), place.join("agent.log"));
    agent.start().await?;

    let first = settled(&agent, "drops", |now| now.stored.is_some() && now.state == "retired").await?;
    let names = names_in(&place.join("drops/tls.crt"))?;
    report.holds("`drop`: it is issued for the name that is good, at once", names == [SHOP], names.join(", "))?;
    let left_out: Vec<&str> = first.dead_names.iter().filter(|dead| dead.left_out).map(|dead| &*dead.name).collect();
    report.holds(
        "the status says without whom",
        left_out.contains(&BLOCKED) && left_out.contains(&GONE) && left_out.len() == 2,
        left_out.join(", "),
    )?;
    let table = agent.run(&["status"]).await?;
    report.holds("so does the table, loudly", table.contains("WITHOUT") && table.contains(GONE), table.trim())?;
    let history = agent.run(&["history", "drops", "-o", "json"]).await?;
    let failed = history.matches("\"name_failed\"").count();
    report.holds("and the audit log, once each", failed == 2, failed)?;

    let waiting = settled(&agent, "waits", |now| now.last_error.is_some()).await?;
    let dead: Vec<&str> = waiting.dead_names.iter().map(|dead| &*dead.name).collect();
    let error = waiting.last_error.clone().unwrap_or_default();
    report.holds(
        "`wait`: nothing is issued, and which name is to blame is said",
        waiting.stored.is_none() && dead == [BLOCKED] && error.contains(BLOCKED),
        &error,
    )?;
    report.holds("it is tried again", waiting.next_attempt.is_some(), format_args!("{} failed", waiting.failures))?;

    report.step(format_args!("`{GONE}` comes to life"));
    pebble.dns().remember_address(GONE).await?;
    let renewed = agent.renew("drops").await?;
    let names = names_in(&place.join("drops/tls.crt"))?;
    let is_back = names == [GONE, SHOP];
    report.holds("a renewal takes it back, and the other one stays out", is_back, names.join(", "))?;
    let now = settled(&agent, "drops", |now| now.state == "retired").await?;
    let serial = now.stored.as_ref().map(|stored| stored.serial.clone());
    let left_out: Vec<&str> = now.dead_names.iter().map(|dead| &*dead.name).collect();
    let is_said = left_out == [BLOCKED] && serial.as_ref() == Some(&renewed.new_serial) && now.last_error.is_none();
    report.holds("and the status says so", is_said, left_out.join(", "))?;
    let history = agent.run(&["history", "drops", "-o", "json"]).await?;
    report.holds("the audit log tells that it is back", history.contains("\"name_back\""), "name_back")?;
    agent.stop().await?;
    Ok(())
}

async fn settled(
    agent: &Agent,
    name: &str,
    is_so: impl Fn(&CertificateStatus) -> bool,
) -> Result<CertificateStatus, EnvironmentError> {
    wait::until("the certificate", PATIENCE, async || {
        let status = agent.status().await.map_err(|error| error.to_string())?;
        let found = status.certificates.into_iter().find(|certificate| certificate.name == name);
        let now = found.ok_or("it is not configured")?;
        if is_so(&now) { Ok(now) } else { Err(format!("{now:?}")) }
    })
    .await
}

/// The names of the first certificate in a file, in their order.
fn names_in(file: &Path) -> Result<Vec<String>, EnvironmentError> {
    use x509_parser::extensions::GeneralName;
    use x509_parser::prelude::FromDer as _;

    let unreadable = || EnvironmentError::Unreadable { what: file.display().to_string(), text: "no chain".to_owned() };
    let pem = std::fs::read_to_string(file).map_err(|_| unreadable())?;
    let chain = leaf::chain(&pem).map_err(|_| unreadable())?;
    let der = chain.first().ok_or_else(unreadable)?;
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(der).map_err(|_| unreadable())?;
    let names = parsed.subject_alternative_name().ok().flatten().ok_or_else(unreadable)?;
    let mut dns: Vec<String> = Vec::new();
    for name in &names.value.general_names {
        if let GeneralName::DNSName(name) = name {
            dns.push((*name).to_owned());
        }
    }
    dns.sort();
    Ok(dns)
}
