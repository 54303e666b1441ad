//! The bytes of a pickle, taken one after the other.

/// What is still to be read.
pub(super) struct Program<'p>(pub(super) &'p [u8]);

impl<'p> Program<'p> {
    pub(super) fn byte(&mut self) -> Result<u8, String> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (&first, rest) = self.0.split_first_chunk().ok_or_else(truncated)?;
        self.0 = rest;
        Ok(first)
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'p [u8], String> {
        let (first, rest) = self.0.split_at_checked(length).ok_or_else(truncated)?;
        self.0 = rest;
        Ok(first)
    }

    /// Up to the end of the line, which is taken, too.
    pub(super) fn line(&mut self) -> Result<String, String> {
        let end = self.0.iter().position(|&byte| byte == b'\n');
        let line = self.take(end.ok_or_else(truncated)?)?;
        self.byte()?;
        Ok(String::from_utf8_lossy(line).into_owned())
    }
}

fn truncated() -> String {
    "ends too early; copy the file again".to_owned()
}
