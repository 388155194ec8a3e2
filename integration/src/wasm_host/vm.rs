//! A running module: configurations, streams, and the effects that outlive a stream.

use std::time::Duration;

use portcullis_policy::Protocol;
use portcullis_policy::UnixTime;
use wasmtime::AsContextMut as _;
use wasmtime::Instance;
use wasmtime::Store;
use wasmtime::StoreLimitsBuilder;
use wasmtime::WasmParams;
use wasmtime::WasmResults;

use super::connection::Connection;
use super::headers::Headers;
use super::metrics::Kind;
use super::module::Module;
use super::outcome::LocalReply;
use super::outcome::Outcome;
use super::state::Context;
use super::state::HostState;
use super::state::LogLine;
use super::state::Phase;
use super::state::Stream;

/// `Action::Continue` of the ABI.
const CONTINUE: i32 = 0;

/// The `name` of the filter's configuration in the proxy.
pub const NAME: &str = "portcullis";

/// The `root_id` of one in a chain of HTTP filters.
const ROOT_ID: &str = "http";

/// One VM: the module with its memory, as one worker thread of Envoy has it.
///
/// # Panics
///
/// Every method that runs the module panics if the module did what no module ought to do (see the module documentation):
/// that is a failed test, not an outcome.
pub struct Vm {
    module: Module,
    store: Store<HostState>,
    instance: Instance,
    next_context: u32,
    /// The root context that new streams belong to, and what it was configured with.
    root: Option<(u32, Vec<u8>)>,
    /// Other filters in this VM.
    neighbours: Vec<Filter>,
    failure: Option<String>,
}

/// A filter in a VM.
struct Filter {
    /// Its root context.
    root: u32,
    name: String,
    root_id: String,
    configuration: Vec<u8>,
}

/// What becomes of bytes that a connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bytes {
    /// They go on.
    Passed,
    /// They are held back, and the connection stays open.
    Held,
    /// The connection was closed, or the VM has failed: they go nowhere.
    Closed,
}

/// A side that bytes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Downstream,
    /// The service.
    Upstream,
}

/// A stream that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a stream stays open until it is closed"]
pub struct StreamId(u32);

/// Another filter in the same VM, as that of a second listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour(usize);

