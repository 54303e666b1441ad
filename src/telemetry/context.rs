//! Which trace a request belongs to, as W3C Trace Context writes it.
//!
//! `traceparent` and `traceresponse` have the same four parts, `00-TRACE-SPAN-FLAGS` in lower-case
//! hexadecimal: <https://www.w3.org/TR/trace-context-2/>.

use std::fmt;

/// The context of a span: its trace, its id, and whether the trace is recorded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TraceContext {
    /// Never 0.
    pub trace: u128,
    /// Never 0.
    pub span: u64,
    /// The caller's decision, or our sampler's.
    pub sampled: bool,
}

impl TraceContext {
    /// Reads the value of `traceparent`; `None` for whatever the specification calls invalid, which
    /// is to be treated as if it were not there.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim_matches([' ', '\t']).split('-');
        let version: u8 = parts.next().and_then(|part| hexadecimal(part, 2))?;
        let trace: u128 = parts.next().and_then(|part| hexadecimal(part, 32))?;
        let span: u64 = parts.next().and_then(|part| hexadecimal(part, 16))?;
        let flags: u8 = parts.next().and_then(|part| hexadecimal(part, 2))?;
        // Later versions may add parts and keep the first four.
        let is_valid = match version {
            0 => parts.next().is_none(),
            u8::MAX => false,
            _ => true,
        };
        (is_valid && trace != 0 && span != 0).then_some(Self {
            trace,
            span,
            sampled: flags & 1 == 1,
        })
    }

    /// A new span of the caller's trace, or of a new one that is not recorded.
    pub(super) fn child_of(parent: Option<Self>) -> Self {
        Self {
            trace: parent.map_or_else(|| u128::from_le_bytes(random()).max(1), |it| it.trace),
            span: u64::from_le_bytes(random()).max(1),
            sampled: parent.is_some_and(|it| it.sampled),
        }
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trace,
            span,
            sampled,
        } = self;
        write!(f, "00-{trace:032x}-{span:016x}-{:02x}", u8::from(*sampled))
    }
}

/// Exactly this many lower-case digits.
fn hexadecimal<T: TryFrom<u128>>(text: &str, digits: usize) -> Option<T> {
    let is_written_so = text.len() == digits
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_written_so
        .then(|| u128::from_str_radix(text, 16).ok())
        .flatten()
        .and_then(|value| T::try_from(value).ok())
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Only names: without a random source all traces are called 1 and nothing depends on it.
    let _ = getrandom::fill(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_specification_s_example_is_read_and_written() {
        let context = TraceContext::parse(EXAMPLE).unwrap();
        assert_eq!(context.trace, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!(context.span, 0x00f0_67aa_0ba9_02b7);
        assert!(context.sampled);
        assert_eq!(context.to_string(), EXAMPLE);
    }

    #[test]
    fn what_the_specification_calls_invalid_is_not_there() {
        for text in [
            "",
            "00",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_later_version_may_say_more() {
        let later = format!("{}-more", EXAMPLE.replacen("00", "cc", 1));
        assert_eq!(TraceContext::parse(&later), TraceContext::parse(EXAMPLE));
    }

    #[test]
    fn a_span_stays_in_its_caller_s_trace() {
        let parent = TraceContext::parse(EXAMPLE).unwrap();
        let child = TraceContext::child_of(Some(parent));
        assert_eq!((child.trace, child.sampled), (parent.trace, true));
        assert_ne!(child.span, parent.span);
        assert!(!TraceContext::child_of(None).sampled);
    }
}
