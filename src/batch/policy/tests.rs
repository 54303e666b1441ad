use super::*;
use crate::batch::curve::tests::run;

const MS: fn(u64) -> Duration = Duration::from_millis;

fn policy(batching: Batching, max_batch: usize) -> Policy {
    Policy {
        batching,
        max_batch: NonZeroUsize::new(max_batch).unwrap(),
        max_waiting: NonZeroUsize::new(100).unwrap(),
    }
}

fn auto(max_batch: usize) -> Policy {
    policy(Batching::Auto, max_batch)
}

/// An engine that takes `fixed + each · size` milliseconds and has run every size.
fn engine(fixed: u64, each: u64, max_batch: usize) -> Curve {
    let mut curve = Curve::new(max_batch, &[]);
    for size in 1..=max_batch {
        curve.learn(size, run(MS(fixed + each * size as u64)));
    }
    curve
}

/// A lone engine, which is free.
const ONE: Engines = Engines { all: 1, idle: 1 };

/// So many wait, and nobody is in a hurry.
fn patient(waiting: usize) -> Vec<Duration> {
    vec![Duration::from_secs(60); waiting]
}

#[test]
fn a_lone_request_runs_alone_and_at_once() {
    for batching in [Batching::Greedy, Batching::Auto] {
        for curve in [engine(5, 5, 8), Curve::new(8, &[])] {
            assert_eq!(policy(batching, 8).close(&patient(1), &curve, ONE), 1);
        }
    }
}

#[test]
fn nothing_waiting_closes_nothing() {
    for batching in [Batching::Greedy, Batching::Auto] {
        for curve in [engine(5, 5, 8), Curve::new(8, &[])] {
            assert_eq!(policy(batching, 8).close(&[], &curve, ONE), 0);
        }
    }
}

#[test]
fn greedy_takes_all_up_to_the_largest_batch() {
    let curve = engine(0, 10, 8);
    let greedy = policy(Batching::Greedy, 8);
    assert_eq!(greedy.close(&patient(5), &curve, ONE), 5);
    assert_eq!(greedy.close(&patient(50), &curve, ONE), 8);
}

#[test]
fn auto_makes_nobody_wait_where_batches_gain_next_to_nothing() {
    // Nothing; 3.5 %.
    for (curve, crowd) in [(engine(0, 10, 8), 1), (engine(2, 50, 8), 8)] {
        for waiting in [2, 5, 15] {
            assert_eq!(auto(8).close(&patient(waiting), &curve, ONE), 1);
        }
        // Two full batches wait.
        assert_eq!(auto(8).close(&patient(16), &curve, ONE), crowd);
    }
}

#[test]
fn auto_fills_up_where_a_batch_costs_as_much_as_a_single() {
    let curve = engine(10, 0, 8);
    assert_eq!(auto(8).close(&patient(5), &curve, ONE), 5);
    assert_eq!(auto(8).close(&patient(50), &curve, ONE), 8);
}

#[test]
fn auto_takes_all_that_wait_where_batches_gain() {
    // 20 ms for a single, 11.25 ms each in a batch of 8; 10.9 and 10.1.
    for curve in [engine(10, 10, 8), engine(9, 100, 8)] {
        assert_eq!(auto(8).close(&patient(3), &curve, ONE), 3);
        assert_eq!(auto(8).close(&patient(20), &curve, ONE), 8);
    }
}

#[test]
fn engines_that_are_idle_together_share_what_waits() {
    let curve = engine(10, 10, 8);
    let close = |waiting, idle| {
        let engines = Engines { all: 2, idle };
        auto(8).close(&patient(waiting), &curve, engines)
    };
    assert_eq!((close(1, 2), close(5, 2), close(20, 2)), (1, 3, 8));
    // The other one is busy.
    assert_eq!((close(5, 1), close(20, 1)), (5, 8));
}

#[test]
fn the_last_in_line_is_served_by_all_engines() {
    // 51 ms for a single, so four take 204 by one engine and 102 by two.
    let curve = engine(1, 50, 8);
    let two = Engines { all: 2, idle: 1 };
    assert_eq!(auto(8).close(&[MS(110); 4], &curve, two), 1);
    assert_eq!(auto(8).close(&[MS(203); 4], &curve, ONE), 4);
}

#[test]
fn a_batch_is_cut_short_for_one_whose_time_runs_out() {
    // A batch of 4 takes 50 ms, one of 3 takes 40.
    let curve = engine(10, 10, 8);
    let left = [MS(900), MS(45), MS(900), MS(900)];
    assert_eq!(auto(8).close(&left, &curve, ONE), 3);
    // Whom nothing can help does not hold up the others.
    let left = [MS(900), MS(5), MS(900), MS(900)];
    assert_eq!(auto(8).close(&left, &curve, ONE), 4);
}

#[test]
fn throughput_comes_first_where_the_last_in_line_would_be_late() {
    // 51 ms for a single, 201 for four: by far too little to wait for others.
    let curve = engine(1, 50, 8);
    assert_eq!(auto(8).close(&[MS(205); 4], &curve, ONE), 1);
    assert_eq!(auto(8).close(&[MS(203); 4], &curve, ONE), 4);
}

#[test]
fn auto_tries_each_size_before_it_judges() {
    let mut curve = Curve::new(12, &[(1, MS(30))]);
    for expected in [1, 2, 4, 8, 12] {
        assert_eq!(auto(12).close(&patient(40), &curve, ONE), expected);
        curve.learn(expected, run(MS(10 * expected as u64)));
    }
    assert_eq!(auto(12).close(&patient(40), &curve, ONE), 1);
}

#[test]
fn a_size_is_not_tried_before_that_many_wait_nor_when_time_is_short() {
    let mut curve = Curve::new(8, &[]);
    curve.learn(1, run(MS(10)));
    curve.learn(2, run(MS(20)));
    assert_eq!(auto(8).close(&patient(3), &curve, ONE), 1);
    assert_eq!(auto(8).close(&patient(4), &curve, ONE), 4);
    // Four are expected to take 40 ms.
    assert_eq!(auto(8).close(&[MS(79); 4], &curve, ONE), 1);
}

#[test]
fn background_runs_one_by_one_where_every_input_costs_its_own_time() {
    let curve = engine(0, 10, 8);
    let greedy = policy(Batching::Greedy, 8);
    assert_eq!(greedy.fill(0, 20, &curve), 1);
    for foreground in [1, 4, 8] {
        assert_eq!(greedy.fill(foreground, 20, &curve), 0);
    }
}

#[test]
fn background_travels_free_where_a_batch_costs_as_much_as_a_single() {
    let curve = engine(10, 0, 8);
    let greedy = policy(Batching::Greedy, 8);
    assert_eq!(greedy.fill(0, 20, &curve), 8);
    assert_eq!(greedy.fill(3, 20, &curve), 5);
    assert_eq!(greedy.fill(3, 2, &curve), 2);
    assert_eq!(greedy.fill(8, 20, &curve), 0);
}

#[test]
fn an_engine_of_which_nothing_is_known_runs_background_alone_and_only_when_idle() {
    let greedy = policy(Batching::Greedy, 8);
    assert_eq!(greedy.fill(0, 20, &Curve::new(8, &[])), 1);
    assert_eq!(greedy.fill(2, 20, &Curve::new(8, &[])), 0);
    assert_eq!(greedy.fill(0, 0, &Curve::new(8, &[])), 0);
}
