use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;

use super::*;

// Made with OpenSSL: `SubjectPublicKeyInfo` of four keys, and their signatures of the text `message`, as X.509 has them.
const P256: &str = concat!(
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEYUdBvG9Hb9OgPXzi7NMFsNt04vXDc71OSQjBfOzhkVfdrOi6QBHDh1VSNPxY",
    "r9jQWjzOnTU/J12OPjtjg0fJuA==",
);
const P384: &str = concat!(
    "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEQ43SROlrofwju6pPlctksgFv1FDIxZL5qAg2vse1nPbPIpG2hltT81/W8KPYO8tt",
    "RQFFJvETEVA+iuRItYHV8YsoCIGq4lCm0ImS1/0kRTCXP8wFqzUW+Sl3UxEZD7aU",
);
const RSA: &str = concat!(
    "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAoiyGxE4WI5873OwPq4gZtJT1O4oDHmxn4+/+gF/p6lua+ObtNGIT",
    "ckHpnHJzdkiAUy6bpyR8QhNof8hxt4AeX0XM7zEw003AbhD7uvngznWB7Sfy5kOkrNbZ7jx/65mpiLHT2qnGfqiojLUOcGxe",
    "/TwUKZmHcybzwFz4XKCupsrHfdaqKUSfL367tzUBPZz0/Slug25x2b0lWcBZSUbelaLotY/9v1wC2ytsXSFmHiVtL3XAbK/r",
    "UQbcD/euwcRYQZ3incj+SWThNvuFRScI6DmvZD1RPjT5hmISDsCmGhIE6CWesY485bf6+dhsskLcm69D8c0gsp2kBmfGu07g",
    "BQIDAQAB",
);
const ED25519: &str = "MCowBQYDK2VwAyEAHNNSwZ9W0ybbCEuqh3OrvJL5n8K2N2tFeyLhf2aN/CI=";
const P256_SHA256: &str =
    "MEUCIQCERFiLtibAOJjF5lYMIrQCzzydxfwjeIFPRBZxkmd21gIgHEL3Td7xz4yKYkA0DFvSPOAEVndWJdiXX/j2FUPJEoA=";
const P256_SHA384: &str =
    "MEQCIC4r8vMGQhyT7GWbbYIEQX9djsW29mYcIxn3LRQoJke5AiAho8zCqW+d8v3cW9cDmBpk72JzV99Ti3o7OLxxcr53Cg==";
const P256_SHA512: &str =
    "MEUCIQDd5nlD1M4xIH17ZQZ0bUHBoVWl8ZWt/LHNxtTxUH4bCwIgUFeCItWVYpB6eAbuxVFw3Q9nkGZmLf+zQjQT26ZIQZ4=";
