//! The rows: who may do what, forms of paths, hosts, methods and header fields, kinds of names, states of certificates.

use portcullis_policy::Reason;
use portcullis_policy::Reason::*;

use super::InEnvoy;
use super::InEnvoy::*;
use super::Policy;
use super::Row;
use super::Verdict;

const HOST: &[u8] = b"orders.acme.example";

/// All rows.
pub(super) fn all() -> Vec<Row> {
    let mut rows = Vec::new();
    rows.extend(permissions());
    rows.extend(paths());
    rows.extend(normalized_paths());
    rows.extend(hosts());
    rows.extend(methods());
    rows.extend(header_fields());
    rows.extend(conditions());
    rows.extend(names());
    rows.extend(states());
    rows.extend(order_of_checks());
    rows
}

fn row(name: impl Into<String>, peer: &'static str, method: &str, path: impl AsRef<[u8]>, expected: Verdict) -> Row {
    Row {
        name: name.into(),
        policy: Policy::Orders,
        peer,
        method: method.as_bytes().to_vec(),
        authority: Some(HOST.to_vec()),
        path: Some(path.as_ref().to_vec()),
        headers: Vec::new(),
        expected,
        envoy: Same,
    }
}

fn deny(reason: Reason) -> Verdict {
    Verdict::deny(reason)
}

/// Every kind of caller at every kind of door.
fn permissions() -> Vec<Row> {
    const CALLERS: [&str; 5] = ["checkout", "cart", "dns reader", "payments", "nobody"];
    // A name is the rule that allows, `!name` the rule that denies, `-` no rule, which is 401 for nobody.
    let doors: [(&str, &str, [&str; 5]); 18] = [
        ("GET", "/orders/42", ["read-orders", "read-orders", "read-orders", "-", "-"]),
        ("HEAD", "/orders/42", ["read-orders", "read-orders", "read-orders", "-", "-"]),
        ("GET", "/orders/42/items", ["read-orders", "read-orders", "read-orders", "-", "-"]),
        ("GET", "/orders/42/items/7/x", ["read-orders", "read-orders", "read-orders", "-", "-"]),
        ("DELETE", "/orders/42", ["-", "-", "-", "-", "-"]),
        ("POST", "/orders", ["write-orders", "-", "-", "-", "-"]),
        ("GET", "/orders", ["-", "-", "-", "-", "-"]),
        ("GET", "/orders/42/other", ["-", "-", "-", "-", "-"]),
        ("GET", "/tenants/shop/a", ["-", "own-tenant", "-", "-", "-"]),
        ("PUT", "/tenants/pay", ["own-tenant", "-", "-", "-", "-"]),
        ("GET", "/named", ["named-only", "named-only", "named-only", "named-only", "-"]),
        ("GET", "/kind", ["-", "-", "-", "by-kind", "-"]),
        ("GET", "/healthz", ["health", "health", "health", "health", "health"]),
        ("POST", "/healthz", ["-", "-", "-", "-", "-"]),
        ("GET", "/files/a/b", ["everything", "-", "-", "-", "-"]),
        ("GET", "/files/secret/a", ["!no-secrets", "-", "-", "-", "-"]),
        ("GET", "/debug/x", ["!no-debug", "!no-debug", "!no-debug", "!no-debug", "!no-debug"]),
        ("GET", "/", ["-", "-", "-", "-", "-"]),
    ];
    let mut rows = Vec::new();
    for (method, path, verdicts) in doors {
        for (peer, verdict) in CALLERS.into_iter().zip(verdicts) {
            let expected = match (verdict, peer) {
                ("-", "nobody") => deny(NoCertificate),
                ("-", _) => deny(NoRuleMatched),
                (rule, _) => rule.strip_prefix('!').map_or_else(|| Verdict::allow(rule), Verdict::denied_by),
            };
            let envoy = if peer == "nobody" { NoHandshake } else { Same };
            rows.push(row(format!("{peer}: {method} {path}"), peer, method, path, expected).envoy(envoy));
        }
    }
    rows
}

