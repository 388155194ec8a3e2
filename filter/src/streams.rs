//! The streams that are open, and what becomes of them when what let them in is no longer true.
//!
//! A connection is checked in its handshake and a request when it begins; a download, a gRPC stream or a WebSocket may go on
//! for days after, and so may a TCP connection. Each that the policy let through is kept here, a request with its head, and judged again, as
//! if it came now, when the time comes at which the answer may be another one ([`Policy::reconsider_at`]) and when its
//! policy was replaced. One that would be refused ends at once. The others are not touched, and cost nothing meanwhile.
//!
//! The wall clock is believed, also when somebody sets it: a step ahead makes due what ends until then, and after a step back
//! all are judged once more, because what opened or began in between has not yet. No latest time is kept as a floor:
//! a clock that was wrong by a year for a moment would keep everybody out for a year.
//!
//! [`Policy::reconsider_at`]: portcullis_policy::Policy::reconsider_at

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use hashbrown::HashMap;
use portcullis_policy::Head;
use portcullis_policy::Protocol;
use portcullis_policy::UnixTime;
use proxy_wasm::types::LogLevel;

use crate::counters::Counters;
use crate::generation::Generation;
use crate::host;
use crate::host::Headers;
use crate::host::HostError;
use crate::host::Now;
use crate::question;
use crate::question::Verdict;
use crate::record;

/// Between two looks at the open streams. An end is at most this late, as long as no more streams are due than a look judges.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// Most streams that one look judges: the worker has other work, and the next look is near.
const JUDGED_AT_ONCE: usize = 8192;

/// Most bytes that are kept of open streams, in a VM. What a client can hold open is bounded, so that nobody can make the VM run
/// out of memory: it would take what it knows of all other streams along.
const BYTES_MAX: usize = 256 << 20;

thread_local! {
    /// Of the VM: a stream outlives the root context that it began under.
    static STREAMS: RefCell<Streams> = RefCell::default();
}

#[derive(Default)]
struct Streams {
    /// By context.
    open: HashMap<u32, Open>,
    /// Sum of their sizes.
    bytes: usize,
    /// No stream is due before; `None` is never.
    next: Option<UnixTime>,
    /// A policy was replaced, or the clock went back, since all were looked at.
    replaced: bool,
    /// The second of the last look.
    looked: Option<UnixTime>,
    /// How often the clock was seen to go back.
    steps_back: u64,
}

/// What goes on.
pub(crate) enum Stream {
    /// A request, with its head as it came.
    Http(Headers),
    /// A connection of which only the handshake is understood.
    Tcp,
}

impl Stream {
    pub(crate) fn protocol(&self) -> Protocol {
        match self {
            Self::Http(_) => Protocol::Http,
            Self::Tcp => Protocol::Tcp,
        }
    }

    pub(crate) fn head(&self) -> Head<'_> {
        match self {
            Self::Http(headers) => headers.head(),
            Self::Tcp => Head::default(),
        }
    }

    /// About how many bytes are kept of it.
    fn size(&self) -> usize {
        let head = match self {
            Self::Http(headers) => headers.size(),
            Self::Tcp => 0,
        };
        size_of::<Open>() + head
    }

    /// Ends the one that host calls are about now.
    fn end(&self) {
        // Envoy ends it or does not know it any more. The SDK takes every other answer for impossible.
        let _ = match self {
            Self::Http(_) => host::reset_stream(),
            Self::Tcp => host::close_connection(),
        };
    }
}

/// A stream that goes on.
struct Open {
    stream: Stream,
    size: usize,
    /// What it was last judged by.
    generation: Rc<Generation>,
    /// When to judge it again; `None` is never.
    due: Option<UnixTime>,
    /// How often the clock had gone back by then.
    steps_back: u64,
}

/// Whether one more stream can be kept.
///
/// # Errors
///
/// [`HostError::TooManyStreams`]. The stream must not be let through then.
pub(crate) fn check_room() -> Result<(), HostError> {
    // The one that comes may reach beyond it: a proxy bounds what one head can be.
    if STREAMS.with_borrow(|streams| streams.bytes) > BYTES_MAX { Err(HostError::TooManyStreams) } else { Ok(()) }
}

