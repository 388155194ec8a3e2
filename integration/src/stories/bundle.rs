//! `bundle`: one root of the built-in CA follows another while clients of both come in. Nobody is refused who should not be, the
//! agent dies twice on the way, and what would lock somebody out is refused with its reason.

use std::fs;
use std::time::Duration;

use portcullis::ca::Authority;
use portcullis::command::Usage;
use portcullis::config;
use portcullis::leaf;
use portcullis::names::Names;
use portcullis::status::CaStatus;
use rustls::AlertDescription;

use super::CHECKOUT;
use super::rotation::serial_of;
use super::seconds_left;
use super::within;
use crate::environment::Ask;
use crate::environment::Client;
use crate::environment::Credentials;
use crate::environment::Environment;
use crate::environment::EnvironmentError;
use crate::environment::Load;
use crate::environment::Plan;
use crate::environment::Protocol::Http1;
use crate::environment::Settings;
use crate::environment::certificates_of;
use crate::environment::wait;
use crate::report::Report;
use crate::report::StoryError;

/// Of those who know the old root alone: what they do, on a machine that is busy with other things too.
const BEFORE: &str = "20s";
/// Of those who know both: that again, after the end of the others, and the agent's second death.
const BOTH: &str = "45s";
/// Of somebody who is revoked: longer than the proxy takes to hear of it, shorter than the wait for those who know both.
const LOST: &str = "30s";
/// Longer than any step takes: an agent that was killed watches the clock for all of the wait anew.
const PATIENCE: Duration = Duration::from_secs(180);

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    let constraints = "root_lifetime: 3650d\n  name_constraints: { dns: [acme.example, localhost] }".to_owned();
    let settings = Settings { agent_config: vec![("root_lifetime: 3650d", constraints)], ..Settings::default() };
    within(settings, report, async |environment, report| {
        let forged = forge(environment, "laptop.acme.example")?;
        let refusal = refusal(environment, &forged).await?;
        report.holds("who has the root's key lets in whom he wants", refusal.is_none(), format_args!("{refusal:?}"))?;
        let outside = self::refusal(environment, &forge(environment, "laptop.evil.example")?).await?;
        let held = outside.is_some_and(|alert| alert != AlertDescription::UnknownCA);
        report.holds("but for names outside of its constraints", held, format_args!("{outside:?}"))?;
        let old = the_root(environment).await?;
        let before = Crowd::new(environment, BEFORE).await?;
        report.step("clients with certificates under the old root, which know no other");
        refused(environment, report, &["ca", "remove", &old], "leaves are signed by it").await?;

        environment.agent.run(&["ca", "rotate", "--no-wait"]).await?;
        let ca = step(environment, "spread", "the end of what others were issued before").await?;
        report.step("`portcullis ca rotate`: every proxy took both roots");
        report.saw(waits_for(&ca));
        report.holds("two roots are trusted, the old one signs", signs(&ca) == old && ca.roots.len() == 2, &old)?;
        refused(environment, report, &["ca", "rotate"], "another root is on its way already").await?;
        refused(environment, report, &["ca", "remove", &old], "leaves are signed by it").await?;

        let both = Crowd::new(environment, BOTH).await?;
        let roots = both.own.ca_pem.matches("BEGIN CERTIFICATE").count();
        report.holds(
            "who is issued a certificate now is told of both roots",
            roots == 2,
            format_args!("{roots} roots"),
        )?;
        before.leave(report, "the old root, which know no other").await?;
        revoke(environment, report, "the old root").await?;
        both.carry().await?;
        crash(environment, report, &both).await?;

        let ca = step(environment, "wait", "the end of what others were issued under the old root").await?;
        report.step("the last of those who know the old root only has ended, and leaves are signed by the new one");
        report.saw(waits_for(&ca));
        report.holds("all that is served is under the new root already", signs(&ca) != old, signs(&ca))?;
        refused(environment, report, &["ca", "remove", &old], "lead to it until").await?;
        let after = Crowd::new(environment, "1h").await?;
        revoke(environment, report, "the new root").await?;
        both.carry().await?;
        after.carry().await?;
        crash(environment, report, &after).await?;
        let ca = environment.agent.status().await?.ca;
        report.holds("the old root is there still", ca.roots.len() == 2 && signs(&ca) != old, waits_for(&ca))?;
        both.leave(report, "the old root, which know both").await?;

        wait::until("the old root to be removed", PATIENCE, async || {
            let ca = environment.agent.status().await.map_err(|error| error.to_string())?.ca;
            if ca.succession.is_none() { Ok(()) } else { Err(waits_for(&ca)) }
        })
        .await?;
        environment.ready().await?;
        let ca = environment.agent.status().await?.ca;
        report
            .step("the last certificate under the old root has ended: it is gone from every bundle, and so is its key");
        report.holds("one root is left", ca.roots.len() == 1 && signs(&ca) != old, signs(&ca))?;
        let key = environment.directory().join("state/ca/root.key");
        report.holds("the key is destroyed", !key.exists(), key.display())?;
        after.carry().await?;
        // The thief trusts the new root as everybody does: it is the gate that refuses.
        let forged = Credentials { ca_pem: after.own.ca_pem.clone(), ..forged };
        after.leave(report, "the new root").await?;

        let refusal = client(environment, &forged)?.refusal().await;
        let refusal =
            refusal.map_err(|source| StoryError::Request { doing: "cannot be refused".to_owned(), source })?;
        report.holds(
            "who has the old root's key signs in vain",
            refusal == Some(AlertDescription::UnknownCA),
            format_args!("{refusal:?}"),
        )?;
        let audit = environment.agent.run(&["audit", "verify"]).await?;
        report.holds("the audit log is whole", true, audit.trim())
    })
    .await
}

