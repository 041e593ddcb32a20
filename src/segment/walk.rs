//! Walking the batches of a segment in order, as look-ups do.

use super::records_file::Chunk;
use super::{BatchPosition, Segment};
use crate::error::Result;
use crate::record::batch::RecordBatch;

/// Walks batch by batch, checking headers and their succession but no checksums. What it walks
/// over was checked when it was written or recovered, and is checked again when it is read.
pub(crate) struct Batches<'a> {
    segment: &'a Segment,
    end: u64,
    position: BatchPosition,
    chunk: Option<Chunk>,
    chunk_start: u64,
}

impl<'a> Batches<'a> {
    /// A walk from a position up to the present end of the segment.
    pub(super) fn new(segment: &'a Segment, position: BatchPosition) -> Self {
        Self { segment, end: segment.len(), position, chunk: None, chunk_start: 0 }
    }

    /// A walk from where an index says that a batch ends with an offset. `None` if none does.
    pub(super) fn at_entry(
        segment: &'a Segment,
        file_position: u64,
        last_offset: u64,
    ) -> Option<Self> {
        let mut batches = Self::new(segment, BatchPosition { file_position, base_offset: 0 });
        if file_position >= batches.end {
            return None;
        }
        batches.load_batch(file_position).ok()?;
        let span = RecordBatch::span_of(batches.loaded(file_position))?;
        batches.position.base_offset = span.base_offset;
        (span.last_offset == last_offset && span.base_offset >= segment.base_offset)
            .then_some(batches)
    }

    /// Goes to the batch that holds an offset, or to the end.
    pub(super) fn go_to(&mut self, offset: u64) -> Result<BatchPosition> {
        loop {
            let at = self.position;
            let span = RecordBatch::span_of(self.loaded(at.file_position));
            match span.filter(|span| span.base_offset == at.base_offset) {
                Some(span) if span.last_offset >= offset => return Ok(at),
                Some(span) => {
                    self.position = BatchPosition {
                        file_position: at.file_position + span.size as u64,
                        base_offset: span.last_offset + 1,
                    };
                }
                // It is not loaded, or damaged.
                None => match self.next()? {
                    Some((at, batch)) if batch.last_offset() >= offset => return Ok(at),
                    Some(_) => {}
                    None => return Ok(at),
                },
            }
        }
    }

    /// The next batch and where it lies.
    #[allow(clippy::should_implement_trait)] // it lends: the batch borrows from the walk
    pub(crate) fn next(&mut self) -> Result<Option<(BatchPosition, RecordBatch<'_>)>> {
        let at = self.position;
        if at.file_position >= self.end {
            return Ok(None);
        }
        if RecordBatch::needed(self.loaded(at.file_position)).is_some() {
            self.load_batch(at.file_position)?;
        }
        let segment = self.segment;
        let batch =
            RecordBatch::parse(loaded(self.chunk.as_ref(), self.chunk_start, at.file_position))
                .map_err(|error| segment.damage_at(at, &error.to_string()))?;
        segment.check_follows(at, &batch)?;
        self.position = BatchPosition {
            file_position: at.file_position + batch.size() as u64,
            base_offset: batch.next_offset(),
        };
        Ok(Some((at, batch)))
    }

    /// The loaded bytes from a file position on.
    fn loaded(&self, file_position: u64) -> &[u8] {
        loaded(self.chunk.as_ref(), self.chunk_start, file_position)
    }

    /// Loads the batch at a position, or what there is of it.
    fn load_batch(&mut self, file_position: u64) -> Result<()> {
        self.load(file_position, 0)?;
        // Twice at most: the header may lie across the end of what is loaded, then the batch.
        while let Some(needed) = RecordBatch::needed(self.loaded(file_position)) {
            self.load(file_position, needed)?;
            if (self.loaded(file_position).len() as u64) < needed {
                break;
            }
        }
        Ok(())
    }

    /// Sees to it that some bytes are loaded at a position, at least `needed` if there are as many.
    fn load(&mut self, file_position: u64, needed: u64) -> Result<()> {
        let loaded = self.loaded(file_position).len() as u64;
        // What goes beyond the end is not there, however much is loaded.
        let needed = if needed > self.end - file_position { 0 } else { needed };
        if loaded > 0 && loaded >= needed {
            return Ok(());
        }
        self.chunk = Some(self.segment.records.stretch(file_position, needed, self.end)?);
        self.chunk_start = file_position;
        Ok(())
    }
}

/// The bytes of a chunk, which starts at `chunk_start`, from a file position on.
fn loaded(chunk: Option<&Chunk>, chunk_start: u64, file_position: u64) -> &[u8] {
    file_position
        .checked_sub(chunk_start)
        .and_then(|skip| chunk?.get(usize::try_from(skip).ok()?..))
        .unwrap_or_default()
}
