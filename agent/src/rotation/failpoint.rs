//! Places where the process dies on request, so that tests can show that nothing is lost there.
//!
//! `PORTCULLIS_FAILPOINT=obtain` ends the process after the edge `obtain` was journalled and before it is taken;
//! `obtain-done` after it was taken and before that is written down. An order at an ACME server has places of its own.
//! Without the variable nothing happens.

use std::process::abort;
use std::sync::LazyLock;

use portcullis_policy::rotation::Edge;

static CHOSEN: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("PORTCULLIS_FAILPOINT").ok());

/// Failpoints that belong to no edge.
pub const OTHERS: [&str; 3] = ["audit", "audit-done", "rename"];

/// Failpoints inside an order at an ACME server, in its order.
pub const ACME: [&str; 14] = [
    "acme-account",
    "acme-account-made",
    "acme-account-kept",
    "acme-order",
    "acme-order-made",
    "acme-order-kept",
    "acme-present",
    "acme-presented",
    "acme-validating",
    "acme-validated",
    "acme-finalize",
    "acme-finalized",
    "acme-valid",
    "acme-downloaded",
];

/// Failpoints of a credential: before and after each of its edges, in their order, and of what comes after them.
pub fn of_credentials() -> Vec<String> {
    let edges = Edge::ALL.into_iter().map(Edge::as_str);
    edges.flat_map(|edge| [format!("credential-{edge}"), format!("credential-{edge}-done")]).collect()
}

/// Every failpoint.
pub fn all() -> Vec<String> {
    let mut all = of_rotation();
    all.extend(ACME.map(str::to_owned));
    all
}

/// Those that every rotation comes by, whoever issues.
pub fn of_rotation() -> Vec<String> {
    let edges = Edge::ALL.into_iter().flat_map(|edge| [edge.as_str().to_owned(), format!("{}-done", edge.as_str())]);
    edges.chain(OTHERS.map(str::to_owned)).collect()
}

/// Dies here if this edge was chosen.
pub(super) fn before(edge: Edge) {
    hit(edge.as_str());
}

/// Dies here if the end of this edge was chosen.
pub(super) fn after(edge: Edge) {
    if CHOSEN.as_deref().and_then(|chosen| chosen.strip_suffix("-done")) == Some(edge.as_str()) {
        abort();
    }
}

/// Dies here if this place was chosen.
pub(crate) fn hit(place: &str) {
    if CHOSEN.as_deref() == Some(place) {
        abort();
    }
}
