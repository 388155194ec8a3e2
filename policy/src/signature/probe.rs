//! Whether somebody who offers to verify signatures does.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Algorithm;
use super::Verifier;
use super::VerifyingKey;

// RFC 7515 appendix A.3.
const X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
const Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
const SIGNED: &str = concat!(
    "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9",
    "pc19yb290Ijp0cnVlfQ",
);
const SIGNATURE: &str = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";

/// Asks about a published signature, and about one of another text: whether both answers are right.
pub fn probe(verifier: &mut dyn Verifier) -> bool {
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
    let signature = decode(SIGNATURE);
    VerifyingKey::ec(Algorithm::Es256, &decode(X), &decode(Y)).is_some_and(|key| {
        key.verify(SIGNED.as_bytes(), &signature, verifier) && !key.verify(b"another text", &signature, verifier)
    })
}
