"""LitServe: images as base64 in JSON; decoding happens in the worker, as its hooks have it."""

import base64

import litserve
import numpy as np

import settings


class Api(litserve.LitAPI):
    def setup(self, device):
        self.model = settings.model()

    def decode_request(self, request):
        return self.model.prepare(base64.b64decode(request["image"]))

    def batch(self, inputs):
        return np.stack(inputs)

    def predict(self, x):
        # Without batches a single tensor comes and a single row goes.
        return self.model.run(x) if settings.BATCH > 1 else self.model.run(x[None])[0]

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return self.model.answer(output)


if __name__ == "__main__":
    api = Api(max_batch_size=settings.BATCH, batch_timeout=settings.WAIT_MS / 1000, api_path="/classify")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=settings.PROCESSES, timeout=120)
    server.run(port=settings.PORT, num_api_servers=1, log_level="warning", generate_client_file=False)
