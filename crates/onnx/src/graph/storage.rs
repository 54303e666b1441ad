//! Where a graph's constants are stored.

use std::{
    fmt,
    io::{self, Write},
};

use bytes::Bytes;

use crate::{
    proto::{DataLocation, StringStringEntryProto, TensorProto},
    tensor::Tensor,
};

/// Constants up to this many bytes stay in the graph's own file in any case: the runtime reads
/// shapes and axes while it loads the graph.
const SMALL: usize = 1024;

/// Offsets are multiples of this, so that the runtime can map the file instead of reading it.
const ALIGNMENT: u64 = 4096;

/// Where a graph's constants are stored.
#[derive(Debug)]
pub enum Storage<'s> {
    /// All in the graph's own file, which protobuf limits to 2 GiB.
    Inline,
    /// The large ones in a second file, written as they come, so that one tensor at a time is in
    /// memory.
    External(External<'s>),
}

/// The file of a graph's large constants.
pub struct External<'s> {
    file_name: String,
    file: &'s mut dyn Write,
    written: u64,
}

impl<'s> External<'s> {
    /// An empty file; `file_name` is how the graph refers to it, from its own directory.
    pub fn new(file_name: &str, file: &'s mut dyn Write) -> Self {
        Self {
            file_name: file_name.to_owned(),
            file,
            written: 0,
        }
    }

    /// Puts a constant's bytes into the file, if they are many, and writes down where they are.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn store(&mut self, proto: &mut TensorProto, bytes: Bytes) -> io::Result<()> {
        if bytes.len() <= SMALL {
            proto.raw_data = Some(bytes);
            return Ok(());
        }
        let offset = self.append(&bytes)?;
        let entry = |key: &str, value: String| StringStringEntryProto {
            key: Some(key.to_owned()),
            value: Some(value),
        };
        proto.data_location = Some(DataLocation::External.into());
        proto.external_data = vec![
            entry("location", self.file_name.clone()),
            entry("offset", offset.to_string()),
            entry("length", bytes.len().to_string()),
        ];
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let offset = self.written.next_multiple_of(ALIGNMENT);
        let gap = offset - self.written;
        io::copy(&mut io::Read::take(io::repeat(0), gap), &mut self.file)?;
        self.file.write_all(bytes)?;
        self.written = offset + bytes.len() as u64;
        Ok(offset)
    }
}

impl fmt::Debug for External<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("External")
            .field("file_name", &self.file_name)
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}

impl Storage<'_> {
    /// Puts the tensor's bytes where they belong and writes down where that is.
    pub(super) fn store(&mut self, proto: &mut TensorProto, tensor: Tensor) -> io::Result<()> {
        let bytes = tensor.into_bytes().into();
        match self {
            Self::External(external) => external.store(proto, bytes),
            Self::Inline => {
                proto.raw_data = Some(bytes);
                Ok(())
            }
        }
    }
}
