//! After a jump of the clock the issuers are asked what time it is, until one has said it.

use std::sync::Arc;
use std::time::Duration;

use super::Context;
use super::clock::Verdict;
use crate::audit::Event;
use crate::audit::Kind;
use crate::errors::chain;

/// Where nobody answered, they are asked again after this time, for so many times: as long as the clock is doubted without them.
const AGAIN: Duration = Duration::from_secs(5);
const TIMES: u32 = 24;
/// A clock that is known to be wrong is compared again after this time.
const STILL_WRONG: Duration = Duration::from_secs(30);

/// Asks until the clock is known to be right, has jumped again, or nobody will say.
pub(super) async fn until_known(context: Arc<Context>) {
    let (jumps, _) = context.clock.verdict();
    let mut unanswered = 0;
    while unanswered < TIMES && context.clock.verdict().0 == jumps {
        let pause = match once(&context, jumps).await {
            Some(Verdict::Differs(_)) => {
                unanswered = 0;
                STILL_WRONG
            }
            Some(Verdict::Agrees) => return,
            // Who was found wrong is not believed because nobody is there to ask.
            Some(Verdict::Unknown) | None if context.clock.held().is_some() => STILL_WRONG,
            Some(Verdict::Unknown) | None => {
                unanswered += 1;
                AGAIN
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Asks every issuer once, and tells what came of it. One that agrees with the wall clock is enough: two clocks are seldom
/// wrong in the same way.
pub(super) async fn once(context: &Context, jumps: u64) -> Option<Verdict> {
    let mut closest: Option<(String, i64)> = None;
    for issuer in context.issuers.others() {
        let Some(offset) = issuer.ask_clock().await else { continue };
        if closest.as_ref().is_none_or(|(_, known)| offset.saturating_abs() < known.saturating_abs()) {
            closest = Some((issuer.name().to_owned(), offset));
        }
    }
    let (issuer, offset) = closest?;
    context.metrics.clock_offset(offset);
    let (before, now) = context.clock.answered(jumps, offset)?;
    let event = match (before, now) {
        (Verdict::Differs(_), Verdict::Differs(_)) | (Verdict::Unknown, Verdict::Agrees) => None,
        (_, Verdict::Differs(offset)) => {
            let what = format!(
                "the clock is wrong: that of `{issuer}` differs by {offset:+} s; what only the clock makes due waits until it is right"
            );
            tracing::error!("{what}");
            Some(Event::new(Kind::Alarm, "clock").because(what))
        }
        (_, Verdict::Agrees) => Some(Event::new(Kind::AlarmCleared, "clock").because(format!("as that of `{issuer}`"))),
        (_, Verdict::Unknown) => None,
    };
    if now == Verdict::Agrees {
        tracing::info!(issuer, "the clock is right, by the issuer's");
    }
    if let Some(event) = event {
        match context.store.note(&event.note()) {
            Ok(()) => context.noted.notify_one(),
            Err(error) => tracing::error!(error = chain(&error), "an event is lost to the audit log"),
        }
    }
    Some(now)
}
