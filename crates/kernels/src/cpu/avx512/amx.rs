//! Products of bytes by AMX: tiles of sixteen rows of 64 bytes, of which one instruction multiplies
//! two and adds up in 32 bits.
//!
//! A block of 32 tokens by 32 output channels keeps four tiles of sums for the whole length of the
//! inputs. Half a panel's weights stay in the first cache while all tokens pass; sums go through a
//! small buffer to the same end as those of VNNI, so results have the same bits.

use std::{arch::asm, arch::x86_64::*};

use super::{
    int8::{self, Panel},
    tile::Sink,
};
use crate::cpu::{
    aligned::Aligned,
    instructions::{Epilogue, Quantized},
    weights::{GROUP, INPUT_MULTIPLE, Int8Kernel, Linear, PANEL},
};

/// Rows of a tile.
const TILE_ROWS: usize = 16;

/// Rows of a block.
const BLOCK_ROWS: usize = 2 * TILE_ROWS;

/// Output channels of a block.
const BLOCK_CHANNELS: usize = 32;

/// Fewer rows than this leave most of a tile empty.
const FEWEST_ROWS: usize = 7;

/// Multiplies blocks in tiles.
pub(super) trait TileUnit {
    /// Sums of `ROW_TILES` tiles of rows, one or two, with two tiles of channels, over `steps`
    /// times 64 inputs.
    ///
    /// # Safety
    /// From `tokens` on there are `16 · ROW_TILES` rows, `stride` bytes apart, of `64 · steps`
    /// bytes; from `weights` on as many steps of half a panel, whose groups of inputs are a panel's
    /// width apart. `sums` has room for as many rows of a panel's channels.
    unsafe fn multiply<const ROW_TILES: usize>(
        &self,
        tokens: *const u8,
        stride: usize,
        weights: *const i8,
        steps: usize,
        sums: *mut i32,
    );
}

/// The processor's own tiles. A value exists only where it has them and the system gave permission,
/// and while this thread's tiles are configured.
pub(super) struct Amx {
    _configured: (),
}

/// Whether the processor has AMX for bytes and the system lets this process use it.
pub(super) fn is_usable() -> bool {
    const INT8_AND_TILES: u32 = 1 << 25 | 1 << 24;
    const TILE_STATE: u64 = 1 << 17 | 1 << 18;
    if !is_x86_feature_detected!("xsave")
        || __cpuid_count(7, 0).edx & INT8_AND_TILES != INT8_AND_TILES
    {
        return false;
    }
    let (low, high): (u32, u32);
    // SAFETY: `xgetbv` is there with XSAVE, which the system has enabled; it reads a register.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack));
    }
    let enabled = u64::from(high) << 32 | u64::from(low);
    enabled & TILE_STATE == TILE_STATE && request_permission()
}

/// Asks Linux for the tiles' 8 KiB of state, for all threads of the process.
#[cfg(target_os = "linux")]
fn request_permission() -> bool {
    const ARCH_PRCTL: usize = 158;
    const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
    const XTILEDATA: usize = 18;
    let result: isize;
    // SAFETY: the call takes numbers and touches no memory of ours; the kernel overwrites `rcx` and
    // `r11`.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XTILEDATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn request_permission() -> bool {
    false
}

impl Amx {
    /// Configures this thread's tiles: sixteen rows of 64 bytes, all eight.
    ///
    /// # Safety
    /// [`is_usable`] must have said so.
    unsafe fn configure() -> Self {
        #[repr(C, align(64))]
        struct Configuration([u8; 64]);
        let mut configuration = Configuration([0; 64]);
        configuration.0[0] = 1;
        for tile in 0..8 {
            configuration.0[16 + 2 * tile] = 64;
            configuration.0[48 + tile] = TILE_ROWS as u8;
        }
        // SAFETY: the processor has the instruction; palette 1 allows sixteen rows of 64 bytes.
        unsafe {
            asm!("ldtilecfg [{0}]", in(reg) &raw const configuration, options(nostack, readonly));
        }
        Self { _configured: () }
    }
}

impl Drop for Amx {
    /// Gives the tiles back, so that switching threads does not save them.
    fn drop(&mut self) {
        // SAFETY: a value exists only where the processor has the instruction.
        unsafe { asm!("tilerelease", options(nomem, nostack)) };
    }
}

