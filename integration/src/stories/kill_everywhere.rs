//! `kill-everywhere`: the agent dies at every place where it can, in an order at a real ACME server, in a delivery to a real
//! Envoy, in a proof and in the audit log, and comes back to one order, one certificate and a whole pair that is served.

mod stage;

use std::rc::Rc;

use portcullis::rotation::failpoint;
use tokio::sync::Semaphore;
use tokio::task::LocalSet;

use crate::environment::EnvironmentError;
use crate::report::Report;
use crate::report::StoryError;

use stage::Ended;
use stage::Proof;
use stage::Scene;
use stage::Stage;

/// Agents at once: they wait more than they work.
const AT_ONCE: usize = 5;
/// Of these an order at the CA does not survive: it comes to validate, and nobody answers by http-01.
const NOBODY_ANSWERS: &str = "acme-validating";
/// Between the CA's answer and the store's nothing knows the account's key.
const ACCOUNT_LOST: &str = "acme-account-made";
/// From here on dns-01 leaves something behind that http-01 does not.
const DNS: [&str; 5] = ["acme-present", "acme-presented", "acme-validating", "acme-validated", "acme-finalize"];

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    let by_http = failpoint::all().into_iter().map(|failpoint| (failpoint, Proof::Http));
    let by_dns = DNS.into_iter().map(|failpoint| (failpoint.to_owned(), Proof::Dns));
    let scenes: Vec<Scene> = by_http.chain(by_dns).enumerate().map(Scene::new).collect();
    report.step(format_args!(
        "starting Pebble, and one Envoy with a listener for each of {} agents that will die",
        scenes.len()
    ));
    let stage = Rc::new(Stage::start(&scenes).await?);
    report.step("each agent orders its first certificate, dies, and is started again");
    for (scene, end) in scenes.iter().zip(play(&stage, &scenes).await) {
        let ended = end.inspect_err(|_| report.saw(format_args!("at `{}`, by {}", scene.failpoint, scene.proof)))?;
        let claim = format!("at `{}`, by {}: served, whole, no trace left", scene.failpoint, scene.proof);
        report.holds(&claim, ended.is_good(), &ended)?;
    }

    let count = scenes.len();
    let lost = scenes.iter().filter(|scene| scene.failpoint == NOBODY_ANSWERS && scene.proof == Proof::Http).count();
    let (orders, issued, accounts) = stage.counts();
    report.holds("each agent got exactly one certificate", issued == count, format_args!("{issued} of {count}"))?;
    report.holds(
        "by one order each; a second one only where the CA came to validate while nobody was there",
        (count..=count + lost).contains(&orders),
        format_args!("{orders} orders for {count} agents"),
    )?;
    let lost = scenes.iter().filter(|scene| scene.failpoint == ACCOUNT_LOST).count();
    report.holds(
        "with one account each; a second one only where its key was not kept yet",
        accounts == count + lost,
        format_args!("{accounts} accounts"),
    )
}

/// Plays all scenes, some at once, and tells their ends in order.
async fn play(stage: &Rc<Stage>, scenes: &[Scene]) -> Vec<Result<Ended, EnvironmentError>> {
    let places = Rc::new(Semaphore::new(AT_ONCE));
    let local = LocalSet::new();
    let playing: Vec<_> = scenes
        .iter()
        .cloned()
        .map(|scene| {
            let (stage, places) = (Rc::clone(stage), Rc::clone(&places));
            local.spawn_local(async move {
                let _place = places.acquire().await;
                stage.play(&scene).await
            })
        })
        .collect();
    let mut ends = Vec::with_capacity(playing.len());
    local
        .run_until(async {
            for scene in playing {
                ends.push(scene.await.expect("a scene does not panic"));
            }
        })
        .await;
    ends
}
