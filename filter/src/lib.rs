//! `portcullis.wasm`: the gate as a proxy-wasm filter. Facts in, one question to the policy, effects out.
//!
//! Absent from this crate: any rule about who may do what (that is `portcullis_policy`), and, outside `host`, any host
//! call. Nothing here panics: a trap would take every stream of the proxy's worker with it. An internal failure refuses
//! the one request that met it.
//!
//! What lives how long: [`root::Root`] is one configuration of the filter, [`generation::Generation`] one policy with
//! what was learned under it, [`exchange::Exchange`] one HTTP request, [`connection::Connection`]
//! one TCP connection. [`streams`] has what is open, of the whole VM.
#![expect(missing_docs, reason = "`proxy_wasm::main!` makes a public function without one")]

mod connection;
mod counters;
mod exchange;
mod generation;
mod host;
mod lineage;
mod log;
mod protobuf;
mod question;
mod record;
mod reply;
mod root;
mod streams;
mod tally;
mod verifier;

proxy_wasm::main! {{
    // This also makes a panic leave its message in the proxy's log before it traps.
    proxy_wasm::set_log_level(proxy_wasm::types::LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(root::Root::new()));
}}
