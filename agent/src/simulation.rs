//! A certificate's calendar run ahead: the same decisions as the loop's, over a clock of its own and issuers that are there or not.
//!
//! Absent: keys, files, proxies. An issuer that is there answers at once, and what it answers is served at once.

use portcullis_policy::UnixTime;
use portcullis_policy::rotation;
use portcullis_policy::rotation::Cause;
use portcullis_policy::rotation::Edge;
use portcullis_policy::rotation::Facts;
use portcullis_policy::rotation::Flight;
use portcullis_policy::rotation::Record;
use portcullis_policy::rotation::Step;
use portcullis_policy::rotation::Stored;
use portcullis_policy::rotation::Wait;
use portcullis_policy::schedule;
use portcullis_policy::schedule::Validity;

use crate::config::Certificate;
use crate::rotation::plan;

/// Steps of one simulation: far more than a year of a certificate that lives a minute takes.
const STEPS: usize = 10_000_000;

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Scene<'a> {
    /// The certificate.
    pub certificate: &'a Certificate,
    /// Seconds that a new one lives.
    pub lifetime: i64,
    /// What there is at the begin, and who issued it; without it one is issued then.
    pub stored: Option<(Stored, String)>,
    /// The begin.
    pub from: UnixTime,
    /// The end.
    pub to: UnixTime,
    /// Who is away.
    pub outages: Vec<Outage>,
    /// Where the draws begin: equal seeds, equal jitter.
    pub seed: u64,
}

/// An issuer that does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// Its name.
    pub issuer: String,
    /// The first second.
    pub from: UnixTime,
    /// The first second after it.
    pub to: UnixTime,
}

/// What happens at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// When.
    pub at: UnixTime,
    /// What.
    pub what: What,
    /// Seconds until the end of what is served then; none without anything, negative after the end.
    pub left: Option<i64>,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// An attempt at an issuer that is away.
    Failed {
        /// Who was asked.
        issuer: String,
        /// The next attempt.
        retry_at: UnixTime,
    },
    /// What was served has ended, and there is nothing else.
    Ended,
    /// A new one is served.
    Served {
        /// Who issued it.
        issuer: String,
        /// Why.
        cause: Cause,
        /// Its end.
        not_after: UnixTime,
        /// When it is to be renewed.
        renew_at: UnixTime,
    },
    /// It is due, and waits for a window or the end of a blackout.
    Waits {
        /// Until then.
        until: UnixTime,
    },
}

/// What comes of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Simulated {
    /// Everything, in its order.
    pub moments: Vec<Moment>,
    /// Attempts that failed.
    pub failed: usize,
    /// The least that was left when a successor was served, or is left at the end of the simulation: seconds, and the lifetime
    /// that they are of.
    pub margin: Option<(i64, i64)>,
    /// When something first ended without a successor, and when that came.
    pub gap: Option<(UnixTime, Option<UnixTime>)>,
}

/// Runs the calendar.
pub fn run(scene: &Scene<'_>) -> Simulated {
    let mut run = Run {
        scene,
        now: scene.from,
        record: Record { stored: scene.stored.as_ref().map(|(stored, _)| *stored), ..Record::default() },
        order: String::new(),
        failures: 0,
        draws: scene.seed,
        has_ended: false,
        done: Simulated::default(),
    };
    for _ in 0..STEPS {
        if run.now >= scene.to || !run.step() {
            break;
        }
    }
    run.now = scene.to;
    run.look_at_end();
    run.measure();
    run.done
}

/// When the first renewal begins if everybody is there: the worst moment to be away.
pub fn first_renewal(scene: &Scene<'_>) -> Option<UnixTime> {
    let calm = Scene { outages: Vec::new(), ..scene.clone() };
    let planned = |moment: &&Moment| matches!(&moment.what, What::Served { cause, .. } if *cause != Cause::Missing);
    run(&calm).moments.iter().find(planned).map(|moment| moment.at)
}

struct Run<'a> {
    scene: &'a Scene<'a>,
    now: UnixTime,
    record: Record,
    /// Who was asked for what the flight waits for.
    order: String,
    failures: u32,
    draws: u64,
    /// Whether the end of what is served was told.
    has_ended: bool,
    done: Simulated,
}

