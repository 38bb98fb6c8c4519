//! Grouped-query attention over a sequence's segments, and the attention that every slot received.
//!
//! Two paths compute the same: the kernels take single queries over rows where they lie, in any type; libtorch's
//! products take whole chunks. One softmax spans all segments, so scores are always the global ones. On a CPU exact
//! scores cost little on top of an eager softmax; they are never approximated.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};

use tch::{Kind, TchError, Tensor};

use super::ModelConfig;
use super::block::Span;
use super::cache::{Reading, SequenceCache};
use super::head::HeadCache;
use super::kv_rows::{self, Pair};
use super::node::Node;
use crate::kernels::{self, Level, Pool, RowsRef, Scratch, Segment};
use crate::kv::{Fast, Need, Paid, Rows, Select, Summary};

/// Rows of up to this many tokens go through the kernels, where those can read the cache.
const KERNEL_TOKENS: usize = 8;

/// The constant part of a model's attention.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attention {
    pub(super) layer: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    /// Attention sees only this many last positions.
    pub(super) sliding_window: Option<usize>,
    /// Queries that are computed together: bounds the memory of a long prompt.
    pub(super) tile: usize,
}

/// The queries of one row: `[tokens, heads, head_dim]`, rotated, as a tensor and, on the host, as floats.
pub(super) struct Queries<'a> {
    pub(super) tensor: &'a Tensor,
    pub(super) floats: &'a [f32],
    /// The same before rotation.
    pub(super) plain: &'a Tensor,
}

/// The queries of all rows of a step, `[tokens, heads, head_dim]` each.
pub(super) struct HostQueries<'a> {
    pub(super) rotated: &'a [f32],
    pub(super) plain: &'a [f32],
}

impl Attention {
    /// Layer `layer` of a model.
    pub(super) fn of(config: &ModelConfig, layer: usize, tile: usize) -> Self {
        Attention {
            layer,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            sliding_window: config.sliding_window,
            tile,
        }
    }

    /// `[tokens, heads, head_dim]` -> per KV head `[tokens * group, head_dim]`.
    pub(super) fn by_kv_head(&self, queries: &[f32]) -> Vec<Vec<f32>> {
        let part = self.heads / self.kv_heads * self.head_dim;
        let mut heads = vec![Vec::new(); self.kv_heads];
        for (index, run) in queries.chunks_exact(part).enumerate() {
            heads[index % self.kv_heads].extend_from_slice(run);
        }
        heads
    }

    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Attends queries of tokens that were just written to `cache`. Returns `[tokens, heads * head_dim]`, row-major,
    /// and records what each slot received.
    pub(super) fn forward(
        &self,
        queries: &Queries<'_>,
        cache: &mut SequenceCache,
        reading: &Reading,
        scratch: &mut Scratch,
    ) -> Result<Attended, TchError> {
        let tokens = queries.tensor.size()[0] as usize;
        let need = cache.policy().need();
        let select = cache
            .policy()
            .select
            .filter(|select| tokens == 1 && self.layer >= select.full_layers);
        let (shared, heads) = cache.layer(self.layer);
        let host = heads.first().is_none_or(|h| h.arena.keys.host().is_some());
        let output = if host && tokens <= KERNEL_TOKENS {
            let part = self.group() * self.head_dim;
            let mut output = vec![0.0; tokens * self.heads * self.head_dim];
            for (index, head) in heads.iter_mut().enumerate() {
                let own = gather(queries.floats, index, part, self.kv_heads);
                let attended =
                    self.steps(index, &own, shared, head, (need, reading, select), scratch)?;
                scatter(&attended, index, part, self.kv_heads, &mut output);
            }
            Attended::Host(output)
        } else {
            let mut outputs = Vec::with_capacity(heads.len());
            for (index, head) in heads.iter_mut().enumerate() {
                outputs.push(self.chunk(index, queries.tensor, shared, head, need, reading)?);
            }
            // `[kv_heads][tokens, group * head_dim]` side by side.
            Attended::Device(Tensor::f_cat(&outputs, 1)?)
        };
        if need.fast == Fast::LastRow {
            average(heads);
        }
        if need.queries {
            for (index, head) in heads.iter_mut().enumerate() {
                self.observe(head, queries.plain, index)?;
            }
        }
        Ok(output)
    }

