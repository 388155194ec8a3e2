//! Why a request was let through or refused: one stable code for each cause.

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $status:literal;)*) => {
        /// The cause of a verdict. The codes are an interface: they are never renamed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            /// Every reason, in the order of this file.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable code, `snake_case`.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The HTTP status that goes with it.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }
        }
    };
}

reasons! {
    /// An allow rule matched and no deny rule did.
    RuleMatched = "rule_matched", 200;
    /// A deny rule matched.
    DenyRuleMatched = "deny_rule_matched", 403;
    /// No rule matched: refused by default.
    NoRuleMatched = "no_rule_matched", 403;
    /// No certificate was presented and no rule allows that.
    NoCertificate = "no_certificate", 401;
    /// A certificate was presented and the proxy did not validate it.
    CertificateNotValidated = "certificate_not_validated", 401;
    /// The certificate's validity has ended.
    CertificateExpired = "certificate_expired", 401;
    /// The certificate's validity has not begun.
    CertificateNotYetValid = "certificate_not_yet_valid", 401;
    /// None of the policy's anchors signed the certificate, or none that did is valid now.
    CertificateIssuerUnknown = "certificate_issuer_unknown", 401;
    /// The certificate is on the list of revoked ones.
    CertificateRevoked = "certificate_revoked", 401;
    /// A distrust rule covers the certificate.
    CertificateDistrusted = "certificate_distrusted", 401;
    /// No identity can be taken from what was presented.
    CertificateUnreadable = "certificate_unreadable", 401;
    /// The revocation list is older than the policy permits.
    RevocationStale = "revocation_stale", 401;
    /// A header that may occur once occurs more often.
    HeaderDuplicated = "header_duplicated", 400;
    /// A header tries to reach one of the gate's own.
    HeaderForbidden = "header_forbidden", 400;
    /// A header that no program should hand on: its name is not a token, or its value holds a control character (RFC 9110
    /// §5.1, §5.5).
    HeaderMalformed = "header_malformed", 400;
    /// The value of a header is not UTF-8: programs behind the gate would each guess at it.
    HeaderNotUtf8 = "header_not_utf8", 400;
    /// A forwarded certificate (`x-forwarded-client-cert`, `client-cert`) from a peer that is not a forwarder.
    ForwarderUntrusted = "forwarder_untrusted", 403;
    /// A certificate in `x-forwarded-client-cert` and one in `client-cert`.
    ForwardedAmbiguous = "forwarded_ambiguous", 400;
    /// A forwarder let through a header that some servers take for one with a forwarded certificate.
    ForwardedAlias = "forwarded_alias", 400;
    /// The header with the forwarded certificate is malformed.
    ForwardedUnparsable = "forwarded_unparsable", 400;
    /// Fewer proxies forwarded than the policy says.
    ForwardedHopMissing = "forwarded_hop_missing", 401;
    /// The client's certificate itself (`Cert`) is not forwarded, so nothing proves what is said of it.
    ForwardedCertificateMissing = "forwarded_certificate_missing", 401;
    /// `Hash` or `Chain` is of another certificate than `Cert`.
    ForwardedHashMismatch = "forwarded_hash_mismatch", 401;
    /// `By` names another proxy than the one that forwards.
    ForwardedByMismatch = "forwarded_by_mismatch", 401;
    /// `URI`, `DNS`, `Subject` or `Issuer` is not what the forwarded certificate says.
    ForwardedNamesMismatch = "forwarded_names_mismatch", 401;
    /// A token in the query, and another one there or something in the `Authorization` header.
    CredentialsAmbiguous = "credentials_ambiguous", 400;
    /// The token's `alg` is not one of the provider's.
    TokenAlgorithmNotAllowed = "token_algorithm_not_allowed", 401;
    /// The token's `alg` is not that of the key.
    TokenAlgorithmMismatch = "token_algorithm_mismatch", 401;
    /// The token is for somebody else.
    TokenAudienceMismatch = "token_audience_mismatch", 401;
    /// The token does not say whom it is for.
    TokenAudienceMissing = "token_audience_missing", 401;
    /// The token is bound to another certificate than the peer's.
    TokenCertificateMismatch = "token_certificate_mismatch", 401;
    /// The token is bound to a certificate, and the peer has none.
    TokenCertificateMissing = "token_certificate_missing", 401;
    /// The token's claims cannot be read, or one of them has the wrong type.
    TokenClaimsInvalid = "token_claims_invalid", 401;
    /// The token's `cnf` is not a JSON object.
    TokenConfirmationInvalid = "token_confirmation_invalid", 401;
    /// The token's `cnf` demands something that is not the thumbprint of a certificate.
    TokenConfirmationUnknown = "token_confirmation_unknown", 401;
    /// The token demands an extension of JWS.
    TokenCriticalHeader = "token_critical_header", 401;
    /// The token has expired.
    TokenExpired = "token_expired", 401;
    /// The token does not say when it expires.
    TokenExpiryMissing = "token_expiry_missing", 401;
    /// The token's header cannot be read.
    TokenHeaderInvalid = "token_header_invalid", 401;
    /// No provider has the token's issuer.
    TokenIssuerMismatch = "token_issuer_mismatch", 401;
    /// The token does not say who issued it.
    TokenIssuerMissing = "token_issuer_missing", 401;
    /// The token's provider has no key of its `kid`.
    TokenKeyUnknown = "token_key_unknown", 401;
    /// What follows `Bearer` is not a token.
    TokenMalformed = "token_malformed", 401;
    /// A token in a token, or an encrypted one.
    TokenNested = "token_nested", 401;
    /// The token is not bound to a certificate, and has to be.
    TokenNotBound = "token_not_bound", 401;
    /// The token is not valid yet.
    TokenNotYetValid = "token_not_yet_valid", 401;
    /// The token's signature is not its provider's.
    TokenSignatureInvalid = "token_signature_invalid", 401;
    /// The token's thumbprint of a certificate is not one.
    TokenThumbprintInvalid = "token_thumbprint_invalid", 401;
    /// The token is longer than the gate reads.
    TokenTooLarge = "token_too_large", 401;
    /// A rule would allow it, for a token, and none was sent.
    TokenMissing = "token_missing", 401;
    /// A rule would allow it, for a token with more scopes (RFC 6750 §3.1).
    ScopeMissing = "scope_missing", 403;
    /// More headers than the gate reads.
    TooManyHeaders = "too_many_headers", 400;
    /// `:authority` and `Host` disagree.
    HostAmbiguous = "host_ambiguous", 400;
    /// The host is not one.
    HostInvalid = "host_invalid", 400;
    /// The method is not a token (RFC 9110 §5.6.2) or has small letters.
    MethodInvalid = "method_invalid", 400;
    /// There is no path (`CONNECT`).
    PathMissing = "path_missing", 400;
    /// The path does not begin with `/`.
    PathNotAbsolute = "path_not_absolute", 400;
    /// A character that no path may hold, or that back ends read in different ways.
    PathInvalidCharacter = "path_invalid_character", 400;
    /// `%` without two hexadecimal digits.
    PathBadEscape = "path_bad_escape", 400;
    /// An escaped `/`, `\` or NUL.
    PathEscapedSeparator = "path_escaped_separator", 400;
    /// An escaped `%` that would make another escape.
    PathDoubleEncoding = "path_double_encoding", 400;
    /// `.` or `..` as a segment.
    PathDotSegment = "path_dot_segment", 400;
    /// Two slashes in a row.
    PathEmptySegment = "path_empty_segment", 400;
    /// A `;`: path parameters are stripped by some back ends.
    PathParameter = "path_parameter", 400;
    /// The decoded path is not UTF-8.
    PathNotUtf8 = "path_not_utf8", 400;
    /// The path is longer than the gate reads.
    PathTooLong = "path_too_long", 400;
    /// The gate itself failed.
    InternalError = "internal_error", 503;
}