/// Every form of a path that a back end could read in another way, aimed at something that is allowed.
fn paths() -> Vec<Row> {
    let read = || Verdict::allow("read-orders");
    let files = || Verdict::allow("everything");
    let long = |length: usize| [b"/files/".to_vec(), vec![b'a'; length]].concat();
    let refused: InEnvoy = Refuses(&[400]);
    let cases: Vec<(&str, Vec<u8>, Verdict, InEnvoy)> = vec![
        ("query", b"/orders/42?a=b&c=/../d%2f".to_vec(), read(), Same),
        ("empty query", b"/orders/42?".to_vec(), read(), Same),
        ("two question marks", b"/orders/42?a?b".to_vec(), read(), Same),
        ("percent-encoded letter", b"/orders/%34%32".to_vec(), read(), Same),
        ("percent-encoded literal", b"/%6frders/42".to_vec(), read(), Same),
        ("percent-encoded space", b"/a%20b/c".to_vec(), Verdict::allow("literal"), Same),
        ("percent-encoded UTF-8", b"/orders/b%C3%BCcher".to_vec(), read(), Same),
        ("percent sign", b"/orders/100%25".to_vec(), read(), Same),
        ("sub-delimiters", b"/orders/a-._~!$&'()*+,=:@".to_vec(), read(), Same),
        ("three dots", b"/orders/...".to_vec(), read(), Same),
        ("metacharacters are literals", b"/v1.0/status+(all)".to_vec(), Verdict::allow("literal"), Same),
        ("a dot is no wildcard", b"/v1x0/status+(all)".to_vec(), deny(NoRuleMatched), Same),
        ("a plus is no repetition", b"/v1.0/statuss(all)".to_vec(), deny(NoRuleMatched), Same),
        ("a pattern is no path", b"/orders/{id}/x".to_vec(), deny(NoRuleMatched), Same),
        ("case differs", b"/Orders/42".to_vec(), deny(NoRuleMatched), Same),
        ("trailing slash", b"/orders/42/".to_vec(), deny(NoRuleMatched), Same),
        ("nothing where a segment must be", b"/orders/".to_vec(), deny(NoRuleMatched), Same),
        ("wildcard matches nothing too", b"/files".to_vec(), files(), Same),
        ("wildcard matches an empty segment", b"/files/".to_vec(), files(), Same),
        ("wildcard stays behind its slash", b"/filesystem".to_vec(), deny(NoRuleMatched), Same),
        ("8 KiB", long(8 * 1024 - 7), files(), Same),
        ("one byte more than 8 KiB", long(8 * 1024 - 6), deny(PathTooLong), Same),
        ("60 KB", long(60_000), deny(PathTooLong), Same),
        ("long query", [b"/files/a?".to_vec(), vec![b'q'; 20_000]].concat(), files(), Same),
        ("two slashes in front", b"//orders/42".to_vec(), deny(PathEmptySegment), Same),
        ("two slashes inside", b"/orders//42".to_vec(), deny(PathEmptySegment), Same),
        ("two slashes at the end", b"/orders/42//".to_vec(), deny(PathEmptySegment), Same),
        ("dot segment", b"/orders/./42".to_vec(), deny(PathDotSegment), Same),
        ("two dots", b"/files/../orders/42".to_vec(), deny(PathDotSegment), Same),
        ("two dots at the end", b"/files/..".to_vec(), deny(PathDotSegment), Same),
        ("escaped dots", b"/files/%2e%2e/orders/42".to_vec(), deny(PathDotSegment), Same),
        ("half escaped dots", b"/files/.%2E/orders/42".to_vec(), deny(PathDotSegment), Same),
        ("escaped slash", b"/files%2fsecret".to_vec(), deny(PathEscapedSeparator), Same),
        ("escaped slash in upper case", b"/files/..%2Fsecret".to_vec(), deny(PathEscapedSeparator), Same),
        ("escaped backslash", b"/files/%5csecret".to_vec(), deny(PathEscapedSeparator), Same),
        ("escaped NUL", b"/files/a%00.html".to_vec(), deny(PathEscapedSeparator), Same),
        ("backslash", b"/files\\..\\debug".to_vec(), deny(PathInvalidCharacter), Same),
        ("fragment", b"/files/a#b".to_vec(), deny(PathInvalidCharacter), refused.clone()),
        ("fragment in the query", b"/files/a?b#c".to_vec(), deny(PathInvalidCharacter), refused.clone()),
        ("space", b"/files/a b".to_vec(), deny(PathInvalidCharacter), refused.clone()),
        ("tab", b"/files/a\tb".to_vec(), deny(PathInvalidCharacter), refused.clone()),
        ("escaped control character beyond ASCII", b"/files/a%C2%85".to_vec(), deny(PathInvalidCharacter), Same),
        ("delete", b"/files/a\x7f".to_vec(), deny(PathInvalidCharacter), refused.clone()),
        ("raw UTF-8", "/files/b\u{fc}cher".as_bytes().to_vec(), deny(PathInvalidCharacter), refused.clone()),
        ("raw bytes", b"/files/\xff\xfe".to_vec(), deny(PathInvalidCharacter), refused.clone()),
        ("raw bytes in the query", b"/files/a?\xff".to_vec(), deny(PathInvalidCharacter), refused.clone()),
        ("escaped line feed", b"/files/a%0aX:%20y".to_vec(), deny(PathInvalidCharacter), Same),
        ("escaped delete", b"/files/a%7f".to_vec(), deny(PathInvalidCharacter), Same),
        ("parameter", b"/files/a;b=c".to_vec(), deny(PathParameter), Same),
        ("dots with a parameter", b"/files/..;/debug".to_vec(), deny(PathParameter), Same),
        ("escaped parameter", b"/files/..%3b/debug".to_vec(), deny(PathParameter), Same),
        ("lone percent sign", b"/files/a%".to_vec(), deny(PathBadEscape), Same),
        ("one digit", b"/files/a%2".to_vec(), deny(PathBadEscape), Same),
        ("no digits", b"/files/%zz".to_vec(), deny(PathBadEscape), Same),
        ("escape of IIS", b"/files/%u002f".to_vec(), deny(PathBadEscape), Same),
        ("escaped slash, escaped", b"/files/%252fdebug".to_vec(), deny(PathDoubleEncoding), Same),
        ("escaped dots, escaped", b"/files/%252e%252e/debug".to_vec(), deny(PathDoubleEncoding), Same),
        ("escapes of an escape", b"/files/%25%32%66".to_vec(), deny(PathDoubleEncoding), Same),
        ("overlong slash", b"/files%c0%afdebug".to_vec(), deny(PathNotUtf8), Same),
        ("overlong dots", b"/files/%c0%ae%c0%ae/debug".to_vec(), deny(PathNotUtf8), Same),
        ("escaped Latin-1", b"/files/b%fccher".to_vec(), deny(PathNotUtf8), Same),
        ("no slash in front", b"files/a".to_vec(), deny(PathNotAbsolute), refused.clone()),
        ("absolute form", b"https://orders.acme.example/orders/42".to_vec(), deny(PathNotAbsolute), Refuses(&[404])),
        ("asterisk", b"*".to_vec(), deny(PathNotAbsolute), Refuses(&[404])),
        ("empty", Vec::new(), deny(PathMissing), refused),
        ("denied path, escaped letter", b"/%64ebug/x".to_vec(), Verdict::denied_by("no-debug"), Same),
        ("denied path, alone", b"/debug".to_vec(), Verdict::denied_by("no-debug"), Same),
        ("denied path, trailing slash", b"/debug/".to_vec(), Verdict::denied_by("no-debug"), Same),
        ("denied path, longer segment", b"/debugger".to_vec(), deny(NoRuleMatched), Same),
    ];
    let mut rows: Vec<Row> = cases
        .into_iter()
        .map(|(name, path, expected, envoy)| {
            row(format!("path: {name}"), "checkout", "GET", path, expected).envoy(envoy)
        })
        .collect();
    let mut connect = row("path: missing", "checkout", "CONNECT", "", deny(PathMissing));
    connect.path = None;
    connect.authority = Some(b"orders.acme.example:443".to_vec());
    rows.push(connect);
    rows
}

