//! The host calls of proxy-wasm ABI 0.2.1.
//!
//! Each call reads its arguments, changes the state and answers with a status; it never traps.

use std::time::Duration;

use portcullis_policy::Protocol;
use wasmtime::Caller;
use wasmtime::Linker;
use wasmtime::Result;

use super::foreign;
use super::headers::Headers;
use super::memory::give;
use super::memory::read;
use super::memory::write;
use super::outcome::LocalReply;
use super::properties;
use super::state::Context;
use super::state::HostState;
use super::state::LogLevel;
use super::state::LogLine;
use super::state::Map;
use super::status::HostResult;
use super::status::Status;
use super::status::code;

pub(crate) const MODULE: &str = "env";

/// Calls that a module of the SDK imports, used or not, and that this host has nothing behind.
pub(crate) const UNSUPPORTED: &[&str] = &[
    "proxy_dequeue_shared_queue",
    "proxy_done",
    "proxy_enqueue_shared_queue",
    "proxy_grpc_call",
    "proxy_grpc_cancel",
    "proxy_grpc_close",
    "proxy_grpc_send",
    "proxy_grpc_stream",
    "proxy_http_call",
    "proxy_register_shared_queue",
    "proxy_resolve_shared_queue",
    "proxy_set_buffer_bytes",
    "proxy_set_property",
];

type Host<'a> = Caller<'a, HostState>;

/// Defines a host call: `|host, arguments…| HostResult<()>`. A call that the test broke answers what the test said.
macro_rules! calls {
    ($linker:ident: $($name:literal => |$host:ident $(, $argument:ident: $type:ty)*| $body:expr;)*) => {
        $($linker.func_wrap(MODULE, $name, |mut caller: Host<'_> $(, $argument: $type)*| -> i32 {
            if let Some(status) = caller.data().broken_calls.get($name) {
                return *status;
            }
            let $host = &mut caller;
            code($body)
        })?;)*
    };
}

pub(crate) fn define(linker: &mut Linker<HostState>) -> Result<()> {
    calls! { linker:
        "proxy_log" => |host, level: i32, at: i32, size: i32| log(host, level, at, size);
        "proxy_get_log_level" => |host, at: i32| write(host, at, &(LogLevel::Trace as i32).to_le_bytes());
        "proxy_get_current_time_nanoseconds" => |host, at: i32| {
            let now = host.data().now;
            write(host, at, &now.to_le_bytes())
        };
        "proxy_set_tick_period_milliseconds" => |host, period: i32| set_tick(host, period);
        "proxy_get_buffer_bytes" => |host, kind: i32, start: i32, size: i32, data_at: i32, size_at: i32|
            buffer(host, kind, (start, size), (data_at, size_at));
        "proxy_get_header_map_pairs" => |host, map: i32, data_at: i32, size_at: i32| {
            let pairs = Map::from_code(map).and_then(|map| Ok(host.data_mut().map(map)?.map(Headers::serialize)));
            pairs.and_then(|pairs| give(host, &pairs.unwrap_or_default(), data_at, size_at))
        };
        "proxy_set_header_map_pairs" => |host, map: i32, at: i32, size: i32| set_pairs(host, map, at, size);
        "proxy_get_header_map_value" => |host, map: i32, name_at: i32, name_size: i32, data_at: i32, size_at: i32|
            value(host, map, (name_at, name_size), (data_at, size_at));
        "proxy_add_header_map_value" => |host, map: i32, name: i32, name_size: i32, value: i32, value_size: i32|
            change(host, map, (name, name_size), (value, value_size), Headers::append);
        "proxy_replace_header_map_value" => |host, map: i32, name: i32, name_size: i32, value: i32, value_size: i32|
            change(host, map, (name, name_size), (value, value_size), Headers::replace);
        "proxy_remove_header_map_value" => |host, map: i32, name: i32, name_size: i32|
            change(host, map, (name, name_size), (0, 0), |headers, name, _| { headers.remove(name); Ok(()) });
        "proxy_get_property" => |host, at: i32, size: i32, data_at: i32, size_at: i32|
            property(host, (at, size), (data_at, size_at));
        "proxy_get_shared_data" => |host, key: i32, size: i32, data_at: i32, size_at: i32, cas_at: i32|
            shared_data(host, (key, size), (data_at, size_at), cas_at);
        "proxy_set_shared_data" => |host, key: i32, key_size: i32, value: i32, size: i32, cas: i32|
            set_shared_data(host, (key, key_size), (value, size), cas);
        "proxy_continue_stream" => |host, kind: i32| if (0..=3).contains(&kind) {
            host.data_mut().stream().map(|_| ())
        } else {
            Err(Status::BadArgument)
        };
        "proxy_close_stream" => |host, kind: i32| close(host, kind);
        "proxy_send_local_response" => |host, status: i32, details: i32, details_size: i32, body: i32, body_size: i32,
                                        headers: i32, headers_size: i32, _grpc: i32|
            reply(host, status, (details, details_size), (body, body_size), (headers, headers_size));
        "proxy_get_status" => |host, code_at: i32, data_at: i32, size_at: i32|
            write(host, code_at, &[0; 4]).and_then(|()| give(host, b"", data_at, size_at));
        "proxy_set_effective_context" => |host, id: i32| {
            let (state, id) = (host.data_mut(), id.cast_unsigned());
            let known = state.contexts.contains_key(&id);
            if known { state.effective = Some(id); Ok(()) } else { Err(Status::BadArgument) }
        };
        "proxy_call_foreign_function" => |host, name: i32, name_size: i32, arguments: i32, arguments_size: i32,
                                          data_at: i32, size_at: i32| {
            let call = span(host, (name, name_size)).and_then(|name| {
                let arguments = span(host, (arguments, arguments_size))?;
                foreign::call(&name, &arguments)
            });
            call.and_then(|answer| give(host, &answer, data_at, size_at))
        };
        "proxy_define_metric" => |host, kind: i32, name: i32, size: i32, id_at: i32|
            define_metric(host, kind, (name, size), id_at);
        "proxy_increment_metric" => |host, id: i32, by: i64|
            host.data_mut().metrics.increment(id.cast_unsigned(), by);
        "proxy_record_metric" => |host, id: i32, value: i64|
            host.data_mut().metrics.record(id.cast_unsigned(), value.cast_unsigned());
        "proxy_get_metric" => |host, id: i32, at: i32| {
            let value = host.data_mut().metrics.value(id.cast_unsigned());
            value.and_then(|value| write(host, at, &value.to_le_bytes()))
        };
    }
    Ok(())
}

