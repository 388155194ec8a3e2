//! `intermediate`: the authority below the root is replaced again and again under load, by itself and by hand, while clients and
//! services know the root alone. Nobody is refused who should not be, and who is revoked is, under each of them.

use std::collections::BTreeSet;
use std::time::Duration;

use portcullis::status::IntermediateStatus;
use rustls::AlertDescription;

use super::CHECKOUT;
use super::bundle::client;
use super::bundle::refusal;
use super::rotation::carry;
use super::rotation::see;
use super::rotation::serial_of;
use super::within;
use crate::environment::Ask;
use crate::environment::Credentials;
use crate::environment::Environment;
use crate::environment::EnvironmentError;
use crate::environment::Load;
use crate::environment::Plan;
use crate::environment::Settings;
use crate::environment::certificates_of;
use crate::environment::wait;
use crate::report::Report;
use crate::report::StoryError;

/// Longer than any wait here takes.
const PATIENCE: Duration = Duration::from_secs(120);
/// Of who sends all the load, and of who is revoked; an intermediate has that left when the next one follows.
const LIFETIME: &str = "120s";
/// How many intermediates an operator asks for.
const BY_HAND: usize = 10;

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    // The least share: the first is followed by itself within half a minute.
    let intermediate = "root_lifetime: 3650d\n  intermediate: { lifetime: 150s, rotate_after: 0.2 }".to_owned();
    let settings = Settings {
        lifetime: Some("60s"),
        agent_config: vec![("root_lifetime: 3650d", intermediate)],
        ..Settings::default()
    };
    within(settings, report, async |environment, report| {
        let first = the_one(environment).await?;
        let own = environment.agent.issue(CHECKOUT, LIFETIME).await?;
        let (chain, roots) = (certificates_of(&own.chain_pem)?.len(), certificates_of(&own.ca_pem)?.len());
        report.holds(
            "a certificate comes with the intermediate that signed it, and the root alone to trust",
            (chain, roots) == (2, 1),
            format_args!("{chain} in the chain, {roots} to trust"),
        )?;
        let plan = Plan { kept: 2, fresh: 2, every: Duration::from_millis(40), ask: Ask::get("/orders/42") };
        let load = Load::start(&[client(environment, &own)?], &plan);
        carry(&load).await?;
        revoke(environment, report, "the first intermediate").await?;

        let second = another(environment, &first).await?;
        report
            .step("its time has come: the root signed another one, every proxy took its revocation list, and it signs");
        report.saw(format_args!("{} after {}", second.serial, first.serial));
        renew(environment, &load).await?;

        let (mut serials, mut last) = (BTreeSet::from([first.serial.clone(), second.serial.clone()]), second);
        for _ in 0..BY_HAND {
            match environment.agent.run(&["ca", "rotate", "--intermediate"]).await {
                // The schedule was faster: that one is as good.
                Err(error) if error.to_string().contains("another one is there already") => {}
                outcome => drop(outcome?),
            }
            last = another(environment, &last).await?;
            serials.insert(last.serial.clone());
            renew(environment, &load).await?;
        }
        report
            .step(format_args!("{BY_HAND} more by `portcullis ca rotate --intermediate`, each seen in what is served"));
        report.holds(
            "each is one of its own",
            serials.len() == BY_HAND + 2,
            format_args!("{} serials", serials.len()),
        )?;
        revoke(environment, report, "the last intermediate").await?;

        environment.agent.kill();
        carry(&load).await?;
        environment.agent.start().await?;
        environment.ready().await?;
        report.step("the agent died by kill -9 and came back");
        renew(environment, &load).await?;

        let tally = load.stop().await;
        report.holds("no request failed", tally.failures() == 0, &tally)?;
        let status = environment.agent.status().await?;
        let entries: Vec<usize> = status.bundles.iter().map(|bundle| bundle.entries.len()).collect();
        report.holds(
            "bundles have the root alone",
            entries.iter().all(|count| *count == 1),
            format_args!("{entries:?}"),
        )?;
        let audit = environment.agent.run(&["audit", "verify"]).await?;
        report.holds("the audit log is whole", true, audit.trim())
    })
    .await
}

/// The one that signs.
async fn the_one(environment: &Environment) -> Result<IntermediateStatus, StoryError> {
    another_than(environment, None).await
}

/// Waits until another one signs.
async fn another(environment: &Environment, than: &IntermediateStatus) -> Result<IntermediateStatus, StoryError> {
    another_than(environment, Some(&than.serial)).await
}

async fn another_than(environment: &Environment, than: Option<&String>) -> Result<IntermediateStatus, StoryError> {
    let mut seen = None;
    wait::until("another intermediate to sign", PATIENCE, async || {
        let ca = environment.agent.status().await.map_err(|error| error.to_string())?.ca;
        let waits = format!("{:?}", ca.intermediate);
        seen = ca.intermediate.filter(|one| Some(&one.serial) != than);
        if seen.is_some() { Ok(()) } else { Err(waits) }
    })
    .await?;
    seen.ok_or_else(|| EnvironmentError::Unreadable { what: "the status".to_owned(), text: String::new() }.into())
}

/// Has the gate's certificate and the one towards the service renewed, and sees the first served, by whoever gets a certificate now
/// and knows the root alone.
pub(super) async fn renew(environment: &Environment, load: &Load) -> Result<(), StoryError> {
    let renewed = environment.agent.renew("gateway").await?;
    environment.agent.renew("upstream-client").await?;
    let own = environment.agent.issue(CHECKOUT, "60s").await?;
    see(&client(environment, &own)?, &renewed.new_serial).await?;
    carry(load).await
}

/// Somebody is revoked by the serial number, and refused in the handshake.
async fn revoke(environment: &Environment, report: &mut Report, under: &str) -> Result<(), StoryError> {
    let lost: Credentials = environment.agent.issue(CHECKOUT, LIFETIME).await?;
    let chain = certificates_of(&lost.chain_pem)?;
    let serial = chain.first().map(|der| serial_of(der)).unwrap_or_default();
    environment.agent.run(&["revoke", "--serial", &serial, "--reason", "lost"]).await?;
    wait::until("a handshake to be refused", PATIENCE, async || match refusal(environment, &lost).await {
        Ok(Some(AlertDescription::CertificateRevoked)) => Ok(()),
        Ok(other) => Err(format!("{other:?}")),
        Err(error) => Err(error.to_string()),
    })
    .await?;
    report.holds(&format!("who is revoked under {under} is refused in the handshake"), true, serial)
}
