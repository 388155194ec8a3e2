//! `anchors:` to certificates that sign.

use crate::anchor::Anchor;
use crate::anchor::Anchors;
use crate::document;
use crate::error::PolicyError;
use crate::error::PolicyProblem;
use crate::hex::Hex;

/// The most anchors: a certificate that names the issuer of all of them is held against each.
const MAX_ANCHORS: usize = 64;

pub(super) fn compile(written: &[document::Anchor<'_>]) -> Result<Anchors, PolicyError> {
    if written.len() > MAX_ANCHORS {
        let problem = PolicyProblem::TooMany { what: "anchors", limit: MAX_ANCHORS };
        return Err(PolicyError::new("anchors", problem));
    }
    let mut anchors: Vec<Anchor> = Vec::with_capacity(written.len());
    for (position, written) in written.iter().enumerate() {
        let place = |field: &str, problem| PolicyError::new(format!("anchors[{position}]{field}"), problem);
        let pem = match (&written.pem, &written.file) {
            (Some(pem), None) => pem.as_str(),
            (None, Some(_)) => {
                return Err(place(".file", PolicyProblem::NotInline { what: "the certificate of this file" }));
            }
            (Some(_), Some(_)) | (None, None) => {
                return Err(place("", PolicyProblem::ExactlyOne { first: "pem", second: "file" }));
            }
        };
        let anchor = Anchor::from_pem(pem).map_err(|why| place(".pem", PolicyProblem::BadAnchor { why }))?;
        if anchors.iter().any(|known| known.sha256() == anchor.sha256()) {
            let name = Hex(anchor.sha256()).to_string();
            return Err(place(".pem", PolicyProblem::Duplicate { what: "the anchor", name }));
        }
        anchors.push(anchor);
    }
    anchors.sort_unstable_by(|one, other| one.sha256().cmp(other.sha256()));
    Ok(Anchors(anchors))
}
