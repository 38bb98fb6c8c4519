//! A sequence's cache as numbers, to be written to a file and read back: everything that decides its next token.

use half::bf16;

use super::cache::SequenceCache;
use super::cold::{Cold, Evicted};
use super::head::HeadCache;
use super::kv_rows::{KvRows, Pair, Place};
use crate::kv::{HeadSlots, KvShape, Policy, QueryStats, RowKind, Rows, Stored, Summary};
use crate::store::state_file::{Data, Sections, StateError};

/// All heads' numbers of one kind behind each other.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Per head: arena, hot, norms, values of the query sum, spilled rows, the capacity (`u32::MAX` for none), means of
    /// evicted rows and the width of each.
    counts: Vec<u32>,
    /// Tokens seen, next rotation, re-bases, 1 if anything was ever evicted; and of a sequence that was paused, queries
    /// of its prompt that were observed, and 1 in the middle of it. Sessions rest between prompts: older files end
    /// before those two.
    progress: Vec<u32>,
    positions: Vec<u32>,
    rotated: Vec<u32>,
    sums: Vec<f32>,
    fast: Vec<f32>,
    norms: Vec<f32>,
    stats: Vec<f32>,
    cold_entries: Vec<u32>,
    /// Counts, keys and values.
    means: Vec<f32>,
    /// Arena rows, hot rows, spilled rows; keys before values within a head.
    floats: Vec<f32>,
    halves: Vec<bf16>,
    bytes: Vec<i8>,
    scales: Vec<f32>,
}

const COUNTS: usize = 8;

