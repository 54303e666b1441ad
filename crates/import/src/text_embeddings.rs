//! A file of text embeddings, which make a classifier of a network that compares images with texts
//! (Radford et al. 2021; Zhai et al. 2023).
//!
//! With an image's embedding v, texts' embeddings t and the network's scale s and bias b:
//!
//! ```text
//! logit_c = exp(s) · ⟨v, t_c⟩ / (‖v‖ ‖t_c‖) + b
//! ```
//!
//! The file is a safetensors file: `embeddings` `[labels, width]`, and in its metadata `labels`, a
//! JSON list of as many names. `logit_scale` (s, a logarithm) and `logit_bias` are the network's
//! parameters; where they are left out, those of the checkpoint are taken.

use std::path::{Path, PathBuf};

use super::{
    ImportError,
    tensor_file::{SafetensorsFile, TensorFile},
};

const EMBEDDINGS: &str = "embeddings";
const LABELS: &str = "labels";
/// Names of the parameters, in the file and in checkpoints.
pub(super) const LOGIT_SCALE: &str = "logit_scale";
pub(super) const LOGIT_BIAS: &str = "logit_bias";

/// e^20 times a cosine is no logit that anyone trains; 100 is CLIP's scale itself.
const LARGEST_LOGARITHM: f64 = 20.0;

/// What such a file holds.
#[derive(Clone, Debug)]
pub(super) struct TextEmbeddings {
    pub(super) path: PathBuf,
    pub(super) labels: Vec<String>,
    /// Of each embedding.
    pub(super) width: usize,
    /// Of length 1, `[labels, width]`.
    directions: Vec<f64>,
    scale: Option<f64>,
    bias: Option<f64>,
}

impl TextEmbeddings {
    /// Reads the file.
    ///
    /// # Errors
    /// If it is none of safetensors, or does not hold what is expected.
    pub(super) fn read(path: &Path) -> Result<Self, ImportError> {
        let mut file = SafetensorsFile::open(path)?;
        let labels = labels(&file)?;
        let (count, width) = match file.shape(EMBEDDINGS) {
            Some(&[count, width]) if count > 0 && width > 0 => (count, width),
            Some(shape) => {
                let detail = format!("has the shape {shape:?}; [labels, width] is expected");
                return Err(ImportError::tensor(path, EMBEDDINGS, detail));
            }
            None => {
                let detail = "is missing: a row for each label is expected";
                return Err(ImportError::tensor(path, EMBEDDINGS, detail));
            }
        };
        if labels.len() != count {
            let detail = format!(
                "has {count} rows, but the metadata has {} labels",
                labels.len()
            );
            return Err(ImportError::tensor(path, EMBEDDINGS, detail));
        }
        let values = file.read(EMBEDDINGS)?.to_f32();
        let mut directions = Vec::with_capacity(values.len());
        for (row, label) in values.chunks_exact(width).zip(&labels) {
            let row = row.iter().copied().map(f64::from);
            let length = row.clone().map(|value| value * value).sum::<f64>().sqrt();
            if !(length.is_finite() && length > 0.0) {
                let detail =
                    format!("has no direction for the label `{label}`: its length is {length}");
                return Err(ImportError::tensor(path, EMBEDDINGS, detail));
            }
            directions.extend(row.map(|value| value / length));
        }
        let scale = scalar(&mut file, LOGIT_SCALE)?;
        if let Some(scale) = scale {
            check_scale(path, scale)?;
        }
        Ok(Self {
            path: path.to_owned(),
            labels,
            width,
            directions,
            scale,
            bias: scalar(&mut file, LOGIT_BIAS)?,
        })
    }

    /// The parameters that the checkpoint has to tell, since this file does not.
    pub(super) fn asked_of_checkpoint(&self, has_bias: bool) -> Vec<String> {
        let scale = self.scale.is_none().then(|| LOGIT_SCALE.to_owned());
        let bias = (has_bias && self.bias.is_none()).then(|| LOGIT_BIAS.to_owned());
        scale.into_iter().chain(bias).collect()
    }

