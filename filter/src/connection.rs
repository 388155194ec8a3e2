//! One TCP connection: decided when its first bytes come, before any goes on.

use std::rc::Rc;

use portcullis_policy::Head;
use portcullis_policy::Protocol;
use proxy_wasm::traits::Context;
use proxy_wasm::traits::StreamContext;
use proxy_wasm::types::Action;

use crate::counters::Counters;
use crate::generation::Generation;
use crate::host;
use crate::host::HostError;
use crate::question;
use crate::question::Verdict;
use crate::record;
use crate::streams;
use crate::streams::Stream;

/// The filter's side of one TCP connection. What is sent over it is not looked at.
pub(crate) struct Connection {
    context: u32,
    generation: Option<Rc<Generation>>,
    counters: Option<Rc<Counters>>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// A proxy tells of a new connection before the handshake, when nobody knows yet who it is.
    Undecided,
    GoesOn,
    Refused,
}

impl Connection {
    /// A connection that the policy of `generation` decides; without one it is refused.
    pub(crate) fn new(context: u32, generation: Option<Rc<Generation>>, counters: Option<Rc<Counters>>) -> Self {
        Self { context, generation, counters, state: State::Undecided }
    }

    /// Holds back bytes, from either side, unless the connection may go on.
    fn pass(&mut self) -> Action {
        if self.state == State::Undecided {
            self.state = self.decide().unwrap_or_else(|error| self.fail(&error));
        }
        // One that was ended meanwhile stays until the peer has read what was written before. Nothing more is.
        if self.state == State::GoesOn && streams::is_open(self.context) { Action::Continue } else { Action::Pause }
    }

    fn decide(&self) -> Result<State, HostError> {
        let (Some(generation), Some(counters)) = (&self.generation, &self.counters) else {
            return Err(HostError::NotConfigured);
        };
        let verdict = question::begin(generation, counters, Protocol::Tcp, Head::default(), |decision, _| {
            if decision.is_allowed() { Ok(()) } else { host::close_connection() }
        })?;
        Ok(match verdict {
            Verdict::GoesOn { due } => {
                streams::keep(self.context, Stream::Tcp, Rc::clone(generation), due);
                State::GoesOn
            }
            Verdict::Refused => State::Refused,
        })
    }

    /// Fails closed.
    fn fail(&self, error: &HostError) -> State {
        // Where not even this is possible, its bytes are held back until the proxy's time-out.
        let _ = host::close_connection();
        if let Some(counters) = &self.counters {
            counters.denied(Protocol::Tcp, error.reason());
        }
        record::failed(error, Protocol::Tcp, &Head::default());
        State::Refused
    }
}

impl Context for Connection {}

impl StreamContext for Connection {
    fn on_downstream_data(&mut self, _size: usize, _end_of_stream: bool) -> Action {
        self.pass()
    }

    fn on_upstream_data(&mut self, _size: usize, _end_of_stream: bool) -> Action {
        // A proxy that connects to the service at once has its first words before the handshake is done. Who comes without
        // a certificate and who is still to show one look alike then.
        if self.state == State::Undecided && !matches!(host::peer_digest(), Ok(Some(_))) {
            self.state = self.fail(&HostError::NobodyYet);
        }
        self.pass()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        streams::forget(self.context);
    }
}
