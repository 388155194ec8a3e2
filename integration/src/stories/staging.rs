//! `staging`: a second ACME server at which orders are rehearsed. On an operator's word a whole order is tried of which nothing is
//! installed; after three failures in a row at the real one the next tries go there first, and the real one is asked again when one
//! of them went well.

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
const NAME: &str = "shop";
const SHOP: &str = "shop.acme.example";

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    report.step("two ACME servers: one that counts, one to rehearse at. Both come to the same port");
    let real = Pebble::start(&PebbleSettings::default()).await?;
    let staging = Pebble::start(&PebbleSettings { http: Some(real.http()), ..PebbleSettings::default() }).await?;
    let folder = tempfile::tempdir().map_err(|source| EnvironmentError::File {
        doing: "create a directory in",
        path: std::env::temp_dir(),
        source,
    })?;
    let place = folder.path();
    environment::write(&place.join("roots.pem"), &leaf::pem("CERTIFICATE", &real.root(0).await?))?;
    environment::write(&place.join("real-ca.pem"), real.ca_pem())?;
    environment::write(&place.join("staging-ca.pem"), staging.ca_pem())?;
    let metrics = free_port()?;
    let config = format!(
        "version: 1\nstate_dir: state\nca: {{ trust_domain: acme.example }}\n\
         listen: {{ xds: run/xds.sock, control: run/control.sock, metrics: \"{metrics}\" }}\n\
         issuers:\n  - name: public\n    roots: roots.pem\n    acme:\n      directory: {directory}\n      \
         server_ca: real-ca.pem\n      staging: {{ directory: {rehearsals}, server_ca: staging-ca.pem }}\n      \
         profile: shortlived\n      challenge: {{ http01: \"{http}\" }}\n\
         certificates:\n  - {{ name: {NAME}, issuer: public, dns: [{SHOP}], files: {{ directory: tls }} }}\n  \
         - {{ name: own, dns: [localhost], files: {{ directory: own }} }}\n",
        directory = real.directory(),
        rehearsals = staging.directory(),
        http = real.http(),
    );
    environment::write(&place.join("portcullis.yaml"), &config)?;
    let mut agent = Agent::new(programs::agent()?, place.join("portcullis.yaml"), place.join("agent.log"));
    agent.start().await?;
    let first = settled(&agent, |now| now.state == "retired").await?;
    let is_real = (real.issued(), staging.orders()) == (1, 0);
    report.holds("the real one issued, and nothing was rehearsed", is_real, serial(&first))?;

    let said = agent.run(&["renew", NAME, "--staging"]).await?;
    report.holds("`renew --staging` tells what it tried", said.contains("nothing was installed"), said.trim())?;
    let now = settled(&agent, |_| true).await?;
    let is_untouched = serial(&now) == serial(&first) && (real.orders(), staging.issued()) == (1, 1);
    report.holds("the certificate is the same, and the real server was not asked", is_untouched, serial(&now))?;
    let refused = agent.run(&["renew", "own", "--staging"]).await.err().map(|error| environment::chain(&error));
    let refused = refused.unwrap_or_default();
    report.holds(
        "where nothing can be rehearsed it says so",
        refused.contains("cannot be rehearsed"),
        refused.trim(),
    )?;

    report.step(format_args!("`{SHOP}` leads nowhere when a renewal is asked for"));
    for server in [&real, &staging] {
        server.dns().forget_address(SHOP).await?;
    }
    let refused = agent.renew(NAME).await.err().map(|error| environment::chain(&error)).unwrap_or_default();
    report.holds("the renewal fails", refused.contains(SHOP), refused.trim())?;
    let rehearsing =
        settled(&agent, |now| now.last_error.as_ref().is_some_and(|error| error.contains("rehearsal"))).await?;
    let orders = (real.orders(), staging.orders());
    let error = rehearsing.last_error.clone().unwrap_or_default();
    report.holds("after three failures it is rehearsed, and fails there", orders.0 == 4 && orders.1 >= 2, &error)?;
    let more = settled(&agent, |now| now.failures > rehearsing.failures).await?;
    let is_spared = (real.orders(), serial(&more)) == (4, serial(&first));
    report.holds("the real server is not asked meanwhile", is_spared, format_args!("{} failures", more.failures))?;

    report.step(format_args!("`{SHOP}` is there again"));
    for server in [&real, &staging] {
        server.dns().remember_address(SHOP).await?;
    }
    let renewed = agent.renew(NAME).await?;
    let counts = (real.orders(), real.issued(), staging.issued());
    report.holds(
        "a rehearsal goes well, and then the real one issues, once",
        counts == (5, 2, 2) && renewed.old_serial.as_deref() == Some(serial(&first)),
        format_args!("{} orders, {} certificates; {} at the other", counts.0, counts.1, counts.2),
    )?;
    let history = agent.run(&["history", NAME, "-o", "json"]).await?;
    let told = history.matches("\"rehearsed\"").count();
    report.holds("the audit log has both rehearsals that went well", told == 2, told)?;
    agent.stop().await?;
    Ok(())
}

fn serial(status: &CertificateStatus) -> &str {
    status.stored.as_ref().map(|stored| stored.serial.as_str()).unwrap_or_default()
}

async fn settled(
    agent: &Agent,
    is_so: impl Fn(&CertificateStatus) -> bool,
) -> Result<CertificateStatus, EnvironmentError> {
    wait::until("the certificate", PATIENCE, async || {
        let status = agent.status().await.map_err(|error| error.to_string())?;
        let found = status.certificates.into_iter().find(|certificate| certificate.name == NAME);
        let now = found.ok_or("it is not configured")?;
        if is_so(&now) { Ok(now) } else { Err(format!("{now:?}")) }
    })
    .await
}
