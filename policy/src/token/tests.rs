use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use serde_json::Value;
use serde_json::json;

use super::*;
use crate::policy::Policy;
use crate::signature::PureRust;
use crate::signature::Verifier;
use crate::signature::VerifyingKey;
use crate::time::UnixTime;

// RFC 7515 appendix A.3: ES256.
const ES256_TOKEN: &str = concat!(
    "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9",
    "pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqP",
    "P3-Kg6NU1Q",
);
const ES256_X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
const ES256_Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";

// RFC 8037 appendix A.4: Ed25519.
const ED_TOKEN: &str = concat!(
    "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AI",
    "bQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
);
const ED_X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

// Made with OpenSSL, payload `payload`: one RSA key of 2,048 bits, one key on P-384.
const RSA_N: &str = concat!(
    "nBYkYtYhhg9wNWzao7XACLfVyC7Od0QgeqNrAvOtw_oEZy8u1LwbPjuk_S4Lc3gyJpf7CM9axiR5wEfWF43sEbw6LQA76Pww",
    "ZkEo7Wmwo-ZYIMVYD0xiInBy_DDbjsiD0nWIn8b_I80CaYkxsEjobu_ywMb8VEDyu3agPzfIDXu0uNSZ3k5VQuQxnV3jYFSD",
    "BK2m8GzDrKR0SnFGez5IVh-SuRCoCg0s98mWKoAKmHVjjGfsUsLhB8PObQSe-6nNHLCdBlBvvChn4xCebd-Ol1A9IMX8PdSZ",
    "OmEb3CLbQPDqdCm-BV7SnpEYsMGizziqi2GGI0UFiq-FF0ZC17U5Ow",
);
const RS256_TOKEN: &str = concat!(
    "eyJhbGciOiJSUzI1NiJ9.cGF5bG9hZA.kRC6VYDwJs5Ji4cqY9NdFOJ-LENu8lYo9YoRh-j7E-Cc8CwH-1E66XS0bkhlNWQE",
    "yXHPYDZOwLVJXcYJVd-Eh6aKsABN-PYua78NGcedGhyZkGXlaqUj_rObPwPqc3WZCkWbOrTW1U_0i79lstIP43Tn7bbX2dn3",
    "1ZR2JGvNrEtxI_LXbi4aLddJdp0Vd2NCEyiM73uQ94tUFoEBQlwbJB7oV1dUd2GvmPXU-RmlmX8V7zCCEJ_8gtyXdWv4uHIl",
    "u88t5P2-m--NMH7Yu1o-pcl7OxTXBp_MFqcUJV_r9kYx-WOQGF3hDGoAle0QN3ZqlsDXpb5WmNDDjGxzRLwWYw",
);
const RS384_TOKEN: &str = concat!(
    "eyJhbGciOiJSUzM4NCJ9.cGF5bG9hZA.S70Tcjvl_TbEhPQp8lNnxuxX5RVL5p5RFU22k0XlDjWkFUsx3j3CREHnXoeUTbI7",
    "1HW43sGkzMkdy17YywPhhrrQVG5redhpPXO9C5gUZPBIWSZ1m3NJAht-ugvLdfCYMiDlfOv50cvlrYsWoootoVCrAceVuJQS",
    "ew5UPTylRJIsevmAR_AVxbRqnE3NaotSdE-XbiedY86izSHeGxanZSGflxAePuQslz3msforxxQi6W9EocIDRbw2DIYWhROx",
    "-bMt3KdzXH1QU6CnW9DIDL8aiVjLm82Fy1-rpQ2Il1OQ0uYVdqvTJzOmBVUD_nmbSvLPfayrljkcgLjjmYTlbg",
);
const RS512_TOKEN: &str = concat!(
    "eyJhbGciOiJSUzUxMiJ9.cGF5bG9hZA.hlrjt8dPIVeS4kP6eWe3zxTQ-fHSd2kVN7H6fNs_2fmnhXXQmCasvQd0eDcn6cMd",
    "ndUz7dBnomSyQCGOrzbsS-QxixCQe775TWW42jMXXRS-b99LxUWIqZV86YtTuCMpZOWESuTZKiPy6mOVRmyVpLkR6cE23h-5",
    "sXPUO4BMsdfBmKtTxyL3gAJgx9r-7mNq59tmJkBoOkOQz79FDOUqcwOR9eivTJAiLx5fguRmb94vzKFTMY_nfGgSZ_OBw1yk",
    "sLgtf_lH5N4f24QnixLyFUwkwvV02lsbe_IK5u_ENZFy7Y5nAVmJDJ8Z9AxYy9jxhgu-WJLUlge9Y2m3DnMyGA",
);
const PS256_TOKEN: &str = concat!(
    "eyJhbGciOiJQUzI1NiJ9.cGF5bG9hZA.OZ55SrFFQbVlnxgEDbD6utqEDjmE3DvoYSFEgz7-vEosbcESCPQ6CC7mGNFWwGSp",
    "SVd2GFjy9ZTch6BtLFElWGFsbdBJTehmgqcJEfugVHWxig0YeWx03eA0s241K-PXl_9Cy_we1UtcVDWaIwkRJvT4aq6E3AgF",
    "nvdFj1lFpdtjZWROXPJQRDAhEUeI7SUbvy_l-lorqoDyhzMX73rv9Ovt03YaaYojNXsyffFYagvbiSINlpIRIyk_pC_fb1Vo",
    "kEen1E6QcffdRge35v1XfY6rJ6m6PvVbNvI7_a2kBgZh-lV6iCWKZsDUled4UM5XcX6_qom3ajM180UTwBZxRw",
);
// The salt is 20 bytes; RFC 7518 §3.5 wants as many as the hash has.
const PS256_SHORT_SALT_TOKEN: &str = concat!(
    "eyJhbGciOiJQUzI1NiJ9.cGF5bG9hZA.PXRSoX6jQJ8FH1KWmlMfAmYl14Gge_zoFA_9WHROo51Wl4-J-oR9-xdYuXiUZdbA",
    "DdCRMcVoD03BY4hN6zIs-AiTijc5H3w0gVUzruFPPlOUzQYS38HF4HUmfLUk0DDlmSQiWwp3JFYCMAsG057rUQZaxf0Ca3DL",
    "qRD67ZnsPe4ic-NfGtPacF-ojudKeFhkmHO05CzV67__7UnVZxsPjjEkbhdn0YsP4bwTzMr-C8BjgpsZkd3R-MR4ZmZyQzO0",
    "ptQCSJRrv9JdDW3GNADGIDntlONpbcCRfbd2AAeB_de-l1ftydexRhBxDBz4nuCsHTEfMR36xP505-_fSs9fRg",
);
const ES384_X: &str = "OyU5syui-RHP-czpQsJNt4zzqp5NIfirV0u_Weog5E0tKQ2RzHE3-SvaohzolJ_h";
const ES384_Y: &str = "DVgF8tcT24FDelsfvc4nXO7bZFeDUCd--qw1QSJuXhNauUZFMikTzi5x2-yxPz-1";
const ES384_TOKEN: &str = concat!(
    "eyJhbGciOiJFUzM4NCJ9.cGF5bG9hZA.39AIxwAjrwgfV8IGtRnAnPQ284muOGDgfJVptqlskhbs8vITiREBF2hCNFUKIUAA",
    "CimF1UCSN5FlkQZTpuLaG7vwbSuVWWQQwVuM5K01xjTwjCxW0QcTxywn3AEp0App",
);

