//! Images as bytes, normalised in the graph.

use std::io;

use super::{PIXEL_VALUES, PIXELS, PixelNormalization};
use crate::{
    graph::{Dim, Graph},
    proto::{GraphProto, dimension, type_proto},
    tensor::{DType, Tensor},
};

/// What the patches' convolution reads.
pub(super) const NARROWED: &str = "pixel_values/float16";

/// Gives the portable graph's input a batch of its own. The runtime takes equal names for equal
/// lengths when it plans its memory, and this is only a part of the batch.
pub(super) fn rename_batch(graph: &mut GraphProto) {
    let inputs = graph.input.iter_mut();
    for input in inputs.filter(|input| input.name() == PIXEL_VALUES) {
        let value = input.r#type.as_mut().and_then(|kind| kind.value.as_mut());
        let Some(type_proto::Value::TensorType(tensor)) = value else {
            continue;
        };
        if let Some(batch) = tensor
            .shape
            .as_mut()
            .and_then(|shape| shape.dim.first_mut())
        {
            let name = "values_batch".to_owned();
            batch.value = Some(dimension::Value::DimParam(name));
        }
    }
}

/// Adds the input [`PIXELS`], and joins both inputs along the batch. The operations are those of
/// the table on the host, in its order; only its first product is of float64.
pub(super) fn write(
    graph: &mut Graph<'_>,
    [height, width]: [usize; 2],
    normalize: &PixelNormalization,
) -> io::Result<()> {
    let shape = [
        Dim::named("pixels_batch"),
        height.into(),
        width.into(),
        3.into(),
    ];
    let pixels = graph.input(PIXELS, DType::U8, &shape);
    let by_channel = |values: [f64; 3]| {
        let values = values.map(|value| value as f32);
        Tensor::f32(vec![3], &values)
    };
    let wide = graph.cast("pixels/float32", &pixels, DType::F32);
    let scale = graph.scalar(normalize.scale as f32);
    let scaled = graph.mul("pixels/scaled", &wide, &scale);
    let mean = graph.constant("pixels/mean", by_channel(normalize.mean))?;
    let centred = graph.sub("pixels/centred", &scaled, &mean);
    let deviation = graph.constant("pixels/deviation", by_channel(normalize.std))?;
    let normalized = graph.div("pixels/normalized", &centred, &deviation);
    let planes = graph.transpose("pixels/planes", &normalized, &[0, 3, 1, 2]);
    let planes = graph.cast("pixels/float16", &planes, DType::F16);
    let values = graph.value(PIXEL_VALUES);
    let values = graph.cast("pixel_values/alone/float16", &values, DType::F16);
    graph.concat(NARROWED, &[&planes, &values], 0);
    Ok(())
}