    /// All spans of a step through the kernels, heads side by side on the pool. Returns `[tokens, heads * head_dim]`.
    pub(super) fn on_host(
        &self,
        queries: &HostQueries<'_>,
        spans: &mut [Span<'_>],
        tokens: usize,
        pool: &Pool,
    ) -> Result<Vec<f32>, TchError> {
        let part = self.group() * self.head_dim;
        let stride = self.heads * self.head_dim;
        let mut jobs = Vec::with_capacity(spans.len() * self.kv_heads);
        for (number, span) in spans.iter_mut().enumerate() {
            let rows = span.offset * stride..(span.offset + span.tokens) * stride;
            let need = span.cache.policy().need();
            let select = span
                .cache
                .policy()
                .select
                .filter(|select| span.tokens == 1 && self.layer >= select.full_layers);
            let (shared, heads) = span.cache.layer(self.layer);
            for (index, head) in heads.iter_mut().enumerate() {
                if need.queries {
                    let plain = gather(&queries.plain[rows.clone()], index, part, self.kv_heads);
                    observe_floats(head, &plain, self.head_dim);
                }
                jobs.push(Mutex::new(HeadJob {
                    span: number,
                    index,
                    queries: gather(&queries.rotated[rows.clone()], index, part, self.kv_heads),
                    shared,
                    head,
                    how: (need, &span.reading, select),
                    attended: Ok(Vec::new()),
                }));
            }
        }
        pool.run(jobs.len(), |number| {
            let mut job = jobs[number].lock().unwrap_or_else(PoisonError::into_inner);
            let job = &mut *job;
            job.attended = SCRATCH.with_borrow_mut(|scratch| {
                self.steps(
                    job.index,
                    &job.queries,
                    job.shared,
                    job.head,
                    job.how,
                    scratch,
                )
            });
        });
        let mut output = vec![0.0; tokens * stride];
        let mut attended = Vec::with_capacity(jobs.len());
        for job in jobs {
            let job = job.into_inner().unwrap_or_else(PoisonError::into_inner);
            attended.push((job.span, job.index, job.attended?));
        }
        for (number, index, rows) in attended {
            let span = &spans[number];
            let own = span.offset * stride..(span.offset + span.tokens) * stride;
            scatter(&rows, index, part, self.kv_heads, &mut output[own]);
        }
        for span in spans {
            if span.cache.policy().need().fast == Fast::LastRow {
                average(span.cache.layer(self.layer).1);
            }
        }
        Ok(output)
    }

    /// One KV head, query by query, through the kernels: `[tokens, group * head_dim]` -> likewise.
    fn steps(
        &self,
        index: usize,
        queries: &[f32],
        shared: &[Arc<Node>],
        head: &mut HeadCache,
        (need, reading, select): (Need, &Reading, Option<Select>),
        scratch: &mut Scratch,
    ) -> Result<Vec<f32>, TchError> {
        let mut output = vec![0.0; queries.len()];
        let (group, dim) = (self.group(), self.head_dim);
        let tokens = reading.weights.len();
        let len = head.slots.len();
        let scale = 1.0 / (dim as f32).sqrt();
        let mut scaled = vec![0.0; group * dim];
        let mut mass = Vec::new();
        for token in 0..tokens {
            let own = token * group * dim..(token + 1) * group * dim;
            for (to, from) in scaled.iter_mut().zip(&queries[own.clone()]) {
                *to = from * scale;
            }
            let visible = len - (tokens - 1 - token);
            let at = (self.layer, index);
            let pages = match select {
                Some(select) => Some(self.pages(head, shared, at, select, &scaled)?),
                None => None,
            };
            let pages = pages.as_deref().zip(select.map(|select| select.page));
            let segments = segments(head, shared, at, visible, pages);
            let slots = segments.iter().map(|s| s.len).sum::<usize>();
            let bias = self.bias(head, visible, slots);
            let wanted = need.attention();
            if wanted {
                mass.resize(slots, 0.0);
            }
            kernels::attend(
                Level::best(),
                &scaled,
                dim,
                &segments,
                bias.as_deref(),
                scratch,
                &mut output[own],
                wanted.then_some(&mut mass[..]),
            );
            drop(segments);
            if wanted {
                let keep = if token == 0 {
                    reading.keep_row
                } else {
                    reading.keep_query
                };
                pay(head, need, &mass[..visible], reading.weights[token], keep);
            }
        }
        Ok(output)
    }

    /// What is added to logits: means count for as many tokens as they stand for, and positions that a sliding window
    /// has passed are hidden; slots are in no order of time.
    fn bias(&self, head: &HeadCache, visible: usize, slots: usize) -> Option<Vec<f32>> {
        let positions = &head.slots.positions()[..visible];
        let now = head.slots.positions()[visible - 1] as usize;
        let passed = self.sliding_window.filter(|&window| now >= window);
        let means = head.summary.as_ref().filter(|summary| !summary.is_empty());
        if passed.is_none() && means.is_none() {
            return None;
        }
        let hidden = |p: u32| passed.is_some_and(|window| p as usize + window <= now);
        let hide = |&p: &u32| if hidden(p) { f32::NEG_INFINITY } else { 0.0 };
        let mut bias: Vec<f32> = positions.iter().map(hide).collect();
        bias.resize(slots - means.map_or(0, Summary::len), 0.0);
        if let Some(means) = means {
            bias.extend(means.bias());
        }
        Some(bias)
    }

    /// The pages of slots that a query reads.
    fn pages(
        &self,
        head: &mut HeadCache,
        shared: &[Arc<Node>],
        at: (usize, usize),
        select: Select,
        queries: &[f32],
    ) -> Result<Vec<usize>, TchError> {
        let dim = self.head_dim;
        let whole = head.slots.len() / select.page;
        let known = head.mins.len() / dim;
        if known < whole {
            let keys = head.keys(shared, at)?;
            let fresh = &keys[known * select.page * dim..whole * select.page * dim];
            kernels::bounds(fresh, dim, select.page, &mut head.mins, &mut head.maxs);
        }
        let mut scores = Vec::new();
        kernels::upper_bounds(queries, dim, &head.mins, &head.maxs, &mut scores);
        if !head.slots.len().is_multiple_of(select.page) {
            scores.push(f32::INFINITY);
        }
        Ok(select.choose(&scores))
    }

    /// One KV head, all queries of a chunk at once.
    fn chunk(
        &self,
        index: usize,
        queries: &Tensor,
        shared: &[Arc<Node>],
        head: &mut HeadCache,
        need: Need,
        reading: &Reading,
    ) -> Result<Tensor, TchError> {
        let (group, dim) = (self.group() as i64, self.head_dim as i64);
        let tokens = queries.size()[0] as usize;
        let kind = queries.f_kind()?;
        let device = queries.device();
        let scale = 1.0 / (self.head_dim as f64).sqrt();
        // `[group, tokens, dim]`.
        let own = queries
            .f_narrow(1, index as i64 * group, group)?
            .f_transpose(0, 1)?
            .f_mul_scalar(scale)?;
        let pairs = head.segments(shared, (self.layer, index));
        let recalled = head.recalled.iter().map(|page| &page.rows);
        let means = means(head, self.head_dim);
        // Means and recalled rows first: the last columns stay the chunk's own, where the causal mask is.
        let pairs: Vec<&Pair> = means.iter().chain(recalled).chain(pairs).collect();
        let keys: Vec<_> = pairs.iter().map(|pair| &pair.keys).collect();
        let values: Vec<_> = pairs.iter().map(|pair| &pair.values).collect();
        let keys = kv_rows::concat(&keys, self.head_dim, kind, device)?.f_transpose(0, 1)?;
        let values = kv_rows::concat(&values, self.head_dim, kind, device)?;
        let summarised = head.summary.as_ref().map_or(0, Summary::len);
        let extra = summarised + head.recalled_len();
        let counts: Vec<f32> = head.summary.iter().flat_map(Summary::bias).collect();
        let counts = Tensor::f_from_slice(&counts)?.f_to_device(device)?;
        let before = head.slots.len() - tokens;
        let mut outputs = Vec::with_capacity(tokens.div_ceil(self.tile));
        let mut received = Received::new(head.slots.len(), need);
        let mut from = 0;
        while from < tokens {
            let count = self.tile.min(tokens - from);
            let visible = before + from + count;
            let columns = (extra + visible) as i64;
            let tile = own
                .f_narrow(1, from as i64, count as i64)?
                .f_reshape([group * count as i64, dim])?;
            let logits = tile.f_matmul(&keys.f_narrow(1, 0, columns)?)?;
            let logits = logits.f_view([group, count as i64, columns])?;
            if summarised > 0 {
                let _ = logits.f_narrow(2, 0, summarised as i64)?.f_add_(&counts)?;
            }
            let logits = self.mask(logits, head, visible, extra)?;
            let weights = logits.f_softmax(-1, Kind::Float)?;
            received.add(&weights, &reading.weights[from..from + count], extra)?;
            let flat =
                super::weights::to_kind(&weights, kind)?.f_view([group * count as i64, columns])?;
            let output = flat
                .f_matmul(&values.f_narrow(0, 0, columns)?)?
                .f_view([group, count as i64, dim])?
                .f_transpose(0, 1)?
                .f_reshape([count as i64, group * dim])?;
            outputs.push(output);
            from += count;
        }
        received.pay(head, reading.keep_row);
        match outputs.len() {
            1 => Ok(outputs.swap_remove(0)),
            _ => Tensor::f_cat(&outputs, 0),
        }
    }

    /// Hides what a query must not see: later tokens of its own tile, which are the last columns, and positions
    /// that a sliding window has passed. `logits` is `[group, tokens, columns]`.
    fn mask(
        &self,
        logits: Tensor,
        head: &HeadCache,
        visible: usize,
        extra: usize,
    ) -> Result<Tensor, TchError> {
        let (_, tokens, columns) = logits.size3()?;
        if tokens > 1 {
            let future =
                Tensor::f_ones([tokens, tokens], (Kind::Bool, logits.device()))?.f_triu(1)?;
            let _ = logits
                .f_narrow(2, columns - tokens, tokens)?
                .f_masked_fill_(&future, f64::NEG_INFINITY)?;
        }
        let Some(window) = self.sliding_window else {
            return Ok(logits);
        };
        let positions = &head.slots.positions()[..visible];
        let last = positions[visible - 1] as usize;
        if last < window {
            return Ok(logits);
        }
        let mut hidden = Vec::with_capacity((tokens * columns) as usize);
        for query in last + 1 - tokens as usize..=last {
            hidden.extend(std::iter::repeat_n(false, extra));
            hidden.extend(positions.iter().map(|&p| p as usize + window <= query));
        }
        let hidden = Tensor::f_from_slice(&hidden)?
            .f_view([1, tokens, columns])?
            .f_to_device(logits.device())?;
        logits.f_masked_fill(&hidden, f64::NEG_INFINITY)
    }

    /// Adds queries `[tokens, heads, head_dim]`, not rotated, to the statistics of a head.
    fn observe(
        &self,
        head: &mut HeadCache,
        queries: &Tensor,
        index: usize,
    ) -> Result<(), TchError> {
        let (group, dim) = (self.group() as i64, self.head_dim as i64);
        let own = queries
            .f_narrow(1, index as i64 * group, group)?
            .f_reshape([-1, dim])?
            .f_to_kind(Kind::Float)?;
        let sum: Vec<f32> =
            Vec::try_from(own.f_sum_dim_intlist(&[0i64][..], false, Kind::Float)?)?;
        let outer = own.f_transpose(0, 1)?.f_matmul(&own)?.f_flatten(0, -1)?;
        let outer: Vec<f32> = Vec::try_from(outer)?;
        let stats = &mut head.stats;
        stats.sum.resize(sum.len(), 0.0);
        stats.outer.resize(outer.len(), 0.0);
        stats.count += own.size()[0] as f64;
        stats.sum.iter_mut().zip(sum).for_each(|(a, b)| *a += b);
        stats.outer.iter_mut().zip(outer).for_each(|(a, b)| *a += b);
        Ok(())
    }
}

thread_local! {
    /// Buffers of the kernels, one set a thread of the pool.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// One KV head of one span.
struct HeadJob<'a> {
    span: usize,
    index: usize,
    queries: Vec<f32>,
    shared: &'a [Arc<Node>],
    head: &'a mut HeadCache,
    how: (Need, &'a Reading, Option<Select>),
    attended: Result<Vec<f32>, TchError>,
}

/// Part `index` of every row of `parts` parts.
fn gather(rows: &[f32], index: usize, part: usize, parts: usize) -> Vec<f32> {
    let own = rows.chunks_exact(part).skip(index).step_by(parts);
    own.flatten().copied().collect()
}

/// The inverse of [`gather`].
fn scatter(own: &[f32], index: usize, part: usize, parts: usize, rows: &mut [f32]) {
    let places = rows.chunks_exact_mut(part).skip(index).step_by(parts);
    for (to, from) in places.zip(own.chunks_exact(part)) {
        to.copy_from_slice(from);
    }
}

/// Adds queries, not rotated, to the statistics of a head.
fn observe_floats(head: &mut HeadCache, queries: &[f32], dim: usize) {
    let stats = &mut head.stats;
    stats.sum.resize(dim, 0.0);
    stats.outer.resize(dim * dim, 0.0);
    for query in queries.chunks_exact(dim) {
        stats.count += 1.0;
        for (row, &q) in query.iter().enumerate() {
            stats.sum[row] += q;
            let outer = &mut stats.outer[row * dim..(row + 1) * dim];
            outer.iter_mut().zip(query).for_each(|(o, x)| *o += q * x);
        }
    }
}

/// What one row's attention computed.
pub(super) enum Attended {
    /// `[tokens, heads * head_dim]`, row-major.
    Host(Vec<f32>),
    /// Likewise.
    Device(Tensor),
}

/// The stretches that a query reads, of the first `visible` slots, and then what was recalled.
fn segments<'a>(
    head: &'a HeadCache,
    shared: &'a [Arc<Node>],
    at: (usize, usize),
    visible: usize,
    pages: Option<(&[usize], usize)>,
) -> Vec<Segment<'a>> {
    let mut found = Vec::new();
    let mut add = |pair: &'a Pair, from: usize, to: usize| {
        let keys = pair.keys.view(from..to);
        let values = pair.values.view(from..to);
        if let (Some(keys), Some(values)) = (keys, values) {
            found.push(Segment {
                keys,
                values,
                len: to - from,
            });
        }
    };
    let mut start = 0;
    for pair in head.segments(shared, at) {
        let end = (start + pair.len()).min(visible);
        match pages {
            None if end > start => add(pair, 0, end - start),
            None => {}
            Some((pages, size)) => {
                for page in pages {
                    let from = (page * size).max(start);
                    let to = ((page + 1) * size).min(end);
                    if from < to {
                        add(pair, from - start, to - start);
                    }
                }
            }
        }
        start += pair.len();
    }
    for page in &head.recalled {
        add(&page.rows, 0, page.rows.len());
    }
    if let Some(means) = head.summary.as_ref().filter(|means| !means.is_empty()) {
        found.push(Segment {
            keys: RowsRef::F32(means.keys()),
            values: RowsRef::F32(means.values()),
            len: means.len(),
        });
    }
    found
}

