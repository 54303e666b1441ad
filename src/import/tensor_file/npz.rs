//! NumPy's `.npz`: a zip archive of `.npy` arrays, stored or deflated.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufReader, Read},
    path::{Path, PathBuf},
};

use zip::ZipArchive;

use super::TensorFile;
use crate::{
    import::{ImportError, error::quoted},
    onnx::tensor::{Element, Tensor},
};

/// NumPy itself limits headers to 10,000 bytes.
const MAX_HEADER: usize = 10_000;

/// Letters of an element type; of longer ones none is read.
const MAX_DESCR: usize = 16;

/// Axes of an array: far above any weight's.
const MAX_RANK: usize = 8;

/// How much larger than the file all its arrays together may be. Trained weights deflate to no less than
/// about half; what deflates further is a bomb, or zeros.
const MAX_INFLATION: u64 = 16;

/// Bytes that arrays may have whatever the size of the file.
const ALWAYS: u64 = 16 << 20;

/// An open archive with the headers of its arrays.
#[derive(Debug)]
pub(super) struct NpzFile {
    path: PathBuf,
    archive: ZipArchive<BufReader<File>>,
    arrays: BTreeMap<String, Array>,
}

/// Where an array is and what it holds.
#[derive(Debug)]
struct Array {
    entry: usize,
    shape: Vec<usize>,
    descr: String,
    fortran_order: bool,
}

impl NpzFile {
    /// Reads the directory of the archive and every array's header.
    pub(super) fn open(path: &Path) -> Result<Self, ImportError> {
        let file = File::open(path).map_err(ImportError::file(path, "open it"))?;
        let length = file
            .metadata()
            .map_err(ImportError::file(path, "examine it"))?
            .len();
        let mut left = length.saturating_mul(MAX_INFLATION).max(ALWAYS);
        let damaged =
            |e: &dyn std::fmt::Display| ImportError::malformed(path, format!("damaged: {e}"));
        let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|e| damaged(&e))?;
        let mut arrays = BTreeMap::new();
        for entry in 0..archive.len() {
            let mut reader = archive.by_index(entry).map_err(|e| damaged(&e))?;
            let Some(name) = reader
                .name()
                .ok()
                .and_then(|name| Some(name.strip_suffix(".npy")?.to_owned()))
            else {
                continue;
            };
            let size = reader.size();
            left = left.checked_sub(size).ok_or_else(|| {
                let detail = format!(
                    "holds arrays of more than {MAX_INFLATION} times its own {length} bytes, which \
                     weights do not deflate to; save them with numpy.savez"
                );
                ImportError::malformed(path, detail)
            })?;
            let (header, read) =
                header(&mut reader).map_err(|detail| ImportError::tensor(path, &name, detail))?;
            let (mut array, item) =
                parse(&header).map_err(|detail| ImportError::tensor(path, &name, detail))?;
            array.entry = entry;
            let bytes = array
                .shape
                .iter()
                .try_fold(item as u64, |bytes, &n| bytes.checked_mul(n as u64));
            if bytes.and_then(|bytes| bytes.checked_add(read as u64)) != Some(size) {
                let detail = format!(
                    "takes {size} bytes, which do not hold a shape of {:?}",
                    array.shape
                );
                return Err(ImportError::tensor(path, &name, detail));
            }
            arrays.insert(name, array);
        }
        Ok(Self {
            path: path.to_owned(),
            archive,
            arrays,
        })
    }
}

impl TensorFile for NpzFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> Vec<String> {
        self.arrays.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(&self.arrays.get(name)?.shape)
    }

    fn read(&mut self, name: &str) -> Result<Tensor, ImportError> {
        let fail = |detail: String| Err(ImportError::tensor(&self.path, name, detail));
        let Some(array) = self.arrays.get(name) else {
            return fail("is missing".to_owned());
        };
        let element = match array.descr.as_str() {
            "<f4" => Element::F32,
            "<f2" => Element::F16,
            // NumPy has no bfloat16: JAX's arrays are saved as two opaque bytes an element.
            "|V2" | "<V2" => Element::Bf16,
            other => {
                return fail(format!(
                    "is of type '{other}'; read are '<f4', '<f2' and '|V2' (bfloat16)"
                ));
            }
        };
        if array.fortran_order && array.shape.len() > 1 {
            return fail(
                "is stored column by column; save it with numpy.ascontiguousarray".to_owned(),
            );
        }
        // The size was compared with the archive's on opening; a deflated entry that says less than
        // it holds is cut off here, and one that says more ends early.
        let length = array.shape.iter().product::<usize>() * element.size();
        let mut bytes = Vec::new();
        let read = self.archive.by_index(array.entry).map(|mut reader| {
            header(&mut reader)?;
            reader
                .take(length as u64)
                .read_to_end(&mut bytes)
                .map_err(|e| e.to_string())
        });
        match read {
            Ok(Ok(count)) if count == length => {
                Ok(Tensor::new(element, array.shape.clone(), bytes))
            }
            Ok(Ok(count)) => fail(format!("ends after {count} of {length} bytes")),
            Ok(Err(why)) => fail(format!("cannot be read: {why}")),
            Err(why) => fail(format!("cannot be read: {why}")),
        }
    }
}

