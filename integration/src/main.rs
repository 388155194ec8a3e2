//! `lab`: the demo, the stories and the benchmark from the command line.

use std::io;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use clap::Subcommand;
use portcullis_integration::bench;
use portcullis_integration::environment::chain;
use portcullis_integration::report::Report;
use portcullis_integration::stories::Story;

/// Watch Portcullis work on real parts.
#[derive(Debug, Parser)]
#[command(name = "lab", version)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List the stories: tests that one can watch.
    Stories,
    /// Watch one story against real parts; exit 0 only if all of it holds.
    Story {
        /// Its name, as `stories` lists it.
        #[arg(value_parser = story)]
        name: Story,
    },
    /// Measure the gate beside its peers and print the README's table.
    Bench {
        /// Measurements of each peer.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Requests of one measurement.
        #[arg(long, default_value_t = 10_000)]
        requests: u64,
        /// Only these peers: `nothing`, `empty`, `lua`, `rbac`, `ours`, `rbac-1000`, `ours-100000` …
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
    },
}

fn story(name: &str) -> Result<Story, String> {
    let known = || Story::ALL.iter().map(|story| story.name()).collect::<Vec<_>>().join(", ");
    Story::named(name).ok_or_else(|| format!("the stories are {}", known()))
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome: Outcome = match Arguments::parse().what {
        What::Stories => list(),
        What::Story { name } => tell(name).await,
        What::Bench { rounds, requests, only } => {
            let settings = bench::Settings { rounds, requests, only };
            bench::run(&settings, &mut io::stdout(), &mut io::stderr()).await.map_err(Into::into)
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nobody left to tell that standard error is closed.
            let _ = writeln!(io::stderr(), "error: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn list() -> Outcome {
    let mut out = io::stdout().lock();
    for story in Story::ALL {
        writeln!(out, "{:<18}{}", story.name(), story.about())?;
    }
    Ok(())
}

async fn tell(story: Story) -> Outcome {
    let mut report = Report::watched();
    report.title(format_args!("{}: {}", story.name(), story.about()));
    // Ctrl-C drops the story in the middle, and with it everything that it started.
    tokio::select! {
        told = story.tell(&mut report) => told?,
        _ = tokio::signal::ctrl_c() => return Err("interrupted".into()),
    }
    report.title("all of it held");
    Ok(())
}
