//! Stories of the filter in wasmtime: a situation, and what clients, upstreams and operators see of it.
//!
//! Which decision follows from which request is the table of `four_ways`; here is what surrounds a decision: what reaches
//! the upstream, what is remembered and for how long, what is written down, and what happens when something fails.

mod certificates;
mod connections;
mod counters;
mod drain;
mod failures;
mod forwarding;
mod gate;
mod hostile;
mod hosts;
mod identity;
mod names;
mod neighbours;
mod policies;
mod records;
mod replies;
mod requirements;
mod revocations;
mod shadows;
mod streams;
mod tokens;
mod trailers;
