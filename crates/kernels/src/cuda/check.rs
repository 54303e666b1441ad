//! The kernels compared with the reference on random input, on the card that will run them.

use cudarc::driver::{CudaSlice, CudaStream, DevicePtr};
use half::f16;

use super::{
    CudaKernels, KernelError,
    launch::{AttentionTensors, Pointer},
};
use crate::reference::{self, AttributionBlock};

/// Results that are stored in float16 are rounded to one part in 2,048 each.
const HALF_TOLERANCE: f64 = 2e-3;
/// Results in float32 differ by the order of sums and the approximate exponential.
const FLOAT_TOLERANCE: f64 = 1e-4;

/// Runs every kernel on two images.
pub(super) fn check(kernels: &CudaKernels) -> Result<(), KernelError> {
    let network = kernels.network;
    let shape = network.attention;
    let (tokens, width, layers) = (shape.tokens, shape.width(), network.layers);
    let batch = 2;
    let stream = kernels.context.default_stream();
    let mut random = Random(1);
    check_normalize(kernels, &stream)?;

    // Scores of a few units, as a trained network's.
    let scale = 2.0 / (shape.head_size as f32).sqrt();
    let queries_and_keys = random.values(batch * tokens * 2 * width, scale.sqrt() * 1.5);
    let values = random.values(batch * tokens * width, 1.0);
    let [query_bias, value_bias] = [(); 2].map(|()| random.values(width, 0.2));
    let on_card = OnCard(&stream);
    let [qk, v] = [on_card.put(&queries_and_keys)?, on_card.put(&values)?];
    let [qb, vb] = [on_card.put(&query_bias)?, on_card.put(&value_bias)?];

    let mut means = Vec::new();
    let mut rows = None;
    let mut groups = [1, 1];
    for (at, queries) in [(0, tokens), (1, network.read)] {
        groups[at] = kernels.head_groups(batch, queries);
        let mixed = stream.alloc_zeros::<u16>(batch * queries * width)?;
        let mean = stream.alloc_zeros::<u16>(batch * groups[at] * queries * shape.mean_stride())?;
        let class_rows = stream.alloc_zeros::<f32>(batch * shape.heads * tokens)?;
        let tensors = AttentionTensors {
            queries_and_keys: on_card.pointer(&qk),
            values: on_card.pointer(&v),
            query_bias: on_card.pointer(&qb),
            value_bias: on_card.pointer(&vb),
            mixed: on_card.pointer(&mixed),
            mean: on_card.pointer(&mean),
            class_rows: on_card.pointer(&class_rows),
        };
        // SAFETY: every tensor was made above in the size that this launch takes, and lives until
        // the copies below have waited for it.
        unsafe { kernels.launch_attention(stream.cu_stream(), &tensors, batch, queries, true) }?;
        let [mixed_found, mean_found] = [on_card.get_half(&mixed)?, on_card.get_half(&mean)?];
        let rows_found = stream.clone_dtoh(&class_rows)?;
        for image in 0..batch {
            let of_image = |all: &[f16], each: usize| all[image * each..][..each].to_vec();
            let expected = reference::attention(
                &shape,
                queries,
                &of_image(&queries_and_keys, tokens * 2 * width),
                &of_image(&values, tokens * width),
                &query_bias,
                &value_bias,
            );
            let found = of_image(&mixed_found, queries * width);
            compare(
                "attention",
                &widened(&found),
                &widened(&expected.mixed),
                HALF_TOLERANCE,
            )?;
            let each = queries * shape.mean_stride();
            let found = of_image(&mean_found, groups[at] * each);
            let sums = summed_groups(&found, each);
            compare("head mean", &sums, &widened(&expected.mean), HALF_TOLERANCE)?;
            let each = shape.heads * tokens;
            let found = &rows_found[image * each..][..each];
            compare(
                "class token's attention",
                found,
                &expected.class_rows,
                FLOAT_TOLERANCE * 10.0,
            )?;
        }
        means.push((mean, mean_found));
        rows = Some((class_rows, rows_found));
    }

    let by_start = stream.alloc_zeros::<f32>(batch * layers * tokens)?;
    let mut pointers = vec![on_card.pointer(&means[0].0); layers];
    pointers[layers - 1] = on_card.pointer(&means[1].0);
    // SAFETY: the means were written by the launches above; a network of one block has the last one
    // alone.
    unsafe {
        kernels.launch_rollout(
            stream.cu_stream(),
            &pointers,
            on_card.pointer(&by_start),
            batch,
            groups,
        )
    }?;
    let found = stream.clone_dtoh(&by_start)?;
    for image in 0..batch {
        let summed = |at: usize, queries: usize| -> Vec<f16> {
            let each = queries * shape.mean_stride();
            let of_image = &means[at].1[image * groups[at] * each..][..groups[at] * each];
            let sums = summed_groups(of_image, each);
            sums.into_iter().map(f16::from_f32).collect()
        };
        let (full, last) = (summed(0, tokens), summed(1, network.read));
        let mut of_blocks = vec![full.as_slice(); layers];
        of_blocks[layers - 1] = &last;
        let expected = reference::rollout(&shape, &of_blocks);
        let found = &found[image * layers * tokens..][..layers * tokens];
        compare("rollout", found, &expected, HALF_TOLERANCE)?;
    }

    let (Some(attribution), Some(directions), Some((class_rows, rows_found))) =
        (&kernels.attribution, network.directions, rows)
    else {
        return Ok(());
    };
    let output_kernel = random.values(width * width, 1.0 / (width as f32).sqrt());
    let u = random.values(batch * directions * width, 1.0);
    let [kernel_on_card, u_on_card] = [on_card.put(&output_kernel)?, on_card.put(&u)?];
    let projected = stream.alloc_zeros::<u16>(layers * batch * directions * width)?;
    let by_token = stream.alloc_zeros::<f32>(batch * tokens * directions)?;
    let parts = [
        on_card.pointer(&kernel_on_card),
        on_card.pointer(&v),
        on_card.pointer(&vb),
        on_card.pointer(&class_rows),
    ];
    let blocks: Vec<Pointer> = parts.iter().flat_map(|&part| vec![part; layers]).collect();
    let tensors = [&u_on_card, &projected].map(|tensor| on_card.pointer(tensor));
    let tensors = [tensors[0], tensors[1], on_card.pointer(&by_token)];
    // SAFETY: every tensor was made above in the size that these launches take.
    unsafe {
        attribution.launch_attribution(stream.cu_stream(), &network, &blocks, &tensors, batch)
    }?;
    let found = stream.clone_dtoh(&by_token)?;
    for image in 0..batch {
        let each = directions * width;
        let of_block = reference::attribution(
            &shape,
            &u[image * each..][..each],
            &[AttributionBlock {
                output_kernel: &output_kernel,
                values: &values[image * tokens * width..][..tokens * width],
                value_bias: &value_bias,
                class_rows: &rows_found[image * shape.heads * tokens..][..shape.heads * tokens],
            }],
        );
        let expected: Vec<f32> = of_block.iter().map(|value| value * layers as f32).collect();
        let each = tokens * directions;
        compare(
            "attribution",
            &found[image * each..][..each],
            &expected,
            HALF_TOLERANCE,
        )?;
    }

    let before = random.values(batch * width, 1.0);
    let before_wide = stream.clone_htod(&widened(&before))?;
    let sum = stream.alloc_zeros::<f32>(batch * width)?;
    let tensors = [
        on_card.pointer(&before_wide),
        on_card.pointer(&v),
        on_card.pointer(&qb),
        on_card.pointer(&vb),
        on_card.pointer(&sum),
    ];
    // SAFETY: every tensor was made above in the size that this launch takes.
    unsafe {
        attribution.launch_class_token_sum(stream.cu_stream(), &tensors, [batch, tokens, width])
    }?;
    let found = stream.clone_dtoh(&sum)?;
    let expected: Vec<f32> = (0..batch * width)
        .map(|at| {
            let (image, column) = (at / width, at % width);
            let written = values[image * tokens * width + column].to_f32();
            before[at].to_f32()
                + written
                + query_bias[column].to_f32()
                + value_bias[column].to_f32()
        })
        .collect();
    compare("class token's sum", &found, &expected, FLOAT_TOLERANCE)
}

