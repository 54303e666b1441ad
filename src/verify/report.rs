//! The status and the report of a job, in the form that clients rely on.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use crate::{Error, perturb::Curves, store::MapKind};

/// How many of its images a job has run.
#[derive(Debug, Default)]
pub(super) struct Progress {
    done: AtomicUsize,
    of: AtomicUsize,
}

impl Progress {
    pub(super) fn expect(&self, images: usize) {
        self.of.store(images, Ordering::Relaxed);
    }

    pub(super) fn advance(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

/// The state of a job.
#[derive(Debug)]
pub(super) enum JobState {
    Waiting,
    Running,
    Done(Arc<Report>),
    Failed(Error),
}

/// The status of the perturbation test of a map.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Test)]
pub struct Status {
    #[schema(inline)]
    status: StatusName,
    progress: Counted,
    /// Why it failed.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Reason>,
    /// What it found, once it is done.
    #[schema(nullable = false, value_type = Option<Report>)]
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shared")]
    result: Option<Arc<Report>>,
}

/// The state of a test.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum StatusName {
    Waiting,
    Running,
    Done,
    Failed,
}

/// Images that were run, of those that have to be; 0 of 0 while it waits.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = Progress)]
struct Counted {
    done: usize,
    of: usize,
}

/// Why a test failed.
#[derive(Clone, Debug, Serialize, ToSchema)]
struct Reason {
    /// As in a problem document.
    code: &'static str,
    /// The same in words.
    detail: String,
}

impl Status {
    pub(super) fn new(state: &JobState, progress: &Progress) -> Self {
        let (status, error, result) = match state {
            JobState::Waiting => (StatusName::Waiting, None, None),
            JobState::Running => (StatusName::Running, None, None),
            JobState::Done(report) => (StatusName::Done, None, Some(Arc::clone(report))),
            JobState::Failed(error) => (StatusName::Failed, Some(error), None),
        };
        Self {
            status,
            progress: Counted {
                done: progress.done.load(Ordering::Relaxed),
                of: progress.of.load(Ordering::Relaxed),
            },
            error: error.map(|error| Reason {
                code: error.code(),
                detail: error.to_string(),
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
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Report {
    /// What was done, in words.
    pub about: &'static str,
    /// The class whose score was watched: the image's best.
    pub class_id: usize,
    /// Its label.
    pub label: String,
    /// What replaced patches.
    pub fill: String,
    /// Into how many equal steps each curve is cut: it has one score more.
    #[schema(minimum = 1)]
    pub steps: usize,
    /// The curves of each map that was tested.
    pub maps: Vec<Tested>,
    /// The mean of a random order and its reverse.
    pub random: Areas,
}

/// One map's curves.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Tested {
    /// `rollout`, or `class` for the label's attribution against the mean of all classes.
    pub map: MapKind,
    /// The curves.
    #[serde(flatten)]
    pub areas: Areas,
    /// How much smaller its deletion area is than that of the random order, and how much larger
    /// its insertion area; negative if the map does worse than random.
    pub gain: Gain,
}

/// What taking patches away and putting them back does to the score.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Curves)]
pub struct Areas {
    /// Patches are taken away, the map's strongest first.
    deletion: Area,
    /// Patches are put back in that order.
    insertion: Area,
}

/// The label's scores, from no patch that counts to all, and the area under them.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Curve)]
struct Area {
    scores: Vec<f64>,
    /// Between 0 and 1, by the trapezoidal rule.
    area: f64,
}

/// How much better than the random order; negative if worse.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
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
    pub(super) fn new(map: MapKind, curves: &Curves, random: &Curves) -> Self {
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
