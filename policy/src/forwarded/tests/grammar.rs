//! The two forms of `x-forwarded-client-cert`.

use super::*;

fn is_read(text: &str) -> bool {
    elements(text.as_bytes()).is_ok()
}

#[test]
fn text_is_read_in_one_way_or_not_at_all() {
    let hash = "0a".repeat(32);
    let cases = [
        ("a pair", true, "URI=a".to_owned()),
        ("keys in any case", true, format!("bY=a;HASH={hash};uri=b;Dns=c;subject=\"\";iSSUER=\"CN=x\"")),
        ("hash in capital letters", true, format!("Hash={}", hash.to_uppercase())),
        ("several names of one kind", true, "By=a;By=b;URI=c;URI=d;DNS=e;DNS=f".to_owned()),
        ("no URI and no DNS name", true, "URI=;DNS=".to_owned()),
        ("`=` in a URI", true, "URI=https://a.example/?b=c".to_owned()),
        ("a quoted URI", true, "URI=\"a,b;c\"".to_owned()),
        ("an escaped quote in a subject", true, r#"Subject="CN=a \"b\"""#.to_owned()),
        ("an escaped backslash before the closing quote", true, r#"Subject="CN=a\\";URI=b"#.to_owned()),
        ("empty subject", true, "Subject=\"\"".to_owned()),
        ("two elements", true, "URI=a,URI=b".to_owned()),
        ("the most elements", true, ["URI=a"; MAX_ELEMENTS].join(",")),
        ("nothing", false, String::new()),
        ("one element more", false, ["URI=a"; MAX_ELEMENTS + 1].join(",")),
        ("an empty element", false, "URI=a,,URI=b".to_owned()),
        ("a comma at the end", false, "URI=a,".to_owned()),
        ("a comma at the beginning", false, ",URI=a".to_owned()),
        ("a semicolon at the end", false, "URI=a;".to_owned()),
        ("an empty pair", false, "URI=a;;DNS=b".to_owned()),
        ("a key without a value", false, "URI".to_owned()),
        ("a value without a key", false, "=a".to_owned()),
        ("space after the comma", false, "URI=a, URI=b".to_owned()),
        ("space before the key", false, " URI=a".to_owned()),
        ("space after the key", false, "URI =a".to_owned()),
        ("a key of old", false, "SAN=a".to_owned()),
        ("an unknown key", false, "URI=a;Role=admin".to_owned()),
        ("a quoted key", false, "\"URI\"=a".to_owned()),
        ("an open quote", false, "URI=\"a".to_owned()),
        ("a quote that is escaped away", false, r#"Subject="CN=a\""#.to_owned()),
        ("something after the closing quote", false, "URI=\"a\"b".to_owned()),
        ("a quote inside a value", false, "URI=a\"b".to_owned()),
        ("quotes inside a value", false, "URI=a\",\"b".to_owned()),
        ("a backslash in a quoted URI", false, r#"URI="a\"b""#.to_owned()),
        ("hash twice", false, format!("Hash={hash};Hash={hash}")),
        ("hash twice, in two cases", false, format!("Hash={hash};hash={hash}")),
        ("subject twice", false, "Subject=\"\";Subject=\"\"".to_owned()),
        ("issuer twice", false, "Issuer=\"\";Issuer=\"\"".to_owned()),
        ("certificate twice", false, "Cert=a;Cert=a".to_owned()),
        ("chain twice", false, "Chain=a;Chain=a".to_owned()),
        ("no URI and a URI", false, "URI=;URI=a".to_owned()),
        ("a URI and no URI", false, "URI=a;URI=".to_owned()),
        ("an empty proxy", false, "By=".to_owned()),
        ("an empty hash", false, "Hash=".to_owned()),
        ("a short hash", false, "Hash=0a".to_owned()),
        ("a long hash", false, format!("Hash={hash}0")),
        ("a hash that is none", false, format!("Hash={}", "g".repeat(64))),
        ("a certificate with a bad escape", false, "Cert=\"%2\"".to_owned()),
        ("a chain with a bad escape", false, "Chain=\"%zz\"".to_owned()),
        ("JSON of another shape", false, r#"{"uri":["a"]}"#.to_owned()),
    ];
    for (name, want, text) in cases {
        assert_eq!(is_read(&text), want, "{name}: `{text}`");
    }
    assert_eq!(elements(b"URI=\xff"), Err(Malformed), "not UTF-8");
    let long = format!("URI={}", "a".repeat(MAX_TEXT));
    assert_eq!(elements(&long.as_bytes()[..MAX_TEXT]).map(|elements| elements.len()), Ok(1));
    assert_eq!(elements(long.as_bytes()), Err(Malformed), "too long");
}

#[test]
fn json_is_a_list_of_objects_with_known_keys() {
    let hash = "0a".repeat(32);
    let cases = [
        ("an object", true, r#"[{"uri":["a"]}]"#.to_owned()),
        ("an empty object", true, "[{}]".to_owned()),
        (
            "everything",
            true,
            format!(
                r#"[{{"by":["a"],"hash":"{hash}","cert":"c","chain":["c"],"subject":"","issuer":"","uri":[],"dns":["b"]}}]"#
            ),
        ),
        ("two", true, r#"[{"uri":["a"]},{"uri":["b"]}]"#.to_owned()),
        ("an escape", true, r#"[{"uri":["\u0061"]}]"#.to_owned()),
        ("no element", false, "[]".to_owned()),
        ("too many", false, format!("[{}]", ["{}"; MAX_ELEMENTS + 1].join(","))),
        ("text after it", false, r#"[{"uri":["a"]}],URI=b"#.to_owned()),
        ("cut off", false, r#"[{"uri":["a"]}"#.to_owned()),
        ("a list for an object", false, r#"[[["a"]]]"#.to_owned()),
        ("text for an object", false, r#"["a"]"#.to_owned()),
        ("an unknown key", false, r#"[{"uri":["a"],"role":"admin"}]"#.to_owned()),
        ("a key in capital letters", false, r#"[{"URI":["a"]}]"#.to_owned()),
        ("a key twice", false, r#"[{"uri":["a"],"uri":["b"]}]"#.to_owned()),
        ("a key twice, one escaped", false, r#"[{"uri":["a"],"\u0075ri":["b"]}]"#.to_owned()),
        ("null", false, r#"[{"uri":null}]"#.to_owned()),
        ("text for a list", false, r#"[{"uri":"a"}]"#.to_owned()),
        ("a list for text", false, r#"[{"subject":["a"]}]"#.to_owned()),
        ("an empty name", false, r#"[{"uri":[""]}]"#.to_owned()),
        ("an empty proxy", false, r#"[{"by":[""]}]"#.to_owned()),
        ("a short hash", false, r#"[{"hash":"0a"}]"#.to_owned()),
        ("a lone surrogate", false, r#"[{"uri":["\ud800"]}]"#.to_owned()),
        ("nesting without end", false, format!("[{{\"uri\":{}", "[".repeat(60_000))),
    ];
    for (name, want, text) in cases {
        assert_eq!(is_read(&text), want, "{name}");
    }
}

#[test]
fn values_arrive_as_they_were_written() {
    let text = r#"By=a;By=b;Subject="CN=x\\,O=\"y\"";URI=u,Hash=0A0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a;Cert="%2B+%0a";URI="q,r;s""#;
    let got = elements(text.as_bytes()).unwrap();
    let first = Element {
        by: vec!["a".into(), "b".into()],
        subject: Some(r#"CN=x\\,O=\"y\""#.into()),
        uri: Some(vec!["u".into()]),
        ..Element::default()
    };
    let second = Element {
        hash: Some([10; 32]),
        cert: Some(b"++\n".to_vec()),
        uri: Some(vec!["q,r;s".into()]),
        ..Element::default()
    };
    assert_eq!(got, [first, second]);
}
