//! Constants.

use bytes::Bytes;
use prost::{Enumeration, Message};

use super::StringStringEntryProto;

/// A tensor with its values, in one of the typed fields, in `raw_data`, or in another file.
#[derive(Clone, PartialEq, Message)]
pub struct TensorProto {
    /// Shape.
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    /// Element type, a [`DataType`].
    #[prost(int32, optional, tag = "2")]
    pub data_type: Option<i32>,
    /// Which part of a large tensor this is.
    #[prost(message, optional, tag = "3")]
    pub segment: Option<Segment>,
    /// Values of float (and complex64) tensors.
    #[prost(float, repeated, tag = "4")]
    pub float_data: Vec<f32>,
    /// Values of tensors of 32 bits and less, one or more an entry.
    #[prost(int32, repeated, tag = "5")]
    pub int32_data: Vec<i32>,
    /// Values of string tensors.
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub string_data: Vec<Bytes>,
    /// Values of int64 tensors.
    #[prost(int64, repeated, tag = "7")]
    pub int64_data: Vec<i64>,
    /// Name of the value.
    #[prost(string, optional, tag = "8")]
    pub name: Option<String>,
    /// Prose.
    #[prost(string, optional, tag = "12")]
    pub doc_string: Option<String>,
    /// Values of any fixed-size type, little-endian, row-major.
    #[prost(bytes = "bytes", optional, tag = "9")]
    pub raw_data: Option<Bytes>,
    /// Where the values lie when `data_location` is external: `location`, `offset`, `length`, ….
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<StringStringEntryProto>,
    /// In this message or in another file.
    #[prost(enumeration = "DataLocation", optional, tag = "14")]
    pub data_location: Option<i32>,
    /// Values of double (and complex128) tensors.
    #[prost(double, repeated, tag = "10")]
    pub double_data: Vec<f64>,
    /// Values of uint32 and uint64 tensors.
    #[prost(uint64, repeated, tag = "11")]
    pub uint64_data: Vec<u64>,
    /// Free-form metadata.
    #[prost(message, repeated, tag = "16")]
    pub metadata_props: Vec<StringStringEntryProto>,
}

/// A part of a large tensor.
#[derive(Clone, PartialEq, Message)]
pub struct Segment {
    /// First element.
    #[prost(int64, optional, tag = "1")]
    pub begin: Option<i64>,
    /// One past the last element.
    #[prost(int64, optional, tag = "2")]
    pub end: Option<i64>,
}

/// Where a tensor's values lie.
#[derive(Clone, Copy, Debug, Enumeration, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(i32)]
pub enum DataLocation {
    /// In the message.
    Default = 0,
    /// In the file that `external_data` names.
    External = 1,
}

/// Element types.
#[derive(Clone, Copy, Debug, Enumeration, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(i32)]
pub enum DataType {
    /// None.
    Undefined = 0,
    /// IEEE 754, 32 bits.
    Float = 1,
    /// Unsigned, 8 bits.
    Uint8 = 2,
    /// Signed, 8 bits.
    Int8 = 3,
    /// Unsigned, 16 bits.
    Uint16 = 4,
    /// Signed, 16 bits.
    Int16 = 5,
    /// Signed, 32 bits.
    Int32 = 6,
    /// Signed, 64 bits.
    Int64 = 7,
    /// Strings.
    String = 8,
    /// One byte, 0 or 1.
    Bool = 9,
    /// IEEE 754, 16 bits.
    Float16 = 10,
    /// IEEE 754, 64 bits.
    Double = 11,
    /// Unsigned, 32 bits.
    Uint32 = 12,
    /// Unsigned, 64 bits.
    Uint64 = 13,
    /// Two floats.
    Complex64 = 14,
    /// Two doubles.
    Complex128 = 15,
    /// The upper half of a float.
    Bfloat16 = 16,
    /// 8 bits: 4 of exponent, 3 of mantissa, no infinities.
    Float8e4m3fn = 17,
    /// The same without a negative zero.
    Float8e4m3fnuz = 18,
    /// 8 bits: 5 of exponent, 2 of mantissa.
    Float8e5m2 = 19,
    /// The same without infinities and negative zero.
    Float8e5m2fnuz = 20,
    /// Unsigned, two in a byte.
    Uint4 = 21,
    /// Signed, two in a byte.
    Int4 = 22,
    /// 4 bits: 2 of exponent, 1 of mantissa.
    Float4e2m1 = 23,
    /// 8 bits of exponent: a power of two.
    Float8e8m0 = 24,
    /// Unsigned, four in a byte.
    Uint2 = 25,
    /// Signed, four in a byte.
    Int2 = 26,
    /// 6 bits: 2 of exponent, 3 of mantissa.
    Float6e2m3 = 27,
    /// 6 bits: 3 of exponent, 2 of mantissa.
    Float6e3m2 = 28,
}

/// A sparse tensor in coordinate form.
#[derive(Clone, PartialEq, Message)]
pub struct SparseTensorProto {
    /// The values that are not the default.
    #[prost(message, optional, tag = "1")]
    pub values: Option<TensorProto>,
    /// Where they are.
    #[prost(message, optional, tag = "2")]
    pub indices: Option<TensorProto>,
    /// Shape of the dense tensor.
    #[prost(int64, repeated, packed = "false", tag = "3")]
    pub dims: Vec<i64>,
}

/// Which tensors hold a quantised tensor's parameters.
#[derive(Clone, PartialEq, Message)]
pub struct TensorAnnotation {
    /// The quantised tensor.
    #[prost(string, optional, tag = "1")]
    pub tensor_name: Option<String>,
    /// From `SCALE_TENSOR`, `ZERO_POINT_TENSOR` to tensor names.
    #[prost(message, repeated, tag = "2")]
    pub quant_parameter_tensor_names: Vec<StringStringEntryProto>,
}
