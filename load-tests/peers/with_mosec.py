"""mosec: two workers that decode, then the session, in processes of their own."""

import sys

import mosec
import numpy as np

import settings


class Prepare(mosec.Worker):
    def __init__(self):
        super().__init__()
        self.model = settings.model()

    def deserialize(self, data):
        return data

    def forward(self, data):
        return self.model.prepare(data)


class Infer(mosec.Worker):
    def __init__(self):
        super().__init__()
        self.model = settings.model()

    def forward(self, data):
        # Without batches a single tensor comes and a single answer goes.
        tensors = data if settings.BATCH > 1 else [data]
        answers = [self.model.answer(row) for row in self.model.run(np.stack(tensors))]
        return answers if settings.BATCH > 1 else answers[0]


if __name__ == "__main__":
    sys.argv[1:] = ["--address", "127.0.0.1", "--port", str(settings.PORT), "--timeout", "120000", "--log-level", "warning"]
    server = mosec.Server()
    server.append_worker(Prepare, num=2, route="/classify")
    server.append_worker(Infer, num=settings.PROCESSES, max_batch_size=settings.BATCH, max_wait_time=settings.WAIT_MS, route="/classify")
    server.run()
