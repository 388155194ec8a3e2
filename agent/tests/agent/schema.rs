//! The JSON Schemas of policies and of the agent's configuration: each accepts what is accepted, names every field that there
//! is, and refuses others.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use portcullis::config::Config;
use portcullis::yaml::Source;
use portcullis_policy::Policy;
use serde_json::Value;
use serde_json::json;

fn schema() -> Value {
    printed("policy")
}

fn printed(of: &str) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis")).args([of, "schema"]).output();
    serde_json::from_slice(&output.expect("the program was built").stdout).expect("a schema is JSON")
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// As much of JSON Schema as the schema uses. An unknown keyword fails the test: nothing in the schema goes unasked.
struct Validator(Value);

impl Validator {
    fn errors(&self, schema: &Value, value: &Value, place: &str, errors: &mut Vec<String>) {
        let mut wrong = |why: String| errors.push(format!("{place}: {why}"));
        let schema = schema.as_object().expect("a schema is an object");
        for (keyword, wanted) in schema {
            match keyword.as_str() {
                "$schema" | "$id" | "$defs" | "title" | "description" | "default" | "examples" | "format" => {}
                "$ref" => {
                    let name = wanted.as_str().and_then(|text| text.strip_prefix("#")).expect("a local reference");
                    let target = self.0.pointer(name).unwrap_or_else(|| panic!("no {name}"));
                    let mut inner = Vec::new();
                    self.errors(target, value, place, &mut inner);
                    inner.into_iter().for_each(&mut wrong);
                }
                "type" => {
                    let is = |kind: &Value| match kind.as_str() {
                        Some("object") => value.is_object(),
                        Some("array") => value.is_array(),
                        Some("string") => value.is_string(),
                        Some("integer") => value.is_i64() || value.is_u64(),
                        Some("number") => value.is_number(),
                        Some("boolean") => value.is_boolean(),
                        kind => panic!("type {kind:?}"),
                    };
                    let any = wanted.as_array().map_or_else(|| is(wanted), |kinds| kinds.iter().any(is));
                    if !any {
                        wrong(format!("not a {wanted}"));
                    }
                }
                "const" if value != wanted => wrong(format!("not {wanted}")),
                "enum" if !wanted.as_array().expect("a list").contains(value) => wrong(format!("not one of {wanted}")),
                "const" | "enum" => {}
                "anyOf" | "oneOf" => {
                    let fits = |schema: &&Value| {
                        let mut inner = Vec::new();
                        self.errors(schema, value, place, &mut inner);
                        inner.is_empty()
                    };
                    let count = wanted.as_array().expect("a list").iter().filter(fits).count();
                    if count == 0 || (keyword == "oneOf" && count > 1) {
                        wrong(format!("{count} of {keyword} fit"));
                    }
                }
                "required" => {
                    for name in wanted.as_array().expect("a list").iter().filter_map(Value::as_str) {
                        if value.is_object() && value.get(name).is_none() {
                            wrong(format!("`{name}` is missing"));
                        }
                    }
                }
                "properties" | "additionalProperties" | "items" => {}
                "minItems" => {
                    if value.as_array().is_some_and(|list| (list.len() as u64) < wanted.as_u64().expect("a number")) {
                        wrong("too few items".to_owned());
                    }
                }
                "minProperties" | "maxProperties" => {
                    let limit = wanted.as_u64().expect("a number");
                    let count = value.as_object().map(|fields| fields.len() as u64);
                    if count.is_some_and(|count| if keyword == "minProperties" { count < limit } else { count > limit })
                    {
                        wrong(format!("{keyword} {limit}"));
                    }
                }
                "minimum" => {
                    if value.as_i64().is_some_and(|number| number < wanted.as_i64().expect("a number")) {
                        wrong(format!("less than {wanted}"));
                    }
                }
                // Patterns are for editors; the compiler of policies says what is wrong in its own words.
                "pattern" => {}
                keyword => panic!("the schema uses `{keyword}`, which this test does not know"),
            }
        }
        if let (Some(items), Some(list)) = (schema.get("items"), value.as_array()) {
            for (position, item) in list.iter().enumerate() {
                self.errors(items, item, &format!("{place}[{position}]"), errors);
            }
        }
        let (Some(fields), true) = (value.as_object(), schema.contains_key("additionalProperties")) else { return };
        for (name, field) in fields {
            let known = schema.get("properties").and_then(|properties| properties.get(name));
            match known.or_else(|| schema.get("additionalProperties")) {
                Some(Value::Bool(false)) => errors.push(format!("{place}: unknown field `{name}`")),
                Some(schema) => self.errors(schema, field, &format!("{place}.{name}"), errors),
                None => {}
            }
        }
    }

