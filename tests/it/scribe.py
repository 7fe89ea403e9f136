"""The scribe: writers of Avro, Protobuf and JSON with a schema that aren't ours (Confluent's serializers), and the schema registry that they and tamis ask.

Owns: a stand-in for a schema registry with Confluent's REST paths (no genuine one is to be had from the package registries), what it was asked,
and how it fails when told to. Each request is one JSON object on a line of standard input with a "do" key; each answer is one JSON object on a
line. The serializers are Confluent's own client's, and speak to the stand-in over HTTP as they would to a genuine one.
"""

import base64
import http.server
import json
import pathlib
import ssl
import sys
import tempfile
import threading
import time
import urllib.parse

CONTENT = "application/vnd.schemaregistry.v1+json"


class Book:
    """What is registered, what was asked for, and what is answered instead."""

    def __init__(self):
        self.lock = threading.Lock()
        self.schemas = {}  # id → {"schema", "schemaType", "references"}
        self.subjects = {}  # subject → [id, …], one for each version
        self.texts = {}  # file name of a .proto → its text
        self.asked = []
        self.mode = "well"
        self.password = None

    def text(self, schema):
        """Confluent's Python client sends Protobuf schemas as descriptors in base64; a registry makes them text, which is what it then tells."""
        from google.protobuf import descriptor_pb2

        try:
            name = descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(schema, validate=True)).name
        except ValueError:
            return schema
        return self.texts[name]

    def register(self, subject, body):
        schema = self.text(body["schema"]) if body.get("schemaType") == "PROTOBUF" else body["schema"]
        known = {"schema": schema, "schemaType": body.get("schemaType", "AVRO"), "references": body.get("references") or []}
        with self.lock:
            found = next((number for number, schema in self.schemas.items() if schema == known), None)
            number = found or len(self.schemas) + 1
            self.schemas[number] = known
            versions = self.subjects.setdefault(subject, [])
            if number not in versions:
                versions.append(number)
            return number

    def version(self, subject, version):
        versions = self.subjects.get(subject)
        if not versions:
            return 404, {"error_code": 40401, "message": f"Subject '{subject}' not found."}
        index = len(versions) if version == "latest" else int(version)
        if not 1 <= index <= len(versions):
            return 404, {"error_code": 40402, "message": f"Version {version} not found."}
        number = versions[index - 1]
        return 200, {"subject": subject, "version": index, "id": number, **self.told(number)}

    def told(self, number):
        """A schema as the registry tells it: Avro is not named, and no references are none."""
        schema = self.schemas[number]
        told = {"schema": schema["schema"]}
        if schema["schemaType"] != "AVRO":
            told["schemaType"] = schema["schemaType"]
        if schema["references"]:
            told["references"] = schema["references"]
        return told


BOOK = Book()


class Desk(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body, kind=CONTENT):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def handle_one(self, method):
        if BOOK.mode == "gone":
            # A connection that was kept ends with its server.
            self.close_connection = True
            return None
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        path = urllib.parse.urlsplit(self.path).path
        own = self.headers.get("User-Agent", "").startswith("tamis")
        if own:
            BOOK.asked.append(path)
        # A start asks whether the registry answers at all; what comes later is what the modes are about.
        if own and path != "/schemas/types":
            if BOOK.mode == "hang":
                time.sleep(3600)
            if BOOK.mode == "broken":
                return self.answer(503, {"error_code": 50301, "message": "not now"})
            if BOOK.mode == "proxy":
                return self.answer(404, b"<html>no such page</html>", "text/html")
            if BOOK.mode == "garbage":
                return self.answer(200, b"\xff" * 1000)
            if BOOK.mode == "endless":
                return self.answer(200, b'{"schema": "' + b"x" * (11 << 20) + b'"}')
        if BOOK.password is not None:
            wanted = "Basic " + base64.b64encode(BOOK.password.encode()).decode()
            if self.headers.get("Authorization") != wanted:
                return self.answer(401, {"error_code": 401, "message": "Unauthorized"})
        parts = [urllib.parse.unquote(part) for part in path.strip("/").split("/")]
        match method, parts:
            case "GET", ["schemas", "types"]:
                return self.answer(200, ["JSON", "PROTOBUF", "AVRO"])
            case "GET", ["schemas", "ids", number]:
                if int(number) not in BOOK.schemas:
                    return self.answer(404, {"error_code": 40403, "message": f"Schema {number} not found"})
                return self.answer(200, BOOK.told(int(number)))
            case "GET", ["subjects", subject, "versions", version]:
                return self.answer(*BOOK.version(subject, version))
            case "POST", ["subjects", subject, "versions"]:
                return self.answer(200, {"id": BOOK.register(subject, body)})
            case "POST", ["subjects", subject]:
                return self.answer(*BOOK.version(subject, "latest"))
        return self.answer(404, {"error_code": 404, "message": "HTTP 404 Not Found"})

    def do_GET(self):
        self.handle_one("GET")

    def do_POST(self):
        self.handle_one("POST")


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True


