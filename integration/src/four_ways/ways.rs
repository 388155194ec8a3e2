//! The ways that need no proxy.

use std::collections::BTreeMap;
use std::io;
use std::io::Write as _;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::thread;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use portcullis_policy as core;
use portcullis_policy::Head;
use portcullis_policy::Leaf;
use portcullis_policy::Memory;
use portcullis_policy::Protocol;
use portcullis_policy::Request;
use portcullis_policy::Tls;
use portcullis_policy::UnixTime;
use portcullis_policy::signature::PureRust;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

use crate::wasm_host::Connection;
use crate::wasm_host::Headers;
use crate::wasm_host::Module;
use crate::wasm_host::Outcome;
use crate::wasm_host::Vm;

use super::Policy;
use super::Row;
use super::Table;
use super::Verdict;
use super::peers;
use super::rows;

impl Table {
    /// The table, with certificates made for `now`.
    pub fn new(now: UnixTime) -> Self {
        let (peers, trusted) = peers::make(now);
        let table = Self { now, peers, trusted, rows: rows::all() };
        let mut names: Vec<&str> = table.rows.iter().map(|row| row.name.as_str()).collect();
        names.sort_unstable();
        if let Some([twice, _]) = names.array_windows().find(|[one, other]| one == other) {
            panic!("two rows are called `{twice}`");
        }
        for row in &table.rows {
            let known = row.peer == "nobody" || table.peers.contains_key(row.peer);
            assert!(known, "`{}` is asked by `{}`, whom nobody made", row.name, row.peer);
        }
        table
    }

    /// The rows that one policy decides.
    pub fn rows_of(&self, policy: Policy) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.policy == policy)
    }
}

/// Decides a row with the library.
pub fn decide_natively(policy: &core::Policy, table: &Table, row: &Row) -> Verdict {
    let peer = table.peers.get(row.peer);
    let leaf = peer.map(|peer| Leaf::from_der(peer.leaf.der()));
    let (subject, error) = match leaf {
        None => (None, None),
        Some(Ok(leaf)) => (Some(policy.verified_subject(leaf, &mut PureRust)), None),
        Some(Err(error)) => (None, Some(error)),
    };
    let validated = peer.is_some_and(|peer| peer.is_validated);
    let mut head = Head::from_pairs(row.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_slice())));
    head.method = Some(&row.method);
    head.authority = row.authority.as_deref();
    head.path = row.path.as_deref();
    let peer = match (&subject, &error) {
        (Some(subject), _) => core::Peer::Presented { subject, validated },
        (None, Some(error)) => core::Peer::Unreadable(error),
        (None, None) => core::Peer::Absent,
    };
    let mut memory = Memory::default();
    let forwarded = memory.forwarded(policy, &peer, &head, &mut PureRust);
    let token = memory.token(policy, &head, table.now, &mut PureRust);
    let decision = policy.decide(&Request {
        now: table.now,
        peer,
        forwarded: &forwarded,
        token: &token,
        tls: Tls { version: Some("TLSv1.3"), sni: Some("orders.acme.example") },
        source: Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7))),
        listener: None,
        protocol: Protocol::Http,
        head,
    });
    Verdict {
        status: decision.status(),
        reason: decision.reason().code().to_owned(),
        rule: decision.rule().map(str::to_owned),
    }
}

/// Why the command line gave no verdicts.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// It could not be started or talked to.
    #[error("cannot run `{program} policy decide`")]
    Run {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It failed.
    #[error("`{program} policy decide` failed: {stderr}")]
    Failed {
        /// The program.
        program: String,
        /// What it said.
        stderr: String,
    },
    /// It wrote something else than verdicts.
    #[error("`{line}` is not a verdict")]
    Malformed {
        /// What it wrote.
        line: String,
        /// Why that is not one.
        #[source]
        source: serde_json::Error,
    },
}

