"""Everything a stock client does over gRPC, done by Triton's own and by gRPC's own for health and reflection.

    oip_grpc.py ADDRESS MODEL SAMPLES HTTP_ADDRESS

Raises at the first thing that is not as the protocol says. What is expected comes from outside: the same
questions over HTTP (tests/clients/oip.py holds those to the protocol), numpy, and the services' definitions.
"""

import json
import pathlib
import queue
import sys
import time
import urllib.request

import grpc
import numpy as np
import tritonclient.grpc as triton
import tritonclient.http as http
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from oip import close, prepared

SERVICE = "inference.GRPCInferenceService"


def main(address, model, samples, http_address):
    samples = pathlib.Path(samples)
    client = triton.InferenceServerClient(address)
    web = http.InferenceServerClient(http_address)
    describes_itself(client, web, model)
    pixels = np.stack([prepared(samples / name) for name in ["dog.jpg", "penguin.jpg", "rocket.jpg"]])
    logits = tensors(client, web, model, pixels)
    images(client, http_address, model, [samples / name for name in ["dog.jpg", "penguin.jpg", "butterfly.png"]])
    typed_contents(address, model, pixels[:1], logits[:1], samples / "penguin.jpg")
    many_at_once(client, model, pixels, logits)
    streams(address, model, pixels, logits)
    cancelled_calls_are_dropped(address, http_address, model, samples / "dog.jpg")
    counts(client, model, pixels)
    says_what_is_wrong(client, address, model, pixels)
    health(address)
    reflection(address)
    print("everything is as the protocol says")


def describes_itself(client, web, model):
    assert client.is_server_live() and client.is_server_ready()
    names = [model, f"{model}_explain", f"{model}_image"]
    assert all(client.is_model_ready(name) and client.is_model_ready(name, "1") for name in names)
    assert client.get_server_metadata(as_json=True) == web.get_server_metadata()
    for name in names:
        # JSON of protobuf has numbers of 64 bits as strings, and nothing for what is empty.
        described = client.get_model_metadata(name)
        expected = web.get_model_metadata(name)
        assert described.name == name and list(described.versions) == expected["versions"]
        assert described.platform == expected["platform"]
        for kind in ["inputs", "outputs"]:
            tensors = [{"name": t.name, "datatype": t.datatype, "shape": list(t.shape)} for t in getattr(described, kind)]
            assert tensors == expected[kind], (name, kind)
        config, expected = client.get_model_config(name).config, web.get_model_config(name)
        assert (config.name, config.platform, config.backend) == (name, expected["platform"], expected["backend"])
        assert config.max_batch_size == expected["max_batch_size"]
        assert config.version_policy.latest.num_versions == 1 and config.HasField("dynamic_batching")
        [given], [expected_input] = config.input, expected["input"]
        data_type = type(given).DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number
        format_ = type(given).DESCRIPTOR.fields_by_name["format"].enum_type.values_by_number
        assert data_type[given.data_type].name == expected_input["data_type"]
        assert format_[given.format].name == expected_input["format"] and list(given.dims) == expected_input["dims"]
        for output, expected_output in zip(config.output, expected["output"], strict=True):
            assert (output.name, list(output.dims)) == (expected_output["name"], expected_output["dims"])
            assert output.label_filename == expected_output["label_filename"]
    index = client.get_model_repository_index().models
    assert sorted(entry.name for entry in index) == sorted(names) and all(entry.state == "READY" for entry in index)


def pixel_input(pixels):
    tensor = triton.InferInput("pixel_values", pixels.shape, "FP32")
    tensor.set_data_from_numpy(pixels)
    return tensor


def tensors(client, web, model, pixels):
    over_http = http.InferInput("pixel_values", pixels.shape, "FP32")
    over_http.set_data_from_numpy(pixels)
    expected = web.infer(f"{model}_explain", [over_http])
    answer = client.infer(f"{model}_explain", [pixel_input(pixels)], request_id="a-7", model_version="1")
    said = answer.get_response()
    assert (said.id, said.model_name, said.model_version) == ("a-7", f"{model}_explain", "1")
    close(answer.as_numpy("logits"), expected.as_numpy("logits"))
    close(answer.as_numpy("rollout"), expected.as_numpy("rollout"))
    logits = answer.as_numpy("logits")
    for coding in ["gzip", "deflate"]:
        packed = client.infer(model, [pixel_input(pixels)], compression_algorithm=coding)
        close(packed.as_numpy("logits"), logits)
    # Only what is asked for, in that order.
    outputs = [triton.InferRequestedOutput("rollout"), triton.InferRequestedOutput("logits", class_count=3)]
    answer = client.infer(f"{model}_explain", [pixel_input(pixels)], outputs=outputs)
    assert [output.name for output in answer.get_response().outputs] == ["rollout", "logits"]
    for row, texts in zip(logits, answer.as_numpy("logits"), strict=True):
        best = [int(text.decode().split(":")[1]) for text in texts]
        assert best == list(np.argsort(-row, kind="stable")[:3])
    return logits


