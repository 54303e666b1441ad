//! What comes after a mean, run by itself on vectors of our own.

use std::collections::HashSet;

use patchlight_engine::{BareSession, EngineError, Runtime, Values};
use patchlight_onnx::{
    graph_index::GraphIndex,
    proto::{
        DataType, GraphProto, ModelProto, NodeProto, ValueInfoProto, dimension::Value as Length,
        type_proto::Value as Type,
    },
    vit::{LOGITS, MeanNorm, PIXEL_VALUES},
};
use prost::Message;

use super::super::{
    network::DetectionError,
    rewrite::{ints_attribute, node, typed_info},
    signature::integer,
};
use crate::directory::ModelDirWriter;

/// Values added to the variance that networks have.
const EPSILONS: [f32; 6] = [1e-6, 1e-5, 1e-12, 1e-3, 1e-7, 1e-8];

/// Relative to the largest value.
const TOLERANCE: f32 = 2e-3;

/// The part of a graph from one value on.
pub(super) struct Tail {
    model: ModelProto,
    input: String,
    /// Of one image.
    shape: Vec<usize>,
    /// Whether it is float16.
    half: bool,
    /// Values through which all of it goes, first to last.
    between: Vec<String>,
}

/// The same, loaded.
pub(super) struct OpenTail {
    tail: Tail,
    session: BareSession,
}

/// What a tail is.
pub(super) struct Classifier {
    pub(super) norm: Option<MeanNorm>,
    /// `[channels, classes]`.
    pub(super) kernel: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

impl Tail {
    /// From `value` to the logits.
    ///
    /// # Errors
    /// If nothing is there.
    pub(super) fn cut(
        model: &ModelProto,
        index: &GraphIndex<'_>,
        value: &str,
        shape: &[usize],
        half: bool,
    ) -> Result<Self, String> {
        let graph = model.graph.as_ref().ok_or("it holds no graph")?;
        let mut kept = HashSet::new();
        let mut open = vec![LOGITS];
        while let Some(next) = open.pop() {
            if next == value {
                continue;
            }
            if let Some((at, node)) = index.producer(next)
                && kept.insert(at)
                && !is_shape_of_image(node)
            {
                open.extend(node.input.iter().map(String::as_str));
            }
        }
        let mut order: Vec<usize> = kept.into_iter().collect();
        order.sort_unstable();
        let image = shape_of_input(graph);
        let nodes = order.iter().map(|&at| graph.node[at].clone());
        let nodes: Vec<NodeProto> = nodes.map(|node| with_known_shape(node, &image)).collect();
        let read: HashSet<&str> = nodes
            .iter()
            .flat_map(|node| node.input.iter().map(String::as_str))
            .collect();
        let initializer = graph
            .initializer
            .iter()
            .filter(|tensor| read.contains(tensor.name()));
        let between = nodes.iter().filter_map(|node| node.output.first().cloned());
        let between: Vec<String> = between.filter(|name| name != LOGITS).collect();
        let dtype = if half {
            DataType::Float16
        } else {
            DataType::Float
        };
        let part = GraphProto {
            name: Some("tail".to_owned()),
            initializer: initializer.cloned().collect(),
            input: vec![typed_info(value, None, shape, dtype)],
            output: vec![ValueInfoProto {
                name: Some(LOGITS.to_owned()),
                ..ValueInfoProto::default()
            }],
            node: nodes,
            ..GraphProto::default()
        };
        Ok(Self {
            model: ModelProto {
                graph: Some(part),
                ..model.clone()
            },
            input: value.to_owned(),
            shape: shape.to_vec(),
            half,
            between,
        })
    }

    pub(super) fn open(
        self,
        runtime: &Runtime,
        directory: &ModelDirWriter,
    ) -> Result<OpenTail, DetectionError> {
        let file = directory.write_scratch("evidence-tail.onnx", &self.model.encode_to_vec())?;
        let session = BareSession::open(runtime, &file)?;
        Ok(OpenTail {
            tail: self,
            session,
        })
    }

