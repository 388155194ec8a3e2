//! One condition of a role's member, and whether a certificate fulfils it.

use crate::certificate::DistinguishedName;
use crate::certificate::Leaf;
use crate::certificate::PublicKey;
use crate::network::Network;
use crate::network::number;
use crate::pattern::Pattern;
use crate::pattern::Patterns;
use crate::pattern::Step;
use crate::requirement::Truth;
use crate::roles::Binding;
use crate::spiffe::SpiffeId;
use crate::strings::Strings;
use crate::strings::hash;
use crate::strings::mix;
use crate::token::Token;
use crate::token::condition::TokenCondition;

/// A condition on a leaf. Each names the kind of name that it looks at; no kind stands in for another.
#[derive(Debug)]
pub(crate) enum Condition {
    /// A `dNSName` equals this text, in lower case, or has one label where the text begins with `*.`.
    Dns(Box<str>),
    /// The extended key usage has all of these purposes, as dotted object identifiers.
    Eku(Box<[Box<str>]>),
    /// An `rfc822Name` equals this, its domain in lower case.
    Email(Box<str>),
    /// An `iPAddress` lies in this network.
    Ip(Box<Network>),
    /// The issuer has these attributes, each once.
    Issuer(Box<[Attribute]>),
    /// The anchor of this hash signed it.
    IssuerAnchor(Box<[u8; 32]>),
    /// The authority key identifier is this.
    IssuerKey(Box<[u8]>),
    /// The public key is of this kind and has this size at least.
    Key { kind: KeyKind, min_bits: usize },
    /// The validity is this many seconds long at most, from its first to its last.
    MaxLifetime(i64),
    /// These do not all hold, though all that matters to that is known.
    Not(Box<[Self]>),
    /// Each of these dotted object identifiers is one of its certificate policies or of its extensions.
    Oid(Box<[Box<str>]>),
    /// The serial number, without leading zeros.
    Serial(Box<[u8]>),
    /// The hash of the certificate.
    Sha256(Box<[u8; 32]>),
    /// The SPIFFE ID matches.
    Spiffe(Pattern),
    /// The hash of the public key.
    SpkiSha256(Box<[u8; 32]>),
    /// The subject has these attributes, each once.
    Subject(Box<[Attribute]>),
    /// The token fulfils this. The only condition that is not about the certificate.
    Token(Box<TokenCondition>),
    /// A `uniformResourceIdentifier` is this, byte by byte.
    Uri(Box<str>),
}

/// The kinds of keys that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    Ec,
    Ed25519,
    Rsa,
}

impl KeyKind {
    /// All of them, by name.
    pub(crate) const NAMES: [(&'static str, Self); 3] =
        [("ec", Self::Ec), ("ed25519", Self::Ed25519), ("rsa", Self::Rsa)];

    pub(crate) fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    /// Of a key; `None` for kinds that cannot be asked for.
    fn of(key: &PublicKey) -> Option<Self> {
        match key {
            PublicKey::Ec { .. } => Some(Self::Ec),
            PublicKey::Rsa { .. } => Some(Self::Rsa),
            PublicKey::Other { algorithm } => (algorithm == ED25519).then_some(Self::Ed25519),
        }
    }
}

/// RFC 8410 §3.
pub(crate) const ED25519: &str = "1.3.101.112";

/// An attribute of a distinguished name, and the value that it must have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Attribute {
    /// As the policy names it: a short name or a dotted object identifier.
    pub(crate) name: Box<str>,
    /// Dotted object identifier.
    pub(crate) oid: Box<str>,
    pub(crate) value: Box<str>,
}

/// The rarities of [`Condition::key`] from which on a condition is shared by fewer certificates than a SPIFFE pattern.
pub(super) const RARER_THAN_SPIFFE: u8 = 6;

impl Condition {
    /// Whether certificate and token fulfil it, adding what a pattern captures to `binding`. What claims capture is left to
    /// the member: they can stand for several texts.
    pub(crate) fn holds(
        &self,
        leaf: Option<&Leaf>,
        token: Option<&Token>,
        patterns: &Patterns,
        strings: &Strings,
        binding: &mut Binding,
    ) -> bool {
        self.truth(leaf, token, patterns, strings, binding) == Truth::True
    }

