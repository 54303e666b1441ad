//! Images as bytes, normalised in the graph.

use std::io;

use super::{DOMAIN, NORMALIZE, PIXEL_VALUES, PIXELS, PixelNormalization};
use crate::{
    graph::{Dim, Graph, Value},
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

/// Adds the input [`PIXELS`], and makes the convolution's input of both.
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
    let values = graph.value(PIXEL_VALUES);
    let constants = [
        ("pixels/scale", vec![normalize.scale]),
        ("pixels/mean", normalize.mean.to_vec()),
        ("pixels/deviation", normalize.std.to_vec()),
    ];
    let mut inputs = vec![pixels, values];
    for (name, values) in constants {
        let narrow: Vec<f32> = values.iter().map(|&value| value as f32).collect();
        inputs.push(graph.constant(name, Tensor::f32(vec![narrow.len()], &narrow))?);
    }
    let inputs: Vec<&Value> = inputs.iter().collect();
    graph.call((DOMAIN, NORMALIZE), &[NARROWED], &inputs, &[]);
    Ok(())
}
