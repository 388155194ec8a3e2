//! Requests that no HTTP library would send, as bytes over TLS: HTTP/1.1 as text, HTTP/2 as frames.
//!
//! The HTTP/2 part knows as much as one request needs (RFC 9113, RFC 7541 with literals only), and nothing checks what
//! is sent: that is the point.

use std::io;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt as _;

use super::Client;
use super::client::ClientError;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const GOAWAY: u8 = 0x7;
const CONTINUATION: u8 = 0x9;
const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
/// `SETTINGS_MAX_FRAME_SIZE` that everyone accepts.
const MAX_FRAME: usize = 16_384;

/// How the gate took it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An answer with this status, and its body.
    Status(u16, String),
    /// The stream or the connection was ended without an answer.
    Reset(String),
}

impl Outcome {
    /// Whether it was let through.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Status(200..=299, _))
    }

    /// The reason code of a refusal by the filter; empty if the refusal is Envoy's own.
    pub fn code(&self) -> String {
        let Self::Status(_, body) = self else { return String::new() };
        let json = serde_json::from_str::<serde_json::Value>(body).unwrap_or_default();
        json.get("code").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status, _) if self.code().is_empty() => write!(f, "{status}"),
            Self::Status(status, _) => write!(f, "{status} {}", self.code()),
            Self::Reset(how) => f.write_str(how),
        }
    }
}

/// Sends `bytes` over a new connection of `client`, which must speak HTTP/1.1, and reads one answer.
///
/// # Errors
///
/// [`ClientError`], if there is no connection or no end of the answer.
pub async fn http1(client: &Client, bytes: &[u8]) -> Result<Outcome, ClientError> {
    let mut tls = client.connect_tls().await?;
    tokio::time::timeout(PATIENCE, async {
        if let Err(error) = async {
            tls.write_all(bytes).await?;
            tls.flush().await
        }
        .await
        {
            return Ok(Outcome::Reset(format!("connection ended while sending ({})", error.kind())));
        }
        let has_body = !bytes.starts_with(b"HEAD ");
        read_http1(&mut tls, has_body).await.map_err(ClientError::Broken)
    })
    .await
    .unwrap_or(Err(ClientError::Silent))
}

async fn read_http1(stream: &mut (impl AsyncRead + Unpin), has_body: bool) -> io::Result<Outcome> {
    let mut answer = Vec::new();
    loop {
        if let Some(outcome) = whole_http1(&answer, has_body) {
            return Ok(outcome);
        }
        match stream.read_buf(&mut answer).await {
            Ok(0) => break,
            Ok(_) => {}
            // A reset instead of an orderly end.
            Err(_) => break,
        }
    }
    let text = String::from_utf8_lossy(&answer);
    Ok(match status_line(&text) {
        Some(status) => Outcome::Status(status, body_of(&text).to_owned()),
        None => Outcome::Reset("connection ended".to_owned()),
    })
}

fn status_line(text: &str) -> Option<u16> {
    text.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

fn body_of(text: &str) -> &str {
    text.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

/// The answer, if all of it is here.
fn whole_http1(answer: &[u8], has_body: bool) -> Option<Outcome> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    if !has_body {
        return Some(Outcome::Status(status_line(text)?, String::new()));
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    })?;
    (body.len() >= length).then(|| Some(Outcome::Status(status_line(text)?, body.to_owned())))?
}

/// Sends one HTTP/2 request with exactly these fields (pseudo-headers included, any bytes) over a new connection of
/// `client`, which must speak HTTP/2, and reads its answer.
///
/// # Errors
///
/// [`ClientError`], if there is no connection or no end of the answer.
pub async fn http2(client: &Client, fields: &[(&[u8], &[u8])]) -> Result<Outcome, ClientError> {
    send_http2(client, &request_frames(fields, None)).await
}

/// The same with trailers after an empty body.
///
/// # Errors
///
/// [`ClientError`], if there is no connection or no end of the answer.
pub async fn http2_with_trailers(
    client: &Client,
    fields: &[(&[u8], &[u8])],
    trailers: &[(&[u8], &[u8])],
) -> Result<Outcome, ClientError> {
    send_http2(client, &request_frames(fields, Some(trailers))).await
}

async fn send_http2(client: &Client, frames: &[u8]) -> Result<Outcome, ClientError> {
    let mut tls = client.connect_tls().await?;
    tokio::time::timeout(PATIENCE, async {
        if let Err(error) = async {
            tls.write_all(frames).await?;
            tls.flush().await
        }
        .await
        {
            return Ok(Outcome::Reset(format!("connection ended while sending ({})", error.kind())));
        }
        read_http2(&mut tls).await.map_err(ClientError::Broken)
    })
    .await
    .unwrap_or(Err(ClientError::Silent))
}

fn request_frames(fields: &[(&[u8], &[u8])], trailers: Option<&[(&[u8], &[u8])]>) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // SETTINGS_HEADER_TABLE_SIZE = 0: the answer may not refer to what came before it.
    frame(&mut bytes, SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]);
    header_frames(&mut bytes, fields, if trailers.is_some() { 0 } else { END_STREAM });
    if let Some(trailers) = trailers {
        header_frames(&mut bytes, trailers, END_STREAM);
    }
    bytes
}