/// One image in bytes and one that is normalised already.
fn check_normalize(
    kernels: &CudaKernels,
    stream: &std::sync::Arc<CudaStream>,
) -> Result<(), KernelError> {
    let pixels = 300;
    let (scale, mean, deviation) = (1.0 / 255.0, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    let bytes: Vec<u8> = (0..3 * pixels).map(|at| (at * 37 % 256) as u8).collect();
    let values: Vec<f32> = (0..3 * pixels).map(|at| at as f32 / 128.0).collect();
    let bytes_on_card = stream.clone_htod(&bytes)?;
    let floats = [&values[..], &[scale], &mean, &deviation];
    let mut floats_on_card = Vec::with_capacity(floats.len());
    for floats in floats {
        floats_on_card.push(stream.clone_htod(floats)?);
    }
    let planes = stream.alloc_zeros::<u16>(2 * 3 * pixels)?;
    let on_card = OnCard(stream);
    let tensors = [
        on_card.pointer(&bytes_on_card),
        on_card.pointer(&floats_on_card[0]),
        on_card.pointer(&floats_on_card[1]),
        on_card.pointer(&floats_on_card[2]),
        on_card.pointer(&floats_on_card[3]),
        on_card.pointer(&planes),
    ];
    // SAFETY: every tensor was made above in the size that this launch takes.
    unsafe { kernels.launch_normalize(stream.cu_stream(), &tensors, 2, 1, pixels) }?;
    let found = on_card.get_half(&planes)?;
    let mut expected = reference::normalize(&bytes, scale, mean, deviation);
    expected.extend(values.iter().map(|&value| f16::from_f32(value)));
    let [found, expected] = [found, expected].map(|values| widened(&values));
    compare("normalised images", &found, &expected, FLOAT_TOLERANCE)
}

/// Copies to and from the card, each behind what the stream did before.
struct OnCard<'a>(&'a std::sync::Arc<CudaStream>);

