//! Single queries through the kernels, over rows where they lie.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};

use tch::TchError;

use super::super::block::Span;
use super::super::cache::LayerParts;
use super::super::head::HeadCache;
use super::super::kv_rows::Pair;
use super::super::node::Node;
use super::super::reading::Reading;
use super::drafted::Guessed;
use super::{Attention, average, gather, scatter};
use crate::kernels::{self, Level, Pool, Precision, RowsRef, Scratch, Segment};
use crate::kv::{Fast, Need, Paid, Select, Summary};

/// Tokens of a row up to which its queries attend one by one.
const MOST_STEPS: usize = 16;

/// The queries of all rows of a step, `[tokens, heads, head_dim]` each.
pub(in crate::llama) struct HostQueries<'a> {
    pub(in crate::llama) rotated: &'a [f32],
    pub(in crate::llama) plain: &'a [f32],
    /// Keys, rotated, and values, `[tokens, kv_heads, head_dim]`.
    pub(in crate::llama) keys: &'a [f32],
    pub(in crate::llama) values: &'a [f32],
}

impl Attention {
    /// All spans of a step through the kernels, heads side by side on the pool; of long spans, many queries at once in
    /// `precision`. Returns `[tokens, heads * head_dim]`.
    pub(in crate::llama) fn on_host(
        &self,
        queries: &HostQueries<'_>,
        spans: &mut [Span<'_>],
        tokens: usize,
        pool: &Pool,
        precision: Precision,
    ) -> Result<Vec<f32>, TchError> {
        let part = self.group() * self.head_dim;
        let stride = self.heads * self.head_dim;
        let mut jobs = Vec::with_capacity(spans.len() * self.kv_heads);
        // Guesses are taken in one by one, however many.
        let one_by_one = |span: &Span<'_>| span.drafted || span.tokens <= MOST_STEPS;
        for (number, span) in spans.iter_mut().enumerate() {
            if !one_by_one(span) {
                continue;
            }
            let rows = span.offset * stride..(span.offset + span.tokens) * stride;
            let need = span.cache.policy().need();
            let select = self.select(span.cache.policy(), span.tokens);
            let fresh = |floats: &[f32], index: usize| {
                let width = self.kv_heads * self.head_dim;
                let own = span.offset * width..(span.offset + span.tokens) * width;
                gather(&floats[own], index, self.head_dim, self.kv_heads)
            };
            let LayerParts {
                policy,
                at,
                shared,
                heads,
            } = span.cache.parts(self.layer);
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
                    guessed: span.drafted.then(|| Guessed {
                        policy,
                        at,
                        keys: fresh(queries.keys, index),
                        values: fresh(queries.values, index),
                    }),
                    attended: Ok(Vec::new()),
                }));
            }
        }
        pool.run(jobs.len(), |number| {
            let mut job = jobs[number].lock().unwrap_or_else(PoisonError::into_inner);
            let job = &mut *job;
            job.attended = SCRATCH.with_borrow_mut(|scratch| match &job.guessed {
                Some(guessed) => self.one_by_one(
                    job.index,
                    &job.queries,
                    guessed,
                    job.shared,
                    job.head,
                    job.how,
                    scratch,
                ),
                None => self.steps(
                    job.index,
                    &job.queries,
                    job.shared,
                    job.head,
                    job.how,
                    scratch,
                ),
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
        for span in spans.iter_mut().filter(|span| !one_by_one(span)) {
            self.long(queries, span, pool, precision, &mut output)?;
        }
        for span in spans {
            if span.cache.policy().need().fast == Fast::LastRow {
                average(span.cache.layer(self.layer).1);
            }
        }
        Ok(output)
    }

    /// One KV head, query by query, through the kernels: `[tokens, group * head_dim]` -> likewise.
    pub(super) fn steps(
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
}

thread_local! {
    /// Buffers of the kernels, one set a thread of the pool.
    pub(in crate::llama) static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// One KV head of one span.
struct HeadJob<'a> {
    span: usize,
    index: usize,
    queries: Vec<f32>,
    shared: &'a [Arc<Node>],
    head: &'a mut HeadCache,
    how: (Need, &'a Reading, Option<Select>),
    /// Of a row with guesses.
    guessed: Option<Guessed<'a>>,
    attended: Result<Vec<f32>, TchError>,
}

/// Adds queries, not rotated, to the statistics of a head.
pub(super) fn observe_floats(head: &mut HeadCache, queries: &[f32], dim: usize) {
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
    if let Some(recalled) = &head.recalled {
        add(&recalled.rows, 0, recalled.rows.len());
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
