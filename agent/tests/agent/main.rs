//! The built agent from outside: what it is told, what it writes, what it says to a proxy that the tests play, and how it dies.

mod support;

mod alerts;
mod clock;
mod crash;
mod credentials;
mod directory;
mod files;
mod hooks;
mod intermediate;
mod jwks;
mod limits;
mod policy;
mod policy_file;
mod policy_tools;
mod proxy;
mod revocations;
mod rollback;
mod roots;
mod schema;
mod served;
mod service_manager;
mod sockets;
mod start;
mod systemd;
mod time;
mod token;
mod xds;
