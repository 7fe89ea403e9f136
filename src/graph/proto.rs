//! Owns the ONNX file format (onnx.proto of ONNX 1.23, Apache-2.0), as far as the rewriting reads it.
//!
//! Messages that are only carried from file to file are kept as their bytes: on the wire, a message and a byte string are the
//! same thing. So nothing is lost, and weights stay slices of the file's bytes.

use prost::Message;
use prost::bytes::Bytes;

/// `ModelProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Model {
    #[prost(int64, optional, tag = "1")]
    pub(super) ir_version: Option<i64>,
    #[prost(message, repeated, tag = "8")]
    pub(super) opset_import: Vec<OperatorSet>,
    #[prost(string, optional, tag = "2")]
    pub(super) producer_name: Option<String>,
    #[prost(string, optional, tag = "3")]
    pub(super) producer_version: Option<String>,
    #[prost(string, optional, tag = "4")]
    pub(super) domain: Option<String>,
    #[prost(int64, optional, tag = "5")]
    pub(super) model_version: Option<i64>,
    #[prost(string, optional, tag = "6")]
    pub(super) doc_string: Option<String>,
    #[prost(message, optional, tag = "7")]
    pub(super) graph: Option<Graph>,
    #[prost(bytes = "bytes", repeated, tag = "14")]
    pub(super) metadata_props: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "20")]
    pub(super) training_info: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "25")]
    pub(super) functions: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "26")]
    pub(super) configuration: Vec<Bytes>,
}

/// `OperatorSetIdProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct OperatorSet {
    #[prost(string, optional, tag = "1")]
    pub(super) domain: Option<String>,
    #[prost(int64, optional, tag = "2")]
    pub(super) version: Option<i64>,
}

/// `GraphProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Graph {
    #[prost(message, repeated, tag = "1")]
    pub(super) node: Vec<Node>,
    #[prost(string, optional, tag = "2")]
    pub(super) name: Option<String>,
    #[prost(message, repeated, tag = "5")]
    pub(super) initializer: Vec<Tensor>,
    #[prost(bytes = "bytes", repeated, tag = "15")]
    pub(super) sparse_initializer: Vec<Bytes>,
    #[prost(string, optional, tag = "10")]
    pub(super) doc_string: Option<String>,
    #[prost(message, repeated, tag = "11")]
    pub(super) input: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    pub(super) output: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "13")]
    pub(super) value_info: Vec<ValueInfo>,
    #[prost(bytes = "bytes", repeated, tag = "14")]
    pub(super) quantization_annotation: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "16")]
    pub(super) metadata_props: Vec<Bytes>,
}

/// `NodeProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Node {
    #[prost(string, repeated, tag = "1")]
    pub(super) input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(super) output: Vec<String>,
    #[prost(string, optional, tag = "3")]
    pub(super) name: Option<String>,
    #[prost(string, optional, tag = "4")]
    pub(super) op_type: Option<String>,
    #[prost(string, optional, tag = "7")]
    pub(super) domain: Option<String>,
    #[prost(string, optional, tag = "8")]
    pub(super) overload: Option<String>,
    #[prost(message, repeated, tag = "5")]
    pub(super) attribute: Vec<Attribute>,
    #[prost(string, optional, tag = "6")]
    pub(super) doc_string: Option<String>,
    #[prost(bytes = "bytes", repeated, tag = "9")]
    pub(super) metadata_props: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "10")]
    pub(super) device_configurations: Vec<Bytes>,
}

/// `AttributeProto`. Graphs within it (`g`, `graphs`) are carried as bytes.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Attribute {
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
    #[prost(string, optional, tag = "21")]
    pub(super) ref_attr_name: Option<String>,
    #[prost(string, optional, tag = "13")]
    pub(super) doc_string: Option<String>,
    #[prost(int32, optional, tag = "20")]
    pub(super) kind: Option<i32>,
    #[prost(float, optional, tag = "2")]
    pub(super) f: Option<f32>,
    #[prost(int64, optional, tag = "3")]
    pub(super) i: Option<i64>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub(super) s: Option<Bytes>,
    #[prost(message, optional, tag = "5")]
    pub(super) t: Option<Tensor>,
    #[prost(bytes = "bytes", optional, tag = "6")]
    pub(super) g: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "22")]
    pub(super) sparse_tensor: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "14")]
    pub(super) tp: Option<Bytes>,
    #[prost(float, repeated, packed = "false", tag = "7")]
    pub(super) floats: Vec<f32>,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub(super) ints: Vec<i64>,
    #[prost(bytes = "bytes", repeated, tag = "9")]
    pub(super) strings: Vec<Bytes>,
    #[prost(message, repeated, tag = "10")]
    pub(super) tensors: Vec<Tensor>,
    #[prost(bytes = "bytes", repeated, tag = "11")]
    pub(super) graphs: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "23")]
    pub(super) sparse_tensors: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "15")]
    pub(super) type_protos: Vec<Bytes>,
}

