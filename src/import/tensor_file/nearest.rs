//! Which of a file's names are most like one that is not there.

use crate::import::error::quoted;

/// How many names are told.
const TOLD: usize = 3;

/// The nearest names, as the end of a sentence; nothing if there are none.
pub(super) fn told(names: &[String], missing: &str) -> String {
    if names.is_empty() {
        return "; the file has no tensors".to_owned();
    }
    let mut ranked: Vec<(usize, &String)> = names
        .iter()
        .map(|name| (in_common(missing, name), name))
        .collect();
    ranked.sort_by_key(|&(common, name)| (std::cmp::Reverse(common), name.len(), name));
    let nearest: Vec<String> = ranked
        .iter()
        .take(TOLD)
        .map(|(_, name)| format!("`{}`", quoted(name)))
        .collect();
    format!("; nearest of {} are {}", names.len(), nearest.join(", "))
}

/// How many parts of a name another has in the same order: the length of their longest common
/// subsequence.
fn in_common(missing: &str, name: &str) -> usize {
    let wanted: Vec<&str> = missing.split(['.', '/']).collect();
    // By how many parts of `wanted` there are: what is in common with the name as far as it is read.
    let mut common = vec![0; wanted.len() + 1];
    for part in name.split(['.', '/']) {
        let mut diagonal = 0;
        for (at, wanted) in wanted.iter().enumerate() {
            let above = common[at + 1];
            common[at + 1] = match *wanted == part {
                true => diagonal + 1,
                false => above.max(common[at]),
            };
            diagonal = above;
        }
    }
    common[wanted.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_in_the_same_order_count() {
        assert_eq!(in_common("a.b.c", "x.a.y.c"), 2);
        assert_eq!(in_common("a.b.c", "c.b.a"), 1);
        assert_eq!(in_common("a.a", "a"), 1);
        assert_eq!(in_common("a/b.c", "a.b/c"), 3);
        assert_eq!(in_common("a", "b"), 0);
    }

    #[test]
    fn the_nearest_come_first_and_are_cut() {
        let long = format!("{}.weight", "x".repeat(5000));
        let names = ["z.bias", &long, "net.norm.weight", "norm.weight"].map(str::to_owned);
        let told = told(&names, "encoder.norm.weight");
        let cut = format!("`{}…`", "x".repeat(100));
        let expected = format!("; nearest of 4 are `norm.weight`, `net.norm.weight`, {cut}");
        assert_eq!(told, expected);
    }
}
