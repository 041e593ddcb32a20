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

    /// Where the next batch lies, or will lie.
    pub(crate) fn position(&self) -> BatchPosition {
        self.position
    }

    /// The next batch and where it lies.
    #[allow(clippy::should_implement_trait)] // it lends: the batch borrows from the walk
    pub(crate) fn next(&mut self) -> Result<Option<(BatchPosition, RecordBatch<'_>)>> {
        let at = self.position;
        if at.file_position >= self.end {
            return Ok(None);
        }
        self.load(at.file_position, 0)?;
        // Twice at most: the header may lie across the end of what is loaded, then the batch.
        while let Some(needed) = RecordBatch::needed(self.loaded(at.file_position)) {
            self.load(at.file_position, needed)?;
            if (self.loaded(at.file_position).len() as u64) < needed {
                break;
            }
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
