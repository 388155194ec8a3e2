//! The agent's ACME client against the real Pebble, which comes to validate, and against servers that do not mean well.
//! Whether a certificate was issued is what rustls says of its chain.

mod support;

mod challenges;
mod dns;
mod fake;
mod fatigue;
mod hostile;
mod names;
mod orders;
mod renewal;
