//! Images as bytes: the fused graph normalises as the preprocessing does, and answers alike in
//! every mixture.

use std::{fs, path::PathBuf};

use ort::value::TensorRef;
use patchlight_engine::{
    Device, Engine, Input, Kernels, OrtEngine, Output, SessionOptions, TensorRtOptions,
};
use patchlight_imaging::{
    decode::Rgb8,
    preprocess::{
        Backend, Filter, ImageTensor, Normalize, Pipeline, Preprocess, Resize, TensorForm,
    },
};
use patchlight_model::manifest::{HeadFusion, Manifest};
use patchlight_onnx::{
    proto::{ModelProto, ValueInfoProto},
    vit::fused::{NORMALIZE, fuse},
};
use prost::Message;

use crate::{
    fused::{half_precision, normalization, shape},
    support::{GraphRunner, runtime},
};

/// Every byte in every channel, in an image of 32×32 pixels.
fn ramp() -> Vec<u8> {
    let pixels = 0..32 * 32_u32;
    let channels = |pixel: u32| [pixel, 85 + 3 * pixel, 170 + 7 * pixel];
    let bytes = pixels.flat_map(channels).map(|value| (value % 256) as u8);
    bytes.collect()
}

/// The function as a graph of its own, with the result that is not yet narrowed to float16.
fn body_of_normalize(mut model: ModelProto) -> ModelProto {
    let function = model
        .functions
        .iter()
        .find(|function| function.name() == NORMALIZE)
        .unwrap()
        .clone();
    let graph = model.graph.as_mut().unwrap();
    let call = graph.node.iter().find(|node| node.op_type() == NORMALIZE);
    let arguments = call.unwrap().input.clone();
    let parameter = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        Some(function.input[at].clone())
    };
    graph.input.retain_mut(|input| {
        input.name = parameter(input.name());
        input.name.is_some()
    });
    graph.initializer.retain_mut(|constant| {
        constant.name = parameter(constant.name());
        constant.name.is_some()
    });
    graph.node.clone_from(&function.node);
    graph.output = vec![ValueInfoProto {
        name: Some("normalized".to_owned()),
        ..ValueInfoProto::default()
    }];
    model.functions.clear();
    model
}

#[test]
fn the_graph_normalises_as_the_table_does() {
    let (_folder, portable, manifest) = half_precision("plain", HeadFusion::Mean);
    let imagenet = Normalize {
        scale: 1.0 / 255.0,
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
        bgr: false,
    };
    let to_both_sides = Normalize {
        scale: 1.0 / 127.5,
        mean: [1.0; 3],
        std: [1.0; 3],
        bgr: false,
    };
    for normalize in [imagenet, to_both_sides] {
        let fused = fuse(
            portable.clone(),
            &shape(&manifest),
            &normalization(&normalize),
        )
        .unwrap();
        let model = body_of_normalize(fused.model);
        let bytes = ramp();
        let mut runner = GraphRunner::from_model(&model);
        let found = runner.run_with(ort::inputs![
            "bytes" => TensorRef::from_array_view(([1_usize, 32, 32, 3], &*bytes)).unwrap(),
            "values" => TensorRef::from_array_view(([0_usize, 3, 32, 32], &[0.0_f32; 0][..])).unwrap(),
        ]);
        let (found_shape, found) = &found[0];
        assert_eq!(*found_shape, [1, 32, 32, 3]);

        let preprocess = Preprocess {
            resize: Resize::Squash {
                height: 32,
                width: 32,
            },
            filter: Filter::Bilinear,
            crop: None,
            backend: Backend::Pillow,
            normalize: normalize.clone(),
        };
        let pipeline = Pipeline::new(&preprocess).unwrap();
        let table = pipeline
            .run(&Rgb8::new(32, 32, bytes.clone()).unwrap())
            .tensor;
        for (at, (&found, &byte)) in found.iter().zip(&bytes).enumerate() {
            let (pixel, channel) = (at / 3, at % 3);
            let expected = table[channel * 32 * 32 + pixel];
            // One rounding of the scaled byte, and where it tips the result, one of that.
            let scaled = f64::from(byte) * normalize.scale / normalize.std[channel];
            let rounding = f64::from(f32::EPSILON) * (scaled.abs() + f64::from(expected.abs()));
            let difference = (f64::from(found) - f64::from(expected)).abs();
            assert!(
                difference <= rounding,
                "{byte} in channel {channel}: {found}, expected {expected}"
            );
        }
    }
}

/// The graph of an engine on the CPU: rewritten for bytes, or as it was imported.
struct Engines {
    fused: OrtEngine,
    portable: OrtEngine,
    manifest: Manifest,
}

impl Engines {
    fn load() -> Self {
        let (folder, portable, manifest) = half_precision("plain", HeadFusion::Mean);
        let normalize = &manifest.preprocess.normalize;
        let fused = fuse(portable, &shape(&manifest), &normalization(normalize))
            .unwrap()
            .model;
        // Beside the external data.
        let graph = folder.path().join("fused.onnx");
        fs::write(&graph, fused.encode_to_vec()).unwrap();
        let load = |graph: PathBuf| {
            let options = SessionOptions {
                device: Device::Cpu,
                threads: 1,
                spin: false,
                kernels: Kernels::Stock,
                replay: false,
                tensorrt: TensorRtOptions::default(),
                sessions: 1,
                graph,
            };
            OrtEngine::load(runtime(), &manifest, &options).unwrap()
        };
        Self {
            fused: load(graph),
            portable: load(folder.path().join("model.onnx")),
            manifest,
        }
    }

