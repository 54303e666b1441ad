//! A picture as text: base64 in whichever way clients write it, or a `data:` URL of it.

use std::borrow::Cow;

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;

use super::starts_with;
use crate::{Error, Result};

/// With padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The bytes of base64 (RFC 4648), in the standard alphabet or the one for URLs, with lines as in
/// MIME or without, percent-encoded or not; or of a `data:` URL (RFC 2397) of it.
///
/// # Errors
/// [`Error::MalformedRequest`] when it is neither, or empty.
pub(in crate::http) fn decode(text: &str) -> Result<Bytes> {
    let malformed = |why: &str| {
        Err(Error::MalformedRequest(
            format_args!("the picture in the JSON body {why}").into(),
        ))
    };
    let text = text.trim_ascii();
    let encoded = match starts_with(text, "data:") {
        false => text,
        true => match text.split_once(',') {
            Some((kind, encoded)) if is_base64(kind) => encoded,
            _ => return malformed("is a data: URL that is not base64"),
        },
    };
    match BASE64.decode(plain(encoded)) {
        Ok(bytes) if bytes.is_empty() => malformed("is empty"),
        Ok(bytes) => Ok(bytes.into()),
        Err(why) => malformed(&format!("is not base64: {why}")),
    }
}

/// Whether what stands before the comma of a `data:` URL ends with `;base64`.
fn is_base64(kind: &str) -> bool {
    let last = kind.rsplit_once(';').map(|(_, last)| last.trim_ascii());
    last.is_some_and(|last| last.eq_ignore_ascii_case("base64"))
}

/// The digits in the standard alphabet and nothing else; what is no digit stays for the decoder to
/// name.
fn plain(text: &str) -> Cow<'_, [u8]> {
    let is_special = |byte: u8| byte.is_ascii_whitespace() || b"-_%".contains(&byte);
    if !text.bytes().any(is_special) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut digits = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let encoded = match (first, behind) {
            (b'%', [high, low, behind @ ..]) => hexadecimal(*high, *low).zip(Some(behind)),
            _ => None,
        };
        let byte;
        (byte, rest) = encoded.unwrap_or((first, behind));
        match byte {
            b'-' => digits.push(b'+'),
            b'_' => digits.push(b'/'),
            byte if byte.is_ascii_whitespace() => {}
            byte => digits.push(byte),
        }
    }
    Cow::Owned(digits)
}

fn hexadecimal(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(16 * digit(high)? + digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes whose base64 has both letters that differ between the alphabets, and padding, by hand:
    /// fb ef ff be is 111110 111110 111111 111111 101111 10(0000).
    const BYTES: &[u8] = b"\xfb\xef\xff\xbe";

    #[test]
    fn whatever_way_clients_write_it_is_read() {
        for text in [
            "++//vg==",
            "++//vg",
            "--__vg==",
            "--__vg",
            "++/\n/vg\r\n==\n",
            " ++//vg== ",
            "%2B%2b%2F%2fvg%3D%3D",
            "data:image/png;base64,++//vg==",
            "DATA:image/png;BASE64,++//vg==",
            "data:;base64,--__vg",
            "data:image/png;name=a.png;Base64,%2B%2B//vg%3D%3D",
            "data:image/png;base64,++//\n vg==",
        ] {
            assert_eq!(decode(text).unwrap(), BYTES, "{text}");
        }
    }

    #[test]
    fn what_is_something_else_is_refused() {
        for text in [
            "",
            "data:image/png;base64,",
            "data:image/png,++//vg==",
            "data:base64,++//vg==",
            "data:image/png;base64",
            "%%",
            "%2",
            "%zz",
            "++//vg==%00",
            "ä",
            "data:ä",
            "https://example.org/cat.png",
        ] {
            assert!(decode(text).is_err(), "{text}");
        }
    }
}
