//! One inference request from its bytes to the bytes of its answer, whichever form they have; and
//! what is counted of it.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use patchlight_model::ModelInfo;

use super::Oip;
use crate::{
    Result,
    oip::{
        InferResponse, ParsedInferRequest, RowStats, Target, VERSION, statistics::RequestDurations,
    },
    service::Admitted,
};

impl Oip {
    /// Reads a request that is let in, runs its rows and writes what became of them. `read` and
    /// `write` may compute for milliseconds; they run on the threads for bodies.
    ///
    /// # Errors
    /// Those of `read`, of [`Admitted::infer`] and of `write`, and that of the deadline.
    pub(in crate::http) async fn infer<T: Send + 'static>(
        &self,
        target: &Target,
        admitted: &mut Admitted,
        read: impl FnOnce(&ModelInfo) -> Result<ParsedInferRequest> + Send + 'static,
        write: impl FnOnce(InferResponse) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let started = Instant::now();
        match self.run(target, admitted, read, write).await {
            Ok((answer, rows, took)) => {
                self.statistics(target, |statistics| {
                    let total = started.elapsed();
                    statistics.succeeded(&rows, RequestDurations { total, ..took }, now());
                });
                Ok(answer)
            }
            Err(error) => {
                self.count_failure(target, started.elapsed());
                Err(error)
            }
        }
    }

    /// A request that named this model has failed, after so long.
    pub(in crate::http) fn count_failure(&self, target: &Target, total: Duration) {
        self.statistics(target, |statistics| statistics.failed(total));
    }

    async fn run<T: Send + 'static>(
        &self,
        target: &Target,
        admitted: &mut Admitted,
        read: impl FnOnce(&ModelInfo) -> Result<ParsedInferRequest> + Send + 'static,
        write: impl FnOnce(InferResponse) -> Result<T> + Send + 'static,
    ) -> Result<(T, Vec<RowStats>, RequestDurations)> {
        let reading = Instant::now();
        let model = Arc::clone(&target.classifier.model);
        let read = move || read(&model);
        let parsed = self.run_blocking(admitted.deadline(), read).await??;
        let read = reading.elapsed();

        if let Some(timeout) = parsed.timeout {
            admitted.shorten(timeout);
        }
        let (inferences, prepared) = admitted.infer(parsed.rows).await?;
        let row_stats = inferences.iter().map(|inference| RowStats {
            batch: inference.batch,
            batch_size: inference.batch_size,
            queued: inference.queued,
            ran: inference.ran,
        });
        let row_stats: Vec<RowStats> = row_stats.collect();

        let writing = Instant::now();
        let model = Arc::clone(&target.classifier.model);
        let (model_name, id, outputs) = (target.display_name(), parsed.id, parsed.outputs);
        let write = move || {
            let tensors = outputs.iter();
            let outputs = tensors
                .map(|output| output.tensor(&inferences, &model))
                .collect();
            write(InferResponse {
                model_name,
                model_version: VERSION,
                id,
                outputs,
            })
        };
        let answer = self.run_blocking(admitted.deadline(), write).await??;
        let took = RequestDurations {
            input: read + prepared,
            output: writing.elapsed(),
            total: Duration::ZERO,
        };
        Ok((answer, row_stats, took))
    }
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
