//! `rotation`: the server's certificate is replaced again and again under load; each new one is proven served, and no
//! request is lost.

use std::collections::BTreeSet;
use std::time::Duration;
use std::time::Instant;

use super::CHECKOUT;
use super::REPORTING;
use super::within;
use crate::environment::Ask;
use crate::environment::Client;
use crate::environment::Environment;
use crate::environment::Load;
use crate::environment::Plan;
use crate::environment::Protocol::Http1;
use crate::environment::Protocol::Http2;
use crate::environment::Settings;
use crate::environment::wait;
use crate::report::Report;
use crate::report::StoryError;

/// How many rotations the story asks for.
const ROTATIONS: usize = 50;

/// What some rotations came to.
#[derive(Clone, Debug, Default)]
pub struct Rotations {
    /// From issued to proven served, as the agent measured it; sorted.
    pub issued_to_served: Vec<Duration>,
    /// Serials that our own handshakes saw.
    pub serials: BTreeSet<String>,
}

impl Rotations {
    /// The time that `share` (0 to 1) of them stayed below.
    pub fn quantile(&self, share: f64) -> Duration {
        let last = self.issued_to_served.len().saturating_sub(1);
        self.issued_to_served.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
    }
}

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    within(Settings::default(), report, async |environment, report| {
        let clients = [environment.client(CHECKOUT, Http1).await?, environment.client(REPORTING, Http2).await?];
        let plan = Plan { kept: 4, fresh: 4, every: Duration::from_millis(40), ask: Ask::get("/orders/42") };
        report.step("constant load: 4 kept connections and 4 clients with a new connection for each request");
        let load = Load::start(&clients, &plan);

        let began = Instant::now();
        let rotations = rotate(environment, report, ROTATIONS, &load).await?;
        report.step(format_args!("{ROTATIONS} rotations in {:.1} s", began.elapsed().as_secs_f32()));
        let different = rotations.serials.len();
        let seen = format!("{different} different serials");
        report.holds("each rotation served a certificate of its own", different == ROTATIONS, seen)?;
        report.saw(format_args!(
            "from issued to served: median {:?}, p99 {:?}",
            rotations.quantile(0.5),
            rotations.quantile(0.99)
        ));

        let tally = load.stop().await;
        report.holds("no request failed", tally.failures() == 0, &tally)?;
        let audit = environment.agent.run(&["audit", "verify"]).await?;
        report.holds("the audit log is whole", true, audit.trim())
    })
    .await
}

/// Renews `gateway` so many times, one after the other, and checks each with a handshake of our own. Each certificate
/// carries some of the load before the next one replaces it.
///
/// # Errors
///
/// [`StoryError`] at the first rotation that is not served, or under which no more load is.
pub async fn rotate(
    environment: &Environment,
    report: &mut Report,
    count: usize,
    load: &Load,
) -> Result<Rotations, StoryError> {
    let watcher = environment.client(CHECKOUT, Http1).await?;
    let mut rotations = Rotations::default();
    for number in 1..=count {
        let renewed = environment.agent.renew("gateway").await?;
        if renewed.old_serial.as_ref() == Some(&renewed.new_serial) {
            report.holds("a renewal brings a new serial", false, &renewed.new_serial)?;
        }
        see(&watcher, &renewed.new_serial).await?;
        carry(load).await?;
        let Some(milliseconds) = renewed.issued_to_served_ms else {
            return report.holds("the agent proved the rotation", false, "no proof").map(|()| rotations);
        };
        rotations.issued_to_served.push(Duration::from_millis(milliseconds));
        if number == 1 || number % 10 == 0 {
            report.saw(format_args!(
                "rotation {number}: our own handshake sees serial {}, {milliseconds} ms after it was issued",
                renewed.new_serial
            ));
        }
        rotations.serials.insert(renewed.new_serial);
    }
    rotations.issued_to_served.sort_unstable();
    Ok(rotations)
}

/// Waits until our handshake sees this serial. The agent has seen it at one of Envoy's workers; another may be a moment
/// behind.
pub(super) async fn see(watcher: &Client, serial: &str) -> Result<(), StoryError> {
    let within = Duration::from_secs(30);
    wait::until("the new certificate in a handshake of our own", within, async || {
        let leaf = watcher.leaf().await.map_err(|error| error.kind())?;
        let seen = serial_of(&leaf);
        if seen == serial { Ok(()) } else { Err(format!("serial {seen}, not {serial}")) }
    })
    .await?;
    Ok(())
}

/// Waits until more requests were answered, over kept connections and over new ones.
pub(super) async fn carry(load: &Load) -> Result<(), StoryError> {
    let before = load.tally();
    wait::until("requests on kept and on new connections", Duration::from_secs(30), async || {
        let now = load.tally();
        let carried = now.kept > before.kept && now.fresh > before.fresh;
        if carried { Ok(()) } else { Err(format!("no more than {now}")) }
    })
    .await?;
    Ok(())
}

/// Serial number of a certificate, lower-case hex without leading zeros.
pub(super) fn serial_of(der: &[u8]) -> String {
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(der) else { return "unreadable".to_owned() };
    let hex: String = certificate.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect();
    hex.trim_start_matches('0').to_owned()
}
