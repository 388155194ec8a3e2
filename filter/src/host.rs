//! The proxy that the module runs in: facts come from here and effects go out here.
//!
//! The only file that names host calls or a property of one host. The SDK panics on a status that it does not expect and
//! on a header name that is not UTF-8. No client brings Envoy to either: its codecs refuse a name that is not an RFC 9110
//! token before a filter sees it, it hands out maps of any size (seen with 990 fields and with 3 MiB), and a property
//! that does not exist is `NotFound`. A capability that the configuration withholds does answer with such a status, at the
//! first configuration or the first request.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use portcullis_policy::Head;
use portcullis_policy::Protocol;
use portcullis_policy::Reason;
use portcullis_policy::UnixTime;
use portcullis_policy::signature::HostForm;
use proxy_wasm::hostcalls;
use proxy_wasm::types::BufferType;
use proxy_wasm::types::Bytes;
use proxy_wasm::types::LogLevel;
use proxy_wasm::types::MapType;
use proxy_wasm::types::MetricType;
use proxy_wasm::types::Status;

use crate::protobuf;

/// More header fields than this are not read, so that no request makes the VM grow for nothing.
const HEADERS_MAX: usize = 1000;

/// Why the host's answer cannot be used. The request is refused: see [`HostError::reason`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    /// A host call failed.
    #[error("host call `{call}` answered {status:?}")]
    Call { call: &'static str, status: Status },

    /// The host does not say what the peer presented, for example a host other than Envoy ≥ 1.38.
    #[error("property `{0}` is missing")]
    PropertyMissing(&'static str),

    /// `connection.sha256_peer_certificate_digest` is not a SHA-256 in hexadecimal.
    #[error("digest of the peer's certificate is not a SHA-256")]
    DigestMalformed,

    /// The certificate is not the one that the digest names.
    #[error("digest of the peer's certificate is of another certificate")]
    DigestMismatch,

    /// The clock is before 1970.
    #[error("clock is before 1970")]
    Clock,

    /// A service speaks, and the client has shown no certificate so far.
    #[error("the service speaks before it is known who the client is")]
    NobodyYet,

    /// A request before any configuration was accepted.
    #[error("the filter has no policy")]
    NotConfigured,

    /// More header fields than are read.
    #[error("{0} header fields, more than are read")]
    TooManyHeaders(usize),

    /// More is open than can be watched.
    #[error("more streams are open than can be watched")]
    TooManyStreams,
}

impl HostError {
    /// What to refuse the request with.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::TooManyHeaders(_) => Reason::TooManyHeaders,
            _ => Reason::InternalError,
        }
    }

    fn call(call: &'static str) -> impl FnOnce(Status) -> Self {
        move |status| Self::Call { call, status }
    }
}

/// SHA-256 of the DER of the certificate that the peer presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    fn from_hex(text: &[u8]) -> Option<Self> {
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        let (pairs, rest) = text.as_chunks::<2>();
        if !rest.is_empty() || pairs.len() != 32 {
            return None;
        }
        let mut digest = [0; 32];
        for (byte, [high, low]) in digest.iter_mut().zip(pairs) {
            *byte = u8::try_from(digit(high)? << 4 | digit(low)?).ok()?;
        }
        Some(Self(digest))
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The header map of a request: bytes, duplicates and order kept.
#[derive(Default)]
pub(crate) struct Headers(Vec<(String, Bytes)>);

impl Headers {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    /// About how many bytes they take.
    pub(crate) fn size(&self) -> usize {
        const FIELD: usize = size_of::<(String, Bytes)>();
        self.0.iter().map(|(name, value)| FIELD + name.len() + value.len()).sum()
    }

    /// Sorted, as a policy is asked.
    pub(crate) fn head(&self) -> Head<'_> {
        Head::from_pairs(self.iter().map(|(name, value)| (name.as_bytes(), value)))
    }
}

/// Reads the whole header map. `count` is the size that the host announced.
///
/// # Errors
///
/// [`HostError::TooManyHeaders`], before anything is read.
pub(crate) fn request_headers(count: usize) -> Result<Headers, HostError> {
    if count > HEADERS_MAX {
        return Err(HostError::TooManyHeaders(count));
    }
    let pairs = hostcalls::get_map_bytes(MapType::HttpRequestHeaders);
    pairs.map(Headers).map_err(HostError::call("get_header_map_pairs"))
}

