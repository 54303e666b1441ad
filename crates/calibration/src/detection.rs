//! How well a value tells familiar images from others. Larger is more familiar everywhere here.

/// The area under the ROC curve: how often a familiar image has the larger value of the two, ties
/// counted half (Mann & Whitney 1947). `None` where one of the kinds is missing.
pub fn auroc(familiar: &[f64], unlike: &[f64]) -> Option<f64> {
    if familiar.is_empty() || unlike.is_empty() {
        return None;
    }
    let mut all: Vec<(f64, bool)> = Vec::with_capacity(familiar.len() + unlike.len());
    all.extend(familiar.iter().map(|&value| (value, true)));
    all.extend(unlike.iter().map(|&value| (value, false)));
    all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let (mut pairs, mut below) = (0.0, 0.0);
    for tied in all.chunk_by(|a, b| a.0 == b.0) {
        let ours = tied.iter().filter(|(_, familiar)| *familiar).count() as f64;
        let others = tied.len() as f64 - ours;
        pairs += ours * (below + others / 2.0);
        below += others;
    }
    Some(pairs / (familiar.len() as f64 * unlike.len() as f64))
}

/// FPR95: which share of the others passes where 95 % of the familiar images do. `None` where one of
/// the kinds is missing.
pub fn fpr95(familiar: &[f64], unlike: &[f64]) -> Option<f64> {
    if familiar.is_empty() || unlike.is_empty() {
        return None;
    }
    let mut sorted = familiar.to_vec();
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    let passing = (0.95 * sorted.len() as f64 - 1e-9).ceil() as usize;
    let threshold = sorted[passing.max(1) - 1];
    let passed = unlike.iter().filter(|&&value| value >= threshold).count();
    Some(passed as f64 / unlike.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_apart_kinds_alike_and_kinds_the_wrong_way_round() {
        assert_eq!(auroc(&[2.0, 3.0], &[0.0, 1.0]), Some(1.0));
        assert_eq!(auroc(&[1.0, 1.0], &[1.0]), Some(0.5));
        assert_eq!(auroc(&[0.0], &[1.0, 2.0]), Some(0.0));
        assert_eq!(fpr95(&[2.0, 3.0], &[0.0, 2.5]), Some(0.5));
    }

    #[test]
    fn one_kind_alone_says_nothing() {
        assert_eq!(auroc(&[], &[1.0]), None);
        assert_eq!(fpr95(&[1.0], &[]), None);
    }
}
