//! Reusable float buffers that start on a cache line.

/// Bytes of a cache line, and of the widest vector register.
const LINE: usize = 64;
const LINE_FLOATS: usize = LINE / size_of::<f32>();

/// Floats whose first one lies on a cache line: a vector load that straddles two lines costs twice.
#[derive(Debug, Default)]
pub struct Aligned(Vec<f32>);

impl Aligned {
    /// `len` floats, with what the last use left in them.
    pub fn take(&mut self, len: usize) -> &mut [f32] {
        let needed = len + LINE_FLOATS;
        if self.0.len() < needed {
            self.0.resize(needed, 0.0);
        }
        // `align_offset` may refuse to answer, and alignment is only for speed.
        let start = self.0.as_ptr().align_offset(LINE).min(LINE_FLOATS);
        &mut self.0[start..start + len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_starts_on_a_line_and_keeps_its_memory() {
        let mut aligned = Aligned::default();
        for len in [0, 1, 16, 1000, 3] {
            let floats = aligned.take(len);
            assert_eq!(floats.len(), len);
            assert_eq!(floats.as_ptr().addr() % LINE, 0);
        }
        assert!(aligned.0.len() >= 1000);
    }
}