    /// Kernel `[inputs, labels]` of the classifier that reads a state of which `projection`
    /// `[width, inputs]` makes an embedding; without one, the state is the embedding.
    ///
    /// # Errors
    /// If the scale is in neither file.
    pub(super) fn kernel(
        &self,
        checkpoint: &mut dyn TensorFile,
        projection: Option<&[f32]>,
    ) -> Result<Vec<f32>, ImportError> {
        let scale = match self.scale {
            Some(scale) => scale,
            None => {
                let scale = required(checkpoint, LOGIT_SCALE)?;
                check_scale(checkpoint.path(), scale)?;
                scale
            }
        };
        let factor = scale.exp();
        let inputs = projection.map_or(self.width, |values| values.len() / self.width);
        let labels = self.labels.len();
        let mut kernel = vec![0.0; inputs * labels];
        let mut column = vec![0.0; inputs];
        for (label, direction) in self.directions.chunks_exact(self.width).enumerate() {
            match projection {
                None => column.copy_from_slice(direction),
                Some(projection) => {
                    column.fill(0.0);
                    for (row, part) in projection.chunks_exact(inputs).zip(direction) {
                        for (sum, weight) in column.iter_mut().zip(row) {
                            *sum += part * f64::from(*weight);
                        }
                    }
                }
            }
            for (input, value) in column.iter().enumerate() {
                kernel[input * labels + label] = (factor * value) as f32;
            }
        }
        Ok(kernel)
    }

    /// The bias of every label.
    ///
    /// # Errors
    /// If there is one, and it is in neither file.
    pub(super) fn bias(
        &self,
        checkpoint: &mut dyn TensorFile,
        has_bias: bool,
    ) -> Result<f32, ImportError> {
        Ok(match (self.bias, has_bias) {
            (Some(bias), _) => bias as f32,
            (None, true) => required(checkpoint, LOGIT_BIAS)? as f32,
            (None, false) => 0.0,
        })
    }
}

fn labels(file: &SafetensorsFile) -> Result<Vec<String>, ImportError> {
    let Some(text) = file.note(LABELS) else {
        let detail = "has no `labels` in its metadata; a JSON list with the name of every row is \
                      expected, as models/text_embeddings.py writes it";
        return Err(ImportError::malformed(file.path(), detail));
    };
    serde_json::from_str(text).map_err(|error| {
        let detail =
            format!("has `labels` in its metadata that are no JSON list of names: {error}");
        ImportError::malformed(file.path(), detail)
    })
}

fn check_scale(path: &Path, scale: f64) -> Result<(), ImportError> {
    if scale.is_finite() && scale <= LARGEST_LOGARITHM {
        return Ok(());
    }
    let detail = format!(
        "is {scale}; the natural logarithm of the scale is expected, as the network's parameter is \
         (ln 100 = 4.605)"
    );
    Err(ImportError::tensor(path, LOGIT_SCALE, detail))
}

fn required(file: &mut dyn TensorFile, name: &str) -> Result<f64, ImportError> {
    scalar(file, name)?.ok_or_else(|| {
        let detail = "is missing, and is not in the file of text embeddings either; put it there";
        ImportError::tensor(file.path(), name, detail)
    })
}

/// A tensor of one value, whatever its axes.
fn scalar(file: &mut dyn TensorFile, name: &str) -> Result<Option<f64>, ImportError> {
    let Some(shape) = file.shape(name).map(<[usize]>::to_vec) else {
        return Ok(None);
    };
    match file.read(name)?.to_f32()[..] {
        [value] => Ok(Some(f64::from(value))),
        _ => {
            let detail = format!("has the shape {shape:?}; one value is expected");
            Err(ImportError::tensor(file.path(), name, detail))
        }
    }
}

#[cfg(test)]
mod tests;
