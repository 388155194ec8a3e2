//! One size: load, compare, then ask in rounds.

use std::hint::black_box;
use std::io::Write;
use std::time::Duration;

use rustix::time::ClockId;
use rustix::time::clock_gettime;

use crate::engine::Engine;
use crate::engine::EngineError;
use crate::engine::Name;
use crate::numbers::thousands;
use crate::policy::Policy;
use crate::question;
use crate::question::Question;

/// Different questions; whoever is fast is asked them again.
const QUESTIONS: usize = 500;

/// How long an engine's answers are compared with the right ones before it is timed: at most so many times as long as one
/// measurement.
const COMPARED_FOR: u32 = 10;

/// What came of one size.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) rules: usize,
    pub(crate) engines: Vec<Timed>,
}

/// What came of one engine.
#[derive(Debug)]
pub(crate) struct Timed {
    pub(crate) name: Name,
    pub(crate) loading: Duration,
    /// Different questions that it answered before the timing, all of them rightly.
    pub(crate) compared: usize,
    /// Seconds of one decision, by round.
    pub(crate) seconds: Vec<f64>,
    /// Questions asked in all rounds.
    pub(crate) asked: usize,
}

/// Measures one size, and says on `progress` what it does.
///
/// # Errors
///
/// [`EngineError::Disagrees`] before anything is timed.
pub(crate) fn size(
    rules: usize,
    rounds: usize,
    time: Duration,
    progress: &mut dyn Write,
) -> Result<Measured, EngineError> {
    let policy = Policy::of(rules);
    let questions = question::draw(&policy, QUESTIONS);
    let mut loaded = Vec::new();
    for name in Name::ALL {
        let began = processor_time();
        let engine = name.load(&policy, &questions)?;
        let loading = processor_time() - began;
        writeln!(progress, "{} rules: {name} loaded in {:.1} s", thousands(rules), loading.as_secs_f32())?;
        let compared = compare(name, &*engine, &questions, time * COMPARED_FOR)?;
        loaded.push((engine, Timed { name, loading, compared, seconds: Vec::new(), asked: 0 }));
    }
    for round in 1..=rounds {
        for (engine, timed) in &mut loaded {
            // Nothing is timed but what is known to be answered rightly.
            let (asked, took) = ask(&**engine, questions.iter().take(timed.compared).cycle(), time)?;
            timed.asked += asked;
            timed.seconds.push(took.as_secs_f64() / asked as f64);
        }
        writeln!(progress, "{} rules: round {round} of {rounds}", thousands(rules))?;
    }
    Ok(Measured { rules, engines: loaded.into_iter().map(|(_, timed)| timed).collect() })
}

/// Asks all questions, or as many as there is time for, and returns how many.
fn compare(name: Name, engine: &dyn Engine, questions: &[Question], time: Duration) -> Result<usize, EngineError> {
    let began = processor_time();
    for (number, question) in questions.iter().enumerate() {
        if number > 0 && processor_time() - began >= time {
            return Ok(number);
        }
        let answer = engine.allows(question)?;
        if answer != question.allowed {
            let Question { client, method, path, .. } = question;
            let question = format!("`{method} {path}` by `{client}`");
            return Err(EngineError::Disagrees { engine: name, answer, question });
        }
    }
    Ok(questions.len())
}

/// Asks until the time is over; one question at least.
fn ask<'q>(
    engine: &dyn Engine,
    mut questions: impl Iterator<Item = &'q Question>,
    time: Duration,
) -> Result<(usize, Duration), EngineError> {
    let began = processor_time();
    let mut asked = 0;
    // The clock is not read so often that it is measured, nor so seldom that a slow engine is asked for minutes.
    let mut batch = 1;
    loop {
        let at = processor_time() - began;
        for question in questions.by_ref().take(batch) {
            black_box(engine.allows(black_box(question))?);
        }
        asked += batch;
        let now = processor_time() - began;
        if now >= time {
            return Ok((asked, now));
        }
        if now - at < time / 100 {
            batch *= 2;
        }
    }
}

/// What this thread has had of a processor: whatever else the machine does is not in it.
fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}
