//! Counters, gauges and histograms that the module defines.

use std::collections::BTreeMap;

use super::status::HostResult;
use super::status::Status;

/// The metrics of one VM.
///
/// As in Envoy, each definition makes a new id, also for a name that is already there: the ids lead to one metric, but a
/// module that defines per request grows for ever, so definitions are counted.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    definitions: Vec<(Kind, String)>,
    values: BTreeMap<(Kind, String), u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Metrics {
    pub(crate) fn define(&mut self, kind: i32, name: &str) -> HostResult<u32> {
        let kind = match kind {
            0 => Kind::Counter,
            1 => Kind::Gauge,
            2 => Kind::Histogram,
            _ => return Err(Status::BadArgument),
        };
        let key = (kind, name.to_owned());
        self.values.entry(key.clone()).or_insert(0);
        self.definitions.push(key);
        // Never zero, so that a forgotten id is not somebody's metric.
        u32::try_from(self.definitions.len()).map_err(|_| Status::InternalFailure)
    }

    pub(crate) fn increment(&mut self, id: u32, offset: i64) -> HostResult<()> {
        let (kind, value) = self.metric(id)?;
        *value = match kind {
            Kind::Counter if offset > 0 => value.saturating_add_signed(offset),
            Kind::Gauge => value.checked_add_signed(offset).ok_or(Status::BadArgument)?,
            Kind::Counter | Kind::Histogram => return Err(Status::BadArgument),
        };
        Ok(())
    }

    /// Sets a gauge, adds to a counter, records in a histogram (of which the last value is kept).
    pub(crate) fn record(&mut self, id: u32, value: u64) -> HostResult<()> {
        let (kind, current) = self.metric(id)?;
        *current = match kind {
            Kind::Counter => current.saturating_add(value),
            Kind::Gauge | Kind::Histogram => value,
        };
        Ok(())
    }

    pub(crate) fn value(&mut self, id: u32) -> HostResult<u64> {
        match self.metric(id)? {
            (Kind::Histogram, _) => Err(Status::BadArgument),
            (_, value) => Ok(*value),
        }
    }

    pub(crate) fn named(&self, kind: Kind, name: &str) -> Option<u64> {
        self.values.get(&(kind, name.to_owned())).copied()
    }

    pub(crate) fn definitions(&self) -> usize {
        self.definitions.len()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(|(_, name)| name.as_str())
    }

    fn metric(&mut self, id: u32) -> HostResult<(Kind, &mut u64)> {
        let index = usize::try_from(id).ok().and_then(|id| id.checked_sub(1)).ok_or(Status::NotFound)?;
        let key = self.definitions.get(index).ok_or(Status::NotFound)?;
        let value = self.values.get_mut(key).ok_or(Status::NotFound)?;
        Ok((key.0, value))
    }
}
