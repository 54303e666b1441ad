//! Nodes that take a mean over positions.

use patchlight_engine::{BareSession, EngineError, Values};
use patchlight_onnx::{
    graph_index::{GraphIndex, attribute},
    proto::{GraphProto, NodeProto},
    vit::PIXEL_VALUES,
};

use super::super::{
    check,
    paths::{cuts, integers},
};

/// A mean through which alone the image reaches the logits.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    /// What it is taken of.
    pub(super) states: String,
    /// Its result.
    pub(super) mean: String,
    /// Over which axes; negative ones count from the end. `None` for all but the first two.
    axes: Option<Vec<i64>>,
}

/// The mean, with its axes known from a run.
#[derive(Clone, Debug)]
pub(super) struct PooledMean {
    /// How the axes of what it is taken of become batch, positions, channels.
    pub(super) order: Vec<i64>,
    pub(super) grid: [usize; 2],
    pub(super) channels: usize,
    channel_axis: usize,
    /// Whether rows and columns were inferred from the number of positions.
    inferred: bool,
}

/// The means that cut the graph in two, the last first.
pub(super) fn candidates(graph: &GraphProto, index: &GraphIndex<'_>) -> Vec<Candidate> {
    let means = graph
        .node
        .iter()
        .rev()
        .filter_map(|node| candidate(node, index));
    means.filter(|found| cuts(index, &found.mean)).collect()
}

fn candidate(node: &NodeProto, index: &GraphIndex<'_>) -> Option<Candidate> {
    let axes = match node.op_type() {
        "GlobalAveragePool" => None,
        // One window; a run shows whether it is.
        "AveragePool" => None,
        "ReduceMean" => Some(match attribute(node, "axes") {
            Some(axes) => axes.ints.clone(),
            None => integers(index.constant(node.input.get(1)?)?)?,
        }),
        _ => return None,
    };
    Some(Candidate {
        states: node.input.first()?.clone(),
        mean: node.output.first()?.clone(),
        axes,
    })
}

impl PooledMean {
    /// What shapes tell. The grid is that of the axes, or has the shape of the image where positions
    /// are one axis.
    ///
    /// # Errors
    /// What does not fit.
    pub(super) fn of(
        candidate: &Candidate,
        states: &Values,
        mean: &Values,
        sides: [usize; 2],
    ) -> Result<Self, String> {
        let rank = states.shape.len();
        let from_end =
            |axis: i64| usize::try_from(if axis < 0 { axis + rank as i64 } else { axis }).ok();
        let mut axes: Vec<usize> = match &candidate.axes {
            None => (2..rank).collect(),
            Some(axes) => axes.iter().filter_map(|&axis| from_end(axis)).collect(),
        };
        axes.sort_unstable();
        let kept: Vec<usize> = (1..rank).filter(|axis| !axes.contains(axis)).collect();
        let fits = axes.iter().all(|&axis| (1..rank).contains(&axis));
        let (&[channel_axis], true) = (&kept[..], fits && (3..=4).contains(&rank)) else {
            return Err(format!(
                "the mean before the classifier is over the axes {axes:?} of {:?}; one axis of \
                 channels should be left",
                states.shape
            ));
        };
        let channels = states.shape[channel_axis];
        if mean.values.len() != channels {
            return Err(format!(
                "the mean before the classifier has the shape {:?}, and {channels} channels",
                mean.shape
            ));
        }
        let lengths: Vec<usize> = axes.iter().map(|&axis| states.shape[axis]).collect();
        let (grid, inferred) = match lengths[..] {
            [rows, columns] if rows > 1 && columns > 1 || rows * columns == 1 => {
                ([rows, columns], false)
            }
            // One axis, or one beside an axis of length 1 as a pooling of two axes needs it.
            [_] | [_, _] => {
                let positions = lengths.iter().product();
                let grid = grid(positions, sides).ok_or_else(|| {
                    format!(
                        "the mean before the classifier is over {positions} positions, which are no \
                         grid of the shape of the image"
                    )
                })?;
                (grid, true)
            }
            _ => return Err("the mean before the classifier is over no axes".to_owned()),
        };
        let whole = [0, 1].map(|side| sides[side].is_multiple_of(grid[side].max(1)));
        let steps = [0, 1].map(|side| sides[side] / grid[side].max(1));
        if whole != [true; 2] || steps[0] != steps[1] {
            return Err(format!(
                "the last feature map has {}×{} cells, which do not divide an image of {}×{} into \
                 squares",
                grid[0], grid[1], sides[0], sides[1]
            ));
        }
        let order = [0]
            .into_iter()
            .chain(axes.iter().copied())
            .chain([channel_axis]);
        Ok(Self {
            order: order.map(|axis| axis as i64).collect(),
            grid,
            channels,
            channel_axis,
            inferred,
        })
    }

