//! Compares the outputs before and after the import.

use std::path::Path;

use patchlight_engine::{BareSession, Runtime, Values};
use patchlight_model::manifest::HeadFusion;
use patchlight_onnx::{
    proto::{ModelProto, dimension::Value as Length, type_proto::Value as Type},
    vit::{
        ATTRIBUTION, ATTRIBUTION_CLASS, ATTRIBUTION_REST, LOGITS, PIXEL_VALUES, Pooling, ROLLOUT,
        ROLLOUT_BY_START, VitSpec,
    },
};

use super::{BatchAxis, Signature};
use crate::ImportError;

/// How many images the largest test batch has.
const IMAGES: usize = 3;

/// A graph's outputs for the test images.
pub(super) struct GraphOutputs {
    /// For the first alone, then for all in one batch (or one by one, where the export allows no
    /// more): `[images, classes]`.
    logits: [Values; 2],
    /// `[1, patches]` and `[1, layers, tokens]` of the first alone, then of all.
    rollout: Option<[[Values; 2]; 2]>,
    /// Patches, rest and classes of the evidence of all, if it is made.
    evidence: Option<[Values; 3]>,
}

/// Numbers as wide spread as normalised pixels, the same every time: `[3, height, width]` each.
pub(super) fn images(sides: [usize; 2]) -> [Vec<f32>; IMAGES] {
    let count = 3 * sides[0] * sides[1];
    // SplitMix64 (Steele, Lea & Flood 2014).
    let mut state = 0_u64;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1_u64 << 22) as f32 - 2.0
    };
    std::array::from_fn(|_| (0..count).map(|_| next()).collect())
}