fn keys(keys: Value) -> KeySet {
    KeySet::from_json(json!({ "keys": keys }).to_string().as_bytes(), Algorithm::ALL).expect("a key set")
}

fn rsa(alg: &str) -> Value {
    json!({ "kty": "RSA", "n": RSA_N, "e": "AQAB", "alg": alg })
}

fn p256() -> Value {
    json!({ "kty": "EC", "crv": "P-256", "x": ES256_X, "y": ES256_Y })
}

fn verdict(set: &KeySet, token: &str) -> Result<(), TokenError> {
    Jws::parse(token.as_bytes()).and_then(|jws| set.verify(&jws, &mut PureRust).map(|_| ()))
}

fn encode(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

#[test]
fn signatures_of_published_vectors_verify() {
    let cases = [
        ("RFC 7515 A.3", p256(), ES256_TOKEN),
        ("RFC 8037 A.4", json!({ "kty": "OKP", "crv": "Ed25519", "x": ED_X }), ED_TOKEN),
        ("ES384", json!({ "kty": "EC", "crv": "P-384", "x": ES384_X, "y": ES384_Y }), ES384_TOKEN),
        ("RS256", rsa("RS256"), RS256_TOKEN),
        ("RS384", rsa("RS384"), RS384_TOKEN),
        ("RS512", rsa("RS512"), RS512_TOKEN),
        ("PS256", rsa("PS256"), PS256_TOKEN),
    ];
    for (name, key, token) in cases {
        let set = keys(json!([key]));
        assert_eq!(verdict(&set, token), Ok(()), "{name}");

        let (signed, signature) = token.rsplit_once('.').expect("three parts");
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
        for bit in [0, bytes.len() * 8 / 2, bytes.len() * 8 - 1] {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let forged = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(&bytes));
            assert_eq!(verdict(&set, &forged), Err(TokenError::SignatureInvalid), "{name}, bit {bit} turned");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        let shorter = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(&bytes[..bytes.len() - 1]));
        assert_eq!(verdict(&set, &shorter), Err(TokenError::SignatureInvalid), "{name}, cut");
    }
    assert_eq!(verdict(&keys(json!([rsa("PS256")])), PS256_SHORT_SALT_TOKEN), Err(TokenError::SignatureInvalid));
}

