//! `acme`: certificates from a real ACME server, by two kinds of challenges, renewed when the server wants it.

use std::fs;
use std::time::Duration;

use portcullis::leaf;
use portcullis::status::CertificateStatus;
use serde_json::Value;

use super::within;
use crate::environment;
use crate::environment::Environment;
use crate::environment::EnvironmentError;
use crate::environment::Pebble;
use crate::environment::PebbleSettings;
use crate::environment::Settings;
use crate::environment::SteppedClock;
use crate::environment::Upstream;
use crate::environment::free_port;
use crate::environment::wait;
use crate::report::Report;
use crate::report::StoryError;

/// Per cent of all requests whose nonce is refused.
const BAD_NONCES: u8 = 20;
/// Until a certificate is ordered, proven and in its place.
const PATIENCE: Duration = Duration::from_secs(60);
/// By which the clock is wrong: less than anybody's TLS certificate lives, more than the certificates need to be due.
const FIVE_DAYS: i64 = 5 * 86_400;
/// Proven by `http-01`, and by `tls-alpn-01`.
const NAMES: [&str; 2] = ["web", "mail"];

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    report.step(format_args!("starting Pebble, which refuses {BAD_NONCES} % of all nonces"));
    let pebble = Pebble::start(&PebbleSettings { bad_nonces: BAD_NONCES, ..PebbleSettings::default() }).await?;
    let folder = tempfile::tempdir().map_err(|source| EnvironmentError::File {
        doing: "create a directory in",
        path: std::env::temp_dir(),
        source,
    })?;
    let (roots, server_ca) = (folder.path().join("roots.pem"), folder.path().join("server-ca.pem"));
    environment::write(&roots, &leaf::pem("CERTIFICATE", &pebble.root(0).await?))?;
    environment::write(&server_ca, pebble.ca_pem())?;
    let issuer = |name: &str, challenge: String| {
        format!(
            "  - name: {name}\n    roots: {roots}\n    acme:\n      directory: {directory}\n      server_ca: {server_ca}\n      \
             profile: shortlived\n      contact: [\"mailto:ops@acme.example\"]\n      challenge: {{ {challenge} }}\n",
            roots = roots.display(),
            directory = pebble.directory(),
            server_ca = server_ca.display(),
        )
    };
    let issuers = issuer("by-http", format!("http01: \"{}\"", pebble.http()))
        + &issuer("by-tls", format!("tls_alpn01: \"{}\"", pebble.tls()));
    let listener = free_port()?;
    let directory = |name: &str| folder.path().join(name);
    let certificates = format!(
        "  - name: web\n    issuer: by-http\n    dns: [web.acme.example]\n    files: {{ directory: {web} }}\n    \
         served_at: [{{ address: \"{listener}\", sni: web.acme.example }}]\n  \
         - name: mail\n    issuer: by-tls\n    dns: [mail.acme.example]\n    files: {{ directory: {mail} }}\n",
        web = directory("web").display(),
        mail = directory("mail").display(),
    );
    let clock = SteppedClock::new()?;
    let settings = Settings {
        clock: Some(clock.clone()),
        agent_config: vec![("\ncertificates:\n", format!("\nissuers:\n{issuers}\ncertificates:\n{certificates}"))],
        ..Settings::default()
    };
    for name in NAMES {
        fs::create_dir(directory(name)).map_err(|source| EnvironmentError::File {
            doing: "create",
            path: directory(name),
            source,
        })?;
    }
    let _service = Upstream::start(listener, directory("web")).await?;
    within(settings, report, async |environment, report| {
        let first = [status(environment, NAMES[0]).await?, status(environment, NAMES[1]).await?];
        let orders = pebble.orders();
        report.holds(
            "one order for each certificate, whatever was refused",
            orders == 2,
            format_args!("{orders} orders"),
        )?;
        let served = first[0].served.iter().all(|served| served.current);
        report.holds(
            "a handshake with the listener shows the one that was proven by http-01",
            served,
            shown(&first[0]),
        )?;
        report.holds(
            "the other, proven by tls-alpn-01, is in its files",
            first[1].state == "retired",
            shown(&first[1]),
        )?;

        mistaken_clock(environment, report, &pebble, &clock, serial(&first[0])).await?;

        report.step("kill -9, and the agent comes back");
        environment.agent.kill();
        environment.agent.start().await?;
        environment.ready().await?;
        let again = status(environment, NAMES[0]).await?;
        report.holds(
            "nothing was ordered again",
            pebble.orders() == 2 && serial(&again) == serial(&first[0]),
            serial(&again),
        )?;

        report.step("the CA wants the first one renewed now (ARI)");
        let own = fs::read_to_string(directory(NAMES[0]).join("cert.pem"));
        let own = own.map_err(|source| EnvironmentError::File { doing: "read", path: directory(NAMES[0]), source })?;
        let past = r#"{"suggestedWindow":{"start":"2026-01-01T00:00:00Z","end":"2026-01-02T00:00:00Z"}}"#;
        pebble.set_renewal_info(&own, past).await?;
        environment.agent.stop().await?;
        environment.agent.start().await?;
        let renewed = wait::until("the renewal", PATIENCE, async || {
            let now = status(environment, NAMES[0]).await.map_err(|error| error.to_string())?;
            if serial(&now) != serial(&first[0]) && now.state == "retired" { Ok(now) } else { Err(shown(&now)) }
        })
        .await?;
        report.holds(
            "it is replaced, proven and served",
            renewed.served.iter().all(|served| served.current),
            shown(&renewed),
        )?;
        report.holds("by one order", pebble.orders() == 3, format_args!("{} orders", pebble.orders()))?;
        let other = status(environment, NAMES[1]).await?;
        report.holds("the other stays as it is", serial(&other) == serial(&first[1]), shown(&other))?;

        let history = environment.agent.run(&["audit", "verify"]).await?;
        report.holds("the audit log is whole", history.contains("whole"), history.trim())
    })
    .await
}

