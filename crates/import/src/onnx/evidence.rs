//! Where an exported graph's classifier reads a mean over positions, found by structure and measured.
//!
//! Nothing is taken from names. A node that takes a mean over positions is a candidate if nothing
//! else of the image reaches the logits but through it. What comes after it is then run by itself on
//! means of our own: unit vectors give the classifier's kernel, and vectors of every length show
//! whether it is one (affine), or a normalisation over the channels and then one. Whatever does not
//! come out so is refused.

mod pooling;
mod tail;

use patchlight_engine::{BareSession, Runtime, Values};
use patchlight_onnx::{
    graph_index::GraphIndex,
    proto::{ModelProto, ValueInfoProto},
    tensor::{DType, Tensor},
    vit::{LOGITS, MeanReadout, PIXEL_VALUES},
};
use prost::Message;

use self::{
    pooling::{PooledMean, candidates},
    tail::{Classifier, Tail},
};
use super::{check, network::DetectionError};
use crate::directory::ModelDirWriter;

/// The readout of a graph whose input and outputs have our names already. The inner error says
/// why there is none.
///
/// # Errors
/// If a graph cannot be run or written.
pub(super) fn find(
    runtime: &Runtime,
    directory: &ModelDirWriter,
    model: &ModelProto,
    sides: [usize; 2],
) -> Result<MeanReadout, DetectionError> {
    let Some(graph) = &model.graph else {
        return Err(DetectionError::Map("it holds no graph".to_owned()));
    };
    let index = GraphIndex::new(graph);
    let found = candidates(graph, &index);
    let Some(candidate) = found.into_iter().next() else {
        return Err(DetectionError::Map(
            "no mean over positions was found through which alone the image reaches the logits"
                .to_owned(),
        ));
    };
    // The first run shows shapes, and what the mean is of three images.
    let mut showing = model.clone();
    if let Some(graph) = &mut showing.graph {
        let output = |name: &str| ValueInfoProto {
            name: Some(name.to_owned()),
            ..ValueInfoProto::default()
        };
        graph
            .output
            .extend([output(&candidate.states), output(&candidate.mean)]);
    }
    let file = directory.write_scratch("evidence-probe.onnx", &showing.encode_to_vec())?;
    let mut session = BareSession::open(runtime, &file)?;
    let half = session.half_outputs();
    let dtype = |name: &str| match half.iter().any(|found| found == name) {
        true => DType::F16,
        false => DType::F32,
    };
    let mut runs = Vec::new();
    for image in check::images(sides) {
        let shape = [1, 3, sides[0], sides[1]];
        let mut outputs = session.run(&[(PIXEL_VALUES, &shape, &image)])?;
        let mut take = |name: &str| {
            outputs.remove(name).unwrap_or(Values {
                shape: Vec::new(),
                values: Vec::new(),
            })
        };
        runs.push([take(&candidate.states), take(&candidate.mean), take(LOGITS)]);
    }
    let Some([states, mean, _]) = runs.first() else {
        return Err(DetectionError::Map("it gave nothing".to_owned()));
    };
    let pooled = PooledMean::of(&candidate, states, mean, sides).map_err(DetectionError::Map)?;
    for [states, mean, _] in &runs {
        pooled.check(states, mean).map_err(DetectionError::Map)?;
    }

    let tail = Tail::cut(
        model,
        &index,
        &candidate.mean,
        &mean.shape,
        dtype(&candidate.mean) == DType::F16,
    )
    .map_err(DetectionError::Map)?;
    let mut tail = tail.open(runtime, directory)?;
    let samples: Vec<[&[f32]; 2]> = runs
        .iter()
        .map(|[_, mean, logits]| [mean.values.as_slice(), logits.values.as_slice()])
        .collect();
    let Classifier { norm, kernel, bias } = tail
        .classifier(runtime, directory, &samples)?
        .map_err(DetectionError::Map)?;
    if pooled.is_inferred() {
        pooled
            .check_places(&mut session, sides, &candidate.states)?
            .map_err(DetectionError::Map)?;
    }
    let (channels, classes) = (pooled.channels, bias.len());
    Ok(MeanReadout {
        states: (candidate.states.clone(), dtype(&candidate.states)),
        order: pooled.order,
        mean: (candidate.mean.clone(), dtype(&candidate.mean)),
        grid: pooled.grid,
        norm,
        kernel: Tensor::f32(vec![channels, classes], &kernel),
        bias: Tensor::f32(vec![classes], &bias),
        logits: LOGITS.to_owned(),
    })
}