#[test]
fn the_algorithm_belongs_to_the_key() {
    let cases = [
        ("RS256 token, key for PS256", rsa("PS256"), RS256_TOKEN),
        ("PS256 token, key for RS256", rsa("RS256"), PS256_TOKEN),
        ("RS512 token, key for RS256", rsa("RS256"), RS512_TOKEN),
        ("ES256 token, RSA key", rsa("RS256"), ES256_TOKEN),
        ("RS256 token, EC key", p256(), RS256_TOKEN),
    ];
    for (name, key, token) in cases {
        assert_eq!(verdict(&keys(json!([key])), token), Err(TokenError::AlgorithmMismatch), "{name}");
    }
}

/// A token that is refused for every reason at once is refused for the first. With that repaired it is refused for the next,
/// and so on to the end, which is the arithmetic.
#[test]
fn each_check_of_a_token_comes_after_the_one_before_it() {
    struct Says(bool);
    impl Verifier for Says {
        fn verify(&mut self, _: &VerifyingKey, _: &[u8], _: &[u8]) -> bool {
            self.0
        }
    }
    let mut key = p256();
    key["kid"] = json!("a");
    let policy = json!({ "version": 1, "rules": [], "tokens": { "corp": {
        "issuer": "https://login.acme.example", "audience": ["orders"], "algorithms": ["ES256", "ES384"], "binding": "off",
        "jwks": { "keys": [key] },
    } } });
    let policy = Policy::from_json(policy.to_string().as_bytes()).expect("a policy");
    let mut header = json!({ "alg": "RS256", "kid": "b" });
    let mut claims = json!({ "iss": "joe", "exp": 1000, "nbf": "soon", "aud": { "orders": true } });
    let mut verifier = Says(false);
    type Repair = fn(&mut Value, &mut Value, &mut Says);
    let steps: &[(Result<(), TokenError>, Repair)] = &[
        (Err(TokenError::ClaimsInvalid), |_, claims, _| claims["nbf"] = json!(3000)),
        (Err(TokenError::IssuerMismatch), |_, claims, _| claims["iss"] = json!("https://login.acme.example")),
        (Err(TokenError::AlgorithmNotAllowed), |header, _, _| header["alg"] = json!("ES384")),
        (Err(TokenError::KeyUnknown), |header, _, _| header["kid"] = json!("a")),
        (Err(TokenError::AlgorithmMismatch), |header, _, _| header["alg"] = json!("ES256")),
        (Err(TokenError::Expired), |_, claims, _| claims["exp"] = json!(3000)),
        (Err(TokenError::NotYetValid), |_, claims, _| claims["nbf"] = json!(1000)),
        (Err(TokenError::ClaimsInvalid), |_, claims, _| claims["aud"] = json!("others")),
        (Err(TokenError::AudienceMismatch), |_, claims, _| claims["aud"] = json!("orders")),
        (Err(TokenError::SignatureInvalid), |_, _, verifier| verifier.0 = true),
        (Ok(()), |_, _, _| {}),
    ];
    for (answer, repair) in steps {
        let text =
            format!("{}.{}.{}", encode(&header.to_string()), encode(&claims.to_string()), encode(&"s".repeat(64)));
        let verified = policy.providers.verify(text.as_bytes(), UnixTime(2000), &mut verifier);
        assert_eq!(verified.map(drop), *answer);
        repair(&mut header, &mut claims, &mut verifier);
    }
}

