use super::*;

const BEFORE: &str = r#"# HELP patchlight_batch_size Images in a batch
# TYPE patchlight_batch_size histogram
patchlight_batch_size_bucket{le="1"} 10
patchlight_batch_size_bucket{le="2"} 10
patchlight_batch_size_bucket{le="16"} 12
patchlight_batch_size_bucket{le="+Inf"} 12
patchlight_batch_size_sum 34
patchlight_batch_size_count 12
patchlight_queue_depth 3
"#;

const AFTER: &str = r#"patchlight_batch_size_bucket{le="1"} 11
patchlight_batch_size_bucket{le="2"} 14
patchlight_batch_size_bucket{le="16"} 16
patchlight_batch_size_bucket{le="+Inf"} 17
patchlight_batch_size_sum 90.5
patchlight_batch_size_count 17
"#;

fn delta(before: &str, after: &str) -> Result<BatchSizes> {
    Histogram::delta(&Histogram::parse(before)?, &Histogram::parse(after)?)
}

#[test]
fn only_the_difference_counts_and_cumulative_buckets_are_split() {
    let sizes = delta(BEFORE, AFTER).unwrap();
    assert_eq!(sizes.batches, 5);
    assert!((sizes.mean - 11.3).abs() < 1e-9);
    let up_to = [("1", 1), ("2", 3), ("inf", 1)].map(|(le, n)| (le.to_owned(), n));
    assert_eq!(sizes.up_to, up_to.into());
}

#[test]
fn a_run_without_batches_has_a_mean_of_zero_and_not_nan() {
    let sizes = delta(BEFORE, BEFORE).unwrap();
    assert_eq!((sizes.batches, sizes.mean), (0, 0.0));
    assert!(sizes.up_to.is_empty());
}

#[test]
fn label_sets_are_added_up_wherever_the_bound_stands() {
    let text = r#"patchlight_batch_size_bucket{le="1",model="demo"} 2
patchlight_batch_size_bucket{le="+Inf",model="demo"} 3
patchlight_batch_size_bucket{model="vit, large",le="1"} 4
patchlight_batch_size_bucket{model="vit, large",le="+Inf"} 4
patchlight_batch_size_sum{model="demo"} 5
patchlight_batch_size_sum{model="vit, large"} 4
patchlight_batch_size_count{model="demo"} 3
patchlight_batch_size_count{model="vit, large"} 4
"#;
    let expected = Histogram {
        buckets: vec![(1.0, 6.0), (f64::INFINITY, 7.0)],
        sum: 9.0,
        count: 7.0,
    };
    assert_eq!(Histogram::parse(text).unwrap(), expected);
}

#[test]
fn a_restarted_server_is_noticed() {
    assert!(
        delta(AFTER, BEFORE)
            .unwrap_err()
            .to_string()
            .contains("restarted")
    );
}

#[test]
fn metrics_without_the_histogram_are_an_error() {
    assert!(Histogram::parse("patchlight_queue_depth 3\n").is_err());
    assert!(Histogram::parse("").is_err());
}

#[test]
fn a_line_that_is_not_understood_is_quoted() {
    for line in [
        "patchlight_batch_size_bucket{le=\"1\"} many",
        "patchlight_batch_size_bucket{model=\"a\"} 1",
    ] {
        assert!(
            Histogram::parse(line)
                .unwrap_err()
                .to_string()
                .contains(line),
            "{line}"
        );
    }
}
