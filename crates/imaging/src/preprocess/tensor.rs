//! One image as a model takes it.

/// The form of an image that a session takes without converting it first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TensorForm {
    /// Normalised float32 planes.
    Normalized,
    /// Resized pixels as bytes, a quarter of the size; the graph normalises them.
    Pixels,
}

/// One image for a model, owned.
#[derive(Clone, Debug, PartialEq)]
pub enum ImageTensor {
    /// Normalised planes R, G, B, rows from the top: `3 × height × width` values.
    Normalized(Vec<f32>),
    /// Pixels before normalising, R, G, B interleaved, rows from the top: `height × width × 3`
    /// bytes.
    Pixels(Vec<u8>),
}

/// One image for a model, borrowed.
#[derive(Clone, Copy, Debug)]
pub enum ImageTensorRef<'a> {
    /// See [`ImageTensor::Normalized`].
    Normalized(&'a [f32]),
    /// See [`ImageTensor::Pixels`].
    Pixels(&'a [u8]),
}

impl ImageTensor {
    /// Borrows the values.
    pub fn view(&self) -> ImageTensorRef<'_> {
        match self {
            Self::Normalized(values) => ImageTensorRef::Normalized(values),
            Self::Pixels(bytes) => ImageTensorRef::Pixels(bytes),
        }
    }
}

impl<'a> ImageTensorRef<'a> {
    /// The values, if they are normalised already.
    pub fn normalized(self) -> Option<&'a [f32]> {
        match self {
            Self::Normalized(values) => Some(values),
            Self::Pixels(_) => None,
        }
    }
}

impl From<Vec<f32>> for ImageTensor {
    fn from(values: Vec<f32>) -> Self {
        Self::Normalized(values)
    }
}

impl<'a> From<&'a [f32]> for ImageTensorRef<'a> {
    fn from(values: &'a [f32]) -> Self {
        Self::Normalized(values)
    }
}

impl<'a> From<&'a ImageTensor> for ImageTensorRef<'a> {
    fn from(tensor: &'a ImageTensor) -> Self {
        tensor.view()
    }
}
