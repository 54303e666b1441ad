//! Bodies, of whatever route, that were or will be compressed: gzip and deflate, the latter being a
//! zlib stream as in RFC 9110, section 8.4.1.

use std::io::{self, Read, Write};

use axum::http::{HeaderMap, HeaderValue, header};
use bytes::Bytes;
use flate2::{
    Compression,
    bufread::{GzDecoder, ZlibDecoder},
    write::{GzEncoder, ZlibEncoder},
};

use crate::{Error, Result, error::Detail};

/// What is read, as `Accept-Encoding` says it.
pub(in crate::http) const READ: &str = "gzip, deflate";

/// How a body is compressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::http) enum ContentEncoding {
    Identity,
    Gzip,
    Deflate,
}

impl ContentEncoding {
    /// What `Content-Encoding` says of a request's body.
    ///
    /// # Errors
    /// [`Error::UnsupportedEncoding`] when it is neither gzip nor deflate, or both.
    pub(in crate::http) fn of_body(headers: &HeaderMap) -> Result<Self> {
        let values = headers.get_all(header::CONTENT_ENCODING).iter();
        let names: Vec<&[u8]> = values.map(HeaderValue::as_bytes).collect();
        let name = String::from_utf8_lossy(&names.join(&b", "[..])).into_owned();
        Self::named(name.trim()).ok_or_else(|| Error::UnsupportedEncoding {
            encoding: Detail::quoting(&name),
        })
    }

    /// What `grpc-encoding` says of the messages of a call that are compressed.
    ///
    /// # Errors
    /// [`Error::UnsupportedEncoding`] when it is neither gzip nor deflate.
    pub(in crate::http) fn of_messages(value: Option<&HeaderValue>) -> Result<Self> {
        let name = value.map(|value| String::from_utf8_lossy(value.as_bytes()));
        let name = name.unwrap_or_default();
        Self::named(name.trim()).ok_or_else(|| Error::UnsupportedEncoding {
            encoding: Detail::quoting(&name),
        })
    }

    /// What `Accept-Encoding` prefers of what can be made; gzip of two that are liked alike.
    pub(in crate::http) fn accepted(headers: &HeaderMap) -> Self {
        let mut best = (0.0, Self::Identity);
        let values = headers.get_all(header::ACCEPT_ENCODING).into_iter();
        let items = values.filter_map(|value| value.to_str().ok());
        for item in items.flat_map(|text| text.split(',')) {
            let mut parts = item.split(';');
            let encoding = parts.next().and_then(|name| Self::named(name.trim()));
            let weight = parts
                .find_map(|part| part.trim().strip_prefix("q="))
                .map_or(1.0, |weight| weight.parse().unwrap_or(0.0));
            if let Some(encoding) = encoding
                && encoding != Self::Identity
                && (weight > best.0 || (weight == best.0 && weight > 0.0 && encoding == Self::Gzip))
            {
                best = (weight, encoding);
            }
        }
        best.1
    }

    fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "identity" | "" => Some(Self::Identity),
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "deflate" => Some(Self::Deflate),
            _ => None,
        }
    }

    /// The header of a compressed answer.
    pub(super) fn header(self) -> Option<HeaderValue> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some(HeaderValue::from_static("gzip")),
            Self::Deflate => Some(HeaderValue::from_static("deflate")),
        }
    }

    /// The decompressed body, of at most `limit` bytes.
    ///
    /// # Errors
    /// [`Error::BodyTooLarge`], with no more than `limit` bytes unpacked;
    /// [`Error::MalformedRequest`] when it is damaged or something follows it.
    pub(in crate::http) fn decompress(self, body: Bytes, limit: u64) -> Result<Bytes> {
        let mut unpacked = Vec::new();
        let rest = match self {
            Self::Identity => return Ok(body),
            Self::Gzip => {
                let mut decoder = GzDecoder::new(&*body);
                read(&mut decoder, limit, &mut unpacked)?;
                decoder.into_inner()
            }
            Self::Deflate => {
                let mut decoder = ZlibDecoder::new(&*body);
                read(&mut decoder, limit, &mut unpacked)?;
                decoder.into_inner()
            }
        };
        match rest.is_empty() {
            true => Ok(unpacked.into()),
            false => Err(Error::MalformedRequest(
                "something follows the compressed body".into(),
            )),
        }
    }

    /// A body compressed. Fast rather than small: floats hardly shrink.
    ///
    /// # Errors
    /// None that writing into memory has.
    pub(super) fn compress(self, body: Vec<u8>) -> io::Result<Vec<u8>> {
        match self {
            Self::Identity => Ok(body),
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(&body)?;
                encoder.finish()
            }
            Self::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(&body)?;
                encoder.finish()
            }
        }
    }
}

