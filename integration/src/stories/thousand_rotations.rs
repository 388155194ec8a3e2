//! `thousand-rotations`: a thousand new certificates, of twenty server names behind one port and four at a time, while clients
//! use all of them. Each is proven served, none is like another, and no request is lost.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;
use std::time::Instant;

use super::CHECKOUT;
use super::many_names::Names;
use super::many_names::name;
use super::rotation::Rotations;
use super::rotation::see;
use super::within;
use crate::environment::Agent;
use crate::environment::Ask;
use crate::environment::EnvironmentError;
use crate::environment::Load;
use crate::environment::Plan;
use crate::report::Report;
use crate::report::StoryError;

const ROTATIONS: usize = 1_000;
const NAMES: usize = 20;
/// Renewals at a time.
const LANES: usize = 4;

/// What one lane did: the newest serial of each name, all serials, and how long each took.
#[derive(Default)]
struct Lane {
    newest: BTreeMap<usize, String>,
    serials: Vec<String>,
    issued_to_served: Vec<Duration>,
}

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    let names = Names::new(NAMES)?;
    within(names.settings(), report, async |environment, report| {
        let own = environment.agent.issue(CHECKOUT, "1h").await?;
        let client = environment.client_to(names.gate(), Some(&own))?;
        let clients: Vec<_> = (0..NAMES).map(|number| client.clone().asking_for(&name(number))).collect();
        let plan = Plan { kept: NAMES, fresh: NAMES, every: Duration::from_millis(200), ask: Ask::get("/orders/42") };
        report.step(format_args!("constant load: for each of {NAMES} names a kept connection and a new one each time"));
        let load = Load::start(&clients, &plan);

        report.step(format_args!("{ROTATIONS} rotations, {LANES} at a time"));
        let agent = &environment.agent;
        let began = Instant::now();
        let (a, b, c, d) = tokio::join!(lane(agent, 0), lane(agent, 1), lane(agent, 2), lane(agent, 3));
        let lanes = [a?, b?, c?, d?];
        report.saw(format_args!("{:.1} s", began.elapsed().as_secs_f32()));

        let serials: BTreeSet<&String> = lanes.iter().flat_map(|lane| &lane.serials).collect();
        let seen = format!("{} different serials", serials.len());
        report.holds("each rotation served a certificate of its own", serials.len() == ROTATIONS, seen)?;
        for (number, serial) in lanes.iter().flat_map(|lane| &lane.newest) {
            see(&clients[*number], serial).await?;
        }
        report.holds("our own handshakes see the newest of each name", true, format!("{NAMES} names"))?;
        let mut rotations = Rotations::default();
        rotations.issued_to_served.extend(lanes.iter().flat_map(|lane| &lane.issued_to_served));
        rotations.issued_to_served.sort_unstable();
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

/// Renews every fourth name, beginning with `first`, in turn.
async fn lane(agent: &Agent, first: usize) -> Result<Lane, EnvironmentError> {
    let mut done = Lane::default();
    let names = (0..NAMES).cycle().skip(first).step_by(LANES);
    for number in names.take(ROTATIONS / LANES) {
        let renewed = agent.renew(&name(number)).await?;
        done.issued_to_served.extend(renewed.issued_to_served_ms.map(Duration::from_millis));
        done.newest.insert(number, renewed.new_serial.clone());
        done.serials.push(renewed.new_serial);
    }
    Ok(done)
}