/// The same forms under a policy that says that the proxy normalises.
fn normalized_paths() -> Vec<Row> {
    let cases = [
        ("dot segment", "/orders/./42", Verdict::allow("read-orders")),
        ("two dots", "/files/../orders/42", Verdict::allow("read-orders")),
        ("two dots towards what is denied", "/files/../debug/x", Verdict::denied_by("no-debug")),
        ("escaped dots towards what is denied", "/files/%2e%2e/debug", Verdict::denied_by("no-debug")),
        ("dots beyond the root", "/../../debug", Verdict::denied_by("no-debug")),
        ("two slashes", "//debug//x", Verdict::denied_by("no-debug")),
        ("two slashes inside", "/orders//42", Verdict::allow("read-orders")),
        ("escaped slash stays refused", "/files%2f..%2fdebug", deny(PathEscapedSeparator)),
        ("parameter stays refused", "/files/x;v=1/debug", deny(PathParameter)),
        ("double encoding stays refused", "/files/%252e%252e/debug", deny(PathDoubleEncoding)),
    ];
    let normalized = |(name, path, expected)| {
        row(format!("normalising: {name}"), "checkout", "GET", path, expected).policy(Policy::Normalizing)
    };
    let mut rows: Vec<Row> = cases.into_iter().map(normalized).collect();
    // Envoy takes `..;` for `..`, as some back ends do.
    let dots = normalized(("dots with a parameter", "/files/..;/debug", deny(PathParameter)));
    rows.push(dots.envoy(Rewrites(Verdict::denied_by("no-debug"))));
    rows
}

