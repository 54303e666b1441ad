//! Memory and events of a card, freed when they go out of scope.

use std::{ffi::c_void, ptr::NonNull, sync::Arc};

use cudarc::driver::{
    CudaContext, DriverError, result,
    sys::{CUdeviceptr, CUevent, CUevent_flags, CUstream},
};

/// Memory of a card.
#[derive(Debug)]
pub(super) struct DeviceMemory {
    context: Arc<CudaContext>,
    address: CUdeviceptr,
    bytes: usize,
}

impl DeviceMemory {
    /// At least one byte, holding anything.
    pub(super) fn new(context: &Arc<CudaContext>, bytes: usize) -> Result<Self, DriverError> {
        context.bind_to_thread()?;
        // SAFETY: nothing reads the memory before something was written there.
        let address = unsafe { result::malloc_sync(bytes.max(1)) }?;
        Ok(Self {
            context: Arc::clone(context),
            address,
            bytes,
        })
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn address(&self) -> CUdeviceptr {
        self.address
    }

    /// `offset` bytes behind its beginning.
    pub(super) fn pointer(&self, offset: usize) -> *mut c_void {
        debug_assert!(offset <= self.bytes);
        (self.address + offset as CUdeviceptr) as *mut c_void
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        // SAFETY: the memory is this value's own, and freeing waits for the card.
        let freed = self
            .context
            .bind_to_thread()
            .and_then(|()| unsafe { result::free_sync(self.address) });
        if let Err(error) = freed {
            tracing::warn!(%error, "memory of the card could not be freed");
        }
    }
}

/// Memory of the host from which a card copies by itself.
#[derive(Debug)]
pub(super) struct PinnedMemory {
    context: Arc<CudaContext>,
    /// Aligned for every kind of number.
    address: NonNull<u8>,
    bytes: usize,
}

// SAFETY: it is memory of the whole process, and belongs to this value alone.
unsafe impl Send for PinnedMemory {}

impl PinnedMemory {
    /// Filled with zeros.
    pub(super) fn new(context: &Arc<CudaContext>, bytes: usize) -> Result<Self, DriverError> {
        context.bind_to_thread()?;
        // SAFETY: the memory is written before anything reads it, on the next lines.
        let address = unsafe { result::malloc_host(bytes.max(1), 0) }?.cast::<u8>();
        let address = NonNull::new(address).ok_or(DriverError(
            cudarc::driver::sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY,
        ))?;
        // SAFETY: it was just given for so many bytes.
        unsafe { address.as_ptr().write_bytes(0, bytes) };
        Ok(Self {
            context: Arc::clone(context),
            address,
            bytes,
        })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: so many bytes are there, all of them written.
        unsafe { std::slice::from_raw_parts(self.address.as_ptr(), self.bytes) }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.address.as_ptr(), self.bytes) }
    }

    /// `count` numbers from `offset` bytes on.
    ///
    /// # Panics
    /// If there are not so many, or they are not aligned there.
    pub(super) fn numbers<T: Number>(&self, offset: usize, count: usize) -> &[T] {
        let bytes = &self.bytes()[offset..][..count * size_of::<T>()];
        // SAFETY: any bits are a number.
        let (before, numbers, _) = unsafe { bytes.align_to::<T>() };
        assert!(before.is_empty(), "numbers at {offset} are not aligned");
        numbers
    }

    /// The same, to be written.
    ///
    /// # Panics
    /// As [`numbers`](Self::numbers).
    pub(super) fn numbers_mut<T: Number>(&mut self, offset: usize, count: usize) -> &mut [T] {
        let bytes = &mut self.bytes_mut()[offset..][..count * size_of::<T>()];
        // SAFETY: any bits are a number, and any number is bytes.
        let (before, numbers, _) = unsafe { bytes.align_to_mut::<T>() };
        assert!(before.is_empty(), "numbers at {offset} are not aligned");
        numbers
    }
}

impl Drop for PinnedMemory {
    fn drop(&mut self) {
        // SAFETY: the memory is this value's own. Whoever lent it to a copy has waited for that.
        let freed = self
            .context
            .bind_to_thread()
            .and_then(|()| unsafe { result::free_host(self.address.as_ptr().cast()) });
        if let Err(error) = freed {
            tracing::warn!(%error, "page-locked memory could not be freed");
        }
    }
}

/// Numbers of which every pattern of bits is one.
pub(super) trait Number: Copy {}

impl Number for f32 {}
impl Number for i64 {}

/// A moment of a stream that a thread can sleep until.
#[derive(Debug)]
pub(super) struct Event {
    context: Arc<CudaContext>,
    event: CUevent,
}

// SAFETY: events may be used from any thread.
unsafe impl Send for Event {}

impl Event {
    pub(super) fn new(context: &Arc<CudaContext>) -> Result<Self, DriverError> {
        context.bind_to_thread()?;
        // The runtime's own way of waiting would keep a core busy.
        let flags = CUevent_flags::CU_EVENT_BLOCKING_SYNC as u32
            | CUevent_flags::CU_EVENT_DISABLE_TIMING as u32;
        let mut event = std::ptr::null_mut();
        // SAFETY: `event` is a place for the answer.
        unsafe { cudarc::driver::sys::cuEventCreate(&raw mut event, flags) }.result()?;
        Ok(Self {
            context: Arc::clone(context),
            event,
        })
    }

    /// When everything that `stream` has been given so far is done.
    ///
    /// # Safety
    /// The stream is alive and of the same context.
    pub(super) unsafe fn record(&self, stream: CUstream) -> Result<(), DriverError> {
        // SAFETY: the event is alive; the rest is the caller's promise.
        unsafe { result::event::record(self.event, stream) }
    }

    pub(super) fn wait(&self) -> Result<(), DriverError> {
        self.context.bind_to_thread()?;
        // SAFETY: the event is alive.
        unsafe { result::event::synchronize(self.event) }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the event is alive and not used after this.
        let destroyed = self
            .context
            .bind_to_thread()
            .and_then(|()| unsafe { result::event::destroy(self.event) });
        if let Err(error) = destroyed {
            tracing::warn!(%error, "an event of the card could not be destroyed");
        }
    }
}
