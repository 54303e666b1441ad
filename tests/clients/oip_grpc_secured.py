"""gRPC behind TLS and API keys, as gRPC's own client sees it.

    oip_grpc_secured.py ADDRESS CERTIFICATE KEY SAMPLES
"""

import pathlib
import sys

import grpc
import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException


def main(address, certificate, key, samples):
    client = triton.InferenceServerClient(address, ssl=True, root_certificates=certificate)
    # Probes and discovery need no key.
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("demo")
    image = triton.InferInput("image", [1], "BYTES")
    image.set_data_from_numpy(np.array([(pathlib.Path(samples) / "penguin.jpg").read_bytes()], dtype=np.object_))
    outputs = [triton.InferRequestedOutput("logits", class_count=1)]
    for headers in [None, {"authorization": "Bearer another-key-0123456789"}]:
        for call in [
            lambda: client.infer("demo_image", [image], headers=headers),
            lambda: client.get_model_metadata("demo", headers=headers),
        ]:
            try:
                call()
            except InferenceServerException as refusal:
                assert refusal.status() == "StatusCode.UNAUTHENTICATED", refusal
            else:
                raise AssertionError("no key was needed")
    headers = {"authorization": f"Bearer {key}"}
    answer = client.infer("demo_image", [image], outputs=outputs, headers=headers)
    assert answer.as_numpy("logits")[0][0].decode().endswith(":penguin")
    # Without TLS there is nobody.
    plain = triton.InferenceServerClient(address)
    try:
        plain.is_server_live()
    except InferenceServerException as refusal:
        assert refusal.status() == f"StatusCode.{grpc.StatusCode.UNAVAILABLE.name}", refusal
    else:
        raise AssertionError("the port speaks without TLS")
    print("guarded")


if __name__ == "__main__":
    main(*sys.argv[1:])
