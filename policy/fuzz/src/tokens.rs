//! JWS, claims and key sets.

use portcullis_policy::UnixTime;
use portcullis_policy::token::Algorithm;
use portcullis_policy::token::Claims;
use portcullis_policy::token::Expectations;
use portcullis_policy::token::Jws;
use portcullis_policy::token::KeySet;
use portcullis_policy::token::RegisteredClaims;
use serde_json::Value;

/// A token is read in one way: what is signed is what was sent, byte for byte, and without the marks of another form.
pub(crate) fn jws(bytes: &[u8]) {
    let Ok(token) = Jws::parse(bytes) else { return };
    let (signed, signature) = bytes.split_at(token.signed().len());
    assert_eq!(token.signed(), signed);
    assert_eq!(signature.first(), Some(&b'.'));
    assert_eq!(bytes.iter().filter(|byte| **byte == b'.').count(), 2);
    assert!(bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte)));
    assert!(!token.payload().is_empty() && !token.signature().is_empty());
    assert_eq!(Algorithm::parse(token.algorithm().name()), Some(token.algorithm()));
}

/// Claims that are taken are in force for a time, and only with every claim that is asked for.
pub(crate) fn claims(bytes: &[u8]) {
    let claims = Claims::parse(bytes);
    let registered = RegisteredClaims::parse(bytes);
    // What is taken at a look can be kept.
    assert_eq!(registered.is_ok(), claims.is_ok());
    let (Ok(claims), Ok(registered)) = (claims, registered) else { return };
    let issuer = claims.all().get("iss").and_then(Value::as_str);
    let expected = Expectations {
        issuer: Some("https://login.acme.example".to_owned()),
        audience: vec!["orders".to_owned()],
        ..Expectations::default()
    };
    for now in [0, 1_800_000_000, i64::MAX] {
        if registered.check(&expected, UnixTime(now)).is_ok() {
            assert_eq!(issuer, Some("https://login.acme.example"));
            assert!(claims.all().contains_key("aud"));
            assert!(claims.expires().is_some_and(|end| now < end.0));
        }
    }
    // A reader that takes the last of two equal names finds the same: there are no two.
    let again: Value = serde_json::from_slice(bytes).expect("claims are JSON");
    assert_eq!(again.as_object(), Some(claims.all()));
}

/// Every entry is a key or counted as left out, and a key's algorithm is one that was allowed.
pub(crate) fn key_set(bytes: &[u8]) {
    let some = [Algorithm::Es256, Algorithm::Rs256];
    let (Ok(every), Ok(few)) = (KeySet::from_json(bytes, Algorithm::ALL), KeySet::from_json(bytes, &some)) else {
        return;
    };
    let document: Value = serde_json::from_slice(bytes).expect("a key set is JSON");
    let entries = document["keys"].as_array().expect("a key set has keys").len();
    assert_eq!(every.keys().len() + every.ignored(), entries);
    assert_eq!(few.keys().len() + few.ignored(), entries);
    assert!(few.keys().iter().all(|key| some.contains(&key.algorithm())));
}
