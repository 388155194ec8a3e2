//! The revocation list of another authority, behind a URL: fetched, kept, pushed to the filter and into Envoy's own validation.

use super::PATIENCE;
use super::ask;
use super::connecting;
use super::is;
use super::once;
use crate::certificates::Authority;
use crate::certificates::Leaf;
use crate::environment;
use crate::environment::Credentials;
use crate::environment::DocumentServer;
use crate::environment::Environment;
use crate::environment::EnvironmentError;
use crate::environment::Protocol::Http2;
use crate::environment::Settings;
use crate::environment::wait;
use crate::report::Report;
use crate::report::StoryError;
use crate::stories::CHECKOUT;
use crate::stories::REPORTING;
use crate::stories::within;

const ONE: &[u8] = &[0x11];
const OTHER: &[u8] = &[0x22];
/// Of a client whose certificate is on a list that Envoy has.
pub(super) const REFUSED: &str = "tls alert CertificateRevoked";

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    let corp = Authority::new("corp");
    let server = DocumentServer::start("application/pkix-crl", None).await?;
    server.publish(corp.list(1, &[]));
    let folder = tempfile::tempdir().map_err(|source| EnvironmentError::File {
        doing: "create a directory in",
        path: std::env::temp_dir(),
        source,
    })?;
    let file = folder.path().join("corp-ca.pem");
    environment::write(&file, &corp.pem())?;
    let (ca, url) = (file.display(), format!("http://{}/corp.crl", server.address()));
    let revocation = format!("\nrevocation:\n  lists: [{{ name: corp, ca: {ca}, url: \"{url}\" }}]\n\nfilter:\n");
    let settings = Settings {
        agent_config: vec![
            ("{ name: clients, ca: built-in }", format!("{{ name: clients, ca: built-in, also: [{ca}] }}")),
            ("\nfilter:\n", revocation),
        ],
        ..Settings::default()
    };
    within(settings, report, async |environment, report| {
        report.step("two clients of another authority, whose list is fetched from its server");
        let own = environment.agent.issue(CHECKOUT, "1h").await?;
        let credentials = |leaf: &Leaf| Credentials {
            chain_pem: leaf.pem(),
            key_pem: leaf.key_pem().to_owned(),
            ca_pem: own.ca_pem.clone(),
        };
        let one = credentials(&corp.leaf().uri(CHECKOUT).serial(ONE).issue());
        let other = credentials(&corp.leaf().uri(REPORTING).serial(OTHER).issue());
        let mut open = environment.client_with(Some(&one), Http2)?.connect().await.map_err(connecting)?;
        let mut neighbour = environment.client_with(Some(&other), Http2)?.connect().await.map_err(connecting)?;
        for connection in [&mut open, &mut neighbour] {
            let seen = ask(connection, "/orders/1").await;
            report.holds("they get in", seen == "200", &seen)?;
        }

        report.step("the authority revokes one of them while the agent is dead; it returns and asks at once");
        environment.agent.kill();
        server.publish(corp.list(2, &[ONE]));
        environment.agent.start().await?;
        wait::until("the open connection to be refused", PATIENCE, async || {
            is("401 certificate_revoked", ask(&mut open, "/orders/1").await)
        })
        .await?;
        report.holds("the filter refuses it on the connection that is open", true, "401 certificate_revoked")?;
        refused(environment, report, &one).await?;
        let seen = ask(&mut neighbour, "/orders/1").await;
        report.holds("the other goes on, on the same connection", seen == "200", &seen)?;
        gets_in(environment, report, "the other", &other).await?;
        gets_in(environment, report, "a client of the built-in CA", &own).await?;

        report.step("the server is gone when the agent starts again");
        drop(server);
        environment.agent.kill();
        environment.agent.start().await?;
        wait::until("the agent to say so", PATIENCE, async || {
            let status = environment.agent.status().await.map_err(|error| environment::chain(&error))?;
            match status.revocations.lists.first() {
                Some(list) if list.entries == 1 && list.last_error.is_some() => Ok(()),
                list => Err(format!("{list:?}")),
            }
        })
        .await?;
        report.holds("the last good list stays", true, "1 entry")?;
        refused(environment, report, &one).await?;
        gets_in(environment, report, "the other", &other).await
    })
    .await
}

async fn refused(environment: &Environment, report: &mut Report, own: &Credentials) -> Result<(), StoryError> {
    wait::until("a handshake to be refused", PATIENCE, async || is(REFUSED, seen(environment, own).await)).await?;
    report.holds("Envoy refuses its next handshake", true, REFUSED)
}

async fn gets_in(
    environment: &Environment,
    report: &mut Report,
    who: &str,
    own: &Credentials,
) -> Result<(), StoryError> {
    let seen = seen(environment, own).await;
    report.holds(&format!("{who} gets in over a new connection"), seen == "200", &seen)
}

async fn seen(environment: &Environment, own: &Credentials) -> String {
    match environment.client_with(Some(own), Http2) {
        Ok(client) => once(&client, "/orders/1").await,
        Err(error) => environment::chain(&error),
    }
}
