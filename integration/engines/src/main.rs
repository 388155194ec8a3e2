//! `engines`: one decision of Portcullis beside one of Cedar and one of casbin, natively.
//!
//! The same policies and the same questions for all, at sizes that are given; the engines must agree on every question
//! before anything is timed. Each round asks every engine for the same time, so that whatever else the machine does hits
//! all alike. Absent: the proxy (`lab bench` measures in Envoy), and judgement. No figure fails the run.

mod casbin;
mod cedar;
mod engine;
mod measure;
#[path = "../../src/bench/numbers.rs"]
mod numbers;
mod ours;
mod policy;
mod question;
mod table;

use std::io;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::engine::EngineError;

/// Time one decision of Portcullis, Cedar and casbin on the same policies.
#[derive(Debug, Parser)]
#[command(name = "engines", version)]
struct Arguments {
    /// Sizes of the policies.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 1_000, 10_000, 100_000])]
    rules: Vec<usize>,
    /// Measurements of each engine.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Milliseconds of one measurement; one question at least is asked in it.
    #[arg(long, default_value_t = 1_000)]
    milliseconds: u64,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nobody left to tell that standard error is closed.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), EngineError> {
    let mut out = io::stdout();
    let mut progress = io::stderr();
    let time = Duration::from_millis(arguments.milliseconds);
    table::head(arguments.rounds, time, &mut out)?;
    for &rules in &arguments.rules {
        let measured = measure::size(rules, arguments.rounds, time, &mut progress)?;
        table::row(&measured, &mut out)?;
    }
    Ok(())
}
