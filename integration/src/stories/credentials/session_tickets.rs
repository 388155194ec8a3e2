//! `session-tickets`: returning clients resume their sessions at every proxy that has the keys, also after a new key, and not
//! after the end of the old one.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::PATIENCE;
use super::rotate;
use super::wait_until_retired;
use crate::environment;
use crate::environment::Ask;
use crate::environment::Client;
use crate::environment::Environment;
use crate::environment::Envoy;
use crate::environment::EnvoyCommand;
use crate::environment::Programs;
use crate::environment::Protocol;
use crate::environment::Protocol::Http1;
use crate::environment::Protocol::Http2;
use crate::environment::Settings;
use crate::environment::free_port;
use crate::environment::wait;
use crate::report::Report;
use crate::report::StoryError;
use crate::stories::CHECKOUT;
use crate::stories::within;

const TICKETS: &str = "tickets";

pub(in crate::stories) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    let resuming = free_port()?;
    let credentials = format!(
        "\ncredentials:\n  - {{ name: {TICKETS}, source: {{ session_ticket_keys: {{}} }}, lifetime: 12h, overlap: 6s, sds: {{}} }}\n\nbundles:\n"
    );
    let port = |address: SocketAddr| format!("port_value: {}", address.port());
    let settings = Settings {
        beside: Some(("session-tickets.yaml", vec![("port_value: 10446", port(resuming))])),
        agent_config: vec![("\nbundles:\n", credentials)],
        ..Settings::default()
    };
    within(settings, report, async |environment, report| {
        let (second, _other) = another(environment, resuming).await?;
        for protocol in [Http1, Http2] {
            report.step(format_args!("over {protocol}"));
            let client = resuming_client(environment, resuming, protocol).await?;
            let [first, again] = [resumed(&client).await?, resumed(&client).await?];
            report.holds("a returning client resumes its session", (first, again) == (false, true), "")?;
            rotate(environment, TICKETS).await?;
            let again = resumed(&client).await?;
            report.holds("also when there is a new key", again, "")?;
            let elsewhere = resumed(&client.clone().at(second)).await?;
            report.holds("also at another proxy with the same keys", elsewhere, "")?;

            // A ticket of before the last key, kept by a client that comes back late.
            let late = resuming_client(environment, resuming, protocol).await?;
            resumed(&late).await?;
            rotate(environment, TICKETS).await?;
            wait_until_retired(environment, TICKETS).await?;
            let again = resumed(&late).await?;
            report.holds("not when the old key is gone: it shakes hands anew, and is let in", !again, "")?;
            let again = resumed(&late).await?;
            report.holds("and resumes by the new key from then on", again, "")?;
        }
        let client = resuming_client(environment, resuming, Http2).await?;
        resumed(&client).await?;
        report.step("the agent is killed and comes back");
        environment.agent.kill();
        report.holds("sessions are resumed without it", resumed(&client).await?, "")?;
        environment.agent.start().await?;
        both_are_back(environment).await?;
        environment.ready().await?;
        let status = environment.agent.status().await?;
        let rotations = status.credentials.first().map_or(0, |credential| credential.rotations);
        report.holds(
            "and with it, by the same keys",
            resumed(&client).await?,
            format_args!("{rotations} rotations"),
        )?;
        let own = environment.agent.issue(CHECKOUT, "1h").await?;
        let client = environment.client_to(resuming, Some(&own))?.resuming();
        resumed(&client).await?;
        environment.agent.run(&["revoke", "--identity", CHECKOUT, "--reason", "story"]).await?;
        let answer = ask(&client).await;
        report.holds("who is revoked is refused in a resumed session too", answer == "401 certificate_revoked", &answer)
    })
    .await
}

/// Waits until both proxies are connected: the agent is content with one.
async fn both_are_back(environment: &Environment) -> Result<(), StoryError> {
    wait::until("both proxies to connect again", PATIENCE, async || {
        let status = environment.agent.status().await.map_err(|error| environment::chain(&error))?;
        let nodes: BTreeSet<_> = status.proxies.into_iter().map(|proxy| proxy.node).collect();
        if nodes.contains("gateway-1") && nodes.contains("gateway-2") { Ok(()) } else { Err(format!("{nodes:?}")) }
    })
    .await?;
    Ok(())
}

async fn resuming_client(environment: &Environment, at: SocketAddr, protocol: Protocol) -> Result<Client, StoryError> {
    Ok(environment.client(CHECKOUT, protocol).await?.at(at).resuming())
}

/// Whether the session of a new connection is one of before. The client is let in, in any case.
async fn resumed(client: &Client) -> Result<bool, StoryError> {
    let failed = |source| StoryError::Request { doing: "open a connection and be let in".to_owned(), source };
    let mut connection = client.connect().await.map_err(failed)?;
    let answer = connection.ask(&Ask::get("/orders/42")).await.map_err(failed)?;
    if answer.status == 200 {
        return Ok(connection.is_resumed());
    }
    let seen = format!("{} {}", answer.status.as_u16(), answer.code());
    Err(StoryError::Claim { claim: "the client is let in".to_owned(), seen })
}

async fn ask(client: &Client) -> String {
    match client.ask(&Ask::get("/orders/42")).await {
        Ok(answer) => format!("{} {}", answer.status.as_u16(), answer.code()),
        Err(error) => error.kind(),
    }
}

/// A second proxy with the same configuration at other ports; where its listener is.
async fn another(environment: &Environment, resuming: SocketAddr) -> Result<(SocketAddr, Envoy), StoryError> {
    let [gate, second, admin] = [free_port()?, free_port()?, free_port()?];
    let root = environment.directory();
    let port = |address: SocketAddr| format!("port_value: {}", address.port());
    let config = root.join("second.yaml");
    let places = [(environment.gate, gate), (environment.envoy.admin_address(), admin)];
    let mut places: Vec<_> = places.iter().map(|(from, to)| (port(*from), port(*to))).collect();
    places.push(("id: gateway-1".to_owned(), "id: gateway-2".to_owned()));
    environment::copy(&root.join("envoy.yaml"), &config, &places)?;
    let beside = root.join("second-tickets.yaml");
    environment::copy(&root.join("session-tickets.yaml"), &beside, &[(port(resuming), port(second))])?;
    let command = EnvoyCommand {
        program: Programs::find()?.envoy,
        config,
        beside: Some(beside),
        admin,
        log: root.join("second.log"),
        concurrency: 1,
        core: None,
        base_id: None,
    };
    let mut envoy = Envoy::start(&command)?;
    envoy.ready().await?;
    Ok((second, envoy))
}