/// The names in a request's trailers. `count` is the size that the host announced.
///
/// # Errors
///
/// [`HostError::TooManyHeaders`], before anything is read.
pub(crate) fn request_trailer_names(count: usize) -> Result<Vec<String>, HostError> {
    if count > HEADERS_MAX {
        return Err(HostError::TooManyHeaders(count));
    }
    let pairs = hostcalls::get_map_bytes(MapType::HttpRequestTrailers);
    let pairs = pairs.map_err(HostError::call("get_header_map_pairs"))?;
    Ok(pairs.into_iter().map(|(name, _)| name).collect())
}

/// Removes every occurrence of a field from the request's trailers.
pub(crate) fn remove_request_trailer(name: &str) -> Result<(), HostError> {
    hostcalls::remove_map_value(MapType::HttpRequestTrailers, name).map_err(HostError::call("remove_header_map_value"))
}

/// Removes every occurrence of a request header.
pub(crate) fn remove_request_header(name: &str) -> Result<(), HostError> {
    hostcalls::remove_map_value(MapType::HttpRequestHeaders, name).map_err(HostError::call("remove_header_map_value"))
}

/// Sets a request header to one value, whatever it was.
pub(crate) fn set_request_header(name: &str, value: &str) -> Result<(), HostError> {
    hostcalls::set_map_value(MapType::HttpRequestHeaders, name, Some(value))
        .map_err(HostError::call("replace_header_map_value"))
}

/// What a host that is not Envoy does not say, or says in another form.
pub(crate) const MTLS: &str = "connection.mtls";

/// Digest of the certificate that the peer presented; `None` if it presented none.
///
/// # Errors
///
/// [`HostError::PropertyMissing`] if the peer presented a certificate and the host has no digest of it, or if the host does
/// not even say whether it did: silence is not absence.
pub(crate) fn peer_digest() -> Result<Option<Digest>, HostError> {
    const DIGEST: &str = "sha256_peer_certificate_digest";
    match property("connection", DIGEST)? {
        Some(text) => Digest::from_hex(&text).map(Some).ok_or(HostError::DigestMalformed),
        // `mtls` says that a certificate was presented, not that it was validated.
        None => match property("connection", "mtls")?.as_deref() {
            Some([0]) => Ok(None),
            // One byte is Envoy's form: it knows a certificate and does not tell of it.
            Some([_]) => Err(HostError::PropertyMissing("connection.sha256_peer_certificate_digest")),
            Some(_) | None => Err(HostError::PropertyMissing(MTLS)),
        },
    }
}

/// The certificate that the peer presented, in PEM with percent-encoding. Costs far more than [`peer_digest`].
///
/// # Errors
///
/// [`HostError::PropertyMissing`] if the host does not hand it out.
pub(crate) fn peer_certificate() -> Result<Bytes, HostError> {
    property("connection", "peer_certificate")?.ok_or(HostError::PropertyMissing("connection.peer_certificate"))
}

/// A certificate that the peer presented, as nginx tells of it.
pub(crate) struct EscapedCertificate {
    /// PEM with percent-encoding.
    pub(crate) text: Bytes,
    /// Whether nginx validated it: it may be told to let in others too (`ssl_verify_client optional_no_ca`).
    pub(crate) is_validated: bool,
}

/// The certificate that the peer presented, from the variables of nginx; `None` if it presented none.
///
/// Its Wasm module has nothing below `connection.*` about certificates and hands out every variable below `ngx.*`. No client
/// writes these two. In Envoy nobody has them, and where it knows of a certificate they are not asked for.
///
/// # Errors
///
/// [`HostError::PropertyMissing`] if the host does not say, or not over TLS: silence is not absence.
pub(crate) fn escaped_certificate() -> Result<Option<EscapedCertificate>, HostError> {
    let verify = property("ngx", "ssl_client_verify")?.ok_or(HostError::PropertyMissing("ngx.ssl_client_verify"))?;
    if verify == b"NONE" {
        return Ok(None);
    }
    let text = property("ngx", "ssl_client_escaped_cert")?;
    let text = text.ok_or(HostError::PropertyMissing("ngx.ssl_client_escaped_cert"))?;
    // Anything else is `FAILED:` and a reason.
    Ok(Some(EscapedCertificate { text, is_validated: verify == b"SUCCESS" }))
}