def images(client, http_address, model, paths):
    encoded = np.array([path.read_bytes() for path in paths], dtype=np.object_)
    image = triton.InferInput("image", [len(paths)], "BYTES")
    image.set_data_from_numpy(encoded)
    outputs = [triton.InferRequestedOutput("logits", class_count=1)]
    rows = client.infer(f"{model}_image", [image], outputs=outputs).as_numpy("logits")
    for path, row in zip(paths, rows, strict=True):
        url = f"http://{http_address}/classify?top_k=1&attention=none"
        with urllib.request.urlopen(url, data=path.read_bytes()) as answer:
            assert json.load(answer)["predictions"][0]["label"] == row[0].decode().split(":")[2], path


def typed_contents(address, model, pixels, logits, path):
    """Values in the message's typed fields, which Triton's client never fills."""
    stub = service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(address))
    request = service_pb2.ModelInferRequest(model_name=model)
    tensor = request.inputs.add(name="pixel_values", datatype="FP32", shape=pixels.shape)
    tensor.contents.fp32_contents.extend(pixels.ravel().tolist())
    answer = stub.ModelInfer(request)
    close(np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(1, -1), logits)
    request = service_pb2.ModelInferRequest(model_name=f"{model}_image")
    tensor = request.inputs.add(name="image", datatype="BYTES", shape=[1])
    tensor.contents.bytes_contents.append(path.read_bytes())
    request.outputs.add(name="logits").parameters["classification"].int64_param = 1
    answer = stub.ModelInfer(request)
    # A length in 32 bits, then the text.
    assert answer.raw_output_contents[0][4:].decode().split(":")[2] == "penguin"


def many_at_once(client, model, pixels, logits):
    answers = queue.Queue()
    for at in range(12):
        row = at % len(pixels)
        client.async_infer(model, [pixel_input(pixels[row : row + 1])], lambda result, error, row=row: answers.put((row, result, error)))
    for _ in range(12):
        row, result, error = answers.get(timeout=60)
        assert error is None, error
        close(result.as_numpy("logits")[0], logits[row])


def streams(address, model, pixels, logits):
    client = triton.InferenceServerClient(address)
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for at in range(9):
        row = at % len(pixels)
        # What is wrong with one request is no reason to end the others.
        name = "another" if at == 4 else model
        client.async_stream_infer(name, [pixel_input(pixels[row : row + 1])], request_id=str(at))
    for at in range(9):
        result, error = answers.get(timeout=60)
        if at == 4:
            assert result is None and "another" in error.message(), error
            continue
        assert error is None, error
        # In their order.
        assert result.get_response().id == str(at)
        close(result.as_numpy("logits")[0], logits[at % len(pixels)])
    client.stop_stream()
    client.close()


def cancelled_calls_are_dropped(address, http_address, model, path):
    """Calls that are cancelled at one moment after the other, until one of them was being worked on."""
    stub = service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(address))
    request = service_pb2.ModelInferRequest(model_name=f"{model}_image")
    tensor = request.inputs.add(name="image", datatype="BYTES", shape=[8])
    tensor.contents.bytes_contents.extend([path.read_bytes()] * 8)
    for attempt in range(500):
        call = stub.ModelInfer.future(request)
        time.sleep(0.005 * (attempt % 20))
        call.cancel()
        with urllib.request.urlopen(f"http://{http_address}/metrics") as metrics:
            lines = metrics.read().decode().splitlines()
        if sum(float(line.split()[1]) for line in lines if line.startswith("patchlight_abandoned_total")) > 0:
            return
    raise AssertionError("no cancelled call was counted")


