"""KServe's own client over gRPC and over HTTP, unmodified (a process of its own: its messages and Triton's have
the same names).

    oip_kserve.py GRPC_ADDRESS HTTP_ADDRESS MODEL SAMPLES

Raises at the first thing that is not as KServe expects it.
"""

import asyncio
import pathlib
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig


async def main(grpc_address, http_address, model, samples):
    samples = pathlib.Path(samples)
    images = [(samples / name).read_bytes() for name in ["penguin.jpg", "rocket.jpg"]]
    rng = np.random.default_rng(7)
    pixels = rng.uniform(-1, 1, (2, 3, 224, 224)).astype(np.float32)
    async with InferenceGRPCClient(grpc_address) as client:
        assert await client.is_server_live() and await client.is_server_ready()
        assert await client.is_model_ready(model)
        over_grpc = {}
        for raw in [True, False]:
            tensor = InferInput("pixel_values", list(pixels.shape), "FP32")
            tensor.set_data_from_numpy(pixels, binary_data=raw)
            answer = await client.infer(InferRequest(model_name=model, infer_inputs=[tensor], request_id="a-7"))
            assert (answer.id, answer.model_name) == ("a-7", model)
            over_grpc[raw] = answer.outputs[0].as_numpy()
            assert answer.outputs[0].name == "logits" and over_grpc[raw].shape[0] == 2
        np.testing.assert_allclose(over_grpc[True], over_grpc[False], rtol=1e-3, atol=1e-3)
        image = InferInput("image", [2], "BYTES", data=images)
        answer = await client.infer(InferRequest(model_name=f"{model}_image", infer_inputs=[image]))
        by_name = {output.name: output.as_numpy() for output in answer.outputs}
        assert by_name["rollout"].shape == (2, 14, 14)

    config = RESTConfig(protocol="v2")
    web = InferenceRESTClient(config)
    url = f"http://{http_address}"
    assert await web.is_server_live(url) and await web.is_server_ready(url) and await web.is_model_ready(url, model)
    tensor = InferInput("pixel_values", list(pixels.shape), "FP32")
    tensor.set_data_from_numpy(pixels, binary_data=False)
    answer = await web.infer(url, InferRequest(model_name=model, infer_inputs=[tensor]), model_name=model)
    np.testing.assert_allclose(answer.outputs[0].as_numpy(), over_grpc[True], rtol=1e-3, atol=1e-3)
    await web.close()
    print("everything is as KServe expects it")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
