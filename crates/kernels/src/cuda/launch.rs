//! Launches, with what the kernels take for granted checked before any pointer is handed over.

use std::ffi::c_void;

use cudarc::driver::{CudaFunction, DriverError, result, sys::CUstream};

use super::{AttributionKernels, CudaKernels};

/// Device memory of one tensor.
pub(super) type Pointer = *mut c_void;

/// Arguments of a kernel: the addresses of values that live until the launch returns.
struct Arguments<'a>(Vec<*mut c_void>, std::marker::PhantomData<&'a ()>);

impl<'a> Arguments<'a> {
    fn new() -> Self {
        Self(Vec::new(), std::marker::PhantomData)
    }

    fn with<T>(mut self, value: &'a T) -> Self {
        self.0.push(std::ptr::from_ref(value).cast_mut().cast());
        self
    }
}

/// # Safety
/// The arguments are those of the kernel in type and order; pointers among them lead to device
/// memory of the kernel's context, as large as the kernel's source says, which lives until the
/// stream has passed the launch.
unsafe fn launch(
    function: &CudaFunction,
    stream: CUstream,
    grid: [usize; 3],
    threads: usize,
    shared: usize,
    mut arguments: Arguments<'_>,
) -> Result<(), DriverError> {
    let [x, y, z] = grid.map(|length| length as u32);
    // SAFETY: as promised by the caller.
    unsafe {
        result::launch_kernel(
            function.cu_function(),
            (x, y, z),
            (threads as u32, 1, 1),
            shared as u32,
            stream,
            &mut arguments.0,
        )
    }
}

/// Tensors of an attention launch; shapes are those in attention.cu.
#[derive(Clone, Copy, Debug)]
pub(super) struct AttentionTensors {
    pub(super) queries_and_keys: Pointer,
    pub(super) values: Pointer,
    pub(super) query_bias: Pointer,
    pub(super) value_bias: Pointer,
    pub(super) mixed: Pointer,
    pub(super) mean: Pointer,
    pub(super) class_rows: Pointer,
}

impl CudaKernels {
    /// Head groups of a batch: the second axis of the mean.
    pub(super) fn head_groups(&self, batch: usize, queries: usize) -> usize {
        let shape = &self.network.attention;
        self.tiling
            .head_groups(shape, queries, batch, self.multiprocessors)
    }

    /// # Safety
    /// The tensors, inputs in the kernel's order and then the planes, have the shapes of
    /// normalize.cu for `batch` images, of which `byte_images` come in bytes, and live until
    /// `stream` has passed this launch.
    pub(super) unsafe fn launch_normalize(
        &self,
        stream: CUstream,
        [bytes, values, scale, mean, deviation, planes]: &[Pointer; 6],
        batch: usize,
        byte_images: usize,
        pixels: usize,
    ) -> Result<(), DriverError> {
        let (byte_images, pixels_argument) = (byte_images as i32, pixels as i32);
        let arguments = Arguments::new()
            .with(bytes)
            .with(values)
            .with(scale)
            .with(mean)
            .with(deviation)
            .with(planes)
            .with(&byte_images)
            .with(&pixels_argument);
        let grid = [pixels.div_ceil(256), batch, 1];
        // SAFETY: types and order are those of `normalize`; the rest is the caller's promise.
        unsafe { launch(&self.normalize, stream, grid, 256, 0, arguments) }
    }

    /// # Safety
    /// The tensors have the shapes of attention.cu for `batch` images, `queries` and
    /// [`head_groups`](Self::head_groups), and live until `stream` has passed this launch.
    pub(super) unsafe fn launch_attention(
        &self,
        stream: CUstream,
        tensors: &AttentionTensors,
        batch: usize,
        queries: usize,
        maps: bool,
    ) -> Result<(), DriverError> {
        let groups = self.head_groups(batch, queries);
        let (queries_argument, maps) = (queries as i32, i32::from(maps));
        let arguments = Arguments::new()
            .with(&tensors.queries_and_keys)
            .with(&tensors.values)
            .with(&tensors.query_bias)
            .with(&tensors.value_bias)
            .with(&tensors.mixed)
            .with(&tensors.mean)
            .with(&tensors.class_rows)
            .with(&queries_argument)
            .with(&maps);
        let grid = [queries.div_ceil(self.tiling.rows()), groups, batch];
        let shared = self.tiling.shared_bytes(&self.network.attention);
        // SAFETY: types and order are those of `attention`; the rest is the caller's promise.
        unsafe {
            launch(
                &self.attention,
                stream,
                grid,
                self.tiling.threads(),
                shared,
                arguments,
            )
        }
    }