const P384_SHA256: &str = concat!(
    "MGUCMAaf3vHmv8kF2lG04NjR9wxXoG9zZGFlSFweGIIWvw3Pd8DpdgqIGDPbxqhRyqK4bAIxAIWpSFowoiXbOTJEPTwiZhnv",
    "kDSGrvnG0VrvYlTSOlSHeDehalF5gZYpeC70nPCGxQ==",
);
const P384_SHA384: &str = concat!(
    "MGUCMQDROgwb8x7KA0ldYLgF7VMNalM/kZtK7+lMvieKUrW7MofA+aTuLj7ISskh2HxYVU0CMEEoYkQsAzTCQg8AVqUKZ+St",
    "JELD5czof9ge+W74yW8VJIBGk/lsaS2y4cdPDmnomw==",
);
const P384_SHA512: &str = concat!(
    "MGUCMQCrCckGFDzcWcG9slo3M+T0SKSFfNw6sA9gG1fL1brJ+i/aAXxkJe/txMedBY9HcTYCMGJUhXLzsNtQHRNZ8ou5w0DC",
    "vNQSumZXBbWDYBSyVpIrUzosR4/LcqUI6o2yJz3XFg==",
);
const RSA_SHA256: &str = concat!(
    "hqdJrDT74uv3JVj9TaB1041mlleKvP7AXSL9g7PBTrZm5iuF/XeHoCm5iZVkrTe0YGqrMvRVK7U2v9y63ATGNbUsvNJsJrXc",
    "TTAaCxJ3+4YW/p+gIzwyChjCeHpyG+GrAT8l0rVaPsde/XCLNXrOxEXhpsJMF39rkeuQ/pdt6TljlEZBHi5BhxGrHw+eAql7",
    "TZNXbL7BW//pNIGymogX5SYXXJeAzHs3EsJsKsRPIpOFY834viHQzVXfrzC7sNkoTpOyhjYwnyQAhyY6fSETfVqGiy9gfkTx",
    "155MVf94DRNdlZ/4Kw98NEvCye8+pfHwM7nhD9evzVFxV8mKCZ+Nog==",
);
const RSA_SHA384: &str = concat!(
    "MnJ9V/A2l1ovM22BqkwMaYcDgwzp/lh87q4L1emrue4r1hU7NLrfqH/nnS15YxNoOLXBdVyS1GCPzX9ReOozhbb1jSkNPNhe",
    "tuRrA9OTbPVf5gsEbVo0bLhC91sQfuXSJemSWcs50EUhq0pb6pVh+bq3CFDYoIHUsF6xvZ3K4Ta4Mbp0NXzyX3BQgd4vWYrk",
    "ojdDSPD7wE5YwYaQDYM4l8TvyT8QiiBX01oLYP4VD8AQUQ0ek1+d5gsIIUxOLFzIGMWIPzWdjAh2g/iCxkTu7RQ+3xbiV/Cr",
    "MmUGh0FFgHwkl+kJIOhLolxPplNhvzM2I4thzIzcc4BlXkEOS4kEwA==",
);
const RSA_SHA512: &str = concat!(
    "fSctMEw7feyk9okqdLSvWrMAiaj3VVkSKsO0tn6PDpkFRdE0e7ZoZKAq0JcfHU/TrF8Cj7ofoMfKMbd02Sq3W6BmeZyGAqyQ",
    "yQFv4AsbpG37BvaIHDX0UoqroxkZp4JmSjQDUcblr0MiIYUQ8YFX3zYTQIhF7P6Yd2EfB7Y5FTaOjLhOPfEzjQodfmz9F2Cl",
    "UlfQVfnsXSSoiMgfSBCkUf6AS6cC1trd8bXepkytP7UtPtDvdRXIkecS+8Hfbyf7nZl7Ina4S1KS8v4juMM3/OizRunrXWdS",
    "viCOPyyba2DzwUe05V3Owz4lJ3HmiJhJxttglmK//fg9phAIP4KMiA==",
);
const ED25519_SIGNATURE: &str =
    "G6LoOeGSIgEs9xZ0K+B2YWlYAqficg2c2HTLDOEJOHnokXo88xiQOuomvGFqkruzyPWQQFI/ohxI6gx44L3VDQ==";
const RSA_1024: &str = concat!(
    "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCh4W/K/cuUmv6Z8XRAB4/SaF5WGNj+TgQBn3JAPRYjykslYcFDPyOeXFKV",
    "XzpZyppga2zV6ymzLDc3pxfIXDqMT7nrvIg91Weq/6z/Nxigi7dwN22LB5rFEOaFT2aba3HtuCsY7xKk5aXtP/TNWmTcBlbC",
    "GjZexSCFRQJ2jE2XhwIDAQAB",
);

const MESSAGE: &[u8] = b"message";

/// Name, key, signature algorithm, signature.
const SIGNED: &[(&str, &str, &str, &str)] = &[
    ("P-256, SHA-256", P256, "1.2.840.10045.4.3.2", P256_SHA256),
    ("P-256, SHA-384", P256, "1.2.840.10045.4.3.3", P256_SHA384),
    ("P-256, SHA-512", P256, "1.2.840.10045.4.3.4", P256_SHA512),
    ("P-384, SHA-256", P384, "1.2.840.10045.4.3.2", P384_SHA256),
    ("P-384, SHA-384", P384, "1.2.840.10045.4.3.3", P384_SHA384),
    ("P-384, SHA-512", P384, "1.2.840.10045.4.3.4", P384_SHA512),
    ("RSA, SHA-256", RSA, "1.2.840.113549.1.1.11", RSA_SHA256),
    ("RSA, SHA-384", RSA, "1.2.840.113549.1.1.12", RSA_SHA384),
    ("RSA, SHA-512", RSA, "1.2.840.113549.1.1.13", RSA_SHA512),
    ("Ed25519", ED25519, "1.3.101.112", ED25519_SIGNATURE),
];

fn decode(text: &str) -> Vec<u8> {
    STANDARD.decode(text).expect("base64")
}

