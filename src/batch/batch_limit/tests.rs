use super::*;

const PAUSE: Duration = BatchLimit::FIRST_PAUSE;

/// A device with memory for so many, asked for as much as may run every minute.
fn settle(limit: &mut BatchLimit, room: usize, mut now: Instant, minutes: usize) -> Instant {
    for _ in 0..minutes {
        let size = limit.at(now);
        match size <= room {
            true => limit.ran(size, now),
            false => drop(limit.ran_out(size, now)),
        }
        now += PAUSE;
    }
    now
}

#[test]
fn what_did_not_fit_is_halved_and_remembered() {
    let now = Instant::now();
    let mut limit = BatchLimit::new(32, 32, now);
    assert_eq!(limit.at(now), 32);
    assert_eq!(limit.ran_out(32, now), Some(16));
    assert_eq!(limit.ran_out(16, now), Some(8));
    limit.ran(8, now);
    assert_eq!(limit.at(now + PAUSE / 2), 8);
}

#[test]
fn the_larger_half_of_an_odd_batch_is_within_the_limit() {
    let now = Instant::now();
    let mut limit = BatchLimit::new(32, 32, now);
    assert_eq!(limit.ran_out(5, now), Some(3));
}

#[test]
fn a_single_image_is_never_forbidden() {
    let now = Instant::now();
    let mut limit = BatchLimit::new(1, 1, now);
    assert_eq!(limit.ran_out(1, now), None);
    assert_eq!(limit.at(now), 1);
    assert_eq!(limit.at(now + PAUSE), 1);
    let mut limit = BatchLimit::new(8, 8, now);
    assert_eq!(limit.ran_out(2, now), Some(1));
    assert_eq!(limit.ran_out(1, now), None);
    assert_eq!(limit.at(now), 1);
    assert_eq!(limit.at(now + PAUSE), 2);
}

#[test]
fn after_a_while_a_larger_batch_is_tried_between_what_fits_and_what_does_not() {
    let now = Instant::now();
    let mut limit = BatchLimit::new(64, 64, now);
    limit.ran_out(64, now);
    assert_eq!(limit.at(now + PAUSE), 48);
    // A trial that fails is no news to be told of, and leaves what fits.
    assert_eq!(limit.ran_out(48, now + PAUSE), None);
    assert_eq!(limit.at(now + PAUSE), 32);
    assert_eq!(limit.at(now + 2 * PAUSE), 40);
}

#[test]
fn the_limit_comes_to_within_an_eighth_of_the_room() {
    for room in [1, 2, 3, 7, 17, 33, 50, 63, 100, 127] {
        let now = Instant::now();
        let mut limit = BatchLimit::new(128, 128, now);
        settle(&mut limit, room, now, 200);
        let fits = limit.fits();
        assert!(
            fits <= room && fits + fits / 8 + 1 >= room,
            "{fits} of {room}"
        );
    }
}

#[test]
fn memory_that_comes_back_is_used_again() {
    let now = Instant::now();
    let mut limit = BatchLimit::new(128, 128, now);
    let now = settle(&mut limit, 20, now, 200);
    let now = settle(&mut limit, 128, now, 200);
    assert_eq!(limit.fits(), 128);
    // Then there is nothing left to try.
    assert_eq!(limit.at(now + BatchLimit::LONGEST_PAUSE), 128);
}

#[test]
fn what_is_known_not_to_fit_is_tried_ever_more_seldom() {
    let mut now = Instant::now();
    let mut limit = BatchLimit::new(8, 8, now);
    limit.ran_out(2, now);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let mut waited = Duration::ZERO;
        while limit.at(now + waited) == 1 {
            waited += PAUSE;
        }
        now += waited;
        limit.ran_out(2, now);
        pauses.push(waited.as_secs() / 60);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
}

#[test]
fn a_warm_up_that_found_less_room_is_where_serving_starts() {
    let now = Instant::now();
    let limit = BatchLimit::new(64, 56, now);
    assert_eq!(limit.at(now), 56);
    assert_eq!(limit.at(now + PAUSE), 57);
    assert_eq!(BatchLimit::new(64, 0, now).at(now), 1);
}

#[test]
fn another_engine_s_batch_that_was_under_way_does_not_lower_the_limit_again() {
    let now = Instant::now();
    let mut limit = BatchLimit::new(32, 32, now);
    assert_eq!(limit.ran_out(32, now), Some(16));
    assert_eq!(limit.ran_out(32, now), None);
    assert_eq!(limit.at(now), 16);
}
