//! `agent-crash`: the agent dies by `kill -9`; traffic goes on, and when it comes back nothing that is good is issued
//! again.

use std::collections::BTreeMap;
use std::time::Duration;

use portcullis::status::Status;

use super::CHECKOUT;
use super::REPORTING;
use super::rotation::serial_of;
use super::within;
use crate::environment::Ask;
use crate::environment::Environment;
use crate::environment::EnvironmentError;
use crate::environment::Load;
use crate::environment::Plan;
use crate::environment::Protocol::Http1;
use crate::environment::Protocol::Http2;
use crate::environment::Settings;
use crate::environment::wait;
use crate::report::Report;
use crate::report::StoryError;

/// Places at which the agent dies in the middle of a rotation: after an edge is written down and before it is taken,
/// and after it is taken and before that is written down.
const FAILPOINTS: &[&str] = &["obtain", "obtain-done", "install", "install-done", "prove", "audit", "rename"];

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    within(Settings::default(), report, async |environment, report| {
        let clients = [environment.client(CHECKOUT, Http1).await?, environment.client(REPORTING, Http2).await?];
        let plan = Plan { kept: 2, fresh: 2, every: Duration::from_millis(40), ask: Ask::get("/orders/42") };
        let load = Load::start(&clients, &plan);

        let before = serials(&environment.agent.status().await?);
        report.step("kill -9, while nothing is under way");
        environment.agent.kill();
        more(&load, report, "traffic goes on without the agent").await?;
        environment.agent.start().await?;
        environment.ready().await?;
        let after = serials(&environment.agent.status().await?);
        report.holds("nothing was issued again", before == after, list(&after))?;
        whole(environment, report).await?;

        for failpoint in FAILPOINTS {
            in_the_middle(environment, report, &load, failpoint).await?;
        }

        let tally = load.stop().await;
        report.holds("no request failed in all that time", tally.failures() == 0, &tally)
    })
    .await
}

/// Lets the agent die at one point of a rotation, and come back.
async fn in_the_middle(
    environment: &mut Environment,
    report: &mut Report,
    load: &Load,
    failpoint: &str,
) -> Result<(), StoryError> {
    report.step(format_args!("the agent dies in a rotation, at `{failpoint}`"));
    let before = serials(&environment.agent.status().await?);
    environment.agent.stop().await?;
    let died = match environment.agent.start_with(&[("PORTCULLIS_FAILPOINT", failpoint)]).await {
        // `upstream` is delivered over files and proven by a handshake: it passes every edge. Its answer is cut off.
        Ok(()) => environment.agent.renew("upstream").await.is_err(),
        // Some of what it does at its start passes the same point.
        Err(EnvironmentError::Exited { .. }) => true,
        Err(error) => return Err(error.into()),
    };
    report.holds("it died", died, "no answer")?;
    more(load, report, "traffic goes on").await?;
    environment.agent.kill();
    environment.agent.start().await?;
    environment.ready().await?;
    let after = serials(&environment.agent.status().await?);
    let changed: Vec<_> = after.iter().filter(|(name, serial)| before.get(*name) != Some(serial)).collect();
    let only = changed.iter().all(|(name, _)| name.as_str() == "upstream");
    report.holds("no other certificate was touched", only, list(&after))?;
    whole(environment, report).await
}

/// Everything that is stored is served, and the audit log has no gap.
async fn whole(environment: &Environment, report: &mut Report) -> Result<(), StoryError> {
    let status = environment.agent.status().await?;
    report.holds("the state is whole", status.ready, "ready: what is stored is served")?;
    let stored = serials(&status).remove("gateway").unwrap_or_default();
    let client = environment.client(CHECKOUT, Http1).await?;
    let leaf = client.leaf().await;
    let leaf = leaf.map_err(|source| StoryError::Request { doing: "cannot shake hands".to_owned(), source })?;
    let served = serial_of(&leaf);
    report.holds("a handshake of our own agrees", served == stored, format_args!("serial {served}"))?;
    let audit = environment.agent.run(&["audit", "verify"]).await?;
    report.holds("the audit log verifies", true, audit.trim())
}

/// Waits for a good many more requests.
async fn more(load: &Load, report: &mut Report, claim: &str) -> Result<(), StoryError> {
    let before = load.tally();
    let goal = before.succeeded() + 100;
    wait::until("more requests to be answered", Duration::from_secs(30), async || {
        let now = load.tally().succeeded();
        if now >= goal { Ok(()) } else { Err(format!("{now} of {goal}")) }
    })
    .await?;
    let failures = load.tally().failures() - before.failures();
    report.holds(claim, failures == 0, format_args!("{} more requests, {failures} failed", 100))
}

fn serials(status: &Status) -> BTreeMap<String, String> {
    let serial = |certificate: &portcullis::status::CertificateStatus| {
        certificate.stored.as_ref().map(|leaf| leaf.serial.clone()).unwrap_or_default()
    };
    status.certificates.iter().map(|certificate| (certificate.name.clone(), serial(certificate))).collect()
}

fn list(serials: &BTreeMap<String, String>) -> String {
    serials.iter().map(|(name, serial)| format!("{name} {serial}")).collect::<Vec<_>>().join(", ")
}
