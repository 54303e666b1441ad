//! A CPU session whose encoder, patches to classifier, is an operator of our own.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    sync::Arc,
};

use ort::session::{Session, builder::SessionBuilder};
use patchlight_kernels::cpu::{
    Activation, Block, Embedding, Encoder, EncoderOperators, EncoderShape, HeadFusion,
    InstructionSet, Linear, Norm,
};
use patchlight_model::manifest::{Manifest, Precision};
use patchlight_onnx::{
    proto::TensorProto,
    vit::{
        self,
        encoder::{Constants, EncoderNetwork, KernelValues, LinearWeights, WithoutEncoder, cut},
    },
};
use prost::{Message, bytes::Bytes};
use rayon::{
    ThreadPool, ThreadPoolBuilder,
    iter::{IntoParallelIterator, ParallelIterator},
};

use super::{
    EngineError,
    graph_file::{self, EXTERNAL_DATA_FOLDER},
};

/// What all sessions of a model share: the encoder's weights, packed once, the threads that compute
/// it, and the graph of what is left.
#[derive(Clone, Debug)]
pub(super) struct SharedEncoder {
    encoder: Arc<Encoder>,
    pool: Arc<ThreadPool>,
    labels: Option<usize>,
    graph: Arc<Vec<u8>>,
    /// Where its external data is.
    folder: String,
}

impl SharedEncoder {
    /// Packs the encoder of a model directory for this processor, to be computed on `threads`
    /// threads.
    ///
    /// # Errors
    /// Why the graph stays as it is, to complete a sentence that says so.
    pub(super) fn load(graph: &Path, manifest: &Manifest, threads: usize) -> Result<Self, String> {
        if manifest.graph.precision == Precision::Fp16 {
            return Err("it is in float16".to_owned());
        }
        let set = InstructionSet::detect();
        let set =
            set.ok_or("this processor has no instructions that the kernels are faster with")?;
        let model = graph_file::read(graph)?;
        let WithoutEncoder {
            model: rest,
            network,
        } = cut(&model, &graph_file::shape(manifest)?)?;
        let folder = graph_file::folder(graph)?;
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|at| format!("encoder-{at}"))
            .build()
            .map_err(|error| format!("threads cannot be started: {error}"))?;
        let external = |tensor: &TensorProto| read_external(Path::new(folder), tensor);
        if network.bf16 && !set.has_bf16() {
            return Err("this processor has no products of bfloat16".to_owned());
        }
        let constants = Constants::new(&model, &external);
        let encoder = pool.install(|| pack(&constants, &network, set))?;
        tracing::info!(
            instructions = encoder.instruction_set(),
            weights_mib = encoder.bytes() >> 20,
            "kernels of our own compute the encoder"
        );
        Ok(Self {
            encoder: Arc::new(encoder),
            pool: Arc::new(pool),
            labels: network.labels,
            graph: Arc::new(rest.encode_to_vec()),
            folder: folder.to_owned(),
        })
    }

    /// The instruction set that computes it.
    pub(super) fn instruction_set(&self) -> &'static str {
        self.encoder.instruction_set()
    }

    /// A session of what is left of the graph, with the operators that compute the encoder.
    pub(super) fn open(&self, builder: SessionBuilder) -> Result<Session, EngineError> {
        let (encoder, pool) = (Arc::clone(&self.encoder), Arc::clone(&self.pool));
        let operators = EncoderOperators::new(encoder, pool, self.labels).domain()?;
        let builder = builder
            .with_operators(operators)
            .map_err(ort::Error::from)?;
        let builder = builder.with_config_entry(EXTERNAL_DATA_FOLDER, &self.folder);
        let mut builder = builder.map_err(ort::Error::from)?;
        Ok(builder.commit_from_memory(&self.graph)?)
    }
}

/// Packs the weights, blocks on a thread each.
fn pack(
    constants: &Constants<'_>,
    network: &EncoderNetwork,
    set: InstructionSet,
) -> Result<Encoder, String> {
    let norm = |name: &str| {
        let [scale, shift] = constants.norm(network, name)?;
        Norm::new(scale, shift, network.hidden).map_err(|error| error.to_string())
    };
    let embedding = Embedding {
        projection: linear(constants.patch_projection(network)?)?,
        table: constants.positions(network)?,
        norm: match network.pre_norm {
            true => Some(norm("embed/norm")?),
            false => None,
        },
    };
    let blocks = (0..network.layers).into_par_iter().map(|block| {
        let layer = |name| linear(constants.linear(network, block, name)?);
        Ok(Block {
            attention_norm: norm(&format!("block.{block}/attention/norm"))?,
            queries: layer("attention/queries")?,
            keys: layer("attention/keys")?,
            values: layer("attention/values")?,
            out: layer("attention/out")?,
            mlp_norm: norm(&format!("block.{block}/mlp/norm"))?,
            up: layer("mlp/up")?,
            down: layer("mlp/down")?,
        })
    });
    let blocks = blocks.collect::<Result<_, String>>()?;
    let shape = EncoderShape {
        layers: network.layers,
        heads: network.heads,
        hidden: network.hidden,
        mlp: network.mlp,
        image: network.image,
        patch: network.patch,
        prefix: network.prefix,
        read: network.read,
        norm_epsilon: network.norm_epsilon,
        activation: match network.activation {
            vit::Activation::Gelu => Activation::Gelu,
            vit::Activation::GeluTanh => Activation::GeluTanh,
            vit::Activation::QuickGelu => Activation::QuickGelu,
            vit::Activation::Silu => Activation::Silu,
            vit::Activation::Relu => Activation::Relu,
        },
        head_fusion: match network.head_fusion {
            vit::HeadFusion::Mean => HeadFusion::Mean,
            vit::HeadFusion::Max => HeadFusion::Max,
            vit::HeadFusion::Min => HeadFusion::Min,
        },
    };
    Encoder::build(shape, embedding, blocks, set).map_err(|error| error.to_string())
}

fn linear(weights: LinearWeights) -> Result<Linear, String> {
    let bias = weights.bias.as_deref();
    let linear = match &weights.kernel {
        KernelValues::Int8 { values, scale } => Linear::int8(weights.sizes, values, scale, bias),
        KernelValues::Bf16(values) => Linear::bf16(weights.sizes, values, bias),
        KernelValues::Float32(values) => Linear::float32(weights.sizes, values, bias),
    };
    linear.map_err(|error| error.to_string())
}

/// The bytes of a constant beside the graph. The directory's files have been verified by their
/// digests.
fn read_external(folder: &Path, tensor: &TensorProto) -> io::Result<Bytes> {
    let entry = |key: &str| {
        let mut entries = tensor.external_data.iter();
        let found = entries.rfind(|entry| entry.key() == key);
        found.and_then(|entry| entry.value.as_deref())
    };
    let number = |key: &str| entry(key).map(str::parse::<u64>).transpose();
    let (offset, length) = (number("offset"), number("length"));
    let (Ok(offset), Ok(Some(length))) = (offset, length) else {
        return Err(io::Error::other("its offset or length is no number"));
    };
    let name = entry("location").unwrap_or_default();
    let mut file = File::open(folder.join(name))?;
    file.seek(SeekFrom::Start(offset.unwrap_or(0)))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes.into())
}
