//! `lab`: the demo, the stories and the benchmark from the command line.

use std::io;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use clap::Subcommand;
use portcullis_integration::bench;
use portcullis_integration::demo;
use portcullis_integration::demo::Until;
use portcullis_integration::environment::chain;
use portcullis_integration::report::Report;
use portcullis_integration::stories::Story;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

/// Watch Portcullis work on real parts.
#[derive(Debug, Parser)]
#[command(name = "lab", version)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Agent, Envoy, a service and clients, all mTLS, with certificates that live a minute.
    Demo {
        /// `once`: wait for one full proven rotation, check all of it, and end.
        #[arg(value_name = "once")]
        until: Option<Once>,
    },
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
        /// Only these peers, and no figures beside the table: `nothing`, `empty`, `lua`, `rbac`, `ours`, `rbac-1000`,
        /// `ours-100000` …; `tokens` for bearer tokens and what they are measured against; `streams` for open streams;
        /// `agent` for the agent itself with few certificates and with very many; `issuance` for ACME clients.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// Certificates that each ACME client obtains, for `issuance`.
        #[arg(long, default_value_t = 500)]
        certificates: usize,
        /// Only these ACME clients, for `issuance`: lego sleeps between its looks, and takes most of the time by that.
        #[arg(long, value_delimiter = ',', value_enum, default_values_t = bench::AcmeClient::ALL)]
        clients: Vec<bench::AcmeClient>,
    },
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Once {
    Once,
}

fn story(name: &str) -> Result<Story, String> {
    let known = || Story::ALL.iter().map(|story| story.name()).collect::<Vec<_>>().join(", ");
    Story::named(name).ok_or_else(|| format!("the stories are {}", known()))
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome: Outcome = match Arguments::parse().what {
        What::Demo { until } => demo(until).await,
        What::Stories => list(),
        What::Story { name } => tell(name).await,
        What::Bench { rounds, requests, only, certificates, clients } => {
            let settings = bench::Settings { rounds, requests, only, certificates, clients };
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
        writeln!(out, "{:<22}{}", story.name(), story.about())?;
    }
    Ok(())
}

async fn demo(until: Option<Once>) -> Outcome {
    let until = until.map_or(Until::Interrupted, |Once::Once| Until::Rotated);
    tokio::select! {
        done = demo::run(until) => done?,
        // Dropped in the middle, it ends everything that it started.
        () = told_to_end() => match until {
            Until::Interrupted => writeln!(io::stdout(), "\nended; nothing is left behind")?,
            Until::Rotated => return Err("interrupted before a rotation was proven".into()),
        },
    }
    Ok(())
}

/// Ctrl-C, or the signal of a service manager.
async fn told_to_end() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

async fn tell(story: Story) -> Outcome {
    let mut report = Report::watched();
    report.title(format_args!("{}: {}", story.name(), story.about()));
    // Ctrl-C drops the story in the middle, and with it everything that it started.
    tokio::select! {
        told = story.tell(&mut report) => told?,
        () = told_to_end() => return Err("interrupted".into()),
    }
    report.title("all of it held");
    Ok(())
}