/// The text of an array's header, and how many bytes it took with what is before it (NumPy's
/// format, versions 1 to 3).
fn header(reader: &mut impl Read) -> Result<(String, usize), String> {
    let mut read = |length: usize| -> Result<Vec<u8>, String> {
        let mut bytes = vec![0; length];
        reader
            .read_exact(&mut bytes)
            .map_err(|e| format!("has a damaged header: {e}"))?;
        Ok(bytes)
    };
    let start = read(8)?;
    if !start.starts_with(b"\x93NUMPY") {
        return Err("is not an array in NumPy's format".to_owned());
    }
    let width = if start[6] == 1 { 2 } else { 4 };
    let mut length = [0; 8];
    length[..width].copy_from_slice(&read(width)?);
    let length = usize::from_le_bytes(length);
    if length > MAX_HEADER {
        return Err(format!(
            "has a header of {length} bytes; {MAX_HEADER} are read at most"
        ));
    }
    let text = String::from_utf8(read(length)?).map_err(|_| "has a damaged header".to_owned())?;
    Ok((text, 8 + width + length))
}

/// Takes `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }` apart; the bytes of an
/// element come with it.
fn parse(header: &str) -> Result<(Array, usize), String> {
    let after = |key: &str| {
        let (_, rest) = header.split_once(&format!("'{key}':"))?;
        Some(rest.trim_start())
    };
    let unknown = || {
        let header = quoted(header.trim());
        format!("has a header that is not understood: {header}")
    };
    let descr = after("descr")
        .and_then(|rest| rest.strip_prefix('\'')?.split('\'').next())
        .filter(|descr| descr.len() <= MAX_DESCR)
        .ok_or_else(unknown)?;
    let item = descr
        .trim_start_matches(|c: char| !c.is_ascii_digit())
        .parse()
        .map_err(|_| unknown())?;
    let shape = after("shape")
        .and_then(|rest| Some(rest.strip_prefix('(')?.split_once(')')?.0))
        .ok_or_else(unknown)?;
    let shape: Vec<usize> = shape
        .split(',')
        .map(str::trim)
        .filter(|length| !length.is_empty())
        .take(MAX_RANK + 1)
        .map(|length| length.parse().map_err(|_| unknown()))
        .collect::<Result<_, _>>()?;
    if shape.len() > MAX_RANK {
        return Err(format!("has more than {MAX_RANK} axes"));
    }
    let array = Array {
        entry: 0,
        shape,
        descr: descr.to_owned(),
        fortran_order: after("fortran_order").is_some_and(|rest| rest.starts_with("True")),
    };
    Ok((array, item))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

    use super::*;
    use crate::import::tensor_file::open;

    /// An archive of one array, whose values are `bytes` zeros, deflated.
    fn refusal(header: &str, bytes: u64) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("B_16.npz");
        let mut zip = ZipWriter::new(File::create(&path).unwrap());
        let deflated = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        zip.start_file("kernel.npy", deflated).unwrap();
        zip.write_all(b"\x93NUMPY\x01\0").unwrap();
        zip.write_all(&u16::try_from(header.len()).unwrap().to_le_bytes())
            .unwrap();
        zip.write_all(header.as_bytes()).unwrap();
        std::io::copy(&mut std::io::repeat(0).take(bytes), &mut zip).unwrap();
        zip.finish().unwrap();
        open(&path).unwrap_err().to_string()
    }

    /// 16,777,216 floats, which deflate to 65 KB.
    #[test]
    fn arrays_much_larger_than_their_file_are_refused() {
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (16777216,), }\n";
        let message = refusal(header, 64 << 20);
        assert!(message.contains("more than 16 times its own"), "{message}");
        assert!(message.contains("numpy.savez"), "{message}");
    }

    #[test]
    fn axes_are_bounded() {
        let shape = "1, ".repeat(9);
        let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}\n");
        let message = refusal(&header, 4);
        assert!(message.contains("more than 8 axes"), "{message}");
    }

    #[test]
    fn headers_of_any_rank_are_read() {
        let (array, item) =
            parse("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }   \n").unwrap();
        assert_eq!(
            (array.shape, item, array.fortran_order),
            (vec![3, 4], 4, false)
        );
        let (array, item) =
            parse("{'descr': '|V2', 'fortran_order': True, 'shape': (7,), }").unwrap();
        assert_eq!((array.shape, item, array.fortran_order), (vec![7], 2, true));
        let (array, _) = parse("{'descr': '<i8', 'fortran_order': False, 'shape': (), }").unwrap();
        assert!(array.shape.is_empty());
    }

    #[test]
    fn structured_types_and_damage_are_refused() {
        assert!(
            parse("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }").is_err()
        );
        assert!(parse("{'descr': '<f4', 'shape': (-1,)}").is_err());
        assert!(parse("").is_err());
    }
}
