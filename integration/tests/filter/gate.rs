//! The filter with a policy, and the requests that the stories send.

use std::sync::LazyLock;

use portcullis_integration::certificates::Authority;
use portcullis_integration::certificates::LeafBuilder;
use portcullis_integration::wasm_host::Connection;
use portcullis_integration::wasm_host::Headers;
use portcullis_integration::wasm_host::Module;
use portcullis_integration::wasm_host::Outcome;
use portcullis_integration::wasm_host::Vm;
use portcullis_policy::UnixTime;
use serde_json::Value;
use serde_json::json;

/// 2025-11-22T10:00:00Z
pub(crate) const NOW: UnixTime = UnixTime(1_763_805_600);
pub(crate) const CHECKOUT: &str = "spiffe://acme.example/ns/pay/sa/checkout";
pub(crate) const CART: &str = "spiffe://acme.example/ns/shop/sa/cart";

static MODULE: LazyLock<Module> = LazyLock::new(|| Module::under_test().unwrap_or_else(|error| panic!("{error}")));
static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| Authority::new("Portcullis clients"));

/// A leaf of the trusted authority, valid for an hour around [`NOW`] until told otherwise.
pub(crate) fn leaf() -> LeafBuilder<'static> {
    let UnixTime(now) = NOW;
    let now = u64::try_from(now).unwrap();
    AUTHORITY.leaf().valid(now - 1_800, now + 1_800)
}

/// A connection of the peer with this SPIFFE ID.
pub(crate) fn peer(spiffe: &str) -> Connection {
    Connection::mtls(&leaf().uri(spiffe).issue())
}

/// `checkout` may do everything below `/orders`, `reader` read there, everybody `/healthz`, nobody `/debug`.
pub(crate) fn policy() -> Value {
    json!({
        "version": 1,
        "trust_domain": "acme.example",
        "roles": {
            "checkout": [{ "spiffe": CHECKOUT }],
            "reader": [{ "spiffe": "spiffe://acme.example/ns/*/sa/*" }],
        },
        "rules": [
            { "id": "all-orders", "allow": ["checkout"], "paths": ["/orders/**"] },
            { "id": "read-orders", "allow": ["reader"], "methods": ["GET"], "paths": ["/orders/{id}"] },
            { "id": "health", "allow": "any", "paths": ["/healthz"] },
            { "id": "no-debug", "deny": "any", "paths": ["/debug/**"] },
        ],
    })
}

/// The filter without a configuration.
pub(crate) fn bare() -> Vm {
    Vm::start(&MODULE, NOW).unwrap_or_else(|error| panic!("{error}"))
}

/// The filter with this policy in force.
pub(crate) fn gate_with(policy: &Value) -> Vm {
    let mut vm = bare();
    assert!(vm.configure(policy.to_string().as_bytes()), "{:?}", vm.log());
    vm
}

/// The filter with [`policy`] in force.
pub(crate) fn gate() -> Vm {
    gate_with(&policy())
}

/// A request without any field of its own.
pub(crate) fn request(method: &str, path: &str) -> Headers {
    request_with(method, path, &[])
}

/// A request with these fields.
pub(crate) fn request_with(method: &str, path: &str, fields: &[(&str, &[u8])]) -> Headers {
    let head: [(&str, &[u8]); 4] = [
        (":method", method.as_bytes()),
        (":scheme", b"https"),
        (":authority", b"orders.acme.example"),
        (":path", path.as_bytes()),
    ];
    Headers::from_client(head.into_iter().chain(fields.iter().copied()))
}

/// `GET` of this path by this peer.
pub(crate) fn get(vm: &mut Vm, connection: &Connection, path: &str) -> Outcome {
    vm.request(connection, request("GET", path))
}

/// The status and, for a refusal, the code in its problem document.
pub(crate) fn answer(outcome: &Outcome) -> (u16, String) {
    let code = outcome.reply().map(|reply| match serde_json::from_slice::<Value>(&reply.body) {
        Ok(problem) => problem["code"].as_str().unwrap_or_default().to_owned(),
        Err(_) => reply.details.clone(),
    });
    (outcome.status().unwrap_or_default(), code.unwrap_or_default())
}

/// Asserts that the filter still works: it has not trapped, and lets in whom it should.
pub(crate) fn assert_alive(vm: &mut Vm) {
    assert_eq!(vm.failure(), None);
    assert_eq!(get(vm, &peer(CHECKOUT), "/orders/1").status(), Some(200), "{:?}", vm.log());
}