    /// The part after one of the values between, if nothing passes beside it.
    fn after(&self, value: &str, shape: &[usize]) -> Option<Self> {
        let graph = self.model.graph.as_ref()?;
        let index = GraphIndex::new(graph);
        let mut open = vec![LOGITS];
        let mut seen = HashSet::new();
        while let Some(next) = open.pop() {
            if next == value {
                continue;
            }
            if next == self.input {
                return None;
            }
            if let Some((at, node)) = index.producer(next)
                && node.op_type() != "Shape"
                && seen.insert(at)
            {
                open.extend(node.input.iter().map(String::as_str));
            }
        }
        Self::cut(&self.model, &index, value, shape, self.half).ok()
    }

    /// From the same value to another one.
    fn up_to(&self, value: &str) -> ModelProto {
        let mut model = self.model.clone();
        if let Some(graph) = &mut model.graph {
            for output in &mut graph.output {
                output.name = Some(value.to_owned());
            }
        }
        model
    }
}

/// Whether a node asks how large the image is.
fn is_shape_of_image(node: &NodeProto) -> bool {
    node.op_type() == "Shape" && node.input.first().is_some_and(|name| name == PIXEL_VALUES)
}

/// Lengths of the image's axes, one image.
fn shape_of_input(graph: &GraphProto) -> Vec<i64> {
    let input = graph.input.iter().find(|info| info.name() == PIXEL_VALUES);
    let kind = input.and_then(|info| info.r#type.as_ref()?.value.as_ref());
    let Some(Type::TensorType(tensor)) = kind else {
        return Vec::new();
    };
    let dims = tensor.shape.iter().flat_map(|shape| &shape.dim);
    dims.map(|dim| match dim.value {
        Some(Length::DimValue(length)) => length,
        _ => 1,
    })
    .collect()
}

/// A node that asks how large the image is, as the constant that it gives.
fn with_known_shape(asking: NodeProto, image: &[i64]) -> NodeProto {
    if !is_shape_of_image(&asking) {
        return asking;
    }
    let rank = image.len() as i64;
    let end = |name: &str, default: i64| {
        let at = integer(&asking, name).unwrap_or(default);
        let at = if at < 0 { at + rank } else { at };
        usize::try_from(at.clamp(0, rank)).unwrap_or_default()
    };
    let (first, last) = (end("start", 0), end("end", rank));
    let lengths = image.get(first..last).unwrap_or_default();
    let output = asking.output.first().map_or("", String::as_str);
    let mut constant = node("Constant", &[], output);
    constant.attribute = vec![ints_attribute("value_ints", lengths)];
    constant
}

impl OpenTail {
    /// What it is; `samples` are means and logits of real runs. The inner error says that it is
    /// none.
    pub(super) fn classifier(
        &mut self,
        runtime: &Runtime,
        directory: &ModelDirWriter,
        samples: &[[&[f32]; 2]],
    ) -> Result<Result<Classifier, String>, DetectionError> {
        let means: Vec<&[f32]> = samples.iter().map(|[mean, _]| *mean).collect();
        if self.is_affine(&means)? {
            let (kernel, bias) = self.kernel()?;
            let found = Classifier {
                norm: None,
                kernel,
                bias,
            };
            return Ok(found.agrees(samples).map(|()| found));
        }
        // Then a normalisation is the first that comes, and the rest is affine in its result.
        for between in self.tail.between.clone() {
            let model = self.tail.up_to(&between);
            let file = directory.write_scratch("evidence-part.onnx", &model.encode_to_vec())?;
            // What is no tensor of floats is none of the states.
            let Ok(session) = BareSession::open(runtime, &file) else {
                continue;
            };
            let mut part = Self {
                tail: Tail {
                    model,
                    input: self.tail.input.clone(),
                    shape: self.tail.shape.clone(),
                    half: self.tail.half,
                    between: Vec::new(),
                },
                session,
            };
            let Ok(Some((norm, shape))) = part.norm(&means) else {
                continue;
            };
            let Some(after) = self.tail.after(&between, &shape) else {
                continue;
            };
            let mut after = after.open(runtime, directory)?;
            let states: Vec<Vec<f32>> = means.iter().map(|mean| norm.of(mean)).collect();
            let states: Vec<&[f32]> = states.iter().map(Vec::as_slice).collect();
            if after.is_affine(&states)? {
                let (kernel, bias) = after.kernel()?;
                let found = Classifier {
                    norm: Some(norm),
                    kernel,
                    bias,
                };
                return Ok(found.agrees(samples).map(|()| found));
            }
        }
        Ok(Err(
            "what comes after the mean over positions is neither a linear classifier nor a \
             normalisation and a linear classifier, so a logit is no sum over positions"
                .to_owned(),
        ))
    }

    fn result(&mut self, x: &[f32]) -> Result<Values, EngineError> {
        let outputs = self
            .session
            .run(&[(&self.tail.input, &self.tail.shape, x)])?;
        let none = Values {
            shape: Vec::new(),
            values: Vec::new(),
        };
        Ok(outputs.into_values().next().unwrap_or(none))
    }

    fn run(&mut self, x: &[f32]) -> Result<Vec<f32>, EngineError> {
        Ok(self.result(x)?.values)
    }

    /// Whether f(a·x + b·y) − f(0) = a·(f(x) − f(0)) + b·(f(y) − f(0)) for vectors of every sign and
    /// length.
    fn is_affine(&mut self, states: &[&[f32]]) -> Result<bool, EngineError> {
        let width: usize = self.tail.shape.iter().product();
        let zero = self.run(&vec![0.0; width])?;
        let mut vectors: Vec<Vec<f32>> = states.iter().map(|state| state.to_vec()).collect();
        vectors.push(
            (0..width)
                .map(|at| ((at * 7919 % 23) as f32 - 11.0) / 5.0)
                .collect(),
        );
        for pair in vectors.windows(2) {
            for (a, b) in [(1.0, -2.5), (-0.5, 3.0)] {
                let both: Vec<f32> = pair[0]
                    .iter()
                    .zip(&pair[1])
                    .map(|(x, y)| a * x + b * y)
                    .collect();
                let [x, y, both] = [self.run(&pair[0])?, self.run(&pair[1])?, self.run(&both)?];
                let size = both
                    .iter()
                    .chain(&x)
                    .chain(&y)
                    .fold(1.0_f32, |size, v| size.max(v.abs()));
                let differs = |at: usize| {
                    let expected = zero[at] + a * (x[at] - zero[at]) + b * (y[at] - zero[at]);
                    (both[at] - expected).abs() > TOLERANCE * size
                };
                if (0..both.len()).any(differs) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Kernel and bias of what is affine: f(0), and f of every unit vector.
    fn kernel(&mut self) -> Result<(Vec<f32>, Vec<f32>), EngineError> {
        let width: usize = self.tail.shape.iter().product();
        let mut vector = vec![0.0; width];
        let bias = self.run(&vector)?;
        let mut kernel = Vec::with_capacity(width * bias.len());
        for at in 0..width {
            vector[at] = 1.0;
            let row = self.run(&vector)?;
            kernel.extend(row.iter().zip(&bias).map(|(value, bias)| value - bias));
            vector[at] = 0.0;
        }
        Ok((kernel, bias))
    }

    /// The normalisation that this is, if it is one, and the shape of its result.
    fn norm(&mut self, states: &[&[f32]]) -> Result<Option<(MeanNorm, Vec<usize>)>, EngineError> {
        let width: usize = self.tail.shape.iter().product();
        let mut inputs: Vec<Vec<f32>> = states.iter().map(|state| state.to_vec()).collect();
        inputs.push(
            (0..width)
                .map(|at| ((at * 7919 % 23) as f32 - 11.0) / 5.0)
                .collect(),
        );
        // Where the variance is small, what is added to it shows.
        inputs.push(inputs[0].iter().map(|x| x * 0.01).collect());
        let mut outputs = Vec::new();
        let mut shape = Vec::new();
        for input in &inputs {
            let output = self.result(input)?;
            if output.values.len() != width {
                return Ok(None);
            }
            shape = output.shape;
            outputs.push(output.values);
        }
        let fits = EPSILONS
            .into_iter()
            .filter_map(|epsilon| fitted(&inputs, &outputs, epsilon));
        let best = fits.min_by(|a, b| a.1.total_cmp(&b.1));
        Ok(best.map(|(norm, _)| (norm, shape)))
    }
}

/// γ and β of every channel from two vectors, if they fit all others; and by how much they miss.
fn fitted(inputs: &[Vec<f32>], outputs: &[Vec<f32>], epsilon: f32) -> Option<(MeanNorm, f32)> {
    let unit = MeanNorm {
        scale: vec![1.0; inputs[0].len()],
        shift: vec![0.0; inputs[0].len()],
        epsilon,
    };
    let normed: Vec<Vec<f32>> = inputs.iter().map(|input| unit.of(input)).collect();
    let mut norm = unit;
    for channel in 0..inputs[0].len() {
        // The two that lie furthest apart there.
        let values = normed.iter().map(|vector| vector[channel]);
        let order = |a: &(usize, f32), b: &(usize, f32)| a.1.total_cmp(&b.1);
        let (low, least) = values.clone().enumerate().min_by(order)?;
        let (high, most) = values.enumerate().max_by(order)?;
        if most - least < 1e-6 {
            return None;
        }
        let scale = (outputs[high][channel] - outputs[low][channel]) / (most - least);
        norm.scale[channel] = scale;
        norm.shift[channel] = outputs[low][channel] - scale * least;
    }
    let mut largest = 0.0_f32;
    for (input, output) in inputs.iter().zip(outputs) {
        let size = output.iter().fold(1e-3_f32, |size, v| size.max(v.abs()));
        let found = norm.of(input);
        for (found, expected) in found.iter().zip(output) {
            largest = largest.max((found - expected).abs() / size);
        }
    }
    (largest < TOLERANCE).then_some((norm, largest))
}

/// A normalisation over the channels, in float64.
trait Normalise {
    fn of(&self, state: &[f32]) -> Vec<f32>;
}

impl Normalise for MeanNorm {
    fn of(&self, state: &[f32]) -> Vec<f32> {
        let count = state.len() as f64;
        let mean = state.iter().copied().map(f64::from).sum::<f64>() / count;
        let variance = state
            .iter()
            .map(|&x| (f64::from(x) - mean).powi(2))
            .sum::<f64>()
            / count;
        let deviation = (variance + f64::from(self.epsilon)).sqrt();
        let weights = self.scale.iter().zip(&self.shift);
        let pairs = state.iter().zip(weights);
        pairs
            .map(|(&x, (&scale, &shift))| {
                ((f64::from(x) - mean) / deviation * f64::from(scale) + f64::from(shift)) as f32
            })
            .collect()
    }
}

impl Classifier {
    /// Compares what it makes of means with the logits that were there.
    fn agrees(&self, samples: &[[&[f32]; 2]]) -> Result<(), String> {
        let classes = self.bias.len();
        for [mean, logits] in samples {
            let state = match &self.norm {
                Some(norm) => norm.of(mean),
                None => mean.to_vec(),
            };
            let size = logits.iter().fold(1.0_f32, |size, v| size.max(v.abs()));
            for (class, &logit) in logits.iter().enumerate() {
                let terms = state
                    .iter()
                    .enumerate()
                    .map(|(at, &x)| f64::from(x) * f64::from(self.kernel[at * classes + class]));
                let found = terms.sum::<f64>() + f64::from(self.bias[class]);
                if (found - f64::from(logit)).abs() > f64::from(TOLERANCE * size) {
                    return Err(format!(
                        "the classifier that was measured gives {found} for class {class}, and the \
                         graph {logit}"
                    ));
                }
            }
        }
        Ok(())
    }
}
