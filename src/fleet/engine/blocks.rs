//! The KV cache as a count of blocks.

/// Share of the blocks up to which sequences are admitted; the rest is kept for those that already run. vLLM's watermark.
const ADMISSION_PERCENT: u64 = 99;

#[derive(Debug)]
pub(super) struct Blocks {
    total: u32,
    used: u32,
}

impl Blocks {
    pub(super) fn new(total: u32) -> Self {
        Self { total, used: 0 }
    }

    /// Blocks that sequences may hold when a further one is admitted.
    pub(super) fn admission_limit(&self) -> u32 {
        (u64::from(self.total) * ADMISSION_PERCENT / 100) as u32
    }

    /// Whether a sequence that needs `count` blocks may be admitted.
    pub(super) fn admits(&self, count: u32) -> bool {
        count <= self.admission_limit().saturating_sub(self.used)
    }

    pub(super) fn free(&self) -> u32 {
        self.total - self.used
    }

    pub(super) fn take(&mut self, count: u32) {
        debug_assert!(count <= self.free(), "{count} blocks taken of {} free", self.free());
        self.used += count;
    }

    pub(super) fn give_back(&mut self, count: u32) {
        debug_assert!(count <= self.used, "{count} blocks given back of {} used", self.used);
        self.used -= count;
    }

    pub(super) fn total(&self) -> u32 {
        self.total
    }

    pub(super) fn used(&self) -> u32 {
        self.used
    }

    /// Used share, 0 to 1.
    pub(super) fn usage(&self) -> f64 {
        if self.total == 0 { 0.0 } else { f64::from(self.used) / f64::from(self.total) }
    }
}