fn hosts() -> Vec<Row> {
    let admin = || Verdict::allow("admin");
    let other = || deny(NoRuleMatched);
    let refused: InEnvoy = Refuses(&[400]);
    let cases: Vec<(&str, Option<&[u8]>, Verdict, InEnvoy)> = vec![
        ("the one that is meant", Some(b"admin.acme.example"), admin(), Same),
        ("upper case", Some(b"Admin.ACME.Example"), admin(), Same),
        ("trailing dot", Some(b"admin.acme.example."), admin(), Same),
        ("port", Some(b"admin.acme.example:8443"), admin(), Same),
        ("trailing dot and port", Some(b"admin.acme.example.:443"), admin(), Same),
        ("wildcard", Some(b"eu.admin.acme.example"), admin(), Same),
        ("wildcard is one label", Some(b"a.eu.admin.acme.example"), other(), Same),
        ("another", Some(b"orders.acme.example"), other(), Same),
        ("as a prefix", Some(b"admin.acme.example.evil.example"), other(), Same),
        ("as a suffix", Some(b"evil-admin.acme.example"), other(), Same),
        ("address", Some(b"127.0.0.1:10443"), other(), Same),
        ("IPv6", Some(b"[::1]:443"), other(), Same),
        ("two trailing dots", Some(b"admin.acme.example.."), deny(HostInvalid), Same),
        ("empty label", Some(b"admin..acme.example"), deny(HostInvalid), Same),
        ("user", Some(b"admin@admin.acme.example"), deny(HostInvalid), Same),
        ("comma", Some(b"admin.acme.example,evil.example"), deny(HostInvalid), Same),
        ("slash", Some(b"admin.acme.example/x"), deny(HostInvalid), refused.clone()),
        ("escape", Some(b"admin%2eacme.example"), deny(HostInvalid), Same),
        ("raw UTF-8", Some("b\u{fc}cher.example".as_bytes()), deny(HostInvalid), refused.clone()),
        ("port that is none", Some(b"admin.acme.example:http"), deny(HostInvalid), Same),
        ("empty", Some(b""), deny(HostInvalid), Same),
        ("missing", None, other(), refused),
    ];
    let mut rows: Vec<Row> = cases
        .into_iter()
        .map(|(name, authority, expected, envoy)| {
            row(format!("host: {name}"), "checkout", "GET", "/console/a", expected).authority(authority).envoy(envoy)
        })
        .collect();
    for (name, host, expected) in [
        ("one or more labels: one", &b"a.any.acme.example"[..], Verdict::allow("anywhere")),
        ("one or more labels: three", b"a.b.c.any.acme.example", Verdict::allow("anywhere")),
        ("one or more labels: none", b"any.acme.example", other()),
    ] {
        rows.push(row(format!("host: {name}"), "checkout", "GET", "/anywhere", expected).authority(Some(host)));
    }
    let ambiguous = |name: &str| row(format!("host: {name}"), "checkout", "GET", "/orders/1", deny(HostAmbiguous));
    rows.push(ambiguous("Host says another").header("host", "evil.example").envoy(Unsayable));
    rows.push(
        row("host: Host alone", "checkout", "GET", "/console/a", admin())
            .authority(None)
            .header("host", "admin.acme.example"),
    );
    rows.push(
        row("host: two Hosts", "checkout", "GET", "/orders/1", deny(HeaderDuplicated))
            .authority(None)
            .header("host", "orders.acme.example")
            .header("host", "orders.acme.example")
            // Envoy joins the two with a comma.
            .envoy(Rewrites(deny(HostInvalid))),
    );
    rows
}

