//! What the filter and the proxy may call of each other in the proxy's Wasm VM.

/// The least that `portcullis.wasm` runs with; Envoy denies everything else. The shipped configuration for those who
/// load the filter without the agent carries the same list and says what each is for; a test compares them.
pub const CAPABILITIES: &[&str] = &[
    // Callbacks of the module.
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_delete",
    "proxy_on_downstream_data",
    "proxy_on_new_connection",
    "proxy_on_request_headers",
    "proxy_on_request_trailers",
    "proxy_on_tick",
    "proxy_on_upstream_data",
    "proxy_on_vm_start",
    // What the module asks of the proxy.
    "proxy_call_foreign_function",
    "proxy_get_buffer_bytes",
    "proxy_get_current_time_nanoseconds",
    "proxy_get_header_map_pairs",
    "proxy_get_property",
    "proxy_set_effective_context",
    // What the module does.
    "proxy_close_stream",
    "proxy_define_metric",
    "proxy_increment_metric",
    "proxy_log",
    "proxy_record_metric",
    "proxy_remove_header_map_value",
    "proxy_replace_header_map_value",
    "proxy_send_local_response",
    "proxy_set_tick_period_milliseconds",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn allowed(document: &Value) -> Option<BTreeSet<&str>> {
        match document {
            Value::Array(items) => items.iter().find_map(allowed),
            Value::Object(fields) => match fields.get("allowed_capabilities") {
                Some(Value::Object(names)) => Some(names.keys().map(String::as_str).collect()),
                _ => fields.values().find_map(allowed),
            },
            _ => None,
        }
    }

    #[test]
    fn the_shipped_configuration_has_the_same_list() {
        let shipped = include_str!("../../../envoy-config/filter-static.yaml");
        let document: Value = serde_saphyr::from_str(shipped).unwrap();
        assert_eq!(allowed(&document), Some(CAPABILITIES.iter().copied().collect()));
    }
}