/// Clients with one certificate, and the requests that they make.
struct Crowd {
    own: Credentials,
    load: Load,
}

impl Crowd {
    async fn new(environment: &Environment, lifetime: &str) -> Result<Self, StoryError> {
        let own = environment.agent.issue(CHECKOUT, lifetime).await?;
        let plan = Plan { kept: 2, fresh: 2, every: Duration::from_millis(40), ask: Ask::get("/orders/42") };
        let crowd = Self { load: Load::start(&[client(environment, &own)?], &plan), own };
        crowd.carry().await?;
        Ok(crowd)
    }

    async fn carry(&self) -> Result<(), StoryError> {
        super::rotation::carry(&self.load).await
    }

    /// Ends while the certificate is good.
    async fn leave(self, report: &mut Report, what: &str) -> Result<(), StoryError> {
        let tally = self.load.stop().await;
        let left = seconds_left(&self.own);
        report.holds("they left before their certificate ended", left >= 0, format_args!("{left} s before"))?;
        report.holds(&format!("no request failed of clients under {what}"), tally.failures() == 0, &tally)
    }
}

/// Who trusts what came with the certificate, and nothing else.
pub(super) fn client(environment: &Environment, own: &Credentials) -> Result<Client, EnvironmentError> {
    Client::new(environment.gate, &own.ca_pem, Some(own), Http1)
}

