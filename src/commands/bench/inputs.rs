//! What the engines are given: noise, or images from files as a server prepares them.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use patchlight_engine::Input;
use patchlight_imaging::{
    decode::{self, Limits},
    preprocess::{ImageTensor, Pipeline, TensorForm},
};
use patchlight_model::ModelInfo;
use patchlight_splitmix::SplitMix64;
use serde::Serialize;

use crate::{classify::preview_of, images};

/// How long decoding is timed, at least, and how often each image.
const TIMED: (Duration, usize) = (Duration::from_secs(1), 5);

/// What one image takes before the model, on one thread: medians of a mean over the images.
#[derive(Serialize)]
pub(super) struct DecodeTime {
    images: usize,
    mean_bytes: usize,
    decode_ms: f64,
    preprocess_ms: f64,
    /// The copy that is stored with a map.
    preview_ms: f64,
}

impl DecodeTime {
    /// All of it, in milliseconds.
    pub(super) fn total_ms(&self) -> f64 {
        self.decode_ms + self.preprocess_ms + self.preview_ms
    }
}

/// Noise over the whole range of images.
pub(super) fn noise(form: TensorForm, count: usize, values: usize) -> Vec<ImageTensor> {
    let mut random = SplitMix64::new(1);
    let mut image = || match form {
        TensorForm::Normalized => {
            let mut value = || (random.next_u64() >> 40) as f32 / (1 << 22) as f32 - 2.0;
            ImageTensor::Normalized((0..values).map(|_| value()).collect())
        }
        TensorForm::Pixels => {
            let mut value = || (random.next_u64() >> 56) as u8;
            ImageTensor::Pixels((0..values).map(|_| value()).collect())
        }
    };
    (0..count).map(|_| image()).collect()
}

/// A batch of the images, over and over.
pub(super) fn inputs(images: &[ImageTensor], batch: usize, maps: bool) -> Vec<Input<'_>> {
    let images = images.iter().cycle().take(batch);
    images
        .map(|tensor| Input {
            tensor: tensor.view(),
            class_attention: false,
            maps,
        })
        .collect()
}

/// The images of files and folders as the model's tensors, and what making these takes.
///
/// # Errors
/// In words: no image, or one that cannot be read.
pub(super) fn decoded(
    named: &[PathBuf],
    model: &ModelInfo,
    form: TensorForm,
) -> Result<(Vec<ImageTensor>, DecodeTime), String> {
    let pipeline = Pipeline::new(&model.manifest.preprocess).map_err(|errors| errors.join("; "))?;
    let mut files = Vec::new();
    for path in images::find(named)? {
        let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        files.push((path, bytes));
    }
    if files.is_empty() {
        return Err("there is no image in the folders that were named".to_owned());
    }
    let (mut tensors, mut rounds) = (Vec::new(), Vec::new());
    let started = Instant::now();
    while rounds.len() < TIMED.1 || started.elapsed() < TIMED.0 {
        let (mut round, first) = ([Duration::ZERO; 3], rounds.is_empty());
        for (path, bytes) in &files {
            let (tensor, times) = prepare(bytes, &pipeline, form)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            for (sum, time) in round.iter_mut().zip(times) {
                *sum += time;
            }
            if first {
                tensors.push(tensor);
            }
        }
        rounds.push(round);
    }
    let median_ms = |part: usize| {
        let mut sums: Vec<Duration> = rounds.iter().map(|round| round[part]).collect();
        sums.sort_unstable();
        sums[sums.len() / 2].as_secs_f64() * 1e3 / files.len() as f64
    };
    let time = DecodeTime {
        images: files.len(),
        mean_bytes: files.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() / files.len(),
        decode_ms: median_ms(0),
        preprocess_ms: median_ms(1),
        preview_ms: median_ms(2),
    };
    Ok((tensors, time))
}

/// One image through the stages of a server before its model, and what each took: decoding,
/// preprocessing, the preview.
fn prepare(
    bytes: &[u8],
    pipeline: &Pipeline,
    form: TensorForm,
) -> Result<(ImageTensor, [Duration; 3]), String> {
    let started = Instant::now();
    let header = decode::peek(bytes, &Limits::default()).map_err(|error| error.to_string())?;
    let (width, height) = pipeline.resized(header.width, header.height);
    let reduction = header.reduction_for(width, height);
    let decoded =
        decode::decode_reduced(bytes, &header, reduction).map_err(|error| error.to_string())?;
    let decoding = started.elapsed();
    let started = Instant::now();
    let size = (header.width, header.height);
    let prepared = pipeline.run_reduced(&decoded.rgb, size, decoded.reduction, form);
    let preprocessing = started.elapsed();
    let started = Instant::now();
    preview_of(&decoded, &header, bytes).map_err(|error| error.to_string())?;
    let times = [decoding, preprocessing, started.elapsed()];
    Ok((prepared.tensor, times))
}

#[cfg(test)]
mod tests {
    use patchlight_imaging::preprocess::ImageTensorRef;

    use super::*;
    use crate::config::demo;

    fn demo_model() -> ModelInfo {
        ModelInfo::open(&demo::find().unwrap()).unwrap()
    }

    #[test]
    fn files_are_prepared_as_the_server_does_and_named_when_they_cannot_be() {
        let model = demo_model();
        let sample = PathBuf::from("models/samples/penguin.jpg");
        let (tensors, time) = decoded(&[sample], &model, TensorForm::Normalized).unwrap();
        assert_eq!((tensors.len(), time.images), (1, 1));
        assert_eq!(time.mean_bytes, 30_240);
        let ImageTensorRef::Normalized(values) = tensors[0].view() else {
            panic!("bytes were not asked for");
        };
        assert_eq!(values.len(), 3 * 224 * 224);

        let not_an_image = PathBuf::from("models/samples/samples.json");
        let error = decoded(&[not_an_image], &model, TensorForm::Normalized);
        let error = error.err().unwrap();
        assert!(error.contains("samples.json"), "{error}");
    }

    #[test]
    fn a_batch_larger_than_the_images_repeats_them() {
        let images = noise(TensorForm::Pixels, 2, 4);
        let batch = inputs(&images, 5, true);
        assert_eq!(batch.len(), 5);
    }
}
