//! Single queries through the kernels, over rows where they lie.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Mutex, PoisonError};

use tch::TchError;

use super::super::block::Span;
use super::super::cache::LayerParts;
use super::super::head::HeadCache;
use super::super::kv_rows::Pair;
use super::super::node::Node;
use super::super::reading::Reading;
use super::super::rope::Rope;
use super::drafted::Written;
use super::{Attention, Strided, average, by_token, emptied};
use crate::kernels::{self, Level, Pool, Precision, RowsRef, Scratch, Segment};
use crate::kv::{Fast, Need, Paid, Select, Summary};

/// Tokens of a row up to which its queries attend one by one.
const MOST_STEPS: usize = 16;

/// What all tokens of a step were projected to.
pub(in crate::llama) struct Projected<'a> {
    /// `[tokens, width]`: of each token its queries and keys, rotated, and its values.
    pub(in crate::llama) rows: &'a [f32],
    pub(in crate::llama) width: usize,
    /// Queries before rotation, `[tokens, heads * head_dim]`, where a cache's policy asks for them; else empty.
    pub(in crate::llama) plain: &'a [f32],
}

/// How the queries of a span attend.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    /// One by one.
    Steps,
    /// One by one, each written just before.
    Guesses,
    /// All at once, after all heads of all spans are written.
    Long,
}

impl Way {
    fn of(span: &Span<'_>) -> Self {
        match span.drafted {
            true => Way::Guesses,
            false if span.tokens <= MOST_STEPS => Way::Steps,
            false => Way::Long,
        }
    }
}

