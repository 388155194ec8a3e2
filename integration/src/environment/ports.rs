//! Ports that nobody uses.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::SocketAddr as Name;
use std::os::unix::net::UnixListener;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;

use super::EnvironmentError;

/// Below the range from which Linux takes the near end of outgoing connections: a load of new connections would
/// otherwise sit on a port between the moment it was found free and the moment it is listened on.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

static NEXT: AtomicU16 = AtomicU16::new(0);
/// What says that this process handed out its ports, for as long as it lives.
static CLAIMS: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());

/// An address on the loopback that is free now, and that neither this process nor another one hands out again while this one
/// lives: two proxies that begin to listen later would share a port without a word, and each get half of the other's
/// connections.
///
/// # Errors
///
/// [`EnvironmentError::NoPort`], if none is free.
pub fn free() -> Result<SocketAddr, EnvironmentError> {
    row(1)
}

/// The first of so many in a row: some servers take the port after theirs as well.
///
/// # Errors
///
/// [`EnvironmentError::NoPort`], if there is no such row.
pub(super) fn row(length: u16) -> Result<SocketAddr, EnvironmentError> {
    // Two test processes at once begin at different places.
    let start = (std::process::id().wrapping_mul(97) % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(length, Ordering::Relaxed) % COUNT;
        let first = FIRST + (start + step) % COUNT;
        let mut row = (first..first + length).map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        if row.all(|address| TcpListener::bind(address).is_ok() && claim(address.port())) {
            return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, first)));
        }
    }
    Err(EnvironmentError::NoPort)
}

/// Takes a port for this process. Nobody connects there; the name is gone with the process, however that ends.
fn claim(port: u16) -> bool {
    let name = Name::from_abstract_name(format!("portcullis-port-{port}"));
    let listener = name.and_then(|name| UnixListener::bind_addr(&name));
    listener.is_ok_and(|listener| {
        CLAIMS.lock().unwrap_or_else(PoisonError::into_inner).push(listener);
        true
    })
}
