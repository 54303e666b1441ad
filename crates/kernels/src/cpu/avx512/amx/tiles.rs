//! AMX's tiles: whether they may be used, their configuration, and products of blocks.

use std::{arch::asm, arch::x86_64::*};

use crate::cpu::avx512::block::{Bf16Product, Block, RIGHT_ROW, RIGHT_STEP, TILE_BYTES, TILE_ROWS};

/// Multiplies blocks of bytes and of bfloat16 in tiles.
pub(super) trait TileUnit: Bf16Product {
    /// Sums of unsigned times signed bytes, int32, for `ROW_TILES` tiles of rows, one or two.
    /// `next` is what is worth having in the second cache soon.
    ///
    /// # Safety
    /// The left factor has `16 · ROW_TILES` rows of `64 · steps` bytes, the right one the steps, and
    /// there is room for the rows of sums.
    unsafe fn multiply_bytes<const ROW_TILES: usize>(&self, block: Block, next: &[i8]);
}

/// The processor's own tiles. A value exists only where it has them and the system gave permission,
/// and while this thread's tiles are configured.
pub(super) struct Amx {
    _configured: (),
}

/// Whether the processor has AMX for bytes and bfloat16 and the system lets this process use it.
pub(in crate::cpu::avx512) fn is_usable() -> bool {
    const NEEDED: u32 = 1 << 25 | 1 << 24 | 1 << 22;
    const TILE_STATE: u64 = 1 << 17 | 1 << 18;
    if !is_x86_feature_detected!("xsave") || __cpuid_count(7, 0).edx & NEEDED != NEEDED {
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
    pub(super) unsafe fn configure() -> Self {
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
    unsafe fn multiply_bytes<const ROW_TILES: usize>(&self, block: Block, next: &[i8]) {
        let next_lines = next.len() / (block.steps * TILE_BYTES);
        let next = next.as_ptr();
        // SAFETY: by this method's contract.
        unsafe {
            match (ROW_TILES, next_lines) {
                (1, ..=4) => one_by_two::<4>(block, next),
                (1, ..=8) => one_by_two::<8>(block, next),
                (1, _) => one_by_two::<16>(block, next),
                (_, ..=5) => two_by_two::<5>(block, next),
                (_, ..=8) => two_by_two::<8>(block, next),
                (_, _) => two_by_two::<16>(block, next),
            }
        }
    }
}

impl Bf16Product for Amx {
    unsafe fn multiply_bf16(&self, block: Block) {
        let lower = block.sums.wrapping_add(TILE_ROWS * block.sums_stride);
        let second = block.left.wrapping_add(TILE_ROWS * block.left_stride);
        // SAFETY: loads and stores are those of the contract. All tiles that are used are listed as
        // overwritten.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "tileloadd tmm6, [{right} + {row}]",
                "tileloadd tmm4, [{left} + {stride}]",
                "tileloadd tmm7, [{right} + {row} + 64]",
                "tileloadd tmm5, [{second} + {stride}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {left}, 64",
                "add {second}, 64",
                "add {right}, {step}",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{sums} + {of_sums}], tmm0",
                "tilestored [{sums} + {of_sums} + 64], tmm1",
                "tilestored [{lower} + {of_sums}], tmm2",
                "tilestored [{lower} + {of_sums} + 64], tmm3",
                left = inout(reg) block.left => _,
                second = inout(reg) second => _,
                stride = in(reg) block.left_stride,
                right = inout(reg) block.right => _,
                row = in(reg) RIGHT_ROW,
                step = const RIGHT_STEP,
                steps = inout(reg) block.steps => _,
                sums = in(reg) block.sums,
                lower = in(reg) lower,
                of_sums = in(reg) block.sums_stride,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

/// One tile of rows times two of columns. `LINES` lines of `next` are asked for in each step.
///
/// # Safety
/// As of [`TileUnit::multiply_bytes`] with one tile of rows, and the tiles must be configured.
unsafe fn one_by_two<const LINES: usize>(block: Block, next: *const i8) {
    // SAFETY: loads and stores are those of the contract; a prefetch may name any address. All
    // tiles that are used are listed as overwritten.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "2:",
            "tileloadd tmm4, [{left} + {stride}]",
            "tileloadd tmm6, [{right} + {row}]",
            "tileloadd tmm7, [{right} + {row} + 64]",
            "tdpbusd tmm0, tmm4, tmm6",
            ".set line, 0",
            ".rept {lines}",
            "prefetcht1 [{next} + line]",
            ".set line, line + 64",
            ".endr",
            "tdpbusd tmm1, tmm4, tmm7",
            "add {left}, 64",
            "add {right}, {step}",
            "add {next}, 64 * {lines}",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{sums} + {of_sums}], tmm0",
            "tilestored [{sums} + {of_sums} + 64], tmm1",
            left = inout(reg) block.left => _,
            stride = in(reg) block.left_stride,
            right = inout(reg) block.right => _,
            row = in(reg) RIGHT_ROW,
            step = const RIGHT_STEP,
            steps = inout(reg) block.steps => _,
            sums = in(reg) block.sums,
            of_sums = in(reg) block.sums_stride,
            next = inout(reg) next => _,
            lines = const LINES,
            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// Two tiles of rows times two of columns.
///
/// # Safety
/// As of [`one_by_two`], with two tiles of rows.
unsafe fn two_by_two<const LINES: usize>(block: Block, next: *const i8) {
    let second = block.left.wrapping_add(TILE_ROWS * block.left_stride);
    let lower = block.sums.wrapping_add(TILE_ROWS * block.sums_stride);
    // SAFETY: as above.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            "tileloadd tmm6, [{right} + {row}]",
            "tileloadd tmm4, [{left} + {stride}]",
            "tileloadd tmm7, [{right} + {row} + 64]",
            "tdpbusd tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{second} + {stride}]",
            "tdpbusd tmm1, tmm4, tmm7",
            ".set line, 0",
            ".rept {lines}",
            "prefetcht1 [{next} + line]",
            ".set line, line + 64",
            ".endr",
            "tdpbusd tmm2, tmm5, tmm6",
            "tdpbusd tmm3, tmm5, tmm7",
            "add {left}, 64",
            "add {second}, 64",
            "add {right}, {step}",
            "add {next}, 64 * {lines}",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{sums} + {of_sums}], tmm0",
            "tilestored [{sums} + {of_sums} + 64], tmm1",
            "tilestored [{lower} + {of_sums}], tmm2",
            "tilestored [{lower} + {of_sums} + 64], tmm3",
            left = inout(reg) block.left => _,
            second = inout(reg) second => _,
            stride = in(reg) block.left_stride,
            right = inout(reg) block.right => _,
            row = in(reg) RIGHT_ROW,
            step = const RIGHT_STEP,
            steps = inout(reg) block.steps => _,
            sums = in(reg) block.sums,
            lower = in(reg) lower,
            of_sums = in(reg) block.sums_stride,
            next = inout(reg) next => _,
            lines = const LINES,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
