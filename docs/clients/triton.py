"""tritonclient: encoded images to labels and map, and tensors of one's own to logits."""

import os
import urllib.parse

import numpy as np
import tritonclient.http as http
from PIL import Image

server = urllib.parse.urlsplit(os.environ.get("PATCHLIGHT", "http://localhost:8080")).netloc
client = http.InferenceServerClient(server)
print("served:", [model["name"] for model in client.get_model_repository_index()])

# NAME_image takes files as they are: decoding and resizing are the server's.
names = ["penguin.jpg", "rocket.jpg"]
files = np.array([open(f"models/samples/{name}", "rb").read() for name in names], dtype=object)
image = http.InferInput("image", files.shape, "BYTES")
image.set_data_from_numpy(files)
outputs = [http.InferRequestedOutput("logits", class_count=2), http.InferRequestedOutput("rollout")]
answer = client.infer("demo_image", [image], outputs=outputs, request_id="example-1")
for name, best, rollout in zip(names, answer.as_numpy("logits"), answer.as_numpy("rollout")):
    print(name, [text.decode() for text in best], "looked most at row, column", np.unravel_index(rollout.argmax(), rollout.shape))

# NAME takes tensors: preprocessing is yours, as `patchlight inspect` shows it.
image = Image.open("models/samples/penguin.jpg").convert("RGB").resize((224, 224), Image.BICUBIC)
pixels = (np.asarray(image, np.float32) / 127.5 - 1).transpose(2, 0, 1)[None]
tensor = http.InferInput("pixel_values", pixels.shape, "FP32")
tensor.set_data_from_numpy(pixels)
logits = client.infer("demo", [tensor]).as_numpy("logits")
print("logits:", logits.shape, "best class:", logits.argmax())
