//! A client's side of an answer that goes on.

use std::time::Instant;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::Response;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::upgrade;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt as _;

use super::ClientError;

/// An answer that has begun: a body, or what follows an upgrade. Dropped, it ends.
#[derive(Debug)]
pub struct Open {
    status: StatusCode,
    rest: Rest,
}

#[derive(Debug)]
enum Rest {
    Body(Incoming),
    Upgraded(Box<TokioIo<Upgraded>>),
}

impl Open {
    pub(super) async fn new(response: Response<Incoming>) -> Result<Self, ClientError> {
        let status = response.status();
        let rest = if status == StatusCode::SWITCHING_PROTOCOLS {
            let upgraded = upgrade::on(response).await.map_err(ClientError::Http)?;
            Rest::Upgraded(Box::new(TokioIo::new(upgraded)))
        } else {
            Rest::Body(response.into_body())
        };
        Ok(Self { status, rest })
    }

    /// What the answer began with.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What comes next; `None` if nothing does any more, whether in order or not.
    pub async fn next(&mut self) -> Option<Bytes> {
        match &mut self.rest {
            Rest::Body(body) => loop {
                let frame = body.frame().await?.ok()?;
                if let Ok(data) = frame.into_data() {
                    return Some(data);
                }
            },
            Rest::Upgraded(io) => {
                let mut bytes = vec![0; 1024];
                let count = io.read(&mut bytes).await.ok().filter(|count| *count > 0)?;
                bytes.truncate(count);
                Some(bytes.into())
            }
        }
    }

    /// Waits until nothing comes any more, and says when that was.
    pub async fn ended(mut self) -> Instant {
        while self.next().await.is_some() {}
        Instant::now()
    }
}