/// A piece of the module's memory: address and size.
type Span = (i32, i32);

fn span(host: &mut Host<'_>, (at, size): Span) -> HostResult<Vec<u8>> {
    read(host, at, size)
}

fn log(host: &mut Host<'_>, level: i32, at: i32, size: i32) -> HostResult<()> {
    let level = LogLevel::from_code(level).ok_or(Status::BadArgument)?;
    let text = read(host, at, size)?;
    // Envoy writes what it is given, and whoever reads its log takes it line by line.
    let lines = String::from_utf8_lossy(&text);
    host.data_mut().log.extend(lines.lines().map(|line| LogLine { level, text: line.to_owned() }));
    Ok(())
}

/// A request or its response (0, 1) of an HTTP stream, a side (2, 3) of a connection.
fn close(host: &mut Host<'_>, kind: i32) -> HostResult<()> {
    let stream = host.data_mut().stream()?;
    match (stream.protocol, kind) {
        (Protocol::Http, 0 | 1) | (Protocol::Tcp, 2 | 3) => {
            stream.is_reset = true;
            Ok(())
        }
        (Protocol::Http | Protocol::Tcp, 0..=3) => {
            host.data_mut().violation(format!("the module ended what is not there: stream type {kind}"));
            Ok(())
        }
        _ => Err(Status::BadArgument),
    }
}

fn set_tick(host: &mut Host<'_>, period: i32) -> HostResult<()> {
    let period = Duration::from_millis(period.cast_unsigned().into());
    match host.data_mut().context()? {
        Context::Root { tick, .. } => {
            *tick = (!period.is_zero()).then_some(period);
            Ok(())
        }
        Context::Stream(_) => Err(Status::BadArgument),
    }
}

