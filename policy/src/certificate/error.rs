/// Why bytes are not a certificate that an identity can be taken from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// An `iPAddress` name is neither four nor sixteen bytes long.
    #[error("alternative name {index} is an address of {length} bytes")]
    AddressLength {
        /// Which of the alternative names, from 0.
        index: usize,
        /// Its length in bytes.
        length: usize,
    },

    /// A `%` in the URL-encoded text without two hexadecimal digits after it.
    #[error("`%` without two hexadecimal digits at byte {0}")]
    BadEscape(usize),

    /// The same extension twice (RFC 5280 §4.2): readers that take the first disagree with those that take the last.
    #[error("extension `{0}` occurs twice")]
    DuplicateExtension(String),

    /// A DNS name with a dot at its beginning or end, or two in a row: not in the syntax that RFC 5280 §4.2.1.6 asks for, and
    /// a resolver may still take it for the name without.
    #[error("alternative name {index} is a DNS name with an empty label")]
    EmptyLabel {
        /// Which of the alternative names, from 0.
        index: usize,
    },

    /// An alternative name without a character in it.
    #[error("alternative name {index} is empty")]
    EmptyName {
        /// Which of the alternative names, from 0.
        index: usize,
    },

    /// A part is not DER, or not what RFC 5280 says that it is.
    #[error("{0} is malformed")]
    Malformed(&'static str),

    /// A URI, DNS or e-mail name with a NUL, another control character or a byte that is not ASCII.
    #[error("alternative name {index} holds the byte 0x{byte:02x}")]
    NameCharacter {
        /// Which of the alternative names, from 0.
        index: usize,
        /// The byte.
        byte: u8,
    },

    /// Not one PEM block with the label `CERTIFICATE`, or something beside it.
    #[error("not PEM of exactly one certificate")]
    Pem,

    /// The algorithm inside the signed part is not the one outside (RFC 5280 §4.1.1.2).
    #[error("the two signature algorithms differ")]
    SignatureAlgorithm,

    /// Larger than any leaf needs to be; refused before it is parsed.
    #[error("{length} bytes is too long for a certificate")]
    TooLong {
        /// Length of the input in bytes.
        length: usize,
    },

    /// Bytes after the certificate.
    #[error("{0} bytes after the certificate")]
    TrailingBytes(usize),

    /// A version that does not exist, or fields that the version does not have.
    #[error("fields and version do not go together")]
    Version,
}
