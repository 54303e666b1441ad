//! The loops in virtual time: a pretended server whose service times are exact.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn open(rate: f64, max_in_flight: u32, seconds: u32, give_up_after: Duration) -> Plan {
    let load = Load::Open {
        rate,
        arrivals: Arrivals::Constant,
        seed: 1,
        max_in_flight,
        give_up_after,
    };
    Plan {
        load,
        duration: SECOND * seconds,
        max_requests: u64::MAX,
    }
}

async fn takes_a_second(_: u64) -> Outcome {
    time::sleep(SECOND).await;
    Outcome::Answer(200)
}

/// Within the three digits of the histogram.
fn assert_micros(found: u64, expected: Duration) {
    let expected = expected.as_micros() as f64;
    assert!(
        (found as f64 - expected).abs() <= expected * 0.002 + 1000.0,
        "{found} µs, expected {expected}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_open_loop_sends_on_time_whatever_the_answers_take() {
    let tally = drive(&open(10.0, 100, 3, SECOND), takes_a_second)
        .await
        .unwrap();
    assert_eq!(tally.outcomes, [(Outcome::Answer(200), 30)].into());
    assert_micros(tally.succeeded.max(), SECOND);
    assert_micros(tally.late.max(), Duration::ZERO);
    assert_eq!(
        tally.elapsed.as_millis() / 100,
        39,
        "the last is due at 2.9 s"
    );
}

#[tokio::test(start_paused = true)]
async fn the_wait_behind_a_slow_answer_is_charged_to_those_who_waited() {
    // One place, a second each, due every half second: the n-th is done at n + 1 s.
    let tally = drive(&open(2.0, 1, 2, SECOND * 60), takes_a_second)
        .await
        .unwrap();
    assert_eq!(tally.succeeded.len(), 4);
    assert_micros(tally.succeeded.min(), SECOND);
    assert_micros(tally.succeeded.max(), Duration::from_millis(4000 - 1500));
    assert_micros(tally.late.max(), Duration::from_millis(3000 - 1500));
}

#[tokio::test(start_paused = true)]
async fn requests_that_were_never_sent_are_reported_and_the_run_ends() {
    let stuck = |_| async {
        time::sleep(SECOND * 5).await;
        Outcome::TimedOut
    };
    let tally = drive(&open(1.0, 1, 3, SECOND), stuck).await.unwrap();
    assert_eq!(
        tally.outcomes,
        [(Outcome::TimedOut, 1), (Outcome::NotSent, 2)].into()
    );
    assert_eq!(tally.succeeded.len() + tally.refused.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_closed_loop_sends_the_next_only_after_an_answer() {
    let plan = Plan {
        load: Load::Closed { clients: 3 },
        duration: SECOND * 4,
        max_requests: u64::MAX,
    };
    let tally = drive(&plan, takes_a_second).await.unwrap();
    assert_eq!(tally.outcomes, [(Outcome::Answer(200), 12)].into());
}

#[tokio::test(start_paused = true)]
async fn either_loop_stops_at_its_count() {
    let closed = Plan {
        load: Load::Closed { clients: 4 },
        duration: SECOND * 9,
        max_requests: 6,
    };
    assert_eq!(
        drive(&closed, takes_a_second)
            .await
            .unwrap()
            .succeeded
            .len(),
        6
    );
    let open = Plan {
        max_requests: 5,
        ..open(10.0, 8, 60, SECOND)
    };
    assert_eq!(
        drive(&open, takes_a_second).await.unwrap().succeeded.len(),
        5
    );
}

#[tokio::test(start_paused = true)]
async fn refusals_stay_out_of_the_latency_of_successes() {
    let plan = Plan {
        load: Load::Closed { clients: 1 },
        duration: SECOND * 9,
        max_requests: 4,
    };
    let alternating = |number| async move {
        if number % 2 == 0 {
            return takes_a_second(number).await;
        }
        time::sleep(SECOND / 100).await;
        Outcome::Answer(503)
    };
    let tally = drive(&plan, alternating).await.unwrap();
    assert_micros(tally.succeeded.min(), SECOND);
    assert_micros(tally.refused.max(), SECOND / 100);
}

#[tokio::test(start_paused = true)]
async fn clients_of_a_server_that_is_away_rest_between_attempts() {
    let plan = Plan {
        load: Load::Closed { clients: 2 },
        duration: SECOND,
        max_requests: u64::MAX,
    };
    let tally = drive(&plan, |_| async { Outcome::ConnectionFailed })
        .await
        .unwrap();
    assert_eq!(tally.outcomes, [(Outcome::ConnectionFailed, 20)].into());
}
