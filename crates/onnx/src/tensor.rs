//! A constant: element type, shape and little-endian bytes, as ONNX and safetensors store them.

use half::{bf16, f16};

use crate::proto::DataType;

/// Element types of constants that we write.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum DType {
    /// IEEE 754, 32 bits.
    F32,
    /// IEEE 754, 16 bits.
    F16,
    /// The upper half of a 32-bit float.
    Bf16,
    /// Signed integer, 8 bits.
    I8,
    /// Unsigned integer, 8 bits.
    U8,
    /// Signed integer, 64 bits.
    I64,
}

impl DType {
    /// Size of one element in bytes.
    pub fn size(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::I64 => 8,
        }
    }

    /// ONNX's number for the type.
    pub fn data_type(self) -> DataType {
        match self {
            Self::F32 => DataType::Float,
            Self::F16 => DataType::Float16,
            Self::Bf16 => DataType::Bfloat16,
            Self::I8 => DataType::Int8,
            Self::U8 => DataType::Uint8,
            Self::I64 => DataType::Int64,
        }
    }
}

/// A dense row-major constant.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Tensor {
    /// A tensor of raw little-endian bytes.
    ///
    /// # Panics
    /// If the number of bytes is not that of the shape: callers have checked it.
    pub fn new(dtype: DType, shape: Vec<usize>, bytes: Vec<u8>) -> Self {
        assert_eq!(
            bytes.len(),
            shape.iter().product::<usize>() * dtype.size(),
            "bytes of a {dtype:?} tensor of shape {shape:?}"
        );
        Self {
            dtype,
            shape,
            bytes,
        }
    }

    /// A float32 tensor.
    ///
    /// # Panics
    /// If the number of values is not that of the shape.
    pub fn f32(shape: Vec<usize>, values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self::new(DType::F32, shape, bytes)
    }

    /// An int64 tensor with one axis.
    pub fn i64s(values: &[i64]) -> Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self::new(DType::I64, vec![values.len()], bytes)
    }

    /// An int8 tensor.
    ///
    /// # Panics
    /// If the number of values is not that of the shape.
    pub fn i8s(shape: Vec<usize>, values: &[i8]) -> Self {
        let bytes = values.iter().map(|v| v.cast_unsigned()).collect();
        Self::new(DType::I8, shape, bytes)
    }

    /// A uint8 tensor with one axis.
    pub fn u8s(values: &[u8]) -> Self {
        Self::new(DType::U8, vec![values.len()], values.to_vec())
    }

    /// Type of the elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Length of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements, row-major, little-endian.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The elements, row-major, little-endian.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The same elements under another shape.
    ///
    /// # Panics
    /// If the number of elements differs.
    pub fn reshaped(self, shape: Vec<usize>) -> Self {
        Self::new(self.dtype, shape, self.bytes)
    }

    /// The elements as float32; exact for every type here but large 64-bit integers.
    pub fn to_f32(&self) -> Vec<f32> {
        match self.dtype {
            DType::F32 => self
                .bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect(),
            DType::F16 => {
                let values = self.bytes.as_chunks().0.iter();
                values.map(|b| f16::from_le_bytes(*b).to_f32()).collect()
            }
            DType::Bf16 => {
                let values = self.bytes.as_chunks().0.iter();
                values.map(|b| bf16::from_le_bytes(*b).to_f32()).collect()
            }
            DType::I8 => {
                let values = self.bytes.iter();
                values.map(|b| f32::from(b.cast_signed())).collect()
            }
            DType::U8 => self.bytes.iter().map(|&b| f32::from(b)).collect(),
            #[expect(
                clippy::cast_precision_loss,
                reason = "sizes and indices, far below 2^24"
            )]
            DType::I64 => {
                let values = self.bytes.as_chunks().0.iter();
                values.map(|b| i64::from_le_bytes(*b) as f32).collect()
            }
        }
    }

    /// The same values as float32.
    pub fn cast_f32(self) -> Self {
        match self.dtype {
            DType::F32 => self,
            _ => Self::f32(self.shape.clone(), &self.to_f32()),
        }
    }

    /// The same values as float16, rounded; those beyond its range become infinite.
    pub fn cast_f16(self) -> Self {
        if self.dtype == DType::F16 {
            return self;
        }
        let values = self.to_f32().into_iter();
        let bytes = values.flat_map(|v| f16::from_f32(v).to_le_bytes());
        Self::new(DType::F16, self.shape, bytes.collect())
    }

    /// The same values as bfloat16, rounded to the nearest, ties to even.
    pub fn cast_bf16(self) -> Self {
        if self.dtype == DType::Bf16 {
            return self;
        }
        let values = self.to_f32().into_iter();
        let bytes = values.flat_map(|v| bf16::from_f32(v).to_le_bytes());
        Self::new(DType::Bf16, self.shape, bytes.collect())
    }

    /// Every value multiplied; float32 comes out.
    pub fn scaled(self, factor: f32) -> Self {
        let mut values = self.to_f32();
        values.iter_mut().for_each(|v| *v *= factor);
        Self::f32(self.shape, &values)
    }

    /// A matrix with rows and columns exchanged.
    ///
    /// # Panics
    /// If the tensor is not a matrix.
    #[expect(clippy::panic, reason = "callers know the shape from `VitSpec::shape`")]
    pub fn transposed(&self) -> Self {
        let [rows, columns] = *self.shape else {
            panic!("a tensor of shape {:?} is not a matrix", self.shape);
        };
        let bytes = match self.dtype.size() {
            1 => transpose::<1>(&self.bytes, rows, columns),
            2 => transpose::<2>(&self.bytes, rows, columns),
            4 => transpose::<4>(&self.bytes, rows, columns),
            _ => transpose::<8>(&self.bytes, rows, columns),
        };
        Self {
            dtype: self.dtype,
            shape: vec![columns, rows],
            bytes,
        }
    }
}

/// Transposes by square tiles, so that both sides stay in cache.
fn transpose<const SIZE: usize>(bytes: &[u8], rows: usize, columns: usize) -> Vec<u8> {
    const TILE: usize = 32;
    let source = bytes.as_chunks::<SIZE>().0;
    let mut target = vec![[0; SIZE]; source.len()];
    for top in (0..rows).step_by(TILE) {
        for left in (0..columns).step_by(TILE) {
            for column in left..columns.min(left + TILE) {
                for row in top..rows.min(top + TILE) {
                    target[column * rows + row] = source[row * columns + column];
                }
            }
        }
    }
    target.into_flattened()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(rows: usize, columns: usize) -> Tensor {
        let values: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
        Tensor::f32(vec![rows, columns], &values)
    }

    #[test]
    fn transposing_covers_sides_that_no_tile_divides() {
        let (rows, columns) = (35, 67);
        let there = counted(rows, columns).transposed();
        assert_eq!(there.shape(), [columns, rows]);
        assert_eq!(there.to_f32()[3 * rows + 34], (34 * columns + 3) as f32);
        assert_eq!(there.transposed(), counted(rows, columns));
    }

    #[test]
    fn widening_keeps_the_values() {
        let half = f16::from_f32(0.5).to_le_bytes().to_vec();
        let half = Tensor::new(DType::F16, vec![1], half).cast_f32();
        assert_eq!((half.dtype(), half.to_f32()), (DType::F32, vec![0.5]));
        let brain = bf16::from_f32(-2.0).to_le_bytes().to_vec();
        assert_eq!(Tensor::new(DType::Bf16, vec![1], brain).to_f32(), [-2.0]);
    }
}
