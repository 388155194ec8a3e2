//! The policy as Portcullis reads it, and a decision as the filter asks for it: the roles of a certificate are worked out
//! once, when it is first seen.

use std::collections::HashMap;

use portcullis_policy::Forwarded;
use portcullis_policy::Head;
use portcullis_policy::Leaf;
use portcullis_policy::Peer;
use portcullis_policy::Policy as Compiled;
use portcullis_policy::Protocol;
use portcullis_policy::Request;
use portcullis_policy::Subject;
use portcullis_policy::Tls;
use portcullis_policy::UnixTime;
use portcullis_policy::token::Bearer;
use rcgen::CertificateParams;
use rcgen::KeyPair;
use rcgen::SanType;
use serde_json::Value;
use serde_json::json;

use crate::engine::Engine;
use crate::engine::EngineError;
use crate::engine::Name;
use crate::policy::Path;
use crate::policy::Policy;
use crate::policy::SUSPENDED;
use crate::question::Question;

/// A compiled policy and the certificates of those who ask.
pub(crate) struct Portcullis {
    policy: Compiled,
    subjects: HashMap<String, Subject>,
}

impl Portcullis {
    pub(crate) fn load(policy: &Policy, questions: &[Question]) -> Result<Self, EngineError> {
        let refused = |error: &dyn std::error::Error| Name::Portcullis.refused(error);
        let compiled = Compiled::from_json(document(policy).to_string().as_bytes()).map_err(|error| refused(&error))?;
        let key = KeyPair::generate().map_err(|error| refused(&error))?;
        let mut subjects = HashMap::new();
        for question in questions {
            if subjects.contains_key(&question.client) {
                continue;
            }
            let leaf = Leaf::from_der(&certificate(&question.client, &key)?).map_err(|error| refused(&error))?;
            subjects.insert(question.client.clone(), compiled.subject(leaf));
        }
        Ok(Self { policy: compiled, subjects })
    }
}

impl Engine for Portcullis {
    fn allows(&self, question: &Question) -> Result<bool, EngineError> {
        let subject =
            self.subjects.get(&question.client).ok_or_else(|| Name::Portcullis.refused("nobody of this name asks"))?;
        let request = Request {
            now: UnixTime(subject.leaf().not_before().0 + 1),
            peer: Peer::Presented { subject, validated: true },
            forwarded: &Forwarded::Nothing,
            token: &Bearer::Absent,
            tls: Tls::default(),
            source: None,
            listener: None,
            protocol: Protocol::Http,
            head: Head {
                method: Some(question.method.as_bytes()),
                authority: Some(b"orders.acme.example"),
                path: Some(question.path.as_bytes()),
                fields: vec![(b"user-agent", b"bench"), (b"accept", b"*/*")],
                duplicated: false,
            },
        };
        Ok(self.policy.decide(&request).is_allowed())
    }
}

fn document(policy: &Policy) -> Value {
    let roles: serde_json::Map<String, Value> = policy
        .roles
        .iter()
        .map(|role| {
            let members = role.members.iter().map(|id| json!({ "spiffe": id })).collect();
            (role.name.clone(), Value::Array(members))
        })
        .collect();
    let denied = json!({ "id": "no-suspended", "deny": [SUSPENDED], "paths": ["/**"] });
    let allowed = policy.rules.iter().enumerate().map(|(number, rule)| {
        let path = match rule.path {
            Path::Files(service) => format!("/service-{service}/files/**"),
            Path::Items(service) => format!("/service-{service}/orders/{{id}}/items"),
            Path::Order(service) => format!("/service-{service}/orders/{{id}}"),
        };
        let role = format!("role-{}", rule.role);
        json!({ "id": format!("rule-{number}"), "allow": [role], "methods": [rule.method], "paths": [path] })
    });
    let rules: Vec<Value> = [denied].into_iter().chain(allowed).collect();
    json!({ "version": 1, "trust_domain": "acme.example", "roles": roles, "rules": rules })
}

fn certificate(id: &str, key: &KeyPair) -> Result<Vec<u8>, EngineError> {
    let mut params = CertificateParams::default();
    let name = id.try_into().map_err(|error: rcgen::Error| Name::Portcullis.refused(error))?;
    params.subject_alt_names = vec![SanType::URI(name)];
    let certificate = params.self_signed(key).map_err(|error| Name::Portcullis.refused(error))?;
    Ok(certificate.der().to_vec())
}
