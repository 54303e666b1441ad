"""BentoML: one service that decodes, one that runs batches; each in processes of its own."""

import asyncio
import base64

import bentoml
import numpy as np

import settings

TRAFFIC = {"timeout": 120, "max_concurrency": 256}
LOGGING = {"access": {"enabled": False}}


@bentoml.service(workers=settings.PROCESSES, traffic=TRAFFIC, logging=LOGGING)
class Session:
    def __init__(self):
        self.model = settings.model()

    # The wait is BentoML's to choose below this bound; requests beyond it would be refused.
    @bentoml.api(batchable=True, max_batch_size=settings.BATCH, max_latency_ms=60_000)
    def run(self, tensors: np.ndarray) -> np.ndarray:
        """A row for each image: logits, then the rollout."""
        return np.stack([np.concatenate([output.reshape(-1) for output in row]) for row in self.model.run(tensors)])


@bentoml.service(workers=2, traffic=TRAFFIC, logging=LOGGING)
class Classifier:
    session = bentoml.depends(Session)

    def __init__(self):
        self.model = settings.model()

    @bentoml.api
    async def classify(self, image: str) -> dict:
        tensor = await asyncio.to_thread(lambda: self.model.prepare(base64.b64decode(image))[None])
        (row,) = await self.session.to_async.run(tensor)
        logits, rest = row[: self.model.classes], row[self.model.classes :]
        return self.model.answer((logits, rest) if rest.size else (logits,))
