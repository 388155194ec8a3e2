//! An issuer changes its keys: the agent fetches them over https and pushes them to Envoy, under load.

use std::time::Duration;

use serde_json::json;

use crate::environment;
use crate::environment::Ask;
use crate::environment::Client;
use crate::environment::Environment;
use crate::environment::EnvironmentError;
use crate::environment::KeyServer;
use crate::environment::Load;
use crate::environment::Plan;
use crate::environment::Protocol::Http1;
use crate::environment::Protocol::Http2;
use crate::environment::Settings;
use crate::environment::wait;
use crate::report::Report;
use crate::report::StoryError;
use crate::stories::CHECKOUT;
use crate::stories::rotation::carry;
use crate::stories::within;
use crate::tokens;
use crate::tokens::AUDIENCE;
use crate::tokens::ISSUER;
use crate::tokens::TokenIssuer;

/// The agent asks a server again after a minute, whatever the server says; this is longer.
const FETCHED: Duration = Duration::from_secs(180);
/// From fetched to in force: a machine that does something else takes some of it.
const IN_FORCE: Duration = Duration::from_secs(30);
/// So many new connections in a row with one answer have been to every worker.
const CONNECTIONS: usize = 24;

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    let (old, new) = (TokenIssuer::new("old", "ES256"), TokenIssuer::new("new", "RS256"));
    let server = KeyServer::start(&[old.jwk()]).await?;
    let folder = tempfile::tempdir().map_err(|source| EnvironmentError::File {
        doing: "create a directory in",
        path: std::env::temp_dir(),
        source,
    })?;
    let roots = folder.path().join("issuer-ca.pem");
    environment::write(&roots, server.ca_pem())?;
    let variables = vec![("SSL_CERT_FILE", roots.display().to_string())];
    // JSON is YAML.
    let policy = json!({
        "version": 1,
        "tokens": { "corp": {
            "issuer": ISSUER, "audience": [AUDIENCE], "binding": "off", "jwks": { "url": server.url() },
        } },
        "rules": [{ "id": "read", "allow": "any", "scopes": ["read"], "paths": ["/orders/{id}"] }],
    });
    let settings = Settings { policy: Some(policy.to_string()), agent: variables, ..Settings::default() };
    within(settings, report, async |environment, report| {
        let clients = [environment.client(CHECKOUT, Http1).await?, environment.client(CHECKOUT, Http2).await?];
        let now = jiff::Timestamp::now().as_second();
        let (of_old, of_new) = (read(&old.sign(&tokens::claims(now))), read(&new.sign(&tokens::claims(now))));
        everywhere(&clients[0], &of_old, "200").await?;
        everywhere(&clients[0], &of_new, "401 token_key_unknown").await?;
        let asked = server.asked();
        report.holds("the agent fetched the issuer's key over https", asked > 0, format_args!("{asked} requests"))?;

        report.step("constant load with tokens of the old key; the issuer publishes a new key beside it");
        let load = |ask: &Ask| {
            let plan = Plan { kept: 4, fresh: 2, every: Duration::from_millis(40), ask: ask.clone() };
            Load::start(&clients, &plan)
        };
        let load_of_old = load(&of_old);
        server.publish(&[old.jwk(), new.jwk()]);
        keys(environment, 2).await?;
        everywhere(&clients[0], &of_new, "200").await?;
        report.holds("tokens of the new key are taken", true, "by every worker")?;
        let load_of_new = load(&of_new);
        carry(&load_of_new).await?;
        let tally = load_of_old.stop().await;
        report.holds("no request with the old key was refused", tally.failures() == 0, &tally)?;

        report.step("the old key is withdrawn while the agent is dead; it returns and asks at once");
        environment.agent.kill();
        server.publish(&[new.jwk()]);
        environment.agent.start_with(&[("SSL_CERT_FILE", &roots.display().to_string())]).await?;
        keys(environment, 1).await?;
        everywhere(&clients[0], &of_old, "401 token_key_unknown").await?;
        report.holds(
            "tokens of the old key are refused, those that were verified before too",
            true,
            "token_key_unknown",
        )?;
        carry(&load_of_new).await?;
        let tally = load_of_new.stop().await;
        report.holds("no request with the new key was refused", tally.failures() == 0, &tally)?;
        let audit = environment.agent.run(&["audit", "verify"]).await?;
        report.holds("the audit log is whole", true, audit.trim())
    })
    .await
}

fn read(token: &str) -> Ask {
    Ask::get("/orders/42").with("authorization", format!("Bearer {token}"))
}

/// Waits until the agent knows so many keys.
async fn keys(environment: &Environment, count: usize) -> Result<(), StoryError> {
    wait::until("the agent to fetch the keys again", FETCHED, async || {
        let status = environment.agent.status().await.map_err(|error| environment::chain(&error))?;
        match status.providers.first() {
            Some(provider) if provider.keys == count && provider.failures == 0 => Ok(()),
            provider => Err(format!("{provider:?}")),
        }
    })
    .await?;
    Ok(())
}

/// Waits until every worker gives this answer.
async fn everywhere(client: &Client, ask: &Ask, expected: &str) -> Result<(), StoryError> {
    wait::until(&format!("`{expected}` from every worker"), IN_FORCE, async || {
        for _ in 0..CONNECTIONS {
            let answer = client.ask(ask).await.map_err(|error| error.kind())?;
            let seen = format!("{} {}", answer.status.as_u16(), answer.code());
            if seen.trim_end() != expected {
                return Err(seen);
            }
        }
        Ok(())
    })
    .await?;
    Ok(())
}