/// Somebody sets the clock five days ahead, by which everything is due or has ended. The CA says what time it is.
async fn mistaken_clock(
    environment: &Environment,
    report: &mut Report,
    pebble: &Pebble,
    clock: &SteppedClock,
    served: &str,
) -> Result<(), StoryError> {
    report.step("the clock is set five days ahead, by which everything is due");
    let orders = pebble.orders();
    clock.step(FIVE_DAYS)?;
    let told = |event: &'static str| async move {
        let history = environment.agent.run(&["history", "clock", "-o", "json"]).await?;
        let history: Value = serde_json::from_str(&history).unwrap_or_default();
        let cause = history.as_array().into_iter().flatten().find(|told| told["event"] == event);
        Ok::<_, EnvironmentError>(cause.and_then(|told| told["cause"].as_str()).map(str::to_owned))
    };
    let alarm = wait::until("the alarm", PATIENCE, async || {
        told("alarm").await.map_err(|error| error.to_string())?.ok_or_else(|| "none yet".to_owned())
    })
    .await?;
    report.holds("the CA is asked, and says by how much it is wrong", alarm.contains("differs by -43"), &alarm)?;
    let web = status(environment, NAMES[0]).await?;
    let waits = web.waits_for.as_deref() == Some("clock");
    report.holds("what is due waits for the clock", waits, web.waits_for.as_deref().unwrap_or("nothing"))?;

    report.step("the clock is right again");
    clock.step(0)?;
    wait::until("the end of the alarm", PATIENCE, async || {
        told("alarm_cleared").await.map_err(|error| error.to_string())?.ok_or_else(|| "not yet".to_owned())
    })
    .await?;
    environment.ready().await?;
    let web = status(environment, NAMES[0]).await?;
    let same = serial(&web) == served && pebble.orders() == orders;
    report.holds("nothing was ordered", same, format_args!("{} orders", pebble.orders()))
}

async fn status(environment: &Environment, name: &str) -> Result<CertificateStatus, EnvironmentError> {
    let status = environment.agent.status().await?;
    let found = status.certificates.into_iter().find(|certificate| certificate.name == name);
    found.ok_or_else(|| EnvironmentError::Refused { what: "the status".to_owned(), words: format!("no `{name}`") })
}

fn serial(status: &CertificateStatus) -> &str {
    status.stored.as_ref().map_or("", |leaf| leaf.serial.as_str())
}

fn shown(status: &CertificateStatus) -> String {
    format!("{}, {} of {}", status.state, serial(status), status.issuer)
}
