use super::*;

fn input(datatype: &str, data: Data) -> Input {
    Input {
        name: "x".to_owned(),
        datatype: datatype.to_owned(),
        shape: Vec::new(),
        data,
    }
}

fn json(datatype: &str, text: &'static str) -> Input {
    input(datatype, Data::Json(Bytes::from_static(text.as_bytes())))
}

fn binary(datatype: &str, bytes: &'static [u8]) -> Input {
    input(datatype, Data::Binary(Bytes::from_static(bytes)))
}

fn as_text(text: &str) -> Result<Bytes> {
    Ok(Bytes::copy_from_slice(text.as_bytes()))
}

#[test]
fn nested_and_flat_arrays_are_the_same() {
    for text in [
        "[1, 2.5, -3, 4]",
        "[[1, 2.5], [-3, 4]]",
        "[[[1], [2.5]], [[-3], [4e0]]]",
    ] {
        assert_eq!(json("FP32", text).fp32(4).unwrap(), [1.0, 2.5, -3.0, 4.0]);
    }
}

#[test]
fn more_or_fewer_values_than_the_shape_has_are_refused() {
    for text in ["[1, 2]", "[1, 2, 3, 4]", "[[1, 2], [3, 4]]", "[]"] {
        assert!(json("FP32", text).fp32(3).is_err(), "{text}");
    }
    assert!(binary("FP32", &[0; 8]).fp32(3).is_err());
    assert!(binary("FP32", &[0; 13]).fp32(3).is_err());
    // 4·count overflows.
    assert!(binary("FP32", &[0; 12]).fp32(usize::MAX / 2 + 2).is_err());
}

#[test]
fn what_is_not_a_number_is_refused() {
    for text in [
        "[true]",
        "[\"1\"]",
        "[null]",
        "{\"a\": 1}",
        "[1e39]",
        "[NaN]",
    ] {
        let error = json("FP32", text).fp32(1).unwrap_err().to_string();
        assert!(error.starts_with("input `x`: "), "{error}");
    }
    // NaN in binary.
    assert!(binary("FP32", &[0, 0, 0xc0, 0x7f]).fp32(1).is_err());
}

#[test]
fn deep_nesting_is_an_error_and_not_a_stack_overflow() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let input = input("FP32", Data::Json(deep.into()));
    assert!(input.fp32(1).is_err());
}

#[test]
fn binary_numbers_are_little_endian() {
    // 1.0 is 0x3f800000.
    assert_eq!(binary("FP32", &[0, 0, 0x80, 0x3f]).fp32(1).unwrap(), [1.0]);
}

#[test]
fn binary_elements_have_their_length_before_them() {
    let two = binary("BYTES", &[2, 0, 0, 0, b'a', b'b', 0, 0, 0, 0]);
    let elements = two.bytes(2, as_text).unwrap();
    assert_eq!(elements, [&b"ab"[..], b""]);
    assert!(two.bytes(1, as_text).is_err());
    assert!(two.bytes(3, as_text).is_err());
}

#[test]
fn elements_that_are_cut_off_are_refused() {
    for bytes in [&[1, 0, 0, 0][..], &[1, 0, 0], &[255, 255, 255, 255, 0]] {
        assert!(
            binary("BYTES", bytes).bytes(1, as_text).is_err(),
            "{bytes:?}"
        );
    }
}

#[test]
fn strings_are_read_by_the_caller() {
    let input = json("BYTES", r#"[["a\u00e9"], ["b"]]"#);
    let elements = input.bytes(2, as_text).unwrap();
    assert_eq!(elements, ["aé".as_bytes(), b"b"]);
    assert!(json("BYTES", "[1]").bytes(1, as_text).is_err());
}

#[test]
fn another_datatype_is_named() {
    let error = json("FP16", "[1]").fp32(1).unwrap_err().to_string();
    assert!(
        error.contains("`FP16`") && error.contains("FP32"),
        "{error}"
    );
}

#[test]
fn a_shape_too_large_for_numbers_has_no_product() {
    let mut input = json("FP32", "[]");
    input.shape = vec![u64::MAX, 2];
    assert_eq!(input.elements_in_shape(), None);
    input.shape = vec![2, 3, 4];
    assert_eq!(input.elements_in_shape(), Some(24));
}