    /// Asserts that the schema has each field that `message`, about the unknown field `nope`, says there is; the schema's.
    fn assert_has_fields_of(&self, name: &str, pointer: &str, message: &str, refused: &[&str]) -> BTreeSet<&str> {
        let in_schema = self.0.pointer(pointer).unwrap_or_else(|| panic!("{name}: no {pointer}"));
        let in_schema: BTreeSet<&str> =
            in_schema["properties"].as_object().expect("it has properties").keys().map(String::as_str).collect();
        let (_, known) = message.split_once("unknown field ").unwrap_or_else(|| panic!("{name}: {message}"));
        let mut known = known.split('`').skip(1).step_by(2);
        assert_eq!(known.next(), Some("nope"), "{name}: {message}");
        for field in known {
            assert!(in_schema.contains(field) || refused.contains(&field), "{name}: the schema lacks `{field}`");
        }
        in_schema
    }

    fn validate(&self, value: &Value) -> Vec<String> {
        let mut errors = Vec::new();
        self.errors(&self.0, value, "", &mut errors);
        errors
    }
}

/// A name, a place in the schema, and a policy with a map in that place.
type Place = (&'static str, &'static str, fn(Value) -> Value);

/// Where fields can stand.
fn places() -> Vec<Place> {
    fn policy(field: &str, value: Value) -> Value {
        let mut policy = json!({"version": 1, "rules": []});
        policy[field] = value;
        policy
    }
    fn member(member: Value) -> Value {
        policy("roles", json!({"a": [member]}))
    }
    fn rule(field: &str, value: Value) -> Value {
        policy("rules", json!([{"id": "a", "allow": "any", field: value}]))
    }
    fn test(field: &str, value: Value) -> Value {
        policy(
            "tests",
            json!([{"name": "a", "peer": "none", "request": "GET /", "expect": {"allow": "a"}, field: value}]),
        )
    }
    vec![
        ("a policy", "", |map| {
            let mut policy = map;
            policy["version"] = json!(1);
            policy["rules"] = json!([]);
            policy
        }),
        ("records", "/properties/records", |map| policy("records", map)),
        ("drain", "/properties/drain", |map| policy("drain", map)),
        ("a distrust", "/properties/distrust/items", |map| policy("distrust", json!([map]))),
        ("revoked", "/properties/revoked", |map| policy("revoked", map)),
        ("revocations", "/properties/revocations", |map| policy("revocations", map)),
        ("a brake", "/properties/revocations/properties/brakes/items", |map| {
            policy("revocations", json!({"brakes": [map]}))
        }),
        ("a forwarder", "/properties/forwarders/items", |map| policy("forwarders", json!([map]))),
        ("a member", "/$defs/member", member),
        ("a member's not", "/$defs/member/properties/not", |map| member(json!({"not": map}))),
        ("a member's key", "/$defs/key", |map| member(json!({"key": map}))),
        ("a rule", "/$defs/rule", |map| {
            let mut rule = map;
            rule["id"] = json!("a");
            policy("rules", json!([rule]))
        }),
        ("a rule's not", "/$defs/rule/properties/not", |map| rule("not", map)),
        ("a rule's tls", "/$defs/rule/properties/tls", |map| rule("tls", map)),
        ("a window", "/$defs/window", |map| rule("times", json!([map]))),
        ("a test", "/$defs/test", |map| policy("tests", json!([map]))),
        ("a peer", "/$defs/peer/anyOf/1", |map| test("peer", map)),
        ("a peer's key", "/$defs/peer/anyOf/1/properties/key", |map| test("peer", json!({"key": map}))),
        ("who forwarded it", "/$defs/test/properties/forwarded_by", |map| test("forwarded_by", map)),
        ("a provider", "/$defs/provider", |map| policy("tokens", json!({"a": map}))),
        ("a provider's keys", "/$defs/provider/properties/jwks", |map| policy("tokens", json!({"a": {"jwks": map}}))),
        ("a member's token", "/$defs/member_token", |map| member(json!({"token": map}))),
        ("a test's token", "/$defs/test/properties/token", |map| test("token", map)),
        ("an anchor", "/properties/anchors/items", |map| policy("anchors", json!([map]))),
        ("a candidate", "/properties/candidate", |map| {
            let mut candidate = map;
            candidate["version"] = json!(1);
            candidate["rules"] = json!([]);
            policy("candidate", candidate)
        }),
        ("an expectation", "/$defs/test/properties/expect", |map| test("expect", map)),
    ]
}

