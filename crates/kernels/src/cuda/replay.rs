//! Launches of a run, recorded once and replayed as a whole: CUDA graphs.
//!
//! Launching costs the host some microseconds a kernel, which for a few images is most of the time
//! of a run. A recorded run repeats the same kernels with the same arguments, addresses among them.

use std::sync::Arc;

use cudarc::driver::{
    CudaContext, DriverError, result,
    sys::{
        self, CUDA_MEMCPY3D, CUgraph, CUgraphExec, CUgraphInstantiate_flags, CUgraphNode,
        CUmemorytype, CUpointer_attribute, CUstream, CUstreamCaptureMode,
    },
};

use super::KernelError;

/// A recorded run.
#[derive(Debug)]
pub(super) struct RecordedRun {
    context: Arc<CudaContext>,
    executable: CUgraphExec,
    /// How many kernels, copies and so on it has.
    pub(super) nodes: usize,
}

// SAFETY: executable graphs may be used from any thread, by one at a time, which `&mut` ensures.
unsafe impl Send for RecordedRun {}

impl RecordedRun {
    /// Records what `run` launches on `stream`; nothing of it is executed.
    ///
    /// # Errors
    /// [`KernelError::Recording`] where a replay would repeat what held only once, and whatever
    /// `run` or the driver reports. The stream can be used as before.
    ///
    /// # Safety
    /// `stream` is alive and of this context, and nothing else uses it meanwhile.
    pub(super) unsafe fn record(
        context: &Arc<CudaContext>,
        stream: CUstream,
        run: impl FnOnce() -> Result<(), KernelError>,
    ) -> Result<Self, KernelError> {
        // Other threads go on allocating memory and launching on other streams.
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        // SAFETY: the caller's promise.
        unsafe { result::stream::begin_capture(stream, mode) }?;
        let ran = run();
        // SAFETY: recording began above.
        let graph = unsafe { result::stream::end_capture(stream) }.map(Graph);
        ran?;
        let graph = graph?;
        if graph.0.is_null() {
            return Err(KernelError::Recording("nothing was recorded".to_owned()));
        }
        let nodes = graph.nodes()?;
        for &node in &nodes {
            can_be_repeated(node)?;
        }
        // SAFETY: the graph is alive; the executable one is independent of it.
        let executable =
            unsafe { result::graph::instantiate(graph.0, CUgraphInstantiate_flags(0)) }?;
        Ok(Self {
            context: Arc::clone(context),
            executable,
            nodes: nodes.len(),
        })
    }

    /// # Safety
    /// `stream` is alive and of the same context, the memory of the recorded run is still there,
    /// and no other stream uses it.
    pub(super) unsafe fn replay(&mut self, stream: CUstream) -> Result<(), DriverError> {
        // SAFETY: the graph is alive; the rest is the caller's promise.
        unsafe { result::graph::launch(self.executable, stream) }
    }
}

impl Drop for RecordedRun {
    fn drop(&mut self) {
        // SAFETY: it is alive and not used after this; the driver waits for a replay that runs.
        let destroyed = self
            .context
            .bind_to_thread()
            .and_then(|()| unsafe { result::graph::exec_destroy(self.executable) });
        if let Err(error) = destroyed {
            tracing::warn!(%error, "a recorded run could not be destroyed");
        }
    }
}

/// A graph that is destroyed when it goes out of scope.
struct Graph(CUgraph);

impl Graph {
    fn nodes(&self) -> Result<Vec<CUgraphNode>, DriverError> {
        let mut count = 0;
        // SAFETY: the graph is alive; without room for nodes only their number is written.
        unsafe { sys::cuGraphGetNodes(self.0, std::ptr::null_mut(), &raw mut count) }.result()?;
        let mut nodes = vec![std::ptr::null_mut(); count];
        // SAFETY: there is room for as many nodes as `count` says.
        unsafe { sys::cuGraphGetNodes(self.0, nodes.as_mut_ptr(), &raw mut count) }.result()?;
        nodes.truncate(count);
        Ok(nodes)
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: the graph is alive and not used after this. A failure leaks memory, no more.
            let _ = unsafe { result::graph::destroy(self.0) };
        }
    }
}

/// Numbers of the kinds of nodes that may be repeated (`CUgraphNodeType`): kernels, settings of
/// memory, nothing, and memory that the graph takes and gives back itself.
const REPEATABLE: [u32; 5] = [0, 2, 5, 10, 11];
const COPY: u32 = 1;

/// Kernels and what stays on the card. A copy from the host would read memory again that may be
/// another's by then, and a function of the host would free what it freed before.
fn can_be_repeated(node: CUgraphNode) -> Result<(), KernelError> {
    // Read as a number: newer drivers may have kinds that the enumeration lacks.
    let mut kind = u32::MAX;
    // SAFETY: the node belongs to a graph that is alive, and the enumeration is as large as u32.
    unsafe { sys::cuGraphNodeGetType(node, (&raw mut kind).cast()) }.result()?;
    match kind {
        COPY if copies_on_the_card(node)? => Ok(()),
        COPY => Err(KernelError::Recording(
            "it copies between the host and the card".to_owned(),
        )),
        kind if REPEATABLE.contains(&kind) => Ok(()),
        kind => Err(KernelError::Recording(format!(
            "it has a node of kind {kind}"
        ))),
    }
}

fn copies_on_the_card(node: CUgraphNode) -> Result<bool, DriverError> {
    let mut copy = std::mem::MaybeUninit::<CUDA_MEMCPY3D>::zeroed();
    // SAFETY: the node is a copy, and there is room for its description.
    unsafe { sys::cuGraphMemcpyNodeGetParams(node, copy.as_mut_ptr()) }.result()?;
    // SAFETY: it was just filled in.
    let copy = unsafe { copy.assume_init() };
    let on_card = |kind: CUmemorytype, address| match kind {
        CUmemorytype::CU_MEMORYTYPE_DEVICE => true,
        CUmemorytype::CU_MEMORYTYPE_UNIFIED => {
            let mut found = 0_u32;
            let attribute = CUpointer_attribute::CU_POINTER_ATTRIBUTE_MEMORY_TYPE;
            // SAFETY: `found` is a place for the answer, a number of 32 bits.
            let told =
                unsafe { sys::cuPointerGetAttribute((&raw mut found).cast(), attribute, address) };
            // Of ordinary memory of the host the driver knows nothing.
            told.result().is_ok() && found == CUmemorytype::CU_MEMORYTYPE_DEVICE as u32
        }
        _ => false,
    };
    Ok(on_card(copy.srcMemoryType, copy.srcDevice) && on_card(copy.dstMemoryType, copy.dstDevice))
}
