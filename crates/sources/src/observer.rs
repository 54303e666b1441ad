//! Who is told how far it is.

/// Is told what is done; on a terminal that is a bar, elsewhere lines of a log.
pub trait Observer {
    /// A step has come so far.
    fn progress(&self, progress: Progress<'_>);

    /// Something that whoever runs the program should know.
    fn note(&self, text: &str);
}

/// How far a step is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Progress<'a> {
    /// A file is downloaded.
    Download {
        /// Its name at the source.
        file: &'a str,
        /// Bytes that are here.
        done: u64,
        /// Of how many, where the server says it.
        total: Option<u64>,
    },
    /// The checkpoint becomes a model directory.
    Import {
        /// What is being done, in a word or two.
        phase: &'static str,
        /// Constants written, or images compared.
        done: usize,
        /// Of how many.
        total: usize,
    },
}