/// `TensorProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Tensor {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub(super) dims: Vec<i64>,
    #[prost(int32, optional, tag = "2")]
    pub(super) data_type: Option<i32>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(super) segment: Option<Bytes>,
    #[prost(float, repeated, packed = "true", tag = "4")]
    pub(super) float_data: Vec<f32>,
    #[prost(int32, repeated, packed = "true", tag = "5")]
    pub(super) int32_data: Vec<i32>,
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub(super) string_data: Vec<Bytes>,
    #[prost(int64, repeated, packed = "true", tag = "7")]
    pub(super) int64_data: Vec<i64>,
    #[prost(string, optional, tag = "8")]
    pub(super) name: Option<String>,
    #[prost(string, optional, tag = "12")]
    pub(super) doc_string: Option<String>,
    #[prost(bytes = "bytes", optional, tag = "9")]
    pub(super) raw_data: Option<Bytes>,
    #[prost(message, repeated, tag = "13")]
    pub(super) external_data: Vec<Entry>,
    #[prost(int32, optional, tag = "14")]
    pub(super) data_location: Option<i32>,
    #[prost(double, repeated, packed = "true", tag = "10")]
    pub(super) double_data: Vec<f64>,
    #[prost(uint64, repeated, packed = "true", tag = "11")]
    pub(super) uint64_data: Vec<u64>,
    #[prost(bytes = "bytes", repeated, tag = "16")]
    pub(super) metadata_props: Vec<Bytes>,
}

/// `StringStringEntryProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Entry {
    #[prost(string, optional, tag = "1")]
    pub(super) key: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(super) value: Option<String>,
}

/// `FunctionProto`, of which only the nodes are looked at; it is never written.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Function {
    #[prost(message, repeated, tag = "7")]
    pub(super) node: Vec<Node>,
}

/// `ValueInfoProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ValueInfo {
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(super) kind: Option<Bytes>,
    #[prost(string, optional, tag = "3")]
    pub(super) doc_string: Option<String>,
    #[prost(bytes = "bytes", repeated, tag = "4")]
    pub(super) metadata_props: Vec<Bytes>,
}

/// `TypeProto` of a tensor.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Type {
    #[prost(message, optional, tag = "1")]
    pub(super) tensor: Option<TensorType>,
}

/// `TypeProto.Tensor`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorType {
    #[prost(int32, optional, tag = "1")]
    pub(super) element: Option<i32>,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
}

/// `TensorShapeProto`.
#[derive(Clone, PartialEq, Message)]
struct Shape {
    #[prost(message, repeated, tag = "1")]
    axes: Vec<Axis>,
}

/// `TensorShapeProto.Dimension`.
#[derive(Clone, PartialEq, Message)]
struct Axis {
    #[prost(int64, optional, tag = "1")]
    size: Option<i64>,
    #[prost(string, optional, tag = "2")]
    name: Option<String>,
}

/// `TensorProto.DataType` of float32.
pub(super) const FLOAT: i32 = 1;
/// `TensorProto.DataType` of int32.
pub(super) const INT32: i32 = 6;
/// `TensorProto.DataType` of int64.
pub(super) const INT64: i32 = 7;
/// `AttributeProto.AttributeType` of a number.
const ATTRIBUTE_FLOAT: i32 = 1;
/// `AttributeProto.AttributeType` of an integer.
const ATTRIBUTE_INT: i32 = 2;
/// `AttributeProto.AttributeType` of a list of integers.
const ATTRIBUTE_INTS: i32 = 7;

