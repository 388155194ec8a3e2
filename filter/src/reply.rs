//! The answer to a refused request: problem JSON (RFC 9457), with nothing about the policy.

use portcullis_policy::JsonObject;
use portcullis_policy::Reason;

use crate::host;
use crate::host::HostError;

/// Answers the request with the status of `reason`. Nothing of it reaches an upstream once its callback returns
/// [`proxy_wasm::types::Action::Pause`]. `challenge` is the value of `WWW-Authenticate`, if there is one.
pub(crate) fn refuse(reason: Reason, challenge: Option<&str>, request_id: Option<&[u8]>) -> Result<(), HostError> {
    let status = reason.status();
    let mut body = String::with_capacity(256);
    let mut problem = JsonObject::begin(&mut body);
    problem.text("type", "about:blank");
    problem.text("title", title(status));
    problem.number("status", status.into());
    problem.text("code", reason.code());
    if let Some(id) = request_id {
        problem.bytes("request_id", id);
    }
    problem.finish();
    let mut headers = vec![("content-type", "application/problem+json"), ("cache-control", "no-store")];
    headers.extend(challenge.map(|challenge| ("www-authenticate", challenge)));
    host::send_local_response(status, headers, body.as_bytes())
}

/// The reason phrase (RFC 9110 §15), which is the title that goes with `about:blank`.
fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        503 => "Service Unavailable",
        _ => "",
    }
}
