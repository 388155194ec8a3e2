use std::path::Path;

use super::*;

const FILE: &str = "/etc/portcullis/portcullis.yaml";

#[derive(Deserialize)]
struct Ends {
    source: Option<Source>,
    set_on: Option<Target>,
}

fn parse(text: &str) -> Result<(Option<source::Settings>, Option<target::Target>), String> {
    let file = Path::new(FILE);
    let source = crate::yaml::Source::new(file, text);
    let check = Check { source: &source, file, base: file.parent().expect("a directory") };
    let shown = |error: Located| error.to_string();
    let raw: Ends = serde_path_to_error::deserialize(source.value().map_err(shown)?)
        .map_err(|error| shown(source.error_at(&error.path().to_string(), &error.inner().to_string())))?;
    let source = raw.source.map(|raw| check.credential_source(raw, "source")).transpose().map_err(shown)?;
    let target = raw.set_on.map(|raw| check.credential_target(raw, "set_on")).transpose().map_err(shown)?;
    Ok((source, target))
}

fn target(text: &str) -> target::Target {
    parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).1.expect("a target")
}

fn source(text: &str) -> source::Settings {
    parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).0.expect("a source")
}

#[test]
fn targets_are_read_with_what_they_need() {
    let place = |text: &str| match target(text) {
        target::Target::Postgres(postgres) => postgres.place,
        target::Target::Redis(redis) => redis.place,
        other => panic!("{other:?}"),
    };
    let tcp = |host: &str, port, verify: Option<Verify>| Place::Tcp {
        host: host.to_owned(),
        port,
        tls: verify.map(|verify| Tls { roots: None, verify, client: None }),
    };
    for (text, want) in [
        (
            "set_on: { postgres: { address: db.acme.example, user: a } }",
            tcp("db.acme.example", 5432, Some(Verify::Full)),
        ),
        ("set_on: { postgres: { address: \"db:1\", user: a } }", tcp("db", 1, Some(Verify::Full))),
        ("set_on: { postgres: { address: \"127.0.0.1:1\", user: a } }", tcp("127.0.0.1", 1, None)),
        ("set_on: { postgres: { address: \"[::1]\", tls: plain, user: a } }", tcp("::1", 5432, None)),
        (
            "set_on: { postgres: { address: localhost, tls: verify_full, user: a } }",
            tcp("localhost", 5432, Some(Verify::Full)),
        ),
        ("set_on: { postgres: { socket: run/s, user: a } }", Place::Unix("/etc/portcullis/run/s".into())),
        ("set_on: { redis: { address: cache } }", tcp("cache", 6379, Some(Verify::Full))),
        ("set_on: { redis: { socket: /run/redis.sock } }", Place::Unix("/run/redis.sock".into())),
    ] {
        assert_eq!(place(text), want, "{text}");
    }
    let text = "set_on: { redis: { address: localhost, password_file: p, persist: nowhere, timeout: 3s } }";
    let target::Target::Redis(redis) = target(text) else { panic!("{text}") };
    assert_eq!((redis.user.as_str(), redis.persist), ("default", Persist::Nowhere));
    assert_eq!((redis.password, redis.timeout), (Some("/etc/portcullis/p".into()), Duration::from_secs(3)));
    let text = "set_on: { program: { run: [/usr/bin/set, --it], keeps_two: true } }";
    let target::Target::Program(program) = target(text) else { panic!("{text}") };
    assert!(program.keeps_two);
    assert_eq!((program.run.program, program.run.arguments), ("/usr/bin/set".into(), vec!["--it".to_owned()]));
}

#[test]
fn sources_are_read_with_what_they_need() {
    let login = "login: { token: { file: token } }";
    let bao = format!("address: \"https://bao:8200\", {login}");
    let source::Settings::OpenbaoDatabase(role) =
        source(&format!("source: {{ openbao_database: {{ {bao}, role: r }} }}"))
    else {
        panic!("another source")
    };
    assert_eq!((role.mount.as_str(), role.name.as_str()), ("database", "r"));
    let kv = |more: &str| match source(&format!("source: {{ openbao_kv: {{ {bao}, path: a/b{more} }} }}")) {
        source::Settings::OpenbaoKv(_, field) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(kv(""), Field::Everything);
    assert_eq!(kv(", field: x"), Field::One { secret: "x".to_owned(), account: None });
    let text = "source: { oauth: { token_endpoint: \"https://as/token\", scope: a b, audience: [x],
        client: { private_key_jwt: { id: shop, key: key.pem } },
        token_exchange: { subject_token_file: /run/token } } }";
    let source::Settings::Oauth(oauth) = source(text) else { panic!("another source") };
    let key = "/etc/portcullis/key.pem".into();
    assert_eq!(oauth.client, ClientAuth::Jwt { id: "shop".to_owned(), key, key_id: None, audience: None });
    assert!(
        matches!(oauth.grant, Grant::TokenExchange { subject_token_type, .. } if subject_token_type.ends_with(":jwt"))
    );
}

#[test]
fn what_is_wrong_is_named_with_its_line_and_field() {
    let bao = "address: \"https://bao:8200\", login: { token: { file: t } }";
    let client = "client: { client_secret_post: { id: a, secret_file: s } }";
    for (name, text, words) in [
        ("an unknown key", "set_on: { postgres: { adress: x, user: a } }".to_owned(), "adress"),
        ("an unknown target", "set_on: { oracle: {} }".to_owned(), "oracle"),
        ("nowhere", "set_on: { postgres: { user: a } }".to_owned(), "`address` or a `socket`"),
        ("two places", "set_on: { redis: { address: a, socket: b } }".to_owned(), "`address` or a `socket`"),
        ("plain to elsewhere", "set_on: { redis: { address: a, tls: plain } }".to_owned(), "loopback"),
        ("no authority", "set_on: { redis: { address: a, tls: require } }".to_owned(), "server_ca"),
        ("tls on a socket", "set_on: { redis: { socket: a, tls: verify_full } }".to_owned(), "Unix socket"),
        ("half a pair", "set_on: { redis: { address: a, client_key: k } }".to_owned(), "client_certificate"),
        ("no port", "set_on: { redis: { address: \"a:b\" } }".to_owned(), "set_on.redis.address"),
        ("no time", "set_on: { redis: { address: a, timeout: 0s } }".to_owned(), "set_on.redis.timeout"),
        ("no such file", "set_on: { redis: { address: a, server_ca: /nowhere } }".to_owned(), "set_on.redis.server_ca"),
        ("nothing to run", "set_on: { program: { run: [] } }".to_owned(), "set_on.program.run"),
        ("a path out", format!("source: {{ openbao_kv: {{ {bao}, path: ../x }} }}"), "source.openbao_kv.path"),
        ("an account alone", format!("source: {{ openbao_kv: {{ {bao}, path: x, account_field: a }} }}"), "`field`"),
        (
            "plain http",
            format!("source: {{ oauth: {{ token_endpoint: \"http://as/token\", {client} }} }}"),
            "source.oauth.token_endpoint",
        ),
        (
            "a certificate and no tls",
            "source: { oauth: { token_endpoint: \"http://localhost/t\", client: { tls_client_auth: { id: a, certificate: c, key: k } } } }"
                .to_owned(),
            "`https`",
        ),
    ] {
        let error = parse(&text).expect_err(name);
        assert!(error.contains(words), "{name}: {error}");
        assert!(error.contains("portcullis.yaml:1:"), "{name}: {error}");
    }
}
