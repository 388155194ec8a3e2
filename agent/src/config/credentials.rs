//! `credentials:`: what rotates beside certificates, where it comes from and where it goes.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use portcullis_policy::credential::Retire;
use portcullis_policy::schedule::Share;
use serde::Deserialize;
use serde_json::Map;
use serde_json::Value;

use super::Files;
use super::account::Account;
use super::calendar::Calendars;
use super::check::Check;
use super::ends;
use super::raw;
use crate::calendar::Calendar;
use crate::credential::form::Facts;
use crate::credential::form::Form;
use crate::credential::form::InHeader;
use crate::credential::form::Template;
use crate::credential::made::Claims;
use crate::credential::made::SigningAlgorithm;
use crate::credential::source;
use crate::credential::target::Target;
use crate::hook::Hook;
use crate::hook::When;
use crate::secret::Secret;
use crate::yaml::Located;

const MINUTE: i64 = 60;
const DAY: i64 = 86_400;
/// Shorter is over before everybody has it.
const SHORTEST: i64 = 5;
const LONGEST: i64 = 366 * DAY;
/// Six bits a character: 128 bits.
const SHORTEST_PASSWORD: usize = 22;
const LONGEST_PASSWORD: usize = 1024;
const LIFETIME: i64 = DAY;
const TOKEN_LIFETIME: i64 = 5 * MINUTE;
const OVERLAP: i64 = 10 * MINUTE;
/// Clocks of those who verify tokens may be so far behind.
const SKEW: i64 = MINUTE;

/// A credential that rotates.
#[derive(Clone, Debug, PartialEq)]
pub struct Credential {
    /// Its name, and that of the SDS resource.
    pub name: String,
    /// Who uses it.
    pub consumers: Vec<String>,
    /// Where its values come from.
    pub source: Source,
    /// Whom they are set on.
    pub target: Option<Target>,
    /// The account, or those that alternate.
    pub accounts: Vec<String>,
    /// Seconds that a value lives at most.
    pub lifetime: i64,
    /// Share of its life after which it is replaced.
    pub rotate_after: Share,
    /// Seconds that a value is good after another one took its place.
    pub overlap: i64,
    /// What ends it then.
    pub retire: Retire,
    /// When there is one.
    pub issue: Issue,
    /// When a planned rotation may begin.
    pub calendar: Arc<Calendar>,
    /// Whether proxies get it, and in which form.
    pub sds: Option<InHeader>,
    /// Whether filters must have a signing key before it is used.
    pub awaits_filter: bool,
    /// Files to be written.
    pub files: Option<CredentialFiles>,
    /// Programs that are given it on their standard input.
    pub hooks: Vec<Hook>,
}

/// Where values come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Somebody else makes them.
    External(Box<source::Settings>),
    /// Passwords of so many characters that the agent makes.
    Password {
        /// How many.
        length: usize,
    },
    /// A ring of keys that sign tokens.
    SigningKey(SigningAlgorithm),
    /// A ring of keys of session tickets.
    SessionTicketKeys,
    /// Tokens that the agent signs.
    Token {
        /// Name of the credential that is the signing key.
        signed_by: String,
        /// What they say.
        claims: Claims,
    },
}

impl Source {
    /// What tells it from another source, and nothing that may change by itself.
    pub fn label(&self) -> String {
        match self {
            Self::External(settings) => label(settings),
            Self::Password { .. } => "password".to_owned(),
            Self::SigningKey(algorithm) => format!("signing_key {}", algorithm.as_str()),
            Self::SessionTicketKeys => "session_ticket_keys".to_owned(),
            Self::Token { signed_by, claims } => {
                let Claims { issuer, subject, audience, more } = claims;
                let more = Value::Object(more.clone());
                format!("token {signed_by} {issuer} {subject} {} {more}", audience.join(","))
            }
        }
    }

    /// The first word of the label.
    pub fn kind(&self) -> String {
        self.label().split(' ').next().unwrap_or_default().to_owned()
    }

