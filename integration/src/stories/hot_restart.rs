//! `hot-restart`: another Envoy takes over from the one that runs, under load. Certificates are replaced while both are there, and no
//! request is lost.

use std::time::Duration;
use std::time::Instant;

use super::CHECKOUT;
use super::REPORTING;
use super::intermediate::renew;
use super::rotation::carry;
use super::within;
use crate::environment::Ask;
use crate::environment::Environment;
use crate::environment::Load;
use crate::environment::Plan;
use crate::environment::Protocol::Http1;
use crate::environment::Protocol::Http2;
use crate::environment::Settings;
use crate::environment::chain;
use crate::environment::wait;
use crate::report::Report;
use crate::report::StoryError;

/// Longer than the one before stays.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a renewal says of a proxy that is busy.
const UNANSWERED: &str = "not every proxy took it within";
/// Renewals after the one before has gone.
const AFTER: usize = 5;

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    within(Settings { hot_restart: true, ..Settings::default() }, report, async |environment, report| {
        let clients = [environment.client(CHECKOUT, Http1).await?, environment.client(REPORTING, Http2).await?];
        let plan = Plan { kept: 4, fresh: 2, every: Duration::from_millis(40), ask: Ask::get("/orders/42") };
        let load = Load::start(&clients, &plan);
        carry(&load).await?;

        report.step("another Envoy takes over, and the one before ends its connections in good order");
        let mut before = environment.envoy.hot_restart()?;
        let (mut renewed, began) = (0, Instant::now());
        while before.ended().is_none() && began.elapsed() < PATIENCE {
            renew_at_both(environment, &load).await?;
            renewed += 1;
        }
        report.holds(
            "certificates were replaced while both were there",
            renewed > 1,
            format_args!("{renewed} times"),
        )?;
        let went = before.ended().is_some_and(|status| status.success());
        report.holds(
            "the one before went by itself",
            went,
            format_args!("after {:.1} s", began.elapsed().as_secs_f32()),
        )?;
        environment.envoy.ready().await?;
        for _ in 0..AFTER {
            renew(environment, &load).await?;
        }
        report.step(format_args!("{AFTER} times more, now that it is alone"));

        let tally = load.stop().await;
        report.holds("no request failed", tally.failures() == 0, &tally)?;
        let audit = environment.agent.run(&["audit", "verify"]).await?;
        report.holds("the audit log is whole", true, audit.trim())
    })
    .await
}

/// Has certificates renewed while another Envoy begins. What compiles Wasm answers nobody for that time, and may need more of it
/// than the command waits: then that says so, and the agent goes on by itself.
async fn renew_at_both(environment: &Environment, load: &Load) -> Result<(), StoryError> {
    match renew(environment, load).await {
        Err(error) if chain(&error).contains(UNANSWERED) => {}
        outcome => return outcome,
    }
    wait::until("what was not answered to be served after all", PATIENCE, async || {
        let status = environment.agent.status().await.map_err(|error| chain(&error))?;
        let late = status.certificates.iter().find(|one| one.state != "retired" || one.failures > 0);
        late.map_or(Ok(()), |one| Err(format!("{one:?}")))
    })
    .await?;
    carry(load).await
}
