//! `--filter`: which records are printed.

use std::str::FromStr;

use regex::bytes::Regex;
use sapwood::ConsumerRecord;

/// A regular expression and where it looks.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    field: Field,
    regex: Regex,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Field {
    Key,
    Value,
    /// The values of headers of this name; of all of them without one.
    Header(Option<String>),
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = "write key=REGEX, value=REGEX, header=REGEX or header.NAME=REGEX";
        let (field, regex) = text.split_once('=').ok_or(form)?;
        let field = match field.split_once('.') {
            None if field == "key" => Field::Key,
            None if field == "value" => Field::Value,
            None if field == "header" => Field::Header(None),
            Some(("header", name)) => Field::Header(Some(name.to_owned())),
            _ => return Err(form.to_owned()),
        };
        let regex = Regex::new(regex).map_err(|error| error.to_string())?;
        Ok(Self { field, regex })
    }
}

impl Filter {
    pub(crate) fn matches(&self, record: &ConsumerRecord<'_>) -> bool {
        let matches = |bytes: Option<&[u8]>| bytes.is_some_and(|bytes| self.regex.is_match(bytes));
        match &self.field {
            Field::Key => matches(record.key()),
            Field::Value => matches(record.value()),
            Field::Header(name) => record
                .headers()
                .filter(|header| name.as_deref().is_none_or(|name| header.name() == name))
                .any(|header| matches(header.value())),
        }
    }

    /// What to point out in keys, if it looks there.
    pub(crate) fn in_keys(&self) -> Option<&Regex> {
        (self.field == Field::Key).then_some(&self.regex)
    }

    /// What to point out in values, if it looks there.
    pub(crate) fn in_values(&self) -> Option<&Regex> {
        (self.field == Field::Value).then_some(&self.regex)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_names_its_field_and_the_rest_is_the_expression() {
        let filter: Filter = "header.trace=^a=b".parse().unwrap();
        assert_eq!(filter.field, Field::Header(Some("trace".to_owned())));
        assert_eq!(filter.regex.as_str(), "^a=b");
        for wrong in ["paid", "body=paid", "key.x=paid", "value=("] {
            assert!(wrong.parse::<Filter>().is_err(), "{wrong}");
        }
    }
}
