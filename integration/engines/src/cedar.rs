//! The policy in Cedar: roles are parents of identities, methods are actions, and the path is in the context with the
//! number of its segments, since `*` in a `like` takes slashes too.

use std::collections::HashMap;
use std::collections::HashSet;
use std::fmt::Write as _;

use cedar_policy::Authorizer;
use cedar_policy::Context;
use cedar_policy::Decision;
use cedar_policy::Entities;
use cedar_policy::Entity;
use cedar_policy::EntityId;
use cedar_policy::EntityTypeName;
use cedar_policy::EntityUid;
use cedar_policy::PolicySet;
use cedar_policy::Request;
use cedar_policy::RestrictedExpression;

use crate::engine::Engine;
use crate::engine::EngineError;
use crate::engine::Name;
use crate::policy::METHODS;
use crate::policy::Path;
use crate::policy::Policy;
use crate::policy::SUSPENDED;
use crate::question::Question;

/// The policy set, the hierarchy of identities and roles, and the names of both as Cedar has them.
pub(crate) struct Cedar {
    authorizer: Authorizer,
    policies: PolicySet,
    entities: Entities,
    clients: HashMap<String, EntityUid>,
    methods: HashMap<&'static str, EntityUid>,
    service: EntityUid,
}

impl Cedar {
    pub(crate) fn load(policy: &Policy) -> Result<Self, EngineError> {
        let policies = text(policy).parse().map_err(refused)?;
        let mut roles_of: HashMap<&str, HashSet<EntityUid>> = HashMap::new();
        let mut entities = Vec::new();
        for role in &policy.roles {
            let uid = uid("Role", &role.name)?;
            for member in &role.members {
                roles_of.entry(member).or_default().insert(uid.clone());
            }
            entities.push(Entity::new_no_attrs(uid, HashSet::new()));
        }
        let mut clients = HashMap::new();
        for (client, roles) in roles_of {
            let uid = uid("Workload", client)?;
            clients.insert(client.to_owned(), uid.clone());
            entities.push(Entity::new_no_attrs(uid, roles));
        }
        let methods = METHODS.into_iter().map(|method| Ok((method, uid("Action", method)?)));
        Ok(Self {
            authorizer: Authorizer::new(),
            policies,
            entities: Entities::from_entities(entities, None).map_err(refused)?,
            clients,
            methods: methods.collect::<Result<_, EngineError>>()?,
            service: uid("Service", "gateway")?,
        })
    }
}

impl Engine for Cedar {
    fn allows(&self, question: &Question) -> Result<bool, EngineError> {
        let client = self.clients.get(&question.client).ok_or_else(|| refused("nobody of this name asks"))?;
        let method = self.methods.get(question.method).ok_or_else(|| refused("there is no such method"))?;
        let segments = question.path.split('/').skip(1).count();
        let context = Context::from_pairs([
            ("path".to_owned(), RestrictedExpression::new_string(question.path.clone())),
            ("segments".to_owned(), RestrictedExpression::new_long(i64::try_from(segments).unwrap_or(i64::MAX))),
        ]);
        let context = context.map_err(refused)?;
        let request = Request::new(client.clone(), method.clone(), self.service.clone(), context, None);
        let response = self.authorizer.is_authorized(&request.map_err(refused)?, &self.policies, &self.entities);
        if let Some(error) = response.diagnostics().errors().next() {
            return Err(refused(error));
        }
        Ok(response.decision() == Decision::Allow)
    }
}

fn text(policy: &Policy) -> String {
    let mut text = format!("forbid (principal in Role::\"{SUSPENDED}\", action, resource);\n");
    for rule in &policy.rules {
        let path = match rule.path {
            Path::Files(service) => format!(r#"context.path like "/service-{service}/files/*""#),
            Path::Items(service) => {
                format!(r#"context.segments == 4 && context.path like "/service-{service}/orders/*/items""#)
            }
            Path::Order(service) => {
                format!(r#"context.segments == 3 && context.path like "/service-{service}/orders/*""#)
            }
        };
        let _ = writeln!(
            text,
            r#"permit (principal in Role::"role-{}", action == Action::"{}", resource) when {{ {path} }};"#,
            rule.role, rule.method
        );
    }
    text
}

fn uid(kind: &str, id: &str) -> Result<EntityUid, EngineError> {
    let kind: EntityTypeName = kind.parse().map_err(refused)?;
    Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}

fn refused(error: impl std::fmt::Display) -> EngineError {
    Name::Cedar.refused(error)
}