#[test]
fn an_rsa_key_without_alg_is_for_one_algorithm_only() {
    let document = json!({ "keys": [{ "kty": "RSA", "n": RSA_N, "e": "AQAB" }] }).to_string();
    let set = |allowed: &[Algorithm]| KeySet::from_json(document.as_bytes(), allowed).expect("a key set");

    let any = set(Algorithm::ALL);
    assert_eq!(verdict(&any, RS256_TOKEN), Ok(()), "RS256 where nothing says otherwise");
    assert_eq!(verdict(&any, PS256_TOKEN), Err(TokenError::AlgorithmMismatch));
    assert_eq!(verdict(&set(&[Algorithm::Ps256, Algorithm::Es256]), PS256_TOKEN), Ok(()), "the only one allowed");
    assert_eq!(set(&[Algorithm::Es256]).keys().len(), 0);
}

#[test]
fn keys_that_are_not_for_signatures_or_malformed_are_left_out() {
    use KeyProblem::AlgorithmMismatch;
    use KeyProblem::AlgorithmNotAllowed;
    use KeyProblem::AlgorithmUnknown;
    use KeyProblem::KindUnknown;
    use KeyProblem::Malformed;
    use KeyProblem::NotForSignatures;
    use KeyProblem::NotOnCurve;
    use KeyProblem::RsaRefused;

    let with = |mut key: Value, name: &str, value: Value| {
        key[name] = value;
        key
    };
    let cases = [
        ("for encryption", with(p256(), "use", json!("enc")), NotForSignatures),
        ("not to verify", with(p256(), "key_ops", json!(["sign"])), NotForSignatures),
        ("operations not a list", with(p256(), "key_ops", json!("verify")), NotForSignatures),
        ("curve and algorithm disagree", with(p256(), "alg", json!("ES384")), AlgorithmMismatch),
        (
            "RSA with an algorithm of curves",
            json!({ "kty": "RSA", "n": RSA_N, "e": "AQAB", "alg": "ES256" }),
            AlgorithmMismatch,
        ),
        ("unknown algorithm", with(p256(), "alg", json!("ES512")), AlgorithmUnknown),
        ("algorithm not a string", with(p256(), "alg", json!(256)), Malformed),
        ("kid not a string", with(p256(), "kid", json!(1)), Malformed),
        ("unknown curve", with(p256(), "crv", json!("secp256k1")), KindUnknown),
        ("coordinate too short", with(p256(), "x", json!("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVA")), NotOnCurve),
        ("coordinate padded", with(p256(), "x", json!(format!("{ES256_X}="))), Malformed),
        ("no coordinate", json!({ "kty": "EC", "crv": "P-256", "x": ES256_X }), Malformed),
        ("a point off the curve", with(p256(), "y", json!(ES256_X)), NotOnCurve),
        ("a coordinate beyond the field", with(p256(), "x", json!(URL_SAFE_NO_PAD.encode([0xff; 32]))), NotOnCurve),
        ("a point off P-384", json!({ "kty": "EC", "crv": "P-384", "x": ES384_Y, "y": ES384_X }), NotOnCurve),
        ("a secret", json!({ "kty": "oct", "k": "c2VjcmV0" }), KindUnknown),
        ("a secret that says so", json!({ "kty": "oct", "k": "c2VjcmV0", "alg": "HS256" }), AlgorithmUnknown),
        (
            "RSA of 1,024 bits",
            json!({ "kty": "RSA", "n": URL_SAFE_NO_PAD.encode([0xff; 128]), "e": "AQAB" }),
            RsaRefused,
        ),
        ("RSA with an even exponent", json!({ "kty": "RSA", "n": RSA_N, "e": "AQAA" }), RsaRefused),
        ("RSA with exponent one", json!({ "kty": "RSA", "n": RSA_N, "e": "AQ" }), RsaRefused),
        ("no kind", json!({ "crv": "P-256", "x": ES256_X, "y": ES256_Y }), Malformed),
    ];
    for (name, key, problem) in cases {
        let set = keys(json!([p256(), key]));
        assert_eq!((set.keys().len(), set.left_out()), (1, &[(1, problem)][..]), "{name}");
    }
    let document = json!({ "keys": [p256()] }).to_string();
    let set = KeySet::from_json(document.as_bytes(), &[Algorithm::EdDsa]).expect("a key set");
    assert_eq!(set.left_out(), [(0, AlgorithmNotAllowed)]);
}

