//! Keys and values of one KV head: on the host, where the kernels read them, or on a device.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use tch::{Device, Kind, TchError, Tensor};

use crate::kernels::RowsRef;
use crate::kv::{RowKind, Rows};

/// Rows of one length.
#[derive(Debug)]
pub(super) enum KvRows {
    /// In memory, in any type.
    Host(Rows),
    /// In a tensor `[room, dim]`, of which the first `len` rows are in use.
    Device { buffer: Buffer, len: usize },
}

/// A tensor that threads may share: its handle is not to be used by two at once.
#[derive(Debug)]
pub(super) struct Buffer(Mutex<Tensor>);

impl Buffer {
    fn new(tensor: Tensor) -> Self {
        Buffer(Mutex::new(tensor))
    }

    /// Another handle of the same memory.
    fn tensor(&self) -> Tensor {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.shallow_clone()
    }
}

/// Keys and the values that belong to them.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    pub(super) keys: KvRows,
    pub(super) values: KvRows,
}

/// Keys or values of new tokens: as floats and, where a device may want them, as a tensor `[tokens, heads, dim]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fresh<'a> {
    /// Those of each token, head by head, `stride` floats after those of the one before.
    pub(super) floats: &'a [f32],
    pub(super) stride: usize,
    pub(super) tokens: usize,
    pub(super) tensor: Option<&'a Tensor>,
    pub(super) dim: usize,
}

impl<'a> Fresh<'a> {
    /// Of each token in order.
    pub(super) fn rows(&self, head: usize) -> impl Iterator<Item = &'a [f32]> {
        let (floats, stride, dim) = (self.floats, self.stride, self.dim);
        (0..self.tokens).map(move |token| &floats[token * stride + head * dim..][..dim])
    }
}

/// Where and in which type rows are stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Place {
    /// The type of rows at full precision.
    pub(super) float: RowKind,
    /// Whether older rows are stored as int8.
    pub(super) int8: bool,
    pub(super) device: Device,
}

impl Place {
    fn kind(&self) -> Kind {
        match self.float {
            RowKind::Bfloat16 => Kind::BFloat16,
            _ => Kind::Float,
        }
    }

    /// Types of keys and values of the arena, where rows stay.
    pub(super) fn arena(&self) -> (RowKind, RowKind) {
        match self.int8 {
            true => (RowKind::Int8Rotated, RowKind::Int8),
            false => (self.float, self.float),
        }
    }

    /// Bytes of a key and a value in the arena.
    pub(super) fn pair_bytes(&self, dim: usize) -> usize {
        let (keys, values) = self.arena();
        keys.row_bytes(dim) + values.row_bytes(dim)
    }
}

impl Pair {
    /// No rows, of the type in which rows stay.
    pub(super) fn arena(place: Place, dim: usize) -> Result<Self, TchError> {
        if !place.device.is_cuda() {
            let (keys, values) = place.arena();
            return Ok(Pair {
                keys: KvRows::Host(Rows::new(keys, dim)),
                values: KvRows::Host(Rows::new(values, dim)),
            });
        }
        Pair::float(place, dim)
    }

