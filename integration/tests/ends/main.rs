//! Whom credentials are set on, against the real servers.

mod postgres;
mod program;
mod redis;
mod support;
