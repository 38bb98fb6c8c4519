//! What was evicted and not forgotten: spilled rows of one KV head, so that a later turn can find those worth attending
//! to again. In memory all of them are weighed; of pages on disk the bounds stay in memory (as Quest has them,
//! <https://arxiv.org/abs/2406.10774>) and say which pages are read and weighed.

use std::sync::Arc;

use tch::TchError;

use super::kv_rows::{KvRows, Pair};
use crate::kernels::{Keys, Level, Scratch, bounds, draw, upper_bounds};
use crate::kv::{RowKind, Rows};
use crate::store::SpillFile;

/// Rows of a page.
pub(super) const PAGE: usize = 16;

/// How many times the rows that are recalled are read from disk to choose among: bounds alone are loose.
const READ: usize = 4;

/// One spilled row's place in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Evicted {
    pub(super) position: u32,
    /// What its key is rotated to.
    pub(super) rotated: u32,
    /// How often kept keys had been rotated anew by then.
    pub(super) epoch: u32,
}

/// Spilled rows of one KV head, in the order of their eviction.
#[derive(Debug, Clone)]
pub(super) struct Cold {
    dim: usize,
    kind: RowKind,
    entries: Vec<Evicted>,
    /// Per full page and dimension, of pages on disk.
    mins: Vec<f32>,
    maxs: Vec<f32>,
    pages: Vec<Page>,
    /// Rows that do not fill a page yet.
    open_keys: Rows,
    open_values: Rows,
    file: Option<Arc<SpillFile>>,
}

/// Where a full page lies.
#[derive(Debug, Clone)]
enum Page {
    Memory(Arc<(Rows, Rows)>),
    Disk(u64),
}

/// Rows that are attended to again.
#[derive(Debug, Clone)]
pub(super) struct Recalled {
    pub(super) entries: Vec<Evicted>,
    pub(super) rows: Pair,
}

