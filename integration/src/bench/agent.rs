//! What the agent costs with few certificates and with very many: memory, start, and doing nothing.

use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use super::BenchError;
use super::numbers::thousands;
use crate::environment;
use crate::environment::Agent;
use crate::environment::free_port;
use crate::environment::programs;

/// Certificates, row by row.
const COUNTS: [usize; 2] = [10, 10_000];
/// How long nothing is watched to happen.
const IDLE: Duration = Duration::from_secs(20);
/// Time in which the processor is used so little, for a part of it, that what there is to do at a start is done.
const CALM: Duration = Duration::from_secs(2);
const CALM_PART: f64 = 0.04;
/// What is not calm by then is not.
const CALM_MOST: usize = 60;
/// Between two looks at what is issued.
const LOOK: Duration = Duration::from_millis(200);
/// Longer than anything takes that is not broken.
const PATIENCE: Duration = Duration::from_secs(1_800);

/// Measures, and writes a table of its own.
pub(super) async fn measure(directory: &Path, out: &mut dyn Write, progress: &mut dyn Write) -> Result<(), BenchError> {
    writeln!(out, "| certificates | all issued, s | started again, ms | memory, MiB | CPU while idle, % of a core |")?;
    writeln!(out, "|--:|--:|--:|--:|--:|")?;
    for count in COUNTS {
        let root = directory.join(format!("agent-{count}"));
        std::fs::create_dir(&root)?;
        let mut names = String::new();
        for number in 0..count {
            // A `String` takes everything.
            let _ = writeln!(names, "shop-{number}.shops.acme.example");
        }
        environment::write(&root.join("names.txt"), &names)?;
        let config = root.join("portcullis.yaml");
        let metrics = free_port()?;
        environment::write(
            &config,
            &format!(
                "version: 1\nstate_dir: state\nca: {{ trust_domain: acme.example }}\n\
                 listen: {{ xds: run/xds.sock, control: run/control.sock, metrics: \"{metrics}\" }}\n\
                 certificates:\n  - {{ each: names.txt, lifetime: 90d }}\n"
            ),
        )?;
        let mut agent = Agent::new(programs::agent()?, config, root.join("agent.log"));
        let began = Instant::now();
        agent.start().await?;
        all_issued(&root.join("state/audit.jsonl"), count).await?;
        let issued = began.elapsed();
        writeln!(progress, "{count} certificates are issued")?;
        agent.stop().await?;
        let began = Instant::now();
        // It answers when it has read them all.
        agent.start().await?;
        let started = began.elapsed();
        let process = agent.process().ok_or_else(|| BenchError::Driver("the agent does not run".to_owned()))?;
        let clock = process.cpu_clock();
        // Each certificate is looked at once when it begins, which is not idle.
        for _ in 0..CALM_MOST {
            let before = clock.now();
            tokio::time::sleep(CALM).await;
            if clock.now().saturating_sub(before).as_secs_f64() < CALM.as_secs_f64() * CALM_PART {
                break;
            }
        }
        let before = clock.now();
        tokio::time::sleep(IDLE).await;
        let idle = clock.now().saturating_sub(before).as_secs_f64() / IDLE.as_secs_f64() * 100.0;
        let memory = process.resident().unwrap_or_default() >> 20;
        writeln!(
            out,
            "| {} | {:.1} | {} | {memory} | {idle:.2} |",
            thousands(count),
            issued.as_secs_f32(),
            started.as_millis()
        )?;
        agent.stop().await?;
    }
    Ok(())
}

/// By the audit log: asking for the status of all again and again would be measured too.
async fn all_issued(log: &Path, count: usize) -> Result<(), BenchError> {
    let end = Instant::now() + PATIENCE;
    loop {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let issued = text.matches("\"certificate_issued\"").count();
        if issued >= count {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(BenchError::Driver(format!("{issued} of {count} certificates were issued in {PATIENCE:?}")));
        }
        tokio::time::sleep(LOOK).await;
    }
}
