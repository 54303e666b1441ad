use std::sync::LazyLock;

use super::*;

const MS: fn(u64) -> Duration = Duration::from_millis;

/// A moment that is the same for all runs, so that none is older than another.
static NOW: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A batch that ran for so long, computing all the time.
pub(in crate::batch) fn run(took: Duration) -> Run {
    Run {
        took,
        computed: Some(took),
        ended: *NOW,
    }
}

fn curve(points: &[(usize, u64)]) -> Curve {
    let mut curve = Curve::new(16, &[]);
    for &(size, ms) in points {
        curve.learn(size, run(MS(ms)));
    }
    curve
}

fn ms(curve: &Curve, size: usize) -> f64 {
    (curve.seconds(size).unwrap() * 1e6).round() / 1e3
}

#[test]
fn nothing_is_known_of_an_engine_that_has_not_run() {
    assert_eq!(curve(&[]).seconds(1), None);
}

#[test]
fn one_size_alone_is_taken_for_proportional() {
    let curve = curve(&[(2, 20)]);
    assert_eq!(
        (ms(&curve, 1), ms(&curve, 2), ms(&curve, 8)),
        (10.0, 20.0, 80.0)
    );
}

#[test]
fn unknown_sizes_lie_on_the_line() {
    let curve = curve(&[(1, 12), (8, 26)]);
    assert_eq!((ms(&curve, 4), ms(&curve, 16)), (18.0, 42.0));
}

#[test]
fn sizes_are_chosen_by_the_line_in_which_many_runs_weigh_more() {
    // 10 + 2 · size, and one run of 4 that something disturbed.
    let mut many = [(1, 12), (2, 14), (8, 26)].repeat(20);
    many.push((4, 60));
    let curve = curve(&many);
    for (size, ms) in [(1, 12.0), (4, 18.0 / 4.0), (8, 26.0 / 8.0)] {
        let each = curve.each(size).unwrap() * 1e3;
        assert!((each / ms - 1.0).abs() < 0.1, "{size}: {each}");
    }
}

#[test]
fn a_known_size_is_its_own_mean_even_off_the_line() {
    assert_eq!(ms(&curve(&[(1, 10), (2, 50), (4, 20)]), 2), 50.0);
}

#[test]
fn noise_does_not_make_larger_batches_quicker_or_small_ones_free() {
    assert!(ms(&curve(&[(1, 20), (8, 10)]), 16) >= 10.0);
    assert!(ms(&curve(&[(4, 10), (8, 40)]), 1) > 0.0);
}

#[test]
fn a_few_runs_are_averaged_and_later_ones_weigh_a_twentieth() {
    assert_eq!(ms(&curve(&[(1, 10), (1, 20), (1, 60)]), 1), 30.0);
    let mut long = curve(&[(1, 10); 100]);
    long.learn(1, run(MS(30)));
    assert_eq!(ms(&long, 1), 11.0);
}

#[test]
fn what_ran_before_the_first_request_is_believed_until_that_size_serves() {
    let first_run = [(1, Duration::from_millis(40))];
    let mut curve = Curve::new(8, &first_run);
    assert_eq!((ms(&curve, 1), ms(&curve, 8)), (40.0, 320.0));
    assert!(!curve.knows(1));
    curve.learn(1, run(MS(10)));
    assert_eq!(ms(&curve, 1), 10.0);
    assert!(curve.knows(1));
}

#[test]
fn a_size_that_has_not_run_for_long_is_judged_anew() {
    let mut curve = curve(&[(8, 800)]);
    for _ in 0..1000 {
        curve.learn(1, run(MS(10)));
    }
    assert!(curve.knows(8));
    curve.learn(1, run(MS(10)));
    assert!(!curve.knows(8));
    // By the line through the others and what it was: no longer by its own mean alone.
    assert!(ms(&curve, 8) < 400.0);
    curve.learn(8, run(MS(40)));
    assert_eq!(ms(&curve, 8), 40.0);
}

#[test]
fn sizes_beyond_the_largest_batch_are_not_kept() {
    assert_eq!(curve(&[(17, 10), (0, 10)]).points().count(), 0);
}

#[test]
fn one_slow_run_counts_for_four_times_what_was_expected() {
    // A lone figure from before the first request, and a mean of many runs.
    let mut first = Curve::new(8, &[(1, MS(40))]);
    first.learn(1, run(MS(4000)));
    assert_eq!(ms(&first, 1), 160.0);
    let mut many = curve(&[(1, 10); 100]);
    many.learn(1, run(MS(4000)));
    assert_eq!(ms(&many, 1), 11.5);
    // Of a size that has not run, by what the others make expected: 10 ms each.
    many = curve(&[(1, 10)]);
    many.learn(8, run(MS(4000)));
    assert_eq!(ms(&many, 8), 320.0);
}

