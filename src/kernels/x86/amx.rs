//! Products of tiles of `bf16` (AMX, Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18).
//!
//! Stable Rust has no intrinsics for tiles, so they are inline assembly.
#![allow(unsafe_code, reason = "instructions, on a CPU that was asked for them")]

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::marker::PhantomData;
use std::sync::OnceLock;

use super::halves::{Operands, TILE};
use crate::kernels::line::Line;

/// Whether the CPU has tiles of `bf16`, and this process may use them.
pub(super) fn allowed() -> bool {
    static ALLOWED: OnceLock<bool> = OnceLock::new();
    *ALLOWED.get_or_init(|| has_tiles() && request_tiles())
}

/// The tiles of one thread, set up for products of `bf16`.
pub(in crate::kernels) struct Tiles(PhantomData<*const ()>);

impl Drop for Tiles {
    /// So that the system need not save them whenever it switches threads.
    fn drop(&mut self) {
        // SAFETY: there are tiles on this CPU, or there were no value of this type.
        unsafe {
            asm!(
                "tilerelease",
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, nomem)
            );
        }
    }
}

impl Tiles {
    /// Sets up the tiles of this thread, for as long as the result lives. Only where [`allowed`] said so.
    pub(super) fn new() -> Tiles {
        #[repr(C, align(64))]
        struct Config {
            palette: u8,
            start_row: u8,
            reserved: [u8; 14],
            row_bytes: [u16; 16],
            rows: [u8; 16],
        }
        let mut config = Config {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: [0; 16],
            rows: [0; 16],
        };
        config.row_bytes[..8].fill(64);
        config.rows[..8].fill(TILE as u8);
        // SAFETY: the CPU has tiles and the process may use them; the configuration is whole and valid: the one palette
        // that all such CPUs have, with 8 tiles of 16 rows of 64 bytes.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, readonly)) };
        Tiles(PhantomData)
    }

    /// Sets the [`super::halves::BLOCK`] by as many floats at `out`, whose rows lie `stride` floats apart, to the products; or adds
    /// the products to them.
    ///
    /// # Safety
    ///
    /// At each of the pointers, `steps * TILE` lines can be read (twice as many when `SPLIT`); `out` can be written.
    pub(in crate::kernels) unsafe fn product<const SPLIT: bool>(
        &self,
        operands: Operands,
        out: *mut f32,
        stride: usize,
        add: bool,
    ) {
        if operands.steps == 0 {
            return;
        }
        macro_rules! block {
            ($($line:literal,)*) => {
                asm!(
                    "test {add:e}, {add:e}",
                    "jz 3f",
                    "tileloadd tmm0, [{out} + {stride}*1]",
                    "tileloadd tmm1, [{out} + {stride}*1 + 64]",
                    "tileloadd tmm2, [{lower} + {stride}*1]",
                    "tileloadd tmm3, [{lower} + {stride}*1 + 64]",
                    "jmp 2f",
                    "3:",
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "2:",
                    $($line,)*
                    "dec {steps}",
                    "jnz 2b",
                    "tilestored [{out} + {stride}*1], tmm0",
                    "tilestored [{out} + {stride}*1 + 64], tmm1",
                    "tilestored [{lower} + {stride}*1], tmm2",
                    "tilestored [{lower} + {stride}*1 + 64], tmm3",
                    add = in(reg) u32::from(add),
                    out = in(reg) out,
                    lower = in(reg) out.wrapping_add(TILE * stride),
                    stride = in(reg) stride * size_of::<f32>(),
                    steps = inout(reg) operands.steps => _,
                    line = in(reg) size_of::<Line>(),
                    a0 = inout(reg) operands.rows[0] => _,
                    a1 = inout(reg) operands.rows[1] => _,
                    b0 = inout(reg) operands.columns[0] => _,
                    b1 = inout(reg) operands.columns[1] => _,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack)
                )
            };
        }
        // SAFETY: the tiles are set up on this thread, whose they are; by the caller, every address that is read or
        // written is in bounds.
        unsafe {
            if SPLIT {
                // The product of the two rests is left out: it is about as large as their rounding.
                block!(
                    "tileloadd tmm4, [{a0} + {line}*1 + 1024]",
                    "tileloadd tmm6, [{b0} + {line}*1]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tileloadd tmm7, [{b1} + {line}*1]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tileloadd tmm5, [{a1} + {line}*1 + 1024]",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tileloadd tmm4, [{a0} + {line}*1]",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "tileloadd tmm5, [{a1} + {line}*1]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tileloadd tmm6, [{b0} + {line}*1 + 1024]",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "tileloadd tmm7, [{b1} + {line}*1 + 1024]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "add {a0}, 2048",
                    "add {a1}, 2048",
                    "add {b0}, 2048",
                    "add {b1}, 2048",
                );
            } else {
                // Loads before products: some CPUs do not do both at the same time, and then lose least.
                block!(
                    "tileloadd tmm4, [{a0} + {line}*1]",
                    "tileloadd tmm6, [{b0} + {line}*1]",
                    "tileloadd tmm7, [{b1} + {line}*1]",
                    "tileloadd tmm5, [{a1} + {line}*1]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "add {a0}, 1024",
                    "add {a1}, 1024",
                    "add {b0}, 1024",
                    "add {b1}, 1024",
                );
            }
        }
    }
}

/// Whether the CPU has tiles of `bf16`.
fn has_tiles() -> bool {
    const BF16: u32 = 1 << 22;
    const TILES: u32 = 1 << 24;
    if cfg!(miri) || __cpuid(0).eax < 7 {
        return false;
    }
    let all = BF16 | TILES;
    __cpuid_count(7, 0).edx & all == all
}

/// Asks the system for the state of the tiles, which it keeps for those who ask only.
#[cfg(target_os = "linux")]
fn request_tiles() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_ulong = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_ulong = 18;
    // SAFETY: takes two numbers and touches no memory of ours; a system that does not know it says so.
    let result = unsafe {
        libc::syscall(
            libc::SYS_arch_prctl,
            ARCH_REQ_XCOMP_PERM,
            XFEATURE_XTILEDATA,
        )
    };
    result == 0
}

/// Nobody has tried it on another system.
#[cfg(not(target_os = "linux"))]
fn request_tiles() -> bool {
    false
}
