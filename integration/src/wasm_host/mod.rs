//! A proxy-wasm host (ABI 0.2.1) on wasmtime: state in, effects out.
//!
//! A test describes a connection and the header fields of a request, and looks at what became of them: an answer, or what
//! the upstream gets, and beside it the log lines, the metrics and the clock's consequences. Which host calls led there,
//! and in which order, is the module's business and cannot be asked.
//!
//! The host is as strict as Envoy, and stricter where Envoy is silent: what Envoy would let pass although no module ought
//! to do it (a header value with a line feed, a call that the shipped configuration does not permit) fails the test.
//!
//! Absent: bodies, what TCP connections carry, trailers of responses, outgoing calls, threads, real time.

mod capabilities;
mod connection;
mod foreign;
mod headers;
mod imports;
mod memory;
mod metrics;
mod module;
mod outcome;
mod properties;
mod state;
mod status;
mod vm;
mod wasi;

#[cfg(test)]
mod tests;

pub use capabilities::Capabilities;
pub use capabilities::CapabilityError;
pub use connection::Connection;
pub use connection::Fault;
pub use headers::Headers;
pub use module::LoadError;
pub use module::Module;
pub use outcome::LocalReply;
pub use outcome::Outcome;
pub use state::LogLevel;
pub use state::LogLine;
pub use vm::Bytes;
pub use vm::NAME;
pub use vm::Neighbour;
pub use vm::Side;
pub use vm::StartError;
pub use vm::StreamId;
pub use vm::Vm;
