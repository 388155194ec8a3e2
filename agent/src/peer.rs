//! Who is at the other end of a Unix socket, and whether they may talk to the agent.

use std::io;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::net::UnixStream;
use tokio::net::unix::UCred;

/// Between two tries to take a connection.
const PAUSE: Duration = Duration::from_secs(1);

/// Why a connection is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// It belongs to another user.
    #[error("peer has user id {peer}; only root and {own} may connect")]
    Foreign {
        /// User id at the other end.
        peer: u32,
        /// The agent's.
        own: u32,
    },
    /// The kernel did not say.
    #[error("peer credentials cannot be read")]
    Unknown(#[source] io::Error),
}

/// Lets in root and the agent's own user. The socket's mode says the same; this holds whatever becomes of the mode.
///
/// # Errors
///
/// [`PeerError`] for all others.
pub fn admit(stream: &UnixStream) -> Result<UCred, PeerError> {
    let credentials = stream.peer_cred().map_err(PeerError::Unknown)?;
    permitted(credentials.uid(), rustix::process::geteuid().as_raw())?;
    Ok(credentials)
}

/// The next connection of somebody who may connect. Where none can be taken, since no more files may be open, it waits until one can:
/// who listens must not end for that.
pub(crate) async fn accept(listener: &UnixListener, socket: &'static str) -> (UnixStream, UCred) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::error!(%error, "no connection to the {socket} socket can be taken; it is tried again");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        match admit(&stream) {
            Ok(credentials) => return (stream, credentials),
            Err(error) => tracing::warn!(%error, "connection to the {socket} socket refused"),
        }
    }
}

fn permitted(peer: u32, own: u32) -> Result<(), PeerError> {
    if peer == 0 || peer == own { Ok(()) } else { Err(PeerError::Foreign { peer, own }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_and_the_own_user_are_let_in() {
        for (name, peer, own, admitted) in [
            ("root to anybody", 0, 1000, true),
            ("the same user", 1000, 1000, true),
            ("another user", 1001, 1000, false),
            ("another user to root", 1000, 0, false),
        ] {
            assert_eq!(permitted(peer, own).is_ok(), admitted, "{name}");
        }
    }

    #[tokio::test]
    async fn the_own_process_is_recognised() {
        let (one, _other) = UnixStream::pair().unwrap();
        let credentials = admit(&one).unwrap();
        assert_eq!(credentials.pid(), i32::try_from(std::process::id()).ok());
    }
}
