"""An S3 server of moto's on the loopback interface that fails as it is told.

    python server.py BUCKET [500 | slow | cut | readonly ...]

Prints its port. Of the requests to the bucket, every third is answered with an error 500, every
fourth late, and of every fifth upload the connection is cut; read-only buckets refuse all uploads.
"""

import itertools
import logging
import socket
import sys
import time
from collections.abc import Iterable
from typing import Any

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

BUCKET, FAULTS = sys.argv[1], set(sys.argv[2:])
ERROR = b"<Error><Code>%s</Code><Message>as told</Message></Error>"
requests, uploads = itertools.count(1), itertools.count(1)
served = DomainDispatcherApplication(create_backend_app)
is_ready = False


def faulty(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    if is_ready:
        number, is_upload = next(requests), environ["REQUEST_METHOD"] == "PUT"
        if is_upload and "readonly" in FAULTS:
            start_response("403 Forbidden", [("Content-Type", "application/xml")])
            return [ERROR % b"AccessDenied"]
        if is_upload and "cut" in FAULTS and next(uploads) % 5 == 0:
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return []
        if "500" in FAULTS and number % 3 == 0:
            start_response("500 Internal Server Error", [("Content-Type", "application/xml")])
            return [ERROR % b"InternalError"]
        if "slow" in FAULTS and number % 4 == 0:
            time.sleep(0.3)
    answer: Iterable[bytes] = served(environ, start_response)
    return answer


logging.getLogger("werkzeug").disabled = True
server = make_server("127.0.0.1", 0, faulty, threaded=True)
print(server.port, flush=True)
import threading  # noqa: E402

threading.Thread(target=server.serve_forever, daemon=True).start()
client = boto3.client(
    "s3",
    endpoint_url=f"http://127.0.0.1:{server.port}",
    region_name="us-east-1",
    aws_access_key_id="a",
    aws_secret_access_key="b",
)
client.create_bucket(Bucket=BUCKET)
client.put_object(Bucket=BUCKET, Key="hostile/../outside/sweep.json", Body=b"{}")
is_ready = True
print("ready", flush=True)
threading.Event().wait()
