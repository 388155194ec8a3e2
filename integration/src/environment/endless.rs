//! What the service says on paths below [`PREFIX`]: it begins to answer, and goes on until somebody ends it.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::combinators::BoxBody;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::body::Body;
use hyper::body::Frame;
use hyper::body::Incoming;
use hyper::header::CONNECTION;
use hyper::header::CONTENT_TYPE;
use hyper::header::HeaderValue;
use hyper::header::UPGRADE;
use hyper::upgrade;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::time::Interval;
use tokio::time::interval;

/// Paths that are answered without an end.
pub const PREFIX: &str = "/streams/";
/// One that says its first word and then nothing.
pub const SILENT: &str = "/streams/silent";

/// Between two words.
const EVERY: Duration = Duration::from_millis(50);
/// A word of each kind: a line, an unmasked text frame (RFC 6455 §5.2), a message with its length (gRPC over HTTP/2).
const LINE: &[u8] = b"tick\n";
const TEXT_FRAME: &[u8] = b"\x81\x04tick";
const MESSAGE: &[u8] = b"\0\0\0\0\x04tick";

/// Answers a request, in the manner that it asks for.
pub(super) fn answer(request: Request<Incoming>) -> Response<BoxBody<Bytes, Infallible>> {
    let has = |name, value: &str| request.headers().get(name).is_some_and(|given: &HeaderValue| given == value);
    if has(UPGRADE, "websocket") {
        tokio::spawn(talk(request));
        let mut response = Response::new(http_body_util::Empty::new().boxed());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        return response;
    }
    let is_grpc = has(CONTENT_TYPE, "application/grpc");
    let word = Bytes::from_static(if is_grpc { MESSAGE } else { LINE });
    let body = Endless { word, next: interval(EVERY), is_silent: request.uri().path() == SILENT };
    let mut response = Response::new(body.boxed());
    let kind = if is_grpc { "application/grpc" } else { "text/plain" };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Speaks over a connection that is no longer HTTP, until it breaks.
async fn talk(request: Request<Incoming>) {
    let Ok(upgraded) = upgrade::on(request).await else { return };
    let (mut io, mut next) = (TokioIo::new(upgraded), interval(EVERY));
    while io.write_all(TEXT_FRAME).await.is_ok() && io.flush().await.is_ok() {
        next.tick().await;
    }
}

/// A body that never ends.
struct Endless {
    word: Bytes,
    next: Interval,
    is_silent: bool,
}

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.next.poll_tick(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(_) => {
                if self.is_silent {
                    // In a year.
                    self.next = interval(Duration::from_secs(31_536_000));
                    self.next.reset();
                }
                Poll::Ready(Some(Ok(Frame::data(self.word.clone()))))
            }
        }
    }
}
