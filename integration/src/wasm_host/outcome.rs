//! What became of a request.

use super::headers::Headers;

/// What the module made of a request's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It goes to the upstream, with these header fields.
    Forwarded(Headers),
    /// The client has its answer; the upstream never hears of it.
    Replied(LocalReply),
    /// The stream was reset: the client has no answer.
    Reset,
    /// The module stopped the request and said nothing: it hangs.
    Hanging,
}

/// An answer that the upstream did not give.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalReply {
    /// The HTTP status.
    pub status: u16,
    /// The header fields that the module added.
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
    /// Envoy's response code details, for its access log.
    pub details: String,
}

impl Outcome {
    /// The status that the client sees, where the upstream always answers 200; `None` where there is no answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Forwarded(_) => Some(200),
            Self::Replied(reply) => Some(reply.status),
            Self::Reset | Self::Hanging => None,
        }
    }

    /// The module's own answer.
    pub fn reply(&self) -> Option<&LocalReply> {
        match self {
            Self::Replied(reply) => Some(reply),
            _ => None,
        }
    }

    /// What the upstream gets.
    pub fn upstream(&self) -> Option<&Headers> {
        match self {
            Self::Forwarded(headers) => Some(headers),
            _ => None,
        }
    }

    /// What Envoy answers for a stream of a VM that has failed.
    pub(crate) fn failed_vm() -> Self {
        Self::Replied(LocalReply { status: 503, details: "wasm_fail_stream".to_owned(), ..LocalReply::default() })
    }
}
