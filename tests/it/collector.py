"""A collector of traces: OTLP over HTTP, its messages read by OpenTelemetry's own generated code, what came told in JSON lines.

Each request is one JSON object on a line of standard input with a "do" key; each answer is one JSON object on a line.
"""

import http.server
import json
import sys
import threading
import time

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

STATE = {"mode": "well", "spans": [], "headers": [], "bodies": [], "refused": 0}


class Desk(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status, answer = 200, ExportTraceServiceResponse().SerializeToString()
        if STATE["mode"] == "hang":
            STATE["refused"] += 1
            time.sleep(3600)
        if STATE["mode"] == "broken":
            STATE["refused"] += 1
            status, answer = 503, b""
        elif self.path != "/v1/traces" or self.headers["Content-Type"] != "application/x-protobuf":
            status, answer = 400, b""
        else:
            STATE["headers"].append(dict(self.headers.items()))
            STATE["bodies"].append(body)
            take(ExportTraceServiceRequest.FromString(body))
        self.send_response(status)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


def value(held):
    return getattr(held, held.WhichOneof("value"))


def take(request):
    # Put up all at once: whoever asks meanwhile sees a request whole or not at all.
    STATE["spans"].extend(list(spans_of(request)))


def spans_of(request):
    for group in request.resource_spans:
        resource = {pair.key: value(pair.value) for pair in group.resource.attributes}
        for scope in group.scope_spans:
            for span in scope.spans:
                yield {
                    "service": resource.get("service.name"),
                    "trace": span.trace_id.hex(),
                    "span": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "name": span.name,
                    "kind": span.kind,
                    "from": span.start_time_unix_nano,
                    "to": span.end_time_unix_nano,
                    "failed": span.status.code == 2,
                    "attributes": {pair.key: value(pair.value) for pair in span.attributes},
                }


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Desk)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for line in sys.stdin:
        request = json.loads(line)
        answer = {}
        match request["do"]:
            case "url":
                answer = {"url": f"http://127.0.0.1:{server.server_address[1]}"}
            case "mode":
                STATE["mode"] = request["mode"]
            case "spans":
                held = any(request.get("text", "\0").encode() in body for body in STATE["bodies"])
                answer = {"spans": STATE["spans"], "headers": STATE["headers"], "refused": STATE["refused"], "holds_text": held}
        print(json.dumps(answer), flush=True)


main()
