//! What to do about an engine that fails again and again: a pure rule, and the bell that ends the
//! process.

use tokio_util::sync::CancellationToken;

/// Pictures that fail one after the other, each run alone, before the engine is thought broken. No
/// picture can do that by itself: its tensor has the model's shape and holds numbers only.
const PATIENCE: u32 = 3;

/// What follows a failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// It may have been this picture.
    GoOn,
    /// The engine is made anew.
    Rebuild,
    /// That did not help.
    GiveUp,
}

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    in_a_row: u32,
    rebuilt: bool,
}

impl Recovery {
    /// A run gave its outputs.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// A picture failed that was run alone.
    pub(super) fn failed(&mut self) -> Step {
        self.in_a_row += 1;
        if self.in_a_row < PATIENCE {
            return Step::GoOn;
        }
        if self.rebuilt {
            return Step::GiveUp;
        }
        *self = Self {
            in_a_row: 0,
            rebuilt: true,
        };
        Step::Rebuild
    }
}

/// Rung when an engine is broken for good, or its thread has ended, so that the process ends and
/// whoever supervises it starts it afresh. A handle; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Alarm(CancellationToken);

impl Alarm {
    /// Waits until it is rung; at once if it was.
    pub async fn rung(&self) {
        self.0.cancelled().await;
    }

    /// Whether it was rung.
    pub fn is_rung(&self) -> bool {
        self.0.is_cancelled()
    }

    pub(super) fn ring(&self) {
        self.0.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(recovery: &mut Recovery, failures: usize) -> Vec<Step> {
        (0..failures).map(|_| recovery.failed()).collect()
    }

    #[test]
    fn three_in_a_row_rebuild_and_three_more_give_up() {
        use Step::{GiveUp, GoOn, Rebuild};
        let mut recovery = Recovery::default();
        let expected = [GoOn, GoOn, Rebuild, GoOn, GoOn, GiveUp];
        assert_eq!(steps(&mut recovery, 6), expected);
    }

    #[test]
    fn one_success_forgives_everything() {
        let mut recovery = Recovery::default();
        steps(&mut recovery, 5);
        recovery.succeeded();
        assert_eq!(steps(&mut recovery, 3).last(), Some(&Step::Rebuild));
    }
}
