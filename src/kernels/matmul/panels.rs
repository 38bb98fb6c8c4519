//! The memory of weights of one format: panels of interleaved rows.

use std::ops::Range;

use super::format::Format;
use super::packing::{LINE, Packing, ROWS, UNIT, with_packing};
use crate::kernels::slabs::{Piece, Slabs};

/// Rows of one format, row `r` in lane `r % ROWS` of panel `r / ROWS`. What fills the last panel and the last unit is 0.
pub(super) struct Panels {
    pub(super) format: Format,
    pub(super) rows: usize,
    layout: Layout,
    bytes: Piece,
}

/// Where the fields of a panel are.
#[derive(Clone, Copy)]
struct Layout {
    /// Bytes that a row has in all units, and in all scales.
    row_units: usize,
    row_scales: usize,
    unit_field: usize,
    scale_fields: &'static [usize],
    /// Bytes of a panel.
    stride: usize,
}

impl Layout {
    fn new<P: Packing>(cols: usize) -> Layout {
        let units = cols.div_ceil(UNIT);
        let row_units = units * P::UNIT_BYTES;
        let row_scales = units * UNIT / P::SPAN * P::SCALE_BYTES;
        Layout {
            row_units,
            row_scales,
            unit_field: P::UNIT_FIELD,
            scale_fields: P::SCALE_FIELDS,
            stride: ((row_units + row_scales) * ROWS).next_multiple_of(LINE),
        }
    }

    /// Bytes of a row.
    fn row(&self) -> usize {
        self.row_units + self.row_scales
    }

    /// Where each field of a row's scales is among them, and where it starts among those of the panel.
    fn scales(&self, lane: usize) -> impl Iterator<Item = (Range<usize>, usize)> {
        let widths = self.scale_fields.iter().cycle();
        let fields = widths.scan(0, move |end, width| {
            let start = *end;
            *end += width;
            Some((start..*end, start * ROWS + lane * width))
        });
        let end = self.row_scales;
        fields.take_while(move |(range, _)| range.end <= end)
    }
}

impl Panels {
    /// From whole rows of blocks as they are in a file.
    pub(super) fn pack(
        slabs: &Slabs,
        format: Format,
        rows: usize,
        cols: usize,
        blocks: &[u8],
    ) -> Panels {
        with_packing!(format, P => Self::pack_as::<P>(slabs, format, rows, cols, blocks))
    }

    fn pack_as<P: Packing>(
        slabs: &Slabs,
        format: Format,
        rows: usize,
        cols: usize,
        blocks: &[u8],
    ) -> Panels {
        let layout = Layout::new::<P>(cols);
        let mut panels = Panels {
            format,
            rows,
            layout,
            bytes: slabs.take(rows.div_ceil(ROWS) * layout.stride),
        };
        let block = P::SPAN / format.block_elements() * format.block_bytes();
        let mut padded = vec![0; cols.div_ceil(P::SPAN) * block];
        let mut packed = vec![0; layout.row()];
        for (row, blocks) in blocks.chunks_exact(blocks.len() / rows).enumerate() {
            padded[..blocks.len()].copy_from_slice(blocks);
            let (units, scales) = packed.split_at_mut(layout.row_units);
            let units = units.chunks_exact_mut(P::SPAN / UNIT * P::UNIT_BYTES);
            for (i, (block, units)) in padded.chunks_exact(block).zip(units).enumerate() {
                P::pack(
                    block,
                    units,
                    &mut scales[i * P::SCALE_BYTES..][..P::SCALE_BYTES],
                );
            }
            panels.put(row, &packed);
        }
        panels
    }

    /// Puts the rows in another order: row `i` becomes row `order[i]` of what was.
    pub(super) fn permute(&mut self, order: &[usize]) {
        let row = self.layout.row();
        let mut packed = vec![0; order.len() * row];
        for (packed, from) in packed.chunks_exact_mut(row).zip(order) {
            self.get(*from, packed);
        }
        for (row, packed) in packed.chunks_exact(row).enumerate() {
            self.put(row, packed);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.div_ceil(ROWS)
    }

    /// Bytes of all panels.
    pub(super) fn bytes(&self) -> usize {
        self.len() * self.layout.stride
    }

    pub(super) fn panel(&self, index: usize) -> &[u8] {
        &self.bytes[index * self.layout.stride..][..self.layout.stride]
    }

    /// The memory of neighbouring panels.
    pub(super) fn stretch(&self, panels: Range<usize>) -> &[u8] {
        let stride = self.layout.stride;
        &self.bytes[panels.start * stride..panels.end * stride]
    }

    /// Writes the fields of a row into its lane.
    fn put(&mut self, row: usize, packed: &[u8]) {
        let layout = self.layout;
        let start = row / ROWS * layout.stride;
        let panel = &mut self.bytes[start..][..layout.stride];
        let (units, scales) = packed.split_at(layout.row_units);
        match layout.unit_field {
            4 => put_fields::<4>(units, row % ROWS, panel),
            2 => put_fields::<2>(units, row % ROWS, panel),
            _ => put_fields::<1>(units, row % ROWS, panel),
        }
        let panel = &mut panel[layout.row_units * ROWS..];
        for (range, lane) in layout.scales(row % ROWS) {
            panel[lane..][..range.len()].copy_from_slice(&scales[range]);
        }
    }

    /// Reads the fields of a row from its lane.
    fn get(&self, row: usize, packed: &mut [u8]) {
        let layout = self.layout;
        let panel = self.panel(row / ROWS);
        let (units, scales) = packed.split_at_mut(layout.row_units);
        match layout.unit_field {
            4 => get_fields::<4>(panel, row % ROWS, units),
            2 => get_fields::<2>(panel, row % ROWS, units),
            _ => get_fields::<1>(panel, row % ROWS, units),
        }
        let panel = &panel[layout.row_units * ROWS..];
        for (range, lane) in layout.scales(row % ROWS) {
            let len = range.len();
            scales[range].copy_from_slice(&panel[lane..][..len]);
        }
    }
}

fn put_fields<const WIDTH: usize>(packed: &[u8], lane: usize, panel: &mut [u8]) {
    let (fields, _) = packed.as_chunks::<WIDTH>();
    let (slots, _) = panel.as_chunks_mut::<WIDTH>();
    for (slot, field) in slots.iter_mut().skip(lane).step_by(ROWS).zip(fields) {
        *slot = *field;
    }
}

fn get_fields<const WIDTH: usize>(panel: &[u8], lane: usize, packed: &mut [u8]) {
    let (fields, _) = packed.as_chunks_mut::<WIDTH>();
    let (slots, _) = panel.as_chunks::<WIDTH>();
    for (slot, field) in slots.iter().skip(lane).step_by(ROWS).zip(fields) {
        *field = *slot;
    }
}
