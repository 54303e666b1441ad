//! Which of all images this process takes.

use std::str::FromStr;

/// Shard `index` of `count`: every `count`-th image.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Shard {
    pub(super) index: u64,
    pub(super) count: u64,
}

impl Shard {
    /// From `--shard`, or else from the number that Kubernetes gives each pod of an indexed Job
    /// (`JOB_COMPLETION_INDEX`) and `--shard-count`; all images without either.
    ///
    /// # Errors
    /// What is missing or makes no sense.
    pub(super) fn read(
        typed: Option<&str>,
        count: Option<u64>,
        job_index: Option<&str>,
    ) -> Result<Self, String> {
        match (typed, count, job_index) {
            (Some(_), Some(_), _) => {
                Err("--shard I/N has the count in it: leave out --shard-count".to_owned())
            }
            (Some(text), None, _) => text.parse(),
            (None, Some(count), Some(index)) => format!("{index}/{count}")
                .parse()
                .map_err(|error| format!("JOB_COMPLETION_INDEX and --shard-count: {error}")),
            (None, Some(_), None) => Err(
                "--shard-count needs JOB_COMPLETION_INDEX, which an indexed Job of Kubernetes \
                 sets; otherwise say --shard I/N"
                    .to_owned(),
            ),
            // Every pod would do all of the work.
            (None, None, Some(_)) => Err(
                "JOB_COMPLETION_INDEX is set, so this is one of several pods: say --shard-count N \
                 (or --shard 0/1 if it is to take all images)"
                    .to_owned(),
            ),
            (None, None, None) => Ok(Self { index: 0, count: 1 }),
        }
    }

    /// Whether it takes the image of this number.
    pub(super) fn takes(self, number: u64) -> bool {
        number % self.count == self.index
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers = text.split_once('/').and_then(|(index, count)| {
            let (index, count) = (index.parse().ok()?, count.parse().ok()?);
            (index < count).then_some(Self { index, count })
        });
        numbers.ok_or_else(|| {
            format!(
                "`{text}` is no shard such as 0/8, which is the first of eight; 7/8 is the last"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_take_every_image_once() {
        let shards = ["0/3", "1/3", "2/3"].map(|text| text.parse::<Shard>().unwrap());
        for number in 0..10 {
            let takers = shards.iter().filter(|shard| shard.takes(number));
            assert_eq!(takers.count(), 1, "{number}");
        }
    }

    #[test]
    fn a_shard_beyond_the_count_and_half_a_shard_are_refused() {
        for text in ["3/3", "0/0", "1", "a/b", "-1/2", "1/2/3", ""] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_pod_of_an_indexed_job_knows_its_shard() {
        let shard = Shard::read(None, Some(8), Some("5")).unwrap();
        assert_eq!((shard.index, shard.count), (5, 8));
        assert!(Shard::read(None, Some(8), Some("8")).is_err());
        let typed = Shard::read(Some("0/1"), None, Some("5")).unwrap();
        assert_eq!((typed.index, typed.count), (0, 1));
    }

    #[test]
    fn a_pod_that_does_not_know_of_how_many_takes_nothing() {
        for (typed, count, index) in [
            (None, None, Some("5")),
            (None, Some(8), None),
            (Some("0/2"), Some(2), None),
        ] {
            assert!(Shard::read(typed, count, index).is_err());
        }
    }
}