    /// No rows, at full precision.
    pub(super) fn float(place: Place, dim: usize) -> Result<Self, TchError> {
        Ok(Pair {
            keys: KvRows::float(place, dim)?,
            values: KvRows::float(place, dim)?,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.keys.bytes() + self.values.bytes()
    }

    /// Undoes [`Pair::swap_remove`] of `slot`, whose row is row `from` of `other`; on the host.
    pub(super) fn restore(
        &mut self,
        slot: usize,
        other: &Pair,
        from: usize,
    ) -> Result<(), TchError> {
        self.keys.restore(slot, &other.keys, from)?;
        self.values.restore(slot, &other.values, from)
    }

    pub(super) fn swap_remove(&mut self, slot: usize) -> Result<(), TchError> {
        self.keys.swap_remove(slot)?;
        self.values.swap_remove(slot)
    }

    pub(super) fn remove(&mut self, range: Range<usize>) -> Result<(), TchError> {
        self.keys.remove(range.clone())?;
        self.values.remove(range)
    }

    pub(super) fn reserve(&mut self, rows: usize) -> Result<(), TchError> {
        self.keys.reserve(rows)?;
        self.values.reserve(rows)
    }

    pub(super) fn push_from(&mut self, other: &Pair, slot: usize) -> Result<(), TchError> {
        self.keys.push_from(&other.keys, slot)?;
        self.values.push_from(&other.values, slot)
    }

    /// Adds row `slot` of a pair on the host.
    pub(super) fn push_host(&mut self, host: &Pair, slot: usize) -> Result<(), TchError> {
        self.keys.push_host(&host.keys, slot)?;
        self.values.push_host(&host.values, slot)
    }

    /// Gives back what is allocated beyond the rows, on the host.
    pub(super) fn shrink(&mut self) {
        for rows in [&mut self.keys, &mut self.values] {
            if let KvRows::Host(rows) = rows {
                rows.shrink();
            }
        }
    }

    /// Takes out the first `count` rows.
    pub(super) fn split_front(&mut self, count: usize) -> Result<Pair, TchError> {
        Ok(Pair {
            keys: self.keys.split_front(count)?,
            values: self.values.split_front(count)?,
        })
    }
}

impl KvRows {
    fn float(place: Place, dim: usize) -> Result<Self, TchError> {
        if place.device.is_cuda() {
            KvRows::device(place, dim)
        } else {
            Ok(KvRows::Host(Rows::new(place.float, dim)))
        }
    }

    fn device(place: Place, dim: usize) -> Result<Self, TchError> {
        Ok(KvRows::Device {
            buffer: Buffer::new(Tensor::f_empty(
                [0, dim as i64],
                (place.kind(), place.device),
            )?),
            len: 0,
        })
    }

    pub(super) fn len(&self) -> usize {
        match self {
            KvRows::Host(rows) => rows.len(),
            KvRows::Device { len, .. } => *len,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            KvRows::Host(rows) => rows.bytes(),
            KvRows::Device { buffer, .. } => super::weights::bytes(&buffer.tensor()),
        }
    }

    pub(super) fn host(&self) -> Option<&Rows> {
        match self {
            KvRows::Host(rows) => Some(rows),
            KvRows::Device { .. } => None,
        }
    }

    /// Rows `range` for the kernels; `None` on a device.
    pub(super) fn view(&self, range: Range<usize>) -> Option<RowsRef<'_>> {
        self.host().map(|rows| rows.view(range))
    }

    pub(super) fn reserve(&mut self, rows: usize) -> Result<(), TchError> {
        match self {
            KvRows::Host(host) => {
                host.reserve(rows);
                Ok(())
            }
            KvRows::Device { buffer, len } => {
                let old = buffer.tensor();
                let size = old.size();
                if rows as i64 <= size[0] {
                    return Ok(());
                }
                let larger = Tensor::f_zeros([rows as i64, size[1]], (old.kind(), old.device()))?;
                larger
                    .f_narrow(0, 0, *len as i64)?
                    .f_copy_(&old.f_narrow(0, 0, *len as i64)?)?;
                *buffer = Buffer::new(larger);
                Ok(())
            }
        }
    }

    /// Rows that fit without another allocation.
    pub(super) fn room(&self) -> usize {
        match self {
            KvRows::Host(rows) => rows.room(),
            KvRows::Device { buffer, .. } => buffer.tensor().size()[0] as usize,
        }
    }

    /// Adds head `head` of fresh rows.
    pub(super) fn extend(&mut self, fresh: &Fresh<'_>, head: usize) -> Result<(), TchError> {
        match (&mut *self, fresh.tensor) {
            (KvRows::Host(rows), _) => {
                fresh.rows(head).for_each(|row| rows.push(row));
                Ok(())
            }
            (KvRows::Device { .. }, Some(tensor)) => {
                let fresh = tensor.f_select(1, head as i64)?;
                self.extend_tensor(&fresh)
            }
            (KvRows::Device { .. }, None) => Err(TchError::Convert(
                "rows for a device come as a tensor".to_owned(),
            )),
        }
    }

    fn extend_tensor(&mut self, fresh: &Tensor) -> Result<(), TchError> {
        let count = fresh.size()[0] as usize;
        if self.len() + count > self.room() {
            self.reserve((self.len() + count).max(self.room() * 3 / 2))?;
        }
        if let KvRows::Device { buffer, len } = self {
            buffer
                .tensor()
                .f_narrow(0, *len as i64, count as i64)?
                .f_copy_(fresh)?;
            *len += count;
        }
        Ok(())
    }

    fn push_from(&mut self, other: &KvRows, slot: usize) -> Result<(), TchError> {
        match (&mut *self, other) {
            (KvRows::Host(to), KvRows::Host(from)) => {
                to.push_from(from, slot);
                Ok(())
            }
            (KvRows::Device { .. }, KvRows::Device { buffer, .. }) => {
                let row = buffer.tensor().f_narrow(0, slot as i64, 1)?;
                self.extend_tensor(&row)
            }
            _ => Err(TchError::Convert(
                "rows of one sequence lie on one device".to_owned(),
            )),
        }
    }

    fn push_host(&mut self, host: &KvRows, slot: usize) -> Result<(), TchError> {
        let mut row = vec![0.0; host.host().map_or(0, Rows::dim)];
        host.read(slot, &mut row)?;
        match self {
            KvRows::Host(rows) => {
                rows.push(&row);
                Ok(())
            }
            KvRows::Device { .. } => {
                self.extend_tensor(&Tensor::f_from_slice(&row)?.f_unsqueeze(0)?)
            }
        }
    }

    fn swap_remove(&mut self, slot: usize) -> Result<(), TchError> {
        match self {
            KvRows::Host(rows) => rows.swap_remove(slot),
            KvRows::Device { buffer, len } => {
                *len -= 1;
                let last = buffer.tensor().f_narrow(0, *len as i64, 1)?.copy();
                buffer
                    .tensor()
                    .f_narrow(0, slot as i64, 1)?
                    .f_copy_(&last)?;
            }
        }
        Ok(())
    }

    fn restore(&mut self, slot: usize, other: &KvRows, from: usize) -> Result<(), TchError> {
        match (self, other) {
            (KvRows::Host(rows), KvRows::Host(other)) => {
                rows.restore(slot, other, from);
                Ok(())
            }
            _ => Err(TchError::Convert(
                "only rows on the host are taken back".to_owned(),
            )),
        }
    }

    fn remove(&mut self, range: Range<usize>) -> Result<(), TchError> {
        match self {
            KvRows::Host(rows) => rows.remove(range),
            KvRows::Device { buffer, len } => {
                let behind = (*len - range.end) as i64;
                let moved = buffer
                    .tensor()
                    .f_narrow(0, range.end as i64, behind)?
                    .copy();
                buffer
                    .tensor()
                    .f_narrow(0, range.start as i64, behind)?
                    .f_copy_(&moved)?;
                *len -= range.len();
            }
        }
        Ok(())
    }

    fn split_front(&mut self, count: usize) -> Result<KvRows, TchError> {
        match self {
            KvRows::Host(rows) if rows.len() == count => {
                let rest = Rows::new(rows.kind(), rows.dim());
                let mut front = std::mem::replace(rows, rest);
                front.shrink();
                Ok(KvRows::Host(front))
            }
            KvRows::Host(rows) => {
                let mut front = Rows::new(rows.kind(), rows.dim());
                front.reserve(count);
                (0..count).for_each(|slot| front.push_from(rows, slot));
                rows.remove(0..count);
                Ok(KvRows::Host(front))
            }
            KvRows::Device { buffer, .. } => {
                let front = buffer.tensor().f_narrow(0, 0, count as i64)?.copy();
                self.remove(0..count)?;
                Ok(KvRows::Device {
                    buffer: Buffer::new(front),
                    len: count,
                })
            }
        }
    }

    /// Row `slot` as floats.
    pub(super) fn read(&self, slot: usize, row: &mut [f32]) -> Result<(), TchError> {
        match self {
            KvRows::Host(rows) => {
                rows.read(slot, row);
                Ok(())
            }
            KvRows::Device { buffer, .. } => {
                let stored = buffer
                    .tensor()
                    .f_select(0, slot as i64)?
                    .f_to_kind(Kind::Float)?;
                let len = row.len();
                stored.f_copy_data(row, len)
            }
        }
    }

    /// Replaces row `slot`.
    pub(super) fn write(&mut self, slot: usize, row: &[f32]) -> Result<(), TchError> {
        match self {
            KvRows::Host(rows) => {
                rows.write(slot, row);
                Ok(())
            }
            KvRows::Device { buffer, .. } => {
                let fresh = Tensor::f_from_slice(row)?;
                buffer.tensor().f_select(0, slot as i64)?.f_copy_(&fresh)?;
                Ok(())
            }
        }
    }

    /// All rows as floats, appended to `out`.
    pub(super) fn read_all(&self, out: &mut Vec<f32>) -> Result<(), TchError> {
        match self {
            KvRows::Host(rows) => {
                rows.read_all(0..rows.len(), out);
                Ok(())
            }
            KvRows::Device { buffer, len } => {
                let stored = buffer.tensor().f_narrow(0, 0, *len as i64)?;
                let stored = stored.f_to_kind(Kind::Float)?.f_contiguous()?;
                let (from, count) = (out.len(), stored.numel());
                out.resize(from + count, 0.0);
                stored.f_copy_data(&mut out[from..], count)
            }
        }
    }

    /// The rows in use as a tensor, on a device; `None` on the host.
    fn on_device(&self) -> Result<Option<Tensor>, TchError> {
        match self {
            KvRows::Host(_) => Ok(None),
            KvRows::Device { buffer, len } => {
                Ok(Some(buffer.tensor().f_narrow(0, 0, *len as i64)?))
            }
        }
    }
}

/// The rows of all segments behind each other, `[rows, dim]`, in the compute type.
pub(super) fn concat(
    segments: &[&KvRows],
    dim: usize,
    kind: Kind,
    device: Device,
) -> Result<Tensor, TchError> {
    if device.is_cuda() {
        let mut parts = Vec::with_capacity(segments.len());
        for segment in segments {
            // What was recalled, and means of what was evicted, lie on the host.
            if segment.host().is_some() {
                let mut floats = Vec::new();
                segment.read_all(&mut floats)?;
                let rows = Tensor::f_from_slice(&floats)?.f_view([-1, dim as i64])?;
                parts.push(rows.f_to_kind(kind)?.f_to_device(device)?);
            }
            parts.extend(
                segment
                    .on_device()?
                    .map(|t| t.f_to_kind(kind))
                    .transpose()?,
            );
        }
        return Tensor::f_cat(&parts, 0)?.f_to_kind(kind);
    }
    let rows: usize = segments.iter().map(|segment| segment.len()).sum();
    let mut floats = Vec::with_capacity(rows * dim);
    for segment in segments {
        segment.read_all(&mut floats)?;
    }
    let all = Tensor::f_from_slice(&floats)?.f_view([-1, dim as i64])?;
    super::weights::to_kind(&all, kind)
}

impl Clone for KvRows {
    fn clone(&self) -> Self {
        match self {
            KvRows::Host(rows) => KvRows::Host(rows.clone()),
            KvRows::Device { buffer, len } => KvRows::Device {
                buffer: Buffer::new(buffer.tensor().copy()),
                len: *len,
            },
        }
    }
}
