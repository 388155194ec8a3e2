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
    let mut refusal: Option<Refusal> = None;
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
            let acknowledged = context.publisher.all_acknowledged(&filter.names()) == Some(true);
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
    before: Option<Refusal>,
) -> Option<Refusal> {
    match outcome {
        Outcome::Refused { node, name, version, detail } if filter.names().contains(name) => {
            let text = format!("proxy `{node}` refused version {version} of `{name}`: {detail}");
            context.board.policy(|policy| policy.error = Some(text.clone()));
            Some(Refusal { name: name.clone(), text })
        }
        // What was taken then is the policy before: what is wrong with the one that is wanted stays wrong.
        Outcome::Acknowledged { .. } if gate.is_back() => before,
        // What one of the two takes, the other may refuse all the same.
        Outcome::Acknowledged { name, version, .. } if before.as_ref().is_some_and(|before| before.name == *name) => {
            context.board.policy(|policy| {
                let is_told = policy.error.as_ref() == before.as_ref().map(|before| &before.text);
                if is_told && policy.version.as_ref() == Some(version) {
                    policy.error = None;
                }
            });
            None
        }
        _ => before,
    }
}

/// What a proxy said of the policy, as it stands in the status.
struct Refusal {
    /// Of the filter.
    name: String,
    text: String,
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
