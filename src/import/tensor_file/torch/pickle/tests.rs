use std::{fs, io::Write, path::PathBuf};

use tempfile::TempDir;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::*;
use crate::import::tensor_file::{TensorFile, open};

fn text(text: &str) -> Vec<u8> {
    let mut bytes = vec![b'X'];
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.bytes());
    bytes
}

/// `{"w": tensor}` of float32, as torch pickles it.
fn program(offset: u8, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    let tuple = |lengths: &[i64]| {
        let mut bytes = vec![b'('];
        for length in lengths {
            bytes.extend([0x8a, 8]);
            bytes.extend(length.to_le_bytes());
        }
        bytes.push(b't');
        bytes
    };
    [
        b"\x80\x02}(".to_vec(),
        text("w"),
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        text("storage"),
        b"ctorch\nFloatStorage\n".to_vec(),
        text("0"),
        text("cpu"),
        b"K\x06tQK".to_vec(),
        vec![offset],
        tuple(shape),
        tuple(strides),
        b"\x89}tRu.".to_vec(),
    ]
    .concat()
}

/// An archive as torch.save writes it, with six floats in its storage.
fn archive(program: &[u8]) -> (TempDir, PathBuf) {
    archive_with(program, CompressionMethod::Stored)
}

/// The same with its pickle stored or deflated.
fn archive_with(program: &[u8], method: CompressionMethod) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.pth");
    let mut zip = ZipWriter::new(fs::File::create(&path).unwrap());
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    zip.start_file("model/data.pkl", stored.compression_method(method))
        .unwrap();
    zip.write_all(program).unwrap();
    zip.start_file("model/data/0", stored).unwrap();
    for value in 0..6_u8 {
        zip.write_all(&f32::from(value).to_le_bytes()).unwrap();
    }
    zip.finish().unwrap();
    (folder, path)
}

#[track_caller]
fn refused(program: &[u8], said: &str) {
    let (_folder, path) = archive(program);
    let message = open(&path).unwrap_err().to_string();
    assert!(message.contains(said), "{message}");
    assert!(message.contains("model.pth"), "{message}");
}

#[test]
fn views_are_read_in_their_own_order() {
    let (_folder, path) = archive(&program(0, &[3, 2], &[1, 3]));
    let mut file: Box<dyn TensorFile> = open(&path).unwrap();
    let tensor = file.tensor("w", &[3, 2]).unwrap();
    assert_eq!(tensor.to_f32(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);

    let (_folder, path) = archive(&program(2, &[2, 2], &[2, 1]));
    let tensor = open(&path).unwrap().tensor("w", &[2, 2]).unwrap();
    assert_eq!(tensor.to_f32(), [2.0, 3.0, 4.0, 5.0]);
}

#[test]
fn a_command_is_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("executed");
    let command = format!("touch {}", mark.display());
    let program = [
        b"\x80\x02cposix\nsystem\n".to_vec(),
        text(&command),
        b"\x85R.".to_vec(),
    ]
    .concat();
    refused(&program, "asks for `posix.system`");
    assert!(!mark.exists());
}

#[test]
fn names_are_refused_however_they_are_spelled() {
    refused(b"\x80\x02cbuiltins\neval\n.", "`builtins.eval`");
    refused(b"\x80\x02cargparse\nNamespace\n)R.", "`argparse.Namespace`");
    let by_stack = [
        b"\x80\x04".to_vec(),
        text("os"),
        text("system"),
        b"\x93.".to_vec(),
    ];
    refused(&by_stack.concat(), "`os.system`");
    // INST and OBJ, the old ways to make objects, and NEWOBJ.
    for instruction in [b'i', b'o', 0x81, 0x92, 0x82] {
        refused(
            &[0x80, 2, b'(', instruction],
            &format!("0x{instruction:02x}"),
        );
    }
}

#[test]
fn calling_a_storage_or_a_tensor_is_refused() {
    refused(b"\x80\x02ctorch\nFloatStorage\n)R.", "nothing was executed");
    refused(
        b"\x80\x02ccollections\nOrderedDict\nK\x01\x85R.",
        "nothing was executed",
    );
}

#[test]
fn every_cut_is_noticed() {
    let whole = program(0, &[2, 3], &[3, 1]);
    assert_eq!(state_dict(&whole).unwrap().len(), 1);
    for end in 0..whole.len() {
        assert!(state_dict(&whole[..end]).is_err(), "{end}");
    }
}

#[test]
fn sizes_beyond_the_storage_are_refused() {
    for (offset, shape, strides) in [
        (1, vec![2, 3], vec![3, 1]),
        (0, vec![i64::MAX, 2], vec![1, 1]),
        (0, vec![1 << 62, 1 << 62], vec![1, 1]),
        (0, vec![2], vec![i64::MAX]),
        // Would repeat one element without end.
        (0, vec![1 << 40], vec![0]),
    ] {
        let program = program(offset, &shape, &strides);
        let (_folder, path) = archive(&program);
        let message = open(&path).unwrap_err().to_string();
        assert!(message.contains("tensor `w`"), "{message}");
    }
    refused(&program(0, &[-1], &[1]), "damaged");
    refused(&program(0, &[1; 9], &[1; 9]), "damaged");
}

