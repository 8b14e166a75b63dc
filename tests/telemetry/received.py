"""Reads what the collector logged of spans and metrics, and asserts that one trace shows a load from the client to DynamoDB.

    received.py COLLECTOR_LOG
"""

import re
import sys
from collections import defaultdict

ROWS = 500


def spans_of(lines):
    """Each span as a dictionary: what is indented beneath `Span #`, its attributes, its links, and its process's service."""
    spans, span, service, links = [], None, "", False
    for line in lines:
        text = line.strip()
        if text.startswith(("ResourceSpans #", "ResourceMetrics #")):
            span = None
        elif match := re.match(r"-> service\.name: Str\((.*)\)$", text):
            service = match[1]
        elif text.startswith("Span #"):
            span, links = {"service": service, "attributes": {}, "links": []}, False
            spans.append(span)
        elif span is None:
            continue
        elif text == "Links:":
            links = True
        elif links and (match := re.match(r"-> ID: (\w+)$", text)):
            span["links"].append(match[1])
        elif not links and (match := re.match(r"-> ([\w.]+): \w+\((.*)\)$", text)):
            span["attributes"][match[1]] = match[2]
        elif not links and (match := re.match(r"(Trace ID|Parent ID|ID|Name|Kind|Status code)\s*: ?(.*)$", text)):
            span[match[1]] = match[2].strip()
    return spans


def metrics_of(lines):
    """The last values of each metric, by name: what points or counts say."""
    values, name = defaultdict(list), None
    for line in lines:
        text = line.strip()
        if match := re.match(r"-> Name: (\S+)$", text):
            name = match[1]
            values[name] = []
        elif name and (match := re.match(r"(?:Value|Count|Sum): ([\d.]+)$", text)):
            values[name].append(float(match[1]))
    return values


def expect(holds, what):
    if not holds:
        sys.exit(f"not received: {what}")


def main():
    with open(sys.argv[1], encoding="utf-8", errors="replace") as file:
        lines = file.read().splitlines()
    spans = spans_of(lines)
    by_name = defaultdict(list)
    for span in spans:
        by_name[span["Name"]].append(span)

    [load] = by_name["forebay load"]
    expect(load["service"] == "forebay-client" and load["Kind"].endswith("CLIENT"), f"the client's span: {load}")
    [stream] = [span for span in by_name["forebay.v1.IngestService/Write"] if span["Trace ID"] == load["Trace ID"]]
    expect(stream["service"] == "forebay", f"the gateway's name: {stream}")
    expect(stream["Parent ID"] == load["ID"], f"the stream beneath the client: {stream}")
    expect(stream["attributes"].get("rpc.response.status_code") == "OK", f"the stream's status: {stream}")
    expect(stream["attributes"].get("forebay.rows") == str(ROWS), f"the stream's rows: {stream}")
    attempts = [span for span in by_name["write attempt"] if span["Parent ID"] == stream["ID"]]
    expect(attempts, "an attempt beneath the stream")
    expect(all(stream["ID"] in span["links"] for span in attempts), f"links to the stream: {attempts}")
    ids = {span["ID"] for span in attempts}
    # A call of one item is no batch, and has no size.
    calls = [span for span in by_name["BatchWriteItem cards"] if span["Parent ID"] in ids]
    items = sum(int(span["attributes"].get("db.operation.batch.size", 1)) for span in calls)
    expect(items == ROWS, f"{ROWS} items in DynamoDB's calls beneath the attempts, not {items}")
    [get] = by_name["forebay get"]
    [read] = [span for span in by_name["forebay.v1.ReadService/GetRow"] if span["Parent ID"] == get["ID"]]
    expect(any(span["Parent ID"] == read["ID"] for span in by_name["GetItem cards"]), "DynamoDB's call beneath the read")
    # The exporter's own calls, probes and the catalog's upkeep have no trace.
    strays = {span["Name"] for span in spans if span["Trace ID"] not in (load["Trace ID"], get["Trace ID"])}
    expect(not strays, f"only what the clients asked for, but {strays}")

    metrics = metrics_of(lines)
    for name, value in [
        ("forebay.write_sessions_opened", 1),
        ("forebay.batches_received", 1),
        ("forebay.rows", ROWS),
        ("forebay.write_units", ROWS),
    ]:
        expect(value in metrics[name], f"{name} {value}, but {metrics[name]}")
    for name in ["rpc.server.call.duration", "db.client.operation.duration", "forebay.ack_duration"]:
        expect(any(metrics[name]), f"{name}, but {metrics[name]}")
    expect(any("deployment.environment.name: Str(ci)" in line for line in lines), "OTEL_RESOURCE_ATTRIBUTES")
    print(f"the collector received {len(spans)} spans and {len(metrics)} metrics")
    print(f"one trace: {load['Name']} -> {stream['Name']} -> {len(attempts)} write attempts -> {len(calls)} BatchWriteItem")


main()