    /// The same with three values: unknown where there is no certificate or token to ask, or where it has nothing of the kind
    /// that is asked about, or has it more than once where it should be single.
    fn truth(
        &self,
        leaf: Option<&Leaf>,
        token: Option<&Token>,
        patterns: &Patterns,
        strings: &Strings,
        binding: &mut Binding,
    ) -> Truth {
        let leaf = match (self, leaf) {
            (Self::Not(inner), _) => {
                let truths = inner.iter().map(|condition| condition.truth(leaf, token, patterns, strings, binding));
                return Truth::all(truths).not();
            }
            (Self::Token(wanted), _) => return token.map_or(Truth::Unknown, |token| wanted.truth(token)),
            (_, Some(leaf)) => leaf,
            (_, None) => return Truth::Unknown,
        };
        match self {
            Self::Dns(name) => match any(leaf.dns_names(), |san| dns_matches(name, san)) {
                // A wildcard in the certificate names many hosts, this one perhaps among them.
                Truth::False if leaf.dns_names().any(|san| san.contains('*')) => Truth::Unknown,
                truth => truth,
            },
            Self::Eku(purposes) => match leaf.eku() {
                [] => Truth::Unknown,
                held => Truth::of(purposes.iter().all(|purpose| held.iter().any(|held| **held == **purpose))),
            },
            Self::Email(name) => any(leaf.emails(), |san| fold_email(san).as_deref() == Some(name.as_ref())),
            Self::Ip(network) => any(leaf.ips(), |address| network.contains(address)),
            Self::Issuer(wanted) => attributes(wanted, leaf.issuer()),
            Self::IssuerAnchor(hash) => any(leaf.provenance().issuers(), |issuer| *issuer == **hash),
            Self::IssuerKey(key) => leaf.authority_key_id().map_or(Truth::Unknown, |id| Truth::of(id == key.as_ref())),
            Self::Key { kind, min_bits } => match (KeyKind::of(leaf.public_key()), leaf.public_key().bits()) {
                (None, _) => Truth::Unknown,
                (Some(known), _) if known != *kind => Truth::False,
                (Some(_), _) if *min_bits == 0 => Truth::True,
                (Some(_), bits) => bits.map_or(Truth::Unknown, |bits| Truth::of(bits >= *min_bits)),
            },
            Self::MaxLifetime(seconds) => Truth::of(leaf.not_after().0.saturating_sub(leaf.not_before().0) <= *seconds),
            Self::Oid(wanted) => {
                let policies = leaf.policies();
                let held = leaf.extensions().iter().chain(policies.unwrap_or_default());
                let all = wanted.iter().all(|wanted| held.clone().any(|held| **held == **wanted));
                // Who does not speak of policies at all does not deny one.
                if !all && policies.is_none() { Truth::Unknown } else { Truth::of(all) }
            }
            Self::Serial(serial) => Truth::of(trim_serial(leaf.serial()) == serial.as_ref()),
            Self::Sha256(hash) => Truth::of(leaf.sha256() == hash.as_ref()),
            Self::Spiffe(pattern) => leaf
                .spiffe()
                .map_or(Truth::Unknown, |id| Truth::of(spiffe_matches(*pattern, id, patterns, strings, binding))),
            Self::SpkiSha256(hash) => Truth::of(leaf.spki_sha256() == hash.as_ref()),
            Self::Subject(wanted) => attributes(wanted, leaf.subject()),
            // Answered above, whether or not there is a certificate.
            Self::Not(_) | Self::Token(_) => Truth::Unknown,
            Self::Uri(uri) => any(leaf.uris(), |san| san == uri.as_ref()),
        }
    }

