//! One entry for many certificates: a file of DNS names, a certificate for each.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::Ca;
use super::Certificate;
use super::Issuer;
use super::calendar::Calendars;
use super::check::Check;
use super::raw;
use crate::names::Names;
use crate::yaml::Located;

/// What stands for the name in a directory's path.
const NAME: &str = "{name}";

impl Check<'_> {
    /// The certificates that an entry is about: one with a name of its own, or one for each line of a file.
    pub(super) fn certificates_of(
        &self,
        mut raw: raw::Certificate,
        field: &str,
        ca: &Ca,
        issuers: &[Issuer],
        calendars: &mut Calendars,
    ) -> Result<Vec<Certificate>, Located> {
        match (raw.name.take(), raw.each.take()) {
            (Some(name), None) => Ok(vec![self.certificate(name, raw, field, ca, issuers, calendars)?]),
            (None, Some(file)) => self.each(&file, raw, field, ca, issuers, calendars),
            (Some(_), Some(_)) | (None, None) => {
                let message = "give it a `name`, or with `each` a file of DNS names that get a certificate each";
                Err(self.bad(&format!("{field}.name"), message))
            }
        }
    }

    fn each(
        &self,
        file: &Path,
        mut raw: raw::Certificate,
        field: &str,
        ca: &Ca,
        issuers: &[Issuer],
        calendars: &mut Calendars,
    ) -> Result<Vec<Certificate>, Located> {
        let place = format!("{field}.each");
        if raw.spiffe.is_some() || !raw.dns.is_empty() || !raw.ip.is_empty() {
            let message =
                "a line of the file is all that its certificate is issued for; leave out `spiffe`, `dns` and `ip`";
            return Err(self.bad(&place, message));
        }
        let directory = raw.files.as_ref().map(|files| files.directory.to_string_lossy().into_owned());
        if directory.as_ref().is_some_and(|directory| !directory.contains(NAME)) {
            let message =
                format!("write `{NAME}` into the path, as in `/etc/portcullis/{NAME}`: each has its own directory");
            return Err(self.bad(&format!("{field}.files.directory"), &message));
        }
        let names = self.lines(file, &place)?;
        let Some(first) = names.first() else {
            return Err(self.bad(&place, &format!("`{}` names nobody", self.path(file).display())));
        };
        raw.dns = vec![first.clone()];
        let asked_for: Vec<Option<String>> = raw.served_at.iter().map(|at| at.sni.clone()).collect();
        let template = self.certificate(first.clone(), raw, field, ca, issuers, calendars)?;
        let one = |name: String| {
            let mut one = template.clone();
            let usage = template.names.usage().to_vec();
            one.names = Names::new(None, vec![name.clone()], Vec::new(), usage, &ca.trust_domain)
                .map_err(|error| self.bad(&place, &error.to_string()))?;
            self.inside(&one.names, &one.issuer, one.fallback.as_ref(), &place, ca)?;
            for (at, sni) in one.served_at.iter_mut().zip(&asked_for) {
                at.sni = sni.clone().or_else(|| Some(name.clone()));
            }
            if let (Some(files), Some(directory)) = (&mut one.files, &directory) {
                files.directory = self.path(Path::new(&directory.replace(NAME, &name)));
            }
            one.name = name;
            Ok(one)
        };
        names.into_iter().map(one).collect()
    }

    /// The names in a file, one a line; `#` begins a comment.
    fn lines(&self, file: &Path, place: &str) -> Result<Vec<String>, Located> {
        let path = self.path(file);
        let text = fs::read_to_string(&path)
            .map_err(|error| self.bad(place, &format!("`{}` cannot be read: {error}", path.display())))?;
        let mut seen = BTreeMap::new();
        let mut names = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let name = line.split('#').next().unwrap_or_default().trim().to_ascii_lowercase();
            if name.is_empty() {
                continue;
            }
            let refuse = |why: String| self.bad(place, &format!("`{}`, line {number}: {why}", path.display()));
            if name.starts_with("*.") {
                return Err(refuse(format!("`{name}` is no server name that a client asks for; name each")));
            }
            // As a certificate's own check would say it, but with the line.
            if let Err(error) =
                Names::new(None, vec![name.clone()], Vec::new(), vec![crate::command::Usage::Server], "")
            {
                return Err(refuse(error.to_string()));
            }
            if let Some(first) = seen.insert(name.clone(), number) {
                return Err(refuse(format!("`{name}` stands in line {first} already")));
            }
            names.push(name);
        }
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::super::Config;
    use super::super::ConfigError;

    fn load(entry: &str, names: &str) -> Result<Config, String> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("portcullis.yaml");
        std::fs::write(directory.path().join("names.txt"), names).unwrap();
        let text = format!(
            "version: 1\nca: {{ trust_domain: acme.example, name_constraints: {{ dns: [example] }} }}\ncertificates:\n  - {entry}\n"
        );
        std::fs::write(&file, text).unwrap();
        Config::load(&file).map_err(|error| match error {
            ConfigError::Refused(located) => located.to_string(),
            other => panic!("{other}"),
        })
    }

    #[test]
    fn each_line_is_a_certificate() {
        let entry = "{ each: names.txt, lifetime: 7d, served_at: [{ address: \"127.0.0.1:10443\" }], \
                     files: { directory: \"tls/{name}\" } }";
        let config = load(entry, "# tenants\na.shop.example\n\n  B.shop.example  # two\n").unwrap();
        let seen: Vec<_> = config
            .certificates
            .iter()
            .map(|one| (one.name.as_str(), one.names.dns().to_vec(), one.served_at[0].sni.clone().unwrap()))
            .collect();
        let expected = ["a.shop.example", "b.shop.example"].map(|name| (name, vec![name.to_owned()], name.to_owned()));
        assert_eq!(seen, expected);
        for one in &config.certificates {
            assert_eq!(one.lifetime, 7 * 86_400);
            assert!(one.files.as_ref().unwrap().directory.ends_with(format!("tls/{}", one.name)));
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let each = "{ each: names.txt }";
        for (entry, names, expected) in [
            (each, "a.example\nb.elsewhere\n", "b.elsewhere"),
            (each, "a.example\na.example\n", "line 2: `a.example` stands in line 1 already"),
            (each, "a.example\nnot a name\n", "line 2: `not a name` is not a DNS name"),
            (each, "*.example\n", "line 1: `*.example` is no server name"),
            (each, "# nobody\n", "names nobody"),
            ("{ each: names.txt, name: a }", "a.example\n", "a `name`, or with `each`"),
            ("{ lifetime: 1h }", "", "a `name`, or with `each`"),
            ("{ each: names.txt, dns: [a.example] }", "a.example\n", "leave out `spiffe`, `dns` and `ip`"),
            ("{ each: names.txt, files: { directory: tls } }", "a.example\n", "write `{name}` into the path"),
            ("{ each: missing.txt }", "", "missing.txt` cannot be read"),
        ] {
            let refused = load(entry, names).expect_err(entry);
            assert!(refused.contains(expected), "{entry}: {refused}");
        }
    }

    #[test]
    fn thousands_are_read() {
        let mut names = String::new();
        for number in 0..10_000 {
            writeln!(names, "shop-{number}.example").unwrap();
        }
        assert_eq!(load("{ each: names.txt }", &names).unwrap().certificates.len(), 10_000);
    }
}