fn methods() -> Vec<Row> {
    let cases = [
        ("lower case", "get", "/orders/1", deny(MethodInvalid), Refuses(&[400])),
        ("unknown", "FROBNICATE", "/orders/1", deny(NoRuleMatched), Refuses(&[400])),
        ("unknown where every method may", "PURGE", "/tenants/pay/1", Verdict::allow("own-tenant"), Same),
        ("preflight", "OPTIONS", "/orders/1", deny(NoRuleMatched), Same),
        ("options that a rule names", "OPTIONS", "/healthz", Verdict::allow("health"), Same),
        ("not a token", "GE(T", "/orders/1", deny(MethodInvalid), Refuses(&[400])),
        ("empty", "", "/orders/1", deny(MethodInvalid), Refuses(&[400])),
    ];
    let asked = row("method: preflight of somebody", "cart", "OPTIONS", "/orders/1", deny(NoRuleMatched));
    let asked = asked.header("origin", "https://evil.example").header("access-control-request-method", "GET");
    let mut rows: Vec<Row> = cases
        .into_iter()
        .map(|(name, method, path, expected, envoy)| {
            row(format!("method: {name}"), "checkout", method, path, expected).envoy(envoy)
        })
        .collect();
    rows.push(asked);
    for name in ["x-http-method-override", "x-http-method", "x-method-override"] {
        rows.push(row(format!("method: {name}"), "cart", "GET", "/orders", deny(NoRuleMatched)).header(name, "POST"));
    }
    let preflight = row("method: preflight with its headers", "nobody", "OPTIONS", "/orders/1", deny(NoCertificate));
    let preflight = preflight.header("origin", "https://evil.example").header("access-control-request-method", "GET");
    rows.push(preflight.envoy(NoHandshake));
    rows
}