impl Cold {
    /// Nothing spilled yet; into `file`, or into memory.
    pub(super) fn new(dim: usize, kind: RowKind, file: Option<Arc<SpillFile>>) -> Self {
        Cold {
            dim,
            kind,
            entries: Vec::new(),
            mins: Vec::new(),
            maxs: Vec::new(),
            pages: Vec::new(),
            open_keys: Rows::new(kind, dim),
            open_values: Rows::new(kind, dim),
            file,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn entries(&self) -> &[Evicted] {
        &self.entries
    }

    /// Bytes of spilled rows, in memory or on disk.
    pub(super) fn bytes(&self) -> usize {
        self.len() * 2 * self.kind.row_bytes(self.dim)
    }

    /// Takes in an evicted row.
    pub(super) fn push(
        &mut self,
        entry: Evicted,
        key: &[f32],
        value: &[f32],
    ) -> Result<(), TchError> {
        self.entries.push(entry);
        self.open_keys.push(key);
        self.open_values.push(value);
        if self.open_keys.len() < PAGE {
            return Ok(());
        }
        if self.file.is_some() {
            let mut floats = Vec::with_capacity(PAGE * self.dim);
            self.open_keys.read_all(0..PAGE, &mut floats);
            bounds(&floats, self.dim, PAGE, &mut self.mins, &mut self.maxs);
        }
        let keys = std::mem::replace(&mut self.open_keys, Rows::new(self.kind, self.dim));
        let values = std::mem::replace(&mut self.open_values, Rows::new(self.kind, self.dim));
        let page = match &self.file {
            None => Page::Memory(Arc::new((keys, values))),
            Some(file) => {
                let mut bytes = keys.encode();
                bytes.extend(values.encode());
                Page::Disk(file.append(&bytes)?)
            }
        };
        self.pages.push(page);
        Ok(())
    }

    /// The rows, at most `tokens`, that would draw most attention of `queries` `[n, dim]`, already scaled, beside the
    /// keys that are `kept`. Rows in memory are all weighed; of those on disk, the pages that promise most by their
    /// bounds are read and weighed.
    pub(super) fn recall(
        &self,
        queries: &[f32],
        kept: &[Keys<'_>],
        tokens: usize,
        scratch: &mut Scratch,
    ) -> Result<Recalled, TchError> {
        let count = self.len().div_ceil(PAGE);
        let wanted = match self.file {
            Some(_) if self.len() > READ * tokens => {
                self.promising(queries, kept, (READ * tokens).div_ceil(PAGE), scratch)
            }
            _ => (0..count).collect(),
        };
        let pages = wanted.iter().map(|&page| self.page(page));
        let pages: Vec<Arc<(Rows, Rows)>> = pages.collect::<Result<_, _>>()?;
        let numbers: Vec<(usize, usize)> = pages
            .iter()
            .enumerate()
            .flat_map(|(index, page)| (0..page.0.len()).map(move |row| (index, row)))
            .collect();
        let chosen = if numbers.len() <= tokens {
            (0..numbers.len()).collect()
        } else {
            let mut keys = kept.to_vec();
            keys.extend(pages.iter().map(|page| Keys {
                rows: page.0.view(0..page.0.len()),
                len: page.0.len(),
            }));
            let mut drawn = Vec::new();
            draw(
                Level::best(),
                queries,
                self.dim,
                &keys,
                &[],
                scratch,
                &mut drawn,
            );
            largest(&drawn[drawn.len() - numbers.len()..], tokens)
        };
        let mut entries = Vec::with_capacity(chosen.len());
        let mut keys = Rows::new(self.kind, self.dim);
        let mut values = Rows::new(self.kind, self.dim);
        keys.reserve(chosen.len());
        values.reserve(chosen.len());
        for (index, row) in chosen.into_iter().map(|number| numbers[number]) {
            entries.push(self.entries[wanted[index] * PAGE + row]);
            keys.push_from(&pages[index].0, row);
            values.push_from(&pages[index].1, row);
        }
        Ok(Recalled {
            entries,
            rows: Pair {
                keys: KvRows::Host(keys),
                values: KvRows::Host(values),
            },
        })
    }

    /// The pages, at most `pages`, whose bounds promise most; ascending.
    fn promising(
        &self,
        queries: &[f32],
        kept: &[Keys<'_>],
        pages: usize,
        scratch: &mut Scratch,
    ) -> Vec<usize> {
        let (mut open, mut mins, mut maxs) = (Vec::new(), Vec::new(), Vec::new());
        self.open_keys.read_all(0..self.open_keys.len(), &mut open);
        bounds(&open, self.dim, PAGE, &mut mins, &mut maxs);
        let (mut each, mut one) = (Vec::new(), Vec::new());
        for query in queries.chunks_exact(self.dim) {
            for (mins, maxs) in [(&self.mins, &self.maxs), (&mins, &maxs)] {
                upper_bounds(query, self.dim, mins, maxs, &mut one);
                each.extend_from_slice(&one);
            }
        }
        let mut drawn = Vec::new();
        draw(
            Level::best(),
            queries,
            self.dim,
            kept,
            &each,
            scratch,
            &mut drawn,
        );
        largest(&drawn[drawn.len() - self.len().div_ceil(PAGE)..], pages)
    }

    /// Keys and values of a page; the last may not be full.
    pub(super) fn page(&self, page: usize) -> Result<Arc<(Rows, Rows)>, TchError> {
        Ok(match self.pages.get(page) {
            None => Arc::new((self.open_keys.clone(), self.open_values.clone())),
            Some(Page::Memory(rows)) => Arc::clone(rows),
            Some(Page::Disk(offset)) => {
                let half = PAGE * self.kind.row_bytes(self.dim);
                let file = self.file.as_ref().ok_or_else(|| {
                    TchError::FileFormat("a spilled page has lost its file".to_owned())
                })?;
                let bytes = file.read(*offset, 2 * half)?;
                let rows = |part: &[u8]| Rows::decode(self.kind, self.dim, part);
                Arc::new((rows(&bytes[..half]), rows(&bytes[half..])))
            }
        })
    }
}

/// The numbers of the `count` largest, ascending.
fn largest(of: &[f32], count: usize) -> Vec<usize> {
    let mut ranked: Vec<usize> = (0..of.len()).collect();
    ranked.sort_unstable_by(|&a, &b| of[b].total_cmp(&of[a]).then(a.cmp(&b)));
    ranked.truncate(count);
    ranked.sort_unstable();
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the second page.
    const ODD: u32 = PAGE as u32 + 8;

    fn filled(file: Option<Arc<SpillFile>>) -> Cold {
        let mut cold = Cold::new(2, RowKind::Float32, file);
        for i in 0..(PAGE as u32 * 2 + 3) {
            let entry = Evicted {
                position: i,
                rotated: i,
                epoch: 0,
            };
            let key = if i == ODD { [9.0, 0.0] } else { [0.0, 1.0] };
            cold.push(entry, &key, &[i as f32, -1.0]).unwrap();
        }
        cold
    }

    #[test]
    fn what_a_query_looks_for_is_found_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = Arc::new(SpillFile::create(folder.path()).unwrap());
        let mut scratch = Scratch::default();
        for cold in [filled(None), filled(Some(file))] {
            let mut recall = |query: [f32; 2], tokens: usize| {
                let recalled = cold.recall(&query, &[], tokens, &mut scratch).unwrap();
                let positions = recalled.entries.iter().map(|entry| entry.position);
                (positions.collect::<Vec<u32>>(), recalled.rows)
            };
            let (found, rows) = recall([1.0, 0.0], 1);
            assert_eq!(found, [ODD]);
            let mut row = [0.0; 2];
            rows.keys.read(0, &mut row).unwrap();
            assert_eq!(row, [9.0, 0.0]);
            rows.values.read(0, &mut row).unwrap();
            assert_eq!(row, [ODD as f32, -1.0]);
            let (all, rows) = recall([1.0, 1.0], 1000);
            assert!(all.into_iter().eq(0..PAGE as u32 * 2 + 3));
            assert_eq!(rows.len(), PAGE * 2 + 3);
        }
    }

    #[test]
    fn the_page_with_the_odd_key_promises_most() {
        let folder = tempfile::tempdir().unwrap();
        let file = Arc::new(SpillFile::create(folder.path()).unwrap());
        let (cold, mut scratch) = (filled(Some(file)), Scratch::default());
        assert_eq!(cold.promising(&[1.0, 0.0], &[], 1, &mut scratch), [1]);
        assert_eq!(cold.promising(&[1.0, 1.0], &[], 9, &mut scratch), [0, 1, 2]);
    }
}