/// Each root has a revocation list of its own, under the same name: somebody is revoked under one of them.
async fn revoke(environment: &Environment, report: &mut Report, under: &str) -> Result<(), StoryError> {
    let lost = environment.agent.issue(CHECKOUT, LOST).await?;
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

/// The agent dies by kill -9, comes back and goes on where it was.
async fn crash(environment: &mut Environment, report: &mut Report, crowd: &Crowd) -> Result<(), StoryError> {
    let edge = |ca: &CaStatus| ca.succession.as_ref().map(|succession| succession.step.clone());
    let before = edge(&environment.agent.status().await?.ca);
    environment.agent.kill();
    crowd.carry().await?;
    environment.agent.start().await?;
    the_root(environment).await?;
    let after = edge(&environment.agent.status().await?.ca);
    const STEPS: [&str; 5] = ["add", "spread", "switch", "wait", "remove"];
    let place = |step: &Option<String>| STEPS.iter().position(|known| Some(*known) == step.as_deref());
    let goes_on = place(&before).is_some() && place(&after) >= place(&before);
    report.holds("after kill -9 it goes on where it was", goes_on, format_args!("{before:?}, then {after:?}"))
}

/// Runs a command that must not be carried out.
async fn refused(
    environment: &Environment,
    report: &mut Report,
    arguments: &[&str],
    why: &str,
) -> Result<(), StoryError> {
    let outcome = environment.agent.run(arguments).await;
    let said = outcome.map_or_else(|error| error.to_string(), |said| format!("it was done: {said}"));
    report.holds(&format!("`portcullis {}` is refused", arguments[..2].join(" ")), said.contains(why), said)
}

/// Waits until the roots are at this step and wait for that.
async fn step(environment: &Environment, step: &str, reason: &str) -> Result<CaStatus, StoryError> {
    let mut last = CaStatus::default();
    wait::until("the next step of the roots", PATIENCE, async || {
        last = environment.agent.status().await.map_err(|error| error.to_string())?.ca;
        let there = last.succession.as_ref().is_some_and(|succession| {
            succession.step == step && succession.waits_for.as_ref().is_some_and(|waits| waits.starts_with(reason))
        });
        if there { Ok(()) } else { Err(waits_for(&last)) }
    })
    .await?;
    Ok(last)
}

async fn the_root(environment: &Environment) -> Result<String, StoryError> {
    wait::until("the agent to show its root", PATIENCE, async || {
        let ca = environment.agent.status().await.map_err(|error| error.to_string())?.ca;
        if ca.roots.is_empty() { Err("no root".to_owned()) } else { Ok(()) }
    })
    .await?;
    Ok(signs(&environment.agent.status().await?.ca))
}

/// SHA-256 of the root that signs.
fn signs(ca: &CaStatus) -> String {
    ca.roots.iter().find(|root| root.signs).map(|root| root.sha256.clone()).unwrap_or_default()
}

fn waits_for(ca: &CaStatus) -> String {
    match &ca.succession {
        None => "nothing is under way".to_owned(),
        Some(succession) => {
            format!("step `{}` waits for {}", succession.step, succession.waits_for.as_deref().unwrap_or("nothing"))
        }
    }
}

/// How the gate refuses a client, if it does.
pub(super) async fn refusal(
    environment: &Environment,
    own: &Credentials,
) -> Result<Option<AlertDescription>, StoryError> {
    let refusal = client(environment, own)?.refusal().await;
    refusal.map_err(|source| StoryError::Request { doing: "cannot be refused".to_owned(), source })
}

/// A certificate that is good for an hour, by whoever took the first root's key in time.
fn forge(environment: &Environment, dns: &str) -> Result<Credentials, StoryError> {
    let (from, to) = (environment.directory().join("state/ca"), environment.directory().join("stolen"));
    let file = |doing, path: &std::path::Path| {
        let path = path.to_owned();
        move |source| EnvironmentError::File { doing, path, source }
    };
    fs::create_dir_all(&to).map_err(file("create", &to))?;
    for name in ["root.pem", "root.key"] {
        fs::copy(from.join(name), to.join(name)).map_err(file("copy", &from.join(name)))?;
    }
    let unusable = |text: String| EnvironmentError::Unreadable { what: "a stolen root".to_owned(), text };
    let ca = config::Ca { trust_domain: "acme.example".to_owned(), root_lifetime: 60, ..config::Ca::default() };
    let (authority, _) = Authority::open(&to, &ca, leaf::now()).map_err(|error| unusable(error.to_string()))?;
    let names = |dns: &str| {
        let dns = vec![dns.to_owned()];
        let names = Names::new(Some(CHECKOUT.to_owned()), dns, Vec::new(), vec![Usage::Client], &ca.trust_domain);
        names.map_err(|error| unusable(error.to_string()))
    };
    // The thief's own program asks for nothing; ours orders what is inside and puts in another name after that.
    let (ordered, names) = (names("acme.example")?, names(dns)?);
    let signed = authority.order(ordered, 3_600, &to, leaf::now()).and_then(|mut order| {
        order.names = names;
        Ok((authority.sign(&order)?, order))
    });
    let (chain_pem, order) = signed.map_err(|error| unusable(error.to_string()))?;
    Ok(Credentials { chain_pem, key_pem: order.key.pem().to_string(), ca_pem: authority.pem().to_owned() })
}
