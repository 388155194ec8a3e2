//! The harness: what the stories about the filter and the agent are told with.
//!
//! It observes. Nothing here decides, issues or translates; that is `policy`, `agent` and `filter`.

pub mod bench;
pub mod certificates;
pub mod demo;
pub mod environment;
pub mod four_ways;
pub mod report;
pub mod stories;
pub mod tokens;
pub mod wasm_host;