SERVER = None
PORT = 0


def serve(r):
    """Starts the registry; again on the same port after it was stopped. "cert" and "key": over TLS."""
    global SERVER, PORT
    BOOK.mode = "well"
    SERVER = Server(("127.0.0.1", PORT), Desk)
    PORT = SERVER.server_address[1]
    scheme = "http"
    if r.get("cert"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(r["cert"], r["key"])
        SERVER.socket = context.wrap_socket(SERVER.socket, server_side=True)
        scheme = "https"
    threading.Thread(target=SERVER.serve_forever, daemon=True).start()
    return {"url": f"{scheme}://127.0.0.1:{PORT}"}


def stop(_):
    BOOK.mode = "gone"
    SERVER.shutdown()
    SERVER.server_close()
    return {}


def mode(r):
    BOOK.mode = r.get("mode", "well")
    BOOK.password = r.get("password")
    return {}


def asked(_):
    return {"paths": list(BOOK.asked)}


def register(r):
    return {"id": BOOK.register(r["subject"], r)}


def client():
    from confluent_kafka.schema_registry import SchemaRegistryClient

    return SchemaRegistryClient({"url": f"http://127.0.0.1:{PORT}"})


def context(topic):
    from confluent_kafka.serialization import MessageField, SerializationContext

    return SerializationContext(topic, MessageField.VALUE)


def avro(r):
    """Values in Avro, each framed, by Confluent's serializer and fastavro."""
    from confluent_kafka.schema_registry import Schema, SchemaReference
    from confluent_kafka.schema_registry.avro import AvroSerializer

    references = [SchemaReference(x["name"], x["subject"], x["version"]) for x in r.get("references", [])]
    write = AvroSerializer(client(), Schema(json.dumps(r["schema"]), "AVRO", references))
    return {"values": [write(value, context(r["topic"])).hex() for value in r["values"]]}


def protobuf(r):
    """Messages of type "message" of the files "protos" (by name, the message's own first), by Confluent's serializer and protoc."""
    import grpc_tools.protoc
    from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
    from google.protobuf import json_format

    names = list(r["protos"])
    with tempfile.TemporaryDirectory() as folder:
        for name, text in r["protos"].items():
            path = pathlib.Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        google = pathlib.Path(grpc_tools.protoc.__file__).parent / "_proto"
        if grpc_tools.protoc.main(["", f"-I{folder}", f"-I{google}", f"--python_out={folder}", *names]):
            raise ValueError("protoc refused it")
        sys.path.insert(0, folder)
        made = __import__(names[0].removesuffix(".proto").replace("/", ".") + "_pb2")
        sys.path.pop(0)
    kind = made
    for part in r["message"].split("."):
        kind = getattr(kind, part)
    BOOK.texts.update(r["protos"])
    write = ProtobufSerializer(kind, client(), {"skip.known.types": True})
    messages = [json_format.ParseDict(value, kind()) for value in r["values"]]
    return {"values": [write(message, context(r["topic"])).hex() for message in messages]}


def json_schema(r):
    """Values in JSON, each framed, by Confluent's serializer, which holds them against their schema."""
    from confluent_kafka.schema_registry.json_schema import JSONSerializer

    write = JSONSerializer(json.dumps(r["schema"]), client())
    return {"values": [write(value, context(r["topic"])).hex() for value in r["values"]]}


def main():
    deeds = {deed.__name__: deed for deed in [serve, stop, mode, asked, register, avro, protobuf, json_schema]}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = deeds[request["do"]](request)
        except Exception as error:  # whatever it is, the test that asked shall hear of it
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


main()