#[test]
fn a_key_with_its_private_half_is_used_and_told_of() {
    let mut private = p256();
    private["d"] = json!("jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI");
    let set = keys(json!([p256(), private, { "kty": "oct", "k": "c2VjcmV0" }]));
    assert_eq!((set.keys().len(), set.private()), (2, &[1, 2][..]));
    assert!(set.keys().iter().all(|key| !key.jwk().contains_key("d")));
}

#[test]
fn keys_behind_as_many_as_are_tried_are_never_tried() {
    let named = |kid: &str| {
        let mut key = p256();
        key["kid"] = json!(kid);
        key
    };
    let of_p384 = json!({ "kty": "EC", "crv": "P-384", "x": ES384_X, "y": ES384_Y });
    let many = |key: &dyn Fn(usize) -> Value, count: usize| -> Vec<Value> { (0..count).map(key).collect() };
    let cases = [
        ("as many as are tried", many(&|_| p256(), MAX_CANDIDATES), vec![]),
        ("one more", many(&|_| p256(), MAX_CANDIDATES + 1), vec![MAX_CANDIDATES]),
        ("many with a name each", many(&|number| named(&number.to_string()), 3 * MAX_CANDIDATES), vec![]),
        ("one name for all", many(&|_| named("a"), MAX_CANDIDATES + 1), vec![MAX_CANDIDATES]),
        (
            "a name behind keys without",
            [many(&|_| p256(), MAX_CANDIDATES), vec![named("a")]].concat(),
            vec![MAX_CANDIDATES],
        ),
        ("another algorithm", [many(&|_| p256(), MAX_CANDIDATES), vec![of_p384]].concat(), vec![]),
    ];
    for (name, entries, expected) in cases {
        let set = keys(Value::Array(entries));
        let found: Vec<usize> = set.never_tried().map(Key::position).collect();
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn kid_only_looks_a_key_up() {
    let mut other = p256();
    other["kid"] = json!("other");
    assert_eq!(verdict(&keys(json!([other.clone()])), ES256_TOKEN), Ok(()), "a token without kid tries every key");

    let named = |kid: &str| {
        let header = encode(&json!({ "alg": "ES256", "kid": kid }).to_string());
        let (_, rest) = ES256_TOKEN.split_once('.').expect("three parts");
        format!("{header}.{rest}")
    };
    let set = keys(json!([other]));
    assert_eq!(verdict(&set, &named("unknown")), Err(TokenError::KeyUnknown));
    assert_eq!(verdict(&set, &named("../../etc/passwd")), Err(TokenError::KeyUnknown));
    assert_eq!(verdict(&set, &named("other")), Err(TokenError::SignatureInvalid), "the header is signed too");
    assert_eq!(verdict(&keys(json!([])), ES256_TOKEN), Err(TokenError::KeyUnknown));
}

#[test]
fn malformed_tokens_are_told_apart() {
    use TokenError::AlgorithmNotAllowed;
    use TokenError::CriticalHeader;
    use TokenError::HeaderInvalid;
    use TokenError::Malformed;
    use TokenError::Nested;
    use TokenError::SignatureInvalid;

    let (header, rest) = ES256_TOKEN.split_once('.').expect("three parts");
    let (payload, signature) = rest.split_once('.').expect("three parts");
    let headed = |json: &str| format!("{}.{payload}.{signature}", encode(json));
    let cases = [
        ("empty", String::new(), Malformed),
        ("one part", header.to_owned(), Malformed),
        ("two parts", format!("{header}.{payload}"), Malformed),
        ("no signature", format!("{header}.{payload}."), Malformed),
        ("no payload", format!("{header}..{signature}"), Malformed),
        ("no header", format!(".{payload}.{signature}"), Malformed),
        ("four parts", format!("{ES256_TOKEN}.x"), Malformed),
        ("five parts, as JWE", format!("{ES256_TOKEN}.x.y"), Nested),
        ("six parts", format!("{ES256_TOKEN}.x.y.z"), Malformed),
        ("padded", format!("{ES256_TOKEN}=="), Malformed),
        ("white space", format!("{ES256_TOKEN} "), Malformed),
        ("newline", format!("{ES256_TOKEN}\n"), Malformed),
        ("standard alphabet", ES256_TOKEN.replace('-', "+"), Malformed),
        ("stray bits at the end", format!("{header}.{payload}.{}R", &signature[..signature.len() - 1]), Malformed),
        ("header not JSON", headed("alg"), HeaderInvalid),
        ("header not an object", headed("[]"), HeaderInvalid),
        ("header twice", headed(r#"{"alg":"ES256"}{}"#), HeaderInvalid),
        ("alg twice", headed(r#"{"alg":"ES256","alg":"none"}"#), HeaderInvalid),
        ("a name twice, deep", headed(r#"{"alg":"ES256","x":{"a":1,"a":2}}"#), HeaderInvalid),
        ("no alg", headed("{}"), HeaderInvalid),
        ("alg not a string", headed(r#"{"alg":["ES256"]}"#), HeaderInvalid),
        ("alg none", headed(r#"{"alg":"none"}"#), AlgorithmNotAllowed),
        ("alg in another case", headed(r#"{"alg":"es256"}"#), AlgorithmNotAllowed),
        ("HMAC", headed(r#"{"alg":"HS256"}"#), AlgorithmNotAllowed),
        ("crit", headed(r#"{"alg":"ES256","crit":["exp"],"exp":1}"#), CriticalHeader),
        ("crit empty", headed(r#"{"alg":"ES256","crit":[]}"#), CriticalHeader),
        ("crit with b64", headed(r#"{"alg":"ES256","crit":["b64"],"b64":false}"#), CriticalHeader),
        ("b64 false without crit", headed(r#"{"alg":"ES256","b64":false}"#), HeaderInvalid),
        ("kid a number", headed(r#"{"alg":"ES256","kid":1}"#), HeaderInvalid),
        ("a token in a token", headed(r#"{"alg":"ES256","cty":"JWT"}"#), Nested),
        ("a token in a token, at length", headed(r#"{"alg":"ES256","cty":"application/jwt"}"#), Nested),
        ("a token in a token, at length and in capitals", headed(r#"{"alg":"ES256","cty":"Application/JWT"}"#), Nested),
        ("content of another type", headed(r#"{"alg":"ES256","cty":"application/jwt+x"}"#), SignatureInvalid),
        ("enc", headed(r#"{"alg":"ES256","enc":"A128GCM"}"#), Nested),
    ];
    let set = keys(json!([p256()]));
    for (name, token, error) in cases {
        assert_eq!(verdict(&set, &token), Err(error), "{name}");
    }
    let long = format!("{header}.{}.{signature}", "A".repeat(64 * 1024));
    assert_eq!(verdict(&set, &long), Err(TokenError::TooLarge));
}

#[test]
fn a_key_in_the_header_is_not_looked_at() {
    let pair = rcgen::KeyPair::generate().expect("a key");
    let point = &pair.public_key_raw()[1..];
    let mut own = p256();
    own["x"] = json!(URL_SAFE_NO_PAD.encode(&point[..32]));
    own["y"] = json!(URL_SAFE_NO_PAD.encode(&point[32..]));
    let signed = format!("{}.{}", encode(&json!({ "alg": "ES256", "jwk": own }).to_string()), encode("{}"));
    let key = EncodingKey::from_ec_der(pair.serialized_der());
    let signature =
        jsonwebtoken::crypto::sign(signed.as_bytes(), &key, jsonwebtoken::Algorithm::ES256).expect("signed");
    let token = format!("{signed}.{signature}");

    assert_eq!(verdict(&keys(json!([own])), &token), Ok(()), "signed well");
    assert_eq!(verdict(&keys(json!([p256()])), &token), Err(TokenError::SignatureInvalid));
}

#[test]
fn a_key_set_is_a_json_object_with_keys() {
    let parse = |text: &str| KeySet::from_json(text.as_bytes(), Algorithm::ALL).map(|_| ());
    assert_eq!(parse(r#"{"keys":[]}"#), Ok(()));
    assert_eq!(parse("[]"), Err(KeySetError::NotAnObject));
    assert_eq!(parse(r#"{"keys":[],"keys":[]}"#), Err(KeySetError::NotAnObject));
    assert_eq!(parse("{}"), Err(KeySetError::NoKeys));
    assert_eq!(parse(r#"{"keys":{}}"#), Err(KeySetError::NoKeys));
    assert_eq!(parse(r#"{"keys":["key"]}"#), Err(KeySetError::NoKeys));
}

#[test]
fn registered_claims_are_checked_one_by_one() {
    use TokenError::AudienceMismatch;
    use TokenError::AudienceMissing;
    use TokenError::ClaimsInvalid;
    use TokenError::Expired;
    use TokenError::ExpiryMissing;
    use TokenError::IssuerMismatch;
    use TokenError::IssuerMissing;
    use TokenError::NotYetValid;

    let expected = Expectations {
        issuer: Some("https://login.example".to_owned()),
        audience: vec!["orders".to_owned(), "stock".to_owned()],
        clock_skew: std::time::Duration::from_secs(10),
        ..Expectations::default()
    };
    let now = UnixTime(1_000);
    let check = |text: &str| RegisteredClaims::parse(text.as_bytes()).and_then(|claims| claims.check(&expected, now));
    let base = json!({ "iss": "https://login.example", "aud": "orders", "exp": 2_000 });
    let with = |name: &str, value: Value| {
        let mut claims = base.clone();
        claims[name] = value;
        claims.to_string()
    };
    let without = |name: &str| {
        let mut claims = base.clone();
        claims.as_object_mut().expect("an object").remove(name);
        claims.to_string()
    };
    let cases = [
        ("all good", base.to_string(), Ok(())),
        ("audience in a list", with("aud", json!(["x", "stock"])), Ok(())),
        ("audience not in the list", with("aud", json!(["x", "order"])), Err(AudienceMismatch)),
        ("audience is a part of a word", with("aud", json!("orders-admin")), Err(AudienceMismatch)),
        ("audience list empty", with("aud", json!([])), Err(AudienceMismatch)),
        ("audience list of other things", with("aud", json!(["orders", 1])), Err(ClaimsInvalid)),
        ("audience a number", with("aud", json!(1)), Err(ClaimsInvalid)),
        ("no audience", without("aud"), Err(AudienceMissing)),
        ("issuer with a slash more", with("iss", json!("https://login.example/")), Err(IssuerMismatch)),
        ("issuer a list", with("iss", json!(["https://login.example"])), Err(ClaimsInvalid)),
        ("no issuer", without("iss"), Err(IssuerMissing)),
        ("no expiry", without("exp"), Err(ExpiryMissing)),
        ("expired within the skew", with("exp", json!(991)), Ok(())),
        ("expired at the skew", with("exp", json!(990)), Err(Expired)),
        ("expiry negative", with("exp", json!(-1)), Err(Expired)),
        ("expiry a fraction", with("exp", json!(2_000.5)), Ok(())),
        ("expiry a string", with("exp", json!("2000")), Err(ClaimsInvalid)),
        ("expiry null", with("exp", Value::Null), Err(ClaimsInvalid)),
        ("expiry huge", with("exp", json!(1e300)), Err(ClaimsInvalid)),
        ("expiry past 64 bits", with("exp", json!(u64::MAX)), Err(ClaimsInvalid)),
        ("not before, within the skew", with("nbf", json!(1_010)), Ok(())),
        ("not before, beyond the skew", with("nbf", json!(1_011)), Err(NotYetValid)),
        ("not before a string", with("nbf", json!("0")), Err(ClaimsInvalid)),
        ("issued at a string", with("iat", json!("0")), Err(ClaimsInvalid)),
        ("a claim twice", r#"{"exp":1,"exp":2000}"#.to_owned(), Err(ClaimsInvalid)),
        ("not an object", "[]".to_owned(), Err(ClaimsInvalid)),
        ("not JSON", "payload".to_owned(), Err(ClaimsInvalid)),
    ];
    for (name, claims, want) in cases {
        assert_eq!(check(&claims), want, "{name}");
    }
}

#[test]
fn waived_claims_may_be_missing_and_are_still_checked_where_present() {
    let waived =
        Expectations { waive_issuer: true, waive_audience: true, waive_expiry: true, ..Expectations::default() };
    let now = UnixTime(1_000);
    let check = |text: &str| RegisteredClaims::parse(text.as_bytes()).and_then(|claims| claims.check(&waived, now));
    assert_eq!(check("{}"), Ok(()));
    assert_eq!(check(r#"{"exp":999}"#), Err(TokenError::Expired));
    assert_eq!(check(r#"{"nbf":1001}"#), Err(TokenError::NotYetValid));
}
