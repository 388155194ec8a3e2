//! Who does the arithmetic of signatures: the proxy's library where there is one, many times faster than what runs in here.

use std::cell::OnceCell;

use portcullis_policy::signature::PureRust;
use portcullis_policy::signature::Verifier;
use portcullis_policy::signature::VerifyingKey;
use portcullis_policy::signature::probe;

use crate::counters::Counters;
use crate::host;

thread_local! {
    /// Of the VM: its host does not change.
    static HOST_VERIFIES: OnceCell<bool> = const { OnceCell::new() };
}

/// Verifies by the host, and by itself what the host cannot be asked or does not answer.
#[derive(Debug)]
pub(crate) struct SignatureVerifier {
    host: bool,
    asked: usize,
}

impl SignatureVerifier {
    /// The first one of a VM asks the host about a signature that is known.
    pub(crate) fn of_vm() -> Self {
        let host = HOST_VERIFIES.with(|known| *known.get_or_init(|| probe(&mut HostOnly)));
        Self { host, asked: 0 }
    }

    /// Whether the host has a library that gave the right answers.
    pub(crate) fn is_host(&self) -> bool {
        self.host
    }

    /// How many signatures it was asked about.
    pub(crate) fn asked(&self) -> usize {
        self.asked
    }
}

impl Verifier for SignatureVerifier {
    fn verify(&mut self, key: &VerifyingKey, message: &[u8], signature: &[u8]) -> bool {
        self.asked += 1;
        let by_host = if self.host { by_host(key, message, signature) } else { None };
        // They were defined with the first configuration; without them there is no request to verify for.
        if let Ok(counters) = Counters::of_vm() {
            match by_host {
                Some(_) => counters.signature_by_host(),
                None => counters.signature_by_filter(),
            }
        }
        by_host.unwrap_or_else(|| PureRust.verify(key, message, signature))
    }
}

struct HostOnly;

impl Verifier for HostOnly {
    fn verify(&mut self, key: &VerifyingKey, message: &[u8], signature: &[u8]) -> bool {
        by_host(key, message, signature) == Some(true)
    }
}

fn by_host(key: &VerifyingKey, message: &[u8], signature: &[u8]) -> Option<bool> {
    host::verify_signature(&key.host_form(signature)?, message)
}
