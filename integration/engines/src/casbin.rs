//! The policy in casbin: its model for roles with paths in the manner of REST, policies in memory. A rule about every
//! method is one line for each, and the matcher looks at what is cheapest first.

use casbin::CoreApi as _;
use casbin::DefaultModel;
use casbin::Enforcer;
use casbin::MemoryAdapter;
use casbin::MgmtApi as _;

use crate::engine::Engine;
use crate::engine::EngineError;
use crate::engine::Name;
use crate::policy::METHODS;
use crate::policy::Path;
use crate::policy::Policy;
use crate::policy::SUSPENDED;
use crate::question::Question;

const MODEL: &str = "
[request_definition]
r = sub, obj, act

[policy_definition]
p = sub, obj, act, eft

[role_definition]
g = _, _

[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))

[matchers]
m = r.act == p.act && g(r.sub, p.sub) && keyMatch2(r.obj, p.obj)
";

/// An enforcer with everything in memory.
pub(crate) struct Casbin(Enforcer);

impl Casbin {
    pub(crate) fn load(policy: &Policy) -> Result<Self, EngineError> {
        let words = |words: [&str; 4]| words.map(str::to_owned).to_vec();
        let denied = METHODS.map(|method| words([SUSPENDED, "/*", method, "deny"]));
        let allowed = policy.rules.iter().map(|rule| {
            let path = match rule.path {
                Path::Files(service) => format!("/service-{service}/files/*"),
                Path::Items(service) => format!("/service-{service}/orders/:id/items"),
                Path::Order(service) => format!("/service-{service}/orders/:id"),
            };
            words([&format!("role-{}", rule.role), &path, rule.method, "allow"])
        });
        let rules = denied.into_iter().chain(allowed).collect();
        let members = policy.roles.iter().flat_map(|role| role.members.iter().map(move |id| (id, &role.name)));
        let roles = members.map(|(id, role)| vec![id.clone(), role.clone()]).collect();
        // Its calls are asynchronous for the sake of adapters that do I/O; this one has none.
        let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(refused)?;
        let enforcer = runtime.block_on(async {
            let model = DefaultModel::from_str(MODEL).await?;
            let mut enforcer = Enforcer::new(model, MemoryAdapter::default()).await?;
            enforcer.add_policies(rules).await?;
            enforcer.add_grouping_policies(roles).await?;
            Ok::<_, casbin::Error>(enforcer)
        });
        Ok(Self(enforcer.map_err(refused)?))
    }
}

impl Engine for Casbin {
    fn allows(&self, question: &Question) -> Result<bool, EngineError> {
        let asked = (question.client.as_str(), question.path.as_str(), question.method);
        self.0.enforce(asked).map_err(refused)
    }
}

fn refused(error: impl std::fmt::Display) -> EngineError {
    Name::Casbin.refused(error)
}