    /// Whether it is a ring of keys.
    pub const fn is_ring(&self) -> bool {
        matches!(self, Self::SigningKey(_) | Self::SessionTicketKeys)
    }
}

/// When there is a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issue {
    /// Always.
    Always,
    /// From the first time that somebody asks for it until so many seconds after the last.
    OnFirstUse {
        /// Seconds.
        idle: i64,
    },
}

/// Files of a credential.
#[derive(Clone, Debug, PartialEq)]
pub struct CredentialFiles {
    /// Where, and who may read them.
    pub files: Files,
    /// Name and form of each.
    pub write: Vec<(String, Form)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCredential {
    name: String,
    consumers: Option<Vec<String>>,
    #[serde(default)]
    shared: bool,
    source: RawSource,
    set_on: Option<ends::Target>,
    #[serde(default)]
    accounts: Vec<String>,
    lifetime: Option<String>,
    rotate_after: Option<f64>,
    overlap: Option<String>,
    retire: Option<Retire>,
    issue: Option<RawIssue>,
    idle: Option<String>,
    renew_window: Option<Vec<raw::Period>>,
    blackout: Option<Vec<raw::Period>>,
    sds: Option<RawSds>,
    awaits_filter: Option<bool>,
    files: Option<RawFiles>,
    #[serde(default)]
    hooks: Vec<RawHook>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHook {
    run: Vec<String>,
    timeout: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawIssue {
    Always,
    OnFirstUse,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSource {
    password: Option<RawPassword>,
    session_ticket_keys: Option<RawNothing>,
    signing_key: Option<RawSigningKey>,
    token: Option<RawToken>,
    openbao_database: Option<ends::BaoRole>,
    openbao_kv: Option<ends::BaoKv>,
    openbao_static: Option<ends::BaoRole>,
    oauth: Option<ends::Oauth>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPassword {
    length: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSigningKey {
    algorithm: Option<SigningAlgorithm>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawToken {
    signed_by: String,
    issuer: String,
    subject: String,
    audience: Vec<String>,
    #[serde(default)]
    claims: Map<String, Value>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSds {
    #[serde(default, rename = "as")]
    form: InHeader,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFiles {
    directory: PathBuf,
    keep: Option<usize>,
    mode: Option<String>,
    owner: Option<Account>,
    group: Option<Account>,
    write: Vec<RawFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    name: String,
    #[serde(default, rename = "as")]
    form: RawForm,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum RawForm {
    #[default]
    Raw,
    Jwks,
    Pgpass(RawPgpass),
    Dotenv(RawDotenv),
    Json(Value),
    Template(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPgpass {
    host: String,
    port: Option<u16>,
    database: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDotenv {
    account: Option<String>,
    secret: String,
}

/// What tells one target from another, whoever asks there and how.
fn place_of(target: &Target) -> String {
    match target {
        Target::Postgres(target) => format!("postgres {}", target.place),
        Target::Program(target) => format!("program {:?} {:?}", target.run.program, target.run.arguments),
        Target::Redis(target) => format!("redis {}", target.place),
    }
}

/// Where it is and what is asked for there: what it takes to ask may change.
fn label(settings: &source::Settings) -> String {
    let engine =
        |settings: &source::BaoSettings| format!("{}{}/{}", settings.server.address, settings.mount, settings.name);
    match settings {
        source::Settings::Oauth(oauth) => {
            let scope = oauth.scope.as_deref().unwrap_or_default();
            let (audience, resource) = (oauth.audience.join(","), oauth.resource.join(","));
            format!("oauth {} {scope} {audience} {resource}", oauth.token_endpoint)
        }
        source::Settings::OpenbaoDatabase(settings) => format!("openbao_database {}", engine(settings)),
        source::Settings::OpenbaoKv(settings, source::Field::Everything) => format!("openbao_kv {}", engine(settings)),
        source::Settings::OpenbaoKv(settings, source::Field::One { secret, account }) => {
            format!("openbao_kv {} {secret} {}", engine(settings), account.as_deref().unwrap_or_default())
        }
        source::Settings::OpenbaoStatic(settings) => format!("openbao_static {}", engine(settings)),
    }
}

impl Check<'_> {
    /// Every credential, and what they are to each other.
    pub(super) fn credentials(
        &self,
        raw: Vec<RawCredential>,
        longest: Option<&str>,
        has_filter: bool,
        calendars: &mut Calendars,
    ) -> Result<Vec<Credential>, Located> {
        let longest = match longest {
            None => LONGEST,
            Some(given) => self.duration(given, "credential_lifetime_max", SHORTEST, LONGEST)?,
        };
        let mut all: Vec<Credential> = Vec::with_capacity(raw.len());
        let mut taken: BTreeMap<(String, String), String> = BTreeMap::new();
        for (at, credential) in raw.into_iter().enumerate() {
            let field = format!("credentials[{at}]");
            let credential = self.credential(credential, &field, longest, has_filter, calendars)?;
            for account in &credential.accounts {
                let place = credential.target.as_ref().map_or_else(String::new, place_of);
                if let Some(other) = taken.insert((place, account.clone()), credential.name.clone())
                    && credential.target.is_some()
                {
                    let message =
                        format!("`{account}` is of credential `{other}` already; two would change it under each other");
                    return Err(self.bad(&format!("{field}.accounts"), &message));
                }
            }
            all.push(credential);
        }
        self.tokens(&mut all)?;
        Ok(all)
    }

    /// A signing key stays published for as long as what it signed is good.
    fn tokens(&self, all: &mut [Credential]) -> Result<(), Located> {
        let mut longest: BTreeMap<String, i64> = BTreeMap::new();
        for (at, credential) in all.iter().enumerate() {
            let Source::Token { signed_by, .. } = &credential.source else { continue };
            let key = all.iter().find(|other| other.name == *signed_by);
            if !key.is_some_and(|key| matches!(key.source, Source::SigningKey(_))) {
                let message = format!("no credential `{signed_by}` has a `signing_key` as its source");
                return Err(self.bad(&format!("credentials[{at}].source.token.signed_by"), &message));
            }
            let lifetime = longest.entry(signed_by.clone()).or_default();
            *lifetime = credential.lifetime.max(*lifetime);
        }
        for credential in all {
            if let Some(lifetime) = longest.get(&credential.name) {
                credential.overlap = credential.overlap.max(lifetime.saturating_add(SKEW));
            }
        }
        Ok(())
    }

    fn credential(
        &self,
        raw: RawCredential,
        field: &str,
        longest: i64,
        has_filter: bool,
        calendars: &mut Calendars,
    ) -> Result<Credential, Located> {
        let bad = |name: &str, message: &str| self.bad(&format!("{field}.{name}"), message);
        let consumers = raw.consumers.unwrap_or_else(|| vec![raw.name.clone()]);
        let distinct: BTreeSet<&String> = consumers.iter().collect();
        if consumers.iter().any(String::is_empty) || distinct.len() != consumers.len() || consumers.is_empty() {
            return Err(bad("consumers", "name each consumer once"));
        }
        if consumers.len() > 1 && !raw.shared {
            let message = "one credential for several consumers cannot be taken from one of them alone; give each its own, \
                           or say `shared: true`";
            return Err(bad("consumers", message));
        }
        let target = raw.set_on.map(|target| self.credential_target(target, &format!("{field}.set_on"))).transpose()?;
        let source = self.source(raw.source, &format!("{field}.source"))?;
        match (&source, &target) {
            (Source::Password { .. }, Some(_)) => {}
            (_, Some(_)) => return Err(bad("set_on", "only a `password` is set on somebody")),
            (_, None) => {}
        }
        let accounts = raw.accounts;
        let most = if target.is_some() { 1..=2 } else { 0..=1 };
        let distinct: BTreeSet<&String> = accounts.iter().collect();
        if !most.contains(&accounts.len()) || distinct.len() != accounts.len() || accounts.iter().any(String::is_empty)
        {
            let message = if target.is_some() {
                "name the account, or two different ones that alternate"
            } else {
                "one account at most, where nothing is set on anybody"
            };
            return Err(bad("accounts", message));
        }
        if matches!(source, Source::External(_)) && !accounts.is_empty() {
            return Err(bad("accounts", "the source says which account it is"));
        }
        let usual = if matches!(source, Source::Token { .. }) { TOKEN_LIFETIME } else { LIFETIME.min(longest) };
        let lifetime = match &raw.lifetime {
            None => usual.min(longest),
            Some(given) => self.duration(given, &format!("{field}.lifetime"), SHORTEST, LONGEST)?,
        };
        if lifetime > longest {
            return Err(bad("lifetime", &format!("more than `credential_lifetime_max` ({longest} s) allows")));
        }
        let rotate_after = match raw.rotate_after {
            None => Share::TWO_THIRDS,
            Some(part) => Share::new(part).filter(|_| part >= 0.05).ok_or_else(|| {
                bad("rotate_after", &format!("`{part}` is not a share of the lifetime from 0.05 to less than 1"))
            })?,
        };
        let overlap = match &raw.overlap {
            None => OVERLAP.min(lifetime / 4),
            Some(given) => self.duration(given, &format!("{field}.overlap"), 0, LONGEST)?,
        };
        let left = lifetime.saturating_sub(rotate_after.of(lifetime));
        if accounts.len() == 2 && overlap > left {
            let message = format!(
                "longer than what is left of a value's life when the next one takes its account ({left} s): a shorter `overlap`, or an earlier `rotate_after`"
            );
            return Err(bad("overlap", &message));
        }
        let issue = match (raw.issue.unwrap_or(RawIssue::Always), &raw.idle) {
            (RawIssue::Always, None) => Issue::Always,
            (RawIssue::Always, Some(_)) => return Err(bad("idle", "only for `issue: on_first_use`")),
            (RawIssue::OnFirstUse, _) if source.is_ring() => {
                return Err(bad("issue", "a ring of keys is there before anybody asks"));
            }
            (RawIssue::OnFirstUse, idle) => {
                let idle = idle
                    .as_deref()
                    .map_or(Ok(15 * MINUTE), |idle| self.duration(idle, &format!("{field}.idle"), 1, LONGEST))?;
                Issue::OnFirstUse { idle }
            }
        };
        let sds = raw.sds.map(|sds| sds.form);
        if sds.is_some() && matches!(source, Source::SigningKey(_)) {
            return Err(bad("sds", "a signing key stays with the agent; `files` publish its public half `as: jwks`"));
        }
        let files = raw.files.map(|files| self.credential_files(files, &source, field)).transpose()?;
        let hooks =
            raw.hooks.into_iter().map(|RawHook { run, timeout }| raw::Hook { run, timeout, when: When::default() });
        let hooks = self.hooks(hooks.collect(), field)?;
        if sds.is_none() && files.is_none() && hooks.is_empty() && matches!(issue, Issue::Always) {
            let message =
                "it goes nowhere: add `sds`, `files` or `hooks`, or `issue: on_first_use` for those who ask the agent";
            return Err(self.bad(field, message));
        }
        if source.is_ring() && !hooks.is_empty() {
            return Err(bad("hooks", "nobody is given a ring of keys; it goes to `sds` or `files`"));
        }
        self.fits(&source, &accounts, target.is_some(), (sds, files.as_ref()), field)?;
        let awaits_filter = match (raw.awaits_filter, &source) {
            (None, Source::SigningKey(_)) => has_filter,
            (Some(awaits), Source::SigningKey(_)) if !awaits || has_filter => awaits,
            (None, _) => false,
            (Some(_), _) => {
                return Err(bad("awaits_filter", "only for a `signing_key`, and where there is a `filter`"));
            }
        };
        let (windows, blackouts) = (raw.renew_window.as_deref(), raw.blackout.as_deref());
        let calendar = calendars.of(self, windows, blackouts, Some(lifetime), field)?;
        Ok(Credential {
            name: raw.name,
            consumers,
            source,
            target,
            accounts,
            lifetime,
            rotate_after,
            overlap,
            retire: raw.retire.unwrap_or_default(),
            issue,
            calendar,
            sds,
            awaits_filter,
            files,
            hooks,
        })
    }

    /// Whether what the places name will be there.
    fn fits(
        &self,
        source: &Source,
        accounts: &[String],
        has_target: bool,
        (sds, files): (Option<InHeader>, Option<&CredentialFiles>),
        field: &str,
    ) -> Result<(), Located> {
        let has_account = match source {
            Source::External(settings) => match settings.as_ref() {
                source::Settings::Oauth(_) => false,
                source::Settings::OpenbaoKv(_, part) => matches!(part, source::Field::One { account: Some(_), .. }),
                _ => true,
            },
            _ => !accounts.is_empty(),
        };
        let has_end = match source {
            Source::Password { .. } => has_target,
            Source::External(settings) => !matches!(settings.as_ref(), source::Settings::OpenbaoKv(..)),
            _ => true,
        };
        let (secret, key_set) = (Secret::new("x".to_owned()), Value::Null);
        let facts = Facts {
            account: has_account.then_some("x"),
            secret: &secret,
            id: "x",
            not_after: has_end.then_some(Timestamp::UNIX_EPOCH),
            key_set: Some(&key_set),
        };
        if let Some(form) = sds.filter(|_| !source.is_ring()) {
            let written = form.write(facts.account, &secret);
            written.map_err(|why| self.bad(&format!("{field}.sds"), &why.to_string()))?;
        }
        for (at, (_, form)) in files.iter().flat_map(|files| &files.write).enumerate() {
            let written = form.write(&facts);
            written.map_err(|why| self.bad(&format!("{field}.files.write[{at}]"), &why.to_string()))?;
        }
        Ok(())
    }

    fn source(&self, raw: RawSource, field: &str) -> Result<Source, Located> {
        let RawSource { password, session_ticket_keys, signing_key, token, .. } = raw;
        let external = [
            raw.openbao_database.map(ends::Source::OpenbaoDatabase),
            raw.openbao_kv.map(ends::Source::OpenbaoKv),
            raw.openbao_static.map(ends::Source::OpenbaoStatic),
            raw.oauth.map(ends::Source::Oauth),
        ];
        let mut found = Vec::new();
        for external in external.into_iter().flatten() {
            found.push(Source::External(Box::new(self.credential_source(external, field)?)));
        }
        if let Some(RawPassword { length }) = password {
            let length = length.unwrap_or(32);
            if !(SHORTEST_PASSWORD..=LONGEST_PASSWORD).contains(&length) {
                let message = format!(
                    "{length} characters: {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} are made, of six bits each, so that nobody guesses them"
                );
                return Err(self.bad(&format!("{field}.password.length"), &message));
            }
            found.push(Source::Password { length });
        }
        if session_ticket_keys.is_some() {
            found.push(Source::SessionTicketKeys);
        }
        if let Some(RawSigningKey { algorithm }) = signing_key {
            found.push(Source::SigningKey(algorithm.unwrap_or_default()));
        }
        if let Some(RawToken { signed_by, issuer, subject, audience, claims }) = token {
            const OURS: [&str; 7] = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti"];
            if let Some(name) = claims.keys().find(|name| OURS.contains(&name.as_str())) {
                let message =
                    format!("`{name}` is the agent's to say; there are `issuer`, `subject`, `audience` and `lifetime`");
                return Err(self.bad(&format!("{field}.token.claims"), &message));
            }
            if issuer.is_empty() || subject.is_empty() || audience.is_empty() || audience.iter().any(String::is_empty) {
                return Err(
                    self.bad(&format!("{field}.token"), "a token needs an `issuer`, a `subject` and an `audience`")
                );
            }
            found.push(Source::Token { signed_by, claims: Claims { issuer, subject, audience, more: claims } });
        }
        match (found.pop(), found.is_empty()) {
            (Some(one), true) => Ok(one),
            _ => {
                let message = "name one source: `password`, `token`, `signing_key`, `session_ticket_keys`, `openbao_kv`, `openbao_database`, `openbao_static` or `oauth`";
                Err(self.bad(field, message))
            }
        }
    }

    fn credential_files(&self, raw: RawFiles, source: &Source, field: &str) -> Result<CredentialFiles, Located> {
        let RawFiles { directory, keep, mode, owner, group, write } = raw;
        // Whoever reads old generations reads old secrets.
        let keep = Some(keep.unwrap_or(1));
        let files = raw::Files { directory, keep, mode, owner, group, combined: false };
        let files = self.files(files, &format!("{field}.files"))?;
        let mut forms: Vec<(String, Form)> = Vec::with_capacity(write.len());
        for (at, file) in write.into_iter().enumerate() {
            let field = format!("{field}.files.write[{at}]");
            let is_name = !file.name.is_empty()
                && !file.name.starts_with("..")
                && file.name != "."
                && !file.name.contains(['/', '\0'])
                && file.name.len() <= 200;
            if !is_name || forms.iter().any(|(name, _)| *name == file.name) {
                let message = format!("`{}` is not a name of its own for a file in the directory", file.name);
                return Err(self.bad(&format!("{field}.name"), &message));
            }
            let form = self.form(file.form, &field)?;
            if (form == Form::Jwks) != matches!(source, Source::SigningKey(_)) {
                let message = if form == Form::Jwks {
                    "only a `signing_key` has a key set"
                } else {
                    "of a `signing_key` only the public half is written, `as: jwks`"
                };
                return Err(self.bad(&format!("{field}.as"), message));
            }
            if *source == Source::SessionTicketKeys {
                return Err(self.bad(&field, "session ticket keys go to proxies over SDS alone"));
            }
            forms.push((file.name, form));
        }
        if forms.is_empty() {
            return Err(self.bad(&format!("{field}.files.write"), "name a file"));
        }
        Ok(CredentialFiles { files, write: forms })
    }

    fn form(&self, raw: RawForm, field: &str) -> Result<Form, Located> {
        let is_variable = |name: &str| {
            name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_')
                && name.chars().next().is_some_and(|first| !first.is_ascii_digit())
        };
        match raw {
            RawForm::Raw => Ok(Form::Raw),
            RawForm::Jwks => Ok(Form::Jwks),
            RawForm::Pgpass(RawPgpass { host, port, database }) => {
                let port = port.map_or_else(|| "*".to_owned(), |port| port.to_string());
                let database = database.unwrap_or_else(|| "*".to_owned());
                if host.is_empty() || [&host, &database].iter().any(|text| text.chars().any(char::is_control)) {
                    return Err(self.bad(&format!("{field}.as.pgpass"), "name a host, and a database or `*`"));
                }
                Ok(Form::Pgpass { host, port, database })
            }
            RawForm::Dotenv(RawDotenv { account, secret }) => {
                if let Some(name) = account.iter().chain([&secret]).find(|name| !is_variable(name)) {
                    let message = format!("`{name}` is not the name of a variable: letters, digits and `_`");
                    return Err(self.bad(&format!("{field}.as.dotenv"), &message));
                }
                Ok(Form::Dotenv { account, secret })
            }
            RawForm::Json(document) => {
                Form::json(document).map_err(|why| self.bad(&format!("{field}.as.json"), &why.to_string()))
            }
            RawForm::Template(text) => match Template::parse(&text) {
                Ok(template) => Ok(Form::Template(template)),
                Err(why) => Err(self.bad(&format!("{field}.as.template"), &why.to_string())),
            },
        }
    }
}