/// Address of the peer; `None` if it has none, as on a Unix socket.
///
/// # Errors
///
/// [`HostError::PropertyMissing`] if the host does not say: silence is not absence.
pub(crate) fn source_address() -> Result<Option<IpAddr>, HostError> {
    let text = property("source", "address")?.ok_or(HostError::PropertyMissing("source.address"))?;
    Ok(str::from_utf8(&text).ok().and_then(address).map(|address| address.ip()))
}

/// Where the peer connected to; `None` if that has no address, as a Unix socket.
///
/// # Errors
///
/// [`HostError::PropertyMissing`] if the host does not say.
pub(crate) fn listener_address() -> Result<Option<SocketAddr>, HostError> {
    let text = property("destination", "address")?.ok_or(HostError::PropertyMissing("destination.address"))?;
    Ok(str::from_utf8(&text).ok().and_then(address))
}

/// The address of `10.0.0.7:443` or `[2001:db8::7]:443`; an IPv6 zone is left out.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.rsplit_once(':')?;
    let address = match address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
        Some(inner) => {
            let (inner, _) = inner.split_once('%').unwrap_or((inner, ""));
            IpAddr::V6(inner.parse().ok()?)
        }
        None => IpAddr::V4(address.parse().ok()?),
    };
    Some(SocketAddr::new(address, port.parse().ok()?))
}

/// Version of TLS, such as `TLSv1.3`; `None` without TLS.
pub(crate) fn tls_version() -> Result<Option<String>, HostError> {
    Ok(property("connection", "tls_version")?.and_then(|version| String::from_utf8(version).ok()))
}

/// Server name of the handshake; `None` if the client gave none.
pub(crate) fn server_name() -> Result<Option<String>, HostError> {
    Ok(property("connection", "requested_server_name")?.and_then(|name| String::from_utf8(name).ok()))
}

/// Identifier of the connection, as Envoy's logs show it.
pub(crate) fn connection_id() -> Option<u64> {
    let bytes = property("connection", "id").ok()??;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// Asks the host, before any request, for what every decision needs and a host may withhold: its properties and its clock.
///
/// More cannot be known then. Which property there is shows with a connection only: whether the peer's certificate comes from
/// `connection.*`, from nginx, or from the proxy's own header, and whether `source.address` and the handshake are told. What
/// is missing there refuses each request. Header maps and answers belong to requests as well.
///
/// # Errors
///
/// What is withheld. Where the SDK takes the status for impossible it traps, which refuses the configuration too.
pub(crate) fn probe() -> Result<(), HostError> {
    // Whether there is one makes no difference: a host that answers "no" can be asked.
    hostcalls::get_property(vec!["plugin_name"]).map_err(HostError::call("get_property"))?;
    now().map(drop)
}

/// The wall clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    second: UnixTime,
    /// Part of the second is over.
    has_begun: bool,
}

impl Now {
    /// The second that has begun.
    pub(crate) fn second(self) -> UnixTime {
        self.second
    }

    /// The first whole second that is not before the instant.
    pub(crate) fn rounded_up(self) -> UnixTime {
        UnixTime(self.second.0.saturating_add(i64::from(self.has_begun)))
    }
}

/// Reads the wall clock.
pub(crate) fn now() -> Result<Now, HostError> {
    let now: SystemTime = hostcalls::get_current_time().map_err(HostError::call("get_current_time_nanoseconds"))?;
    let since = now.duration_since(UNIX_EPOCH).map_err(|_| HostError::Clock)?;
    let second = i64::try_from(since.as_secs()).map(UnixTime).map_err(|_| HostError::Clock)?;
    Ok(Now { second, has_begun: since.subsec_nanos() > 0 })
}

/// Asks for a call of `on_tick` again and again. Call it from a root context.
pub(crate) fn tick_every(period: Duration) -> Result<(), HostError> {
    hostcalls::set_tick_period(period).map_err(HostError::call("set_tick_period_milliseconds"))
}

/// Makes the calls that follow, until the host calls again, those of a stream; `false` if there is none of this number.
pub(crate) fn set_effective_context(context: u32) -> bool {
    hostcalls::set_effective_context(context).is_ok()
}

