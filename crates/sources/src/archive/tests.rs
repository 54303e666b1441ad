use std::path::PathBuf;

use ::tar::{Builder, EntryType, Header};
use flate2::{Compression, write::GzEncoder};
use tempfile::TempDir;

use super::*;

const WEIGHTS: (&str, &[u8]) = ("model.safetensors", b"these are weights");

/// A tar archive, its names exactly as given.
fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        builder.append(&header, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = io::Cursor::new(Vec::new());
    let mut writer = ::zip::ZipWriter::new(&mut bytes);
    for (name, content) in files {
        let options = ::zip::write::SimpleFileOptions::default();
        writer.start_file(*name, options).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap();
    bytes.into_inner()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

struct Unpacked {
    folder: TempDir,
    outcome: Result<(), ArchiveError>,
}

impl Unpacked {
    fn of(bytes: &[u8], format: ArchiveFormat) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("archive");
        fs::write(&archive, bytes).unwrap();
        let outcome = unpack(
            &archive,
            format,
            &folder.path().join("out"),
            &CancelFlag::default(),
        );
        Self { folder, outcome }
    }

    fn names(&self) -> Vec<String> {
        self.outcome.as_ref().unwrap();
        crate::local::names(&self.folder.path().join("out")).unwrap()
    }

    /// The message of a refusal that has written nothing.
    fn refusal(&self) -> String {
        let out: PathBuf = self.folder.path().join("out");
        assert!(!out.exists() || fs::read_dir(out).unwrap().count() == 0);
        match self.outcome.as_ref().unwrap_err() {
            ArchiveError::Refused(detail) => detail.clone(),
            other @ ArchiveError::Source(_) => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_an_import_needs_is_unpacked_from_below_a_common_folder() {
    let files: [(&str, &[u8]); 6] = [
        ("./vit/README.md", b"words"),
        ("./vit/config.json", b"{}"),
        ("./vit/model.safetensors", WEIGHTS.1),
        ("./vit/optimizer.pt", b"large"),
        ("./vit/runs/model.safetensors", b"others"),
        ("__MACOSX/vit/._config.json", b"x"),
    ];
    let tar = tar(&files);
    for (bytes, format) in [
        (gzip(&tar), ArchiveFormat::TarGz),
        (tar, ArchiveFormat::Tar),
        (zip(&files), ArchiveFormat::Zip),
    ] {
        let unpacked = Unpacked::of(&bytes, format);
        assert_eq!(unpacked.names(), ["config.json", "model.safetensors"]);
        let weights = unpacked.folder.path().join("out/model.safetensors");
        assert_eq!(fs::read(weights).unwrap(), WEIGHTS.1);
    }
}

#[test]
fn names_that_lead_out_are_refused_before_anything_is_written() {
    for name in ["../evil", "/etc/evil", "a/../../evil", "a\\..\\evil"] {
        let files = [WEIGHTS, (name, b"evil")];
        for (bytes, format) in [
            (tar(&files), ArchiveFormat::Tar),
            (zip(&files), ArchiveFormat::Zip),
        ] {
            let refusal = Unpacked::of(&bytes, format).refusal();
            assert!(refusal.contains("leads out"), "{name}: {refusal}");
        }
    }
}

#[test]
fn links_are_not_followed_and_said_to_be_there() {
    let mut builder = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Symlink);
    header.set_size(0);
    builder
        .append_link(&mut header, "model.safetensors", "/etc/passwd")
        .unwrap();
    let bytes = builder.into_inner().unwrap();
    let refusal = Unpacked::of(&bytes, ArchiveFormat::Tar).refusal();
    assert!(refusal.contains("--dereference"), "{refusal}");
}

#[test]
fn what_grows_beyond_any_weights_is_refused() {
    let zeros = vec![0; 80 << 20];
    let files: [(&str, &[u8]); 1] = [("model.safetensors", &zeros)];
    for (bytes, format) in [
        (gzip(&tar(&files)), ArchiveFormat::TarGz),
        (zip(&files), ArchiveFormat::Zip),
    ] {
        let refusal = Unpacked::of(&bytes, format).refusal();
        assert!(refusal.contains("50 times"), "{refusal}");
    }
}

#[test]
fn a_name_without_end_is_not_read_into_memory() {
    let mut builder = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNULongName);
    header.set_path("././@LongLink").unwrap();
    header.set_size(1 << 20);
    header.set_cksum();
    builder.append(&header, &vec![b'a'; 1 << 20][..]).unwrap();
    let bytes = builder.into_inner().unwrap();
    let refusal = Unpacked::of(&bytes, ArchiveFormat::Tar).refusal();
    assert!(refusal.contains("a name of more than"), "{refusal}");
}

#[test]
fn too_many_files_and_what_is_no_archive_are_refused() {
    let names: Vec<String> = (0..=MAX_MEMBERS).map(|at| format!("{at}")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (&**name, &b""[..])).collect();
    let refusal = Unpacked::of(&tar(&files), ArchiveFormat::Tar).refusal();
    assert!(refusal.contains("10000"), "{refusal}");
    for format in [ArchiveFormat::TarGz, ArchiveFormat::Zip, ArchiveFormat::Tar] {
        let refusal = Unpacked::of(&[b'x'; 2000], format).refusal();
        assert!(refusal.contains("damaged"), "{refusal}");
    }
}

#[test]
fn an_archive_that_was_cut_is_damaged() {
    let whole = gzip(&tar(&[WEIGHTS, ("config.json", b"{}")]));
    let cut = &whole[..whole.len() - 12];
    let refusal = Unpacked::of(cut, ArchiveFormat::TarGz).refusal();
    assert!(refusal.contains("damaged"), "{refusal}");
}

#[test]
fn long_names_of_both_kinds_are_read() {
    let long = format!(
        "{}/model.safetensors",
        "folder-with-a-name/".repeat(8).trim_end_matches('/')
    );
    let mut gnu = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_size(WEIGHTS.1.len() as u64);
    gnu.append_data(&mut header, &long, WEIGHTS.1).unwrap();
    let mut pax = Builder::new(Vec::new());
    pax.append_pax_extensions([("path", long.as_bytes())])
        .unwrap();
    let mut header = Header::new_ustar();
    header.set_path("short").unwrap();
    header.set_size(WEIGHTS.1.len() as u64);
    header.set_cksum();
    pax.append(&header, WEIGHTS.1).unwrap();
    for builder in [gnu, pax] {
        let bytes = builder.into_inner().unwrap();
        let unpacked = Unpacked::of(&bytes, ArchiveFormat::Tar);
        assert_eq!(unpacked.names(), ["model.safetensors"]);
    }
}
