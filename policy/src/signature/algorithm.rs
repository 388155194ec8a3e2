//! What a key signs with.

/// A signature algorithm of JWS (RFC 7518 §3.1, RFC 8037 §3.1). Asymmetric ones only: a gate holds no secret of an issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// All of them.
    pub const ALL: &'static [Self] =
        &[Self::Es256, Self::Es384, Self::Rs256, Self::Rs384, Self::Rs512, Self::Ps256, Self::EdDsa];

    /// Reads the `alg` value; case counts (RFC 7515 §4.1.1).
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|algorithm| algorithm.name() == name)
    }

    /// The `alg` value.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::EdDsa => "EdDSA",
        }
    }

    pub(crate) const fn is_rsa(self) -> bool {
        matches!(self, Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256)
    }

    pub(crate) const fn scheme(self) -> Scheme {
        match self {
            Self::Es256 => Scheme::P256(Hash::Sha256),
            Self::Es384 => Scheme::P384(Hash::Sha384),
            Self::Rs256 => Scheme::Rsa(Hash::Sha256),
            Self::Rs384 => Scheme::Rsa(Hash::Sha384),
            Self::Rs512 => Scheme::Rsa(Hash::Sha512),
            Self::Ps256 => Scheme::RsaPss256,
            Self::EdDsa => Scheme::Ed25519,
        }
    }
}

/// Kind of key and hash. Certificates combine them more freely than JWS does: a P-384 key signs with SHA-256 as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    P256(Hash),
    P384(Hash),
    Rsa(Hash),
    RsaPss256,
    Ed25519,
}

/// A hash function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }
}

impl Scheme {
    /// The JWS algorithm of the same arithmetic, where there is one.
    pub(crate) fn jws(self) -> Option<Algorithm> {
        Algorithm::ALL.iter().copied().find(|algorithm| algorithm.scheme() == self)
    }

    /// Size of a coordinate, and of each half of a signature.
    pub(crate) const fn coordinate(self) -> Option<usize> {
        match self {
            Self::P256(_) => Some(32),
            Self::P384(_) => Some(48),
            Self::Rsa(_) | Self::RsaPss256 | Self::Ed25519 => None,
        }
    }
}