/// Remembers what it was asked in the form for a host.
#[derive(Default)]
struct Host(Option<(&'static str, Vec<u8>, Vec<u8>)>);

impl Verifier for Host {
    fn verify(&mut self, key: &VerifyingKey, _: &[u8], signature: &[u8]) -> bool {
        self.0 = key.host_form(signature).map(|form| (form.hash, form.key.to_vec(), form.signature));
        true
    }
}

#[test]
fn signatures_as_certificates_have_them_verify() {
    for (name, spki, algorithm, signature) in SIGNED {
        let (spki, signature) = (decode(spki), decode(signature));
        let key = VerifyingKey::of_issuer(&spki, algorithm).expect(name);
        assert!(key.verify_x509(MESSAGE, &signature, &mut PureRust), "{name}");
        assert!(!key.verify_x509(b"massage", &signature, &mut PureRust), "{name}, another message");
        assert!(!key.verify_x509(MESSAGE, &signature[1..], &mut PureRust), "{name}, cut");
        assert!(!key.verify_x509(MESSAGE, &[&signature[..], &[0]].concat(), &mut PureRust), "{name}, longer");
        for (other, _, algorithm, _) in SIGNED.iter().filter(|(.., other, _)| other != algorithm) {
            let other_key = VerifyingKey::of_issuer(&spki, algorithm);
            let good = other_key.is_some_and(|key| key.verify_x509(MESSAGE, &signature, &mut PureRust));
            assert!(!good, "{name} as {other}");
        }
    }
}

#[test]
fn a_host_is_given_what_was_in_the_certificate() {
    for (name, spki, algorithm, signature) in SIGNED {
        let (spki, signature) = (decode(spki), decode(signature));
        let key = VerifyingKey::of_issuer(&spki, algorithm).expect(name);
        assert_eq!(key.spki(), spki, "{name}");
        let mut host = Host::default();
        assert!(key.verify_x509(MESSAGE, &signature, &mut host), "{name}");
        let hash = name.split_once(", SHA-").map(|(_, bits)| format!("sha{bits}"));
        let asked = host.0.map(|(hash, key, signature)| (hash.to_owned(), key, signature));
        assert_eq!(asked, hash.map(|hash| (hash, spki, signature)), "{name}: Ed25519 is not for hosts");
    }
}

#[test]
fn a_jwk_becomes_the_key_that_a_certificate_has() {
    let coordinate = |spki: &str, from_end: usize, size: usize| {
        let spki = decode(spki);
        spki[spki.len() - from_end..][..size].to_vec()
    };
    let p256 = VerifyingKey::ec(Algorithm::Es256, &coordinate(P256, 64, 32), &coordinate(P256, 32, 32));
    let p384 = VerifyingKey::ec(Algorithm::Es384, &coordinate(P384, 96, 48), &coordinate(P384, 48, 48));
    let ed25519 = VerifyingKey::ed25519(&coordinate(ED25519, 32, 32));
    // 256 bytes of modulus, then an INTEGER of three bytes.
    let rsa = VerifyingKey::rsa(Algorithm::Ps256, &coordinate(RSA, 5 + 256, 256), &[1, 0, 1]);
    for (name, key, spki) in
        [("P-256", p256, P256), ("P-384", p384, P384), ("Ed25519", ed25519, ED25519), ("RSA", rsa, RSA)]
    {
        assert_eq!(key.expect(name).spki(), decode(spki), "{name}");
    }
}

#[test]
fn what_is_not_a_good_key_is_none() {
    let p256 = decode(P256);
    let compressed = {
        let mut key = p256.clone();
        let point = key.len() - 65;
        key[point] = 2;
        key
    };
    let cases = [
        ("nothing", vec![], "1.2.840.10045.4.3.2"),
        ("bytes left over", [&p256[..], &[0]].concat(), "1.2.840.10045.4.3.2"),
        ("a byte short", p256[..p256.len() - 1].to_vec(), "1.2.840.10045.4.3.2"),
        ("a compressed point", compressed, "1.2.840.10045.4.3.2"),
        ("SHA-1", p256.clone(), "1.2.840.10045.4.1"),
        ("another kind of key", p256, "1.2.840.113549.1.1.11"),
        ("ECDSA with an RSA key", decode(RSA), "1.2.840.10045.4.3.2"),
        ("RSA with SHA-1", decode(RSA), "1.2.840.113549.1.1.5"),
        ("RSASSA-PSS", decode(RSA), "1.2.840.113549.1.1.10"),
        ("RSA of 1,024 bits", decode(RSA_1024), "1.2.840.113549.1.1.11"),
        ("Ed25519 with an RSA key", decode(RSA), "1.3.101.112"),
    ];
    for (name, spki, algorithm) in cases {
        assert!(VerifyingKey::of_issuer(&spki, algorithm).is_none(), "{name}");
    }
    let modulus = [0xff; 256];
    let cases = [
        ("modulus of 2,047 bits", &[&[0x7f], &modulus[1..]].concat()[..], &[1, 0, 1][..]),
        ("modulus of 4,097 bits", &[&[1], &[0xff; 512][..]].concat(), &[1, 0, 1]),
        ("even modulus", &[&modulus[1..], &[2]].concat(), &[1, 0, 1]),
        ("exponent 1", &modulus, &[1]),
        ("even exponent", &modulus, &[2]),
        ("exponent of 34 bits", &modulus, &[3, 0, 0, 0, 1]),
        ("no exponent", &modulus, &[]),
    ];
    for (name, modulus, exponent) in cases {
        assert!(VerifyingKey::rsa(Algorithm::Rs256, modulus, exponent).is_none(), "{name}");
    }
    assert!(VerifyingKey::rsa(Algorithm::Es256, &modulus, &[1, 0, 1]).is_none());
    assert!(VerifyingKey::ec(Algorithm::Rs256, &[1; 32], &[1; 32]).is_none());
    assert!(VerifyingKey::ed25519(&[1; 31]).is_none());
}

#[test]
fn who_says_yes_or_no_to_everything_verifies_nothing() {
    struct Says(bool);
    impl Verifier for Says {
        fn verify(&mut self, _: &VerifyingKey, _: &[u8], _: &[u8]) -> bool {
            self.0
        }
    }
    assert!(probe(&mut PureRust));
    assert!(!probe(&mut Says(true)));
    assert!(!probe(&mut Says(false)));
}

/// RFC 7515 appendix A.3: R and S as the appendix lists them.
#[test]
fn the_published_signature_in_der() {
    let signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    let fixed = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    assert_eq!((fixed[0], fixed[31], fixed[32], fixed[63]), (14, 101, 197, 213));
    let der = ecdsa::to_der(&fixed);
    // R begins with a zero bit, S with a one.
    let expected = [&[0x30, 69, 2, 32][..], &fixed[..32], &[2, 33, 0], &fixed[32..]].concat();
    assert_eq!(der, expected);
    assert_eq!(ecdsa::from_der(&der, 32).as_deref(), Some(&fixed[..]));
}

#[test]
fn a_signature_that_is_not_two_numbers_is_none() {
    let cases: &[(&str, &[u8])] = &[
        ("nothing", &[]),
        ("one number", &[0x30, 3, 2, 1, 1]),
        ("three numbers", &[0x30, 9, 2, 1, 1, 2, 1, 1, 2, 1, 1]),
        ("a negative number", &[0x30, 6, 2, 1, 0x80, 2, 1, 1]),
        ("a zero too many", &[0x30, 7, 2, 2, 0, 1, 2, 1, 1]),
        ("an empty number", &[0x30, 5, 2, 0, 2, 1, 1]),
        ("a number too large", &[0x30, 8, 2, 3, 1, 0, 0, 2, 1, 1]),
        ("bytes left over", &[0x30, 6, 2, 1, 1, 2, 1, 1, 0]),
        ("a longer form of the length", &[0x30, 0x81, 6, 2, 1, 1, 2, 1, 1]),
    ];
    for (name, der) in cases {
        assert_eq!(ecdsa::from_der(der, 2), None, "{name}");
    }
    assert_eq!(ecdsa::from_der(&[0x30, 6, 2, 1, 1, 2, 1, 0], 2), Some(vec![0, 1, 0, 0]));
}

proptest! {
    #[test]
    fn the_two_forms_of_a_signature_are_one_to_one(fixed in proptest::collection::vec(any::<u8>(), 96)) {
        prop_assert_eq!(ecdsa::from_der(&ecdsa::to_der(&fixed), 48), Some(fixed));
    }

    #[test]
    fn any_bytes_are_a_key_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..128), at in 0_usize..91, byte: u8) {
        let mut spki = decode(P256);
        spki[at] = byte;
        for text in [&bytes, &spki] {
            for (.., algorithm, _) in SIGNED {
                if let Some(key) = VerifyingKey::of_issuer(text, algorithm) {
                    key.verify_x509(MESSAGE, &bytes, &mut PureRust);
                }
            }
        }
    }
}
