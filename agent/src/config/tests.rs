use super::*;

const GOOD: &str = "\
version: 1
state_dir: state
policy: policy.yaml
listen: { xds: run/xds.sock, control: run/control.sock, metrics: 127.0.0.1:9464 }
ca: { trust_domain: acme.example, root_lifetime: 30d }
certificates:
  - name: gateway
    spiffe: spiffe://acme.example/gateway
    dns: [localhost]
    ip: [127.0.0.1]
    usage: [server]
    lifetime: 24h
    renew_after: 0.5
    files: { directory: files, keep: 2, mode: \"0640\" }
    served_at: [ { address: 127.0.0.1:10443, sni: localhost } ]
  - { name: client, spiffe: spiffe://acme.example/gateway, usage: [client] }
bundles:
  - { name: clients, ca: built-in }
filter: { name: portcullis, wasm: portcullis.wasm }
envoy: { admin: 127.0.0.1:9901 }
verify_every: 10s
";

fn parse(text: &str) -> Result<Config, Located> {
    let file = Path::new("/etc/portcullis/portcullis.yaml");
    Config::parse(file, &Source::new(file, text))
}

#[test]
fn a_good_file_is_read_with_paths_beside_it() {
    let config = parse(GOOD).expect("good");
    assert_eq!(config.state_dir, Path::new("/etc/portcullis/state"));
    assert_eq!(config.listen.xds, Path::new("/etc/portcullis/run/xds.sock"));
    assert_eq!(config.ca.root_lifetime, 30 * 86_400);
    assert_eq!(config.verify_every, Duration::from_secs(10));
    let gateway = config.certificate("gateway").expect("there");
    assert_eq!(gateway.lifetime, 86_400);
    let files = gateway.files.as_ref().expect("files");
    assert_eq!((files.keep, files.mode), (2, 0o640));
    let client = config.certificate("client").expect("there");
    assert_eq!((client.lifetime, client.renew_after), (86_400, Share::TWO_THIRDS));
}

#[test]
fn what_is_wrong_is_named_with_its_line_and_field() {
    let long = format!("xds: /{}/x.sock", "x".repeat(101));
    let cases = [
        ("unknown key", "    ip: [127.0.0.1]", "    ipp: [127.0.0.1]", "yaml:10:", "`ipp`"),
        ("unknown key at the top", "policy: policy.yaml", "polcy: policy.yaml", "yaml:3:", "did you mean `policy`"),
        ("another version", "version: 1", "version: 2", "yaml:1:", "version"),
        ("a lifetime that is too short", "lifetime: 24h", "lifetime: 59s", "yaml:12:", "certificates[0].lifetime"),
        ("a lifetime that is none", "lifetime: 24h", "lifetime: long", "yaml:12:", "24h"),
        ("a share of nothing", "renew_after: 0.5", "renew_after: 0", "yaml:13:", "renew_after"),
        ("a share of more than all", "renew_after: 0.5", "renew_after: 1.5", "yaml:13:", "less than 1"),
        ("a key for everybody", "mode: \"0640\"", "mode: \"0644\"", "yaml:14:", "0600"),
        ("a listener without a port", "address: 127.0.0.1:10443", "address: 127.0.0.1", "yaml:15:", "port"),
        ("a server name that is none", "sni: localhost", "sni: \"not a name\"", "yaml:15:", "served_at[0].sni"),
        ("an address as a server name", "sni: localhost", "sni: 127.0.0.1", "yaml:15:", "DNS name"),
        (
            "a host that is none",
            "address: 127.0.0.1:10443, sni: localhost",
            "address: \"a b:10443\"",
            "yaml:15:",
            "served_at[0].address",
        ),
        ("the same name twice", "name: client,", "name: gateway,", "yaml:16:", "certificates[0]"),
        ("a name with a slash", "name: client,", "name: a/b,", "yaml:16:", "letters"),
        (
            "another trust domain",
            "spiffe://acme.example/gateway, usage",
            "spiffe://evil.example/g, usage",
            "yaml:16:",
            "acme.example",
        ),
        ("metrics for everybody", "metrics: 127.0.0.1:9464", "metrics: 0.0.0.0:9464", "yaml:4:", "loopback"),
        ("a socket path that is too long", "xds: run/xds.sock", &long, "yaml:4:", "107"),
        ("one socket for two", "control: run/control.sock", "control: run/xds.sock", "yaml:4:", "its own"),
        ("an upper-case trust domain", "trust_domain: acme.example", "trust_domain: ACME", "yaml:5:", "lower-case"),
        ("a CA that is not there", "ca: built-in", "ca: other", "yaml:18:", "built-in"),
        ("a filter without a policy", "policy: policy.yaml\n", "", "yaml:18:", "policy.yaml"),
        ("listeners looked at too seldom", "verify_every: 10s", "verify_every: 1h", "yaml:21:", "30s"),
        ("a client that is served", "usage: [server]", "usage: [client]", "yaml:15:", "served_at"),
    ];
    for (name, old, new, place, word) in cases {
        let text = GOOD.replacen(old, new, 1);
        assert_ne!(text, GOOD, "{name}: the case changes something");
        let error = parse(&text).expect_err(name).to_string();
        assert!(error.contains(place) && error.contains(word), "{name}: {error}");
        assert!(!error.contains('\n'), "{name}: one line");
    }
}

#[test]
fn windows_are_those_of_all_unless_a_certificate_has_its_own() {
    let all = "renew_window: [{ cron: \"0 2 * * *\", for: 3h, zone: Europe/Berlin }]\n";
    let config = parse(&format!("{GOOD}{all}")).expect("good");
    let of = |config: &Config, name: &str| config.certificate(name).expect("there").calendar.clone();
    assert_eq!(of(&config, "gateway"), of(&config, "client"));
    assert!(Arc::ptr_eq(&of(&config, "gateway"), &of(&config, "client")), "found out once");
    assert!(!of(&config, "client").is_empty());
    let own = "usage: [client], renew_window: [] }";
    let config = parse(&format!("{}{all}", GOOD.replace("usage: [client] }", own))).expect("good");
    assert!(of(&config, "client").is_empty() && !of(&config, "gateway").is_empty());
}

#[test]
fn windows_that_are_none_or_too_few_are_refused() {
    let cases = [
        ("not a pattern", "renew_window: [{ cron: \"0 2 * *\", for: 3h }]", "yaml:22:", "five fields"),
        ("not a zone", "renew_window: [{ cron: \"0 2 * * *\", for: 3h, zone: Mars }]", "yaml:22:", "Europe/Berlin"),
        ("no end", "blackout: [{ from: 2026-12-20 }]", "yaml:22:", "`from` and `to`"),
        ("both", "blackout: [{ cron: \"0 2 * * *\", for: 3h, to: 2026-12-20 }]", "yaml:22:", "either"),
        ("turned around", "blackout: [{ from: 2026-12-20, to: 2026-12-19 }]", "yaml:22:", "is not after"),
        ("not a date", "blackout: [{ from: 2026-12-20, to: soon }]", "yaml:22:", "blackout[0].to"),
        ("an unknown key", "blackout: [{ form: 2026-12-20 }]", "yaml:22:", "form"),
        ("too seldom", "renew_window: [{ cron: \"0 2 * * 1\", for: 3h }]", "yaml:7:", "up to 6 d 21 h"),
        ("closed for too long", "blackout: [{ from: 2126-12-20, to: 2126-12-22 }]", "yaml:7:", "up to 2 d"),
        ("never", "renew_window: [{ from: 2020-12-20, to: 2020-12-22 }]", "yaml:7:", "no planned renewal may ever"),
    ];
    for (name, line, place, word) in cases {
        let error = parse(&format!("{GOOD}{line}\n")).expect_err(name).to_string();
        assert!(error.contains(place) && error.contains(word), "{name}: {error}");
        assert!(!error.contains('\n'), "{name}: one line");
    }
}

#[test]
fn a_policy_that_nothing_reads_is_remarked_on() {
    assert_eq!(parse(GOOD).expect("good").remarks, []);
    let text = GOOD.replace("filter: { name: portcullis, wasm: portcullis.wasm }\n", "");
    let remarks = parse(&text).expect("good").remarks;
    assert_eq!(remarks.len(), 1);
    let remark = remarks[0].to_string();
    assert!(remark.contains("yaml:3:") && remark.contains("no `filter`"), "{remark}");
}

#[test]
fn a_revocation_list_needs_an_authority_that_signs_lists() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("portcullis.yaml");
    let cases =
        [("no certificate", "nothing.pem", "cannot be read"), ("text", "portcullis.yaml", "is not one certificate")];
    for (name, ca, word) in cases {
        let list = format!("revocation:\n  lists:\n    - {{ name: corp, ca: {ca}, file: corp.crl }}\n");
        let text = format!("{GOOD}{list}");
        std::fs::write(&file, &text).expect("written");
        let error = Config::load(&file).expect_err(name).to_string();
        assert!(error.contains("revocation.lists[0].ca") && error.contains(word), "{name}: {error}");
    }
}

#[test]
fn a_revocation_list_is_in_a_file_or_behind_a_url() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("portcullis.yaml");
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pem = params.self_signed(&rcgen::KeyPair::generate().expect("a key")).expect("signed").pem();
    std::fs::write(directory.path().join("corp.pem"), pem).expect("written");
    let load = |source: &str| {
        let text = format!("{GOOD}revocation:\n  lists:\n    - {{ name: corp, ca: corp.pem{source} }}\n");
        std::fs::write(&file, &text).expect("written");
        Config::load(&file).map(|config| config.revocation.lists[0].source.to_string())
    };
    let path = directory.path().join("corp.crl").display().to_string();
    assert_eq!(load(", file: corp.crl").expect("a file"), path);
    for url in ["http://crl.acme.example/corp.crl", "https://crl.acme.example/corp.crl"] {
        assert_eq!(load(&format!(", url: \"{url}?token=1\"")).expect(url), url);
    }
    for (name, source, word) in [
        ("nowhere", "", "either a `file` or a `url`"),
        ("in two places", ", file: a, url: \"http://a.example/\"", "either a `file` or a `url`"),
        ("over LDAP", ", url: \"ldap://a.example/\"", "neither `http` nor `https`"),
        ("with a password", ", url: \"http://a:b@a.example/\"", "password"),
    ] {
        let error = load(source).expect_err(name).to_string();
        assert!(error.contains("portcullis.yaml:") && error.contains(word), "{name}: {error}");
    }
}

