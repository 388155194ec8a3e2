//! `four-ways`: one table of requests is decided by the library, by the command line, by the filter in wasmtime and by
//! the filter in Envoy, and all four agree.

use std::collections::BTreeMap;

use portcullis_policy::UnixTime;

use super::gate::Difference;
use super::gate::Gate;
use crate::environment::Client;
use crate::environment::EnvironmentError;
use crate::environment::Programs;
use crate::environment::Protocol::Http1;
use crate::environment::raw;
use crate::environment::raw::Outcome;
use crate::four_ways::InEnvoy;
use crate::four_ways::Policy;
use crate::four_ways::Row;
use crate::four_ways::Table;
use crate::four_ways::Verdict;
use crate::four_ways::decide_in_wasmtime;
use crate::four_ways::decide_natively;
use crate::four_ways::decide_with_cli;
use crate::report::Report;
use crate::report::StoryError;
use crate::wasm_host::Module;

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    let programs = Programs::find()?;
    let table = Table::new(UnixTime(jiff::Timestamp::now().as_second()));
    let broken = |way| move |source: Box<dyn std::error::Error + Send + Sync>| StoryError::Way { way, source };

    report.step(format_args!("{} requests, by the library", table.rows.len()));
    for policy in Policy::ALL {
        let document = policy.document(&table);
        let compiled = portcullis_policy::Policy::from_json(document.as_bytes());
        let compiled = compiled.map_err(|error| broken("by the library")(error.into()))?;
        let verdicts = table.rows_of(policy).map(|row| (row.name.clone(), decide_natively(&compiled, &table, row)));
        agree(report, &table, policy, &verdicts.collect())?;
    }
    report.step("by `portcullis policy decide`");
    for policy in Policy::ALL {
        let verdicts = decide_with_cli(&programs.agent, policy, &table);
        agree(report, &table, policy, &verdicts.map_err(|error| broken("by the command line")(error.into()))?)?;
    }
    report.step("by the filter in wasmtime");
    let module = Module::under_test().map_err(|error| broken("in wasmtime")(error.into()))?;
    for policy in Policy::ALL {
        agree(report, &table, policy, &decide_in_wasmtime(&module, policy, &table))?;
    }
    for policy in Policy::ALL {
        report.step(format_args!("by the filter in Envoy: policy {policy:?}"));
        in_envoy(report, &table, policy).await?;
    }
    Ok(())
}

fn agree(
    report: &mut Report,
    table: &Table,
    policy: Policy,
    verdicts: &BTreeMap<String, Verdict>,
) -> Result<(), StoryError> {
    let differs = |row: &&Row| verdicts.get(&row.name).is_some_and(|verdict| *verdict != row.expected);
    match table.rows_of(policy).find(differs) {
        Some(row) => report.holds(&row.name, false, format_args!("{:?}, not {:?}", verdicts[&row.name], row.expected)),
        None => report.holds(&format!("policy {policy:?}"), true, format_args!("{} verdicts agree", verdicts.len())),
    }
}

/// The shipped listener with the table's CA, and one policy.
async fn in_envoy(report: &mut Report, table: &Table, policy: Policy) -> Result<(), StoryError> {
    let rewriting =
        [("normalize_path: false", "normalize_path: true"), ("merge_slashes: false", "merge_slashes: true")];
    let difference = Difference {
        envoy: if policy == Policy::Normalizing { &rewriting } else { &[] },
        clients: Some(&table.trusted),
        ..Difference::default()
    };
    let gate = Gate::start(&policy.document(table), &difference).await?;

    let mut counts = [0_usize; 3];
    let mut differences = Vec::new();
    for row in table.rows_of(policy) {
        let seen = match &row.envoy {
            InEnvoy::Unsayable => continue,
            InEnvoy::NoHandshake => {
                let refused = client(&gate, table, row)?.refusal().await;
                counts[0] += 1;
                (!matches!(refused, Ok(Some(_)))).then(|| format!("{refused:?}, not a refused handshake"))
            }
            InEnvoy::Refuses(statuses) => {
                counts[1] += 1;
                let outcome = ask(&client(&gate, table, row)?, row).await?;
                let reached = !gate.upstream.take_seen().is_empty();
                let refused = match &outcome {
                    Outcome::Status(status, _) => statuses.contains(status) && outcome.code().is_empty(),
                    Outcome::Reset(_) => true,
                };
                (!refused || reached).then(|| format!("{outcome}, not one of {statuses:?} by Envoy"))
            }
            InEnvoy::Same => decided(&row.expected, &gate, table, row).await?,
            InEnvoy::Rewrites(expected) => decided(expected, &gate, table, row).await?,
        };
        counts[2] += 1;
        differences.extend(seen.map(|seen| format!("`{}`: {seen}", row.name)));
    }
    if !differences.is_empty() {
        return report.holds(&format!("policy {policy:?}"), false, differences.join("\n"));
    }
    let [handshakes, refused, all] = counts;
    let rest = format_args!(
        "{all} outcomes agree; of them {handshakes} refused in the handshake and {refused} by Envoy itself"
    );
    report.holds(&format!("policy {policy:?}"), true, rest)
}

/// What differs from the verdict, as a client and the service see it; nothing, if all is as it should be.
async fn decided(expected: &Verdict, gate: &Gate, table: &Table, row: &Row) -> Result<Option<String>, StoryError> {
    let outcome = ask(&client(gate, table, row)?, row).await?;
    let seen = gate.upstream.take_seen();
    let rule = seen.first().and_then(|seen| seen.values("x-portcullis-rule").first().map(ToString::to_string));
    let Outcome::Status(status, _) = outcome else { return Ok(Some(format!("{outcome}, not {expected:?}"))) };
    let reason = match outcome.code() {
        // An answer to HEAD has no body to read a code from, and what is let through has none.
        code if code.is_empty() && status == expected.status => expected.reason.clone(),
        code => code,
    };
    let verdict = Verdict { status, reason, rule };
    let good = verdict == expected.clone().from_outside() && seen.len() == usize::from(status == 200);
    Ok((!good).then(|| format!("{verdict:?}, {} requests at the service, not {expected:?}", seen.len())))
}

fn client(gate: &Gate, table: &Table, row: &Row) -> Result<Client, EnvironmentError> {
    gate.client(table.peers.get(row.peer).map(|peer| &peer.leaf), Http1)
}

async fn ask(client: &Client, row: &Row) -> Result<Outcome, StoryError> {
    let mut bytes = row.method.clone();
    bytes.extend([b" ", row.path.as_deref().unwrap_or_default(), b" HTTP/1.1\r\n"].concat());
    if let Some(authority) = &row.authority {
        bytes.extend([b"host: ", authority.as_slice(), b"\r\n"].concat());
    }
    for (name, value) in &row.headers {
        bytes.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    bytes.extend(b"\r\n");
    let outcome = raw::http1(client, &bytes).await;
    outcome.map_err(|source| StoryError::Request { doing: format!("no outcome for `{}`", row.name), source })
}
