//! The plan on a model whose score is known: the share of some patches that it still sees.

use super::*;

const PATCHES: usize = 20;

/// The score of a model that looks at `object` alone, and counts.
fn scores(plan: &PerturbationPlan, object: &[usize]) -> Vec<f64> {
    plan.masks()
        .map(|replaced| {
            let seen = object.iter().filter(|&&patch| !replaced[patch]).count();
            seen as f64 / object.len() as f64
        })
        .collect()
}

/// A map that is strong on these patches alone.
fn map_of(object: &[usize]) -> Vec<f32> {
    let mut values = vec![0.0; PATCHES];
    for &patch in object {
        values[patch] = 1.0;
    }
    values
}

fn plan(map: &[f32], steps: usize) -> PerturbationPlan {
    let order = PatchOrder::strongest_first(map, 1);
    PerturbationPlan::new(vec![order], PATCHES, steps, 2)
}

#[test]
fn a_perfect_map_has_the_areas_that_are_computed_by_hand() {
    let object = [3, 7, 8, 9];
    let plan = plan(&map_of(&object), 10);
    let outcome = plan.outcome(&scores(&plan, &object)).unwrap();
    // Four of twenty patches are gone after two of ten steps: 1, ½, 0, 0, …
    assert_eq!(outcome.maps[0].deletion.scores()[..4], [1.0, 0.5, 0.0, 0.0]);
    assert!((outcome.maps[0].deletion.area() - 0.1).abs() < 1e-12);
    assert!((outcome.maps[0].insertion.area() - 0.9).abs() < 1e-12);
}

#[test]
fn a_map_that_is_wrong_throughout_is_worse_than_random() {
    let object = [3, 7, 8, 9];
    let wrong: Vec<f32> = map_of(&object).iter().map(|value| -value).collect();
    let plan = plan(&wrong, 10);
    let outcome = plan.outcome(&scores(&plan, &object)).unwrap();
    assert!(outcome.maps[0].deletion.area() > outcome.random.deletion.area());
    assert!(outcome.maps[0].insertion.area() < outcome.random.insertion.area());
}

/// For a score that is linear in the patches, an order and its reverse together have the area of
/// the straight line, which the mean over all orders is.
#[test]
fn a_random_order_and_its_reverse_have_the_area_of_chance() {
    let object = [0, 5, 19];
    let plan = plan(&map_of(&object), 5);
    let outcome = plan.outcome(&scores(&plan, &object)).unwrap();
    assert!((outcome.random.deletion.area() - 0.5).abs() < 1e-12);
    assert!((outcome.random.insertion.area() - 0.5).abs() < 1e-12);
}

#[test]
fn masks_begin_whole_and_empty_and_grow_by_equal_steps() {
    let plan = plan(&map_of(&[1]), 4);
    let counts: Vec<usize> = plan
        .masks()
        .map(|mask| mask.iter().filter(|&&replaced| replaced).count())
        .collect();
    assert_eq!(counts.len(), plan.images());
    let of_one = [5, 10, 15, 15, 10, 5];
    assert_eq!(counts[..2], [0, 20]);
    assert_eq!(counts[2..8], of_one);
    assert_eq!(counts[8..], of_one);
}

#[test]
fn a_score_too_few_gives_no_outcome() {
    let plan = plan(&map_of(&[1]), 4);
    let scores = scores(&plan, &[1]);
    assert_eq!(plan.outcome(&scores[1..]), None);
    assert!(plan.outcome(&[]).is_none());
}

#[test]
fn one_step_has_only_its_ends() {
    let plan = plan(&map_of(&[1]), 1);
    assert_eq!(plan.images(), 2);
    let outcome = plan.outcome(&[0.8, 0.2]).unwrap();
    assert_eq!(outcome.maps[0].deletion.scores(), [0.8, 0.2]);
    assert_eq!(outcome.random.insertion.scores(), [0.2, 0.8]);
}
