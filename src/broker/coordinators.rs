//! What knows of groups, of either kind.

use crate::error::Result;
use crate::group::coordinator::GroupCoordinator;
use crate::metrics::MetricsSnapshot;
use crate::share_group::coordinator::ShareCoordinator;

/// The coordinators of a broker, as the background thread has them too.
pub(crate) struct Coordinators {
    pub(crate) groups: GroupCoordinator,
    pub(crate) shares: ShareCoordinator,
}

impl Coordinators {
    /// What the broker has counted, and how far all groups are.
    pub(crate) fn snapshot(&self) -> Result<MetricsSnapshot> {
        let mut snapshot = self.groups.snapshot()?;
        snapshot.share_groups = self.shares.measure()?;
        Ok(snapshot)
    }
}
