//! The figures beside the table: the decision alone, the module, the start with many rules, memory.

use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::io::Write;
use std::time::Duration;
use std::time::Instant;

use portcullis_policy::Forwarded;
use portcullis_policy::Head;
use portcullis_policy::Leaf;
use portcullis_policy::Peer as PolicyPeer;
use portcullis_policy::Policy;
use portcullis_policy::Request;
use portcullis_policy::Tls;
use portcullis_policy::UnixTime;
use portcullis_policy::token::Bearer;

use super::BenchError;
use super::Peer;
use super::Variant;
use super::numbers::thousands;
use super::table::find;
use super::variant;
use crate::certificates::Authority;
use crate::environment::Ask;
use crate::environment::Environment;
use crate::environment::EnvironmentError;
use crate::environment::Load;
use crate::environment::Plan;
use crate::environment::Protocol;
use crate::environment::Settings;
use crate::environment::chain;
use crate::environment::programs;
use crate::report::Report;
use crate::stories::CHECKOUT;
use crate::stories::rotate;
use crate::wasm_host::Module;
use crate::wasm_host::Vm;

const DECISIONS: u32 = 100_000;
const ROTATIONS: usize = 100;

pub(super) fn write(peers: &[Peer], out: &mut dyn Write) -> Result<(), BenchError> {
    writeln!(out)?;
    let module = programs::filter()?;
    let size =
        fs::metadata(&module).map_err(|source| EnvironmentError::File { doing: "read", path: module, source })?.len();
    writeln!(out, "- `portcullis.wasm`: {} KiB", size / 1024)?;
    for count in [10, 100_000] {
        let (compile, decide) = native(count)?;
        writeln!(
            out,
            "- natively, {} rules: compiled in {:.0} ms, one decision {:.0} ns",
            thousands(count),
            compile.as_secs_f64() * 1e3,
            decide.as_secs_f64() * 1e9
        )?;
    }
    for count in [1, 100_000] {
        let memory = memory_with(count)? as f64 / f64::from(1 << 20);
        writeln!(out, "- one VM with {} rules: {memory:.1} MiB, the configuration's text included", thousands(count))?;
    }
    if let Some((many, one)) = find(peers, Variant::Ours(100_000)).zip(find(peers, Variant::Ours(1))) {
        // Envoy configures the plugin in its first VM and again in that of the worker.
        let start = many.started.saturating_sub(one.started);
        let busy = many.busy.saturating_sub(one.busy);
        writeln!(
            out,
            "- Envoy starts {:.2} s later with 100,000 rules than with one, {:.2} s of processor time for all its VMs together",
            start.as_secs_f32(),
            busy.as_secs_f32()
        )?;
        if let Some((many, one)) = many.envoy.process().resident().zip(one.envoy.process().resident()) {
            let more = many.saturating_sub(one) / (1 << 20);
            writeln!(out, "- and holds {more} MiB more, configuration and all its VMs together")?;
        }
    }
    Ok(())
}

/// Replaces the gate's certificate again and again under a light load, and says how long each one took to be served.
pub(super) async fn rotations(out: &mut dyn Write) -> Result<(), BenchError> {
    let environment = Environment::start(&Settings::default()).await?;
    let clients = [environment.client(CHECKOUT, Protocol::Http1).await?];
    let plan = Plan { kept: 2, fresh: 2, every: Duration::from_millis(40), ask: Ask::get("/orders/42") };
    let load = Load::start(&clients, &plan);
    let rotated = rotate(&environment, &mut Report::quiet(), ROTATIONS, &load).await;
    let tally = load.stop().await;
    let rotated = rotated.map_err(|error| BenchError::Driver(chain(&error)))?;
    writeln!(
        out,
        "- certificate issued → proven served, {ROTATIONS} rotations under load: median {} ms, p99 {} ms; {tally}",
        rotated.quantile(0.50).as_millis(),
        rotated.quantile(0.99).as_millis()
    )?;
    Ok(())
}

/// The memory of one VM with a policy in force. Wasmtime's, which is the module's own and the same in every host; the time
/// is not taken, since the tests' host compiles for a fast start.
fn memory_with(count: usize) -> Result<usize, BenchError> {
    let driver = |error: &dyn Error| BenchError::Driver(chain(error));
    let module = Module::under_test().map_err(|error| driver(&error))?;
    let mut vm = Vm::start(&module, UnixTime(0)).map_err(|error| driver(&error))?;
    if !vm.configure(variant::policy(count).as_bytes()) {
        return Err(BenchError::Driver(format!("the module refuses the policy of {count} rules")));
    }
    Ok(vm.memory_size())
}

/// Compile time, and the time of one decision with the certificate's roles already worked out.
fn native(count: usize) -> Result<(Duration, Duration), BenchError> {
    let text = variant::policy(count);
    let began = Instant::now();
    let policy = Policy::from_json(text.as_bytes()).map_err(|error| BenchError::Driver(error.to_string()))?;
    let compile = began.elapsed();
    let certificate = Authority::new("bench").leaf().uri(variant::CLIENT).issue();
    let leaf = Leaf::from_der(certificate.der()).map_err(|error| BenchError::Driver(error.to_string()))?;
    let now = UnixTime(leaf.not_before().0 + 1);
    let subject = policy.subject(leaf);
    let path = Variant::Ours(count).path();
    let request = Request {
        now,
        peer: PolicyPeer::Presented { subject: &subject, validated: true },
        forwarded: &Forwarded::Nothing,
        token: &Bearer::Absent,
        tls: Tls::default(),
        source: None,
        listener: None,
        protocol: portcullis_policy::Protocol::Http,
        head: Head {
            method: Some(b"GET"),
            authority: Some(b"orders.acme.example"),
            path: Some(path.as_bytes()),
            fields: vec![(b"user-agent", b"bench"), (b"accept", b"*/*")],
            duplicated: false,
        },
    };
    if !policy.decide(&request).is_allowed() {
        return Err(BenchError::Driver(format!("the policy of {count} rules does not let the load in")));
    }
    let began = Instant::now();
    for _ in 0..DECISIONS {
        black_box(policy.decide(black_box(&request)));
    }
    Ok((compile, began.elapsed() / DECISIONS))
}
