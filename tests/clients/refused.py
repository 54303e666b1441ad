"""Python's own HTTP clients send whole bodies before they read anything: they have to see why a body
was refused.

    refused.py ADDRESS
"""

import http.client
import sys
import urllib.error
import urllib.request

MIB = 1 << 20
# Path, MiB, status; the server takes 10 MiB.
REFUSED = [
    ("/classify?top_k=0", 8, 400),
    ("/nowhere", 9, 404),
    ("/classify", 12, 413),
    ("/classify", 32, 413),
]


def with_http_client(address, path, body):
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request("POST", path, body)
    answer = connection.getresponse()
    return answer.status, answer.headers["content-type"], answer.read()


def with_urllib(address, path, body):
    try:
        urllib.request.urlopen(f"http://{address}{path}", data=body, timeout=60)
    except urllib.error.HTTPError as error:
        return error.code, error.headers["content-type"], error.read()
    raise AssertionError(f"{path} was not refused")


def main(address):
    for client in (with_http_client, with_urllib):
        for path, size, expected in REFUSED:
            for _ in range(3):
                status, kind, text = client(address, path, b"x" * (size * MIB))
                assert status == expected, (client.__name__, path, size, status)
                assert kind == "application/problem+json" and b'"detail"' in text, (path, kind, text)


main(sys.argv[1])