#[test]
fn a_bundle_may_trust_other_authorities_and_nobody_else() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("portcullis.yaml");
    let mut params = rcgen::CertificateParams::default();
    let sign = |params: &rcgen::CertificateParams| {
        params.self_signed(&rcgen::KeyPair::generate().expect("a key")).expect("signed").pem()
    };
    let leaf = sign(&params);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    let authorities = sign(&params) + &sign(&params);
    let load = |pem: &str| {
        std::fs::write(directory.path().join("corp.pem"), pem).expect("written");
        let text = GOOD.replace("ca: built-in }", "ca: built-in, also: [corp.pem] }");
        std::fs::write(&file, &text).expect("written");
        Config::load(&file).map(|config| config.bundles[0].also.len())
    };
    assert_eq!(load(&authorities).expect("two authorities"), 2);
    let torn = format!("{authorities}-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n");
    let junk = format!("{authorities}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    for (name, pem, word) in [
        ("nothing", String::new(), "no certificates"),
        ("a leaf", leaf.clone(), "no authority's, its 1. one"),
        ("a leaf among others", format!("{authorities}{leaf}"), "no authority's, its 3. one"),
        ("no PEM among others", torn, "as its 3. one"),
        ("no certificate among others", junk, "unreadable, its 3. one"),
    ] {
        let error = load(&pem).expect_err(name).to_string();
        assert!(error.contains("bundles[0].also[0]") && error.contains(word), "{name}: {error}");
    }
}

