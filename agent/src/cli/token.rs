//! `portcullis token`.

use std::fs;
use std::io;
use std::io::BufRead as _;
use std::io::BufWriter;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use portcullis_policy::UnixTime;
use portcullis_policy::signature::PureRust;
use portcullis_policy::token::Algorithm;
use portcullis_policy::token::Expectations;
use portcullis_policy::token::Jws;
use portcullis_policy::token::KeySet;
use portcullis_policy::token::KeySetError;
use portcullis_policy::token::RegisteredClaims;
use portcullis_policy::token::TokenError;
use serde::Serialize;

use super::Global;
use super::Outcome;
use super::wait::duration;
use crate::leaf::now;

/// Verify bearer tokens.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Verify tokens: one compact JWS per line of standard input, one JSON object per line out. Either `--issuer` and
    /// `--audience` are needed, or `--signature-only`. Of a token in which several things are wrong the same one is named as
    /// by the gate. Whether it is bound to a certificate (`cnf`) is left to the gate, which sees the certificate.
    #[command(
        override_usage = "portcullis token verify --jwks <FILE> --issuer <ISSUER> --audience <AUDIENCE> [OPTIONS]\n       \
                          portcullis token verify --jwks <FILE> --signature-only [OPTIONS]"
    )]
    Verify(Verify),
}

#[derive(Debug, clap::Args)]
struct Verify {
    /// The issuer's keys, a JWK Set (RFC 7517). An RSA key without `alg` is for the only RSA algorithm that is taken, and
    /// for RS256 where several are.
    #[arg(long, value_name = "FILE")]
    jwks: PathBuf,
    /// The only algorithms that are taken, separated by commas; by default all that are known.
    #[arg(long, value_name = "ALGORITHMS", value_delimiter = ',', value_parser = algorithm)]
    algorithms: Vec<Algorithm>,
    /// The `iss` that a token must have. Needed, unless `--signature-only` is given.
    #[arg(long, required_unless_present = "signature_only")]
    issuer: Option<String>,
    /// An `aud` that a token must have; may be given more than once, then one of them. Needed, unless `--signature-only` is
    /// given.
    #[arg(long, required_unless_present = "signature_only")]
    audience: Vec<String>,
    /// How far the issuer's clock may be off.
    #[arg(long, default_value = "60s", value_parser = duration)]
    clock_skew: Duration,
    /// Verify the signature and nothing of the payload, which may be anything.
    #[arg(long, conflicts_with_all = ["issuer", "audience", "clock_skew"])]
    signature_only: bool,
}

/// Why no token could be looked at.
#[derive(Debug, thiserror::Error)]
enum KeysError {
    /// The file.
    #[error("cannot read `{}`", file.display())]
    Unreadable { file: PathBuf, source: io::Error },
    /// Its content.
    #[error("`{}` is not a JWK Set", file.display())]
    NotKeys { file: PathBuf, source: KeySetError },
}

/// The answer to one token.
#[derive(Debug, Serialize)]
struct Answer {
    valid: bool,
    reason: &'static str,
}

impl Args {
    pub(super) fn run(self, _: &Global) -> Outcome {
        let Command::Verify(verify) = self.command;
        verify.run()
    }
}

impl Verify {
    fn run(self) -> Outcome {
        let keys = self.keys()?;
        let expected = (!self.signature_only).then_some(Expectations {
            issuer: self.issuer,
            audience: self.audience,
            clock_skew: self.clock_skew,
            ..Expectations::default()
        });
        let mut out = BufWriter::new(io::stdout().lock());
        // Bytes, since a token that is not UTF-8 has an answer too.
        for line in io::stdin().lock().split(b'\n') {
            let answer = match verify(&keys, expected.as_ref(), &line?, now()) {
                Ok(()) => Answer { valid: true, reason: "verified" },
                Err(error) => Answer { valid: false, reason: error.code() },
            };
            serde_json::to_writer(&mut out, &answer)?;
            writeln!(out)?;
        }
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }

    fn keys(&self) -> Result<KeySet, Box<KeysError>> {
        let unreadable = |source| KeysError::Unreadable { file: self.jwks.clone(), source };
        let text = fs::read(&self.jwks).map_err(unreadable)?;
        let allowed = if self.algorithms.is_empty() { Algorithm::ALL } else { &self.algorithms };
        let keys = KeySet::from_json(&text, allowed);
        let keys = keys.map_err(|source| KeysError::NotKeys { file: self.jwks.clone(), source })?;
        if keys.ignored() > 0 {
            tracing::warn!(keys = keys.keys().len(), ignored = keys.ignored(), "some keys of the set cannot be used");
        }
        Ok(keys)
    }
}

fn verify(keys: &KeySet, expected: Option<&Expectations>, token: &[u8], now: UnixTime) -> Result<(), TokenError> {
    let token = Jws::parse(token)?;
    match expected {
        Some(expected) => {
            let claims = RegisteredClaims::parse(token.payload())?;
            portcullis_policy::token::verify(&token, &claims, keys, expected, now, &mut PureRust)
        }
        None => keys.verify(&token, &mut PureRust).map(drop),
    }
}

fn algorithm(name: &str) -> Result<Algorithm, String> {
    Algorithm::parse(name).ok_or_else(|| {
        let known: Vec<_> = Algorithm::ALL.iter().map(|algorithm| algorithm.name()).collect();
        format!("not an algorithm that tokens are verified with; known are {}", known.join(", "))
    })
}
