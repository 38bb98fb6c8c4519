//! Products of tiles of `bf16` (AMX, Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18).
//!
//! Stable Rust has no intrinsics for tiles, so they are inline assembly.
#![allow(
    unsafe_code,
    reason = "instructions and intrinsics, on a CPU that was asked for them"
)]

use std::arch::asm;
use std::arch::x86_64::*;
use std::marker::PhantomData;
use std::sync::OnceLock;

use half::bf16;

use super::Avx512;
use crate::kernels::lanes::Lanes;
use crate::kernels::line::Line;

/// Rows of a tile, and columns of a tile of sums.
pub(in crate::kernels) const TILE: usize = 16;

/// Columns of a tile of inputs: what one instruction sums over.
pub(in crate::kernels) const STEP: usize = 32;

/// Rows and columns of the sums that [`Tiles::product`] keeps in registers.
pub(in crate::kernels) const BLOCK: usize = 2 * TILE;

/// Proof that the CPU has AVX-512 with BF16 and tiles of it, and that this process may use them.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Amx(Avx512);

/// Something that is compiled for AVX-512 with BF16. `run` must be `#[inline(always)]`.
pub(in crate::kernels) trait AmxWork {
    fn run(self, amx: Amx);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn run<W: AmxWork>(amx: Amx, work: W) {
    work.run(amx);
}

impl Amx {
    pub(in crate::kernels) fn detect() -> Option<Self> {
        static ALLOWED: OnceLock<bool> = OnceLock::new();
        let avx512 = Avx512::detect()?;
        let allowed = *ALLOWED.get_or_init(|| {
            is_x86_feature_detected!("avx512bf16") && has_tiles() && request_tiles()
        });
        allowed.then_some(Amx(avx512))
    }

    pub(in crate::kernels) fn vectors(self) -> Avx512 {
        self.0
    }

    pub(in crate::kernels) fn run(self, work: impl AmxWork) {
        // SAFETY: the features were detected.
        unsafe { run(self, work) }
    }

    /// Of each lane, `low` rounded to `bf16` in the low half and `high` in the high one.
    #[inline(always)]
    pub(in crate::kernels) fn pairs(self, low: __m512, high: __m512) -> __m512i {
        // SAFETY: the features were detected, and a vector of 32 halves is as wide as one of 16 words.
        unsafe {
            let order = _mm512_set_epi16(
                31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5,
                20, 4, 19, 3, 18, 2, 17, 1, 16, 0,
            );
            let halves: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(high, low));
            _mm512_permutexvar_epi16(order, halves)
        }
    }

    /// What rounding to `pairs` took from `low` and `high`, rounded likewise.
    #[inline(always)]
    pub(in crate::kernels) fn rests(self, pairs: __m512i, low: __m512, high: __m512) -> __m512i {
        // SAFETY: the features were detected.
        unsafe {
            let upper = _mm512_and_si512(pairs, _mm512_set1_epi32(-65536));
            let lower = _mm512_slli_epi32::<16>(pairs);
            self.pairs(
                _mm512_sub_ps(low, _mm512_castsi512_ps(lower)),
                _mm512_sub_ps(high, _mm512_castsi512_ps(upper)),
            )
        }
    }

    /// Floats rounded to `bf16`, in order.
    #[inline(always)]
    pub(in crate::kernels) fn halves(self, [first, second]: [__m512; 2]) -> __m512i {
        // SAFETY: the features were detected, and a vector of 32 halves is as wide as one of 16 words.
        unsafe { std::mem::transmute(_mm512_cvtne2ps_pbh(second, first)) }
    }

