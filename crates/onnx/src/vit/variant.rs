//! What networks have beside the parts of a plain Vision Transformer.
//!
//! [`Variant::default`] is a plain one, whose graph has none of this. A network with some of it gets
//! more nodes, with names of their own beside those that every graph has, so that nothing that knows
//! the plain graph takes it for one.

use super::activation::Activation;

/// Parts that a network has beside those of every Vision Transformer; by default none.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Variant {
    /// Width of an attention head where the heads do not divide the residual stream among them.
    pub head_size: Option<usize>,
    /// Form of the MLPs.
    pub mlp: MlpForm,
    /// Whether normalisations divide by the root of the mean square, and nothing else
    /// (Zhang & Sennrich 2019); their shifts are zeros.
    pub rms_norm: bool,
    /// Whether the MLP reads what attention reads, not what attention made of it
    /// (Dehghani et al. 2023).
    pub parallel_mlp: bool,
    /// Whether attention and MLP are normalised before they are added, not before they read
    /// (Liu et al. 2022).
    pub post_norm: bool,
    /// Whether queries and keys are normalised, each head by itself (Dehghani et al. 2023).
    pub qk_norm: bool,
    /// Whether what the heads read is normalised before the output kernel (EVA-02).
    pub heads_norm: bool,
    /// Whether each block adds a term to the scores that depends on how two patches lie to each
    /// other (BEiT).
    pub relative_bias: bool,
    /// Whether queries and keys of the patches are turned by angles that depend on where they lie
    /// (Su et al. 2021, in two dimensions).
    pub rotary: Rotation,
    /// The attention that pools, where [`Pooling::Attention`](super::Pooling::Attention) does.
    pub attention_pool: AttentionPool,
    /// What is divided by its own length before the classifier, as where images are compared with
    /// texts (Radford et al. 2021).
    pub unit_length: UnitLength,
}

/// Which queries and keys are turned by the same angles.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Rotation {
    /// None are turned.
    #[default]
    None,
    /// Those of all blocks and heads.
    Shared,
    /// Each head of each block has angles of its own (Heo et al. 2024).
    OfEachHead,
}

/// Form of the MLPs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum MlpForm {
    /// Two linear layers with a nonlinearity between them.
    #[default]
    Plain,
    /// The same, normalised before the last layer (BEiT-3).
    PlainWithNorm,
    /// A third layer beside the first: the nonlinearity of the one times the other
    /// (Shazeer 2020).
    Gated,
    /// The same, normalised before the last layer (EVA-02).
    GatedWithNorm,
}

impl MlpForm {
    /// With a layer beside the first or not, and with a normalisation before the last or not.
    pub fn of(gated: bool, norm: bool) -> Self {
        match (gated, norm) {
            (true, true) => Self::GatedWithNorm,
            (true, false) => Self::Gated,
            (false, true) => Self::PlainWithNorm,
            (false, false) => Self::Plain,
        }
    }

    /// Whether there is a layer beside the first.
    pub fn is_gated(self) -> bool {
        matches!(self, Self::Gated | Self::GatedWithNorm)
    }

    /// Whether there is a normalisation before the last layer.
    pub fn has_norm(self) -> bool {
        matches!(self, Self::PlainWithNorm | Self::GatedWithNorm)
    }
}

/// A learned query whose attention over the tokens pools them (Zhai et al. 2022).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct AttentionPool {
    /// Attention heads.
    pub heads: usize,
    /// Width of the hidden layer of its MLP.
    pub mlp: usize,
    /// Nonlinearity of its MLP, if not that of the blocks'.
    pub activation: Option<Activation>,
    /// Whether it reads the patches alone, and not the tokens before them.
    pub patches_only: bool,
    /// Whether there is another normalisation between the pooling and the classifier.
    pub norm_after: bool,
}

/// What is divided by its own Euclidean length before the classifier reads it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum UnitLength {
    /// Nothing.
    #[default]
    None,
    /// The pooled state.
    State,
    /// A projection of the pooled state to this width; the classifier's kernel has it multiplied
    /// in.
    Projected(usize),
}

impl Variant {
    /// Whether the network is a plain Vision Transformer.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

/// How many relations there are between tokens of such a grid: one for each distance of patches in
/// both directions, then class token to patch, patch to class token, class token to itself.
pub fn relations(grid: [usize; 2]) -> usize {
    let [rows, columns] = grid;
    (2 * rows - 1) * (2 * columns - 1) + 3
}

/// Which of the [`relations`] each pair of tokens has, `[tokens · tokens]`: queries are rows, and
/// the class token comes first (Bao et al. 2021).
pub fn relation_index(grid: [usize; 2]) -> Vec<usize> {
    let [rows, columns] = grid;
    let (patches, total) = (rows * columns, relations(grid));
    let [class_to_patch, patch_to_class, class_to_class] = [total - 3, total - 2, total - 1];
    let mut index = Vec::with_capacity((patches + 1) * (patches + 1));
    index.push(class_to_class);
    index.extend(std::iter::repeat_n(class_to_patch, patches));
    for query in 0..patches {
        index.push(patch_to_class);
        index.extend((0..patches).map(|key| {
            let down = query / columns + rows - 1 - key / columns;
            let across = query % columns + columns - 1 - key % columns;
            down * (2 * columns - 1) + across
        }));
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked by hand for two patches side by side: 1 · 3 distances.
    #[test]
    fn relations_of_two_patches() {
        assert_eq!(relations([1, 2]), 6);
        assert_eq!(relation_index([1, 2]), [5, 3, 3, 4, 1, 0, 4, 2, 1]);
    }
}
