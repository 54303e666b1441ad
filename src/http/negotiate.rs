//! Choosing among media types by `Accept` (RFC 9110 §12.5.1).
//!
//! By hand: the crate `headers` reads typed headers, but neither `Accept` nor `Accept-Encoding`, and
//! for `If-None-Match` alone it would not pay.

use axum::http::{HeaderMap, header};

/// The offer that the client likes best; `None` when it accepts none of them.
///
/// `offers` are full media types in our own order of preference, which breaks ties. Without an
/// `Accept` header anything is accepted.
pub(super) fn choose<'a>(headers: &HeaderMap, offers: &[&'a str]) -> Option<&'a str> {
    let mut accepted = Vec::new();
    for value in headers.get_all(header::ACCEPT) {
        accepted.extend(
            value
                .to_str()
                .unwrap_or_default()
                .split(',')
                .filter_map(Range::parse),
        );
    }
    if accepted.is_empty() {
        return offers.first().copied();
    }
    let mut best = None;
    for &offer in offers {
        let quality = quality(&accepted, offer);
        if quality > 0.0 && best.is_none_or(|(most, _)| quality > most) {
            best = Some((quality, offer));
        }
    }
    best.map(|(_, offer)| offer)
}

/// What the most specific range that matches says.
fn quality(accepted: &[Range<'_>], offer: &str) -> f32 {
    accepted
        .iter()
        .filter_map(|range| Some((range.matches(offer)?, range.quality)))
        .max_by_key(|&(specificity, _)| specificity)
        .map_or(0.0, |(_, quality)| quality)
}

/// `type/subtype;q=…` with wildcards.
struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    quality: f32,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let quality = parts
            .filter_map(|parameter| {
                parameter
                    .strip_prefix("q=")
                    .or_else(|| parameter.strip_prefix("Q="))
            })
            .find_map(|value| value.parse().ok())
            .filter(|quality| (0.0..=1.0).contains(quality))
            .unwrap_or(1.0);
        Some(Self {
            kind,
            subtype,
            quality,
        })
    }

    /// How specifically this range names `offer`, if it does.
    fn matches(&self, offer: &str) -> Option<u8> {
        let (kind, subtype) = offer.split_once('/')?;
        match (self.kind, self.subtype) {
            ("*", "*") => Some(0),
            (range, "*") if range.eq_ignore_ascii_case(kind) => Some(1),
            (range, sub)
                if range.eq_ignore_ascii_case(kind) && sub.eq_ignore_ascii_case(subtype) =>
            {
                Some(2)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFERS: [&str; 3] = ["image/png", "application/json", "application/x-npy"];

    fn chosen(accept: &str) -> Option<&'static str> {
        let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
        choose(&headers, &OFFERS)
    }

    #[test]
    fn no_header_means_our_first() {
        assert_eq!(choose(&HeaderMap::new(), &OFFERS), Some("image/png"));
    }

    #[test]
    fn quality_decides_before_our_order() {
        assert_eq!(
            chosen("image/png;q=0.5, application/json"),
            Some("application/json")
        );
        assert_eq!(
            chosen("application/json;q=0.9, image/png;q=0.9"),
            Some("image/png")
        );
    }

    #[test]
    fn wildcards_match_and_the_specific_wins() {
        assert_eq!(chosen("*/*"), Some("image/png"));
        assert_eq!(chosen("application/*"), Some("application/json"));
        assert_eq!(chosen("*/*, image/png;q=0"), Some("application/json"));
    }

    #[test]
    fn a_browser_gets_the_image() {
        assert_eq!(
            chosen("text/html,application/xhtml+xml,image/avif,image/webp,*/*;q=0.8"),
            Some("image/png")
        );
    }

    #[test]
    fn nothing_acceptable_is_none() {
        assert_eq!(chosen("text/html"), None);
    }
}