    /// Whether rows and columns were inferred.
    pub(super) fn is_inferred(&self) -> bool {
        self.inferred
    }

    /// The states of one image, position by position.
    fn by_position(&self, states: &Values) -> Vec<Vec<f32>> {
        let positions = self.grid[0] * self.grid[1];
        let after: usize = states.shape[self.channel_axis + 1..].iter().product();
        let at = |position: usize, channel: usize| {
            let (outer, inner) = (position / after.max(1), position % after.max(1));
            states.values[(outer * self.channels + channel) * after + inner]
        };
        (0..positions)
            .map(|position| {
                (0..self.channels)
                    .map(|channel| at(position, channel))
                    .collect()
            })
            .collect()
    }

    /// Whether it is the mean of what it is taken of.
    ///
    /// # Errors
    /// By how much it is not.
    pub(super) fn check(&self, states: &Values, mean: &Values) -> Result<(), String> {
        let positions = self.by_position(states);
        for (channel, &found) in mean.values.iter().enumerate() {
            let sum: f64 = positions
                .iter()
                .map(|state| f64::from(state[channel]))
                .sum();
            let expected = sum / positions.len() as f64;
            let difference = (f64::from(found) - expected).abs();
            if difference > 2e-3 * expected.abs().max(1.0) {
                return Err(format!(
                    "what stands before the classifier is no mean: channel {channel} is {found}, and \
                     the mean is {expected}"
                ));
            }
        }
        Ok(())
    }

    /// Where rows and columns were inferred: whether each corner of the image changes the cells of
    /// its own corner most.
    pub(super) fn check_places(
        &self,
        session: &mut BareSession,
        sides: [usize; 2],
        states: &str,
    ) -> Result<Result<(), String>, EngineError> {
        let shape = [1, 3, sides[0], sides[1]];
        let [image, ..] = check::images(sides);
        let mut run = |image: &[f32]| -> Result<Vec<Vec<f32>>, EngineError> {
            let mut outputs = session.run(&[(PIXEL_VALUES, &shape, image)])?;
            let states = outputs.remove(states);
            Ok(states.map_or_else(Vec::new, |states| self.by_position(&states)))
        };
        let whole = run(&image)?;
        let [rows, columns] = self.grid;
        for corner in 0..4 {
            let (bottom, right) = (corner / 2 == 1, corner % 2 == 1);
            let mut changed = image.clone();
            for channel in 0..3 {
                for y in 0..sides[0] / 4 {
                    for x in 0..sides[1] / 4 {
                        let y = if bottom { sides[0] - 1 - y } else { y };
                        let x = if right { sides[1] - 1 - x } else { x };
                        changed[(channel * sides[0] + y) * sides[1] + x] = 0.0;
                    }
                }
            }
            let after = run(&changed)?;
            let change = |at: usize| -> f64 {
                let pairs = whole[at].iter().zip(&after[at]);
                pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum()
            };
            let most = (0..rows * columns).max_by(|&a, &b| change(a).total_cmp(&change(b)));
            let most = most.unwrap_or_default();
            let (row, column) = (most / columns, most % columns);
            if (2 * row >= rows) != bottom || (2 * column >= columns) != right {
                return Ok(Err(format!(
                    "a change in a corner of the image changes the cell in row {row}, column \
                     {column} of {rows}×{columns} most, so which cell lies where is not known"
                )));
            }
        }
        Ok(Ok(()))
    }
}

/// Rows and columns of so many positions, in the shape of the image.
fn grid(positions: usize, sides: [usize; 2]) -> Option<[usize; 2]> {
    (1..=positions)
        .filter(|rows| positions.is_multiple_of(*rows))
        .map(|rows| [rows, positions / rows])
        .find(|[rows, columns]| rows * sides[1] == columns * sides[0])
}
