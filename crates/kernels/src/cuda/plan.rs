//! How the kernels' work is divided: what a network and a card allow.

use super::Network;
use crate::reference::AttentionShape;

/// How many warps of a thread block share the queries and the keys of a head.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tiling {
    /// Groups of 16 queries.
    pub row_warps: usize,
    /// Parts of the keys.
    pub key_warps: usize,
    /// 2 if the next head is loaded while one is computed.
    pub stages: usize,
}

/// Head means are kept apart for at most so many groups of heads, since the rollout reads them all.
const MAX_HEAD_GROUPS: usize = 4;

/// Blocks of the network whose pointers one launch can carry.
const MAX_LAYERS: usize = 128;

/// Whether the kernels are written for this network.
pub(super) fn check_network(network: &Network) -> Result<(), String> {
    let AttentionShape {
        tokens, head_size, ..
    } = network.attention;
    if head_size == 0 || !head_size.is_multiple_of(16) || head_size > 128 {
        return Err(format!(
            "heads of {head_size} are not a multiple of 16 up to 128"
        ));
    }
    if network.layers > MAX_LAYERS {
        return Err(format!(
            "{} blocks are more than {MAX_LAYERS}",
            network.layers
        ));
    }
    if tokens == 0 || network.read == 0 || network.read > tokens {
        return Err(format!("{} of {tokens} tokens are read", network.read));
    }
    Ok(())
}

impl Tiling {
    /// The quickest that fits, in the order measured on an H200 for ViT-L/16
    /// (crates/kernels/README.md).
    pub fn choose(shape: &AttentionShape, shared_bytes: usize) -> Option<Self> {
        let tiles = shape.tokens.div_ceil(16);
        // A warp's scores and its part of the mean are eight registers a tile each.
        let least = tiles.div_ceil(7);
        let candidates = [
            (4, 3, 2),
            (4, 2, 2),
            (2, 4, 1),
            (2, 2, 1),
            (4, 1, 2),
            (4, 1, 1),
            (2, 1, 1),
        ];
        let of_few_keys = candidates
            .into_iter()
            .map(|(row_warps, key_warps, stages)| Self {
                row_warps,
                key_warps,
                stages,
            });
        let of_many_keys = [(2, 2), (2, 1), (1, 2), (1, 1)].into_iter();
        let of_many_keys = of_many_keys.map(|(row_warps, stages)| Self {
            row_warps,
            key_warps: least,
            stages,
        });
        of_few_keys.chain(of_many_keys).find(|tiling| {
            let enough = tiling.key_warps >= least;
            // Each warp needs a tile of keys.
            let not_too_many = tiling.key_warps <= tiles;
            // Scores and mean take eight registers a tile each; queries and mixed values follow the
            // head size.
            let of_warp = tiles.div_ceil(tiling.key_warps);
            let registers = 35 + 16 * of_warp + 3 * shape.head_size / 4;
            let threads = tiling.threads();
            enough
                && not_too_many
                && threads <= 512
                && registers <= (65_536 / threads / 8 * 8).min(255)
                && tiling.shared_bytes(shape) <= shared_bytes
        })
    }

    /// Threads of a block.
    pub fn threads(&self) -> usize {
        self.row_warps * self.key_warps * 32
    }

    /// Queries of a block.
    pub fn rows(&self) -> usize {
        self.row_warps * 16
    }

    /// Size of `struct Shared` in attention.cu.
    pub(super) fn shared_bytes(&self, shape: &AttentionShape) -> usize {
        let keys = shape.tokens.next_multiple_of(16);
        let stride = shape.head_size + 8;
        let stage = (2 * keys + self.rows()) * stride * 2 + 4 * shape.head_size;
        let softmax = self.row_warps * self.key_warps * 16 * 8;
        let values = match self.key_warps {
            1 => 0,
            warps => self.row_warps * warps * (shape.head_size / 8) * 32 * 16,
        };
        (self.stages * stage + softmax).next_multiple_of(16) + values
    }

    /// Into how many groups a small batch's heads are divided, so that every multiprocessor has a
    /// block.
    pub(super) fn head_groups(
        &self,
        shape: &AttentionShape,
        queries: usize,
        batch: usize,
        multiprocessors: usize,
    ) -> usize {
        let blocks = queries.div_ceil(self.rows()) * batch;
        (1..=MAX_HEAD_GROUPS)
            .rev()
            .find(|&groups| {
                shape.heads.is_multiple_of(groups) && blocks * groups <= multiprocessors
            })
            .unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: AttentionShape = AttentionShape {
        tokens: 197,
        heads: 16,
        head_size: 64,
    };

    #[test]
    fn a_card_with_much_shared_memory_loads_ahead() {
        let tiling = Tiling::choose(&LARGE, 232_448).unwrap();
        assert_eq!(
            (tiling.row_warps, tiling.key_warps, tiling.stages),
            (4, 3, 2)
        );
        assert_eq!(tiling.shared_bytes(&LARGE), 189_440);
    }

    #[test]
    fn a_card_with_little_shared_memory_gets_less() {
        let tiling = Tiling::choose(&LARGE, 101_376).unwrap();
        assert!(tiling.shared_bytes(&LARGE) <= 101_376);
        assert_eq!(tiling.stages, 1);
        assert_eq!(Tiling::choose(&LARGE, 49_152), None);
    }

    #[test]
    fn turing_takes_short_sequences_only() {
        let of = |tokens| Tiling::choose(&AttentionShape { tokens, ..LARGE }, 65_536);
        assert!(of(176).is_some());
        assert_eq!(of(177), None);
    }

    #[test]
    fn many_keys_are_divided_among_more_warps() {
        let shape = AttentionShape {
            tokens: 577,
            ..LARGE
        };
        let tiling = Tiling::choose(&shape, 232_448).unwrap();
        assert!(577_usize.div_ceil(16).div_ceil(tiling.key_warps) <= 7);
    }

    #[test]
    fn every_warp_has_keys() {
        for tokens in 1..300 {
            let shape = AttentionShape { tokens, ..LARGE };
            if let Some(tiling) = Tiling::choose(&shape, 232_448) {
                assert!(
                    tiling.key_warps <= tokens.div_ceil(16),
                    "{tokens}: {tiling:?}"
                );
            }
        }
    }

    #[test]
    fn heads_are_divided_only_while_multiprocessors_are_idle() {
        let tiling = Tiling::choose(&LARGE, 232_448).unwrap();
        let groups = |queries, batch| tiling.head_groups(&LARGE, queries, batch, 132);
        assert_eq!(
            [
                groups(197, 1),
                groups(197, 8),
                groups(197, 16),
                groups(197, 64)
            ],
            [4, 4, 2, 1]
        );
        // Three heads do not divide by two or four.
        let tiny = AttentionShape { heads: 3, ..LARGE };
        assert_eq!(tiling.head_groups(&tiny, 197, 1, 132), 3);
    }

    #[test]
    fn networks_that_the_kernels_lack_are_refused() {
        let network = Network {
            attention: LARGE,
            layers: 24,
            read: 1,
            directions: Some(6),
        };
        assert_eq!(check_network(&network), Ok(()));
        let odd = AttentionShape {
            head_size: 72,
            ..LARGE
        };
        assert!(
            check_network(&Network {
                attention: odd,
                ..network
            })
            .is_err()
        );
        assert!(
            check_network(&Network {
                layers: 129,
                ..network
            })
            .is_err()
        );
        assert!(
            check_network(&Network {
                read: 198,
                ..network
            })
            .is_err()
        );
    }
}
