//! The fused operators in standard operators: their model-local functions.

use std::iter;

use super::{
    ATTENTION, ATTRIBUTION, CLASS_TOKEN_SUM, DOMAIN, FusedShape, MAPS, NORMALIZE, ROLLOUT_OPERATOR,
    plan::Plan,
};
use crate::{
    graph::{Attribute, Graph, OPSET, Storage, Value, as_i64},
    proto::{AttributeProto, AttributeType, FunctionProto, NodeProto, OperatorSetIdProto},
    tensor::{DType, Tensor},
};

/// One function for each operator that the graph has.
pub(super) fn all(shape: &FusedShape, plan: &Plan) -> Vec<FunctionProto> {
    let mut functions = vec![normalize(), attention(shape), rollout(shape, plan)];
    if let Some(attribution) = &plan.attribution {
        functions.push(class_token_sum());
        functions.push(self::attribution(shape, attribution.labels));
    }
    functions
}

/// The operations are those of the table on the host, in its order; only its first product is of
/// float64.
fn normalize() -> FunctionProto {
    let mut body = Body::new();
    let graph = &mut body.graph;
    let bytes = graph.value("bytes");
    let wide = graph.cast("wide", &bytes, DType::F32);
    let [scale, mean, deviation] = ["scale", "mean", "deviation"].map(|name| graph.value(name));
    let scaled = graph.mul("scaled", &wide, &scale);
    let centred = graph.sub("centred", &scaled, &mean);
    let normalized = graph.div("normalized", &centred, &deviation);
    let planes = graph.transpose("normalized/planes", &normalized, &[0, 3, 1, 2]);
    let planes = graph.cast("normalized/float16", &planes, DType::F16);
    let values = graph.value("values");
    let values = graph.cast("values/float16", &values, DType::F16);
    graph.concat("planes", &[&planes, &values], 0);
    let inputs = ["bytes", "values", "scale", "mean", "deviation"];
    body.finish(NORMALIZE, &inputs, &["planes"], &[])
}

fn attention(shape: &FusedShape) -> FunctionProto {
    let (heads, hidden) = (as_i64(shape.heads), as_i64(shape.hidden));
    let by_head = [0, 0, heads, hidden / heads];
    let mut body = Body::new();
    let count = body.attribute("queries");
    let graph = &mut body.graph;
    let queries_and_keys = graph.value("queries_and_keys");
    let queries = graph.slice("queries", &queries_and_keys, 2, 0, hidden);
    let keys = graph.slice("keys", &queries_and_keys, 2, hidden, 2 * hidden);
    let bias = graph.value("query_bias");
    let queries = graph.add("queries/biased", &queries, &bias);
    let queries = graph.reshape("queries/by_head", &queries, &by_head);
    let queries = graph.transpose("queries/heads", &queries, &[0, 2, 1, 3]);
    let (start, axis) = (graph.int64_constant(&[0]), graph.int64_constant(&[2]));
    let queries = graph.node(
        "Slice",
        "queries/first",
        &[&queries, &start, &count, &axis],
        &[],
    );
    let keys = graph.reshape("keys/by_head", &keys, &by_head);
    let keys = graph.transpose("keys/heads", &keys, &[0, 2, 3, 1]);
    let scores = graph.matmul("scores", &queries, &keys);
    let probabilities = graph.softmax("probabilities", &scores);

    let (values, bias) = (graph.value("values"), graph.value("value_bias"));
    let values = graph.add("values/biased", &values, &bias);
    let values = graph.reshape("values/by_head", &values, &by_head);
    let values = graph.transpose("values/heads", &values, &[0, 2, 1, 3]);
    let mixed = graph.matmul("mixed/heads", &probabilities, &values);
    let mixed = graph.transpose("mixed/by_token", &mixed, &[0, 2, 1, 3]);
    graph.reshape("mixed", &mixed, &[0, 0, hidden]);

    // A product with a row of 1/heads is quicker than a mean over an axis that is not the last.
    let weights = graph.full(&[1, shape.heads], 1.0 / shape.heads as f32);
    let weights = graph.cast("weights", &weights, DType::F16);
    let flat = graph.reshape("probabilities/flat", &probabilities, &[0, heads, -1]);
    let mean = graph.matmul("mean/flat", &weights, &flat);
    let mean = graph.reshape("mean/rows", &mean, &[0, 1, -1, as_i64(shape.tokens)]);
    graph.pad_back("mean", &mean, 4, 3, shape.mean_stride() - shape.tokens);
    let rows = graph.slice("rows", &probabilities, 2, 0, 1);
    let rows = graph.transpose("rows/by_block", &rows, &[0, 2, 1, 3]);
    graph.cast("class_token", &rows, DType::F32);

    let inputs = [
        "queries_and_keys",
        "values",
        "query_bias",
        "value_bias",
        MAPS,
    ];
    let outputs = ["mixed", "mean", "class_token"];
    body.finish(ATTENTION, &inputs, &outputs, &["queries"])
}