/// What rules require beside method, path, host and role.
fn conditions() -> Vec<Row> {
    let ask = |name: &str, path: &str, expected: Verdict| {
        row(format!("conditions: {name}"), "checkout", "GET", path, expected)
    };
    let all = |name: &str, expected| ask(name, "/conditions", expected).header("x-env", "prod");
    let calm = |name: &str, expected| ask(name, "/not-in-test", expected);
    let allowed = || Verdict::allow("conditions");
    vec![
        all("all hold", allowed()),
        all("a value twice", allowed()).header("X-Env", "stage"),
        ask("a list of values", "/conditions", allowed()).header("x-env", "stage, prod"),
        ask("no value", "/conditions", deny(NoRuleMatched)),
        ask("another value", "/conditions", deny(NoRuleMatched)).header("x-env", "Prod"),
        all("another value after it", deny(NoRuleMatched)).header("x-env", "test"),
        ask("another value in a list", "/conditions", deny(NoRuleMatched)).header("x-env", "prod,test"),
        all("another value in an alias", deny(NoRuleMatched)).header("x_env", "test").envoy(Refuses(&[400])),
        all("a value that denies", Verdict::denied_by("no-tests")).header("x-mode", "test"),
        all("one of two values denies", Verdict::denied_by("no-tests"))
            .header("x-mode", "fast")
            .header("x-mode", "test"),
        all("one of a list denies", Verdict::denied_by("no-tests")).header("x-mode", "fast,test"),
        all("a value that does not deny", allowed()).header("x-mode", "tests"),
        ask("from another network", "/from-elsewhere", deny(NoRuleMatched)),
        ask("not from that network", "/not-from-elsewhere", Verdict::allow("not-from-elsewhere")),
        ask("too late", "/long-ago", deny(NoRuleMatched)),
        calm("not that value", Verdict::allow("not-in-test")).header("x-mode", "fast"),
        calm("not, and it is", deny(NoRuleMatched)).header("x-mode", "test"),
        calm("not, and one of two is", deny(NoRuleMatched)).header("x-mode", "fast").header("x-mode", "test"),
        calm("not, and nobody knows", deny(NoRuleMatched)),
    ]
}

fn header_fields() -> Vec<Row> {
    let get = |name: &str, expected: Verdict| row(format!("fields: {name}"), "cart", "GET", "/orders/1", expected);
    let read = || Verdict::allow("read-orders");
    // Envoy takes hop-by-hop fields away before it asks a filter, and so before the gate's own fields are there.
    let without_connection = || Rewrites(Verdict::allow("read-orders"));
    let many = |count: usize, expected| {
        (0..count).fold(get(&format!("{count} fields"), expected), |row, index| row.header(&format!("x-{index}"), "v"))
    };
    let mut rows = vec![
        get("claims to be another", read()).header("x-portcullis-identity", "spiffe://acme.example/ns/pay/sa/checkout"),
        get("claims a role", deny(NoRuleMatched)).header("x-portcullis-roles", "operator"),
        get("claims a role in an alias", deny(NoRuleMatched))
            .header("X_Portcullis_Roles", "operator")
            .envoy(Refuses(&[400])),
        // As shipped, Envoy takes a client's XFCC away before it asks a filter.
        get("certificate of another in XFCC", deny(ForwarderUntrusted))
            .header("x-forwarded-client-cert", "URI=spiffe://acme.example/ns/pay/sa/checkout")
            .envoy(Rewrites(read())),
        get("certificate of another in an alias of XFCC", deny(ForwarderUntrusted))
            .header("x_forwarded_client_cert", "URI=spiffe://acme.example/ns/pay/sa/checkout")
            .envoy(Refuses(&[400])),
        get("two credentials", deny(HeaderDuplicated))
            .header("authorization", "Bearer one")
            .header("Authorization", "Bearer two")
            .envoy(Rewrites(read())),
        get("original path", deny(NoRuleMatched))
            .header("x-original-url", "/orders/1")
            .header("x-rewrite-url", "/orders/1"),
        get("value that is not UTF-8", deny(HeaderNotUtf8)).header("x-odd", b"\xff\xfe"),
        get("value with a control character", deny(HeaderMalformed)).header("x-odd", b"a\x07").envoy(Refuses(&[400])),
        get("value with a tab", read()).header("x-odd", b"a\tb"),
        get("empty value", read()).header("x-odd", b""),
        get("same field twice", read()).header("x-odd", b"1").header("x-odd", b"2"),
        get("connection names one of ours", deny(HeaderForbidden))
            .header("connection", "x-portcullis-identity")
            .envoy(without_connection()),
        get("connection names one of ours in a list", deny(HeaderForbidden))
            .header("connection", "close, X-Portcullis-Roles")
            .envoy(without_connection()),
        get("connection names an alias of ours", deny(HeaderForbidden))
            .header("connection", "x_portcullis.rule")
            .envoy(without_connection()),
        get("connection names the credentials", deny(HeaderForbidden))
            .header("connection", "close, Authorization")
            .envoy(without_connection()),
        get("connection names the host", deny(HeaderForbidden)).header("connection", "host").envoy(Refuses(&[400])),
        get("connection names another", read()).header("connection", "x-other"),
        many(90, read()),
        many(1_000, deny(TooManyHeaders)).envoy(Refuses(&[400, 431])),
    ];
    for row in &mut rows {
        // These ask for what only another peer may have.
        if row.expected == deny(NoRuleMatched) {
            row.method = b"POST".to_vec();
            row.path = Some(b"/orders".to_vec());
        }
    }
    rows
}

