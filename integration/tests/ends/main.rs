//! Where credentials come from and whom they are set on, against the real servers.

mod oauth;
mod openbao;
mod postgres;
mod program;
mod redis;
mod support;