/// Fields that the parser names and that are refused there by name.
const REFUSED: [(&str, &[&str]); 2] =
    [("a member's not", &["role", "token", "not"]), ("a forwarder", &["role", "token"])];

fn error(policy: &Value) -> String {
    Policy::from_json(policy.to_string().as_bytes()).err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn the_schema_has_every_field_and_no_other() {
    let validator = Validator(schema());
    for (name, pointer, policy) in places() {
        let refused = REFUSED.iter().find(|(place, _)| *place == name).map_or(&[][..], |(_, fields)| fields);
        let unknown = policy(json!({"nope": 1}));
        let in_schema = validator.assert_has_fields_of(name, pointer, &error(&unknown), refused);
        for field in &in_schema {
            let message = error(&policy(json!({*field: null})));
            assert!(!message.starts_with("unknown field"), "{name}: the schema has `{field}`: {message}");
            assert!(!refused.contains(field), "{name}: `{field}` is refused");
        }
        let errors = validator.validate(&unknown);
        assert!(errors.iter().any(|error| error.contains("`nope`") || error.contains("anyOf")), "{name}: {errors:?}");
    }
}

#[test]
fn the_schema_accepts_the_policies_that_are_shipped() {
    let validator = Validator(schema());
    for file in ["envoy-config/policy.yaml", "agent/src/cli/init/policy.yaml"] {
        let value = Source::read(&repository().join(file)).unwrap().value().unwrap();
        assert_eq!(validator.validate(&value), Vec::<String>::new(), "{file}");
    }
}

#[test]
fn the_schema_accepts_what_a_policy_is_rendered_to() {
    let validator = Validator(schema());
    let policy = json!({
        "version": 1, "trust_domain": "t", "normalize_path": true, "merge_slashes": true, "records": {"allow_every": 2},
        "drain": {"before": "5m"},
        "roles": {
            "a": [{"spiffe": "spiffe://t/{n}", "issuer": {"cn": "x", "key_id": "0a"}, "subject": {"ou": "y"}, "eku": ["client_auth"]}],
            "b": [{"role": "a", "dns": "*.t", "uri": "https://t/", "email": "a@t", "ip": "10.0.0.0/8", "serial": "01"}],
            "c": [{"sha256": "00".repeat(32), "spki_sha256": "00".repeat(32), "oid": ["1.2.3"], "max_lifetime": "24h",
                "key": {"type": "rsa", "min_bits": 2048}, "not": {"dns": "x.t"}}],
        },
        "rules": [
            {"id": "x", "allow": ["a", "b", "c"], "methods": ["GET"], "paths": ["/{n}/**"], "hosts": ["**.t"],
                "headers": {"x-a": ["b", "c"]}, "sources": ["10.0.0.0/8"], "sni": ["*.t"], "tls": {"min_version": "1.3"},
                "times": [{"from": "2026-01-01T00:00:00Z", "days": ["mon"], "hours": "08:00-18:00"}], "not": {"sources": ["10.1.0.0/16"]}},
            {"id": "y", "deny": "any", "paths": ["/y"]},
        ],
        "distrust": [{"issued_before": "2026-01-01T00:00:00Z", "issuer": {"o": "z"}}],
        "revoked": {"serials": ["01"], "sha256": ["00".repeat(32)], "spki_sha256": ["00".repeat(32)], "fresh_until": "2027-01-01T00:00:00Z"},
        "revocations": {"keys": "AAAAAAAAAAAAAAAAAAAAAA==", "brakes": [{"issuer_sha256": "00".repeat(32), "issued_before": "2026-01-01T00:00:00Z"}],
            "fresh_until": "2027-01-01T00:00:00Z", "when_stale": "allow"},
        "tests": [{"name": "n", "peer": {"spiffe": "spiffe://t/a", "dns": ["a.t"]}, "request": "GET /y", "expect": {"deny": "y"}}],
    });
    assert_eq!(validator.validate(&policy), Vec::<String>::new());
    let compiled =
        Policy::from_json(policy.to_string().as_bytes()).unwrap_or_else(|error| panic!("{}: {error}", error.path()));
    let rendered: Value = serde_json::from_str(&compiled.to_json()).unwrap();
    assert_eq!(validator.validate(&rendered), Vec::<String>::new());
}

#[test]
fn the_schema_says_what_is_wrong() {
    let validator = Validator(schema());
    let policy = |rule: Value| json!({"version": 1, "rules": [rule]});
    let cases = [
        ("two effects", policy(json!({"id": "a", "allow": "any", "deny": "any"}))),
        ("no effect", policy(json!({"id": "a"}))),
        ("no id", policy(json!({"allow": "any"}))),
        ("another word than any", policy(json!({"id": "a", "allow": "all"}))),
        ("an empty list", policy(json!({"id": "a", "allow": []}))),
        ("an emptied field", policy(json!({"id": "a", "allow": "any", "methods": null}))),
        ("another version", json!({"version": 2, "rules": []})),
        ("no rules", json!({"version": 1})),
    ];
    for (name, policy) in cases {
        assert!(!validator.validate(&policy).is_empty(), "{name}");
        assert!(!error(&policy).is_empty(), "{name}: the compiler takes it");
    }
}

#[test]
fn the_schema_that_is_printed_is_the_file_that_editors_are_pointed_at() {
    let file = fs::read_to_string(repository().join("policy/policy.schema.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&file).unwrap(), schema());
}

/// What is wrong with a configuration of the agent; empty if nothing is.
fn config_error(config: &Value) -> String {
    let file = Path::new("/portcullis.yaml");
    let parsed = Config::parse(file, &Source::new(file, config.to_string()));
    parsed.err().map(|error| error.to_string()).unwrap_or_default()
}

fn config() -> Value {
    json!({"version": 1, "ca": {"trust_domain": "t"}, "certificates": [{"name": "a", "dns": ["a.t"]}]})
}

#[test]
fn the_schema_of_the_configuration_has_every_field_and_no_other() {
    let validator = Validator(printed("config"));
    let places = [
        ("the file", "", ""),
        ("listen", "/properties/listen", "/listen"),
        ("a credential", "/$defs/credential", "/credentials/0"),
        ("its source", "/$defs/credential/properties/source", "/credentials/0/source"),
        ("a password", "/$defs/credential/properties/source/properties/password", "/credentials/0/source/password"),
        ("its files", "/$defs/credential/properties/files", "/credentials/0/files"),
        ("a file of it", "/$defs/credential/properties/files/properties/write/items", "/credentials/0/files/write/0"),
        ("its hook", "/$defs/credential/properties/hooks/items", "/credentials/0/hooks/0"),
        ("for proxies", "/$defs/credential/properties/sds", "/credentials/0/sds"),
        ("PostgreSQL", "/$defs/credential/properties/set_on/properties/postgres", "/credentials/0/set_on/postgres"),
        ("Redis", "/$defs/credential/properties/set_on/properties/redis", "/credentials/1/set_on/redis"),
        ("a program", "/$defs/credential/properties/set_on/properties/program", "/credentials/2/set_on/program"),
        ("a token", "/$defs/credential/properties/source/properties/token", "/credentials/1/source/token"),
        (
            "a signing key",
            "/$defs/credential/properties/source/properties/signing_key",
            "/credentials/2/source/signing_key",
        ),
        (
            "ticket keys",
            "/$defs/credential/properties/source/properties/session_ticket_keys",
            "/credentials/3/source/session_ticket_keys",
        ),
        (
            "a lent account",
            "/$defs/credential/properties/source/properties/openbao_database",
            "/credentials/4/source/openbao_database",
        ),
        (
            "a static role",
            "/$defs/credential/properties/source/properties/openbao_static",
            "/credentials/5/source/openbao_static",
        ),
        ("a pair", "/$defs/credential/properties/source/properties/openbao_kv", "/credentials/6/source/openbao_kv"),
        ("a server of tokens", "/$defs/credential/properties/source/properties/oauth", "/credentials/7/source/oauth"),
        (
            "a token for a token",
            "/$defs/credential/properties/source/properties/oauth/properties/token_exchange",
            "/credentials/7/source/oauth/token_exchange",
        ),
        ("the CA", "/properties/ca", "/ca"),
        ("an issuer", "/properties/issuers/items", "/issuers/0"),
        ("an ACME server", "/properties/issuers/items/properties/acme", "/issuers/3/acme"),
        (
            "an account from elsewhere",
            "/properties/issuers/items/properties/acme/properties/external_account",
            "/issuers/3/acme/external_account",
        ),
        ("OpenBao", "/properties/issuers/items/properties/openbao", "/issuers/0/openbao"),
        (
            "a login by AppRole",
            "/properties/issuers/items/properties/openbao/properties/login/properties/approle",
            "/issuers/1/openbao/login/approle",
        ),
        (
            "a login by certificate",
            "/properties/issuers/items/properties/openbao/properties/login/properties/certificate",
            "/issuers/2/openbao/login/certificate",
        ),
        (
            "a login by token",
            "/properties/issuers/items/properties/openbao/properties/login/properties/token",
            "/issuers/0/openbao/login/token",
        ),
        ("a directory", "/properties/issuers/items/properties/directory", "/issuers/4/directory"),
        ("a fallback", "/$defs/certificate/properties/fallback", "/certificates/0/fallback"),
        ("a certificate", "/$defs/certificate", "/certificates/0"),
        ("its files", "/$defs/certificate/properties/files", "/certificates/0/files"),
        ("a remedy", "/properties/remedies/items", "/remedies/0"),
        ("a hook", "/$defs/certificate/properties/hooks/items", "/certificates/0/hooks/0"),
        ("a reload", "/$defs/certificate/properties/reload", "/certificates/0/reload"),
        ("a listener", "/$defs/certificate/properties/served_at/items", "/certificates/0/served_at/0"),
        ("a bundle", "/properties/bundles/items", "/bundles/0"),
        ("revocation", "/properties/revocation", "/revocation"),
        ("a revocation list", "/properties/revocation/properties/lists/items", "/revocation/lists/0"),
        ("a window", "/$defs/period", "/renew_window/0"),
        ("a blackout of a certificate", "/$defs/period", "/certificates/0/blackout/0"),
        ("the filter", "/properties/filter", "/filter"),
        ("the proxy", "/properties/envoy", "/envoy"),
    ];
    for (name, pointer, place) in places {
        let with = |field: &str, value: Value| {
            let mut config = config();
            config["listen"] = json!({});
            config["bundles"] = json!([{"name": "b"}]);
            config["filter"] = json!({"name": "f", "wasm": "w"});
            config["envoy"] = json!({});
            config["renew_window"] = json!([{"cron": "* * * * *", "for": "1h"}]);
            config["certificates"][0]["blackout"] = json!([{"from": "2026-12-20", "to": "2026-12-21"}]);
            config["revocation"] = json!({"lists": [{"name": "l", "ca": "c", "file": "f"}]});
            let bao =
                |login: Value| json!({"name": "i", "openbao": {"address": "https://a", "role": "r", "login": login}});
            config["issuers"] = json!([
                bao(json!({"token": {"file": "f"}})),
                bao(json!({"approle": {"role_id": "r", "secret_id_file": "f"}})),
                bao(json!({"certificate": {"certificate": "c", "key": "k"}})),
                {"name": "i", "acme": {"directory": "d", "challenge": {"http01": "l"}, "external_account": {"key_id": "i", "key_file": "f"}}},
                {"name": "i", "directory": {"path": "p"}},
            ]);
            let login = json!({"token": {"file": "f"}});
            let pgpass = json!({"pgpass": {"host": "h"}});
            config["credentials"] = json!([
                {
                    "name": "c0", "source": {"password": {}}, "sds": {}, "hooks": [{"run": ["sh"]}],
                    "set_on": {"postgres": {"user": "u"}},
                    "files": {"directory": "d", "write": [{"name": "n", "as": pgpass}]},
                },
                {
                    "name": "c1", "set_on": {"redis": {}},
                    "source": {"token": {"signed_by": "k", "issuer": "i", "subject": "s", "audience": ["a"]}},
                },
                {"name": "c2", "source": {"signing_key": {}}, "set_on": {"program": {"run": ["sh"]}}},
                {"name": "c3", "source": {"session_ticket_keys": {}}},
                {"name": "c4", "source": {"openbao_database": {"address": "a", "role": "r", "login": login}}},
                {"name": "c5", "source": {"openbao_static": {"address": "a", "role": "r", "login": login}}},
                {"name": "c6", "source": {"openbao_kv": {"address": "a", "path": "p", "login": login}}},
                {"name": "c7", "source": {"oauth": {
                    "token_endpoint": "t", "client": {"client_secret_basic": {"id": "i", "secret_file": "f"}},
                    "token_exchange": {"subject_token_file": "f"},
                }}},
            ]);
            config["certificates"][0]["fallback"] = json!({"issuer": "built-in"});
            config["certificates"][0]["files"] = json!({"directory": "d"});
            config["remedies"] = json!([{"run": ["sh"]}]);
            config["certificates"][0]["hooks"] = json!([{"run": ["sh"]}]);
            config["certificates"][0]["reload"] = json!({"signal": "HUP", "pid_file": "p", "exe": "e"});
            config["certificates"][0]["served_at"] = json!([{"address": "a:1"}]);
            config.pointer_mut(place).unwrap_or_else(|| panic!("{name}: no {place}"))[field] = value;
            config
        };
        let unknown = with("nope", json!(1));
        for field in validator.assert_has_fields_of(name, pointer, &config_error(&unknown), &[]) {
            let message = config_error(&with(field, json!({"nope": 1})));
            assert!(!message.contains(&format!("unknown field `{field}`")), "{name}: {message}");
        }
        assert!(validator.validate(&unknown).iter().any(|error| error.contains("`nope`")), "{name}");
    }
}

#[test]
fn the_schema_of_the_configuration_accepts_the_files_that_are_shipped() {
    let validator = Validator(printed("config"));
    for file in [
        "envoy-config/portcullis.yaml",
        "agent/src/cli/init/portcullis.yaml",
        "examples/nginx/portcullis.yaml",
        "examples/haproxy/portcullis.yaml",
    ] {
        let value = Source::read(&repository().join(file)).unwrap().value().unwrap();
        assert_eq!(validator.validate(&value), Vec::<String>::new(), "{file}");
    }
    let file = fs::read_to_string(repository().join("agent/portcullis.schema.json")).unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&file).unwrap(),
        validator.0,
        "what is printed is what editors are pointed at"
    );
}

#[test]
fn the_schema_of_the_configuration_says_what_is_wrong() {
    let validator = Validator(printed("config"));
    assert_eq!((validator.validate(&config()), config_error(&config())), (vec![], String::new()));
    let cases = [
        ("another version", "/version", json!(2)),
        ("no names of certificates", "/certificates/0", json!({"dns": ["a.t"]})),
        ("a certificate that is none", "/certificates/0", json!("a")),
        ("a usage that there is not", "/certificates/0/usage", json!(["signing"])),
        ("a share that is text", "/certificates/0/renew_after", json!("0.5")),
        ("another CA", "/bundles", json!([{"name": "b", "ca": "acme"}])),
        ("no trust domain", "/ca", json!({})),
        ("a window without an end", "/certificates/0/renew_window", json!([{"cron": "* * * * *"}])),
        (
            "a window of both kinds",
            "/certificates/0/blackout",
            json!([{"cron": "* * * * *", "for": "1h", "from": "2026-12-20", "to": "2026-12-21"}]),
        ),
    ];
    for (name, place, value) in cases {
        let (parent, field) = place.rsplit_once('/').expect("a place has a parent");
        let mut config = config();
        match config.pointer_mut(parent).expect("it is there") {
            Value::Array(items) => items[field.parse::<usize>().expect("a position")] = value,
            parent => parent[field] = value,
        }
        assert!(!validator.validate(&config).is_empty(), "{name}");
        assert!(!config_error(&config).is_empty(), "{name}: the agent takes it");
    }
}
