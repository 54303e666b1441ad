"""Compiles src/oip/proto/inference.proto and compares it with the messages of Triton's own client.

Writes beside the source what clients get by reflection (descriptors.binpb), and here messages that Triton's
classes have encoded, for the hand-written ones of src/oip/proto.rs to read.
"""

import pathlib
import tempfile

import grpc_tools
import numpy as np
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_tools import protoc
from tritonclient.grpc import model_config_pb2, service_pb2

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = HERE.parents[2] / "src/oip/proto"


def main():
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "set"
        arguments = ["protoc", f"-I{SOURCE}", f"--descriptor_set_out={out}", "inference.proto"]
        assert protoc.main(arguments) == 0, "inference.proto does not compile"
        compiled = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    ours = compiled.file[0]
    compare(ours)
    for module in [health_pb2, reflection_pb2]:
        module.DESCRIPTOR.CopyToProto(compiled.file.add())
    (SOURCE / "descriptors.binpb").write_bytes(compiled.SerializeToString(deterministic=True))
    (HERE / "request_raw.binpb").write_bytes(raw().SerializeToString(deterministic=True))
    (HERE / "request_typed.binpb").write_bytes(typed().SerializeToString(deterministic=True))


def compare(ours):
    """Every message and field of ours is one of Triton's, with the same number, type and label."""
    theirs = {}
    for module in [service_pb2, model_config_pb2]:
        for message in module.DESCRIPTOR.message_types_by_name.values():
            proto = descriptor_pb2.DescriptorProto()
            message.CopyToProto(proto)
            theirs[proto.name] = proto
    compare_messages(ours.message_type, theirs, "")
    for service in ours.service:
        known = service_pb2.DESCRIPTOR.services_by_name[service.name].methods_by_name
        for method in service.method:
            other = known[method.name]
            types = (method.input_type, method.output_type)
            assert types == ("." + other.input_type.full_name, "." + other.output_type.full_name), method.name
            assert (method.client_streaming, method.server_streaming) == (other.client_streaming, other.server_streaming)
    data_types = model_config_pb2.DESCRIPTOR.enum_types_by_name["DataType"].values_by_name
    assert all(data_types[value.name].number == value.number for value in ours.enum_type[0].value)


def compare_messages(messages, theirs, path):
    for message in messages:
        other = theirs[message.name]
        fields = {field.name: field for field in other.field}
        for field in message.field:
            known = fields[field.name]
            same = ("number", "type", "label", "type_name")
            for what in same:
                assert getattr(field, what) == getattr(known, what), (path, message.name, field.name, what)
        nested = {child.name: child for child in other.nested_type}
        compare_messages(message.nested_type, nested, f"{path}.{message.name}")
        formats = {kind.name: {v.name: v.number for v in kind.value} for kind in other.enum_type}
        for kind in message.enum_type:
            assert all(formats[kind.name][value.name] == value.number for value in kind.value)


def raw():
    request = service_pb2.ModelInferRequest(model_name="vit_image", model_version="1", id="a-7")
    request.parameters["timeout"].int64_param = 2_000_000
    request.inputs.add(name="image", datatype="BYTES", shape=[2])
    output = request.outputs.add(name="logits")
    output.parameters["classification"].int64_param = 3
    request.outputs.add(name="rollout")
    elements = [b"GIF", b"PNG!"]
    request.raw_input_contents.append(b"".join(np.uint32(len(e)).tobytes() + e for e in elements))
    return request


def typed():
    request = service_pb2.ModelInferRequest(model_name="vit")
    tensor = request.inputs.add(name="pixel_values", datatype="FP32", shape=[1, 3, 1, 1])
    tensor.contents.fp32_contents.extend([0.5, -1.0, 2.0])
    return request


if __name__ == "__main__":
    main()