/// Of the buffers only the configurations have bytes; the one of the VM is empty.
fn buffer(host: &mut Host<'_>, kind: i32, (start, size): Span, (data_at, size_at): Span) -> HostResult<()> {
    const VM_CONFIGURATION: i32 = 6;
    const PLUGIN_CONFIGURATION: i32 = 7;
    let bytes = match kind {
        VM_CONFIGURATION => Vec::new(),
        PLUGIN_CONFIGURATION => host.data().plugin_configuration.clone().ok_or(Status::NotFound)?,
        0..=8 => return Err(Status::NotFound),
        _ => return Err(Status::BadArgument),
    };
    let start = super::memory::offset(start);
    let end = start.checked_add(super::memory::offset(size)).ok_or(Status::BadArgument)?.min(bytes.len());
    let part = bytes.get(start..end).ok_or(Status::BadArgument)?;
    give(host, part, data_at, size_at)
}

fn set_pairs(host: &mut Host<'_>, map: i32, at: i32, size: i32) -> HostResult<()> {
    let map = Map::from_code(map)?;
    let bytes = read(host, at, size)?;
    let headers = Headers::deserialize(&bytes)?;
    *host.data_mut().map_mut(map)? = headers;
    Ok(())
}

fn value(host: &mut Host<'_>, map: i32, name: Span, (data_at, size_at): Span) -> HostResult<()> {
    let map = Map::from_code(map)?;
    let name = span(host, name)?;
    let headers = host.data_mut().map(map)?.ok_or(Status::BadArgument)?;
    // The first of several, as in Envoy: no decision can rest on it.
    let value = headers.first(&name).ok_or(Status::NotFound)?.to_vec();
    give(host, &value, data_at, size_at)
}

fn change(
    host: &mut Host<'_>,
    map: i32,
    name: Span,
    value: Span,
    change: impl FnOnce(&mut Headers, &[u8], &[u8]) -> HostResult<()>,
) -> HostResult<()> {
    let map = Map::from_code(map)?;
    let (name, value) = (span(host, name)?, span(host, value)?);
    change(host.data_mut().map_mut(map)?, &name, &value)
}

fn property(host: &mut Host<'_>, path: Span, (data_at, size_at): Span) -> HostResult<()> {
    let path = span(host, path)?;
    let value = match host.data_mut().context()? {
        Context::Stream(stream) => properties::property(&path, &stream.connection, Some(&stream.request)),
        // A root context has no connection.
        Context::Root { name, .. } if path == b"plugin_name" => Ok(name.clone().into_bytes()),
        Context::Root { root_id, .. } if path == b"plugin_root_id" => Ok(root_id.clone().into_bytes()),
        Context::Root { .. } if path.starts_with(b"plugin_") => Ok(b"portcullis".to_vec()),
        Context::Root { .. } => Err(Status::NotFound),
    }?;
    give(host, &value, data_at, size_at)
}

fn shared_data(host: &mut Host<'_>, key: Span, (data_at, size_at): Span, cas_at: i32) -> HostResult<()> {
    let key = span(host, key)?;
    let (value, cas) = host.data().shared.get(&key).cloned().ok_or(Status::NotFound)?;
    give(host, &value, data_at, size_at)?;
    write(host, cas_at, &cas.to_le_bytes())
}

fn set_shared_data(host: &mut Host<'_>, key: Span, value: Span, cas: i32) -> HostResult<()> {
    let (key, value) = (span(host, key)?, span(host, value)?);
    let shared = &mut host.data_mut().shared;
    let current = shared.get(&key).map_or(0, |(_, cas)| *cas);
    if cas != 0 && cas.cast_unsigned() != current {
        return Err(Status::CasMismatch);
    }
    shared.insert(key, (value, current + 1));
    Ok(())
}

fn reply(host: &mut Host<'_>, status: i32, details: Span, body: Span, headers: Span) -> HostResult<()> {
    let details = String::from_utf8_lossy(&span(host, details)?).into_owned();
    let body = span(host, body)?;
    let headers = Headers::deserialize(&span(host, headers)?)?;
    let status = u16::try_from(status).ok().filter(|status| (200..600).contains(status)).ok_or(Status::BadArgument)?;
    let reply = LocalReply { status, headers, body, details };
    let stream = host.data_mut().stream()?;
    if stream.reply.replace(reply).is_some() {
        host.data_mut().violation("the module answered one request twice".to_owned());
    }
    Ok(())
}

fn define_metric(host: &mut Host<'_>, kind: i32, name: Span, id_at: i32) -> HostResult<()> {
    let name = String::from_utf8(span(host, name)?).map_err(|_| Status::BadArgument)?;
    let id = host.data_mut().metrics.define(kind, &name)?;
    write(host, id_at, &id.to_le_bytes())
}
