//! From CUDA C++ to a binary for one card, through NVRTC.

use std::{
    ffi::{CString, c_char},
    thread,
};

use cudarc::nvrtc::{result, sys};

use super::{KernelError, Network, Tiling};

/// What all sources begin with.
const COMMON: &str = include_str!("common.cuh");

/// A file of kernels.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Source {
    Normalize,
    Attention,
    Rollout,
    Attribution,
    ClassToken,
}

impl Source {
    fn file(self) -> (&'static str, &'static str) {
        match self {
            Self::Normalize => ("normalize.cu", include_str!("normalize.cu")),
            Self::Attention => ("attention.cu", include_str!("attention.cu")),
            Self::Rollout => ("rollout.cu", include_str!("rollout.cu")),
            Self::Attribution => ("attribution.cu", include_str!("attribution.cu")),
            Self::ClassToken => ("class_token.cu", include_str!("class_token.cu")),
        }
    }
}

/// Whether the driver can be loaded: the bindings panic where it cannot.
pub(super) fn check_driver() -> Result<(), KernelError> {
    // SAFETY: only tries to open a shared library of this name, whose initialisers are trusted.
    match unsafe { cudarc::driver::sys::is_culib_present() } {
        true => Ok(()),
        false => Err(KernelError::Library("the CUDA driver (libcuda)")),
    }
}

/// The same for NVRTC.
pub(super) fn check_compiler() -> Result<(), KernelError> {
    // SAFETY: as above.
    match unsafe { sys::is_culib_present() } {
        true => Ok(()),
        false => Err(KernelError::Library("NVRTC (libnvrtc)")),
    }
}

/// Compiles files for a card's compute capability, each in a thread of its own, and answers their
/// binaries in the order of the files.
pub(super) fn all(
    sources: &[Source],
    capability: (i32, i32),
    network: &Network,
    tiling: Tiling,
) -> Result<Vec<Vec<u8>>, KernelError> {
    thread::scope(|scope| {
        let one = |&source| scope.spawn(move || compile(source, capability, network, tiling));
        let threads: Vec<_> = sources.iter().map(one).collect();
        let joined = threads.into_iter().map(|thread| {
            let panicked = |_| KernelError::Compiler("it panicked".to_owned());
            thread.join().map_err(panicked)?
        });
        joined.collect()
    })
}

/// Compiles a file for a card's compute capability.
pub(super) fn compile(
    source: Source,
    (major, minor): (i32, i32),
    network: &Network,
    tiling: Tiling,
) -> Result<Vec<u8>, KernelError> {
    let (name, text) = source.file();
    let shape = network.attention;
    let mut options = vec![
        format!("--gpu-architecture=sm_{major}{minor}"),
        "--std=c++17".to_owned(),
        "-default-device".to_owned(),
    ];
    let definitions = [
        ("TOKENS", shape.tokens),
        ("HEADS", shape.heads),
        ("HEAD_DIM", shape.head_size),
        ("LAYERS", network.layers),
        ("DIRECTIONS", network.directions.unwrap_or(1)),
        ("ROW_WARPS", tiling.row_warps),
        ("KEY_WARPS", tiling.key_warps),
        ("STAGES", tiling.stages),
    ];
    options.extend(definitions.map(|(name, value)| format!("-D{name}={value}")));

    let without_nul = |text: &str| {
        CString::new(text).map_err(|_| KernelError::Compiler(format!("{name} has a NUL")))
    };
    let program = Program::new(
        &without_nul(&format!("{COMMON}\n{text}"))?,
        &without_nul(name)?,
    )?;
    program.compile(&options)?;
    program.binary()
}

/// A program that is destroyed when it goes out of scope.
struct Program(sys::nvrtcProgram);

impl Program {
    fn new(source: &CString, name: &CString) -> Result<Self, KernelError> {
        let program = result::create_program(source, Some(name));
        Ok(Self(program.map_err(|error| {
            KernelError::Compiler(error.to_string())
        })?))
    }

    fn compile(&self, options: &[String]) -> Result<(), KernelError> {
        // SAFETY: the program is alive until `self` is dropped, and the options outlive the call.
        let compiled = unsafe { result::compile_program(self.0, options) };
        compiled.map_err(|error| {
            // SAFETY: the program is alive.
            let log = unsafe { result::get_program_log(self.0) }.unwrap_or_default();
            let log: Vec<u8> = log
                .into_iter()
                .map(|c| c as u8)
                .take_while(|&c| c != 0)
                .collect();
            let log = String::from_utf8_lossy(&log).into_owned();
            KernelError::Compiler(format!("{error}: {}", log.trim()))
        })
    }

    fn binary(&self) -> Result<Vec<u8>, KernelError> {
        let failed = |error: result::NvrtcError| KernelError::Compiler(error.to_string());
        let mut size = 0_usize;
        // SAFETY: the program is alive and compiled, and `size` is a place for the answer.
        unsafe { sys::nvrtcGetCUBINSize(self.0, &raw mut size) }
            .result()
            .map_err(failed)?;
        let mut binary = vec![0_u8; size];
        // SAFETY: the buffer has the size that was just asked for.
        unsafe { sys::nvrtcGetCUBIN(self.0, binary.as_mut_ptr().cast::<c_char>()) }
            .result()
            .map_err(failed)?;
        Ok(binary)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: the program is alive and not used after this. A failure leaks memory, no more.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

#[cfg(test)]
mod tests;