/// The means of what a head has evicted, as rows.
fn means(head: &HeadCache, dim: usize) -> Option<Pair> {
    let means = head.summary.as_ref().filter(|means| !means.is_empty())?;
    let rows = |floats: &[f32]| Rows::from_float32(dim, floats.to_vec()).map(kv_rows::KvRows::Host);
    Some(Pair {
        keys: rows(means.keys())?,
        values: rows(means.values())?,
    })
}

/// Records what one query paid.
fn pay(head: &mut HeadCache, need: Need, mass: &[f32], weight: f32, keep: f32) {
    let weighed: Vec<f32>;
    let fast: &[f32] = match need.fast {
        Fast::Nothing => &[],
        _ if weight == 1.0 => mass,
        _ => {
            weighed = mass.iter().map(|m| m * weight).collect();
            &weighed
        }
    };
    head.slots.pay(&Paid {
        sums: if need.sums { mass } else { &[] },
        fast,
        keep,
    });
}

/// TOVA keeps one set for all heads of a layer: their scores are averaged.
fn average(heads: &mut [HeadCache]) {
    let count = heads.len() as f32;
    let Some(len) = heads.iter().map(|head| head.slots.len()).min() else {
        return;
    };
    let mut mean = vec![0.0; len];
    for head in heads.iter() {
        for (mean, fast) in mean.iter_mut().zip(head.slots.fast()) {
            *mean += fast / count;
        }
    }
    for head in heads.iter_mut().filter(|head| head.slots.len() == len) {
        head.slots.set_fast(mean.clone());
    }
}

