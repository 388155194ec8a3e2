use serde_json::Value;
use serde_json::json;

use super::*;
use crate::signature::PureRust;
use crate::signature::VerifyingKey;
use crate::tests::issuer::Issuer;

const NOW: UnixTime = UnixTime(1_800_000_000);

/// Counts how often it is asked.
#[derive(Default)]
struct Counting(usize);

impl Verifier for Counting {
    fn verify(&mut self, key: &VerifyingKey, message: &[u8], signature: &[u8]) -> bool {
        self.0 += 1;
        PureRust.verify(key, message, signature)
    }
}

fn policy(keys: &[&Issuer]) -> Policy {
    let keys: Vec<Value> = keys.iter().map(|issuer| issuer.jwk()).collect();
    let document = json!({
        "version": 1,
        "tokens": { "corp": {
            "issuer": "https://login.example", "audience": ["orders"], "binding": "off", "clock_skew": "10s",
            "jwks": { "keys": keys },
        } },
        "rules": [],
    });
    Policy::from_json(document.to_string().as_bytes()).expect("a policy")
}

fn claims(subject: &str) -> Value {
    json!({ "iss": "https://login.example", "aud": "orders", "exp": NOW.0 + 100, "sub": subject })
}

fn ask(
    memory: &mut Memory,
    policy: &Policy,
    token: &str,
    now: i64,
    verifier: &mut Counting,
) -> Result<Arc<Token>, TokenError> {
    let value = format!("Bearer {token}");
    let head = Head { fields: vec![(b"authorization", value.as_bytes())], ..Head::default() };
    match memory.token(policy, &head, UnixTime(now), verifier) {
        Bearer::Verified(token) => Ok(token),
        Bearer::Refused(error) => Err(error),
        Bearer::Absent => panic!("the token was not seen"),
    }
}

#[test]
fn a_good_token_is_verified_once_and_never_past_its_end() {
    let issuer = Issuer::new("one");
    let policy = policy(&[&issuer]);
    let token = issuer.sign(&claims("a"));
    let (mut memory, mut counting) = (Memory::default(), Counting::default());
    for now in [NOW.0, NOW.0 + 99, NOW.0 + 109] {
        assert!(ask(&mut memory, &policy, &token, now, &mut counting).is_ok(), "{now}");
    }
    assert_eq!(counting.0, 1);
    for now in [NOW.0 + 110, NOW.0 + 1000] {
        assert_eq!(ask(&mut memory, &policy, &token, now, &mut counting).err(), Some(TokenError::Expired), "{now}");
    }
    assert_eq!((counting.0, memory.tokens.len()), (1, 0), "an expired token costs no arithmetic and is forgotten");
}

#[test]
fn another_policy_believes_for_itself() {
    let (one, other) = (Issuer::new("one"), Issuer::new("other"));
    let (both, only_other) = (policy(&[&one, &other]), policy(&[&other]));
    let token = one.sign(&claims("a"));
    let (mut memory, mut counting) = (Memory::default(), Counting::default());
    assert!(ask(&mut memory, &both, &token, NOW.0, &mut counting).is_ok());
    let removed = ask(&mut memory, &only_other, &token, NOW.0, &mut counting);
    assert_eq!(removed.err(), Some(TokenError::KeyUnknown), "the key is gone from the policy");
    assert!(ask(&mut memory, &both, &token, NOW.0, &mut counting).is_ok());
    assert_eq!(counting.0, 1, "and the first policy still remembers");
}

#[test]
fn a_flood_of_forgeries_pushes_nothing_out() {
    let (issuer, forger) = (Issuer::new("one"), Issuer::new("one"));
    let policy = policy(&[&issuer]);
    let good = issuer.sign(&claims("good"));
    let (mut memory, mut counting) = (Memory::default(), Counting::default());
    assert!(ask(&mut memory, &policy, &good, NOW.0, &mut counting).is_ok());

    let forged = forger.sign(&claims("forged"));
    for number in 0..50 {
        let signature = forged.len() - 10 - number;
        let letter = if forged.as_bytes()[signature] == b'A' { "B" } else { "A" };
        let other = format!("{}{letter}{}", &forged[..signature], &forged[signature + 1..]);
        let error = ask(&mut memory, &policy, &other, NOW.0, &mut counting).err();
        assert_eq!(error, Some(TokenError::SignatureInvalid), "{number}");
    }
    assert_eq!((counting.0, memory.tokens.len()), (51, 1));
    assert!(ask(&mut memory, &policy, &good, NOW.0, &mut counting).is_ok());
    assert_eq!(counting.0, 51);
}

/// What can be found out without arithmetic is.
#[test]
fn cheap_checks_come_before_the_signature() {
    let issuer = Issuer::new("one");
    let policy = policy(&[&issuer]);
    let with = |name: &str, value: Value| {
        let mut claims = claims("a");
        claims[name] = value;
        issuer.sign(&claims)
    };
    let headed = |header: Value| issuer.sign_as(&header, &claims("a").to_string());
    let cases = [
        ("of nobody", with("iss", json!("https://elsewhere.example")), TokenError::IssuerMismatch),
        ("an issuer that is no text", with("iss", json!(1)), TokenError::ClaimsInvalid),
        ("for somebody else", with("aud", json!("stock")), TokenError::AudienceMismatch),
        ("expired", with("exp", json!(NOW.0 - 10)), TokenError::Expired),
        ("not yet valid", with("nbf", json!(NOW.0 + 11)), TokenError::NotYetValid),
        ("of no key", headed(json!({ "alg": "ES256", "kid": "two" })), TokenError::KeyUnknown),
        ("of another algorithm", headed(json!({ "alg": "RS256" })), TokenError::AlgorithmMismatch),
        ("of none", headed(json!({ "alg": "none" })), TokenError::AlgorithmNotAllowed),
    ];
    let (mut memory, mut counting) = (Memory::default(), Counting::default());
    for (name, token, error) in cases {
        assert_eq!(ask(&mut memory, &policy, &token, NOW.0, &mut counting).err(), Some(error), "{name}");
        assert_eq!(counting.0, 0, "{name}");
    }
}

#[test]
fn a_policy_without_tokens_does_not_look() {
    let policy = Policy::from_json(br#"{"version":1,"rules":[]}"#).expect("a policy");
    let head = Head { fields: vec![(b"authorization", b"Bearer  ,")], ..Head::default() };
    let (mut memory, mut counting) = (Memory::default(), Counting::default());
    assert!(matches!(memory.token(&policy, &head, NOW, &mut counting), Bearer::Absent));
}
