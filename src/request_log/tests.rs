use super::*;

#[test]
fn a_sample_takes_its_share() {
    let taken = |share| {
        let sampler = Sampler {
            share,
            state: AtomicU64::new(7),
        };
        (0..10_000).filter(|_| sampler.takes()).count()
    };
    assert_eq!(taken(0.0), 0);
    assert_eq!(taken(1.0), 10_000);
    // Five standard deviations of a binomial distribution.
    assert!(taken(0.1).abs_diff(1000) < 150, "{}", taken(0.1));
}

#[test]
fn without_a_target_nothing_is_even_made() {
    RequestLog::default().record(|_| unreachable!("nobody wants it"));
}