fn rollout(shape: &FusedShape, plan: &Plan) -> FunctionProto {
    let (layers, tokens) = (shape.layers, as_i64(shape.tokens));
    let mut body = Body::new();
    let graph = &mut body.graph;
    let names: Vec<String> = (0..layers).map(|block| format!("mean/{block}")).collect();
    let mut rows: Vec<Value> = Vec::with_capacity(layers);
    for block in (0..layers).rev() {
        let name = |part: &str| format!("{block}/{part}");
        let mean = graph.value(&names[block]);
        let sum = graph.reduce("ReduceSum", &name("groups"), &mean, 1, false);
        let matrix = graph.slice(&name("tokens"), &sum, 2, 0, tokens);
        let matrix = graph.cast(&name("matrix"), &matrix, DType::F32);
        let row = match rows.last() {
            None => {
                let identity: Vec<f32> = (0..plan.read * shape.tokens)
                    .map(|at| f32::from(u8::from(at % (shape.tokens + 1) == 0)))
                    .collect();
                let identity = Tensor::f32(vec![1, plan.read, shape.tokens], &identity);
                let value = [("value", Attribute::Tensor(&identity))];
                let identity = graph.node("Constant", &name("identity"), &[], &value);
                let sum = graph.add(&name("with_identity"), &matrix, &identity);
                graph.reduce("ReduceSum", &name("row"), &sum, 1, true)
            }
            Some(before) => {
                let product = graph.matmul(&name("product"), before, &matrix);
                graph.add(&name("row"), &product, before)
            }
        };
        rows.push(row);
    }
    rows.reverse();
    let joined = graph.concat("joined", &rows.iter().collect::<Vec<_>>(), 1);
    let sums = graph.reduce("ReduceSum", "sums", &joined, -1, true);
    graph.div("by_start", &joined, &sums);
    let names = names.iter().map(String::as_str);
    let inputs: Vec<&str> = iter::once(MAPS).chain(names).collect();
    body.finish(ROLLOUT_OPERATOR, &inputs, &["by_start"], &[])
}

fn class_token_sum() -> FunctionProto {
    let mut body = Body::new();
    let graph = &mut body.graph;
    let written = graph.value("written");
    let first = graph.int64_constant(&[0]);
    let token = graph.gather("token", &written, &first, 1);
    let axis = graph.int64_constant(&[1]);
    let token = graph.node("Squeeze", "token/row", &[&token, &axis], &[]);
    let (mlp_bias, out_bias) = (graph.value("mlp_bias"), graph.value("out_bias"));
    let pooled_only = [token, mlp_bias, out_bias];
    let wide = |(at, term)| graph.cast(&format!("term/{at}"), term, DType::F32);
    let mut terms: Vec<Value> = pooled_only.iter().enumerate().map(wide).collect();
    terms.push(graph.value("before"));
    graph.sum("sum", &terms.iter().collect::<Vec<_>>());
    let inputs = ["before", "written", "mlp_bias", "out_bias", MAPS];
    body.finish(CLASS_TOKEN_SUM, &inputs, &["sum"], &[])
}