#[test]
fn an_issuer_is_named_and_asked_in_one_way() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("portcullis.yaml");
    let root = rcgen::CertificateParams::default();
    let root = root.self_signed(&rcgen::KeyPair::generate().expect("a key")).expect("signed").pem();
    std::fs::write(directory.path().join("roots.pem"), root).expect("written");
    let issuers = "issuers:
  - name: bao
    roots: roots.pem
    openbao: { address: \"https://bao.acme.example:8200\", role: gateway, login: { token: { file: token } } }
certificates:";
    let asks = "- name: gateway\n    issuer: bao\n    fallback: { issuer: built-in }";
    let good = GOOD.replace("certificates:", issuers).replace("- name: gateway", asks);
    let load = |text: &str| {
        std::fs::write(&file, text).expect("written");
        Config::load(&file)
    };
    let config = load(&good).expect("good");
    let gateway = config.certificate("gateway").expect("there");
    let fallback = gateway.fallback.as_ref().expect("a fallback");
    assert_eq!((gateway.issuer.as_str(), fallback.issuer.as_str()), ("bao", "built-in"));
    assert_eq!(config.certificate("client").expect("there").issuer, "built-in");
    let IssuerKind::OpenBao(settings) = &config.issuers[0].kind else { panic!("{:?}", config.issuers[0]) };
    assert_eq!((settings.mount.as_str(), settings.role.as_str()), ("pki", "gateway"));
    for (name, from, to, place) in [
        ("a name that is taken", "- name: bao", "- name: built-in", "issuers[0].name"),
        ("a server that anybody can play", "https://bao", "http://bao", "issuers[0].openbao.address"),
        ("a role that leaves the engine", "role: gateway", "role: ../sys", "issuers[0].openbao.role"),
        ("roots that are not there", "roots.pem", "nowhere.pem", "issuers[0].roots"),
        ("an issuer that there is not", "issuer: bao", "issuer: acme", "certificates[0].issuer"),
        ("a fallback to itself", "issuer: built-in }", "issuer: bao }", "certificates[0].fallback.issuer"),
        (
            "all of the lifetime",
            "issuer: built-in }",
            "issuer: built-in, below: 1.0 }",
            "certificates[0].fallback.below",
        ),
    ] {
        let error = load(&good.replacen(from, to, 1)).expect_err(name).to_string();
        assert!(error.contains(place), "{name}: {error}");
    }
}