/// Why a file's numbers make no cache.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadState {
    #[error(transparent)]
    File(#[from] StateError),
    #[error(
        "{0} does not fit the rest of the file: the file is damaged or was made by another program"
    )]
    Inconsistent(&'static str),
    #[error("the tensor library failed: {0}")]
    Tensor(#[from] tch::TchError),
}

impl State {
    /// The numbers of `cache`, whose rows must all be its own.
    pub(super) fn of(cache: &SequenceCache) -> Result<Self, BadState> {
        let mut state = State {
            progress: cache.progress().to_vec(),
            ..State::default()
        };
        for head in cache.heads() {
            state.add(head)?;
        }
        Ok(state)
    }

    fn add(&mut self, head: &HeadCache) -> Result<(), BadState> {
        let slots = &head.slots;
        let cold = head.cold.as_ref().map_or(0, Cold::len);
        let count = |n: usize| n as u32;
        self.counts.extend([
            count(head.arena.len()),
            count(head.hot.len()),
            count(slots.norms().len()),
            count(head.stats.sum.len()),
            count(cold),
            head.capacity.map_or(u32::MAX, count),
            head.summary.as_ref().map_or(0, |means| count(means.len())),
            head.summary.as_ref().map_or(1, Summary::width),
        ]);
        if let Some(means) = &head.summary {
            self.means.extend(means.counts());
            self.means.extend(means.keys());
            self.means.extend(means.values());
        }
        self.positions.extend(slots.positions());
        self.rotated.extend(slots.rotated());
        self.sums.extend(slots.sums());
        self.fast.extend(slots.fast());
        self.norms.extend(slots.norms());
        if !head.stats.sum.is_empty() {
            self.stats.push(head.stats.count as f32);
            self.stats.extend(&head.stats.sum);
            self.stats.extend(&head.stats.outer);
        }
        self.rows(&head.arena.keys)?;
        self.rows(&head.arena.values)?;
        self.rows(&head.hot.keys)?;
        self.rows(&head.hot.values)?;
        let Some(cold) = &head.cold else {
            return Ok(());
        };
        for entry in cold.entries() {
            self.cold_entries
                .extend([entry.position, entry.rotated, entry.epoch]);
        }
        for page in 0..cold.len().div_ceil(super::cold::PAGE) {
            let page = cold.page(page)?;
            self.stored(page.0.stored());
            self.stored(page.1.stored());
        }
        Ok(())
    }

    fn rows(&mut self, rows: &KvRows) -> Result<(), BadState> {
        match rows.host() {
            Some(rows) => self.stored(rows.stored()),
            None => rows.read_all(&mut self.floats)?,
        }
        Ok(())
    }

    fn stored(&mut self, rows: Stored<'_>) {
        match rows {
            Stored::Float32(values) => self.floats.extend(values),
            Stored::Bfloat16(values) => self.halves.extend(values),
            Stored::Int8(values, scales) => {
                self.bytes.extend(values);
                self.scales.extend(scales);
            }
        }
    }

    /// The sections of a file.
    pub(super) fn sections(&self) -> Vec<(String, Data<'_>)> {
        let named = |name: &str, data| (name.to_owned(), data);
        vec![
            named("counts", Data::U32(&self.counts)),
            named("progress", Data::U32(&self.progress)),
            named("positions", Data::U32(&self.positions)),
            named("rotated", Data::U32(&self.rotated)),
            named("sums", Data::F32(&self.sums)),
            named("fast", Data::F32(&self.fast)),
            named("norms", Data::F32(&self.norms)),
            named("stats", Data::F32(&self.stats)),
            named("cold", Data::U32(&self.cold_entries)),
            named("means", Data::F32(&self.means)),
            named("float32", Data::F32(&self.floats)),
            named("bfloat16", Data::Bf16(&self.halves)),
            named("int8", Data::I8(&self.bytes)),
            named("scales", Data::F32(&self.scales)),
        ]
    }

    /// The sections of a file back.
    pub(super) fn from_sections(mut sections: Sections) -> Result<Self, BadState> {
        Ok(State {
            counts: sections.take("counts")?,
            progress: sections.take("progress")?,
            positions: sections.take("positions")?,
            rotated: sections.take("rotated")?,
            sums: sections.take("sums")?,
            fast: sections.take("fast")?,
            norms: sections.take("norms")?,
            stats: sections.take("stats")?,
            cold_entries: sections.take("cold")?,
            means: sections.take("means")?,
            floats: sections.take("float32")?,
            halves: sections.take("bfloat16")?,
            bytes: sections.take("int8")?,
            scales: sections.take("scales")?,
        })
    }

    /// The cache that these are the numbers of. Every count is checked against what is there.
    pub(super) fn into_cache(
        self,
        policy: Policy,
        shape: KvShape,
        place: Place,
        spill: Option<std::sync::Arc<crate::store::SpillFile>>,
    ) -> Result<SequenceCache, BadState> {
        if self.counts.len() != shape.layers * shape.kv_heads * COUNTS {
            return Err(BadState::Inconsistent("the number of heads"));
        }
        let progress = match *self.progress.as_slice() {
            [seen, next, rebased, evicted] => [seen, next, rebased, evicted, 0, 0],
            [seen, next, rebased, evicted, observed, middle] => {
                [seen, next, rebased, evicted, observed, middle]
            }
            _ => return Err(BadState::Inconsistent("the progress")),
        };
        let seen = progress[0];
        let mut cache = SequenceCache::new(policy, shape, place, spill)?;
        cache.set_progress(progress);
        let counts = self.counts.clone();
        let mut reader = Reader::new(self, shape.head_dim, place);
        for (head, counts) in cache.heads_mut().zip(counts.as_chunks::<COUNTS>().0) {
            reader.head(head, counts, seen)?;
        }
        reader.end()?;
        Ok(cache)
    }
}

/// Takes numbers from the front of each kind.
struct Reader {
    dim: usize,
    place: Place,
    positions: std::vec::IntoIter<u32>,
    rotated: std::vec::IntoIter<u32>,
    sums: std::vec::IntoIter<f32>,
    fast: std::vec::IntoIter<f32>,
    norms: std::vec::IntoIter<f32>,
    stats: std::vec::IntoIter<f32>,
    cold: std::vec::IntoIter<u32>,
    means: std::vec::IntoIter<f32>,
    floats: std::vec::IntoIter<f32>,
    halves: std::vec::IntoIter<bf16>,
    bytes: std::vec::IntoIter<i8>,
    scales: std::vec::IntoIter<f32>,
}

impl Reader {
    fn new(state: State, dim: usize, place: Place) -> Self {
        Reader {
            dim,
            place,
            positions: state.positions.into_iter(),
            rotated: state.rotated.into_iter(),
            sums: state.sums.into_iter(),
            fast: state.fast.into_iter(),
            norms: state.norms.into_iter(),
            stats: state.stats.into_iter(),
            cold: state.cold_entries.into_iter(),
            means: state.means.into_iter(),
            floats: state.floats.into_iter(),
            halves: state.halves.into_iter(),
            bytes: state.bytes.into_iter(),
            scales: state.scales.into_iter(),
        }
    }

    fn head(
        &mut self,
        head: &mut HeadCache,
        &[arena, hot, norms, stats, cold, capacity, means, width]: &[u32; COUNTS],
        seen: u32,
    ) -> Result<(), BadState> {
        let (arena, hot) = (arena as usize, hot as usize);
        let slots = arena + hot;
        let positions = take(&mut self.positions, slots, "positions")?;
        if positions.iter().any(|&p| p >= seen) {
            return Err(BadState::Inconsistent("a position"));
        }
        head.slots = HeadSlots::from_parts(
            positions,
            take(&mut self.rotated, slots, "rotations")?,
            take(&mut self.sums, slots, "sums")?,
            take(&mut self.fast, slots, "second scores")?,
            take(&mut self.norms, norms as usize, "norms")?,
        )
        .ok_or(BadState::Inconsistent("the bookkeeping of a head"))?;
        head.capacity = (capacity != u32::MAX).then_some(capacity as usize);
        if means > 0 {
            let (means, dim) = (means as usize, self.dim);
            let Some(empty) = head.summary.take() else {
                return Err(BadState::Inconsistent(
                    "means without a policy that makes them",
                ));
            };
            let counts = take(&mut self.means, means, "counts of means")?;
            let keys = take(&mut self.means, means * dim, "means of keys")?;
            let values = take(&mut self.means, means * dim, "means of values")?;
            let restored = empty.restored(width, counts, keys, values);
            head.summary = Some(restored.ok_or(BadState::Inconsistent("the means"))?);
        }
        let stats = stats as usize;
        if stats > 0 {
            if stats != self.dim {
                return Err(BadState::Inconsistent("the query statistics"));
            }
            let count = take(&mut self.stats, 1, "query counts")?;
            head.stats = QueryStats {
                count: count.iter().map(|&c| f64::from(c)).sum(),
                sum: take(&mut self.stats, stats, "query sums")?,
                outer: take(&mut self.stats, stats * stats, "query products")?,
            };
        }
        let (keys, values) = self.place.arena();
        head.arena = self.pair(arena, keys, values)?;
        head.hot = self.pair(hot, self.place.float, self.place.float)?;
        self.cold(head, cold as usize)
    }

    fn cold(&mut self, head: &mut HeadCache, len: usize) -> Result<(), BadState> {
        let mut left = len;
        let (mut key, mut value) = (vec![0.0; self.dim], vec![0.0; self.dim]);
        while left > 0 {
            let rows = left.min(super::cold::PAGE);
            let entries = take(&mut self.cold, rows * 3, "spilled entries")?;
            let pair = self.pair(rows, self.place.float, self.place.float)?;
            let Some(cold) = &mut head.cold else {
                return Err(BadState::Inconsistent(
                    "spilled rows without a policy that spills",
                ));
            };
            for (row, &[position, rotated, epoch]) in entries.as_chunks::<3>().0.iter().enumerate()
            {
                pair.keys.read(row, &mut key)?;
                pair.values.read(row, &mut value)?;
                let entry = Evicted {
                    position,
                    rotated,
                    epoch,
                };
                cold.push(entry, &key, &value)?;
            }
            left -= rows;
        }
        Ok(())
    }

    fn pair(&mut self, rows: usize, keys: RowKind, values: RowKind) -> Result<Pair, BadState> {
        let mut pair = Pair {
            keys: self.rows(rows, keys)?,
            values: self.rows(rows, values)?,
        };
        if self.place.device.is_cuda() {
            let host = pair;
            pair = Pair::float(self.place, self.dim)?;
            for row in 0..rows {
                pair.push_host(&host, row)?;
            }
        }
        Ok(pair)
    }

    fn rows(&mut self, rows: usize, kind: RowKind) -> Result<KvRows, BadState> {
        let count = rows * self.dim;
        let kind = if self.place.device.is_cuda() {
            RowKind::Float32
        } else {
            kind
        };
        let read = match kind {
            RowKind::Float32 => {
                Rows::from_float32(self.dim, take(&mut self.floats, count, "float32 rows")?)
            }
            RowKind::Bfloat16 => {
                Rows::from_bfloat16(self.dim, take(&mut self.halves, count, "bfloat16 rows")?)
            }
            RowKind::Int8 | RowKind::Int8Rotated => Rows::from_int8(
                self.dim,
                take(&mut self.bytes, count, "int8 rows")?,
                take(&mut self.scales, rows, "scales")?,
                kind == RowKind::Int8Rotated,
            ),
        };
        read.map(KvRows::Host)
            .ok_or(BadState::Inconsistent("the length of a row"))
    }

    /// Everything must have been taken.
    fn end(self) -> Result<(), BadState> {
        let left = self.positions.len()
            + self.rotated.len()
            + self.sums.len()
            + self.fast.len()
            + self.norms.len()
            + self.stats.len()
            + self.cold.len()
            + self.means.len()
            + self.floats.len()
            + self.halves.len()
            + self.bytes.len()
            + self.scales.len();
        match left {
            0 => Ok(()),
            _ => Err(BadState::Inconsistent("the end of the sections")),
        }
    }
}

fn take<T>(
    from: &mut std::vec::IntoIter<T>,
    count: usize,
    what: &'static str,
) -> Result<Vec<T>, BadState> {
    if from.len() < count {
        return Err(BadState::Inconsistent(what));
    }
    Ok(from.take(count).collect())
}
