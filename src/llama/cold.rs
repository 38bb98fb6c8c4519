//! What was evicted and not forgotten: spilled rows of one KV head in pages, with each page's bounds in memory, so
//! that a later turn can find the pages worth attending to again.

use std::sync::Arc;

use tch::TchError;

use super::kv_rows::{KvRows, Pair};
use crate::kernels::{bounds, upper_bounds};
use crate::kv::{RowKind, Rows};
use crate::store::SpillFile;

/// Positions of a page. Small, so that a recalled page is mostly what was looked for.
pub(super) const PAGE: usize = 32;

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
    /// Per full page and dimension.
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

/// A page that is attended to again.
#[derive(Debug, Clone)]
pub(super) struct Recalled {
    pub(super) page: usize,
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
        let mut floats = Vec::with_capacity(PAGE * self.dim);
        self.open_keys.read_all(0..PAGE, &mut floats);
        bounds(&floats, self.dim, PAGE, &mut self.mins, &mut self.maxs);
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

    /// The pages, at most `pages`, whose bounds promise most attention to any of `queries` `[n, dim]`; ascending.
    pub(super) fn promising(&self, queries: &[f32], pages: usize) -> Vec<usize> {
        let mut scores = Vec::new();
        upper_bounds(queries, self.dim, &self.mins, &self.maxs, &mut scores);
        if !self.open_keys.is_empty() {
            let (mut mins, mut maxs, mut floats) = (Vec::new(), Vec::new(), Vec::new());
            self.open_keys
                .read_all(0..self.open_keys.len(), &mut floats);
            bounds(&floats, self.dim, PAGE, &mut mins, &mut maxs);
            let mut open = Vec::new();
            upper_bounds(queries, self.dim, &mins, &maxs, &mut open);
            scores.extend(open);
        }
        let mut ranked: Vec<usize> = (0..scores.len()).collect();
        ranked.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
        ranked.truncate(pages);
        ranked.sort_unstable();
        ranked
    }

    /// Reads a page back.
    pub(super) fn recall(&self, page: usize) -> Result<Recalled, TchError> {
        let from = page * PAGE;
        let entries = self.entries[from..self.len().min(from + PAGE)].to_vec();
        let (keys, values) = match self.pages.get(page) {
            None => (self.open_keys.clone(), self.open_values.clone()),
            Some(Page::Memory(rows)) => (rows.0.clone(), rows.1.clone()),
            Some(Page::Disk(offset)) => {
                let half = PAGE * self.kind.row_bytes(self.dim);
                let file = self.file.as_ref().ok_or_else(|| {
                    TchError::FileFormat("a spilled page has lost its file".to_owned())
                })?;
                let bytes = file.read(*offset, 2 * half)?;
                let rows = |part: &[u8]| Rows::decode(self.kind, self.dim, part);
                (rows(&bytes[..half]), rows(&bytes[half..]))
            }
        };
        Ok(Recalled {
            page,
            entries,
            rows: Pair {
                keys: KvRows::Host(keys),
                values: KvRows::Host(values),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(file: Option<Arc<SpillFile>>) -> Cold {
        let mut cold = Cold::new(2, RowKind::Float32, file);
        for i in 0..(PAGE as u32 * 2 + 3) {
            let entry = Evicted {
                position: i,
                rotated: i,
                epoch: 0,
            };
            let key = if i == 40 { [9.0, 0.0] } else { [0.0, 1.0] };
            cold.push(entry, &key, &[i as f32, -1.0]).unwrap();
        }
        cold
    }

    #[test]
    fn the_page_with_the_odd_key_is_found_and_read_back_whole() {
        let folder = tempfile::tempdir().unwrap();
        let file = Arc::new(SpillFile::create(folder.path()).unwrap());
        for cold in [filled(None), filled(Some(file))] {
            assert_eq!(cold.promising(&[1.0, 0.0], 1), [1]);
            let page = cold.recall(1).unwrap();
            assert_eq!(page.entries[0].position, PAGE as u32);
            let mut row = [0.0; 2];
            page.rows.values.read(8, &mut row).unwrap();
            assert_eq!(row, [40.0, -1.0]);
            let open = cold.recall(2).unwrap();
            assert_eq!((open.entries.len(), open.rows.len()), (3, 3));
            assert_eq!(cold.promising(&[1.0, 1.0], 9).len(), 3);
        }
    }
}
