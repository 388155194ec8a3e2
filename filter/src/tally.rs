//! Counts on their way to the proxy: at once, and several at a time while requests come in a flood.
//!
//! Telling the proxy of one takes longer than much of what is counted. So only so many between two ticks are told one by one; what
//! comes beyond is added up and told with the tick. No count is left out, unless the VM traps or the proxy is killed before it.

use std::cell::RefCell;
use std::mem;

use crate::host::Metric;

/// Counts between two ticks that are told at once.
const AT_ONCE: u32 = 256;

thread_local! {
    /// Of the VM, as the metrics are.
    static TALLY: RefCell<Tally> = const { RefCell::new(Tally::new()) };
}

struct Tally {
    /// Since the last tick.
    told: u32,
    /// A flood is of few kinds: found by looking at each.
    untold: Vec<(Metric, u32)>,
}

impl Tally {
    const fn new() -> Self {
        Self { told: 0, untold: Vec::new() }
    }

    fn count(&mut self, metric: Metric) {
        if self.told < AT_ONCE {
            self.told += 1;
            metric.add(1);
            return;
        }
        match self.untold.iter_mut().find(|(known, _)| *known == metric) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => self.untold.push((metric, 1)),
        }
    }
}

/// Adds one to a counter, now or with those that follow.
pub(crate) fn count(metric: Metric) {
    TALLY.with_borrow_mut(|tally| tally.count(metric));
}

/// Tells what was added up. Call it from each tick.
pub(crate) fn flush() {
    let tally = TALLY.with_borrow_mut(|tally| mem::replace(tally, Tally::new()));
    for (metric, count) in tally.untold {
        metric.add(count);
    }
}
