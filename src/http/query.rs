//! Query strings, read strictly: an unknown parameter or value is an error, never ignored.

use std::{fmt::Display, str::FromStr};

use crate::{Error, Result, escape::Excerpt};

/// The decoded pairs of a query string, each to be taken once.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the part of a URL after `?`.
    pub(super) fn parse(query: Option<&str>) -> Result<Self> {
        let pairs: Vec<(String, String)> = serde_urlencoded::from_str(query.unwrap_or_default())
            .map_err(|why| {
                Error::MalformedRequest(format_args!("query string: {}", Excerpt(why)).into())
            })?;
        Ok(Self(pairs))
    }

    /// Takes a parameter's text.
    pub(super) fn text(&mut self, name: &'static str) -> Result<Option<String>> {
        let Some(at) = self.0.iter().position(|(found, _)| found == name) else {
            return Ok(None);
        };
        let (_, value) = self.0.swap_remove(at);
        if self.0.iter().any(|(found, _)| found == name) {
            return Err(Error::InvalidParameter {
                name,
                detail: "it is given twice".into(),
            });
        }
        Ok(Some(value))
    }

    /// Takes a parameter's value.
    pub(super) fn value<T>(&mut self, name: &'static str) -> Result<Option<T>>
    where
        T: FromStr,
        T::Err: Display,
    {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(why) => Err(Error::InvalidParameter {
                name,
                detail: Excerpt(why).to_string().into(),
            }),
        }
    }

    /// Takes a value whose type says itself what is allowed.
    pub(super) fn choice<T: FromStr<Err = Error>>(
        &mut self,
        name: &'static str,
    ) -> Result<Option<T>> {
        self.text(name)?.map(|text| text.parse()).transpose()
    }

    /// What is left was not asked for by anyone.
    pub(super) fn finish(self, known: &str) -> Result<()> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(Error::MalformedRequest(
                format_args!(
                    "query parameter `{}` is not known here; known are {known}",
                    Excerpt(name)
                )
                .into(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_taken_by_name() {
        let mut query = Query::parse(Some("top_k=3&min_score=0.5")).unwrap();
        assert_eq!(query.value::<usize>("top_k").unwrap(), Some(3));
        assert_eq!(query.value::<f32>("min_score").unwrap(), Some(0.5));
        assert_eq!(query.value::<f32>("other").unwrap(), None);
        query.finish("").unwrap();
    }

    #[test]
    fn a_repeated_parameter_is_refused() {
        let mut query = Query::parse(Some("top_k=3&top_k=4")).unwrap();
        assert!(query.value::<usize>("top_k").is_err());
    }

    #[test]
    fn an_unknown_parameter_is_named() {
        let why = Query::parse(Some("topk=3"))
            .unwrap()
            .finish("top_k")
            .unwrap_err();
        assert!(why.to_string().contains("topk"));
    }

    #[test]
    fn no_query_is_an_empty_one() {
        Query::parse(None).unwrap().finish("").unwrap();
    }
}
