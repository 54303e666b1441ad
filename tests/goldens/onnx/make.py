"""`every_field.onnx`: a model in which every field of every message is set, by the schema's own
descriptors. A reader that drops one of them cannot write the file back byte for byte.

    pip install -r requirements.txt && python make.py
"""
import pathlib

import onnx

DEPTH = 3  # messages nest without end: attributes hold graphs, which hold attributes


def value(field, seed):
    kind = field.type
    if kind == field.TYPE_STRING:
        return f"{field.name} {seed}"
    if kind == field.TYPE_BYTES:
        return bytes([seed % 256, 0, 255])
    if kind in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return seed + 0.5
    if kind == field.TYPE_ENUM:
        return field.enum_type.values[-1].number
    if kind == field.TYPE_UINT64:
        return 2**64 - 1 - seed
    return -seed - 1  # negative integers show sign and width


def fill(message, path=()):
    for field in message.DESCRIPTOR.fields:
        # Of alternatives only one can be set; `types` sees to the others.
        if field.containing_oneof and field.number != field.containing_oneof.fields[0].number:
            continue
        seed = field.number + 100 * len(path)
        if field.message_type:
            if path.count(field.message_type.name) < 1 and len(path) < DEPTH:
                inner = getattr(message, field.name)
                for _ in range(2 if field.is_repeated else 1):
                    fill(inner.add() if field.is_repeated else inner, path + (field.message_type.name,))
        elif field.is_repeated:
            getattr(message, field.name).extend([value(field, seed), value(field, seed + 1)])
        else:
            setattr(message, field.name, value(field, seed))


def types(graph):
    """One value for every alternative of a type, a dimension and a sharded dimension."""
    for option in onnx.TypeProto.DESCRIPTOR.oneofs_by_name["value"].fields:
        info = graph.value_info.add(name=option.name)
        inner = getattr(info.type, option.name)
        inner.SetInParent()
        for field in option.message_type.fields:
            if field.message_type is None:
                setattr(inner, field.name, value(field, 1))
            elif field.name == "shape":
                inner.shape.dim.add(dim_value=3, denotation="known")
                inner.shape.dim.add(dim_param="n")
                inner.shape.dim.add()
            else:
                getattr(inner, field.name).tensor_type.elem_type = 1
    device = graph.node.add().device_configurations.add(configuration_id="c", pipeline_stage=2)
    spec = device.sharding_spec.add(tensor_name="t", device=[0, -1])
    spec.index_to_device_group_map.add(key=-1, value=[4, 5])
    dim = spec.sharded_dim.add(axis=-1)
    dim.simple_sharding.add(dim_value=8, num_shards=2)
    dim.simple_sharding.add(dim_param="m", num_shards=2)


def missing(message, seen):
    """Collects (message, field) pairs that are set somewhere."""
    for field, content in message.ListFields():
        seen.add((message.DESCRIPTOR.full_name, field.name))
        if field.message_type:
            for inner in content if field.is_repeated else [content]:
                missing(inner, seen)
    return seen


def every(descriptor, seen):
    for field in descriptor.fields:
        if (descriptor.full_name, field.name) not in seen:
            seen.add((descriptor.full_name, field.name))
            if field.message_type:
                every(field.message_type, seen)
    return seen


model = onnx.ModelProto()
fill(model)
types(model.graph)
left_out = every(model.DESCRIPTOR, set()) - missing(model, set())
assert not left_out, sorted(left_out)
data = model.SerializeToString(deterministic=True)
(pathlib.Path(__file__).parent / "every_field.onnx").write_bytes(data)