/// What the slots of one head received from a chunk of queries.
struct Received {
    need: Need,
    sums: Vec<f32>,
    fast: Vec<f32>,
}

impl Received {
    fn new(slots: usize, need: Need) -> Self {
        Received {
            need,
            sums: vec![0.0; if need.sums { slots } else { 0 }],
            fast: vec![0.0; if need.fast == Fast::Nothing { 0 } else { slots }],
        }
    }

    /// `weights` is `[group, tokens, columns]`, of which the first `skip` columns are no slots.
    fn add(&mut self, weights: &Tensor, queries: &[f32], skip: usize) -> Result<(), TchError> {
        if !self.need.attention() {
            return Ok(());
        }
        let by_query = |t: &Tensor| t.f_sum_dim_intlist(&[0i64, 1][..], false, Kind::Float);
        if self.need.sums {
            add_from(&mut self.sums, &by_query(weights)?, skip)?;
        }
        if !self.fast.is_empty() && queries.iter().any(|&w| w != 0.0) {
            let factors = Tensor::f_from_slice(queries)?
                .f_view([1, -1, 1])?
                .f_to_device(weights.device())?;
            add_from(&mut self.fast, &by_query(&weights.f_mul(&factors)?)?, skip)?;
        }
        Ok(())
    }

    fn pay(&self, head: &mut HeadCache, keep: f32) {
        head.slots.pay(&Paid {
            sums: &self.sums,
            fast: &self.fast,
            keep,
        });
    }
}

fn add_from(to: &mut [f32], from: &Tensor, skip: usize) -> Result<(), TchError> {
    let mut found = vec![0.0f32; from.numel()];
    let len = found.len();
    from.f_contiguous()?.f_copy_data(&mut found, len)?;
    for (to, from) in to.iter_mut().zip(&found[skip..]) {
        *to += from;
    }
    Ok(())
}