#[test]
fn storages_outside_the_archive_are_refused() {
    let mut program = program(0, &[2], &[1]);
    let at = program.windows(6).position(|w| w == text("0")).unwrap();
    program[at + 5] = b'7';
    refused(&program, "data/7");
    program[at + 5] = b'/';
    refused(&program, "names a storage");
}

#[test]
fn what_holds_no_tensors_is_refused() {
    refused(b"\x80\x02}.", "no dictionary of tensors");
    refused(b"\x80\x02N.", "no dictionary of tensors");
    refused(b"\x80\x02.", "damaged");
    refused(b"\x80\x63.", "protocol 99");
    // Items for a dictionary that is not there; a mark that was never set; an unknown reference.
    for program in [&b"\x80\x02NNs."[..], b"\x80\x02t.", b"\x80\x02h\x05."] {
        refused(program, "damaged");
    }
}

#[test]
fn random_programs_end_without_panic() {
    let whole = program(0, &[2, 3], &[3, 1]);
    for at in 0..whole.len() {
        for value in 0..=u8::MAX {
            let mut changed = whole.clone();
            changed[at] = value;
            drop(state_dict(&changed));
        }
    }
}

#[test]
fn a_pickle_alone_comes_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pytorch_model.bin");
    fs::write(&path, program(0, &[2, 3], &[3, 1])).unwrap();
    let message = open(&path).unwrap_err().to_string();
    assert!(message.contains("torch.load(FILE"), "{message}");
}

/// Made by torch, see `tests/goldens/torchvision/make.py`; that it answers right is tested elsewhere.
#[test]
fn every_cut_of_the_format_before_archives_is_noticed() {
    let whole = include_bytes!("../../../../../tests/goldens/torchvision/tiny/legacy.pth");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.pth");
    for end in (15..whole.len()).step_by(97).chain([whole.len() - 1]) {
        fs::write(&path, &whole[..end]).unwrap();
        let message = open(&path).unwrap_err().to_string();
        assert!(message.contains("model.pth"), "{message}");
    }
}

/// Deflated they take 65 KB, and would be 64 Mi values.
#[test]
fn a_pickle_much_larger_than_its_file_is_refused() {
    let mut program = b"\x80\x02".to_vec();
    program.resize(64 << 20, b'N');
    let (_folder, path) = archive_with(&program, CompressionMethod::Deflated);
    assert!(fs::metadata(&path).unwrap().len() < 100_000);
    let message = open(&path).unwrap_err().to_string();
    let said = "data.pkl has more than 1048576 bytes";
    assert!(message.contains(said), "{message}");
}

/// Whatever they leave: values, marks, places on the stack, entries of the memo.
#[test]
fn instructions_are_bounded() {
    for instruction in [&b"N"[..], b"(", b"h\0", b"\x94", b"]", b"}", b"K\x01"] {
        let mut program = b"\x80\x04N\x94".to_vec();
        program.extend(instruction.repeat((1 << 20) + 1));
        refused(&program, "has more than 1048576 instructions");
    }
}

/// Of a file from before archives, whose pickles follow each other.
#[test]
fn instructions_of_several_pickles_are_counted_together() {
    let pickle = [&b"\x80\x02"[..], &b"N".repeat(1 << 19), b"."].concat();
    let why = legacy(&pickle.repeat(3)).unwrap_err();
    assert!(why.contains("1048576 instructions"), "{why}");
}

/// Each entry would copy the name: 26 GB.
#[test]
fn a_long_name_that_is_set_again_and_again_is_there_once() {
    let whole = program(0, &[2, 3], &[3, 1]);
    let name = text(&"n".repeat(100_000));
    let tensor = &whole[whole.windows(7).position(|w| w == b"ctorch.").unwrap()..whole.len() - 2];
    let mut program = [b"\x80\x02}q\0(", &name[..], b"q\x01", tensor, b"q\x02"].concat();
    program.extend(b"h\x01h\x02".repeat(260_000));
    program.extend(b"u.");
    let found = state_dict(&program).unwrap();
    assert_eq!(found.into_keys().collect::<Vec<_>>(), ["n".repeat(100_000)]);
}

/// Every storage would keep it.
#[test]
fn a_storage_of_a_class_with_a_long_name_is_refused() {
    let class = format!("{}Storage", "A".repeat(1 << 20));
    let program = format!("\u{2}ctorch\n{class}\n.").into_bytes();
    let program = [&b"\x80"[..], &program].concat();
    refused(&program, "asks for `torch.AAAA");
    let (_folder, path) = archive(&program);
    let length = open(&path).unwrap_err().to_string().len();
    assert!(length < 1500, "{length}");
}
