//! Plain numbers: the same in the file and here.
#![allow(
    unsafe_code,
    reason = "vector loads take pointers, whose bounds the callers vouch for"
)]

use half::{bf16, f16};

use super::{At, Packing, ROWS, UNIT};
use crate::kernels::lanes::Lanes;

macro_rules! plain {
    ($name:ident, $element:ty, $load:ident) => {
        pub(in super::super) struct $name;

        impl Packing for $name {
            const SPAN: usize = UNIT;
            const GROUP: usize = UNIT;
            const UNIT_BYTES: usize = UNIT * size_of::<$element>();
            const UNIT_FIELD: usize = size_of::<$element>();
            const SCALE_FIELDS: &'static [usize] = &[];

            fn pack(block: &[u8], units: &mut [u8], _: &mut [u8]) {
                units.copy_from_slice(block);
            }

            #[inline(always)]
            unsafe fn scales<L: Lanes>(lanes: L, _: At, _: usize) -> [L::Vector; 2] {
                [lanes.splat(1.0), lanes.splat(0.0)]
            }

            #[inline(always)]
            unsafe fn four<L: Lanes, const PART: usize>(lanes: L, at: At) -> [L::Vector; 4] {
                let first = at.field::<$element>(4 * PART * size_of::<$element>());
                // SAFETY: 4 of the 16 fields of a unit, which lie ROWS elements apart.
                unsafe {
                    [
                        lanes.$load(first),
                        lanes.$load(first.add(ROWS)),
                        lanes.$load(first.add(2 * ROWS)),
                        lanes.$load(first.add(3 * ROWS)),
                    ]
                }
            }
        }
    };
}

plain!(F32, f32, load);
plain!(F16, f16, load_f16);
plain!(Bf16, bf16, load_bf16);
