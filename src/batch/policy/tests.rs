use super::*;
use crate::batch::latency_model::tests::run;

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

/// An engine that takes `fixed + per_item · size` milliseconds and has run every size.
fn engine(fixed: u64, per_item: u64, max_batch: usize) -> LatencyModel {
    let mut latency = LatencyModel::new(max_batch, &[]);
    for size in 1..=max_batch {
        latency.record(size, run(MS(fixed + per_item * size as u64)));
    }
    latency
}

/// A lone engine, which is free.
const ONE: EngineCounts = EngineCounts { total: 1, idle: 1 };

/// So many items without a near deadline.
fn patient(waiting: usize) -> Vec<Duration> {
    vec![Duration::from_secs(60); waiting]
}

#[test]
fn a_lone_request_runs_alone_and_at_once() {
    for batching in [Batching::Greedy, Batching::Auto] {
        for latency in [engine(5, 5, 8), LatencyModel::new(8, &[])] {
            assert_eq!(policy(batching, 8).close(&patient(1), &latency, ONE), 1);
        }
    }
}

#[test]
fn nothing_waiting_closes_nothing() {
    for batching in [Batching::Greedy, Batching::Auto] {
        for latency in [engine(5, 5, 8), LatencyModel::new(8, &[])] {
            assert_eq!(policy(batching, 8).close(&[], &latency, ONE), 0);
        }
    }
}

#[test]
fn greedy_takes_all_up_to_the_largest_batch() {
    let latency = engine(0, 10, 8);
    let greedy = policy(Batching::Greedy, 8);
    assert_eq!(greedy.close(&patient(5), &latency, ONE), 5);
    assert_eq!(greedy.close(&patient(50), &latency, ONE), 8);
}

#[test]
fn auto_makes_no_request_wait_where_batches_gain_next_to_nothing() {
    // Nothing; 3.5 %.
    for (latency, batch) in [(engine(0, 10, 8), 1), (engine(2, 50, 8), 8)] {
        for waiting in [2, 5, 15] {
            assert_eq!(auto(8).close(&patient(waiting), &latency, ONE), 1);
        }
        // Two full batches wait.
        assert_eq!(auto(8).close(&patient(16), &latency, ONE), batch);
    }
}

#[test]
fn auto_fills_up_where_a_batch_costs_as_much_as_a_single() {
    let latency = engine(10, 0, 8);
    assert_eq!(auto(8).close(&patient(5), &latency, ONE), 5);
    assert_eq!(auto(8).close(&patient(50), &latency, ONE), 8);
}

#[test]
fn auto_takes_all_that_wait_where_batches_gain() {
    // 20 ms for a single, 11.25 ms each in a batch of 8; 10.9 and 10.1.
    for latency in [engine(10, 10, 8), engine(9, 100, 8)] {
        assert_eq!(auto(8).close(&patient(3), &latency, ONE), 3);
        assert_eq!(auto(8).close(&patient(20), &latency, ONE), 8);
    }
}

#[test]
fn engines_that_are_idle_together_share_what_waits() {
    let latency = engine(10, 10, 8);
    let close = |waiting, idle| {
        let engines = EngineCounts { total: 2, idle };
        auto(8).close(&patient(waiting), &latency, engines)
    };
    assert_eq!((close(1, 2), close(5, 2), close(20, 2)), (1, 3, 8));
    // The other one is busy.
    assert_eq!((close(5, 1), close(20, 1)), (5, 8));
}

#[test]
fn the_last_in_line_is_served_by_all_engines() {
    // 51 ms for a single, so four take 204 by one engine and 102 by two.
    let latency = engine(1, 50, 8);
    let two = EngineCounts { total: 2, idle: 1 };
    assert_eq!(auto(8).close(&[MS(110); 4], &latency, two), 1);
    assert_eq!(auto(8).close(&[MS(203); 4], &latency, ONE), 4);
}

#[test]
fn a_batch_is_cut_short_for_one_whose_time_runs_out() {
    // A batch of 4 takes 50 ms, one of 3 takes 40.
    let latency = engine(10, 10, 8);
    let left = [MS(900), MS(45), MS(900), MS(900)];
    assert_eq!(auto(8).close(&left, &latency, ONE), 3);
    // An item that misses its deadline anyway does not hold up the others.
    let left = [MS(900), MS(5), MS(900), MS(900)];
    assert_eq!(auto(8).close(&left, &latency, ONE), 4);
}

#[test]
fn throughput_comes_first_where_the_last_in_line_would_be_late() {
    // 51 ms for a single, 201 for four: by far too little to wait for others.
    let latency = engine(1, 50, 8);
    assert_eq!(auto(8).close(&[MS(205); 4], &latency, ONE), 1);
    assert_eq!(auto(8).close(&[MS(203); 4], &latency, ONE), 4);
}

#[test]
fn auto_tries_each_size_before_it_judges() {
    let mut latency = LatencyModel::new(12, &[(1, MS(30))]);
    for expected in [1, 2, 4, 8, 12] {
        assert_eq!(auto(12).close(&patient(40), &latency, ONE), expected);
        latency.record(expected, run(MS(10 * expected as u64)));
    }
    assert_eq!(auto(12).close(&patient(40), &latency, ONE), 1);
}

#[test]
fn a_size_is_not_tried_before_that_many_wait_nor_when_time_is_short() {
    let mut latency = LatencyModel::new(8, &[]);
    latency.record(1, run(MS(10)));
    latency.record(2, run(MS(20)));
    assert_eq!(auto(8).close(&patient(3), &latency, ONE), 1);
    assert_eq!(auto(8).close(&patient(4), &latency, ONE), 4);
    // Four are expected to take 40 ms.
    assert_eq!(auto(8).close(&[MS(79); 4], &latency, ONE), 1);
}

#[test]
fn background_runs_one_by_one_where_every_input_costs_its_own_time() {
    let latency = engine(0, 10, 8);
    let greedy = policy(Batching::Greedy, 8);
    assert_eq!(greedy.admit_background(0, 20, &latency), 1);
    for foreground in [1, 4, 8] {
        assert_eq!(greedy.admit_background(foreground, 20, &latency), 0);
    }
}

#[test]
fn background_travels_free_where_a_batch_costs_as_much_as_a_single() {
    let latency = engine(10, 0, 8);
    let greedy = policy(Batching::Greedy, 8);
    assert_eq!(greedy.admit_background(0, 20, &latency), 8);
    assert_eq!(greedy.admit_background(3, 20, &latency), 5);
    assert_eq!(greedy.admit_background(3, 2, &latency), 2);
    assert_eq!(greedy.admit_background(8, 20, &latency), 0);
}

#[test]
fn an_engine_of_which_nothing_is_known_runs_background_alone_and_only_when_idle() {
    let greedy = policy(Batching::Greedy, 8);
    assert_eq!(
        greedy.admit_background(0, 20, &LatencyModel::new(8, &[])),
        1
    );
    assert_eq!(
        greedy.admit_background(2, 20, &LatencyModel::new(8, &[])),
        0
    );
    assert_eq!(greedy.admit_background(0, 0, &LatencyModel::new(8, &[])), 0);
}

#[test]
fn a_batch_stays_open_until_shortly_before_its_device_is_free() {
    let hold = |waiting, busy_ms| auto(8).hold(waiting, Duration::from_millis(busy_ms));
    assert_eq!(hold(1, 20), Duration::from_millis(16));
    assert_eq!(hold(7, 3), Duration::ZERO);
    assert_eq!(hold(8, 20), Duration::ZERO);
}
