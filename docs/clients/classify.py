"""Labels and a map with requests: a session, a deadline, errors by their code, and a retry when told to."""

import os
import time

import requests

SERVER = os.environ.get("PATCHLIGHT", "http://localhost:8080")
session = requests.Session()
if key := os.environ.get("PATCHLIGHT_KEY"):
    session.headers["Authorization"] = f"Bearer {key}"


def classify(image, attempts=3, **query):
    for attempt in range(1, attempts + 1):
        answer = session.post(f"{SERVER}/classify", data=image, params=query, headers={"Request-Timeout": "5"}, timeout=10)
        if answer.ok:
            return answer.json()
        problem = answer.json()
        if answer.status_code != 503 or attempt == attempts:
            raise RuntimeError(f"{problem['code']}: {problem['detail']} (request {problem['request_id']})")
        time.sleep(float(answer.headers.get("Retry-After", 1)))


with open("models/samples/penguin.jpg", "rb") as file:
    answer = classify(file.read(), top_k=3)
for prediction in answer["predictions"]:
    print(f"{prediction['score']:6.1%}  {prediction['label']}")

rollout = session.get(SERVER + answer["attention"]["url"], params={"format": "json"}, timeout=10).json()
print(f"{sum(rollout['values']) + rollout['prefix_mass']:.6f} of the attention is accounted for")

try:
    classify(b"this is no image")
except RuntimeError as error:
    print("refused:", error)
