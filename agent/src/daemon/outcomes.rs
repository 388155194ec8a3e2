//! What proxies say, carried to the status, the metrics and the audit log.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::audit::Event;
use crate::audit::Kind;
use crate::config;
use crate::errors::chain;
use crate::gate::Gate;
use crate::resource::Outcome;
use crate::rotation::Context;
use crate::trust::Trust;

/// Who is connected is looked at this often, besides at every answer.
const LOOK: Duration = Duration::from_secs(1);

/// Reports until the end.
pub(super) async fn follow(
    context: Arc<Context>,
    gate: Gate,
    trust: Trust,
    filter: watch::Receiver<Option<config::Filter>>,
    mut outcomes: broadcast::Receiver<Outcome>,
    shutdown: CancellationToken,
) {
    // What the proxies said of the policy, as it stands in the status.
    let mut refusal: Option<String> = None;
    let mut activity = context.publisher.activity();
    loop {
        let proxies = context.publisher.proxies();
        let mut bundles = trust.statuses();
        for bundle in &mut bundles {
            // One that no connected proxy asks for holds up nobody.
            bundle.acknowledged = context.publisher.acknowledged(&bundle.name).unwrap_or(!proxies.is_empty());
        }
        context.board.bundles(bundles);
        context.board.proxies(proxies);
        gate.heed();
        let filter = filter.borrow().clone();
        if let Some(filter) = &filter {
            let acknowledged = context.publisher.acknowledged(&filter.name) == Some(true);
            context.board.policy(|policy| policy.acknowledged = acknowledged);
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(LOOK) => {}
            Ok(()) = activity.changed() => {}
            outcome = outcomes.recv() => match outcome {
                Ok(outcome) => {
                    tell(&context, &outcome);
                    if let Some(filter) = &filter {
                        refusal = judge(&context, &gate, filter, &outcome, refusal);
                    }
                }
                Err(RecvError::Lagged(lost)) => tracing::warn!(lost, "answers of proxies came faster than they were read"),
                Err(RecvError::Closed) => break,
            },
        }
    }
}

/// Carries what a proxy said of the policy into the status. What is wrong with the file itself is not touched.
fn judge(
    context: &Context,
    gate: &Gate,
    filter: &config::Filter,
    outcome: &Outcome,
    before: Option<String>,
) -> Option<String> {
    match outcome {
        Outcome::Refused { node, name, version, detail } if *name == filter.name => {
            let refusal = format!("proxy `{node}` refused version {version}: {detail}");
            context.board.policy(|policy| policy.error = Some(refusal.clone()));
            Some(refusal)
        }
        // What was taken then is the policy before: what is wrong with the one that is wanted stays wrong.
        Outcome::Acknowledged { name, .. } if *name == filter.name && gate.is_back() => before,
        Outcome::Acknowledged { name, version, .. } if *name == filter.name => {
            context.board.policy(|policy| {
                if policy.error == before && policy.version.as_ref() == Some(version) {
                    policy.error = None;
                }
            });
            None
        }
        _ => before,
    }
}

fn tell(context: &Context, outcome: &Outcome) {
    context.metrics.outcome(outcome);
    let Outcome::Refused { node, name, version, detail } = outcome else {
        return;
    };
    tracing::error!(proxy = node, resource = name, version, detail, "a proxy refused what was pushed");
    let event =
        Event::new(Kind::Nack, name).by(format!("proxy {node}")).because(detail.clone()).change(None, Some(version));
    match context.store.note(&event.note()) {
        Ok(()) => context.noted.notify_one(),
        Err(error) => tracing::error!(error = chain(&error), "an event is lost to the audit log: {event:?}"),
    }
}