def counts(client, model, pixels):
    def read():
        [entry] = client.get_inference_statistics(model).model_stats
        return entry

    before = read()
    client.infer(model, [pixel_input(pixels)])
    refused(lambda: client.infer(model, [pixel_input(pixels[:, :, :8, :8])]), "INVALID_ARGUMENT")
    after = read()
    assert after.inference_count - before.inference_count == len(pixels)
    assert 1 <= after.execution_count - before.execution_count <= len(pixels)
    assert after.inference_stats.success.count - before.inference_stats.success.count == 1
    assert after.inference_stats.fail.count - before.inference_stats.fail.count == 1
    assert sum(size.compute_infer.count for size in after.batch_stats) == after.execution_count
    names = [entry.name for entry in client.get_inference_statistics().model_stats]
    assert sorted(names) == sorted([model, f"{model}_explain", f"{model}_image"]), names


def says_what_is_wrong(client, address, model, pixels):
    refused(lambda: client.get_model_metadata("another"), "NOT_FOUND", "another")
    refused(lambda: client.get_model_metadata(model, "7"), "NOT_FOUND")
    refused(lambda: client.is_model_ready("another"), "NOT_FOUND")
    refused(lambda: client.infer("another", [pixel_input(pixels)]), "NOT_FOUND")
    refused(lambda: client.infer(model, [pixel_input(pixels[0])]), "INVALID_ARGUMENT", "instead of")
    refused(lambda: client.infer(model, [pixel_input(np.full_like(pixels[:1], np.nan))]), "INVALID_ARGUMENT", "finite")
    many = np.concatenate([pixels] * 6)[:17]
    refused(lambda: client.infer(model, [pixel_input(many)]), "INVALID_ARGUMENT", "rows")
    # A microsecond is over before anything has run: said in the request, and by gRPC itself.
    refused(lambda: client.infer(model, [pixel_input(pixels[:1])], timeout=1), "DEADLINE_EXCEEDED", "deadline")
    refused(lambda: client.infer(model, [pixel_input(pixels[:1])], client_timeout=1e-6), "DEADLINE_EXCEEDED")
    image = triton.InferInput("image", [1], "BYTES")
    image.set_data_from_numpy(np.array([b"no image"], dtype=np.object_))
    refused(lambda: client.infer(f"{model}_image", [image]), "INVALID_ARGUMENT")
    # What Triton has and this server has not.
    refused(lambda: client.load_model(model), "UNIMPLEMENTED")
    refused(lambda: client.get_system_shared_memory_status(), "UNIMPLEMENTED")
    # Longer than --max-body.
    large = np.zeros((16, 3, 512, 512), np.float32)
    refused(lambda: client.infer(model, [pixel_input(large)]), "RESOURCE_EXHAUSTED")


def health(address):
    stub = health_pb2_grpc.HealthStub(grpc.insecure_channel(address))
    serving = health_pb2.HealthCheckResponse.SERVING
    for service in ["", SERVICE]:
        assert stub.Check(health_pb2.HealthCheckRequest(service=service)).status == serving
    try:
        stub.Check(health_pb2.HealthCheckRequest(service="another"))
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.NOT_FOUND
    else:
        raise AssertionError("a service that is not there is healthy")
    watching = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
    assert next(watching).status == serving
    watching.cancel()
    unknown = stub.Watch(health_pb2.HealthCheckRequest(service="another"))
    assert next(unknown).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


def reflection(address):
    stub = reflection_pb2_grpc.ServerReflectionStub(grpc.insecure_channel(address))
    Request = reflection_pb2.ServerReflectionRequest
    questions = [
        Request(list_services=""),
        Request(file_containing_symbol=SERVICE),
        Request(file_by_filename="inference.proto"),
        Request(file_containing_symbol="inference.Nothing"),
    ]
    listed, by_symbol, by_name, nothing = stub.ServerReflectionInfo(iter(questions))
    assert SERVICE in [service.name for service in listed.list_services_response.service]
    assert by_symbol.file_descriptor_response == by_name.file_descriptor_response
    [encoded] = by_name.file_descriptor_response.file_descriptor_proto
    described = descriptor_pb2.FileDescriptorProto.FromString(encoded)
    theirs = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
    assert {method.name for method in described.service[0].method} <= set(theirs)
    assert nothing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def refused(call, code, word=""):
    try:
        call()
    except InferenceServerException as refusal:
        assert refusal.status() == f"StatusCode.{code}", (code, refusal)
        assert word in refusal.message(), refusal
    else:
        raise AssertionError(f"nothing was wrong, {code} was expected")


if __name__ == "__main__":
    main(*sys.argv[1:])
