//! Certificates that Envoy cannot be given anew: those in its own configuration, inline or by file name. Envoy watches files only
//! for secrets that come over SDS, and reads others once.

use serde_json::Value;

/// A TLS context whose certificate stays as it is until Envoy is restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// `listener` or `cluster`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Port of a listener.
    pub port: Option<u16>,
    /// The file, if there is one; otherwise it is inline.
    pub file: Option<String>,
}

impl Fixed {
    /// What is wrong, and what to write instead, for the SDS resource of this name.
    pub fn remedy(&self, resource: &str) -> String {
        let Self { kind, name, file, .. } = self;
        let how = file.as_ref().map_or_else(|| "inline".to_owned(), |file| format!("from `{file}`"));
        format!(
            "{kind} `{name}` has its certificate {how} in Envoy's own configuration (`tls_certificates`), which Envoy reads once; \
             write `tls_certificate_sds_secret_configs: [{{ name: {resource}, sds_config: … }}]` there instead, as in envoy.yaml"
        )
    }
}

/// Finds them in an answer of `/config_dump`.
pub(super) fn find(dump: &Value) -> Vec<Fixed> {
    let mut found = Vec::new();
    for config in list(dump, "configs") {
        for listener in list(config, "static_listeners").map(|entry| &entry["listener"]) {
            of("listener", listener, &mut found);
        }
        for entry in list(config, "dynamic_listeners") {
            of("listener", &entry["active_state"]["listener"], &mut found);
        }
        for entry in list(config, "static_clusters").chain(list(config, "dynamic_active_clusters")) {
            of("cluster", &entry["cluster"], &mut found);
        }
    }
    found
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value[name].as_array().into_iter().flatten()
}

/// Looks at every TLS context of a listener or cluster.
fn of(kind: &'static str, holder: &Value, found: &mut Vec<Fixed>) {
    let name = holder["name"].as_str().unwrap_or("(without a name)");
    let port = holder["address"]["socket_address"]["port_value"].as_u64().and_then(|port| u16::try_from(port).ok());
    let mut rest = vec![holder];
    while let Some(value) = rest.pop() {
        match value {
            Value::Object(fields) => {
                for certificate in list(value, "tls_certificates") {
                    let file = certificate["certificate_chain"]["filename"].as_str().map(str::to_owned);
                    found.push(Fixed { kind, name: name.to_owned(), port, file });
                }
                rest.extend(fields.values());
            }
            Value::Array(items) => rest.extend(items),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn context(tls: Value) -> Value {
        json!([{"transport_socket": {"typed_config": {"common_tls_context": tls}}}])
    }

    #[test]
    fn what_is_inline_or_in_a_file_is_fixed_and_what_comes_over_sds_is_not() {
        let address = |port: u16| json!({"socket_address": {"address": "0.0.0.0", "port_value": port}});
        let file = json!({"tls_certificates": [{"certificate_chain": {"filename": "/etc/a.pem"}}]});
        let inline = json!({"tls_certificates": [{"certificate_chain": {"inline_bytes": "LS0="}}]});
        let sds = json!({"tls_certificate_sds_secret_configs": [{"name": "gateway"}]});
        let dump = json!({"configs": [
            {"@type": "bootstrap", "bootstrap": {"static_resources": {"listeners": [{"name": "twice"}]}}},
            {"static_listeners": [
                {"listener": {"name": "edge", "address": address(443), "filter_chains": context(file)}},
                {"listener": {"name": "good", "address": address(444), "filter_chains": context(sds)}}],
             "dynamic_listeners": [
                {"name": "later", "active_state": {"listener": {"name": "later", "address": address(445), "filter_chains": context(inline.clone())}}},
                {"name": "warming"}]},
            {"static_clusters": [{"cluster": {"name": "service", "transport_socket": inline}}]}]});
        let shown: Vec<_> =
            find(&dump).into_iter().map(|fixed| (fixed.kind, fixed.name, fixed.port, fixed.file)).collect();
        let row = |kind, name: &str, port, file: Option<&str>| (kind, name.to_owned(), port, file.map(str::to_owned));
        assert_eq!(
            shown,
            [
                row("listener", "edge", Some(443), Some("/etc/a.pem")),
                row("listener", "later", Some(445), None),
                row("cluster", "service", None, None)
            ]
        );
        assert_eq!(find(&json!({"configs": "none"})), []);
        let remedy = find(&dump)[0].remedy("gateway");
        assert!(remedy.contains("listener `edge`") && remedy.contains("from `/etc/a.pem`"), "{remedy}");
        assert!(remedy.contains("tls_certificate_sds_secret_configs: [{ name: gateway"), "{remedy}");
    }
}
