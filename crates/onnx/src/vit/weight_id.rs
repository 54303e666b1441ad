//! Names for a network's constants, whatever a library calls them.

/// Which of the network's weights a constant is. [`VitSpec::shape`] tells its shape; each
/// checkpoint layout only says where it finds the values.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum WeightId {
    /// The patch projection; rows in the order channel, row, column of the patch.
    PatchKernel,
    /// Its bias.
    PatchBias,
    /// The tokens before the patches, each with its position added.
    Prefix,
    /// The patches' position embeddings, row-major over the grid.
    Positions,
    /// Scale of the normalisation before the first block.
    PreNormScale,
    /// Its shift.
    PreNormBias,
    /// Cosines of the angles that queries and keys are turned by: `[patches, head size]`, the two
    /// values of a pair half a head apart.
    RotaryCosines,
    /// Their sines.
    RotarySines,
    /// A constant of one block, counted from 0.
    Block(usize, BlockWeight),
    /// Scale of the normalisation after the last block.
    FinalNormScale,
    /// Its shift.
    FinalNormBias,
    /// A constant of the attention that pools.
    Pool(PoolWeight),
    /// What the pooled state is projected by before its length is taken.
    Projection,
    /// The classifier; one below the other where the pooling has several.
    HeadKernel,
    /// Its bias.
    HeadBias,
}

/// Which weight of a block a constant is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum BlockWeight {
    /// Scale of the normalisation before attention.
    AttentionNormScale,
    /// Its shift.
    AttentionNormBias,
    /// Queries, without the attention scale. Columns are grouped by head here and below.
    QueryKernel,
    /// Their bias.
    QueryBias,
    /// Keys.
    KeyKernel,
    /// Their bias.
    KeyBias,
    /// Values.
    ValueKernel,
    /// Their bias.
    ValueBias,
    /// Scale of the normalisation of queries.
    QueryNormScale,
    /// Its shift.
    QueryNormBias,
    /// Scale of the normalisation of keys.
    KeyNormScale,
    /// Its shift.
    KeyNormBias,
    /// Cosines of the angles that queries and keys are turned by, where every head has its own:
    /// `[heads, patches, head size]`.
    RotaryCosines,
    /// Their sines.
    RotarySines,
    /// What is added to the scores, for each head and relation of two tokens.
    RelativeBias,
    /// Scale of the normalisation of what the heads read.
    HeadsNormScale,
    /// Its shift.
    HeadsNormBias,
    /// From the heads' results back to the residual stream.
    OutKernel,
    /// Its bias.
    OutBias,
    /// Scale of the normalisation before the MLP.
    MlpNormScale,
    /// Its shift.
    MlpNormBias,
    /// First layer of the MLP.
    UpKernel,
    /// Its bias.
    UpBias,
    /// Of a gated MLP the layer that the nonlinearity is applied to.
    GateKernel,
    /// Its bias.
    GateBias,
    /// Scale of the normalisation before the second layer.
    InnerNormScale,
    /// Its shift.
    InnerNormBias,
    /// Second layer of the MLP.
    DownKernel,
    /// Its bias.
    DownBias,
}

/// Which weight of the attention that pools a constant is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum PoolWeight {
    /// The learned query, projected; without the attention scale.
    Query,
    /// Keys of the tokens.
    KeyKernel,
    /// Their bias.
    KeyBias,
    /// Values of the tokens.
    ValueKernel,
    /// Their bias.
    ValueBias,
    /// From the heads' results to the pooled state.
    OutKernel,
    /// Its bias.
    OutBias,
    /// Scale of the normalisation before its MLP.
    MlpNormScale,
    /// Its shift.
    MlpNormBias,
    /// First layer of its MLP.
    UpKernel,
    /// Its bias.
    UpBias,
    /// Second layer of its MLP.
    DownKernel,
    /// Its bias.
    DownBias,
    /// Scale of the normalisation before the classifier.
    NormAfterScale,
    /// Its shift.
    NormAfterBias,
}

impl PoolWeight {
    /// All of them, in the order in which the graph takes them.
    pub const ALL: [Self; 15] = [
        Self::Query,
        Self::KeyKernel,
        Self::KeyBias,
        Self::ValueKernel,
        Self::ValueBias,
        Self::OutKernel,
        Self::OutBias,
        Self::MlpNormScale,
        Self::MlpNormBias,
        Self::UpKernel,
        Self::UpBias,
        Self::DownKernel,
        Self::DownBias,
        Self::NormAfterScale,
        Self::NormAfterBias,
    ];

    /// Its shape; kernels are `[in, out]`.
    pub(super) fn shape(self, hidden: usize, mlp: usize) -> Vec<usize> {
        match self {
            Self::KeyKernel | Self::ValueKernel | Self::OutKernel => vec![hidden, hidden],
            Self::UpKernel => vec![hidden, mlp],
            Self::UpBias => vec![mlp],
            Self::DownKernel => vec![mlp, hidden],
            Self::Query
            | Self::KeyBias
            | Self::ValueBias
            | Self::OutBias
            | Self::MlpNormScale
            | Self::MlpNormBias
            | Self::DownBias
            | Self::NormAfterScale
            | Self::NormAfterBias => vec![hidden],
        }
    }
}
