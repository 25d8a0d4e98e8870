//! Which column of a sheet with headers of its own is which field? `--map "Host name=source_server.name"`, or `[columns]` in the
//! defaults file.

use super::clean::trim;
use super::columns::meaning;
use super::settings::SKIP;
use crate::contract::shown;

/// The headers that stand for others, and what becomes of columns that mean nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// (header as it stands in the file, header as plans have it)
    of: Vec<(String, String)>,
    /// Columns that no plan has are notes.
    pub ignore_others: bool,
}

impl Mapping {
    /// Whether somebody has said that the file has headers of its own.
    pub fn is_used(&self) -> bool {
        !self.of.is_empty() || self.ignore_others
    }

    /// (header of the file, what it stands for)
    pub fn pairs(&self) -> &[(String, String)] {
        &self.of
    }

    /// Takes `header=field, header=field`.
    ///
    /// # Errors
    /// What is wrong with a pair, and what is allowed.
    pub fn add_text(&mut self, text: &str) -> Result<(), String> {
        for pair in text.split(',').map(trim).filter(|pair| !pair.is_empty()) {
            let Some((header, field)) = pair.rsplit_once('=') else {
                return Err(format!("{}: write it as header=field", shown(pair)));
            };
            self.add(header, field)?;
        }
        Ok(())
    }

    /// # Errors
    /// It is no field, or the header is mapped already.
    pub fn add(&mut self, header: &str, field: &str) -> Result<(), String> {
        let (header, field) = (trim(header), trim(field));
        if header.is_empty() {
            return Err(format!("the column of {} has no name", shown(field)));
        }
        if let Err((allowed, advice)) = meaning(field) {
            let advice = advice.map(|advice| format!("; {advice}")).unwrap_or_default();
            return Err(format!(
                "{} is none of: {allowed}, {SKIP} among them{advice}",
                shown(field)
            ));
        }
        match self.field_of(header) {
            Some(other) if other != field => Err(format!(
                "{} is to be both {} and {}",
                shown(header),
                shown(other),
                shown(field)
            )),
            Some(_) => Ok(()),
            None => {
                self.of.push((header.to_owned(), field.to_owned()));
                Ok(())
            }
        }
    }

    /// What is mapped twice, is as it was said first.
    pub fn extend(&mut self, more: &Self) {
        for (header, field) in &more.of {
            if self.field_of(header).is_none() {
                self.of.push((header.clone(), field.clone()));
            }
        }
    }

    /// What a header of the file stands for; whatever its case.
    pub(super) fn field_of(&self, header: &str) -> Option<&str> {
        let same = |of: &str| of.to_lowercase() == header.to_lowercase();
        self.of.iter().find(|(of, _)| same(of)).map(|(_, field)| field.as_str())
    }

    /// The header as a plan has it: of one that means nothing and is ignored, as a note.
    pub(super) fn translated(&self, header: &str) -> String {
        match self.field_of(header) {
            Some(field) => field.to_owned(),
            None if self.ignore_others && !header.is_empty() && is_foreign(header) => {
                format!("#{header}")
            }
            None => header.to_owned(),
        }
    }
}

/// Whether a header is none of a plan's.
fn is_foreign(header: &str) -> bool {
    !header.starts_with('#') && meaning(header).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_and_what_is_wrong_with_one_is_told() {
        let mut mapping = Mapping::default();
        mapping
            .add_text("Host name = source_server.name, Prio=priority,a=b=x-sluice-deadline")
            .unwrap();
        assert_eq!(mapping.field_of("host NAME"), Some("source_server.name"));
        assert_eq!(mapping.field_of("a=b"), Some("x-sluice-deadline"));
        let wrong = |text: &str| mapping.clone().add_text(text).unwrap_err();
        assert!(wrong("Host name").contains("header=field"));
        assert!(wrong("x=prioritty").contains("did you mean priority?"));
        assert!(wrong("PRIO=name").contains("both"));
        assert!(mapping.add_text("prio=priority").is_ok());
    }
}