/// Keeps a stream that was let through, until it is forgotten.
pub(crate) fn keep(context: u32, stream: Stream, generation: Rc<Generation>, due: Option<UnixTime>) {
    STREAMS.with_borrow_mut(|streams| {
        streams.next = streams.next.into_iter().chain(due).min();
        // It may begin under the policy before after all were looked at.
        streams.replaced |= generation.is_replaced();
        let size = stream.size();
        streams.bytes = streams.bytes.saturating_add(size);
        let steps_back = streams.steps_back;
        streams.open.insert(context, Open { stream, size, generation, due, steps_back });
    });
}

/// Whether a stream that is kept was not ended since.
pub(crate) fn is_open(context: u32) -> bool {
    STREAMS.with_borrow(|streams| streams.open.contains_key(&context))
}

/// Forgets a stream that has ended.
pub(crate) fn forget(context: u32) {
    let _ = take(context);
}

fn take(context: u32) -> Option<Open> {
    STREAMS.with_borrow_mut(|streams| {
        let open = streams.open.remove(&context)?;
        streams.bytes = streams.bytes.saturating_sub(open.size);
        Some(open)
    })
}

/// Looks at all streams at the next tick: a policy was replaced.
pub(crate) fn policy_replaced() {
    STREAMS.with_borrow_mut(|streams| streams.replaced = true);
}

/// Judges again what is due, and ends what the policy now refuses. Call it on every tick, from a root context.
pub(crate) fn judge_again(counters: &Counters) {
    // Without a clock nothing can be judged now, and requests are refused.
    let Ok(now) = host::now() else { return };
    for context in due(now) {
        // While it is judged it is not in the map: what the proxy calls back, it may call back.
        let Some(open) = take(context) else { continue };
        // A stream that the proxy no longer knows has ended.
        if !host::set_effective_context(context) {
            continue;
        }
        let generation = Generation::newest(&open.generation);
        match question::again(&generation, counters, &open.stream, now) {
            Ok(Verdict::GoesOn { due }) => keep(context, open.stream, generation, due),
            Ok(Verdict::Refused) => open.stream.end(),
            Err(error) => {
                counters.ended(open.stream.protocol(), error.reason());
                record::ended_for_failure(&error, open.stream.protocol(), &open.stream.head());
                open.stream.end();
            }
        }
    }
}

impl Streams {
    /// Notes that the clock stands at `now`. If it went back, all are to be judged once more.
    fn look(&mut self, now: UnixTime) {
        let Some(ahead) = self.looked.replace(now).map(|looked| looked.0.saturating_sub(now.0)) else { return };
        if ahead > 0 {
            self.steps_back = self.steps_back.wrapping_add(1);
            self.replaced = true;
            host::log(LogLevel::Warn, &format!("the clock went back by {ahead} s: all open streams are judged again"));
        }
    }
}

/// The streams that are to be judged now, as many as a look may judge.
fn due(now: Now) -> Vec<u32> {
    STREAMS.with_borrow_mut(|streams| streams.look(now.second()));
    // A certificate's last second is over as soon as it has begun.
    let now = now.rounded_up();
    STREAMS.with_borrow_mut(|streams| {
        if !streams.replaced && streams.next.is_none_or(|next| now < next) {
            return Vec::new();
        }
        let steps_back = streams.steps_back;
        let is_due = |open: &Open| {
            open.due.is_some_and(|due| due <= now) || open.generation.is_replaced() || open.steps_back != steps_back
        };
        let (mut due, mut next, mut left) = (Vec::new(), None, false);
        for (context, open) in &streams.open {
            if !is_due(open) {
                next = [next, open.due].into_iter().flatten().min();
            } else if due.len() < JUDGED_AT_ONCE {
                due.push(*context);
            } else {
                left = true;
            }
        }
        (streams.next, streams.replaced) = (next, left);
        due
    })
}
