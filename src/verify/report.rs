//! How a job stands and what it found, in the form that clients rely on.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde::{Serialize, Serializer};

use crate::{Error, perturb::Curves};

/// How many of its pictures a job has run.
#[derive(Debug, Default)]
pub(super) struct Progress {
    done: AtomicUsize,
    of: AtomicUsize,
}

impl Progress {
    pub(super) fn expect(&self, pictures: usize) {
        self.of.store(pictures, Ordering::Relaxed);
    }

    pub(super) fn advance(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a job is at.
#[derive(Debug)]
pub(super) enum Stand {
    Waiting,
    Running,
    Done(Arc<Report>),
    Failed(Error),
}

/// How a job stands.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    status: &'static str,
    progress: Counted,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Reason>,
    /// What it found.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shared")]
    result: Option<Arc<Report>>,
}

/// Pictures that were run, of those that have to be; 0 of 0 before its turn.
#[derive(Clone, Copy, Debug, Serialize)]
struct Counted {
    done: usize,
    of: usize,
}

#[derive(Clone, Debug, Serialize)]
struct Reason {
    code: &'static str,
    detail: String,
}

impl Status {
    pub(super) fn new(stand: &Stand, progress: &Progress) -> Self {
        let (status, error, result) = match stand {
            Stand::Waiting => ("waiting", None, None),
            Stand::Running => ("running", None, None),
            Stand::Done(report) => ("done", None, Some(Arc::clone(report))),
            Stand::Failed(why) => ("failed", Some(why), None),
        };
        Self {
            status,
            progress: Counted {
                done: progress.done.load(Ordering::Relaxed),
                of: progress.of.load(Ordering::Relaxed),
            },
            error: error.map(|why| Reason {
                code: why.code(),
                detail: why.to_string(),
            }),
            result,
        }
    }

    /// Whether the result is there.
    pub fn is_done(&self) -> bool {
        self.result.is_some()
    }
}

/// As if it were not shared.
fn shared<S: Serializer>(report: &Option<Arc<Report>>, serializer: S) -> Result<S::Ok, S::Error> {
    report.as_deref().serialize(serializer)
}

/// What a perturbation test found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What was done, in words.
    pub about: &'static str,
    /// The class whose score was watched: the picture's best.
    pub class_id: usize,
    /// Its label.
    pub label: String,
    /// What replaced patches.
    pub fill: String,
    /// Into how many equal steps each curve is cut: it has one score more.
    pub steps: usize,
    /// Of each map that was tested.
    pub maps: Vec<Tested>,
    /// The mean of a random order and its reverse.
    pub random: Areas,
}

/// One map's curves.
#[derive(Clone, Debug, Serialize)]
pub struct Tested {
    /// `rollout`, or `class` for the label's evidence against the mean of all classes.
    pub map: &'static str,
    /// The curves.
    #[serde(flatten)]
    pub areas: Areas,
    /// How much smaller its deletion area is than that of the random order, and how much larger
    /// its insertion area; negative if the map does worse than random.
    pub gain: Gain,
}

/// Scores, and the area under them.
#[derive(Clone, Debug, Serialize)]
pub struct Areas {
    deletion: Area,
    insertion: Area,
}

#[derive(Clone, Debug, Serialize)]
struct Area {
    scores: Vec<f64>,
    area: f64,
}

/// Against the random order.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Gain {
    deletion: f64,
    insertion: f64,
}

impl From<&Curves> for Areas {
    fn from(curves: &Curves) -> Self {
        let [deletion, insertion] = [&curves.deletion, &curves.insertion].map(|curve| Area {
            scores: curve.scores().to_vec(),
            area: curve.area(),
        });
        Self {
            deletion,
            insertion,
        }
    }
}

impl Tested {
    /// A map's curves beside those of the random order.
    pub(super) fn new(map: &'static str, curves: &Curves, random: &Curves) -> Self {
        Self {
            map,
            areas: curves.into(),
            gain: Gain {
                deletion: random.deletion.area() - curves.deletion.area(),
                insertion: curves.insertion.area() - random.insertion.area(),
            },
        }
    }
}