/// The right text in the wrong kind of name, and names that are nearly right.
fn names() -> Vec<Row> {
    let cases: [(&'static str, &str, Verdict); 48] = [
        ("checkout with a DNS name", "/files/a", Verdict::allow("everything")),
        ("dns reader, second name", "/orders/1", Verdict::allow("read-orders")),
        // A wildcard in a certificate is a name like any other: it matches the same text, and only that.
        ("dns, wildcard", "/orders/1", Verdict::allow("read-orders")),
        ("mailer", "/kind", Verdict::allow("by-kind")),
        ("mailer, domain in upper case", "/kind", Verdict::allow("by-kind")),
        ("legacy", "/kind", Verdict::allow("by-kind")),
        ("machine", "/kind", Verdict::allow("by-kind")),
        ("server usage too", "/kind", Verdict::allow("by-kind")),
        ("two URIs", "/files/a", deny(NoRuleMatched)),
        ("two URIs, the other one first", "/files/a", deny(NoRuleMatched)),
        ("longer last segment", "/files/a", deny(NoRuleMatched)),
        ("one segment more", "/files/a", deny(NoRuleMatched)),
        ("trust domain as a prefix", "/files/a", deny(NoRuleMatched)),
        ("other trust domain", "/files/a", deny(NoRuleMatched)),
        ("trust domain in upper case", "/files/a", deny(NoRuleMatched)),
        ("scheme in upper case", "/files/a", deny(NoRuleMatched)),
        ("query", "/files/a", deny(NoRuleMatched)),
        ("fragment", "/files/a", deny(NoRuleMatched)),
        ("port", "/files/a", deny(NoRuleMatched)),
        ("user", "/files/a", deny(NoRuleMatched)),
        ("dots", "/files/a", deny(NoRuleMatched)),
        ("escape", "/files/a", deny(NoRuleMatched)),
        ("trailing slash", "/files/a", deny(NoRuleMatched)),
        ("empty segment", "/files/a", deny(NoRuleMatched)),
        ("no path", "/files/a", deny(NoRuleMatched)),
        ("too long", "/orders/1", deny(NoRuleMatched)),
        ("spiffe as dns", "/files/a", deny(NoRuleMatched)),
        ("spiffe as email", "/files/a", deny(NoRuleMatched)),
        ("spiffe as subject", "/files/a", deny(NoRuleMatched)),
        ("spiffe as other name", "/files/a", deny(NoRuleMatched)),
        ("dns as uri", "/orders/1", deny(NoRuleMatched)),
        ("dns as subject", "/orders/1", deny(NoRuleMatched)),
        ("dns as email", "/orders/1", deny(NoRuleMatched)),
        ("email as dns", "/kind", deny(NoRuleMatched)),
        ("email in another case", "/kind", deny(NoRuleMatched)),
        ("ip as dns", "/kind", deny(NoRuleMatched)),
        ("ip as uri", "/kind", deny(NoRuleMatched)),
        ("ip as email", "/kind", deny(NoRuleMatched)),
        ("ip as subject", "/kind", deny(NoRuleMatched)),
        ("uri as dns", "/kind", deny(NoRuleMatched)),
        ("uri as email", "/kind", deny(NoRuleMatched)),
        ("email as uri", "/kind", deny(NoRuleMatched)),
        ("email as subject", "/kind", deny(NoRuleMatched)),
        ("dns, punycode", "/orders/1", Verdict::allow("read-orders")),
        ("wildcard is one segment", "/orders/1", deny(NoRuleMatched)),
        ("ip outside", "/kind", deny(NoRuleMatched)),
        ("legacy in another case", "/kind", deny(NoRuleMatched)),
        ("no name at all", "/named", deny(NoRuleMatched)),
    ];
    let dns = ["dns, two labels", "dns, no label", "dns, wildcard below", "dns, as a prefix", "dns, dots are dots"];
    let subjects =
        ["two units", "unit in the common name", "unit as a part", "unit with a comma", "unit in another case"];
    let mut rows: Vec<Row> = cases
        .into_iter()
        .map(|(peer, path, expected)| row(format!("name: {peer}"), peer, "GET", path, expected))
        .collect();
    rows.extend(dns.map(|peer| row(format!("name: {peer}"), peer, "GET", "/orders/1", deny(NoRuleMatched))));
    rows.extend(subjects.map(|peer| row(format!("name: {peer}"), peer, "GET", "/kind", deny(NoRuleMatched))));
    rows
}

/// Certificates that are not believed, whatever the rules say.
fn states() -> Vec<Row> {
    let get = |name: &str, peer, expected| row(format!("state: {name}"), peer, "GET", "/healthz", expected);
    vec![
        get("expired", "expired", deny(CertificateExpired)).envoy(NoHandshake),
        get("expired a second ago", "expired just now", deny(CertificateExpired)).envoy(NoHandshake),
        get("not yet valid", "not yet valid", deny(CertificateNotYetValid)).envoy(NoHandshake),
        get("of another authority", "stranger", deny(CertificateNotValidated)).envoy(NoHandshake),
        get("of another authority and expired", "stranger, expired", deny(CertificateNotValidated)).envoy(NoHandshake),
        get("a NUL in a name", "NUL in a name", deny(CertificateUnreadable)),
        get("a dot behind a name", "dot behind a name", deny(CertificateUnreadable)),
        get("revoked by serial", "revoked", deny(CertificateRevoked)).policy(Policy::Emergency),
        get("revoked by hash", "cart", deny(CertificateRevoked)).policy(Policy::Emergency),
        get("issued before the brake", "issued long ago", deny(CertificateDistrusted)).policy(Policy::Emergency),
        get("issued after the brake", "checkout", Verdict::allow("health")).policy(Policy::Emergency),
        get("revoked elsewhere", "revoked", Verdict::allow("health")),
        get("stale list", "checkout", deny(RevocationStale)).policy(Policy::Stale),
        get("stale list, no certificate", "nobody", Verdict::allow("health")).policy(Policy::Stale).envoy(NoHandshake),
    ]
}

/// Where two things are wrong, the earlier check speaks.
fn order_of_checks() -> Vec<Row> {
    vec![
        row("order: form before certificate", "expired", "GET", "/a/../b", deny(PathDotSegment)).envoy(NoHandshake),
        row("order: certificate before deny", "expired", "GET", "/debug", deny(CertificateExpired)).envoy(NoHandshake),
        row("order: deny before allow", "checkout", "GET", "/files/secret", Verdict::denied_by("no-secrets")),
        row("order: deny before absence", "nobody", "GET", "/debug", Verdict::denied_by("no-debug")).envoy(NoHandshake),
        row("order: form before absence", "nobody", "GET", "//", deny(PathEmptySegment)).envoy(NoHandshake),
        row("order: stranger before expiry", "stranger, expired", "GET", "/debug", deny(CertificateNotValidated))
            .envoy(NoHandshake),
    ]
}