    /// Whether whoever fulfils this one fulfils the other, for certain. `other` has no captures.
    pub(crate) fn implies(&self, other: &Self, patterns: &Patterns) -> bool {
        let within = |few: &[Attribute], many: &[Attribute]| {
            few.iter().all(|one| many.iter().any(|other| (&one.oid, &one.value) == (&other.oid, &other.value)))
        };
        match (self, other) {
            (Self::Dns(narrow), Self::Dns(wide)) => dns_matches(wide, narrow),
            (Self::Eku(many), Self::Eku(few)) | (Self::Oid(many), Self::Oid(few)) => {
                few.iter().all(|one| many.contains(one))
            }
            (Self::Email(one), Self::Email(other)) | (Self::Uri(one), Self::Uri(other)) => one == other,
            (Self::Ip(narrow), Self::Ip(wide)) => wide.bits <= narrow.bits && wide.contains(narrow.address),
            (Self::Issuer(many), Self::Issuer(few)) | (Self::Subject(many), Self::Subject(few)) => within(few, many),
            (Self::IssuerAnchor(one), Self::IssuerAnchor(other))
            | (Self::Sha256(one), Self::Sha256(other))
            | (Self::SpkiSha256(one), Self::SpkiSha256(other)) => one == other,
            (Self::IssuerKey(one), Self::IssuerKey(other)) | (Self::Serial(one), Self::Serial(other)) => one == other,
            (Self::Key { kind, min_bits }, Self::Key { kind: other, min_bits: least }) => {
                kind == other && min_bits >= least
            }
            (Self::MaxLifetime(short), Self::MaxLifetime(long)) => short <= long,
            (Self::Spiffe(narrow), Self::Spiffe(wide)) => patterns.covers(*wide, *narrow),
            (Self::Token(one), Self::Token(other)) => one.implies(other),
            _ => false,
        }
    }

    /// The field of a member that it is written under.
    pub(crate) fn field(&self) -> &'static str {
        match self {
            Self::Dns(_) => "dns",
            Self::Eku(_) => "eku",
            Self::Email(_) => "email",
            Self::Ip(_) => "ip",
            Self::Issuer(_) | Self::IssuerAnchor(_) | Self::IssuerKey(_) => "issuer",
            Self::Key { .. } => "key",
            Self::MaxLifetime(_) => "max_lifetime",
            Self::Not(_) => "not",
            Self::Oid(_) => "oid",
            Self::Serial(_) => "serial",
            Self::Sha256(_) => "sha256",
            Self::Spiffe(_) => "spiffe",
            Self::SpkiSha256(_) => "spki_sha256",
            Self::Subject(_) => "subject",
            Self::Token(_) => "token",
            Self::Uri(_) => "uri",
        }
    }

    /// Whether it asks for a token, at any depth.
    pub(super) fn asks_token(&self) -> bool {
        match self {
            Self::Token(_) => true,
            Self::Not(inner) => inner.iter().any(Self::asks_token),
            _ => false,
        }
    }

    /// What to look this condition up by, and how few certificates share it (higher is fewer); `None` if it has to be tried.
    pub(super) fn key(&self) -> Option<(u8, u64)> {
        Some(match self {
            Self::Sha256(hash) => (9, key(b'c', &**hash)),
            Self::SpkiSha256(hash) => (8, key(b'k', &**hash)),
            Self::Serial(serial) => (7, key(b'n', serial)),
            Self::Uri(uri) => (5, key(b'u', uri.as_bytes())),
            Self::Email(name) => (4, key(b'e', name.as_bytes())),
            Self::Dns(name) => (3, key(b'd', name.as_bytes())),
            Self::Ip(network) if network.is_single() => (2, key(b'i', &number(network.address).to_le_bytes())),
            Self::Subject(attributes) => (1, attribute_key(b's', attributes.first()?)),
            Self::IssuerAnchor(hash) => (0, key(b'h', &**hash)),
            Self::IssuerKey(bytes) => (0, key(b'a', bytes)),
            Self::Eku(_)
            | Self::Ip(_)
            | Self::Issuer(_)
            | Self::Key { .. }
            | Self::MaxLifetime(_)
            | Self::Not(_)
            | Self::Oid(_)
            | Self::Spiffe(_)
            | Self::Token(_) => return None,
        })
    }
}

