//! The byte order mark that some editors and libraries put before UTF-8.

/// What stands behind the mark; everything, where there is none. RFC 8259, section 8.1, allows
/// readers of JSON to skip it.
pub fn strip(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}
