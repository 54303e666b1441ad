//! What to do about an engine that keeps failing: a pure rule, and the signal that ends the
//! process.

use tokio_util::sync::CancellationToken;

/// Images that fail one after the other, each run alone, before the engine is thought broken. No
/// image can do that by itself: its tensor has the model's shape and holds numbers only.
const MAX_CONSECUTIVE_FAILURES: u32 = 3;

/// What follows a failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RecoveryStep {
    /// The image may be the cause.
    Continue,
    /// The engine is rebuilt.
    Rebuild,
    /// That did not help.
    GiveUp,
}

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    consecutive_failures: u32,
    rebuilt: bool,
}

impl Recovery {
    /// A run gave its outputs.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// An image failed that was run alone.
    pub(super) fn failed(&mut self) -> RecoveryStep {
        self.consecutive_failures += 1;
        if self.consecutive_failures < MAX_CONSECUTIVE_FAILURES {
            return RecoveryStep::Continue;
        }
        if self.rebuilt {
            return RecoveryStep::GiveUp;
        }
        *self = Self {
            consecutive_failures: 0,
            rebuilt: true,
        };
        RecoveryStep::Rebuild
    }
}

/// Raised when an engine is broken for good, or its thread has ended, so that the process ends and
/// its supervisor restarts it. A handle; clones share it.
#[derive(Clone, Debug, Default)]
pub struct FatalSignal(CancellationToken);

impl FatalSignal {
    /// Waits until it is raised; at once if it was.
    pub async fn raised(&self) {
        self.0.cancelled().await;
    }

    /// Whether it was rung.
    pub fn is_rung(&self) -> bool {
        self.0.is_cancelled()
    }

    pub(super) fn raise(&self) {
        self.0.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(recovery: &mut Recovery, failures: usize) -> Vec<RecoveryStep> {
        (0..failures).map(|_| recovery.failed()).collect()
    }

    #[test]
    fn three_in_a_row_rebuild_and_three_more_give_up() {
        use RecoveryStep::{Continue, GiveUp, Rebuild};
        let mut recovery = Recovery::default();
        let expected = [Continue, Continue, Rebuild, Continue, Continue, GiveUp];
        assert_eq!(steps(&mut recovery, 6), expected);
    }

    #[test]
    fn one_success_resets_the_count() {
        let mut recovery = Recovery::default();
        steps(&mut recovery, 5);
        recovery.succeeded();
        assert_eq!(steps(&mut recovery, 3).last(), Some(&RecoveryStep::Rebuild));
    }
}
