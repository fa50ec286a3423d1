#!/usr/bin/env python3
"""A receiver for flowcordon's webhook suspender, to start one's own from.

    receiver.py LISTEN:PORT SECRET_FILE NICS.json

The panel is a JSON file here ({mac: {"live": …, "config": …, "running": …}});
put the calls to yours where it says so. What an act found before is kept beside
the mark, so that exactly that is given back. Put a TLS proxy before it.
"""
import hashlib
import hmac
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = open(sys.argv[2], "rb").read().rstrip(b"\r\n")
PATH = sys.argv[3]
LOCK = threading.Lock()


class Refuse(Exception):
    def __init__(self, status, why):
        super().__init__(why)
        self.status = status


def verify(headers, body):
    stamp, sent = headers.get("X-Flowcordon-Timestamp", ""), headers.get("X-Flowcordon-Signature", "")
    if not (stamp.isascii() and stamp.isdigit()) or abs(time.time() - int(stamp)) > 300:
        return False
    want = "sha256=" + hmac.new(SECRET, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(want, sent)


def state(nic):
    """What flowcordon is told: never more than is really so."""
    cut = nic.get("cut")
    return {
        "live": nic["live"], "config": nic["config"], "running": nic["running"],
        "mark": cut["mark"] if cut else None,
        "restrictions": [{"measure": r["measure"], "mark": r["mark"]} for _, r in sorted(nic.get("measures", {}).items())],
    }


def mark(q):
    return {"incident": q["incident"], "key": q["key"], "by": "flowcordon", "reason": q["reason"], "at": q["at"]}


def suspend(nic, q):
    held = nic.setdefault("cut", {"before": state(nic), "mark": mark(q)})
    if held["mark"]["incident"] != q["incident"]:
        raise Refuse(409, "held by " + held["mark"]["incident"])
    nic["live"] = nic["config"] = "down"  # here: set the link down, running and defined
    return held["before"]


def restore(nic, q):
    held = nic.get("cut")
    if held is None or held["mark"]["incident"] != q["incident"]:
        raise Refuse(409, "not held by " + q["incident"])
    for k in ("live", "config"):
        nic[k] = held["before"][k]  # here: as it was, which may have been down
    del nic["cut"]


def restrict(nic, q):
    measures, kind = nic.setdefault("measures", {}), q["measure"]["kind"]
    old = measures.get(kind)
    if old and old["mark"]["incident"] != q["incident"]:
        raise Refuse(409, kind + " is held by " + old["mark"]["incident"])
    before = old["before"] if old else state(nic)
    # here: block q["measure"]["ports"], or bound to q["measure"]["kbit_s"]
    measures[kind] = {"measure": q["measure"], "mark": mark(q), "before": before}
    return before


def lift(nic, q):
    kind = q["measure"]["kind"]
    old = nic.get("measures", {}).get(kind)
    if old is None or old["mark"]["incident"] != q["incident"]:
        raise Refuse(409, kind + " is not held by " + q["incident"])
    del nic["measures"][kind]  # here: take it away


ACTS = {"suspend": suspend, "restore": restore, "restrict": restrict, "lift": lift}


def answer(q):
    with LOCK:
        with open(PATH) as f:
            nics = json.load(f)
        if q["action"] == "list":
            return {"nics": [{"nic": {"mac": m, "vds": n.get("vds", ""), "ip": n.get("ip", "")}, "status": state(n)}
                             for m, n in nics.items() if n.get("cut") or n.get("measures")]}
        nic = nics.get(q["mac"])
        if nic is None:
            raise Refuse(404, "no NIC " + q["mac"])
        if q["action"] == "status":
            return state(nic)
        if q["action"] not in ACTS:
            raise Refuse(501, "action %s is not known here" % q["action"])
        before = ACTS[q["action"]](nic, q)
        with open(PATH + ".new", "w") as f:
            json.dump(nics, f)
            f.flush()
            os.fsync(f.fileno())
        os.replace(PATH + ".new", PATH)
        return {**state(nic), **({"before": before} if before else {})}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(min(int(self.headers.get("Content-Length", 0)), 65536))
        try:
            if not verify(self.headers, body):
                raise Refuse(401, "bad signature")
            status, out = 200, answer(json.loads(body))
        except Refuse as e:
            status, out = e.status, {"error": str(e)}
        except (KeyError, ValueError, TypeError) as e:
            status, out = 400, {"error": "not understood: %r" % e}
        text = json.dumps(out).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args):
        pass


host, port = sys.argv[1].rsplit(":", 1)
server = ThreadingHTTPServer((host, int(port)), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