/// The number of classes as the graph declares it; 0 if it does not.
pub(super) fn classes(model: &ModelProto, signature: &Signature) -> usize {
    let outputs = model.graph.iter().flat_map(|graph| &graph.output);
    let mut outputs = outputs.filter(|output| output.name() == signature.logits);
    let kind = outputs
        .next()
        .and_then(|output| output.r#type.as_ref()?.value.as_ref());
    let Some(Type::TensorType(tensor)) = kind else {
        return 0;
    };
    let last = tensor
        .shape
        .as_ref()
        .and_then(|shape| shape.dim.last()?.value.as_ref());
    match last {
        Some(Length::DimValue(classes)) => usize::try_from(*classes).unwrap_or_default(),
        _ => 0,
    }
}

impl GraphOutputs {
    /// Of the graph as it was exported.
    pub(super) fn of_export(
        runtime: &Runtime,
        path: &Path,
        signature: &Signature,
        sides: [usize; 2],
    ) -> Result<Self, ImportError> {
        let mut session = BareSession::open(runtime, path)?;
        let images = images(sides);
        let mut run = |images: &[Vec<f32>]| -> Result<Values, ImportError> {
            let shape = [images.len(), 3, sides[0], sides[1]];
            let input = images.concat();
            let mut outputs = session.run(&[(&signature.input, &shape, &input)])?;
            Ok(take(&mut outputs, &signature.logits))
        };
        let (first, all) = match signature.batch {
            BatchAxis::Dynamic => (run(&images[..1])?, run(&images)?),
            BatchAxis::Fixed(fixed) => {
                // As many copies as the graph takes; the first row is the image's answer.
                let mut answers = Vec::new();
                for image in &images {
                    let mut answer = run(&vec![image.clone(); fixed])?;
                    answer.values.truncate(answer.values.len() / fixed);
                    if let Some(count) = answer.shape.first_mut() {
                        *count /= fixed;
                    }
                    answers.push(answer);
                }
                let mut all = answers[0].clone();
                all.values = answers
                    .iter()
                    .flat_map(|answer| answer.values.clone())
                    .collect();
                if let Some(count) = all.shape.first_mut() {
                    *count *= IMAGES;
                }
                (answers.swap_remove(0), all)
            }
        };
        Ok(Self {
            logits: [first, all],
            rollout: None,
            evidence: None,
        })
    }

    /// Of the graph that was made of it.
    pub(super) fn of_import(
        runtime: &Runtime,
        path: &Path,
        sides: [usize; 2],
    ) -> Result<Self, ImportError> {
        let mut session = BareSession::open(runtime, path)?;
        let images = images(sides);
        let mut run = |images: &[Vec<f32>]| {
            let shape = [images.len(), 3, sides[0], sides[1]];
            let input = images.concat();
            session.run(&[(PIXEL_VALUES, &shape, &input)])
        };
        let (mut first, mut all) = (run(&images[..1])?, run(&images)?);
        let logits = [take(&mut first, LOGITS), take(&mut all, LOGITS)];
        let rollout = first.contains_key(ROLLOUT).then(|| {
            [&mut first, &mut all].map(|run| [take(run, ROLLOUT), take(run, ROLLOUT_BY_START)])
        });
        let evidence = all.contains_key(ATTRIBUTION).then(|| {
            [ATTRIBUTION, ATTRIBUTION_REST, ATTRIBUTION_CLASS].map(|name| take(&mut all, name))
        });
        Ok(Self {
            logits,
            rollout,
            evidence,
        })
    }

    /// Whether the evidence of every image adds up to its logits, those of the best classes and
    /// their mean.
    ///
    /// # Errors
    /// Which does not.
    pub(super) fn evidence_adds_up(&self, half: bool) -> Result<(), String> {
        let Some([patches, rest, classes]) = &self.evidence else {
            return Ok(());
        };
        let tolerance = if half { 2e-2 } else { 1e-3 };
        let logits = &self.logits[1];
        let per_image = |values: &Values| values.values.len() / IMAGES;
        let [of_patches, of_rest, of_classes, of_logits] =
            [patches, rest, classes, logits].map(per_image);
        for image in 0..IMAGES {
            let logits = &logits.values[image * of_logits..][..of_logits];
            let mean = logits.iter().copied().map(f64::from).sum::<f64>() / of_logits as f64;
            let best = classes.values[image * of_classes..][..of_classes].iter();
            let targets = best
                .map(|&class| f64::from(logits[class as usize]))
                .chain([mean]);
            for (row, target) in targets.enumerate() {
                let each = of_patches / of_rest.max(1);
                let cells = &patches.values[image * of_patches + row * each..][..each];
                let sum = cells.iter().copied().map(f64::from).sum::<f64>();
                let found = sum + f64::from(rest.values[image * of_rest + row]);
                if (found - target).abs() > tolerance * target.abs().max(1.0) {
                    return Err(format!(
                        "the evidence that was cut out adds up to {found}, but the logit is {target}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// How many classes there are.
    pub(super) fn classes(&self, path: &Path) -> Result<usize, ImportError> {
        match (&self.logits[0].shape[..], &self.logits[1].shape[..]) {
            (&[1, classes], &[IMAGES, same]) if classes == same && classes > 0 => Ok(classes),
            (one, several) => Err(ImportError::malformed(
                path,
                format!(
                    "gives logits of shape {one:?} for one picture and {several:?} for {IMAGES}; \
                     [pictures, classes] is expected"
                ),
            )),
        }
    }

    /// Compares logits, alone and in a batch.
    pub(super) fn agree_with(
        &self,
        after: &Self,
        path: &Path,
        half: bool,
    ) -> Result<(), ImportError> {
        let tolerance = if half { 1e-2 } else { 1e-4 };
        let largest = self.logits[1]
            .values
            .iter()
            .fold(0.0_f32, |a, b| a.max(b.abs()));
        for (before, after) in self.logits.iter().zip(&after.logits) {
            let differences = before
                .values
                .iter()
                .zip(&after.values)
                .map(|(a, b)| (a - b).abs());
            let worst = differences.fold(
                0.0,
                |worst: f32, d| if d > worst || d.is_nan() { d } else { worst },
            );
            let agree = before.shape == after.shape && worst <= tolerance * (1.0 + largest);
            if !agree {
                return Err(ImportError::malformed(
                    path,
                    format!(
                        "answers differently before and after the import for {} pictures (by {worst} in \
                         logits of up to {largest}); nothing is written. Please report it, with the file",
                        before.shape.first().copied().unwrap_or_default()
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// Checks the rollout of every start: adds up to 1, is the product of the matrices that the probe
/// gave, is the same in a batch, and its first row's patches are the map.
pub(super) fn rollout(
    outputs: &GraphOutputs,
    attention: &[Vec<f32>],
    spec: &VitSpec,
    half: bool,
) -> Result<(), String> {
    let Some([[first, by_start], [_, of_all]]) = &outputs.rollout else {
        return Err("the graph gives no rollout".to_owned());
    };
    let tolerance = if half { 2e-3 } else { 1e-4 };
    let tokens = spec.tokens();
    let expected = product(attention, spec);
    if by_start.values.len() != expected.len() {
        return Err(format!("the rollout has the shape {:?}", by_start.shape));
    }
    let close = |a: f32, b: f64| (f64::from(a) - b).abs() <= tolerance;
    for (row, expected) in by_start.values.chunks(tokens).zip(expected.chunks(tokens)) {
        let sum: f64 = row.iter().copied().map(f64::from).sum();
        if !close(1.0, sum) {
            return Err(format!("the rollout adds up to {sum}, not to 1"));
        }
        if !row
            .iter()
            .zip(expected)
            .all(|(&found, &expected)| close(found, expected))
        {
            return Err("the rollout is not the product of the attention matrices".to_owned());
        }
    }
    let pairs = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(&a, &b)| close(a, f64::from(b)));
    let of_first = &of_all.values[..by_start.values.len().min(of_all.values.len())];
    let patches = &by_start.values[spec.prefix..tokens];
    if !pairs(of_first, &by_start.values) || !pairs(patches, &first.values) {
        return Err("the rollout of one picture differs from its rollout in a batch".to_owned());
    }
    Ok(())
}

/// Rollouts from every start, `layers × tokens`, by the definition: Â is A + I with its rows
/// divided by their sums, A the heads' matrices fused; row `k` is the start vector times Â_L ⋯ Â_k.
fn product(attention: &[Vec<f32>], spec: &VitSpec) -> Vec<f64> {
    let tokens = spec.tokens();
    let mut row = vec![0.0; tokens];
    match spec.pooling {
        Pooling::ClassToken => row[0] = 1.0,
        Pooling::ClassAndDistillation => row[..2].fill(0.5),
        // A graph's learned query is not told from a mean: where it pools, no map is made.
        Pooling::PatchMean(_) | Pooling::Attention => {
            row[spec.prefix..].fill(1.0 / spec.patches() as f64);
        }
        Pooling::ClassAndMean => {
            row[spec.prefix..].fill(0.5 / spec.patches() as f64);
            row[0] = 0.5;
        }
    }
    let mut rows = Vec::with_capacity(attention.len());
    for heads in attention.iter().rev() {
        let mut next = vec![0.0; tokens];
        for (query, &weight) in row.iter().enumerate() {
            let of_head =
                |head: usize, key: usize| f64::from(heads[(head * tokens + query) * tokens + key]);
            let fused = |key: usize| {
                let values = (0..spec.heads).map(|head| of_head(head, key));
                match spec.head_fusion {
                    HeadFusion::Mean => values.sum::<f64>() / spec.heads as f64,
                    HeadFusion::Max => values.fold(f64::NEG_INFINITY, f64::max),
                    HeadFusion::Min => values.fold(f64::INFINITY, f64::min),
                }
            };
            let with_identity: Vec<f64> = (0..tokens)
                .map(|key| fused(key) + f64::from(u8::from(key == query)))
                .collect();
            let sum: f64 = with_identity.iter().sum();
            for (next, value) in next.iter_mut().zip(with_identity) {
                *next += weight * value / sum;
            }
        }
        row = next;
        rows.push(row.clone());
    }
    rows.reverse();
    rows.concat()
}

fn take(outputs: &mut std::collections::BTreeMap<String, Values>, name: &str) -> Values {
    outputs.remove(name).unwrap_or_else(|| Values {
        shape: Vec::new(),
        values: Vec::new(),
    })
}