impl OnCard<'_> {
    fn put(&self, values: &[f16]) -> Result<CudaSlice<u16>, KernelError> {
        let bits: Vec<u16> = values.iter().map(|value| value.to_bits()).collect();
        Ok(self.0.clone_htod(&bits)?)
    }

    fn get_half(&self, values: &CudaSlice<u16>) -> Result<Vec<f16>, KernelError> {
        let bits = self.0.clone_dtoh(values)?;
        Ok(bits.into_iter().map(f16::from_bits).collect())
    }

    fn pointer<T>(&self, values: &CudaSlice<T>) -> Pointer {
        let (address, _recorded) = values.device_ptr(self.0);
        address as Pointer
    }
}

/// Head means of `each` values, added up over the groups of heads that they were kept apart for.
fn summed_groups(groups: &[f16], each: usize) -> Vec<f32> {
    let mut sums = vec![0.0_f32; each];
    for group in groups.chunks_exact(each) {
        for (sum, value) in sums.iter_mut().zip(group) {
            *sum += value.to_f32();
        }
    }
    sums
}

fn widened(values: &[f16]) -> Vec<f32> {
    values.iter().map(|value| value.to_f32()).collect()
}

fn compare(
    kernel: &'static str,
    found: &[f32],
    expected: &[f32],
    allowed: f64,
) -> Result<(), KernelError> {
    let squares =
        |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>();
    let mut differences = found.iter().zip(expected).map(|(a, b)| a - b);
    let difference = (squares(&mut differences) / squares(&mut expected.iter().copied())).sqrt();
    // Not a number is no agreement.
    if difference <= allowed {
        return Ok(());
    }
    Err(KernelError::Differs {
        kernel,
        difference,
        allowed,
    })
}

/// Numbers that a seed fixes (Steele, Lea & Flood 2014: SplitMix64).
struct Random(u64);

impl Random {
    fn values(&mut self, count: usize, scale: f32) -> Vec<f16> {
        (0..count)
            .map(|_| f16::from_f32(self.next() * scale))
            .collect()
    }

    /// Between −1 and 1.
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}