/// Why a VM did not come up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The module could not be instantiated, or trapped in `_initialize`.
    #[error("the module does not start")]
    Instantiate(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Vm {
    /// Starts the module. The clock stands at `now` until it is moved.
    ///
    /// # Errors
    ///
    /// [`StartError`]
    pub fn start(module: &Module, now: UnixTime) -> Result<Self, StartError> {
        let (store, instance) = instantiate(module, nanoseconds(now))?;
        Ok(Self {
            module: module.clone(),
            store,
            instance,
            next_context: 1,
            root: None,
            neighbours: Vec::new(),
            failure: None,
        })
    }

    /// Gives the module a configuration, in a root context of its own in this same VM; whether the module took it.
    ///
    /// Streams that are open keep the root context that they began in. If the module refuses, new ones do too.
    pub fn configure(&mut self, configuration: &[u8]) -> bool {
        let root = self.new_root(NAME, ROOT_ID);
        let is_taken = self.run_configuration(root, configuration);
        let retired =
            if is_taken { self.root.replace((root, configuration.to_vec())).map(|(old, _)| old) } else { Some(root) };
        if let Some(retired) = retired {
            self.retire(retired);
        }
        is_taken
    }

    /// Adds a filter with a configuration of its own: where two have `vm_id` and code in common, Envoy runs both in one VM.
    /// `None` if the module refuses the configuration.
    pub fn add_neighbour(&mut self, configuration: &[u8]) -> Option<Neighbour> {
        self.add_neighbour_named("neighbour", configuration)
    }

    /// The same with the `name` that its configuration has in the proxy; that of the first filter is [`NAME`].
    pub fn add_neighbour_named(&mut self, name: &str, configuration: &[u8]) -> Option<Neighbour> {
        self.add_filter(name, ROOT_ID, configuration)
    }

    /// The same in a chain of network filters, as far as its `root_id` says so.
    pub fn add_network_filter(&mut self, root_id: &str, configuration: &[u8]) -> Option<Neighbour> {
        self.add_filter("tcp", root_id, configuration)
    }

    fn add_filter(&mut self, name: &str, root_id: &str, configuration: &[u8]) -> Option<Neighbour> {
        let root = self.new_root(name, root_id);
        if !self.run_configuration(root, configuration) {
            self.retire(root);
            return None;
        }
        let (name, root_id, configuration) = (name.to_owned(), root_id.to_owned(), configuration.to_vec());
        self.neighbours.push(Filter { root, name, root_id, configuration });
        Some(Neighbour(self.neighbours.len() - 1))
    }

    fn new_root(&mut self, name: &str, root_id: &str) -> u32 {
        self.new_context(Context::Root { name: name.to_owned(), root_id: root_id.to_owned(), tick: None })
    }

    /// Takes a TCP connection at a network filter, and shakes hands.
    pub fn connect(&mut self, filter: Neighbour, connection: &Connection) -> StreamId {
        let stream = self.accept(filter);
        self.shake_hands(stream, connection);
        stream
    }

    /// Takes a TCP connection of which nothing is known until the handshake.
    pub fn accept(&mut self, filter: Neighbour) -> StreamId {
        let Some(root) = self.neighbours.get(filter.0).map(|filter| filter.root) else { return StreamId(0) };
        let before = Connection::plaintext();
        let id = self.new_stream(root, Protocol::Tcp, &before, Headers::default());
        self.call::<_, i32>(id, "proxy_on_new_connection", id.cast_signed());
        StreamId(id)
    }

    /// The peer has shown who it is.
    pub fn shake_hands(&mut self, stream: StreamId, connection: &Connection) {
        if let Some(stream) = self.stream_mut(stream.0) {
            stream.connection = connection.clone();
        }
    }

    /// Carries bytes over a connection. Envoy asks about more of them even when the module has closed
    /// it, as long as the peer has not read all that was written before.
    pub fn carry(&mut self, stream: StreamId, from: Side) -> Bytes {
        let StreamId(id) = stream;
        if self.failure.is_some() {
            return Bytes::Closed;
        }
        let callback = match from {
            Side::Downstream => "proxy_on_downstream_data",
            Side::Upstream => "proxy_on_upstream_data",
        };
        let action = self.call::<_, i32>(id, callback, (id.cast_signed(), 8, 0));
        let goes_on = action.unwrap_or(CONTINUE) == CONTINUE && self.failure.is_none();
        assert!(!(goes_on && self.is_reset(stream)), "bytes go on over a connection that was closed");
        if self.is_reset(stream) || self.failure.is_some() {
            return Bytes::Closed;
        }
        if action.unwrap_or(CONTINUE) == CONTINUE { Bytes::Passed } else { Bytes::Held }
    }

    /// Sends a request through a neighbour, from its header to its end.
    pub fn request_of(&mut self, neighbour: Neighbour, connection: &Connection, headers: Headers) -> Outcome {
        let (stream, outcome) = self.open_of(neighbour, connection, headers);
        self.close(stream);
        outcome
    }

    /// Sends a request's header through a neighbour; the stream stays open.
    pub fn open_of(&mut self, neighbour: Neighbour, connection: &Connection, headers: Headers) -> (StreamId, Outcome) {
        let root = self.neighbours.get(neighbour.0).map(|filter| filter.root);
        self.open_in(root, connection, headers)
    }

    /// Sends a request from its header to its end.
    pub fn request(&mut self, connection: &Connection, headers: Headers) -> Outcome {
        let (stream, outcome) = self.open(connection, headers);
        self.close(stream);
        outcome
    }

    /// Sends a request's header; the stream stays open.
    pub fn open(&mut self, connection: &Connection, headers: Headers) -> (StreamId, Outcome) {
        let root = self.root.as_ref().map(|(root, _)| *root);
        self.open_in(root, connection, headers)
    }

    fn open_in(&mut self, root: Option<u32>, connection: &Connection, headers: Headers) -> (StreamId, Outcome) {
        let Some(root) = root.filter(|_| self.failure.is_none()) else {
            return (StreamId(0), Outcome::failed_vm());
        };
        let count = i32::try_from(headers.len()).expect("a header map is far below 2³¹ fields");
        let id = self.new_stream(root, Protocol::Http, connection, headers);
        let action = self.call::<_, i32>(id, "proxy_on_request_headers", (id.cast_signed(), count, 1));
        let outcome = self.outcome(id, action);
        (StreamId(id), outcome)
    }

    fn new_stream(&mut self, root: u32, protocol: Protocol, connection: &Connection, request: Headers) -> u32 {
        let id = self.new_context(Context::Stream(Box::new(Stream {
            root,
            protocol,
            connection: connection.clone(),
            request,
            trailers: Headers::default(),
            response: None,
            phase: if protocol == Protocol::Http { Phase::RequestHeaders } else { Phase::Between },
            reply: None,
            is_reset: false,
        })));
        self.call::<_, ()>(id, "proxy_on_context_create", (id.cast_signed(), root.cast_signed()));
        id
    }

    /// Sends the trailers of a request that was forwarded; what the upstream gets of them, if anything.
    pub fn trailers(&mut self, stream: StreamId, trailers: Headers) -> Option<Headers> {
        let StreamId(id) = stream;
        let count = i32::try_from(trailers.len()).expect("a header map is far below 2³¹ fields");
        let state = self.stream_mut(id)?;
        state.trailers = trailers;
        state.phase = Phase::RequestTrailers;
        let action = self.call::<_, i32>(id, "proxy_on_request_trailers", (id.cast_signed(), count));
        let state = self.stream_mut(id)?;
        state.phase = Phase::Between;
        let passed = action.unwrap_or(CONTINUE) == CONTINUE && state.reply.is_none() && !state.is_reset;
        passed.then(|| state.trailers.clone()).filter(|_| self.failure.is_none())
    }

    /// Ends a stream, as when its response is complete or its client has gone.
    pub fn close(&mut self, stream: StreamId) {
        let StreamId(id) = stream;
        let Some(state) = self.stream_mut(id) else {
            return;
        };
        state.phase = Phase::Log;
        let root = state.root;
        self.call::<_, ()>(id, "proxy_on_log", id.cast_signed());
        self.call::<_, i32>(id, "proxy_on_done", id.cast_signed());
        self.call::<_, ()>(id, "proxy_on_delete", id.cast_signed());
        self.store.data_mut().contexts.remove(&id);
        let first = self.root.iter().map(|(current, _)| current);
        if !first.chain(self.neighbours.iter().map(|filter| &filter.root)).any(|current| *current == root) {
            self.retire(root);
        }
    }

    /// Whether the module has ended this stream since it was opened.
    pub fn is_reset(&mut self, stream: StreamId) -> bool {
        self.stream_mut(stream.0).is_some_and(|state| state.is_reset)
    }

    /// Moves the clock.
    pub fn set_time(&mut self, now: UnixTime) {
        self.store.data_mut().now = nanoseconds(now);
    }

    /// Moves the clock on.
    pub fn advance(&mut self, by: Duration) {
        let now = &mut self.store.data_mut().now;
        *now = now.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Lets the time of every timer of the module come; how many it had.
    pub fn tick(&mut self) -> usize {
        let ticking: Vec<u32> = self
            .store
            .data()
            .contexts
            .iter()
            .filter(|(_, context)| matches!(context, Context::Root { tick: Some(_), .. }))
            .map(|(id, _)| *id)
            .collect();
        for root in &ticking {
            self.call::<_, ()>(*root, "proxy_on_tick", root.cast_signed());
        }
        ticking.len()
    }

    /// The shortest period of the module's timers.
    pub fn tick_period(&self) -> Option<Duration> {
        let periods = self.store.data().contexts.values().filter_map(|context| match context {
            Context::Root { tick, .. } => *tick,
            Context::Stream(_) => None,
        });
        periods.min()
    }

    /// Makes every further call of this name answer with this status, as a host that is in trouble.
    pub fn break_call(&mut self, call: &'static str, status: i32) {
        self.store.data_mut().broken_calls.insert(call, status);
    }

    /// Lets the module's memory grow to so many bytes and no further; a new VM has the host's limit again. On its way into a
    /// trap for want of memory, the module may try to say so by WASI.
    pub fn limit_memory(&mut self, bytes: usize) {
        let state = self.store.data_mut();
        state.limits = StoreLimitsBuilder::new().memory_size(bytes).build();
        state.is_starved = true;
    }

    /// Everything logged so far.
    pub fn log(&self) -> &[LogLine] {
        &self.store.data().log
    }

    /// Everything logged since it was last taken.
    pub fn take_log(&mut self) -> Vec<LogLine> {
        std::mem::take(&mut self.store.data_mut().log)
    }

    /// A counter's value; `None` if the module has not defined it.
    pub fn counter(&self, name: &str) -> Option<u64> {
        self.store.data().metrics.named(Kind::Counter, name)
    }

    /// A gauge's value; `None` if the module has not defined it.
    pub fn gauge(&self, name: &str) -> Option<u64> {
        self.store.data().metrics.named(Kind::Gauge, name)
    }

    /// The names of all metrics.
    pub fn metric_names(&self) -> impl Iterator<Item = &str> {
        self.store.data().metrics.names()
    }

    /// How often the module defined a metric, names that were there already included: it must not grow with requests.
    pub fn metric_definitions(&self) -> usize {
        self.store.data().metrics.definitions()
    }

    /// Bytes of memory that the module has.
    pub fn memory_size(&mut self) -> usize {
        let memory = self.instance.get_memory(self.store.as_context_mut(), "memory");
        memory.map_or(0, |memory| memory.data_size(&self.store))
    }

    /// Why the VM has failed: a trap. Every stream gets 503 from then on.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Replaces a failed VM by a new one with the configuration in force, as `failure_policy: FAIL_RELOAD` does for the
    /// next stream. Metrics and log stay: they are the proxy's.
    ///
    /// # Errors
    ///
    /// [`StartError`]
    pub fn reload(&mut self) -> Result<(), StartError> {
        let (mut store, instance) = instantiate(&self.module, self.store.data().now)?;
        std::mem::swap(&mut store.data_mut().metrics, &mut self.store.data_mut().metrics);
        std::mem::swap(&mut store.data_mut().log, &mut self.store.data_mut().log);
        self.store = store;
        self.instance = instance;
        self.failure = None;
        if let Some((_, configuration)) = self.root.take() {
            self.configure(&configuration);
        }
        // In their order: what tells them apart stays.
        for Filter { name, root_id, configuration, .. } in std::mem::take(&mut self.neighbours) {
            self.add_filter(&name, &root_id, &configuration);
        }
        Ok(())
    }

    fn run_configuration(&mut self, root: u32, configuration: &[u8]) -> bool {
        let size = i32::try_from(configuration.len()).expect("a configuration is far below 2 GiB");
        self.call::<_, ()>(root, "proxy_on_context_create", (root.cast_signed(), 0));
        if self.call::<_, i32>(root, "proxy_on_vm_start", (root.cast_signed(), 0)) == Some(0) {
            return false;
        }
        self.store.data_mut().plugin_configuration = Some(configuration.to_vec());
        let answer = self.call::<_, i32>(root, "proxy_on_configure", (root.cast_signed(), size));
        self.store.data_mut().plugin_configuration = None;
        self.failure.is_none() && answer != Some(0)
    }

    /// Deletes a root context that no stream needs any more.
    fn retire(&mut self, root: u32) {
        let in_use = self
            .store
            .data()
            .contexts
            .values()
            .any(|context| matches!(context, Context::Stream(stream) if stream.root == root));
        if in_use || !self.store.data().contexts.contains_key(&root) {
            return;
        }
        self.call::<_, i32>(root, "proxy_on_done", root.cast_signed());
        self.call::<_, ()>(root, "proxy_on_delete", root.cast_signed());
        self.store.data_mut().contexts.remove(&root);
    }

    /// What follows from a request callback. A local reply passes the filter's own response callback, as in Envoy.
    fn outcome(&mut self, id: u32, action: Option<i32>) -> Outcome {
        if self.failure.is_some() {
            return Outcome::failed_vm();
        }
        let Some(stream) = self.stream_mut(id) else {
            return Outcome::failed_vm();
        };
        stream.phase = Phase::Between;
        if stream.is_reset {
            return Outcome::Reset;
        }
        let Some(reply) = stream.reply.take() else {
            // Without a callback there is nothing that could stop the request.
            return match action.unwrap_or(CONTINUE) {
                CONTINUE => Outcome::Forwarded(stream.request.clone()),
                _ => Outcome::Hanging,
            };
        };
        let count = i32::try_from(reply.headers.len()).expect("a header map is far below 2³¹ fields");
        stream.response = Some(reply.headers);
        stream.phase = Phase::ResponseHeaders;
        self.call::<_, i32>(id, "proxy_on_response_headers", (id.cast_signed(), count, 0));
        let Some(stream) = self.stream_mut(id).filter(|stream| !stream.is_reset) else {
            return Outcome::Reset;
        };
        stream.phase = Phase::Between;
        let headers = stream.response.clone().unwrap_or_default();
        Outcome::Replied(LocalReply { headers, ..reply })
    }

    fn stream_mut(&mut self, id: u32) -> Option<&mut Stream> {
        match self.store.data_mut().contexts.get_mut(&id) {
            Some(Context::Stream(stream)) => Some(stream),
            _ => None,
        }
    }

    fn new_context(&mut self, context: Context) -> u32 {
        let id = self.next_context;
        self.next_context += 1;
        self.store.data_mut().contexts.insert(id, context);
        id
    }

    /// Calls back into the module. `None` if it lacks that callback, is not permitted it, or is failed; a trap fails it.
    fn call<P: WasmParams, R: WasmResults>(&mut self, context: u32, callback: &str, arguments: P) -> Option<R> {
        if self.failure.is_some() || !self.module.capabilities().permit(callback) {
            return None;
        }
        let function = self.instance.get_func(&mut self.store, callback)?;
        let function = match function.typed::<P, R>(&self.store) {
            Ok(function) => function,
            Err(error) => panic!("`{callback}` has another type than the ABI gives it: {error}"),
        };
        let state = self.store.data_mut();
        state.current = context;
        state.effective = None;
        let result = function.call(&mut self.store, arguments);
        assert_no_violation(&mut self.store, callback);
        match result {
            Ok(answer) => Some(answer),
            Err(trap) => {
                self.failure = Some(format!("{trap:#}"));
                None
            }
        }
    }
}

fn instantiate(module: &Module, now: u64) -> Result<(Store<HostState>, Instance), StartError> {
    let failed = |error: wasmtime::Error| StartError::Instantiate(error.into_boxed_dyn_error());
    let mut store = Store::new(module.instance().module().engine(), HostState::new(now));
    store.limiter(|state| &mut state.limits);
    let instance = module.instance().instantiate(&mut store).map_err(failed)?;
    if let Some(initialize) = instance.get_func(&mut store, "_initialize") {
        let initialize = initialize.typed::<(), ()>(&store).map_err(failed)?;
        initialize.call(&mut store, ()).map_err(failed)?;
    }
    assert_no_violation(&mut store, "_initialize");
    Ok((store, instance))
}

fn assert_no_violation(store: &mut Store<HostState>, callback: &str) {
    let violations = std::mem::take(&mut store.data_mut().violations);
    assert!(violations.is_empty(), "in `{callback}`: {}", violations.join("; "));
}

fn nanoseconds(time: UnixTime) -> u64 {
    let UnixTime(seconds) = time;
    // The ABI's clock begins in 1970 and ends in 2554.
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000_000)
}