    /// # Safety
    /// `means` are as many as the network has blocks, with `groups` on their second axis and
    /// `batch` on their first; `by_start` is float32 `[batch, layers, tokens]`; all live until
    /// `stream` has passed this launch.
    pub(super) unsafe fn launch_rollout(
        &self,
        stream: CUstream,
        means: &[Pointer],
        by_start: Pointer,
        batch: usize,
        groups: [usize; 2],
    ) -> Result<(), DriverError> {
        debug_assert_eq!(means.len(), self.network.layers);
        let [groups, last_groups] = groups.map(|groups| groups as i32);
        let read = self.network.read as i32;
        // CHUNKS and SPLITS of rollout.cu.
        let chunks = self.network.attention.tokens.div_ceil(8);
        let splits = if chunks > 256 { 4 } else { 1024 / chunks };
        // A kernel's argument of several pointers is a struct by value: their bytes in a row.
        let arguments = Arguments::new()
            .with(&means[0])
            .with(&by_start)
            .with(&groups)
            .with(&last_groups)
            .with(&read);
        // SAFETY: types and order are those of `rollout`: the first argument's address is that of
        // `layers` pointers in a row. The rest is the caller's promise.
        unsafe {
            launch(
                &self.rollout,
                stream,
                [batch, 1, 1],
                chunks * splits,
                0,
                arguments,
            )
        }
    }
}

impl AttributionKernels {
    /// # Safety
    /// The tensors have the shapes of class_token.cu and live until `stream` has passed this
    /// launch.
    pub(super) unsafe fn launch_class_token_sum(
        &self,
        stream: CUstream,
        [before, written, mlp_bias, out_bias, sum]: &[Pointer; 5],
        [batch, rows, width]: [usize; 3],
    ) -> Result<(), DriverError> {
        let rows = rows as i32;
        let arguments = Arguments::new()
            .with(before)
            .with(written)
            .with(mlp_bias)
            .with(out_bias)
            .with(sum)
            .with(&rows);
        let grid = [width.div_ceil(256), batch, 1];
        // SAFETY: types and order are those of `class_token_sum`; the rest is the caller's promise.
        unsafe { launch(&self.class_token_sum, stream, grid, 256, 0, arguments) }
    }

    /// # Safety
    /// `blocks` holds the output kernels, values, value biases and class rows of all blocks,
    /// `layers` of each; `directions` is float16 `[batch·directions, width]`, `projected` float16
    /// `[layers, batch·directions, width]`, `by_token` float32 `[batch, tokens, directions]`; all
    /// live until `stream` has passed both launches.
    pub(super) unsafe fn launch_attribution(
        &self,
        stream: CUstream,
        network: &super::Network,
        blocks: &[Pointer],
        [directions, projected, by_token]: &[Pointer; 3],
        batch: usize,
    ) -> Result<(), DriverError> {
        debug_assert_eq!(blocks.len(), 4 * network.layers);
        let (tokens, width) = (network.attention.tokens, network.attention.width());
        let rows = batch * network.directions.unwrap_or(1);
        let rows_argument = rows as i32;
        let project = Arguments::new()
            .with(&blocks[0])
            .with(directions)
            .with(projected)
            .with(&rows_argument);
        let grid = [width.div_ceil(32), rows.div_ceil(64), network.layers];
        // SAFETY: types and order are those of `project_directions`: the first argument's address
        // is that of `4 · layers` pointers in a row. The rest is the caller's promise.
        unsafe { launch(&self.project_directions, stream, grid, 128, 0, project)? };
        let attribute = Arguments::new()
            .with(&blocks[0])
            .with(projected)
            .with(by_token);
        let grid = [tokens.div_ceil(8), batch, 1];
        // SAFETY: as above, for `attribute_tokens`, which reads what the first launch of this
        // stream wrote.
        unsafe { launch(&self.attribute_tokens, stream, grid, 256, 0, attribute) }
    }
}