/// Every key under which a condition may be found that this certificate could fulfil.
pub(super) fn keys(leaf: &Leaf, found: &mut impl FnMut(u64)) {
    found(key(b'c', leaf.sha256()));
    found(key(b'k', leaf.spki_sha256()));
    found(key(b'n', trim_serial(leaf.serial())));
    leaf.uris().for_each(|uri| found(key(b'u', uri.as_bytes())));
    leaf.emails().filter_map(fold_email).for_each(|email| found(key(b'e', email.as_bytes())));
    for name in leaf.dns_names() {
        let name = name.to_ascii_lowercase();
        found(key(b'd', name.as_bytes()));
        if let Some((_, parent)) = name.split_once('.') {
            found(key(b'd', format!("*.{parent}").as_bytes()));
        }
    }
    leaf.ips().for_each(|address| found(key(b'i', &number(address).to_le_bytes())));
    for attribute in leaf.subject().attributes() {
        if let Some(value) = attribute.text() {
            found(key(b's', attribute.oid().as_bytes()) ^ mix(hash(value.as_bytes())));
        }
    }
    leaf.provenance().issuers().for_each(|hash| found(key(b'h', hash)));
    if let Some(bytes) = leaf.authority_key_id() {
        found(key(b'a', bytes));
    }
}

/// Whether one of the names is it; unknown without any.
fn any<T>(names: impl Iterator<Item = T>, is: impl Fn(T) -> bool) -> Truth {
    let mut names = names.peekable();
    if names.peek().is_none() { Truth::Unknown } else { Truth::of(names.any(is)) }
}

fn attributes(wanted: &[Attribute], name: &DistinguishedName) -> Truth {
    let truth = |wanted: &Attribute| {
        name.single(&wanted.oid).map_or(Truth::Unknown, |value| Truth::of(value == wanted.value.as_ref()))
    };
    Truth::all(wanted.iter().map(truth))
}

fn key(kind: u8, bytes: &[u8]) -> u64 {
    mix(hash(bytes) ^ u64::from(kind))
}

fn attribute_key(kind: u8, attribute: &Attribute) -> u64 {
    key(kind, attribute.oid.as_bytes()) ^ mix(hash(attribute.value.as_bytes()))
}

/// A serial number is a number: zeros before it say nothing.
pub(crate) fn trim_serial(serial: &[u8]) -> &[u8] {
    let zeros = serial.iter().take_while(|&&byte| byte == 0).count();
    serial.get(zeros..).unwrap_or_default()
}

/// The local part as it is, the domain in lower case.
pub(crate) fn fold_email(email: &str) -> Option<String> {
    let (local, domain) = email.rsplit_once('@')?;
    Some(format!("{local}@{}", domain.to_ascii_lowercase()))
}

/// `pattern` is in lower case. A wildcard in the certificate is fulfilled by the same text only: it names many hosts, and
/// the rule may be about one of them.
pub(crate) fn dns_matches(pattern: &str, san: &str) -> bool {
    if pattern.eq_ignore_ascii_case(san) {
        return true;
    }
    let (Some(parent), Some((label, san_parent))) = (pattern.strip_prefix("*."), san.split_once('.')) else {
        return false;
    };
    !label.is_empty() && !label.contains('*') && parent.eq_ignore_ascii_case(san_parent)
}

fn spiffe_matches(
    pattern: Pattern,
    id: &SpiffeId,
    patterns: &Patterns,
    strings: &Strings,
    binding: &mut Binding,
) -> bool {
    let mut words = spiffe_words(id);
    for &step in patterns.steps(pattern) {
        let Some(word) = words.next() else { return false };
        let fits = match step {
            Step::Literal(literal) => strings.text(literal) == word,
            Step::Capture(name) => binding.bind(name, word),
            Step::One => true,
        };
        if !fits {
            return false;
        }
    }
    pattern.rest || words.next().is_none()
}

/// The trust domain and the segments.
pub(crate) fn spiffe_words(id: &SpiffeId) -> impl Iterator<Item = &str> {
    std::iter::once(id.trust_domain()).chain(id.segments())
}
