"""A plain web server with TLS: serve_https.py FOLDER CERTIFICATE KEY. Prints its port. While a file
STALL lies in the folder, answers stop in the middle of a body."""

import functools
import http.server
import pathlib
import shutil
import ssl
import sys
import time

folder, certificate, key = sys.argv[1:]
stall = pathlib.Path(folder, "STALL")


class Handler(http.server.SimpleHTTPRequestHandler):
    def copyfile(self, source, target):
        if not stall.exists():
            return shutil.copyfileobj(source, target)
        target.write(source.read(20_000))
        target.flush()
        pathlib.Path(folder, "STALLED").touch()
        time.sleep(600)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