impl Run<'_> {
    /// Takes one step; whether there is another.
    fn step(&mut self) -> bool {
        let due = self.record.stored.filter(|stored| stored.renew_at <= self.now);
        let closed_until = due.and_then(|_| self.scene.certificate.calendar.closed_until(self.now));
        match rotation::next(&self.record, &Facts { closed_until, ..Facts::default() }, self.now) {
            Step::Begin(cause) => self.record.flight = Some(Flight::begin(cause)),
            Step::Take(edge) => self.take(edge),
            Step::Wait { until: None, .. } => return false,
            Step::Wait { until: Some(until), reason } => {
                if reason == Wait::Closed {
                    self.tell(What::Waits { until });
                }
                self.now = until.max(UnixTime(self.now.0.saturating_add(1)));
                self.look_at_end();
            }
        }
        true
    }

    fn take(&mut self, edge: Edge) {
        let Some(flight) = self.record.flight else { return };
        let certificate = self.scene.certificate;
        let validity = self.record.stored.map(|stored| stored.validity);
        match edge {
            Edge::Journal => self.order = plan::issuer(certificate, validity, self.failures, self.now).to_owned(),
            Edge::Obtain if self.is_away(&self.order) => return self.fail(flight),
            Edge::Obtain => {
                let obtained = Validity {
                    not_before: self.now,
                    not_after: UnixTime(self.now.0.saturating_add(self.scene.lifetime)),
                };
                self.record.flight =
                    flight.after(rotation::Outcome::Done).map(|flight| Flight { obtained: Some(obtained), ..flight });
                self.record.retry_at = None;
                return;
            }
            Edge::Check => {
                let Some(validity) = flight.obtained else { return };
                let draws = [self.draw(), self.draw()];
                let renew_at = plan::renewal(certificate, validity, &self.order, self.now, draws);
                self.measure();
                (self.failures, self.has_ended) = (0, false);
                let issuer = self.order.clone();
                if let Some((_, successor @ None)) = &mut self.done.gap {
                    *successor = Some(self.now);
                }
                let (cause, not_after) = (flight.cause, validity.not_after);
                self.tell(What::Served { issuer, cause, not_after, renew_at });
                self.record.stored = Some(Stored { validity, renew_at });
            }
            Edge::Stage | Edge::Install | Edge::Prove | Edge::Retire => {}
        }
        self.record.retry_at = None;
        self.record.flight = flight.after(rotation::Outcome::Done);
    }

    /// As the loop does: a wait that grows, and with the end near another issuer.
    fn fail(&mut self, flight: Flight) {
        self.failures = self.failures.saturating_add(1);
        self.done.failed += 1;
        let certificate = self.scene.certificate;
        let validity = self.record.stored.map(|stored| stored.validity);
        if validity.is_none() {
            self.done.gap = self.done.gap.or(Some((self.now, None)));
        }
        let end = validity.map(|validity| validity.not_after);
        let retry_at = schedule::retry_at(self.now, end, self.failures, self.draw());
        let next = plan::issuer(certificate, validity, self.failures, self.now);
        let goes_elsewhere = self.order == certificate.issuer && next != certificate.issuer;
        self.record.flight =
            if goes_elsewhere { Some(Flight::begin(flight.cause)) } else { flight.after(rotation::Outcome::Failed) };
        // After the end there would be one every half minute.
        if validity.is_none_or(|validity| !validity.has_ended(self.now)) {
            self.tell(What::Failed { issuer: self.order.clone(), retry_at });
        }
        self.record.retry_at = Some(retry_at);
    }

    fn is_away(&self, issuer: &str) -> bool {
        let is_now = |outage: &&Outage| outage.from <= self.now && self.now < outage.to;
        self.scene.outages.iter().filter(is_now).any(|outage| outage.issuer == issuer)
    }

    fn left(&self) -> Option<i64> {
        self.record.stored.map(|stored| stored.validity.not_after.0 - self.now.0)
    }

    /// Tells of what ended meanwhile, once.
    fn look_at_end(&mut self) {
        let Some(stored) = self.record.stored else { return };
        let end = stored.validity.not_after;
        if !stored.validity.has_ended(self.now) || self.has_ended || end >= self.scene.to {
            return;
        }
        self.has_ended = true;
        self.done.gap = self.done.gap.or(Some((end, None)));
        self.done.moments.push(Moment { at: end, what: What::Ended, left: Some(0) });
    }

    fn measure(&mut self) {
        let Some(stored) = self.record.stored else { return };
        let left = (stored.validity.not_after.0 - self.now.0).max(0);
        if self.done.margin.is_none_or(|(least, _)| left < least) {
            self.done.margin = Some((left, stored.validity.lifetime()));
        }
    }

    fn tell(&mut self, what: What) {
        let left = self.left();
        self.done.moments.push(Moment { at: self.now, what, left });
    }

    /// SplitMix64, whose every state is good.
    fn draw(&mut self) -> u32 {
        self.draws = self.draws.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.draws;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests;