fn header_frames(bytes: &mut Vec<u8>, fields: &[(&[u8], &[u8])], mut flags: u8) {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0x00); // Literal, not indexed, new name (RFC 7541 §6.2.2).
        string(&mut block, name);
        string(&mut block, value);
    }
    let mut chunks = block.chunks(MAX_FRAME).peekable();
    let mut kind = HEADERS;
    while let Some(chunk) = chunks.next() {
        if chunks.peek().is_none() {
            flags |= END_HEADERS;
        }
        frame(bytes, kind, flags, 1, chunk);
        (kind, flags) = (CONTINUATION, 0);
    }
}

fn frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    bytes.extend_from_slice(&length[1..]);
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
}

/// A string literal without Huffman coding (RFC 7541 §5.2).
fn string(block: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text.len();
    if rest < 0x7f {
        block.push(rest as u8);
    } else {
        block.push(0x7f);
        rest -= 0x7f;
        while rest >= 0x80 {
            block.push((rest % 0x80) as u8 | 0x80);
            rest /= 0x80;
        }
        block.push(rest as u8);
    }
    block.extend_from_slice(text);
}

async fn read_http2(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<Outcome> {
    let mut status = None;
    let mut body = Vec::new();
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).await.is_err() {
            let ended = Outcome::Reset("connection ended".to_owned());
            return Ok(status.map_or(ended, |status| Outcome::Status(status, text(&body))));
        }
        let [a, b, c, kind, flags, d, e, f, g] = head;
        let id = u32::from_be_bytes([d, e, f, g]);
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload).await?;
        match kind {
            SETTINGS if flags & ACK == 0 => {
                let mut ack = Vec::new();
                frame(&mut ack, SETTINGS, ACK, 0, &[]);
                stream.write_all(&ack).await?;
                stream.flush().await?;
            }
            HEADERS if id == 1 && status.is_none() => status = status_in(&payload),
            DATA if id == 1 => body.extend_from_slice(&payload),
            RST_STREAM if id == 1 => {
                // After an answer it only says that nobody waits for the rest of the request.
                return Ok(match status {
                    Some(status) => Outcome::Status(status, text(&body)),
                    None => Outcome::Reset(format!("stream reset, error {}", number(&payload))),
                });
            }
            GOAWAY => {
                let error = payload.get(4..8).map_or(0, number);
                return Ok(match status {
                    Some(status) => Outcome::Status(status, text(&body)),
                    None => Outcome::Reset(format!("connection ended, error {error}")),
                });
            }
            _ => {}
        }
        if id == 1
            && flags & END_STREAM != 0
            && matches!(kind, HEADERS | DATA)
            && let Some(status) = status
        {
            return Ok(Outcome::Status(status, text(&body)));
        }
    }
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).into_owned()
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// `:status`, which is the first field of every answer (RFC 9113 §8.3).
fn status_in(block: &[u8]) -> Option<u16> {
    // Table size updates come before the first field (RFC 7541 §6.3).
    let mut rest = block;
    while rest.first()? & 0xe0 == 0x20 {
        rest = rest.get(1..)?;
    }
    let (first, rest) = rest.split_first()?;
    // The static table has the common ones (RFC 7541, appendix A).
    if let Some(common) = [200, 204, 206, 304, 400, 404, 500].get(usize::from(first.wrapping_sub(0x88))) {
        return Some(*common);
    }
    let (length, rest) = rest.split_first()?;
    let value = rest.get(..usize::from(length & 0x7f))?;
    if length & 0x80 == 0 { std::str::from_utf8(value).ok()?.parse().ok() } else { huffman_digits(value) }
}

/// Three digits in the code of RFC 7541, appendix B: `0` to `2` have five bits, `3` to `9` six.
fn huffman_digits(bytes: &[u8]) -> Option<u16> {
    let mut bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| u16::from(byte >> bit & 1)));
    let mut number = 0;
    for _ in 0..3 {
        let mut code = 0;
        for _ in 0..5 {
            code = code << 1 | bits.next()?;
        }
        let digit = if code < 3 { code } else { (code << 1 | bits.next()?).checked_sub(0x19)? + 3 };
        number = number * 10 + digit;
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read_in_each_form_that_a_server_may_choose() {
        let cases: [(&str, &[u8], u16); 5] = [
            ("indexed", &[0x88], 200),
            ("after a table size update", &[0x20, 0x8c], 400),
            ("literal", &[0x48, 3, b'4', b'0', b'3'], 403),
            // RFC 7541, C.6.1: `302` is 64 02.
            ("huffman", &[0x48, 0x82, 0x64, 0x02], 302),
            ("huffman, six-bit digits", &[0x08, 0x82, 0x68, 0x01], 401),
        ];
        for (name, block, want) in cases {
            assert_eq!(status_in(block), Some(want), "{name}");
        }
    }

    #[test]
    fn long_strings_have_long_lengths() {
        let mut block = Vec::new();
        string(&mut block, &[b'x'; 1337 + 127]);
        assert_eq!(block[..3], [0x7f, 0xb9, 0x0a]); // 1337 = 57 + 10 * 128
    }
}