impl Attention {
    /// All spans of a step through the kernels, heads side by side on the pool; of long spans, many queries at once in
    /// `precision`. Writes their keys and values first. Sets `output`, `[tokens, heads * head_dim]`.
    pub(in crate::llama) fn on_host(
        &self,
        projected: &Projected<'_>,
        spans: &mut [Span<'_>],
        rope: &Rope,
        pool: &Pool,
        precision: Precision,
        output: &mut [f32],
    ) -> Result<(), TchError> {
        let (dim, part) = (self.head_dim, self.group() * self.head_dim);
        let (stride, width) = (self.heads * dim, projected.width);
        for span in spans.iter_mut().filter(|span| span.cache.recalls()) {
            let own = Strided {
                floats: &projected.rows[span.offset * width..],
                stride: width,
                len: stride,
            };
            let by_head = self.by_kv_head(&own.gather(span.tokens));
            span.cache
                .recall(self.layer, &by_head, self.group(), rope, Some(pool))?;
        }
        let mut lists = LISTS.take();
        let mut jobs = emptied(lists.jobs);
        let mut rest = &mut *output;
        for span in spans.iter_mut() {
            let way = Way::of(span);
            let (own, others) = rest.split_at_mut(span.tokens * stride);
            rest = others;
            let rows = &projected.rows[span.offset * width..];
            let one = |head: usize| Strided {
                floats: &rows[head * dim..],
                stride: width,
                len: dim,
            };
            let need = span.cache.policy().need();
            let select = self.select(span.cache.policy(), span.tokens);
            let LayerParts {
                policy,
                at,
                shared,
                heads,
            } = span.cache.parts(self.layer);
            let mut places = match way {
                Way::Long => &mut [],
                Way::Steps | Way::Guesses => own,
            }
            .chunks_exact_mut(span.tokens * part);
            for (index, head) in heads.iter_mut().enumerate() {
                let plain = need.queries.then(|| Strided {
                    floats: &projected.plain[span.offset * stride + index * part..],
                    stride,
                    len: part,
                });
                jobs.push(Mutex::new(HeadJob {
                    way,
                    index,
                    queries: Strided {
                        floats: &rows[index * part..],
                        stride: width,
                        len: part,
                    },
                    plain,
                    shared,
                    head,
                    how: (need, &span.reading, select),
                    tokens: span.tokens,
                    written: Written {
                        policy,
                        at,
                        keys: one(self.heads + index),
                        values: one(self.heads + self.kv_heads + index),
                    },
                    output: places.next().unwrap_or_default(),
                    outcome: Ok(()),
                }));
            }
        }
        pool.run(jobs.len(), |number| {
            let mut job = jobs[number].lock().unwrap_or_else(PoisonError::into_inner);
            job.outcome = BUFFERS.with_borrow_mut(|buffers| job.run(self, buffers));
        });
        let mut outcome = Ok(());
        for job in &mut jobs {
            let job = job.get_mut().unwrap_or_else(PoisonError::into_inner);
            outcome = outcome.and(std::mem::replace(&mut job.outcome, Ok(())));
        }
        lists.jobs = emptied(jobs);
        outcome?;
        for span in spans.iter().filter(|span| Way::of(span) != Way::Long) {
            let own = &mut output[span.offset * stride..][..span.tokens * stride];
            by_token(own, part, self.kv_heads, &mut lists.by_head);
        }
        LISTS.set(lists);
        for span in spans.iter_mut().filter(|span| Way::of(span) == Way::Long) {
            self.long(projected, span, pool, precision, output)?;
        }
        for span in spans {
            if span.cache.policy().need().fast == Fast::LastRow {
                average(span.cache.layer(self.layer).1);
            }
        }
        Ok(())
    }

    /// One KV head, query by query, through the kernels: `[tokens, group * head_dim]` -> `output`, likewise, which says
    /// how many tokens there are.
    #[allow(
        clippy::too_many_arguments,
        reason = "a head and its queries, how they are read, and where results go"
    )]
    pub(super) fn steps(
        &self,
        index: usize,
        queries: Strided<'_>,
        shared: &[Arc<Node>],
        head: &mut HeadCache,
        (need, reading, select): (Need, &Reading, Option<Select>),
        buffers: &mut Buffers,
        output: &mut [f32],
    ) -> Result<(), TchError> {
        let (dim, part) = (self.head_dim, self.group() * self.head_dim);
        let tokens = output.len() / part;
        let len = head.slots.len();
        let scale = 1.0 / (dim as f32).sqrt();
        let Buffers {
            kernel,
            scaled,
            mass,
            segments,
        } = buffers;
        for (token, output) in output.chunks_exact_mut(part).enumerate() {
            scaled.clear();
            scaled.extend(queries.row(token).iter().map(|x| x * scale));
            let visible = len - (tokens - 1 - token);
            let at = (self.layer, index);
            let pages = match select {
                Some(select) => Some(self.pages(head, shared, at, select, scaled)?),
                None => None,
            };
            let pages = pages.as_deref().zip(select.map(|select| select.page));
            let mut read = emptied(std::mem::take(segments));
            add_segments(head, shared, at, visible, pages, &mut read);
            let slots = read.iter().map(|s| s.len).sum::<usize>();
            let bias = self.bias(head, visible, slots);
            let wanted = need.attention();
            if wanted {
                mass.resize(slots, 0.0);
            }
            kernels::attend(
                Level::best(),
                scaled,
                dim,
                &read,
                bias.as_deref(),
                kernel,
                output,
                wanted.then_some(&mut mass[..]),
            );
            *segments = emptied(read);
            if wanted {
                let keep = if token == 0 {
                    reading.keep_row
                } else {
                    reading.keep_query
                };
                pay(head, need, &mass[..visible], reading.weights[token], keep);
            }
        }
        Ok(())
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

/// What a thread computes in, from head to head.
#[derive(Debug, Default)]
pub(in crate::llama) struct Buffers {
    pub(in crate::llama) kernel: Scratch,
    /// The queries of one token.
    scaled: Vec<f32>,
    /// What each slot received from them.
    mass: Vec<f32>,
    /// Memory for what they read.
    segments: Vec<Segment<'static>>,
}

thread_local! {
    /// One set a thread of the pool.
    pub(in crate::llama) static BUFFERS: RefCell<Buffers> = RefCell::default();
    /// Of the thread that hands out the heads.
    static LISTS: Cell<Lists> = Cell::default();
}

/// Memory that is used again from layer to layer.
#[derive(Default)]
struct Lists {
    jobs: Vec<Mutex<HeadJob<'static>>>,
    /// Of a span, what all heads attended, head by head.
    by_head: Vec<f32>,
}

/// One KV head of one span.
struct HeadJob<'a> {
    way: Way,
    index: usize,
    queries: Strided<'a>,
    /// Likewise before rotation, where the policy asks for them.
    plain: Option<Strided<'a>>,
    shared: &'a [Arc<Node>],
    head: &'a mut HeadCache,
    how: (Need, &'a Reading, Option<Select>),
    tokens: usize,
    written: Written<'a>,
    /// `[tokens, group * head_dim]`; empty when the span is long.
    output: &'a mut [f32],
    outcome: Result<(), TchError>,
}

impl HeadJob<'_> {
    fn run(&mut self, attention: &Attention, buffers: &mut Buffers) -> Result<(), TchError> {
        let (index, head) = (self.index, &mut *self.head);
        if let Some(plain) = self.plain {
            let own = plain.gather(self.tokens);
            observe_floats(head, &own, attention.head_dim);
        }
        if self.way != Way::Guesses {
            self.written.write(0..self.tokens, head)?;
        }
        let (queries, shared, output) = (self.queries, self.shared, &mut self.output);
        match self.way {
            Way::Long => Ok(()),
            Way::Steps => attention.steps(index, queries, shared, head, self.how, buffers, output),
            Way::Guesses => attention.one_by_one(
                index,
                queries,
                &self.written,
                shared,
                head,
                self.how,
                buffers,
                output,
            ),
        }
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

/// Adds the stretches that a query reads, of the first `visible` slots, and then what was recalled.
fn add_segments<'a>(
    head: &'a HeadCache,
    shared: &'a [Arc<Node>],
    at: (usize, usize),
    visible: usize,
    pages: Option<(&[usize], usize)>,
    found: &mut Vec<Segment<'a>>,
) {
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
