//! The root context: takes configurations, refuses bad ones, makes a context for each request.

use std::error::Error;
use std::iter;
use std::rc::Rc;

use portcullis_policy::Protocol;
use proxy_wasm::traits::Context;
use proxy_wasm::traits::HttpContext;
use proxy_wasm::traits::RootContext;
use proxy_wasm::traits::StreamContext;
use proxy_wasm::types::ContextType;
use proxy_wasm::types::LogLevel;

use crate::connection::Connection;
use crate::counters::Counters;
use crate::exchange::Exchange;
use crate::generation::ConfigurationError;
use crate::generation::Generation;
use crate::host;
use crate::lineage;
use crate::log;
use crate::streams;
use crate::tally;
use crate::verifier::SignatureVerifier;

/// Most failing tests that a refusal names.
const FAILURES_LOGGED: usize = 16;

/// One configuration of the filter in this VM.
///
/// A host gives each new configuration a root context of its own and lets the old one finish its requests, and it may run
/// filters with different policies (of different listeners) in one VM. So the policy belongs to the root context, and a
/// request is decided by the policy that was in force when it began; if it goes on, later by the one that took its place.
pub(crate) struct Root {
    protocol: Protocol,
    generation: Option<Rc<Generation>>,
    counters: Option<Rc<Counters>>,
}

impl Root {
    pub(crate) fn new() -> Self {
        Self { protocol: Protocol::Http, generation: None, counters: None }
    }
}

impl Context for Root {
    fn on_done(&mut self) -> bool {
        // There may be no tick any more.
        log::flush();
        tally::flush();
        true
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        match Counters::of_vm() {
            Ok(counters) => self.counters = Some(counters),
            Err(error) => {
                // Nothing is decided without counters, so this is told now and not with each request.
                host::log(LogLevel::Error, &format!("configuration refused: cannot count: {error}"));
                return false;
            }
        }
        let now = match host::tick_every(streams::TICK).and_then(|()| host::now()) {
            Ok(now) => now,
            Err(error) => {
                host::log(LogLevel::Error, &format!("configuration refused: cannot watch open streams: {error}"));
                return false;
            }
        };
        match Generation::from_configuration(host::plugin_configuration()) {
            Ok(generation) => {
                self.protocol = host::protocol();
                let policy = generation.policy();
                let rules = policy.rule_count();
                if let Some(counters) = &self.counters {
                    counters.configuration_accepted(rules);
                }
                let line = format!(
                    "portcullis {}: policy `{}` with {rules} rules is in force",
                    env!("CARGO_PKG_VERSION"),
                    policy.version()
                );
                host::log(LogLevel::Info, &line);
                if policy.takes_tokens() && !SignatureVerifier::of_vm().is_host() {
                    host::log(LogLevel::Warn, "the proxy verifies no signatures: tokens cost much more time");
                }
                let generation = Rc::new(generation);
                lineage::succeed(&generation, now.second());
                self.generation = Some(generation);
                true
            }
            Err(error) => {
                if let Some(counters) = &self.counters {
                    counters.configuration_refused();
                }
                log_refusal(&error);
                false
            }
        }
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Exchange::new(context_id, self.generation.clone(), self.counters.clone())))
    }

    fn create_stream_context(&self, context_id: u32) -> Option<Box<dyn StreamContext>> {
        Some(Box::new(Connection::new(context_id, self.generation.clone(), self.counters.clone())))
    }

    fn on_tick(&mut self) {
        if let Some(counters) = &self.counters {
            streams::judge_again(counters);
        }
        log::flush();
        tally::flush();
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(match self.protocol {
            Protocol::Http => ContextType::HttpContext,
            Protocol::Tcp => ContextType::StreamContext,
        })
    }
}

/// Says what is wrong with a configuration, and where.
fn log_refusal(error: &ConfigurationError) {
    let place = match error {
        ConfigurationError::Policy(error) if !error.path().is_empty() => format!("`{}`: ", error.path()),
        _ => String::new(),
    };
    let causes = iter::successors(Some(error as &dyn Error), |error| (*error).source());
    let chain = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
    host::log(LogLevel::Error, &format!("configuration refused: {place}{chain}"));
    if let ConfigurationError::Tests(failures) = error {
        for failure in failures.iter().take(FAILURES_LOGGED) {
            host::log(LogLevel::Error, &format!("configuration refused: `{}`: {failure}", failure.path));
        }
    }
}
