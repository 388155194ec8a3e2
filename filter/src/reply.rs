//! The answer to a refused request: problem JSON (RFC 9457), with nothing about the policy.

use portcullis_policy::Reason;
use serde::Serialize;

use crate::host;
use crate::host::HostError;

#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

/// Answers the request with the status of `reason`. Nothing of it reaches an upstream once its callback returns
/// [`proxy_wasm::types::Action::Pause`]. `challenge` is the value of `WWW-Authenticate`, if there is one.
pub(crate) fn refuse(reason: Reason, challenge: Option<&str>, request_id: Option<&str>) -> Result<(), HostError> {
    let status = reason.status();
    let problem = Problem { r#type: "about:blank", title: title(status), status, code: reason.code(), request_id };
    // Without a body the status still says it.
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let mut headers = vec![("content-type", "application/problem+json"), ("cache-control", "no-store")];
    headers.extend(challenge.map(|challenge| ("www-authenticate", challenge)));
    host::send_local_response(status, headers, &body)
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