#[test]
fn an_engine_that_is_slower_for_good_is_found_out_within_seconds() {
    let mut curve = curve(&[(1, 10); 100]);
    let learned = (1..).find(|_| {
        curve.learn(1, run(MS(1000)));
        ms(&curve, 1) > 900.0
    });
    // (1 + 3 / 20)ⁿ = 25 after 23 runs, and a twentieth of the rest with each one after that.
    assert!((40..100).contains(&learned.unwrap()), "{learned:?}");
}

/// So long, of which the thread computed so long.
fn stall(took: u64, computed: u64, ended: Instant) -> Run {
    Run {
        took: MS(took),
        computed: Some(MS(computed)),
        ended,
    }
}

#[test]
fn a_run_during_which_the_process_stood_still_teaches_nothing() {
    let start = *NOW;
    let mut curve = Curve::new(8, &[(1, MS(40))]);
    curve.learn(1, stall(4015, 15, start));
    assert_eq!((ms(&curve, 1), curve.knows(1)), (40.0, false));
    // Another one so soon is no accident, and one that computed was no stall.
    curve.learn(1, stall(4015, 15, start + MS(59_999)));
    assert_eq!(ms(&curve, 1), 160.0);
    let mut curve = Curve::new(8, &[(1, MS(40))]);
    curve.learn(1, stall(4000, 250, start));
    assert_eq!(ms(&curve, 1), 160.0);
}

#[test]
fn a_stall_of_two_engines_at_once_is_one_accident() {
    let start = *NOW;
    let mut curve = curve(&[(1, 10); 100]);
    for milliseconds in [4000, 4010, 4020] {
        curve.learn(1, stall(4015, 15, start + MS(milliseconds)));
    }
    assert_eq!(ms(&curve, 1), 10.0);
    curve.learn(1, stall(4015, 15, start + MS(8100)));
    assert!(ms(&curve, 1) > 11.0);
}

#[test]
fn an_engine_that_took_no_time_is_found_out_to_take_some() {
    let mut curve = Curve::new(8, &[(1, Duration::ZERO)]);
    for _ in 0..100 {
        curve.learn(1, run(MS(10)));
    }
    assert!(ms(&curve, 1) > 9.0);
}

#[test]
fn a_stall_is_left_out_again_after_a_minute() {
    let start = *NOW;
    let mut curve = curve(&[(1, 10); 100]);
    for minute in 0..10 {
        curve.learn(1, stall(4015, 15, start + minute * Curve::ACCIDENT));
    }
    assert_eq!(ms(&curve, 1), 10.0);
}

#[test]
fn where_the_system_tells_no_processor_time_a_stall_is_a_slow_run() {
    let unknown = Run {
        computed: None,
        ..run(MS(4000))
    };
    let mut curve = Curve::new(8, &[(1, MS(40))]);
    curve.learn(1, unknown);
    assert_eq!(ms(&curve, 1), 160.0);
}

#[test]
fn a_run_as_short_as_expected_is_learned_from_whoever_computed() {
    // On a GPU the thread may wait all the time.
    let mut curve = Curve::new(8, &[(1, MS(40))]);
    curve.learn(1, stall(60, 0, *NOW));
    assert_eq!(ms(&curve, 1), 60.0);
}

#[test]
fn what_was_learned_long_ago_yields_to_the_next_run() {
    let start = *NOW;
    let at = |took, seconds| Run {
        ended: start + Duration::from_secs(seconds),
        ..run(MS(took))
    };
    let learned = || {
        let mut curve = Curve::new(8, &[]);
        for _ in 0..100 {
            curve.learn(1, at(40, 0));
        }
        curve
    };
    // At once a twentieth; after a minute 19 runs count as 9.5; after an hour as none.
    for (seconds, expected) in [(0, 38.5), (60, 40.0 - 30.0 / 10.5), (3600, 10.0)] {
        let mut curve = learned();
        curve.learn(1, at(10, seconds));
        assert!((ms(&curve, 1) - expected).abs() < 0.01, "{seconds}");
    }
}

#[test]
fn in_the_line_what_is_old_counts_for_less() {
    let start = *NOW;
    let at = |took, seconds| Run {
        ended: start + Duration::from_secs(seconds),
        ..run(MS(took))
    };
    let mut curve = Curve::new(8, &[]);
    for _ in 0..20 {
        curve.learn(8, at(320, 0));
    }
    let before = ms(&curve, 4);
    for _ in 0..20 {
        curve.learn(1, at(10, 3600));
        curve.learn(2, at(20, 3600));
    }
    // 160 ms by the old speed, 40 by the new one.
    let after = ms(&curve, 4);
    assert!(before == 160.0 && (40.0..120.0).contains(&after), "{after}");
}
