//! What the host remembers for one VM.

use std::collections::BTreeMap;
use std::time::Duration;

use portcullis_policy::Protocol;
use wasmtime::StoreLimits;
use wasmtime::StoreLimitsBuilder;

use super::connection::Connection;
use super::headers::Headers;
use super::metrics::Metrics;
use super::outcome::LocalReply;
use super::status::HostResult;
use super::status::Status;

/// Most memory that Envoy's host gives a VM.
const MEMORY_MAX: usize = 1 << 30;

/// One line that the module logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Its level.
    pub level: LogLevel,
    /// Its text. Bytes that are not UTF-8 are replaced.
    pub text: String,
}

/// The ABI's log levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// 0
    Trace,
    /// 1
    Debug,
    /// 2
    Info,
    /// 3
    Warn,
    /// 4
    Error,
    /// 5: what the SDK uses for a panic.
    Critical,
}

impl LogLevel {
    pub(crate) fn from_code(code: i32) -> Option<Self> {
        Some(match code {
            0 => Self::Trace,
            1 => Self::Debug,
            2 => Self::Info,
            3 => Self::Warn,
            4 => Self::Error,
            5 => Self::Critical,
            _ => return None,
        })
    }
}

/// State that host calls read and change.
pub(crate) struct HostState {
    pub(crate) limits: StoreLimits,
    /// Nanoseconds since 1970.
    pub(crate) now: u64,
    pub(crate) log: Vec<LogLine>,
    pub(crate) metrics: Metrics,
    pub(crate) contexts: BTreeMap<u32, Context>,
    /// The context whose callback runs.
    pub(crate) current: u32,
    /// The context that host calls are about, where the module chose another one.
    pub(crate) effective: Option<u32>,
    /// Set during `proxy_on_configure` only.
    pub(crate) plugin_configuration: Option<Vec<u8>>,
    pub(crate) shared: BTreeMap<Vec<u8>, (Vec<u8>, u32)>,
    /// What no module ought to do. Each one fails the test.
    pub(crate) violations: Vec<String>,
    pub(crate) random: u64,
    /// Memory is short on purpose.
    pub(crate) is_starved: bool,
    /// Calls whose next answer is this status instead of the true one.
    pub(crate) broken_calls: BTreeMap<&'static str, i32>,
}

/// A context of the module.
#[derive(Debug)]
pub(crate) enum Context {
    Root {
        /// The `name` of the filter's configuration.
        name: String,
        /// Its `root_id`.
        root_id: String,
        tick: Option<Duration>,
    },
    Stream(Box<Stream>),
}

/// The host's side of one HTTP stream, or of one TCP connection.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) root: u32,
    pub(crate) protocol: Protocol,
    pub(crate) connection: Connection,
    pub(crate) request: Headers,
    pub(crate) trailers: Headers,
    pub(crate) response: Option<Headers>,
    pub(crate) phase: Phase,
    pub(crate) reply: Option<LocalReply>,
    pub(crate) is_reset: bool,
}

/// Which header maps can be reached: Envoy forgets the request's once the filter lets it go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    RequestHeaders,
    RequestTrailers,
    Between,
    ResponseHeaders,
    Log,
}

/// The ABI's map types that a host of this kind can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Map {
    Request,
    RequestTrailers,
    Response,
    /// Trailers of responses, gRPC metadata and the answers to outgoing calls: known, and never there.
    Other,
}

impl Map {
    pub(crate) fn from_code(code: i32) -> HostResult<Self> {
        match code {
            0 => Ok(Self::Request),
            1 => Ok(Self::RequestTrailers),
            2 => Ok(Self::Response),
            3..=7 => Ok(Self::Other),
            _ => Err(Status::BadArgument),
        }
    }
}

impl HostState {
    pub(crate) fn new(now: u64) -> Self {
        Self {
            limits: StoreLimitsBuilder::new().memory_size(MEMORY_MAX).build(),
            now,
            log: Vec::new(),
            metrics: Metrics::default(),
            contexts: BTreeMap::new(),
            current: 0,
            effective: None,
            plugin_configuration: None,
            shared: BTreeMap::new(),
            violations: Vec::new(),
            random: 0,
            is_starved: false,
            broken_calls: BTreeMap::new(),
        }
    }

    /// The context that a host call is about. As in Envoy, a chosen one that is gone counts for nothing.
    pub(crate) fn context(&mut self) -> HostResult<&mut Context> {
        let id = self.effective.filter(|id| self.contexts.contains_key(id)).unwrap_or(self.current);
        self.contexts.get_mut(&id).ok_or(Status::BadArgument)
    }

    /// The stream that a host call is about; `BadArgument` in a root context.
    pub(crate) fn stream(&mut self) -> HostResult<&mut Stream> {
        match self.context()? {
            Context::Stream(stream) => Ok(stream),
            Context::Root { .. } => Err(Status::BadArgument),
        }
    }

    /// A header map to read, if it exists in this phase.
    pub(crate) fn map(&mut self, map: Map) -> HostResult<Option<&Headers>> {
        let stream = match self.context()? {
            Context::Stream(stream) => stream,
            Context::Root { .. } => return Ok(None),
        };
        Ok(match (map, stream.phase) {
            (Map::Request, Phase::RequestHeaders | Phase::Log) => Some(&stream.request),
            (Map::RequestTrailers, Phase::RequestTrailers) => Some(&stream.trailers),
            (Map::Response, Phase::ResponseHeaders | Phase::Log) => stream.response.as_ref(),
            _ => None,
        })
    }

    /// A header map to change; `BadArgument` if this phase has none.
    pub(crate) fn map_mut(&mut self, map: Map) -> HostResult<&mut Headers> {
        let stream = self.stream()?;
        match (map, stream.phase) {
            (Map::Request, Phase::RequestHeaders) => Ok(&mut stream.request),
            (Map::RequestTrailers, Phase::RequestTrailers) => Ok(&mut stream.trailers),
            (Map::Response, Phase::ResponseHeaders) => stream.response.as_mut().ok_or(Status::BadArgument),
            _ => Err(Status::BadArgument),
        }
    }

    pub(crate) fn violation(&mut self, text: String) {
        self.violations.push(text);
    }
}