/// Ends the stream at once, in both directions.
pub(crate) fn reset_stream() -> Result<(), HostError> {
    hostcalls::reset_http_request().map_err(HostError::call("close_stream"))
}

/// Closes the connection, in both directions; what was written to the peer before goes out.
pub(crate) fn close_connection() -> Result<(), HostError> {
    hostcalls::close_downstream().map_err(HostError::call("close_stream"))
}

/// What the filter stands in the way of: connections, if the proxy's configuration gives it the `root_id` `tcp` or one that
/// begins with `tcp:`, requests otherwise. No host tells a module in which chain of filters it is. Asked from a root context.
pub(crate) fn protocol() -> Protocol {
    let root_id = hostcalls::get_property(vec!["plugin_root_id"]).ok().flatten().unwrap_or_default();
    if root_id == b"tcp" || root_id.starts_with(b"tcp:") { Protocol::Tcp } else { Protocol::Http }
}

/// The name that the proxy's configuration gives the filter; empty if the host has none. Asked from a root context.
pub(crate) fn plugin_name() -> Vec<u8> {
    hostcalls::get_property(vec!["plugin_name"]).ok().flatten().unwrap_or_default()
}

/// The configuration of this filter; `None` if there is none.
pub(crate) fn plugin_configuration() -> Result<Option<Bytes>, HostError> {
    hostcalls::get_buffer(BufferType::PluginConfiguration, 0, usize::MAX).map_err(HostError::call("get_buffer_bytes"))
}

/// Answers the request in the upstream's place. The request must not be continued after that.
pub(crate) fn send_local_response(status: u16, headers: Vec<(&str, &str)>, body: &[u8]) -> Result<(), HostError> {
    hostcalls::send_http_response(u32::from(status), headers, Some(body))
        .map_err(HostError::call("send_local_response"))
}

/// Asks the proxy's library about a signature. `None` if it has none, or cannot read the key: the answer is open then.
pub(crate) fn verify_signature(form: &HostForm<'_>, message: &[u8]) -> Option<bool> {
    // `VerifySignatureArguments` and `VerifySignatureResult` of Envoy's `verify_signature.proto`.
    const HASH: u8 = 1;
    const KEY_DER: u8 = 2;
    const SIGNATURE: u8 = 3;
    const TEXT: u8 = 4;
    let mut arguments = Vec::with_capacity(form.key.len() + form.signature.len() + message.len() + 32);
    for (number, bytes) in
        [(HASH, form.hash.as_bytes()), (KEY_DER, form.key), (SIGNATURE, &form.signature), (TEXT, message)]
    {
        protobuf::bytes_field(number, bytes, &mut arguments);
    }
    let answer = hostcalls::call_foreign_function("verify_signature", Some(&arguments)).ok()?;
    protobuf::first_is_true(&answer.unwrap_or_default())
}

/// Writes a message, of one line or several, to the proxy's log.
pub(crate) fn log(level: LogLevel, message: &str) {
    // There is nowhere to report a log that cannot be written.
    let _ = hostcalls::log(level, message);
}

/// A number that the proxy exports. Made once for the life of the VM, never for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Metric(u32);

impl Metric {
    pub(crate) fn counter(name: &str) -> Result<Self, HostError> {
        hostcalls::define_metric(MetricType::Counter, name).map(Self).map_err(HostError::call("define_metric"))
    }

    pub(crate) fn gauge(name: &str) -> Result<Self, HostError> {
        hostcalls::define_metric(MetricType::Gauge, name).map(Self).map_err(HostError::call("define_metric"))
    }

    /// Adds to a counter.
    pub(crate) fn add(self, count: u32) {
        // A count that is lost is no reason to refuse a request.
        let _ = hostcalls::increment_metric(self.0, i64::from(count));
    }

    /// Sets a gauge.
    pub(crate) fn set(self, value: u64) {
        let _ = hostcalls::record_metric(self.0, value);
    }
}

/// An empty value and a missing one are the same to the ABI: `None`.
fn property(object: &'static str, name: &'static str) -> Result<Option<Bytes>, HostError> {
    hostcalls::get_property(vec![object, name]).map_err(HostError::call("get_property"))
}
