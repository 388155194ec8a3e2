//! The stage of stories that need no agent: the shipped Envoy with its filter, a CA of our own, and the service behind.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use super::gate::certificates;
use super::gate::start_envoy;
use crate::certificates::Authority;
use crate::certificates::Leaf;
use crate::environment;
use crate::environment::Client;
use crate::environment::Credentials;
use crate::environment::EnvironmentError;
use crate::environment::Envoy;
use crate::environment::Programs;
use crate::environment::Protocol;
use crate::environment::Upstream;
use crate::environment::standalone;
use crate::report::StoryError;

pub(super) struct Alone {
    /// Issues the certificates of everybody.
    pub(super) own: Authority,
    /// Where clients come in.
    pub(super) gate: SocketAddr,
    pub(super) upstream: Upstream,
    admin: SocketAddr,
    programs: Programs,
    directory: TempDir,
}

impl Alone {
    /// Sets the stage; no Envoy runs yet.
    pub(super) async fn set() -> Result<Self, StoryError> {
        let directory = tempfile::tempdir().map_err(|source| EnvironmentError::File {
            doing: "create a directory in",
            path: std::env::temp_dir(),
            source,
        })?;
        let own = Authority::new("the gate's own");
        certificates(directory.path(), &own, &own.pem())?;
        let [gate, service, admin] = [environment::free_port()?, environment::free_port()?, environment::free_port()?];
        let upstream = Upstream::start(service, directory.path().join("upstream")).await?;
        Ok(Self { own, gate, upstream, admin, programs: Programs::find()?, directory })
    }

    /// The shipped configuration with these places changed and this filter.
    pub(super) fn config(&self, changes: &[(String, Value)], filter: Value) -> Result<Value, EnvironmentError> {
        let mut text = environment::shipped("envoy.yaml")?;
        for (place, ours) in [(10443, self.gate), (10444, self.upstream.address()), (9901, self.admin)] {
            text = text.replace(&format!("port_value: {place}"), &format!("port_value: {}", ours.port()));
        }
        let mut config = standalone::without_agent(&text, self.directory.path(), filter)?;
        for (place, value) in changes {
            let (parent, name) = place.rsplit_once('/').unwrap_or_default();
            let parent = config.pointer_mut(parent).and_then(Value::as_object_mut);
            let parent = parent.ok_or_else(|| EnvironmentError::Unreadable {
                what: "envoy.yaml".to_owned(),
                text: format!("nothing around `{place}`"),
            })?;
            parent.insert(name.to_owned(), value.clone());
        }
        Ok(config)
    }

    /// Starts Envoy with a configuration of [`Alone::config`].
    pub(super) async fn start(&self, config: &Value) -> Result<Envoy, StoryError> {
        start_envoy(&self.programs, self.directory(), "envoy", config, self.admin).await
    }

    /// Starts Envoy with the filter and this policy, these places of the configuration changed.
    pub(super) async fn start_with(&self, policy: &Value, changes: &[(String, Value)]) -> Result<Envoy, StoryError> {
        let filter = standalone::filter(&policy.to_string())?;
        self.start(&self.config(changes, filter)?).await
    }

    /// Somebody with this certificate.
    pub(super) fn client(&self, leaf: &Leaf, protocol: Protocol) -> Result<Client, EnvironmentError> {
        self.client_at(self.gate, leaf, protocol)
    }

    /// Somebody with this certificate who comes in elsewhere.
    pub(super) fn client_at(
        &self,
        gate: SocketAddr,
        leaf: &Leaf,
        protocol: Protocol,
    ) -> Result<Client, EnvironmentError> {
        let credentials =
            Credentials { chain_pem: leaf.pem(), key_pem: leaf.key_pem().to_owned(), ca_pem: self.own.pem() };
        Client::new(gate, &self.own.pem(), Some(&credentials), protocol)
    }

    /// Where its administration is.
    pub(super) fn admin(&self) -> SocketAddr {
        self.admin
    }

    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }
}

/// The place of one of the connection manager's fields.
pub(super) fn manager(field: &str) -> String {
    format!("/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/{field}")
}