    /// What rounding to `halves` took, rounded likewise.
    #[inline(always)]
    pub(in crate::kernels) fn rest(self, halves: __m512i, [first, second]: [__m512; 2]) -> __m512i {
        // SAFETY: the features were detected.
        unsafe {
            let widen =
                |half| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half)));
            let low = widen(_mm512_castsi512_si256(halves));
            let high = widen(_mm512_extracti64x4_epi64::<1>(halves));
            self.halves([_mm512_sub_ps(first, low), _mm512_sub_ps(second, high)])
        }
    }

    /// The first `count` of up to 16 floats, and zeros.
    ///
    /// # Safety
    ///
    /// `count` floats can be read.
    #[inline(always)]
    pub(in crate::kernels) unsafe fn load_first(self, from: *const f32, count: usize) -> __m512 {
        let mask = if count >= 16 {
            u16::MAX
        } else {
            (1 << count) - 1
        };
        // SAFETY: the feature was detected; lanes outside of the mask are not read.
        unsafe { _mm512_maskz_loadu_ps(mask, from) }
    }

    /// # Safety
    ///
    /// Two times [`TILE`] of them can be read.
    #[inline(always)]
    pub(in crate::kernels) unsafe fn load_halves(self, from: *const bf16) -> __m512i {
        // SAFETY: the feature was detected, and the caller's.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    /// The first [`TILE`] of both, in turns.
    ///
    /// # Safety
    ///
    /// As many can be read of each.
    #[inline(always)]
    pub(in crate::kernels) unsafe fn interleave(
        self,
        first: *const bf16,
        second: *const bf16,
    ) -> __m512i {
        // SAFETY: the feature was detected, and the caller's.
        unsafe {
            let low = _mm512_cvtepu16_epi32(_mm256_loadu_si256(first.cast()));
            let high = _mm512_cvtepu16_epi32(_mm256_loadu_si256(second.cast()));
            _mm512_or_si512(low, _mm512_slli_epi32::<16>(high))
        }
    }

    /// Word `i` of result `j` is word `j` of row `i`.
    #[inline(always)]
    pub(in crate::kernels) fn transpose(self, rows: [__m512i; TILE]) -> [__m512i; TILE] {
        // SAFETY: the feature was detected.
        unsafe {
            // Within quarters of vectors: pairs, then fours.
            let mut pairs = rows;
            for i in (0..TILE).step_by(2) {
                pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
                pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
            }
            let mut fours = pairs;
            for i in (0..TILE).step_by(4) {
                fours[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
                fours[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
                fours[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
                fours[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
            }
            // Then the quarters: of `fours[4 * r + c]`, quarter `q` holds column `4 * q + c` of rows `4 * r` and on.
            let mut columns = fours;
            for c in 0..4 {
                let [a, b, d, e] = [fours[c], fours[4 + c], fours[8 + c], fours[12 + c]];
                let (low, high) = (
                    _mm512_shuffle_i32x4::<0x88>(a, b),
                    _mm512_shuffle_i32x4::<0x88>(d, e),
                );
                columns[c] = _mm512_shuffle_i32x4::<0x88>(low, high);
                columns[8 + c] = _mm512_shuffle_i32x4::<0xdd>(low, high);
                let (low, high) = (
                    _mm512_shuffle_i32x4::<0xdd>(a, b),
                    _mm512_shuffle_i32x4::<0xdd>(d, e),
                );
                columns[4 + c] = _mm512_shuffle_i32x4::<0x88>(low, high);
                columns[12 + c] = _mm512_shuffle_i32x4::<0xdd>(low, high);
            }
            columns
        }
    }

    #[inline(always)]
    pub(in crate::kernels) fn store(self, to: &mut Line, words: __m512i) {
        // SAFETY: the feature was detected; a line is as long as the vector and aligned.
        unsafe { _mm512_store_si512(std::ptr::from_mut(to).cast(), words) }
    }

    /// Orders what was written past the caches before what this thread writes next.
    pub(in crate::kernels) fn fence(self) {
        // SAFETY: all that have tiles have it.
        unsafe { _mm_sfence() };
    }

    /// Writes a line past the caches; others may read it after [`Amx::fence`].
    ///
    /// # Safety
    ///
    /// `to` can be written, and lies on a cache line.
    #[inline(always)]
    pub(in crate::kernels) unsafe fn stream(self, to: *mut Line, from: &Line) {
        // SAFETY: the feature was detected, and the caller's.
        unsafe { _mm512_stream_ps(to.cast(), self.load(from)) };
    }

    #[inline(always)]
    pub(in crate::kernels) fn load(self, from: &Line) -> __m512 {
        // SAFETY: a line has 16 floats.
        unsafe { self.0.load(from.0.as_ptr()) }
    }

    /// Sets up the tiles of this thread, for as long as the result lives.
    pub(in crate::kernels) fn tiles(self) -> Tiles {
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

/// The operands of a product of [`BLOCK`] rows with [`BLOCK`] columns: of each two groups of [`TILE`] rows or columns,
/// and of those for every step a tile, or two where numbers are split in two halves: the larger, then the rest.
///
/// A tile of rows holds 32 `bf16` of each; one of columns 16 times a pair of `bf16` of each.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Operands {
    pub(in crate::kernels) rows: [*const Line; 2],
    pub(in crate::kernels) columns: [*const Line; 2],
    pub(in crate::kernels) steps: usize,
}

impl Tiles {
    /// Sets the [`BLOCK`] by [`BLOCK`] floats at `out`, whose rows lie `stride` floats apart, to the products; or adds
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