fn attribution(shape: &FusedShape, labels: usize) -> FunctionProto {
    let (heads, hidden) = (as_i64(shape.heads), as_i64(shape.hidden));
    let by_head = [0, 0, heads, hidden / heads];
    let mut body = Body::new();
    let graph = &mut body.graph;
    let directions = graph.value("directions");
    let parts = ["kernel", "values", "bias", "class_token"];
    let mut of_blocks = Vec::with_capacity(shape.layers);
    for block in 0..shape.layers {
        let name = |part: &str| format!("{block}/{part}");
        let [kernel, values, bias, rows] =
            parts.map(|part| graph.value(&format!("{part}/{block}")));
        let read = graph.linear_transposed(&name("read/flat"), &directions, &kernel);
        let read = graph.reshape(&name("read"), &read, &[-1, as_i64(labels), hidden]);
        let read = graph.transpose(&name("read/columns"), &read, &[0, 2, 1]);
        let values = graph.add(&name("biased"), &values, &bias);
        let values = graph.reshape(&name("biased/by_head"), &values, &by_head);
        let weights = graph.cast(&name("weights"), &rows, DType::F16);
        let weights = graph.transpose(&name("weights/by_token"), &weights, &[0, 3, 2, 1]);
        let weighted = graph.mul(&name("weighted"), &values, &weights);
        let weighted = graph.reshape(&name("weighted/flat"), &weighted, &[0, 0, hidden]);
        let of_block = graph.matmul(&name("tokens"), &weighted, &read);
        of_blocks.push(graph.cast(&name("tokens/wide"), &of_block, DType::F32));
    }
    graph.sum("by_token", &of_blocks.iter().collect::<Vec<_>>());
    let of_blocks = |part: &'static str| (0..shape.layers).map(move |at| format!("{part}/{at}"));
    let named = parts.into_iter().flat_map(of_blocks).collect::<Vec<_>>();
    let leading = [MAPS, "directions"].into_iter();
    let inputs: Vec<&str> = leading.chain(named.iter().map(String::as_str)).collect();
    // The operator's second result is room for it to work in, which no node reads.
    graph.node("Identity", "scratch", &[&directions], &[]);
    body.finish(ATTRIBUTION, &inputs, &["by_token", "scratch"], &[])
}

/// A function's body under construction. A function has no constants of its own: those of the graph
/// become nodes.
struct Body {
    graph: Graph<'static>,
}

impl Body {
    fn new() -> Self {
        Self {
            graph: Graph::new("body", Storage::Inline),
        }
    }

    /// An integer that the caller's node has as an attribute, as a list of one.
    fn attribute(&mut self, name: &str) -> Value {
        let result = format!("attribute/{name}");
        let value = self.graph.node("Constant", &result, &[], &[]);
        self.graph.refer_to_attribute("value_int", name);
        self.graph.reshape(&format!("{result}/list"), &value, &[1])
    }

    fn finish(
        self,
        name: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: &[&str],
    ) -> FunctionProto {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let graph = self.graph.into_proto();
        let constants = graph.initializer.into_iter().map(|mut tensor| NodeProto {
            op_type: Some("Constant".to_owned()),
            output: vec![tensor.name.take().unwrap_or_default()],
            attribute: vec![AttributeProto {
                name: Some("value".to_owned()),
                t: Some(tensor),
                r#type: Some(AttributeType::Tensor.into()),
                ..AttributeProto::default()
            }],
            ..NodeProto::default()
        });
        FunctionProto {
            name: Some(name.to_owned()),
            domain: Some(DOMAIN.to_owned()),
            input: owned(inputs),
            output: owned(outputs),
            attribute: owned(attributes),
            node: constants.chain(graph.node).collect(),
            opset_import: vec![OperatorSetIdProto {
                domain: Some(String::new()),
                version: Some(OPSET),
            }],
            ..FunctionProto::default()
        }
    }
}
