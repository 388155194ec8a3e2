//! Ports that nobody uses.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;

use super::EnvironmentError;

/// Below the range from which Linux takes the near end of outgoing connections: a load of new connections would
/// otherwise sit on a port between the moment it was found free and the moment it is listened on.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// An address on the loopback that is free now and that this process does not hand out again soon.
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
        if row.all(|address| TcpListener::bind(address).is_ok()) {
            return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, first)));
        }
    }
    Err(EnvironmentError::NoPort)
}
