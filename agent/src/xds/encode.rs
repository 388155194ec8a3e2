//! Resources as Protobuf.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3::AsyncDataSource;
use envoy_types::pb::envoy::config::core::v3::BackoffStrategy;
use envoy_types::pb::envoy::config::core::v3::DataSource;
use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::config::core::v3::async_data_source;
use envoy_types::pb::envoy::config::core::v3::data_source;
use envoy_types::pb::envoy::extensions::filters::http;
use envoy_types::pb::envoy::extensions::filters::network;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::CertificateValidationContext;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::GenericSecret;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::SubjectAltNameMatcher;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::TlsCertificate;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::TlsSessionTicketKeys;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use envoy_types::pb::envoy::extensions::wasm::v3::CapabilityRestrictionConfig;
use envoy_types::pb::envoy::extensions::wasm::v3::FailurePolicy;
use envoy_types::pb::envoy::extensions::wasm::v3::PluginConfig;
use envoy_types::pb::envoy::extensions::wasm::v3::ReloadConfig;
use envoy_types::pb::envoy::extensions::wasm::v3::SanitizationConfig;
use envoy_types::pb::envoy::extensions::wasm::v3::VmConfig;
use envoy_types::pb::envoy::extensions::wasm::v3::plugin_config;
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher;
use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::google::protobuf::Duration;
use envoy_types::pb::google::protobuf::StringValue;
use portcullis_policy::Protocol;
use prost::Message;
use prost::Name;

use super::capabilities::CAPABILITIES;
use super::catalogue::Kind;
use crate::resource::Body;
use crate::resource::Resource;

/// How long a worker waits before it makes a new VM in place of one that trapped. Envoy's default is a second, in
/// which every request would be refused.
const RELOAD_BACKOFF: Duration = Duration { seconds: 0, nanos: 100_000_000 };

/// The VM's name. Plugins of one name and one module share a VM on each worker, so that an update of the policy keeps
/// the state of the VM.
const VM_ID: &str = "portcullis";

/// The type of all resources of a discovery service, as its requests and responses name it.
pub(super) fn type_url(kind: Kind) -> String {
    match kind {
        Kind::Filter => TypedExtensionConfig::type_url(),
        Kind::Secret => Secret::type_url(),
    }
}

/// The resource as it travels.
pub(super) fn any(resource: &Resource) -> Any {
    match &resource.body {
        Body::TlsCertificate { chain_pem, key_pem } => {
            pack(&secret(resource, secret::Type::TlsCertificate(tls_certificate(chain_pem, key_pem))))
        }
        Body::GenericSecret { value } => pack(&secret(
            resource,
            secret::Type::GenericSecret(GenericSecret {
                secret: Some(inline(value.as_slice())),
                ..GenericSecret::default()
            }),
        )),
        Body::SessionTicketKeys { keys } => {
            let keys = TlsSessionTicketKeys { keys: keys.iter().map(|key| inline(key.as_slice())).collect() };
            pack(&secret(resource, secret::Type::SessionTicketKeys(keys)))
        }
        Body::ValidationContext { trusted_ca_pem, match_uri, crl_pem } => {
            let context = validation_context(trusted_ca_pem, match_uri, crl_pem.as_deref());
            pack(&secret(resource, secret::Type::ValidationContext(context)))
        }
        Body::WasmFilter { protocol, module, configuration, root_id } => {
            let config = PluginConfig { root_id: root_id.clone(), ..plugin(&resource.name, module, configuration) };
            let typed_config = Some(match protocol {
                Protocol::Http => pack(&http::wasm::v3::Wasm { config: Some(config) }),
                Protocol::Tcp => pack(&network::wasm::v3::Wasm { config: Some(config) }),
            });
            pack(&TypedExtensionConfig { name: resource.name.clone(), typed_config })
        }
    }
}

fn secret(resource: &Resource, r#type: secret::Type) -> Secret {
    Secret { name: resource.name.clone(), r#type: Some(r#type) }
}

fn tls_certificate(chain_pem: &str, key_pem: &str) -> TlsCertificate {
    TlsCertificate {
        certificate_chain: Some(inline(chain_pem)),
        private_key: Some(inline(key_pem)),
        ..TlsCertificate::default()
    }
}

fn validation_context(
    trusted_ca_pem: &str,
    match_uri: &[String],
    crl_pem: Option<&str>,
) -> CertificateValidationContext {
    CertificateValidationContext {
        trusted_ca: Some(inline(trusted_ca_pem)),
        crl: crl_pem.map(inline),
        // Else there would have to be a list for each authority above a peer's own, too.
        only_verify_leaf_cert_crl: crl_pem.is_some(),
        match_typed_subject_alt_names: match_uri
            .iter()
            .map(|uri| SubjectAltNameMatcher {
                san_type: SanType::Uri.into(),
                matcher: Some(StringMatcher {
                    ignore_case: false,
                    match_pattern: Some(string_matcher::MatchPattern::Exact(uri.clone())),
                }),
                oid: String::new(),
            })
            .collect(),
        ..CertificateValidationContext::default()
    }
}

fn plugin(name: &str, module: &str, configuration: &str) -> PluginConfig {
    PluginConfig {
        name: name.to_owned(),
        configuration: Some(pack(&StringValue { value: configuration.to_owned() })),
        failure_policy: FailurePolicy::FailReload.into(),
        reload_config: Some(ReloadConfig {
            backoff: Some(BackoffStrategy { base_interval: Some(RELOAD_BACKOFF), max_interval: None }),
        }),
        vm: Some(plugin_config::Vm::VmConfig(VmConfig {
            vm_id: VM_ID.to_owned(),
            runtime: "envoy.wasm.runtime.v8".to_owned(),
            code: Some(AsyncDataSource { specifier: Some(async_data_source::Specifier::Local(file(module))) }),
            capability_restriction_config: Some(CapabilityRestrictionConfig {
                allowed_capabilities: CAPABILITIES
                    .iter()
                    .map(|name| ((*name).to_owned(), SanitizationConfig {}))
                    .collect::<HashMap<_, _>>(),
            }),
            ..VmConfig::default()
        })),
        ..PluginConfig::default()
    }
}

fn inline(contents: impl AsRef<[u8]>) -> DataSource {
    source(data_source::Specifier::InlineBytes(contents.as_ref().to_vec()))
}

fn file(path: &str) -> DataSource {
    source(data_source::Specifier::Filename(path.to_owned()))
}

fn source(specifier: data_source::Specifier) -> DataSource {
    DataSource { specifier: Some(specifier), ..DataSource::default() }
}

fn pack<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}
