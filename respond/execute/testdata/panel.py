#!/usr/bin/env python3
"""A command for flowcordon's exec adapter, to start one's own from.

The panel is a JSON file here ($PANEL: {mac: {"live": …, "config": …,
"running": …}}); put the calls to yours where it says so. What an act found
before is kept beside the mark, so that exactly that is given back.
"""
import fcntl
import json
import os
import sys

NOT_FOUND, LOCKED, CONFLICT, DENIED, UNSUPPORTED = 10, 11, 12, 13, 14


def refuse(code, why):
    print(why, file=sys.stderr)
    sys.exit(code)


def state(nic):
    """What flowcordon is told: never more than is really so."""
    cut = nic.get("cut")
    return {
        "live": nic["live"], "config": nic["config"], "running": nic["running"],
        "mark": cut["mark"] if cut else None,
        "restrictions": [{"measure": r["measure"], "mark": r["mark"]} for _, r in sorted(nic.get("measures", {}).items())],
    }


def cut(nic, q):
    held = nic.setdefault("cut", {"before": state(nic), "mark": q["mark"]})
    if held["mark"]["incident"] != q["mark"]["incident"]:
        refuse(CONFLICT, "cut for " + held["mark"]["incident"])
    nic["live"] = nic["config"] = "down"  # here: set the link down, running and defined
    return held["before"]


def restore(nic, q):
    held = nic.pop("cut", None)
    if held is None or held["mark"]["incident"] != q["mark"]["incident"]:
        refuse(CONFLICT, "not cut for " + q["mark"]["incident"])
    for k in ("live", "config"):
        nic[k] = held["before"][k]  # here: as it was, which may have been down


def restrict(nic, q):
    measures, kind = nic.setdefault("measures", {}), q["measure"]["kind"]
    old = measures.get(kind)
    if old and old["mark"]["incident"] != q["mark"]["incident"]:
        refuse(CONFLICT, kind + " for " + old["mark"]["incident"])
    before = old["before"] if old else state(nic)
    # here: block q["measure"]["ports"], or bound to q["measure"]["kbit_s"]
    measures[kind] = {"measure": q["measure"], "mark": q["mark"], "before": before}
    return before


def lift(nic, q):
    old = nic.get("measures", {}).get(q["measure"]["kind"])
    if old is None or old["mark"]["incident"] != q["mark"]["incident"]:
        refuse(CONFLICT, "not restricted for " + q["mark"]["incident"])
    del nic["measures"][q["measure"]["kind"]]  # here: take it away


def main():
    q = json.load(sys.stdin)
    if q["version"] != 1:
        refuse(UNSUPPORTED, "version %s is not known here" % q["version"])
    with open(os.environ["PANEL"], "r+") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        nics = json.load(f)
        if q["action"] == "list":
            marked = [{"nic": {"mac": mac, "vds": n.get("vds", ""), "ip": n.get("ip", "")}, "status": state(n)}
                      for mac, n in nics.items() if n.get("cut") or n.get("measures")]
            json.dump({"nics": marked}, sys.stdout)
            return
        nic = nics.get(q["nic"]["mac"])
        if nic is None:
            refuse(NOT_FOUND, "no NIC " + q["nic"]["mac"])
        if nic.get("lock"):
            refuse(LOCKED, "locked by " + nic["lock"])
        acts = {"status": None, "cut": cut, "restore": restore, "restrict": restrict, "lift": lift}
        if q["action"] not in acts:
            refuse(UNSUPPORTED, "action %s is not known here" % q["action"])
        answer = {}
        if acts[q["action"]]:
            before = acts[q["action"]](nic, q)
            f.seek(0)
            f.truncate()
            json.dump(nics, f)
            f.flush()
            os.fsync(f.fileno())
            if before:
                answer["before"] = before
        json.dump({**state(nic), **answer}, sys.stdout)


main()
