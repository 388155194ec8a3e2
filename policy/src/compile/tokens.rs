//! `tokens:` to providers.

use std::time::Duration;

use super::rules::FieldProblem;
use super::rules::each;
use super::value;
use crate::document;
use crate::error::PolicyError;
use crate::error::PolicyProblem;
use crate::token::Algorithm;
use crate::token::Expectations;
use crate::token::KeySet;
use crate::token::binding::Binding;
use crate::token::claim::ClaimPath;
use crate::token::provider::Provider;
use crate::token::provider::Providers;

/// The most providers, and the most keys of one: no request waits for a long search.
const MAX_PROVIDERS: usize = 64;
const MAX_KEYS: usize = 256;

/// How far an issuer's clock may be off if the policy does not say.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// The most that it may be off: what an expired token is worth must end soon.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(15 * 60);

pub(super) fn compile(written: &document::Tokens<'_>) -> Result<Providers, PolicyError> {
    let mut providers = Vec::with_capacity(written.0.len());
    if written.0.len() > MAX_PROVIDERS {
        let problem = PolicyProblem::TooMany { what: "providers of tokens", limit: MAX_PROVIDERS };
        return Err(PolicyError::new("tokens", problem));
    }
    for (name, document::Provider(fields)) in &written.0 {
        let place = |(field, problem): FieldProblem| {
            let dot = if field.is_empty() { "" } else { "." };
            PolicyError::new(format!("tokens.{}{dot}{field}", value::shown(name.as_str())), problem)
        };
        let name = value::name(name.as_str()).map_err(|problem| place((String::new(), problem)))?;
        let provider = provider(name, fields).map_err(place)?;
        if provider.expected.waive_issuer && written.0.len() > 1 {
            // Without `iss` nobody could say whose keys to try.
            let needs = "every provider's tokens to have `iss`, since there are several providers";
            return Err(place(("waive".to_owned(), PolicyProblem::Needs { what: "the policy", needs })));
        }
        if providers.iter().any(|known: &Provider| known.name == provider.name) {
            let problem = PolicyProblem::Duplicate { what: "provider", name: name.to_owned() };
            return Err(place((String::new(), problem)));
        }
        if providers.iter().any(|known| known.expected.issuer == provider.expected.issuer) {
            let issuer = value::shown(provider.expected.issuer.as_deref().unwrap_or_default());
            let problem = PolicyProblem::Duplicate { what: "a provider for the issuer", name: issuer };
            return Err(place(("issuer".to_owned(), problem)));
        }
        providers.push(provider);
    }
    providers.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(Providers::new(providers))
}

