//! The shipped Envoy without the agent: the same listener, with certificates from files and the filter in the file, for
//! what needs another CA than the agent's own, and no rotation.

use std::path::Path;

use serde_json::Value;
use serde_json::json;

use super::EnvironmentError;
use super::programs;
use super::shipped;

/// Turns `envoy.yaml` (its text, with our ports in it) into one that needs no agent. `certificates` has a folder for each
/// secret that the file names, with `tls.crt` and `tls.key`, or `ca.crt`.
///
/// # Errors
///
/// [`EnvironmentError::Unreadable`], if the file is not what this expects.
pub fn without_agent(text: &str, certificates: &Path, filter: Value) -> Result<Value, EnvironmentError> {
    let mut config = parse("envoy.yaml", text)?;
    inline_secrets(&mut config, certificates);
    let place = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0";
    *config.pointer_mut(place).ok_or_else(|| missing("envoy.yaml", place))? = filter;
    let place = "/static_resources/clusters";
    let clusters = config.pointer_mut(place).and_then(Value::as_array_mut);
    clusters.ok_or_else(|| missing("envoy.yaml", place))?.retain(|cluster| cluster["name"] != "portcullis");
    Ok(config)
}

/// The filter as `filter-static.yaml` ships it, with the module under test and this policy (JSON).
///
/// # Errors
///
/// [`EnvironmentError::ProgramMissing`], [`EnvironmentError::Unreadable`].
pub fn filter(policy: &str) -> Result<Value, EnvironmentError> {
    let file = "filter-static.yaml";
    let mut shipped = parse(file, &shipped(file)?)?;
    let place = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0";
    let mut filter = shipped.pointer_mut(place).map(Value::take).ok_or_else(|| missing(file, place))?;
    for (place, value) in [
        ("/typed_config/config/vm_config/code/local/filename", json!(programs::filter()?)),
        ("/typed_config/config/configuration/value", json!(policy)),
    ] {
        *filter.pointer_mut(place).ok_or_else(|| missing(file, place))? = value;
    }
    Ok(filter)
}

/// Puts files in place of secrets that somebody would have to deliver.
fn inline_secrets(value: &mut Value, certificates: &Path) {
    let file = |name: &Value, file: &str| json!({ "filename": certificates.join(name.as_str().unwrap_or_default()).join(file) });
    match value {
        Value::Object(object) => {
            if let Some(secrets) = object.remove("tls_certificate_sds_secret_configs") {
                let name = &secrets[0]["name"];
                let pair = json!({ "certificate_chain": file(name, "tls.crt"), "private_key": file(name, "tls.key") });
                object.insert("tls_certificates".to_owned(), json!([pair]));
            }
            if let Some(secret) = object.remove("validation_context_sds_secret_config") {
                let context = json!({ "trusted_ca": file(&secret["name"], "ca.crt") });
                object.insert("validation_context".to_owned(), context);
            }
            object.values_mut().for_each(|value| inline_secrets(value, certificates));
        }
        Value::Array(array) => array.iter_mut().for_each(|value| inline_secrets(value, certificates)),
        _ => {}
    }
}

fn parse(file: &str, text: &str) -> Result<Value, EnvironmentError> {
    serde_saphyr::from_str(text)
        .map_err(|error| EnvironmentError::Unreadable { what: file.to_owned(), text: error.to_string() })
}

fn missing(file: &str, place: &str) -> EnvironmentError {
    EnvironmentError::Unreadable { what: file.to_owned(), text: format!("nothing at `{place}`") }
}