#[test]
fn a_directory_is_an_issuer_whose_certificates_are_late_later() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("portcullis.yaml");
    let root = rcgen::CertificateParams::default();
    let root = root.self_signed(&rcgen::KeyPair::generate().expect("a key")).expect("signed").pem();
    std::fs::write(directory.path().join("roots.pem"), root).expect("written");
    let load = |settings: &str| {
        let issuers =
            format!("issuers:\n  - {{ name: live, roots: roots.pem, directory: {{ {settings} }} }}\ncertificates:");
        let text = GOOD.replace("certificates:", &issuers).replace("    renew_after: 0.5\n", "    issuer: live\n");
        std::fs::write(&file, text).expect("written");
        Config::load(&file)
    };
    let config = load("path: live").expect("good");
    let IssuerKind::Directory(settings) = &config.issuers[0].kind else { panic!("{:?}", config.issuers[0]) };
    assert_eq!((settings.path.clone(), settings.files.is_none()), (directory.path().join("live"), true));
    let shares = config.certificates.iter().map(|certificate| certificate.renew_after).collect::<Vec<_>>();
    assert_eq!(shares[..2], [Share::FOUR_FIFTHS, Share::TWO_THIRDS]);
    let error = load("path: live, key: own.key").expect_err("one of two").to_string();
    assert!(error.contains("issuers[0].directory") && error.contains("both files"), "{error}");
}

#[test]
fn a_missing_file_says_how_to_get_one() {
    let error = Config::load(Path::new("/nowhere/portcullis.yaml")).expect_err("missing");
    assert!(error.to_string().contains("portcullis init"), "{error}");
}

#[test]
fn durations_are_a_number_and_a_unit() {
    for (text, want) in [("30s", Some(30)), ("5m", Some(300)), ("24h", Some(86_400)), ("7d", Some(604_800))] {
        assert_eq!(parse_duration(text), want, "{text}");
    }
    for bad in ["", "s", "1", "-1s", "+1s", "1 s", "1.5h", "1w", "99999999999999999999d", "9223372036854775807d", "1é"]
    {
        assert_eq!(parse_duration(bad), None, "{bad}");
    }
}

#[test]
fn a_name_outside_of_the_constraints_is_refused_at_its_field() {
    let with = |constraints: &str| GOOD.replace("root_lifetime: 30d", &format!("root_lifetime: 30d, {constraints}"));
    let good = "name_constraints: { dns: [acme.example, localhost], ip: [127.0.0.0/8, \"::1/128\"] }";
    let config = parse(&with(good)).expect("inside");
    assert_eq!(config.ca.constraints.describe(), "`acme.example`, `localhost`, `127.0.0.0/8`, `::1/128`");
    for (constraints, field, word) in [
        ("name_constraints: { dns: [other.example] }", "certificates[0].dns", "outside of `ca.name_constraints`"),
        ("name_constraints: { dns: [.acme.example] }", "ca.name_constraints.dns[0]", "not a domain"),
        ("name_constraints: { ip: [127.0.0.1/8] }", "ca.name_constraints.ip[0]", "not a network"),
        ("name_constraints: { uri: [acme.example] }", "ca.name_constraints", "uri"),
    ] {
        let error = parse(&with(constraints)).expect_err(constraints).to_string();
        assert!(error.contains(field) && error.contains(word), "{constraints}: {error}");
    }
}