impl TileUnit for Amx {
    unsafe fn multiply<const ROW_TILES: usize>(
        &self,
        tokens: *const u8,
        stride: usize,
        weights: *const i8,
        steps: usize,
        sums: *mut i32,
    ) {
        // One step takes 64 inputs: sixteen groups, a panel's width apart.
        const STEP: usize = INPUT_MULTIPLE / GROUP * PANEL * GROUP;
        const ROW_OF_WEIGHTS: usize = PANEL * GROUP;
        const ROW_OF_SUMS: usize = PANEL * size_of::<i32>();
        let second = tokens.wrapping_add(TILE_ROWS * stride);
        let lower = sums.wrapping_add(TILE_ROWS * PANEL);
        if ROW_TILES == 1 {
            // SAFETY: the tiles are configured; loads and stores are those of the contract. All
            // tiles that are used are listed as overwritten.
            unsafe {
                asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "2:",
                    "tileloadd tmm4, [{tokens} + {stride}]",
                    "tileloadd tmm6, [{weights} + {row}]",
                    "tileloadd tmm7, [{weights} + {row} + 64]",
                    "tdpbusd tmm0, tmm4, tmm6",
                    "tdpbusd tmm1, tmm4, tmm7",
                    "add {tokens}, 64",
                    "add {weights}, {step}",
                    "dec {steps}",
                    "jnz 2b",
                    "tilestored [{sums} + {of_sums}], tmm0",
                    "tilestored [{sums} + {of_sums} + 64], tmm1",
                    tokens = inout(reg) tokens => _,
                    stride = in(reg) stride,
                    weights = inout(reg) weights => _,
                    row = in(reg) ROW_OF_WEIGHTS,
                    step = const STEP,
                    steps = inout(reg) steps => _,
                    sums = in(reg) sums,
                    of_sums = in(reg) ROW_OF_SUMS,
                    out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
            return;
        }
        // SAFETY: as above.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "tileloadd tmm4, [{tokens} + {stride}]",
                "tileloadd tmm6, [{weights} + {row}]",
                "tileloadd tmm7, [{weights} + {row} + 64]",
                "tileloadd tmm5, [{second} + {stride}]",
                "tdpbusd tmm0, tmm4, tmm6",
                "tdpbusd tmm1, tmm4, tmm7",
                "tdpbusd tmm2, tmm5, tmm6",
                "tdpbusd tmm3, tmm5, tmm7",
                "add {tokens}, 64",
                "add {second}, 64",
                "add {weights}, {step}",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{sums} + {of_sums}], tmm0",
                "tilestored [{sums} + {of_sums} + 64], tmm1",
                "tilestored [{lower} + {of_sums}], tmm2",
                "tilestored [{lower} + {of_sums} + 64], tmm3",
                tokens = inout(reg) tokens => _,
                second = inout(reg) second => _,
                stride = in(reg) stride,
                weights = inout(reg) weights => _,
                row = in(reg) ROW_OF_WEIGHTS,
                step = const STEP,
                steps = inout(reg) steps => _,
                sums = in(reg) sums,
                lower = in(reg) lower,
                of_sums = in(reg) ROW_OF_SUMS,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

/// A linear layer of tokens as integers.
///
/// # Safety
/// [`is_usable`] must have said so.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vnni")]
pub(super) unsafe fn multiply(
    tokens: Quantized<'_>,
    layer: &Linear,
    kernel: &Int8Kernel,
    epilogue: Epilogue<'_>,
) {
    if tokens.scale.len() < FEWEST_ROWS {
        return int8::multiply(tokens, layer, kernel, epilogue);
    }
    // SAFETY: by this function's contract.
    let unit = unsafe { Amx::configure() };
    multiply_in_tiles(&unit, tokens, layer, kernel, epilogue);
}

/// The same in any tiles.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vnni")]
fn multiply_in_tiles<T: TileUnit>(
    unit: &T,
    tokens: Quantized<'_>,
    layer: &Linear,
    kernel: &Int8Kernel,
    epilogue: Epilogue<'_>,
) {
    let rows = tokens.scale.len();
    let sink = Sink::new(epilogue, rows, layer);
    let stride = tokens.stride;
    let steps = layer.inputs.div_ceil(INPUT_MULTIPLE);
    assert!(steps * INPUT_MULTIPLE <= stride && tokens.bytes.len() >= rows * stride);
    // Tiles are read in full, and what follows the last row is another thread's.
    let whole = rows / BLOCK_ROWS * BLOCK_ROWS;
    let left = rows - whole;
    let mut tail = Aligned::<u8>::zeroed(left.next_multiple_of(TILE_ROWS) * stride);
    tail[..left * stride].copy_from_slice(&tokens.bytes[whole * stride..rows * stride]);
    let mut sums = Aligned::<i32>::zeroed(BLOCK_ROWS * PANEL);
    for panel in 0..layer.panels() {
        let panel = Panel::new(tokens, layer, kernel, panel, sink);
        let weights = panel.weights().as_ptr();
        for first in (0..rows).step_by(BLOCK_ROWS) {
            let source = match first < whole {
                true => tokens.bytes[first * stride..].as_ptr(),
                false => tail.as_ptr(),
            };
            let count = (rows - first).min(BLOCK_ROWS);
            for half in 0..PANEL / BLOCK_CHANNELS {
                let channel = half * BLOCK_CHANNELS;
                // SAFETY: a whole block of the tokens, or the tail, which is filled up to whole
                // tiles, has the rows and inputs; a panel has whole steps of weights; the buffer
                // has the rows of a block.
                unsafe {
                    let weights = weights.add(channel * GROUP);
                    let sums = sums.as_mut_ptr().add(channel);
                    match count <= TILE_ROWS {
                        true => unit.multiply::<1>(source, stride, weights, steps, sums),
                        false => unit.multiply::<2>(source, stride, weights, steps, sums),
                    }
                }
            }
            for (row, sums) in sums.chunks_exact(PANEL).take(count).enumerate() {
                // SAFETY: a row of sums has four vectors; the row is among the tokens.
                unsafe {
                    let sums = std::array::from_fn(|vector| {
                        _mm512_loadu_si512(sums.as_ptr().add(vector * 16).cast())
                    });
                    panel.finish(first + row, sums);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
