//! How TensorRT builds its engines, and where it keeps them.
//!
//! The provider builds an engine for the shapes that it meets, and again whenever a batch is outside
//! of them: minutes, while requests wait. A profile from one image to the largest batch makes it one
//! build. Engines and the times of kernels are kept in a folder of the model, the card and the
//! versions that they are for; options by the names of ONNX Runtime's "TensorRT Execution Provider".

#[cfg(feature = "tensorrt")]
use std::fs;
#[cfg(any(feature = "tensorrt", test))]
use std::path::Path;
use std::path::PathBuf;

#[cfg(feature = "tensorrt")]
use ort::session::builder::SessionBuilder;
#[cfg(feature = "tensorrt")]
use patchlight_kernels::cuda::card_name;
#[cfg(feature = "tensorrt")]
use patchlight_model::manifest::{Manifest, Precision};

#[cfg(feature = "tensorrt")]
use super::{Device, EngineError, device};

/// What a session on TensorRT is told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TensorRtOptions {
    /// The largest batch that engines are built for.
    pub max_batch: usize,
    /// Where engines are kept, if anywhere: each model, card and version has a folder in it.
    pub cache: Option<PathBuf>,
    /// What names the model: its digest.
    pub model: String,
}

impl Default for TensorRtOptions {
    /// Engines for one image, which are not kept.
    fn default() -> Self {
        Self {
            max_batch: 1,
            cache: None,
            model: String::new(),
        }
    }
}

/// Shapes of the input, as the provider's options have them.
#[cfg(any(feature = "tensorrt", test))]
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Profile {
    /// The smallest batch.
    pub(super) min: String,
    /// The batch that kernels are chosen for: the largest, which is what decides throughput.
    pub(super) opt: String,
    /// The largest.
    pub(super) max: String,
}

/// The profile of an input of images.
#[cfg(any(feature = "tensorrt", test))]
pub(super) fn profile(input: &str, image: (usize, usize), max_batch: usize) -> Profile {
    let (height, width) = image;
    let shape = |batch: usize| format!("{input}:{batch}x3x{height}x{width}");
    Profile {
        min: shape(1),
        opt: shape(max_batch.max(1)),
        max: shape(max_batch.max(1)),
    }
}

/// What an engine is built on and by.
#[cfg(any(feature = "tensorrt", test))]
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Builder {
    /// The card's name, such as `NVIDIA H100 80GB HBM3`.
    pub(super) card: String,
    /// Its compute capability.
    pub(super) capability: (i32, i32),
    /// Version of ONNX Runtime, whose provider names TensorRT's own version in the files' names.
    pub(super) runtime: String,
}

/// The folder of a model's engines: another model, card, version or batch never finds them.
#[cfg(any(feature = "tensorrt", test))]
pub(super) fn engine_folder(cache: &Path, options: &TensorRtOptions, builder: &Builder) -> PathBuf {
    let (major, minor) = builder.capability;
    let model = options.model.get(..16).unwrap_or(&options.model);
    let name = format!(
        "{model}-{}-sm{major}{minor}-onnxruntime-{}-batch-{}",
        builder.card, builder.runtime, options.max_batch
    );
    let safe = |letter: char| match letter.is_ascii_alphanumeric() || ".-".contains(letter) {
        true => letter.to_ascii_lowercase(),
        false => '-',
    };
    cache
        .join("tensorrt")
        .join(name.chars().map(safe).collect::<String>())
}

/// Adds TensorRT to a session, and CUDA for what it does not take.
#[cfg(feature = "tensorrt")]
pub(super) fn add_to(
    builder: SessionBuilder,
    card: u32,
    options: &TensorRtOptions,
    manifest: &Manifest,
    runtime: &str,
) -> Result<SessionBuilder, EngineError> {
    let fail = |error: String| EngineError::Device {
        device: Device::TensorRt(card),
        error,
    };
    let graph = &manifest.graph;
    let image = manifest.input_size().unwrap_or_default();
    let Profile { min, opt, max } = profile(&graph.input, image, options.max_batch);
    let mut provider = ort::ep::TensorRT::default()
        .with_device_id(card as i32)
        .with_fp16(graph.precision == Precision::Fp16)
        // Sums of squares over a thousand values leave float16's range.
        .with_layer_norm_fp32_fallback(true)
        .with_profile_min_shapes(min)
        .with_profile_opt_shapes(opt)
        .with_profile_max_shapes(max);
    if let Some(cache) = &options.cache {
        let (card, capability) =
            card_name(card as usize).map_err(|error| fail(error.to_string()))?;
        let built = Builder {
            card,
            capability,
            runtime: runtime.to_owned(),
        };
        let folder = engine_folder(cache, options, &built);
        let shown = folder.display().to_string();
        match fs::create_dir_all(&folder) {
            Ok(()) => {
                tracing::info!(folder = shown, "TensorRT keeps its engines");
                provider = provider
                    .with_engine_cache(true)
                    .with_engine_cache_path(&shown)
                    .with_timing_cache(true)
                    .with_timing_cache_path(&shown);
            }
            Err(error) => tracing::warn!(
                folder = shown,
                %error,
                "TensorRT's engines cannot be kept: they are built again at every start"
            ),
        }
    }
    builder
        .with_execution_providers([
            provider.build().error_on_failure(),
            device::cuda(card).build().error_on_failure(),
        ])
        .map_err(|error| fail(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> Builder {
        Builder {
            card: "NVIDIA H100 80GB HBM3".to_owned(),
            capability: (9, 0),
            runtime: "1.31.1".to_owned(),
        }
    }

    fn options(model: &str) -> TensorRtOptions {
        TensorRtOptions {
            max_batch: 64,
            cache: None,
            model: model.to_owned(),
        }
    }

    #[test]
    fn a_profile_reaches_from_one_image_to_the_largest_batch() {
        let profile = profile("pixel_values", (224, 160), 64);
        assert_eq!(profile.min, "pixel_values:1x3x224x160");
        assert_eq!(profile.opt, "pixel_values:64x3x224x160");
        assert_eq!(profile.max, profile.opt);
    }

    #[test]
    fn a_folder_is_a_plain_name_below_the_cache() {
        let folder = engine_folder(
            Path::new("/cache"),
            &options("0123456789abcdef01"),
            &builder(),
        );
        let name = "0123456789abcdef-nvidia-h100-80gb-hbm3-sm90-onnxruntime-1.31.1-batch-64";
        assert_eq!(folder, Path::new("/cache/tensorrt").join(name));
    }

    #[test]
    fn another_model_card_version_or_batch_has_another_folder() {
        let folder = |options: &TensorRtOptions, builder: &Builder| {
            engine_folder(Path::new("c"), options, builder)
        };
        let this = folder(&options("a"), &builder());
        let others = [
            folder(&options("b"), &builder()),
            folder(
                &TensorRtOptions {
                    max_batch: 32,
                    ..options("a")
                },
                &builder(),
            ),
            folder(
                &options("a"),
                &Builder {
                    card: "NVIDIA H200".to_owned(),
                    ..builder()
                },
            ),
            folder(
                &options("a"),
                &Builder {
                    capability: (10, 0),
                    ..builder()
                },
            ),
            folder(
                &options("a"),
                &Builder {
                    runtime: "1.32.0".to_owned(),
                    ..builder()
                },
            ),
        ];
        assert!(others.iter().all(|other| *other != this), "{others:?}");
    }
}