    /// An image in both forms.
    fn image(&self, seed: usize) -> [ImageTensor; 2] {
        let (height, width) = self.manifest.input_size().unwrap();
        let values = 0..3 * height * width;
        let bytes: Vec<u8> = values
            .map(|at| ((at * (13 + 10 * seed) + 91 * seed) % 251) as u8)
            .collect();
        let size = |length| u32::try_from(length).unwrap();
        let rgb = Rgb8::new(size(width), size(height), bytes).unwrap();
        let pipeline = Pipeline::new(&self.manifest.preprocess).unwrap();
        let whole = (rgb.width(), rgb.height());
        [TensorForm::Pixels, TensorForm::Normalized]
            .map(|form| pipeline.run_reduced(&rgb, whole, 1, form).tensor)
    }
}

fn run(engine: &mut OrtEngine, images: &[&ImageTensor]) -> Vec<Output> {
    let inputs: Vec<Input<'_>> = images.iter().copied().map(Input::in_full).collect();
    engine.run(&inputs).unwrap()
}

#[track_caller]
fn assert_close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
    for (found, expected) in found.iter().zip(expected) {
        // Half precision has eleven bits; sums are rounded in other places.
        let close = (found - expected).abs() <= 4e-3 * largest;
        assert!(close, "{found}, expected {expected} of {largest}");
    }
}

#[track_caller]
fn assert_same_answer(found: &Output, expected: &Output) {
    assert_close(&found.logits, &expected.logits);
    assert_close(&found.rollout, &expected.rollout);
    let attention = |output: &Output| output.class_attention.clone().unwrap();
    assert_close(&attention(found), &attention(expected));
    let [found, expected] = [found, expected].map(|output| output.attribution.clone().unwrap());
    assert_eq!(found.classes, expected.classes);
    assert_close(&found.patches, &expected.patches);
}

#[test]
fn bytes_floats_and_mixtures_give_the_same_answers_in_their_order() {
    let mut engines = Engines::load();
    assert_eq!(engines.fused.tensor_form(), TensorForm::Pixels);
    let images: Vec<[ImageTensor; 2]> = (0..4).map(|seed| engines.image(seed)).collect();
    let expected: Vec<Output> = images
        .iter()
        .map(|[_, normalized]| run(&mut engines.portable, &[normalized]).remove(0))
        .collect();
    // Else an exchange of two images would go unnoticed.
    let far = |a: f32, b: f32| (a - b).abs() > 2e-2;
    for pair in expected.windows(2) {
        let logits = pair[0].logits.iter().zip(&pair[1].logits);
        assert!(logits.into_iter().any(|(&a, &b)| far(a, b)), "{pair:?}");
    }
    for forms in [[0, 0, 0, 0], [1, 1, 1, 1], [1, 0, 1, 0], [0, 1, 1, 0]] {
        let batch: Vec<&ImageTensor> = images
            .iter()
            .zip(forms)
            .map(|(image, form)| &image[form])
            .collect();
        let found = run(&mut engines.fused, &batch);
        assert_eq!(found.len(), 4);
        for (found, expected) in found.iter().zip(&expected) {
            assert_same_answer(found, expected);
        }
    }
}

#[test]
fn a_session_that_does_not_normalise_takes_bytes_too() {
    let mut engines = Engines::load();
    assert_eq!(engines.portable.tensor_form(), TensorForm::Normalized);
    let [first, second] = [engines.image(1), engines.image(2)];
    let floats = run(&mut engines.portable, &[&first[1], &second[1]]);
    let mixed = run(&mut engines.portable, &[&first[0], &second[1]]);
    assert_eq!(mixed, floats);
}

#[test]
fn an_image_of_another_size_is_refused() {
    let mut engines = Engines::load();
    let short = ImageTensor::Pixels(vec![0; 5]);
    let refusal = engines.fused.run(&[Input::in_full(&short)]).unwrap_err();
    assert!(
        refusal
            .to_string()
            .contains("5 values, expected 3 × 32 × 32"),
        "{refusal}"
    );
}

#[test]
fn each_image_gets_what_it_wants_of_a_mixed_batch() {
    let mut engines = Engines::load();
    let image = engines.image(3);
    let input = |maps, class_attention| Input {
        maps,
        class_attention,
        ..Input::in_full(&image[1])
    };
    for engine in [&mut engines.portable, &mut engines.fused] {
        let batch = [input(false, true), input(true, false), input(true, true)];
        let found = engine.run(&batch).unwrap();
        let has = |output: &Output| {
            let maps = [!output.rollout.is_empty(), output.attribution.is_some()];
            [maps[0], maps[1], output.class_attention.is_some()]
        };
        let found: Vec<[bool; 3]> = found.iter().map(has).collect();
        assert_eq!(found, [[false; 3], [true, true, false], [true; 3]]);
    }
}
