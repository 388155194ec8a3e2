//! `issuer-down`: OpenBao issues a certificate, goes away, and comes back; who is served notices nothing of it.

use std::fs;
use std::time::Duration;

use portcullis::status::CertificateStatus;

use super::within;
use crate::environment::Environment;
use crate::environment::EnvironmentError;
use crate::environment::OpenBao;
use crate::environment::Settings;
use crate::environment::Upstream;
use crate::environment::free_port;
use crate::environment::wait;
use crate::report::Report;
use crate::report::StoryError;

/// A certificate in files, proven by a handshake with who reads them.
const NAME: &str = "web";
/// Until a failing issuer was asked as often as it takes.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    report.step("starting OpenBao with a root, an intermediate and a role");
    let bao = OpenBao::start().await?;
    let (role_id, secret_id) = bao.app_role().await?;
    let root = bao.directory().join("root.pem");
    fs::write(&root, bao.root_pem()).map_err(|source| EnvironmentError::File {
        doing: "write",
        path: root.clone(),
        source,
    })?;
    let (address, server_ca) = (bao.address(), bao.server_ca());
    let issuers = format!(
        "issuers:\n  - name: bao\n    roots: {root}\n    openbao:\n      address: {address}\n      server_ca: {server_ca}\n      \
         mount: pki_int\n      role: gateway\n      login: {{ approle: {{ role_id: {role_id}, secret_id_file: {secret_id} }} }}\n",
        root = root.display(),
        server_ca = server_ca.display(),
        secret_id = secret_id.display(),
    );
    let listener = free_port()?;
    let files = bao.directory().join(NAME);
    fs::create_dir(&files).map_err(|source| EnvironmentError::File { doing: "create", path: files.clone(), source })?;
    // All but the first second of the lifetime is near its end, so that nobody has to wait for it.
    let certificate = format!(
        "  - name: {NAME}\n    issuer: bao\n    fallback: {{ issuer: built-in, below: 0.99999 }}\n    \
         dns: [web.acme.example]\n    files: {{ directory: {} }}\n    \
         served_at: [{{ address: \"{listener}\", sni: web.acme.example }}]\n",
        files.display(),
    );
    let settings = Settings {
        agent_config: vec![("\ncertificates:\n", format!("\n{issuers}\ncertificates:\n{certificate}"))],
        ..Settings::default()
    };
    let _service = Upstream::start(listener, files).await?;
    within(settings, report, async |environment, report| {
        let first = status(environment).await?;
        let good = first.issuer == "bao" && is_served(&first);
        report.holds("OpenBao issued the certificate that is served", good, &first.issuer)?;

        report.step("OpenBao is sealed, and a renewal is asked for");
        bao.seal().await?;
        let refused = environment.agent.renew(NAME).await.err().map(|error| error.to_string()).unwrap_or_default();
        report.holds("the answer names who refused, and why", refused.contains("503"), &refused)?;
        let then = status(environment).await?;
        report.holds("what is served is still good", is_served(&then) || then.issuer != "bao", &then.state)?;
        let second = issued_by(environment, "built-in").await?;
        report.holds("the fallback issued another", serial(&second) != serial(&first), serial(&second))?;
        environment.ready().await?;
        let second = status(environment).await?;
        report.holds("which is served", is_served(&second), &second.state)?;

        report.step("OpenBao is unsealed, and a renewal is asked for");
        bao.unseal().await?;
        environment.agent.renew(NAME).await?;
        let third = status(environment).await?;
        let good = third.issuer == "bao" && is_served(&third);
        report.holds("OpenBao issues again, and its certificate is served", good, &third.issuer)?;

        let secret = fs::read_to_string(&secret_id).unwrap_or_default();
        let log = fs::read_to_string(environment.agent.log()).unwrap_or_default();
        let is_told = secret.trim().is_empty() || log.contains(secret.trim());
        report.holds(
            "the login's secret is not in the agent's log",
            !is_told,
            format_args!("{} bytes of log", log.len()),
        )?;
        let audit = environment.agent.run(&["audit", "verify"]).await?;
        report.holds("the audit log is whole", audit.contains("whole"), audit.trim())
    })
    .await
}

async fn status(environment: &Environment) -> Result<CertificateStatus, EnvironmentError> {
    let status = environment.agent.status().await?;
    let found = status.certificates.into_iter().find(|certificate| certificate.name == NAME);
    found.ok_or_else(|| EnvironmentError::Refused { what: "the status".to_owned(), words: format!("no `{NAME}`") })
}

async fn issued_by(environment: &Environment, issuer: &str) -> Result<CertificateStatus, EnvironmentError> {
    wait::until("another issuer's certificate", PATIENCE, async || {
        let status = status(environment).await.map_err(|error| error.to_string())?;
        if status.issuer == issuer { Ok(status) } else { Err(format!("it is of `{}`", status.issuer)) }
    })
    .await
}

fn is_served(status: &CertificateStatus) -> bool {
    !status.served.is_empty() && status.served.iter().all(|served| served.current)
}

fn serial(status: &CertificateStatus) -> &str {
    status.stored.as_ref().map_or("", |leaf| leaf.serial.as_str())
}
