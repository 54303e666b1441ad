//! Types and shapes of values.

use prost::{Message, Oneof};

use super::StringStringEntryProto;

/// A value's name and type.
#[derive(Clone, PartialEq, Message)]
pub struct ValueInfoProto {
    /// Name of the value.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// Its type.
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<TypeProto>,
    /// Prose.
    #[prost(string, optional, tag = "3")]
    pub doc_string: Option<String>,
    /// Free-form metadata.
    #[prost(message, repeated, tag = "4")]
    pub metadata_props: Vec<StringStringEntryProto>,
}

/// The type of a value.
#[derive(Clone, PartialEq, Message)]
pub struct TypeProto {
    /// What kind of value.
    #[prost(oneof = "type_proto::Value", tags = "1, 4, 5, 7, 8, 9")]
    pub value: Option<type_proto::Value>,
    /// Meaning of the value, such as `IMAGE`.
    #[prost(string, optional, tag = "6")]
    pub denotation: Option<String>,
}

/// The alternatives of [`TypeProto`].
pub mod type_proto {
    use super::{
        MapType, Oneof, OpaqueType, OptionalType, SequenceType, SparseTensorType, TensorType,
    };

    /// What kind of value.
    #[derive(Clone, PartialEq, Oneof)]
    pub enum Value {
        /// A dense tensor.
        #[prost(message, tag = "1")]
        TensorType(TensorType),
        /// A list.
        #[prost(message, tag = "4")]
        SequenceType(Box<SequenceType>),
        /// A dictionary.
        #[prost(message, tag = "5")]
        MapType(Box<MapType>),
        /// Something only its operators understand.
        #[prost(message, tag = "7")]
        OpaqueType(OpaqueType),
        /// A sparse tensor.
        #[prost(message, tag = "8")]
        SparseTensorType(SparseTensorType),
        /// A value or nothing.
        #[prost(message, tag = "9")]
        OptionalType(Box<OptionalType>),
    }
}

/// A dense tensor.
#[derive(Clone, PartialEq, Message)]
pub struct TensorType {
    /// Element type, a [`DataType`](super::DataType).
    #[prost(int32, optional, tag = "1")]
    pub elem_type: Option<i32>,
    /// Shape; absent if not even the rank is known.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShapeProto>,
}

/// A list.
#[derive(Clone, PartialEq, Message)]
pub struct SequenceType {
    /// Type of its members.
    #[prost(message, optional, boxed, tag = "1")]
    pub elem_type: Option<Box<TypeProto>>,
}

/// A dictionary.
#[derive(Clone, PartialEq, Message)]
pub struct MapType {
    /// Type of the keys, a [`DataType`](super::DataType).
    #[prost(int32, optional, tag = "1")]
    pub key_type: Option<i32>,
    /// Type of the values.
    #[prost(message, optional, boxed, tag = "2")]
    pub value_type: Option<Box<TypeProto>>,
}

/// A value or nothing.
#[derive(Clone, PartialEq, Message)]
pub struct OptionalType {
    /// Type of the value.
    #[prost(message, optional, boxed, tag = "1")]
    pub elem_type: Option<Box<TypeProto>>,
}

/// A sparse tensor.
#[derive(Clone, PartialEq, Message)]
pub struct SparseTensorType {
    /// Element type, a [`DataType`](super::DataType).
    #[prost(int32, optional, tag = "1")]
    pub elem_type: Option<i32>,
    /// Shape of the dense tensor.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShapeProto>,
}

/// Something only its operators understand.
#[derive(Clone, PartialEq, Message)]
pub struct OpaqueType {
    /// Domain of the type.
    #[prost(string, optional, tag = "1")]
    pub domain: Option<String>,
    /// Name of the type.
    #[prost(string, optional, tag = "2")]
    pub name: Option<String>,
}

/// The axes of a tensor.
#[derive(Clone, PartialEq, Message)]
pub struct TensorShapeProto {
    /// One an axis.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<dimension::Dimension>,
}

/// One axis of a [`TensorShapeProto`].
pub mod dimension {
    use super::{Message, Oneof};

    /// One axis.
    #[derive(Clone, PartialEq, Message)]
    pub struct Dimension {
        /// Its length; absent if unknown.
        #[prost(oneof = "Value", tags = "1, 2")]
        pub value: Option<Value>,
        /// Its meaning, such as `DATA_BATCH`.
        #[prost(string, optional, tag = "3")]
        pub denotation: Option<String>,
    }

    /// A number or a name.
    #[derive(Clone, PartialEq, Oneof)]
    pub enum Value {
        /// Known length.
        #[prost(int64, tag = "1")]
        DimValue(i64),
        /// Named length, equal wherever the name is.
        #[prost(string, tag = "2")]
        DimParam(String),
    }
}
