//! The agent of Portcullis as a library, so that the binary is thin and the harness can read its formats.

pub mod cli;
pub mod command;
pub mod control;
pub mod control_client;
pub mod errors;
pub mod health;
pub mod metrics;
pub mod peer;
pub mod policy_source;
pub mod proof;
pub mod resource;
pub mod status;
pub mod xds;
pub mod yaml;