/// Decides all rows of one policy with one run of `portcullis policy decide`; verdicts by the names of the rows.
///
/// # Errors
///
/// [`CliError`]
pub fn decide_with_cli(program: &Path, policy: Policy, table: &Table) -> Result<BTreeMap<String, Verdict>, CliError> {
    #[derive(Deserialize)]
    struct Line {
        id: String,
        status: u16,
        reason: String,
        rule: Option<String>,
    }

    let run = |source| CliError::Run { program: program.display().to_string(), source };
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().map_err(run)?;
    file.as_file().write_all(policy.document(table).as_bytes()).map_err(run)?;
    let mut child = Command::new(program)
        .args(["policy", "decide", "--policy"])
        .arg(file.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(run)?;
    let lines: String = table.rows_of(policy).map(|row| format!("{}\n", as_json(table, row))).collect();
    let stdin = child.stdin.take();
    // From a thread of its own: the answers would fill their pipe before the last question is written.
    let writer = thread::spawn(move || stdin.map_or(Ok(()), |mut stdin| stdin.write_all(lines.as_bytes())));
    let output = child.wait_with_output().map_err(run)?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(CliError::Failed { program: program.display().to_string(), stderr });
    }
    writer.join().expect("the writer does not panic").map_err(run)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let verdicts = text.lines().map(|line| {
        let Line { id, status, reason, rule } =
            serde_json::from_str(line).map_err(|source| CliError::Malformed { line: line.to_owned(), source })?;
        Ok((id, Verdict { status, reason, rule }))
    });
    verdicts.collect()
}

/// The row as a line for `portcullis policy decide`.
fn as_json(table: &Table, row: &Row) -> Value {
    let headers: Vec<Value> = row.headers.iter().map(|(name, value)| json!([name, bytes(value)])).collect();
    let mut line = json!({
        "id": row.name,
        "now": jiff::Timestamp::from_second(table.now.0).expect("the table is of today").to_string(),
        "tls": { "version": "TLSv1.3", "sni": "orders.acme.example" },
        "source": "10.0.0.7",
        "method": bytes(&row.method),
        "headers": headers,
    });
    if let Some(authority) = &row.authority {
        line["authority"] = bytes(authority);
    }
    if let Some(path) = &row.path {
        line["path"] = bytes(path);
    }
    if let Some(peer) = table.peers.get(row.peer) {
        line["peer"] = json!({ "certificate": peer.leaf.pem(), "validated": peer.is_validated });
    }
    line
}

/// Text, or Base64 where it is none.
fn bytes(bytes: &[u8]) -> Value {
    std::str::from_utf8(bytes).map_or_else(|_| json!({ "base64": BASE64_STANDARD.encode(bytes) }), |text| json!(text))
}

/// Decides all rows of one policy with the filter; verdicts by the names of the rows. Rows whose peer no proxy lets
/// through are left out.
///
/// # Panics
///
/// If the filter does not start or does not take the policy, and as [`Vm`] does.
pub fn decide_in_wasmtime(module: &Module, policy: Policy, table: &Table) -> BTreeMap<String, Verdict> {
    let mut vm = Vm::start(module, table.now).expect("the filter starts");
    assert!(vm.configure(policy.document(table).as_bytes()), "the filter refuses {policy:?}: {:?}", vm.log());
    let rows = table.rows_of(policy).filter(|row| row.reaches_the_filter(table));
    let verdicts = rows.map(|row| {
        let connection = table.peers.get(row.peer).map_or_else(Connection::tls, |peer| Connection::mtls(&peer.leaf));
        vm.take_log();
        let outcome = vm.request(&connection, fields(row));
        // With so many requests at one instant, its record may wait for this.
        vm.tick();
        (row.name.clone(), verdict(&outcome, &vm, &row.name))
    });
    verdicts.collect()
}

fn fields(row: &Row) -> Headers {
    let pseudo = [(":method", Some(&row.method)), (":authority", row.authority.as_ref()), (":path", row.path.as_ref())];
    let pseudo = pseudo.into_iter().filter_map(|(name, value)| Some((name, value?.as_slice())));
    Headers::from_client(pseudo.chain(row.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()))))
}

/// What a client and the upstream see, and for a refusal by a rule what the decision record says.
fn verdict(outcome: &Outcome, vm: &Vm, row: &str) -> Verdict {
    match outcome {
        Outcome::Forwarded(upstream) => Verdict {
            status: 200,
            reason: "rule_matched".to_owned(),
            rule: upstream.single("x-portcullis-rule").map(str::to_owned),
        },
        Outcome::Replied(reply) => {
            let problem: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
            let record = vm.log().iter().find_map(|line| {
                serde_json::from_str::<Value>(&line.text).ok().filter(|line| line["type"] == "decision")
            });
            let text = |value: &Value| value.as_str().map(str::to_owned);
            Verdict {
                status: reply.status,
                reason: text(&problem["code"]).unwrap_or_else(|| reply.details.clone()),
                rule: record.and_then(|record| text(&record["rule"])),
            }
        }
        Outcome::Reset | Outcome::Hanging => panic!("`{row}` has no answer: {:?}", vm.failure()),
    }
}