fn read(decoder: impl Read, limit: u64, unpacked: &mut Vec<u8>) -> Result<()> {
    let damaged =
        |error: io::Error| Error::MalformedRequest(format_args!("compressed body: {error}").into());
    let mut limited = decoder.take(limit.saturating_add(1));
    limited.read_to_end(unpacked).map_err(damaged)?;
    match unpacked.len() as u64 > limit {
        true => Err(Error::BodyTooLarge { limit }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(text: &'static str) -> ContentEncoding {
        let value = HeaderValue::from_static(text);
        ContentEncoding::accepted(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, value)]))
    }

    #[test]
    fn the_preferred_encoding_is_chosen() {
        assert_eq!(accepted("gzip"), ContentEncoding::Gzip);
        assert_eq!(accepted("deflate, gzip"), ContentEncoding::Gzip);
        assert_eq!(accepted("gzip;q=0.5, deflate"), ContentEncoding::Deflate);
        assert_eq!(accepted("br, zstd;q=0.9"), ContentEncoding::Identity);
        assert_eq!(accepted("gzip;q=0"), ContentEncoding::Identity);
        assert_eq!(
            ContentEncoding::accepted(&HeaderMap::new()),
            ContentEncoding::Identity
        );
    }

    #[test]
    fn what_is_packed_can_be_unpacked() {
        let body = b"what is packed can be unpacked".to_vec();
        for encoding in [
            ContentEncoding::Identity,
            ContentEncoding::Gzip,
            ContentEncoding::Deflate,
        ] {
            let packed = Bytes::from(encoding.compress(body.clone()).unwrap());
            assert_eq!(encoding.decompress(packed.clone(), 30).unwrap(), body);
            if encoding != ContentEncoding::Identity {
                let cut = packed.slice(..packed.len() - 5);
                assert!(encoding.decompress(cut, 30).is_err());
                let longer = Bytes::from([&packed[..], b"x"].concat());
                assert!(encoding.decompress(longer, 30).is_err());
            }
        }
    }

    /// A stream that zlib made: `python3 -c "import zlib; print(zlib.compress(b'a'))"`.
    #[test]
    fn deflate_is_a_zlib_stream() {
        let stream = Bytes::from_static(b"x\x9cK\x04\x00\x00b\x00b");
        assert_eq!(ContentEncoding::Deflate.decompress(stream, 1).unwrap(), "a");
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let packed = Bytes::from(ContentEncoding::Gzip.compress(vec![0; 1 << 20]).unwrap());
        assert!(packed.len() < 100_000);
        let limit = 1000;
        let error = ContentEncoding::Gzip.decompress(packed, limit).unwrap_err();
        assert_eq!(error, Error::BodyTooLarge { limit });
    }

    #[test]
    fn other_encodings_are_refused() {
        let headers = |text| {
            HeaderMap::from_iter([(header::CONTENT_ENCODING, HeaderValue::from_static(text))])
        };
        for other in ["br", "zstd", "gzip, gzip"] {
            let encoding = other.into();
            let error = ContentEncoding::of_body(&headers(other)).unwrap_err();
            assert_eq!(error, Error::UnsupportedEncoding { encoding });
        }
        let mut twice = headers("gzip");
        twice.append(header::CONTENT_ENCODING, HeaderValue::from_static("br"));
        assert!(ContentEncoding::of_body(&twice).is_err());
        assert_eq!(
            ContentEncoding::of_body(&headers("GZIP")).unwrap(),
            ContentEncoding::Gzip
        );
        assert_eq!(
            ContentEncoding::of_body(&HeaderMap::new()).unwrap(),
            ContentEncoding::Identity
        );
    }
}