fn provider(name: &str, fields: &document::ProviderFields<'_>) -> Result<Provider, FieldProblem> {
    let here = |field: &'static str| move |problem| (field.to_owned(), problem);
    let mut expected = Expectations {
        issuer: fields.issuer.as_ref().map(|issuer| text(issuer.as_str())).transpose().map_err(here("issuer"))?,
        clock_skew: CLOCK_SKEW,
        ..Expectations::default()
    };
    for (position, claim) in fields.waive.iter().enumerate() {
        match claim.as_str() {
            "iss" => expected.waive_issuer = true,
            "aud" => expected.waive_audience = true,
            "exp" => expected.waive_expiry = true,
            other => {
                let name = value::shown(other);
                return Err((
                    format!("waive[{position}]"),
                    PolicyProblem::UnknownWord { name, known: "`iss`, `aud` and `exp`" },
                ));
            }
        }
    }
    if expected.issuer.is_none() && !expected.waive_issuer {
        return Err((String::new(), needs("`issuer`, or `iss` in `waive`")));
    }
    match &fields.audience {
        Some(audience) => expected.audience = each("audience", audience, text)?,
        None if expected.waive_audience => {}
        None => return Err((String::new(), needs("`audience`, or `aud` in `waive`"))),
    }
    if let Some(skew) = &fields.clock_skew {
        let seconds = value::duration(skew.as_str()).and_then(|seconds| u64::try_from(seconds).ok());
        let span = seconds.map(Duration::from_secs).filter(|span| *span <= MAX_CLOCK_SKEW);
        let expects = || value::bad(skew.as_str(), "a length of time of at most 15 minutes, such as `60s`");
        expected.clock_skew = span.ok_or_else(expects).map_err(here("clock_skew"))?;
    }
    let algorithms = match &fields.algorithms {
        None => Algorithm::ALL.to_vec(),
        Some(names) => {
            let mut algorithms = each("algorithms", names, algorithm)?;
            algorithms.sort_unstable();
            algorithms.dedup();
            algorithms
        }
    };
    let binding = match &fields.binding {
        None => Binding::default(),
        Some(word) => {
            let found = Binding::ALL.into_iter().find(|binding| binding.name() == word.as_str());
            let known = "`required`, `when_present` and `off`";
            let unknown = || PolicyProblem::UnknownWord { name: value::shown(word.as_str()), known };
            found.ok_or_else(unknown).map_err(here("binding"))?
        }
    };
    let scope_claim = fields.scope_claim.as_ref().map(|claim| claim_path(claim.as_str())).transpose();
    let scope_claim = scope_claim.map_err(here("scope_claim"))?;
    let keys = keys(&fields.jwks, &algorithms).map_err(|(field, problem)| (format!("jwks{field}"), problem))?;
    Ok(Provider { name: name.into(), expected, binding, scope_claim, keys })
}

fn keys(jwks: &document::Jwks<'_>, algorithms: &[Algorithm]) -> Result<KeySet, FieldProblem> {
    let keys = match (&jwks.file, &jwks.url, &jwks.keys) {
        (None, None, Some(keys)) => keys,
        (Some(_), None, None) => {
            return Err((".file".to_owned(), PolicyProblem::NotInline { what: "the keys of this file" }));
        }
        (None, Some(_), None) => {
            return Err((".url".to_owned(), PolicyProblem::NotInline { what: "the keys behind this URL" }));
        }
        _ => return Err((String::new(), needs("exactly one of `file`, `url` and `keys`"))),
    };
    if keys.len() > MAX_KEYS {
        return Err((".keys".to_owned(), PolicyProblem::TooMany { what: "keys of one provider", limit: MAX_KEYS }));
    }
    let refused = |why: String| (".keys".to_owned(), PolicyProblem::BadKeys { why });
    let set = KeySet::from_entries(keys, algorithms).map_err(|error| refused(error.to_string()))?;
    // No key at all is what a provider has whose keys nobody could fetch yet: none of its tokens is taken.
    if set.keys().is_empty() && !keys.is_empty() {
        return Err(refused(format!("none of {} keys is a public key for the provider's algorithms", keys.len())));
    }
    Ok(set)
}

/// Takes the path of a claim.
pub(super) fn claim_path(text: &str) -> Result<ClaimPath, PolicyProblem> {
    let expected =
        "the name of a claim: names with dots between them, or a JSON Pointer such as `/https:~1~1acme.example~1roles`";
    ClaimPath::parse(text).ok_or_else(|| value::bad(text, expected))
}

fn algorithm(name: &str) -> Result<Algorithm, PolicyProblem> {
    let known = "`ES256`, `ES384`, `RS256`, `RS384`, `RS512`, `PS256` and `EdDSA`";
    Algorithm::parse(name).ok_or_else(|| PolicyProblem::UnknownWord { name: value::shown(name), known })
}

fn text(text: &str) -> Result<String, PolicyProblem> {
    if text.is_empty() { Err(value::bad(text, "text that a token could hold")) } else { Ok(text.to_owned()) }
}

fn needs(needs: &'static str) -> PolicyProblem {
    PolicyProblem::Needs { what: "a provider of tokens", needs }
}