impl Tensor {
    /// A one-dimensional int64 constant.
    pub(super) fn int64s(name: &str, values: &[i64]) -> Self {
        Self {
            dims: vec![i64::try_from(values.len()).unwrap_or(0)],
            data_type: Some(INT64),
            int64_data: values.to_vec(),
            name: Some(name.to_owned()),
            ..Self::default()
        }
    }

    /// One float32 without axes.
    pub(super) fn float(name: &str, value: f32) -> Self {
        Self { data_type: Some(FLOAT), float_data: vec![value], name: Some(name.to_owned()), ..Self::default() }
    }

    /// One int32 without axes.
    pub(super) fn int32(name: &str, value: i32) -> Self {
        Self { data_type: Some(INT32), int32_data: vec![value], name: Some(name.to_owned()), ..Self::default() }
    }

    /// The values of an int64 tensor; `None` for other types.
    pub(super) fn as_int64s(&self) -> Option<Vec<i64>> {
        if self.data_type != Some(INT64) {
            return None;
        }
        match self.raw_data.as_deref().filter(|raw| !raw.is_empty()) {
            None => Some(self.int64_data.clone()),
            Some(raw) => {
                let (values, rest) = raw.as_chunks::<8>();
                rest.is_empty().then(|| values.iter().map(|value| i64::from_le_bytes(*value)).collect())
            }
        }
    }
}

impl ValueInfo {
    /// How many axes it is said to have; `None` if that isn't said.
    pub(super) fn axes(&self) -> Option<usize> {
        let kind = Type::decode(self.kind.clone()?).ok()?;
        Some(kind.tensor?.shape?.axes.len())
    }

    /// A tensor whose first axis is M, followed by axes of the sizes given.
    pub(super) fn tensor(name: &str, element: i32, rest: &[i64]) -> Self {
        let first = Axis { size: None, name: Some("tamis.masked".to_owned()) };
        let axes = std::iter::once(first).chain(rest.iter().map(|size| Axis { size: Some(*size), name: None }));
        let tensor = TensorType { element: Some(element), shape: Some(Shape { axes: axes.collect() }) };
        let kind = Type { tensor: Some(tensor) }.encode_to_vec();
        Self { name: Some(name.to_owned()), kind: Some(kind.into()), ..Self::default() }
    }
}

impl ValueInfo {
    /// A tensor of which only the type is told.
    pub(super) fn of_any_shape(name: &str, element: i32) -> Self {
        let kind = Type { tensor: Some(TensorType { element: Some(element), shape: None }) }.encode_to_vec();
        Self { name: Some(name.to_owned()), kind: Some(kind.into()), ..Self::default() }
    }
}

impl Node {
    /// A node of the standard operators with one output, named after it.
    pub(super) fn new(op_type: &str, input: &[&str], output: &str) -> Self {
        Self {
            input: input.iter().map(|name| (*name).to_owned()).collect(),
            output: vec![output.to_owned()],
            name: Some(output.to_owned()),
            op_type: Some(op_type.to_owned()),
            ..Self::default()
        }
    }

    /// The same with an integer attribute.
    pub(super) fn with_int(mut self, name: &str, value: i64) -> Self {
        let attribute = Attribute {
            name: Some(name.to_owned()),
            kind: Some(ATTRIBUTE_INT),
            i: Some(value),
            ..Attribute::default()
        };
        self.attribute.push(attribute);
        self
    }

    /// The same with an attribute that is a number.
    pub(super) fn with_float(mut self, name: &str, value: f32) -> Self {
        let attribute = Attribute {
            name: Some(name.to_owned()),
            kind: Some(ATTRIBUTE_FLOAT),
            f: Some(value),
            ..Attribute::default()
        };
        self.attribute.push(attribute);
        self
    }

    /// The same with an attribute that lists integers.
    pub(super) fn with_ints(mut self, name: &str, values: &[i64]) -> Self {
        let attribute = Attribute {
            name: Some(name.to_owned()),
            kind: Some(ATTRIBUTE_INTS),
            ints: values.to_vec(),
            ..Attribute::default()
        };
        self.attribute.push(attribute);
        self
    }

    /// The attribute of this name.
    pub(super) fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attribute.iter().find(|attribute| attribute.name() == name)
    }

    /// An integer attribute, or what stands for its absence.
    pub(super) fn int(&self, name: &str, absent: i64) -> i64 {
        self.attribute(name).and_then(|attribute| attribute.i).unwrap_or(absent)
    }
}
