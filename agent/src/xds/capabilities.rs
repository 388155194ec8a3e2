//! What the filter may call and be called for in the proxy's Wasm VM.

/// The least that `portcullis.wasm` runs with; Envoy denies everything else. The shipped configuration carries the
/// same list, for those who load the filter without the agent; a test compares them.
pub const CAPABILITIES: &[&str] = &[
    // Host to module.
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_delete",
    "proxy_on_done",
    "proxy_on_log",
    "proxy_on_request_headers",
    "proxy_on_tick",
    "proxy_on_vm_start",
    // Module to host.
    "proxy_add_header_map_value",
    "proxy_define_metric",
    "proxy_get_buffer_bytes",
    "proxy_get_current_time_nanoseconds",
    "proxy_get_header_map_pairs",
    "proxy_get_log_level",
    "proxy_get_property",
    "proxy_increment_metric",
    "proxy_log",
    "proxy_record_metric",
    "proxy_remove_header_map_value",
    "proxy_replace_header_map_value",
    "proxy_send_local_response",
    "proxy_set_effective_context",
    "proxy_set_tick_period_milliseconds",
    // WASI: what Rust's standard library asks for at start.
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_write",
    "proc_exit",
    "random_get",
];
